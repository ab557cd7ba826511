"""Keys sealed under keys.

A wrapped key says in clear what it is (its id, version, purpose and the id of the key it hangs under), and those words
are authenticated together with the secret: a record that is moved to another place, or given another purpose, does not
open.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.suites import Suite
from sandbox.errors import SealBrokenError, VaultError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import decode_base64

_FIELDS = frozenset({"id", "version", "purpose", "parent", "sealed"})


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A secret under a parent key.

    Attributes:
        key_id: 32 hexadecimal digits, drawn at random.
        version: counts from 1; a rotation adds 1.
        purpose: what the key is for, with its subject (`tokens/hospital`).
        parent: the id of the key it is sealed under.
        sealed: nonce (12 bytes, random) || ciphertext || tag (16 bytes).
    """

    key_id: str
    version: int
    purpose: str
    parent: str
    sealed: bytes

    def to_record(self) -> dict[str, Any]:
        """Return the wrapped key as a canonical record."""
        return {
            "id": self.key_id,
            "version": self.version,
            "purpose": self.purpose,
            "parent": self.parent,
            "sealed": base64.b64encode(self.sealed).decode(),
        }

    @classmethod
    def parse(cls, record: object) -> WrappedKey:
        """Return the wrapped key that a record writes.

        Raises:
            SaggarError: the record has other fields, or fields of another form.
        """
        if not isinstance(record, dict) or set(record) != _FIELDS:
            raise SealBrokenError("a wrapped key is malformed", hint="restore it from a backup")
        texts = (record["id"], record["purpose"], record["parent"])
        version = record["version"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(version, int) or version < 1:
            raise SealBrokenError("a wrapped key is malformed", hint="restore it from a backup")
        return cls(texts[0], version, texts[1], texts[2], decode_base64(record["sealed"]))


def wrap_secret(
    suite: Suite, under: bytes, secret: bytes, *, key_id: str, purpose: str, parent: str, version: int = 1
) -> WrappedKey:
    """Return `secret` sealed under the key `under`.

    The nonce is random: a parent wraps far fewer than 2**32 keys in its life, the bound of random 96-bit nonces (NIST
    SP 800-38D, section 8.3).
    """
    nonce = random_bytes(suite.nonce_bytes)
    sealed = suite.seal(under, nonce, secret, _bound_words(key_id, version, purpose, parent))
    return WrappedKey(key_id, version, purpose, parent, nonce + sealed)


def unwrap_secret(suite: Suite, under: bytes, wrapped: WrappedKey, *, purpose: str, parent: str, name: str) -> bytes:
    """Return the secret of `wrapped`, which must be for `purpose` and hang under `parent`.

    Args:
        suite: the suite that the parent key belongs to.
        under: the parent key.
        wrapped: the record.
        purpose: the purpose the caller has in mind.
        parent: the id of the parent the caller has in mind.
        name: the object that holds the record, for the error.

    Raises:
        SealBrokenError: the record was changed, moved or sealed under another key (`vault.seal_broken.key`).
    """
    words = _bound_words(wrapped.key_id, wrapped.version, purpose, parent)
    nonce, sealed = wrapped.sealed[: suite.nonce_bytes], wrapped.sealed[suite.nonce_bytes :]
    try:
        if (wrapped.purpose, wrapped.parent) != (purpose, parent) or len(sealed) < suite.tag_bytes:
            raise SealBrokenError("a wrapped key is another than the one looked for", hint="restore it from a backup")
        return suite.unseal(under, nonce, sealed, words)
    except VaultError as error:
        raise SealBrokenError(
            f"the key in `{name}` does not open under its parent",
            hint="it was changed or belongs elsewhere; restore it from a backup",
            code="vault.seal_broken.key",
            object=name,
        ) from error


def _bound_words(key_id: str, version: int, purpose: str, parent: str) -> bytes:
    return canonical_bytes(["saggar/wrapped-key/1", key_id, version, purpose, parent])
