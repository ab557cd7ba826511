"""Bulk sealing and hashing: both suites, all providers, the same bytes, and nothing altered opens."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.crypto import aead, buffers, libgcrypt, providers
from sandbox.crypto.aead import OpensslAesGcm, OpensslSm4Gcm, PycryptodomeAesGcm
from sandbox.crypto.hashing import OpensslHashes, StdlibHashes
from sandbox.crypto.known_answers import flip
from sandbox.crypto.libgcrypt import LibgcryptSm3, LibgcryptSm4Gcm
from sandbox.crypto.suites import suite
from sandbox.errors import KeyUnavailableError, SealBrokenError, VaultError
from sandbox.model.digest import digest_of
from sandbox.model.keys import SuiteName

NONCE = b"nonce-of-12b"
SIZES = [0, 1, 15, 16, 17, 4095, 100_000]


def libgcrypt_or_skip():
    try:
        return LibgcryptSm4Gcm()
    except VaultError as error:
        pytest.skip(f"the optional system libgcrypt cannot serve: {error.message}")


PROVIDERS = {
    "libgcrypt": libgcrypt_or_skip,
    "cryptography-sm4": OpensslSm4Gcm,
    "pycryptodome": PycryptodomeAesGcm,
    "cryptography-aes": OpensslAesGcm,
}


@pytest.fixture(params=list(PROVIDERS))
def provider(request):
    return PROVIDERS[request.param]()


def key_of(provider):
    return bytes(range(provider.key_bytes))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(provider, size):
    plaintext = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sealed = provider.seal(key_of(provider), NONCE, plaintext, b"context")
    assert type(sealed) is bytes
    assert len(sealed) == size + 16
    opened = provider.unseal(key_of(provider), NONCE, sealed, b"context")
    assert type(opened) is bytes
    assert opened == plaintext


def test_every_flipped_byte_is_refused_with_one_message(provider):
    sealed = provider.seal(key_of(provider), NONCE, b"twenty bytes of text", b"context")
    for position in range(len(sealed)):
        with pytest.raises(SealBrokenError, match="sealed bytes do not open with this key and context") as caught:
            provider.unseal(key_of(provider), NONCE, flip(sealed, position), b"context")
        assert caught.value.code == "vault.seal_broken"


def test_another_key_nonce_context_or_length_is_refused(provider):
    key = key_of(provider)
    for plaintext in (b"", b"text"):
        sealed = provider.seal(key, NONCE, plaintext, b"context")
        for wrong in (
            (flip(key, 0), NONCE, sealed, b"context"),
            (key, flip(NONCE, 0), sealed, b"context"),
            (key, NONCE[:-1], sealed, b"context"),
            (key, b"", sealed, b"context"),
            (key, NONCE * 20, sealed, b"context"),
            (key, NONCE, sealed, b""),
            (key, NONCE, sealed, b"context "),
            (key, NONCE, sealed[:-1], b"context"),
            (key, NONCE, sealed[1:], b"context"),
            (key, NONCE, sealed + b"\x00", b"context"),
            (key, NONCE, b"", b"context"),
        ):
            with pytest.raises(SealBrokenError):
                provider.unseal(*wrong)


def test_an_empty_context_is_a_context(provider):
    key = key_of(provider)
    assert provider.unseal(key, NONCE, provider.seal(key, NONCE, b"text", b""), b"") == b"text"


def test_a_key_of_another_length_is_refused(provider):
    for length in (0, 8, 24, 48 - provider.key_bytes):
        for act in (
            lambda length=length: provider.seal(bytes(length), NONCE, b"text", b""),
            lambda length=length: provider.unseal(bytes(length), NONCE, bytes(20), b""),
        ):
            with pytest.raises(KeyUnavailableError, match=f"expected a key of {provider.key_bytes} bytes") as caught:
                act()
            assert caught.value.code == "vault.key_unavailable.malformed"


def test_sealing_with_a_nonce_of_another_length_is_a_bug(provider):
    with pytest.raises(AssertionError, match="a nonce has 12 bytes"):
        provider.seal(key_of(provider), b"short", b"text", b"")


def test_a_message_too_large_for_one_call_is_refused(provider, monkeypatch):
    monkeypatch.setattr(aead, "MESSAGE_BYTES_MAX", 100)
    with pytest.raises(VaultError, match="one sealed message holds at most 100 bytes") as caught:
        provider.seal(key_of(provider), NONCE, bytes(101), b"")
    assert caught.value.code == "vault.seal_too_large"
    with pytest.raises(SealBrokenError):
        provider.unseal(key_of(provider), NONCE, bytes(117), b"")


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda raw: memoryview(bytearray(raw))])
def test_every_kind_of_buffer_is_taken_and_left_alone(provider, wrap):
    key, plaintext = key_of(provider), b"some plaintext, " * 10
    given_plaintext = wrap(plaintext)
    sealed = provider.seal(wrap(key), wrap(NONCE), given_plaintext, wrap(b"context"))
    assert bytes(given_plaintext) == plaintext
    assert sealed == provider.seal(key, NONCE, plaintext, b"context")
    given_sealed = wrap(sealed)
    assert provider.unseal(wrap(key), wrap(NONCE), given_sealed, wrap(b"context")) == plaintext
    assert bytes(given_sealed) == sealed


def test_a_slice_in_the_middle_of_a_buffer_is_sealed_as_its_bytes(provider):
    whole = memoryview(bytes(range(200)))
    key = key_of(provider)
    assert provider.seal(key, NONCE, whole[33:99], b"") == provider.seal(key, NONCE, bytes(range(33, 99)), b"")


def test_results_are_fresh_objects_that_later_calls_leave_alone(provider):
    key = key_of(provider)
    first = provider.seal(key, NONCE, b"a" * 64, b"")
    copy = bytes(bytearray(first))
    for _ in range(50):
        provider.seal(key, NONCE, b"b" * 64, b"")
    assert first == copy
    one = provider.unseal(key, NONCE, provider.seal(key, NONCE, b"a", b""), b"")
    two = provider.unseal(key, NONCE, provider.seal(key, NONCE, b"b", b""), b"")
    assert (one, two, b"a"[0], b"b"[0]) == (b"a", b"b", 97, 98)


def test_threads_share_a_provider_safely(provider):
    key = key_of(provider)

    def work(index):
        plaintext, nonce = bytes([index]) * 20_000, index.to_bytes(12)
        return provider.unseal(key, nonce, provider.seal(key, nonce, plaintext, b""), b"") == plaintext

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(100)))


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=12, max_size=12), st.binary(), st.binary())
def test_both_sm4_providers_seal_alike_and_open_each_others_seals(key, nonce, plaintext, aad):
    first, second = libgcrypt_or_skip(), OpensslSm4Gcm()
    sealed = first.seal(key, nonce, plaintext, aad)
    assert sealed == second.seal(key, nonce, plaintext, aad)
    assert first.unseal(key, nonce, sealed, aad) == second.unseal(key, nonce, sealed, aad) == plaintext


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12), st.binary(), st.binary())
def test_both_aes_providers_seal_alike_and_open_each_others_seals(key, nonce, plaintext, aad):
    first, second = PycryptodomeAesGcm(), OpensslAesGcm()
    sealed = first.seal(key, nonce, plaintext, aad)
    assert sealed == second.seal(key, nonce, plaintext, aad)
    assert first.unseal(key, nonce, sealed, aad) == second.unseal(key, nonce, sealed, aad) == plaintext


@pytest.mark.parametrize("hash_name", ["sm3", "sha256"])
@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=200), st.binary(), st.integers(1, 255 * 32))
def test_both_hash_providers_agree(hash_name, key, data, length):
    try:
        first, second = OpensslHashes(hash_name), StdlibHashes(hash_name)
    except ValueError:
        pytest.skip(f"this Python was built without {hash_name}, so there is no second provider")
    assert first.hash(data) == second.hash(data)
    assert first.mac(key, data) == second.mac(key, data)
    assert first.expand(key, data, length) == second.expand(key, data, length)


@pytest.mark.parametrize(("name", "key_bytes", "hash_name"), [("gm", 16, "sm3"), ("intl", 32, "sha256")])
def test_a_suite_has_its_lengths_and_its_hash(name, key_bytes, hash_name):
    own = suite(SuiteName(name))
    assert (own.name, own.key_bytes, own.tag_bytes, own.nonce_bytes) == (name, key_bytes, 16, 12)
    assert own.hash_name == hash_name
    assert digest_of(b"data", hash_name=hash_name) == f"{hash_name}:{own.hash(b'data').hex()}"
    assert len(own.mac(b"key", memoryview(b"data"))) == 32
    key = own.expand(b"k" * 32, b"info", own.key_bytes)
    assert own.expand(b"k" * 32, b"info", 64)[:key_bytes] == key
    assert own.unseal(key, NONCE, own.seal(key, NONCE, b"text", b"aad"), b"aad") == b"text"


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_expanding_to_an_impossible_length_is_a_bug(length):
    with pytest.raises(AssertionError, match="HKDF-Expand gives 1 to 8160 bytes"):
        suite(SuiteName.GM).expand(b"k" * 32, b"", length)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("_SONAME", "libgcrypt-that-is-not-there.so", "`libgcrypt-that-is-not-there.so` is not installed"),
        ("_LEAST_VERSION", b"99.0.0", "libgcrypt is older than 99.0.0"),
    ],
)
def test_an_absent_or_old_libgcrypt_says_so(monkeypatch, attribute, value, message):
    libgcrypt_or_skip()
    monkeypatch.setattr(libgcrypt, attribute, value)
    with pytest.raises(VaultError, match=message) as caught:
        LibgcryptSm4Gcm()
    assert caught.value.code == "vault.provider"
    with pytest.raises(VaultError, match=message):
        LibgcryptSm3()
    providers.hash_family.cache_clear()
    try:
        assert providers.hash_family("sm3").require().provider == "cryptography"
    finally:
        providers.hash_family.cache_clear()


@pytest.mark.parametrize("size", SIZES)
def test_sealing_in_place_writes_the_room_and_nothing_else(provider, size):
    plaintext, room = bytes(size), bytearray(b"." * (size + 18))
    provider.seal_into(key_of(provider), NONCE, plaintext, b"context", memoryview(room)[1:-1])
    assert bytes(room[1:-1]) == provider.seal(key_of(provider), NONCE, plaintext, b"context")
    assert room[0] == room[-1] == ord(".")
    with pytest.raises(AssertionError, match="a room of"):
        provider.seal_into(key_of(provider), NONCE, plaintext, b"context", memoryview(room))


def test_libgcrypt_is_left_alone_outside_linux(monkeypatch):
    monkeypatch.setattr(libgcrypt.sys, "platform", "darwin")
    with pytest.raises(VaultError, match="libgcrypt is used on Linux only"):
        LibgcryptSm4Gcm()


def test_a_call_that_libgcrypt_refuses_raises(monkeypatch):
    provider = libgcrypt_or_skip()
    monkeypatch.setattr(libgcrypt, "_SM4", 9999)
    with pytest.raises(VaultError, match="libgcrypt refused a call with error 12"):
        provider.seal(bytes(16), NONCE, b"text", b"")


def test_the_empty_bytes_object_is_never_written():
    with pytest.raises(AssertionError, match="an empty bytes object cannot be written"):
        buffers.new_bytes(0)
