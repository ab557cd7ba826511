"""Which shares of which master key are out, and the receipts of those that were destroyed.

The record holds names and check values and no secret.  It answers one question: could people who hold shares still
bring back a master key that is to be gone?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import SaggarError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Signature
from sandbox.vault.custody import Share
from sandbox.vault.key_errors import broken_key_file
from sandbox.vault.keyring import Keyring

RECEIPT_CONTEXT = "saggar/share-destroyed/1"
_FILE = "custody"


@dataclass(frozen=True, slots=True)
class ShareReceipt:
    """A custodian's word that a share is gone, with every copy of it.

    Attributes:
        ceremony, index: which share.
        custodian, key_id: who says so.
        at: when, UTC.
        signature: the custodian's.
    """

    ceremony: str
    index: int
    custodian: str
    key_id: str
    at: str
    signature: Signature

    def words(self) -> dict[str, Any]:
        """Return what is signed, as a canonical record."""
        return {
            "v": 1,
            "kind": "saggar.share_destroyed",
            "ceremony": self.ceremony,
            "index": self.index,
            "custodian": self.custodian,
            "key": self.key_id,
            "at": self.at,
        }

    def to_record(self) -> dict[str, Any]:
        """Return the receipt with its signature."""
        return {"receipt": self.words(), "signature": self.signature.to_record()}

    @classmethod
    def parse(cls, raw: bytes, *, name: str) -> ShareReceipt:
        """Return the receipt that a file holds; its signature is not checked yet."""
        try:
            stored = parse_canonical(raw)
            words = stored["receipt"]
            receipt = cls(
                words["ceremony"],
                words["index"],
                words["custodian"],
                words["key"],
                words["at"],
                Signature.parse(stored["signature"]),
            )
            if receipt.to_record() != stored:
                raise _wrong_receipt(name)
        except (SaggarError, KeyError, TypeError) as error:
            raise _wrong_receipt(name) from error
        return receipt


def receipt_for(share: Share, key: PrivateKey, *, at: str) -> ShareReceipt:
    """Return the receipt of a share that its custodian has destroyed."""
    unsigned = ShareReceipt(share.ceremony, share.index, share.custodian, share.key_id, at, Signature("", b""))
    signature = sign(key, RECEIPT_CONTEXT, canonical_bytes(unsigned.words()))
    return ShareReceipt(share.ceremony, share.index, share.custodian, share.key_id, at, signature)


def note_ceremony(keyring: Keyring, shares: Sequence[Share]) -> None:
    """Remember that these shares were handed out."""
    first = shares[0]
    entry = {
        "ceremony": first.ceremony,
        "master": first.master,
        "version": first.version,
        "threshold": first.threshold,
        "kcv": first.kcv,
        "custodians": [{"index": s.index, "name": s.custodian, "key": s.key_id} for s in shares],
    }
    _write(keyring, [*ceremonies(keyring), entry])


def ceremonies(keyring: Keyring) -> list[dict[str, Any]]:
    """Return the ceremonies whose shares are out."""
    if not keyring.store.exists(_FILE):
        return []
    known = keyring.read_record(_FILE, {"v", "ceremonies"}, None)["ceremonies"]
    if not isinstance(known, list):
        raise broken_key_file(_FILE)
    return known


def forget_ceremonies(keyring: Keyring, *, keep: str) -> None:
    """Forget the ceremonies of every master key but `keep`."""
    left = [entry for entry in ceremonies(keyring) if entry["master"] == keep]
    if left or keyring.store.exists(_FILE):
        _write(keyring, left)


def check_receipts(keyring: Keyring, receipts: Sequence[ShareReceipt], custodians: Sequence[PublicKey]) -> None:
    """Refuse unless fewer shares than the threshold are left of every ceremony so far.

    Raises:
        VaultError: a receipt's signature does not hold (`vault.custody.receipt`), or too many shares are out
            (`vault.custody.outstanding`); it names who must act.
    """
    keys = {key.key_id: key for key in custodians}
    gone: set[tuple[str, int, str]] = set()
    for receipt in receipts:
        key = keys.get(receipt.key_id)
        try:
            if key is None:
                raise _wrong_receipt(receipt.custodian)
            verify_signature(key, RECEIPT_CONTEXT, canonical_bytes(receipt.words()), receipt.signature)
        except SaggarError as error:
            raise _wrong_receipt(receipt.custodian) from error
        gone.add((receipt.ceremony, receipt.index, receipt.key_id))
    for entry in ceremonies(keyring):
        out = [c for c in entry["custodians"] if (entry["ceremony"], c["index"], c["key"]) not in gone]
        if len(out) >= entry["threshold"]:
            names = ", ".join(f"`{c['name']}`" for c in out)
            raise VaultError(
                f"{len(out)} shares of the old master key are still out, and {entry['threshold']} bring it back",
                hint=f"{len(out) - entry['threshold'] + 1} of {names} must destroy theirs with "
                "`saggar keys destroy-share` and hand in the receipt",
                code="vault.custody.outstanding",
                custodians=[c["name"] for c in out],
            )


def _write(keyring: Keyring, entries: list[dict[str, Any]]) -> None:
    keyring.store.put(_FILE, canonical_bytes({"v": 2, "ceremonies": entries}))


def _wrong_receipt(name: str) -> VaultError:
    return VaultError(
        f"the receipt of `{name}` does not hold",
        hint="the custodian signs it with `saggar keys destroy-share`",
        code="vault.custody.receipt",
        custodian=name,
    )
