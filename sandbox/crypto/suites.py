"""The two suites behind one interface: bulk sealing, hash, MAC and key derivation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from sandbox.crypto import providers
from sandbox.crypto.aead import NONCE_BYTES, TAG_BYTES, Aead
from sandbox.crypto.buffers import Data
from sandbox.crypto.hashing import HASH_BYTES, HashFamily
from sandbox.model.digest import Digest, HashName
from sandbox.model.keys import SuiteName

EXPAND_BYTES_MAX = 255 * HASH_BYTES


class Suite(Protocol):
    """What the rooms above seal and hash with.  Safe to call from several threads."""

    @property
    def name(self) -> SuiteName:
        """Which suite this is."""
        ...

    @property
    def hash_name(self) -> HashName:
        """The suite's hash, as digests write it."""
        ...

    @property
    def key_bytes(self) -> int:
        """The length of a sealing key."""
        ...

    @property
    def tag_bytes(self) -> int:
        """By how much sealing lengthens a message."""
        ...

    @property
    def nonce_bytes(self) -> int:
        """The length of a nonce."""
        ...

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        ...

    def mac(self, key: bytes, data: Data) -> bytes:
        """Return the 32-byte HMAC."""
        ...

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        """Return `length` bytes by HKDF-Expand (RFC 5869, 2.3) from a key that is already uniform."""
        ...

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag.  A nonce must never serve twice under one key."""
        ...

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`, which has their length and does not overlap the plaintext."""
        ...

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext; raise `SealBrokenError` unless key, nonce, bytes and associated data all fit."""
        ...

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, which has its length; what stands there after an error means nothing."""
        ...


@dataclass(frozen=True)
class ProvidedSuite:
    """A suite made of the providers that passed their self-tests."""

    name: SuiteName
    hash_name: HashName
    aead: Aead
    hashes: HashFamily
    tag_bytes: int = TAG_BYTES
    nonce_bytes: int = NONCE_BYTES

    def __reduce__(self) -> tuple[Callable[[SuiteName], Suite], tuple[SuiteName]]:
        """Let another process choose its own providers: a library's handle does not travel."""
        return suite, (self.name,)

    @property
    def key_bytes(self) -> int:
        """The length of a sealing key: 16 (SM4) or 32 (AES-256)."""
        return self.aead.key_bytes

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        return self.hashes.hash(data)

    def mac(self, key: bytes, data: Data) -> bytes:
        """Return the 32-byte HMAC."""
        return self.hashes.mac(key, data)

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        """Return `length` bytes, 1 to 8160, by HKDF-Expand from a key that is already uniform."""
        if not 1 <= length <= EXPAND_BYTES_MAX:
            raise AssertionError(f"HKDF-Expand gives 1 to {EXPAND_BYTES_MAX} bytes")
        return self.hashes.expand(key, info, length)

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        return self.aead.seal(key, nonce, plaintext, aad)

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`."""
        self.aead.seal_into(key, nonce, plaintext, aad, room)

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        return self.aead.unseal(key, nonce, sealed, aad)

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, or raise `SealBrokenError`; what stands there then means nothing."""
        self.aead.unseal_into(key, nonce, sealed, aad, room)


def digest_by(suite: Suite, data: Data) -> Digest:
    """Return the digest of many bytes, by the provider that hashes them fastest."""
    return Digest(f"{suite.hash_name}:{suite.hash(data).hex()}")


@cache
def suite(name: SuiteName) -> Suite:
    """Return a suite by name.

    Raises:
        KeyUnavailableError: a primitive of the suite has no provider that passed its self-test.
    """
    match name:
        case SuiteName.GM:
            return ProvidedSuite(name, "sm3", providers.sm4_gcm().require(), providers.hash_family("sm3").require())
        case SuiteName.INTL:
            return ProvidedSuite(
                name, "sha256", providers.aes_gcm().require(), providers.hash_family("sha256").require()
            )
