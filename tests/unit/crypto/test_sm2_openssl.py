"""SM2 against the system's OpenSSL command, in both directions."""

import shutil
import subprocess

import pytest
from Crypto.Util.asn1 import DerOctetString, DerSequence

from sandbox.crypto.providers import sm2
from sandbox.errors import SignatureError

IDENTITY = "1234567812345678"


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True, timeout=30).stdout


def has_sm2():
    if shutil.which("openssl") is None:
        return False
    try:
        return b"SM2" in openssl("ecparam", "-list_curves")
    except subprocess.CalledProcessError:
        return False


pytestmark = pytest.mark.skipif(not has_sm2(), reason="no `openssl` command that knows SM2 is installed here")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A key pair that OpenSSL made: its two files, and our two spellings of it."""
    folder = tmp_path_factory.mktemp("sm2")
    private_file, public_file = folder / "key.pem", folder / "public.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2", "-out", private_file)
    openssl("pkey", "-in", private_file, "-pubout", "-out", public_file)
    words = openssl("pkey", "-in", private_file, "-noout", "-text").decode().replace(":", " ").split()
    start, middle, end = words.index("priv"), words.index("pub"), words.index("ASN1")
    private = bytes.fromhex("".join(words[start + 1 : middle]))[-32:].rjust(32, b"\x00")
    public = bytes.fromhex("".join(words[middle + 1 : end]))
    return folder, private_file, public_file, private, public


def test_both_compute_the_same_public_key(pair):
    _, _, _, private, public = pair
    assert sm2().require().public_of(private) == public


def test_openssl_accepts_our_signature(pair):
    folder, _, public_file, private, public = pair
    value = sm2().require().sign(private, public, "消息".encode())
    (folder / "message").write_bytes("消息".encode())
    numbers = [int.from_bytes(value[:32]), int.from_bytes(value[32:])]
    (folder / "signature").write_bytes(DerSequence(numbers).encode())
    answer = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", public_file, "-rawin", "-in", folder / "message",
        "-sigfile", folder / "signature", "-digest", "sm3", "-pkeyopt", f"distid:{IDENTITY}",
    )  # fmt: skip
    assert b"Verified Successfully" in answer


def test_we_accept_openssls_signature_and_no_other_message(pair):
    folder, private_file, _, _, public = pair
    (folder / "message").write_bytes(b"from openssl")
    raw = openssl(
        "pkeyutl", "-sign", "-inkey", private_file, "-rawin", "-in", folder / "message",
        "-digest", "sm3", "-pkeyopt", f"distid:{IDENTITY}",
    )  # fmt: skip
    value = b"".join(int(number).to_bytes(32) for number in DerSequence().decode(raw))
    sm2().require().verify(public, b"from openssl", value)
    with pytest.raises(SignatureError):
        sm2().require().verify(public, b"from elsewhere", value)


def test_openssl_opens_what_we_encrypt(pair):
    folder, private_file, _, _, public = pair
    sealed = sm2().require().encrypt(public, b"a content key 16")
    x, y = int.from_bytes(sealed[1:33]), int.from_bytes(sealed[33:65])
    der = DerSequence([x, y, DerOctetString(sealed[65:97]), DerOctetString(sealed[97:])]).encode()
    (folder / "sealed").write_bytes(der)
    assert openssl("pkeyutl", "-decrypt", "-inkey", private_file, "-in", folder / "sealed") == b"a content key 16"


def test_we_open_what_openssl_encrypts(pair):
    folder, _, public_file, private, _ = pair
    (folder / "plain").write_bytes(b"a content key 16")
    der = DerSequence().decode(openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public_file, "-in", folder / "plain"))
    check, masked = (DerOctetString().decode(part).payload for part in (der[2], der[3]))
    sealed = b"\x04" + int(der[0]).to_bytes(32) + int(der[1]).to_bytes(32) + check + masked
    assert sm2().require().decrypt(private, sealed) == b"a content key 16"
