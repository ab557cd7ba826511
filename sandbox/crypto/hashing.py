"""Providers of a hash and what is built on it: HMAC and HKDF-Expand, over SM3 or SHA-256."""

from __future__ import annotations

import hashlib
import hmac as stdlib_hmac
from typing import Protocol

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sandbox.crypto.buffers import Data
from sandbox.model.digest import HashName

HASH_BYTES = 32


class HashFamily(Protocol):
    """One hash, its HMAC (RFC 2104, GM/T 0042) and its HKDF-Expand (RFC 5869), from one library."""

    provider: str

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        ...

    def mac(self, key: bytes, data: Data) -> bytes:
        """Return the 32-byte HMAC."""
        ...

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        """Return `length` bytes derived from a uniform key."""
        ...


class OpensslHashes:
    """The hash of the OpenSSL inside `cryptography`."""

    provider = "cryptography"

    def __init__(self, hash_name: HashName) -> None:
        self._algorithm = hashes.SM3() if hash_name == "sm3" else hashes.SHA256()

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        hasher = hashes.Hash(self._algorithm)
        hasher.update(data)
        return hasher.finalize()

    def mac(self, key: bytes, data: Data) -> bytes:
        """Return the 32-byte HMAC."""
        keyed = self.keyed(key)
        keyed.update(data)
        return keyed.finalize()

    def keyed(self, key: bytes) -> hmac.HMAC:
        """Return an HMAC that has taken in the key, to copy for each of many messages."""
        return hmac.HMAC(key, self._algorithm)

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        """Return `length` bytes derived from a uniform key."""
        return HKDFExpand(self._algorithm, length, info).derive(key)


class StdlibHashes:
    """The hash of Python's own `hashlib`; whether it has SM3 depends on the OpenSSL that Python was built with."""

    provider = "hashlib"

    def __init__(self, hash_name: HashName) -> None:
        hashlib.new(hash_name)  # raises ValueError where this Python lacks it
        self._name = hash_name

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        return hashlib.new(self._name, data).digest()

    def mac(self, key: bytes, data: Data) -> bytes:
        """Return the 32-byte HMAC."""
        return stdlib_hmac.digest(key, bytes(data), self._name)

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        """Return `length` bytes derived from a uniform key (RFC 5869, 2.3)."""
        block, output = b"", b""
        for counter in range(1, -(-length // HASH_BYTES) + 1):
            block = self.mac(key, block + info + bytes([counter]))
            output += block
        return output[:length]
