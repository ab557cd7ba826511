"""Digests: how nouns point at each other.

A digest is text, `sm3:` or `sha256:` and 64 hexadecimal digits.  SM3 (GB/T 32905) is the hash of record; SHA-256 is
its twin for tools that know no SM3 and for datasets sealed in the international suite.
"""

from __future__ import annotations

import re
from typing import Literal, NewType

from cryptography.hazmat.primitives import hashes

from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes

HashName = Literal["sm3", "sha256"]
Digest = NewType("Digest", str)

_PATTERN = re.compile(r"(sm3|sha256):[0-9a-f]{64}")


def hash_bytes(data: bytes | memoryview, *, hash_name: HashName = "sm3") -> bytes:
    """Return the 32-byte hash of `data`."""
    hasher = hashes.Hash(hashes.SM3() if hash_name == "sm3" else hashes.SHA256())
    hasher.update(data)
    return hasher.finalize()


def digest_of(data: bytes | memoryview, *, hash_name: HashName = "sm3") -> Digest:
    """Return the digest of bytes."""
    return Digest(f"{hash_name}:{hash_bytes(data, hash_name=hash_name).hex()}")


def digest_of_record(record: object, *, hash_name: HashName = "sm3") -> Digest:
    """Return the digest of a record's canonical bytes."""
    return digest_of(canonical_bytes(record), hash_name=hash_name)


def parse_digest(text: object) -> Digest:
    """Return `text` as a digest, or refuse it."""
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        raise CanonicalError(
            f"expected a digest, got `{text}`", hint="a digest is `sm3:` or `sha256:` and 64 lower-case hex digits"
        )
    return Digest(text)


def short(digest: str) -> str:
    """Return the first 12 hex digits of a digest, for people; never for comparing."""
    return digest.partition(":")[2][:12]
