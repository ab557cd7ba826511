"""Which shares of which master key are out, and the receipts of those that were destroyed.

The record holds names and check values and no secret.  It answers one question: could people who hold shares still
bring back a master key that is to be gone?
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.share_words import DESTROYED, share_words, sign_words, verify_words
from sandbox.errors import SaggarError, SealBrokenError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Signature
from sandbox.vault.custody import Share
from sandbox.vault.escrow import ESCROW
from sandbox.vault.key_errors import broken_key_file, trimmed_key
from sandbox.vault.keyring import Keyring
from sandbox.vault.lost import LostShare, check_lost
from sandbox.vault.masters import MasterKey

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
        return share_words(
            DESTROYED,
            ceremony=self.ceremony,
            index=self.index,
            custodian=self.custodian,
            key_id=self.key_id,
            at=self.at,
        )

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
                raise _no_receipt(name)
        except (SaggarError, KeyError, TypeError) as error:
            raise _no_receipt(name) from error
        return receipt


def receipt_for(share: Share, key: PrivateKey, *, at: str) -> ShareReceipt:
    """Return the receipt of a share that its custodian has destroyed."""
    unsigned = ShareReceipt(share.ceremony, share.index, share.custodian, share.key_id, at, Signature("", b""))
    signature = sign_words(key, unsigned.words())
    return ShareReceipt(share.ceremony, share.index, share.custodian, share.key_id, at, signature)


def note_ceremony(keyring: Keyring, shares: Sequence[Share]) -> None:
    """Remember that these shares of one ceremony are handed out; called again with more of them, remember those too."""
    first = shares[0]
    entry = {
        "ceremony": first.ceremony,
        "master": first.master,
        "version": first.version,
        "threshold": first.threshold,
        "kcv": first.kcv,
        "custodians": [{"index": s.index, "name": s.custodian, "key": s.key_id} for s in shares],
    }
    others = [known for known in ceremonies(keyring) if known["ceremony"] != first.ceremony]
    _write(keyring, [*others, entry])


def ceremonies(keyring: Keyring) -> list[dict[str, Any]]:
    """Return the ceremonies whose shares are out.

    Raises:
        SealBrokenError: the record was changed (`vault.seal_broken.key`), or is gone although keys lie in escrow, which
            a ceremony puts there (`vault.seal_broken.missing`): it decides who must destroy a share.
    """
    if not keyring.store.exists(_FILE):
        if any(keyring.store.names(ESCROW)):
            raise _missing_record()
        return []
    record = _record(keyring.store.get(_FILE))
    if set(record) == {"v", "ceremonies"} and record["v"] == 2:  # before it had a check; the next writing gives it one
        return _list_of(record)
    if set(record) != {"v", "ceremonies", "master", "check"} or record["v"] != 3:
        raise broken_key_file(_FILE)
    master = keyring.ring.find(record["master"]) if isinstance(record["master"], str) else None
    if master is None:
        raise trimmed_key(_FILE, str(record["master"]))
    if not hmac.compare_digest(_check(keyring, master, _list_of(record)), str(record["check"]).encode()):
        raise broken_key_file(_FILE)
    return _list_of(record)


def begin_record(keyring: Keyring) -> None:
    """Make the record of the ceremonies, if there is none, before a first ceremony puts anything in escrow."""
    if not keyring.store.exists(_FILE):
        _write(keyring, ceremonies(keyring))


def rewrap_ceremonies(keyring: Keyring) -> None:
    """Bind the record of the ceremonies to the master key in force."""
    known = ceremonies(keyring)
    if keyring.store.exists(_FILE):
        _write(keyring, known)


def forget_ceremonies(keyring: Keyring, *, keep: str) -> None:
    """Forget the ceremonies of every master key but `keep`."""
    left = [entry for entry in ceremonies(keyring) if entry["master"] == keep]
    if left or keyring.store.exists(_FILE):
        _write(keyring, left)


def check_receipts(
    keyring: Keyring,
    receipts: Sequence[ShareReceipt],
    custodians: Sequence[PublicKey],
    lost: Sequence[LostShare] = (),
) -> None:
    """Refuse unless fewer shares than the threshold are left of every ceremony so far, destroyed and lost ones apart.

    Raises:
        VaultError: a receipt's signature does not hold (`vault.custody.receipt`), a declaration of a lost share does
            not (`vault.custody.lost`), or too many shares are out (`vault.custody.outstanding`); it names who must act.
    """
    keys = {key.key_id: key for key in custodians}
    known = {entry["ceremony"]: entry for entry in ceremonies(keyring)}
    gone: set[tuple[str, int, str]] = set()
    for receipt in receipts:
        key = keys.get(receipt.key_id)
        try:
            if key is None:
                raise _wrong_receipt(receipt.custodian)
            verify_words(key, receipt.words(), receipt.signature)
        except SaggarError as error:
            raise _wrong_receipt(receipt.custodian) from error
        gone.add((receipt.ceremony, receipt.index, receipt.key_id))
    for each in lost:
        if each.ceremony in known:
            check_lost(each, known[each.ceremony], keys)
            gone.add((each.ceremony, each.index, each.key_id))
    for entry in known.values():
        out = [c for c in entry["custodians"] if (entry["ceremony"], c["index"], c["key"]) not in gone]
        if len(out) >= entry["threshold"]:
            names = ", ".join(f"`{c['name']}`" for c in out)
            raise VaultError(
                f"{len(out)} shares of the old master key from ceremony `{entry['ceremony'][:12]}` are still out, and "
                f"{entry['threshold']} bring it back",
                hint=f"{len(out) - entry['threshold'] + 1} of {names} must destroy theirs with "
                "`saggar keys destroy-share` and hand in the receipt; a share that nobody finds is declared lost with "
                "`saggar keys declare-lost`",
                code="vault.custody.outstanding",
                custodians=[c["name"] for c in out],
                ceremony=entry["ceremony"],
            )


def _write(keyring: Keyring, entries: list[dict[str, Any]]) -> None:
    master = keyring.ring.primary
    check = _check(keyring, master, entries).decode()
    keyring.store.put(_FILE, canonical_bytes({"v": 3, "ceremonies": entries, "master": master.key_id, "check": check}))


def _check(keyring: Keyring, master: MasterKey, entries: list[dict[str, Any]]) -> bytes:
    key = keyring.suite.expand(master.secret, b"saggar/custody/1", 32)
    return keyring.suite.mac(key, canonical_bytes(entries)).hex().encode()


def _record(raw: bytes) -> dict[str, Any]:
    """Return the record in the file of the ceremonies; it is not checked yet."""
    try:
        record = parse_canonical(raw)
    except SaggarError as error:
        raise broken_key_file(_FILE) from error
    if not isinstance(record, dict):
        raise broken_key_file(_FILE)
    return record


def _list_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    known = record["ceremonies"]
    if not isinstance(known, list):
        raise broken_key_file(_FILE)
    return known


def _missing_record() -> SealBrokenError:
    return SealBrokenError(
        f"the record of who holds shares, `keys/{_FILE}`, is missing",
        hint="restore it from a backup: without it nobody knows whose shares still bring the master key back",
        code="vault.seal_broken.missing",
        object=f"keys/{_FILE}",
    )


def _no_receipt(file: str) -> VaultError:
    return VaultError(
        f"`{file}` is damaged or no receipt of a destroyed share",
        hint="name the file that `saggar keys destroy-share` wrote to `--out`",
        code="vault.custody.receipt",
        file=file,
    )


def _wrong_receipt(name: str) -> VaultError:
    return VaultError(
        f"the receipt of `{name}` does not hold",
        hint="the custodian signs it with `saggar keys destroy-share`",
        code="vault.custody.receipt",
        custodian=name,
    )
