"""What custodians sign of a share of an old master key, that it is destroyed or lost: for vault and auditor alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import PublicKey, Signature

DESTROYED, LOST = "saggar.share_destroyed", "saggar.share_lost"
_CONTEXTS = {DESTROYED: "saggar/share-destroyed/1", LOST: "saggar/share-lost/1"}
FIELDS = frozenset({"v", "kind", "ceremony", "index", "custodian", "key", "at"})


def share_words(kind: str, *, ceremony: str, index: int, custodian: str, key_id: str, at: str) -> dict[str, Any]:
    """Return what is signed, as a canonical record; `kind` is `DESTROYED` or `LOST`."""
    return {
        "v": 1,
        "kind": kind,
        "ceremony": ceremony,
        "index": index,
        "custodian": custodian,
        "key": key_id,
        "at": at,
    }


def sign_words(key: PrivateKey, words: Mapping[str, Any]) -> Signature:
    """Return a custodian's signature over such a record."""
    return sign(key, _CONTEXTS[words["kind"]], canonical_bytes(dict(words)))


def verify_words(key: PublicKey, words: Mapping[str, Any], signature: Signature) -> None:
    """Refuse a signature that does not hold, as `verify_signature` does."""
    verify_signature(key, _CONTEXTS[words["kind"]], canonical_bytes(dict(words)), signature)
