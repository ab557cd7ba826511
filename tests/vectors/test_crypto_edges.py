"""Edges that a stranger's vectors may have: every provider of a primitive gives one answer, at every length."""

import hashlib
import hmac as stdlib_hmac
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sandbox.cli.main import app
from sandbox.crypto import curve, providers
from sandbox.crypto.aead import OpensslAesGcm, OpensslSm4Gcm, PycryptodomeAesGcm
from sandbox.crypto.hashing import OpensslHashes, StdlibHashes
from sandbox.crypto.libgcrypt import LibgcryptSm3, LibgcryptSm4Gcm
from sandbox.crypto.providers import Candidate, choose, sm2
from sandbox.crypto.sm2 import identity_digest
from sandbox.errors import SealBrokenError, SignatureError, VaultError


def _sm4():
    try:
        return [OpensslSm4Gcm(), LibgcryptSm4Gcm()]
    except VaultError:
        return [OpensslSm4Gcm()]  # the optional libgcrypt is not here; its absence has its own test


FAMILIES = {"SM4-GCM": _sm4(), "AES-256-GCM": [PycryptodomeAesGcm(), OpensslAesGcm()]}
LENGTHS = (0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 129, 255, 256, 257, 1023, 1024, 4095, 4096, 65_537)
CONTEXTS = (b"", b"a", b"b" * 15, b"c" * 16, b"d" * 17, b"e" * 65_536, b"f" * 100_003)


def text(length):
    return hashlib.shake_128(length.to_bytes(4)).digest(length)


@pytest.mark.parametrize("algorithm", FAMILIES)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_is_sealed_alike_and_opens_everywhere(algorithm, length):
    first, *others = FAMILIES[algorithm]
    key, nonce = text(first.key_bytes), text(12)
    for aad in CONTEXTS if length < 300 else CONTEXTS[:3]:
        sealed = first.seal(key, nonce, text(length), aad)
        assert len(sealed) == length + 16
        for provider in (first, *others):
            assert provider.seal(key, nonce, text(length), aad) == sealed
            assert provider.unseal(key, nonce, sealed, aad) == text(length)
            room = bytearray(length)
            provider.unseal_into(key, nonce, sealed, aad, memoryview(room))
            assert bytes(room) == text(length)
            for broken in (sealed[:-1], sealed + b"\0", sealed[1:], bytes([sealed[0] ^ 128]) + sealed[1:]):
                with pytest.raises(SealBrokenError):
                    provider.unseal(key, nonce, broken, aad)
            with pytest.raises(SealBrokenError):
                provider.unseal(key, nonce, sealed, aad + b"\0")


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_a_big_input_is_sealed_alike(algorithm):
    first, *others = FAMILIES[algorithm]
    key, nonce, plaintext = bytes(first.key_bytes), b"\xff" * 12, bytes(8 << 20)
    sealed = first.seal(key, nonce, plaintext, b"")
    for provider in others:
        assert provider.seal(key, nonce, plaintext, b"") == sealed
        assert provider.unseal(key, nonce, sealed, b"") == plaintext


@pytest.mark.parametrize("provider", [p for family in FAMILIES.values() for p in family], ids=lambda p: p.provider)
def test_a_room_of_another_length_is_a_bug_and_nothing_is_written(provider):
    key = bytes(provider.key_bytes)
    sealed = provider.seal(key, bytes(12), b"text", b"")
    for size in (0, 3, 5):
        with pytest.raises(AssertionError, match="a room of"):
            provider.unseal_into(key, bytes(12), sealed, b"", memoryview(bytearray(size)))


@pytest.mark.parametrize("provider", [p for family in FAMILIES.values() for p in family], ids=lambda p: p.provider)
def test_a_view_of_another_form_is_sealed_like_its_bytes(provider):
    data, key, nonce = bytes(range(200)), bytes(provider.key_bytes), bytes(12)
    sealed = provider.seal(key, nonce, data, b"")
    assert provider.seal(key, nonce, memoryview(data).cast("b"), b"") == sealed
    assert provider.unseal(key, nonce, memoryview(sealed).cast("b"), b"") == data


def test_sm4_a_million_times_gives_the_standards_figure():
    key = block = bytes.fromhex("0123456789abcdeffedcba9876543210")
    encryptor = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
    for _ in range(1_000_000):
        block = encryptor.update(block)
    assert block.hex() == "595298c7c6fd271f0402f804c33d3f66"  # GB/T 32907, A.2


@pytest.mark.parametrize("name", ["sm3", "sha256"])
def test_hashes_and_macs_agree_at_every_length(name):
    families = [OpensslHashes(name)]
    with suppress(ValueError):  # this Python's own OpenSSL may lack SM3
        families.append(StdlibHashes(name))
    if name == "sm3":
        with suppress(VaultError):  # the optional libgcrypt may not be here
            families.append(LibgcryptSm3())
    for length in (*range(200), 1000, 65_535, 65_536, 1_000_001):
        data = text(length)
        assert len({family.hash(data) for family in families}) == 1
    for key_length in (1, 31, 32, 33, 63, 64, 65, 128, 200):  # a block has 64 bytes: longer keys are hashed first
        for length in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000):
            key, data = text(key_length), text(length)
            assert len({family.mac(key, data) for family in families}) == 1
            assert families[0].mac(key, data) == _mac_by_hand(families[0].hash, key, data)
    for length in (1, 31, 32, 33, 64, 100, 8160):
        for info in (b"", b"i", b"j" * 1000):
            expanded = {family.expand(text(32), info, length) for family in families}
            assert len(expanded) == 1
            assert expanded == {_expand_by_hand(families[0].mac, text(32), info, length)}


def _mac_by_hand(hash_of, key, data):
    padded = (hash_of(key) if len(key) > 64 else key).ljust(64, b"\0")
    inner = hash_of(bytes(byte ^ 0x36 for byte in padded) + data)
    return hash_of(bytes(byte ^ 0x5C for byte in padded) + inner)


def _expand_by_hand(mac, key, info, length):
    blocks, last = [], b""
    for counter in range(1, -(-length // 32) + 1):
        last = mac(key, last + info + bytes([counter]))
        blocks.append(last)
    return b"".join(blocks)[:length]


def test_sm3_mac_of_the_standard_library_agrees_where_it_is_there():
    if "sm3" not in hashlib.algorithms_available:
        pytest.skip("this Python was built against an OpenSSL without SM3")
    assert stdlib_hmac.digest(b"k", b"data", "sm3") == OpensslHashes("sm3").mac(b"k", b"data")


def _key_with_leading_zeros(coordinate):
    """Return a private key whose public x (or y) begins with a zero byte."""
    for number in range(1, 5000):
        private = number.to_bytes(32)
        public = sm2().require().public_of(private)
        if public[1 + 32 * coordinate] == 0:
            return private, public
    raise AssertionError("one in 256 keys has a leading zero")


@pytest.mark.parametrize("coordinate", [0, 1], ids=["x", "y"])
def test_sm2_keeps_the_leading_zeros_of_coordinates(coordinate):
    private, public = _key_with_leading_zeros(coordinate)
    scheme = sm2().require()
    assert len(public) == 65
    scheme.verify(public, b"message", scheme.sign(private, public, b"message"))
    assert scheme.decrypt(private, scheme.encrypt(public, b"m")) == b"m"
    assert len(identity_digest(public, b"1234567812345678")) == 32


@pytest.mark.parametrize("identity", [b"", b"A", b"ALICE123@YAHOO.COM", "市民".encode(), b"x" * 8191])
def test_sm2_signs_under_any_identity_and_under_that_alone(identity):
    scheme = sm2().require()
    private = scheme.generate_private()
    public = scheme.public_of(private)
    value = scheme.sign(private, public, b"message", identity)
    scheme.verify(public, b"message", value, identity)
    for other in (b"1234567812345678", identity + b"\0"[: len(identity) < 8191]):
        if other != identity:
            with pytest.raises(SignatureError):
                scheme.verify(public, b"message", value, other)


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 63, 64, 65, 1000, 100_000])
def test_sm2_encrypts_every_length(length):
    scheme = sm2().require()
    private = scheme.generate_private()
    sealed = scheme.encrypt(scheme.public_of(private), text(length))
    assert len(sealed) == length + 97
    assert scheme.decrypt(private, sealed) == text(length)
    with pytest.raises(SealBrokenError):
        scheme.decrypt(private, sealed[:-1] + bytes([sealed[-1] ^ 1]))


@pytest.mark.parametrize("private", [1, 2, curve.N - 2], ids=["one", "two", "the largest"])
def test_sm2_works_at_the_ends_of_its_range(private):
    scheme, secret = sm2().require(), private.to_bytes(32)
    public = scheme.public_of(secret)
    for message in (b"", b"m", bytes(100_000)):
        scheme.verify(public, message, scheme.sign(secret, public, message))


def test_sm2_refuses_the_edges_of_signatures():
    scheme = sm2().require()
    private = scheme.generate_private()
    public = scheme.public_of(private)
    r, s = (scheme.sign(private, public, b"m")[i : i + 32] for i in (0, 32))
    order, zero = curve.N.to_bytes(32), bytes(32)
    minus_r = (curve.N - int.from_bytes(r)).to_bytes(32)
    for value in (
        zero + s,
        r + zero,
        order + s,
        r + order,
        b"\xff" * 64,
        r + minus_r,
        r + s + b"\0",
        (r + s)[:-1],
        b"",
    ):
        with pytest.raises(SignatureError):
            scheme.verify(public, b"m", value)


def test_doctor_names_a_provider_that_fails(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from sandbox.crypto import known_answers

    class Broken(OpensslSm4Gcm):
        def seal(self, key, nonce, plaintext, aad):
            return known_answers.flip(super().seal(key, nonce, plaintext, aad), 0)

    candidates = (
        Candidate("libgcrypt", Broken, known_answers.check_aead),
        Candidate("cryptography", OpensslSm4Gcm, known_answers.check_aead),
    )
    choice = choose("SM4-GCM", candidates)
    monkeypatch.setattr(providers, "sm4_gcm", lambda: choice)
    ran = CliRunner().invoke(app, ["--state", str(Path(tmp_path) / "none"), "doctor", "--json"])
    import json

    assert ran.exit_code == 0, (ran.output, ran.exception)  # the other provider serves
    (broken,) = [
        row
        for row in json.loads(ran.stdout)["cryptography"]
        if (row["primitive"], row["provider"]) == ("SM4-GCM", "libgcrypt")
    ]
    assert broken["held"] is False
    assert broken["detail"] == "an answer differs from the published vector"
    assert '"serves"' in ran.stdout
