"""Certificates of destruction and records of closed epochs: documents that are verified offline.

A certificate says what was destroyed, how, who ordered and who witnessed it, what it does not cover, and what can still
be replayed.  It claims one of two levels:

- **L1**: the halves of the snapshot keys and the objects are deleted here, and a second read found nothing.  A backup
  of the vault's keys from before, together with the passphrase or the custodians' shares of its day, still opens.
- **L2**: the epoch of master keys was closed over the certificate: a new master key under a new passphrase, survivors
  wrapped anew, too few of the old shares left.  From here a backup opens for nobody.  L2 is not a claim of the
  certificate but of a later record that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.share_words import DESTROYED, FIELDS, LOST, verify_words
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import LedgerError, SaggarError
from sandbox.ledger.bodies import check_time
from sandbox.ledger.verify import ReceiptFacts, Trusted, verify_receipt
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, digest_of, parse_digest
from sandbox.model.entry import EntryKind
from sandbox.model.keys import PublicKey, Role, Signature

CERTIFICATE_CONTEXT = "saggar/destruction/1"
EPOCH_CONTEXT = "saggar/epoch-closed/1"
ORDERING = frozenset({Role.OPERATOR, Role.AGENCY})
WITNESSING = frozenset({Role.DEPARTMENT, Role.CUSTODIAN})

_CERTIFICATE = frozenset(
    {
        *("v", "kind", "id", "origin", "at", "dataset", "basis", "snapshots", "method", "levels"),
        *("derived_releases", "remaining", "replay", "parties"),
    }
)
_SNAPSHOT = frozenset(
    {"snapshot", "id", "description", "suite", "owner", "sealed_at", "halves", "objects", "second_read"}
)
_EPOCH = frozenset(
    {"v", "kind", "origin", "at", "epoch", "old_master", "new_master", "survivors", "certificates", "receipts"}
)


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record and who signed it.

    Attributes:
        record: the certificate or the closed epoch, canonical.
        signatures: over it, in the order given.
    """

    record: dict[str, Any]
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""
        return canonical_bytes({"record": self.record, "signatures": [s.to_record() for s in self.signatures]})

    @classmethod
    def parse(cls, raw: bytes, kind: str) -> SignedRecord:
        """Return the document that bytes write, of this kind; its signatures are not checked yet.

        Raises:
            LedgerError: it is not one (`ledger.destruction.malformed`).
        """
        fields = _CERTIFICATE if kind == "saggar.destruction" else _EPOCH
        try:
            stored = parse_canonical(raw)
            record, signatures = stored["record"], tuple(Signature.parse(each) for each in stored["signatures"])
            well_formed = set(stored) == {"record", "signatures"} and set(record) == fields
            if not well_formed or record["kind"] != kind or record["v"] != 1:
                raise _refused("malformed", "the document is not a certificate of destruction or a closed epoch")
            check_time(record["at"])
            if kind == "saggar.destruction":
                _check_inventory(record)
        except (SaggarError, KeyError, TypeError, ValueError) as error:
            raise _refused("malformed", "the document is not a certificate of destruction or a closed epoch") from error
        return cls(record, signatures)


@dataclass(frozen=True, slots=True)
class DestructionFacts:
    """What a certificate proves.

    Attributes:
        certificate: its digest, which the log names.
        level: `L1`, or `L2` where a closed epoch that names it was handed in too.
        record: the certificate.
        signers: who signed it.
        receipt: what the log's receipt proves, or None where none was handed in.
        epoch: the record of the closed epoch, or None.
    """

    certificate: Digest
    level: str
    record: dict[str, Any]
    signers: tuple[PublicKey, ...]
    receipt: ReceiptFacts | None
    epoch: dict[str, Any] | None

    def lost_shares(self) -> list[str]:
        """Return the custodians whose share of the old master key was declared lost and not destroyed."""
        given = [] if self.epoch is None else self.epoch["receipts"]
        declared = [each["lost"] for each in given if isinstance(each, dict) and isinstance(each.get("lost"), dict)]
        return [str(each.get("custodian")) for each in declared]


def sign_record(record: dict[str, Any], context: str, signers: Sequence[PrivateKey]) -> SignedRecord:
    """Return the record with a signature by each signer."""
    message = canonical_bytes(record)
    return SignedRecord(record, tuple(sign(key, context, message) for key in signers))


def verify_destruction(
    raw: bytes,
    keys: Sequence[PublicKey],
    trusted: Trusted,
    *,
    receipt: str | None = None,
    epoch: tuple[bytes, str | None] | None = None,
) -> DestructionFacts:
    """Return what a certificate proves, or raise.

    1. The bytes are a certificate, spelt in the one way there is, of the log that is trusted.
    2. Each signature holds and is by a key handed in; the sandbox, one who may order (operator or agency) and one who
       may witness (department or custodian) are among the signers, as the certificate says.
    3. Each snapshot's second read found nothing.
    4. With a receipt: the cosigned log has an entry that names exactly these bytes.
    5. With a closed epoch: it is signed by the sandbox and names exactly these bytes, and each word on a share in it is
       signed by a custodian; with its receipt, it is logged.

    Args:
        raw: the certificate's document.
        keys: the public keys to believe, of every role.
        trusted: the log's name and keys.
        receipt: the receipt of the entry `dataset.destroyed`, or None.
        epoch: the document of the closed epoch and the receipt of its entry, or None.

    Raises:
        LedgerError: 1 (`ledger.destruction.malformed`, `.origin`), 2 (`.signature`), 3 (`.second_read`), 5 (`.epoch`).
        CheckpointError, InclusionError: 4 and 5.
    """
    document = SignedRecord.parse(raw, "saggar.destruction")  # 1
    record = document.record
    if record["origin"] != trusted.origin:
        raise _refused("origin", f"the certificate is of the log `{record['origin']}`, not of `{trusted.origin}`")
    signers = _verified_signers(document, CERTIFICATE_CONTEXT, keys)  # 2
    roles = {key.role for key in signers}
    if Role.SANDBOX not in roles or not roles & ORDERING or not roles & WITNESSING:
        raise _refused("signature", "the certificate is not signed by all whose signature it needs")
    if sorted(key.key_id for key in signers) != sorted(party["key"] for party in record["parties"]):
        raise _refused("signature", "the certificate names other parties than those who signed")
    for each in record["snapshots"]:  # 3
        read = each["second_read"]
        if read["objects_found"] or read["halves_found"] or not read["opening"]:
            raise _refused("second_read", "the second read still found something")
    certificate = digest_of(raw)
    logged = None if receipt is None else _logged(receipt, trusted, EntryKind.DATASET_DESTROYED, certificate)  # 4
    closed = None if epoch is None else _verified_epoch(epoch, keys, trusted, certificate)  # 5
    return DestructionFacts(certificate, "L1" if closed is None else "L2", record, signers, logged, closed)


def _verified_epoch(
    epoch: tuple[bytes, str | None], keys: Sequence[PublicKey], trusted: Trusted, certificate: Digest
) -> dict[str, Any]:
    raw, receipt = epoch
    document = SignedRecord.parse(raw, "saggar.epoch_closed")
    signers = _verified_signers(document, EPOCH_CONTEXT, keys)
    if not any(key.role is Role.SANDBOX for key in signers) or document.record["origin"] != trusted.origin:
        raise _refused("epoch", "the closed epoch is not signed by the sandbox of this log")
    if certificate not in document.record["certificates"]:
        raise _refused("epoch", "the closed epoch does not name this certificate")
    for each in document.record["receipts"]:
        _check_words(each, keys)
    if receipt is not None:
        _logged(receipt, trusted, EntryKind.EPOCH_CLOSED, digest_of(raw))
    return document.record


def _check_words(given: Any, keys: Sequence[PublicKey]) -> None:
    """Refuse what a closed epoch holds of a share, unless a custodian signed each signature of it.

    Whether the shares left are fewer than the threshold is not shown here: who got one is in the vault's own record.
    """
    known = {key.key_id: key for key in keys if key.role is Role.CUSTODIAN}
    try:
        destroyed = set(given) == {"receipt", "signature"}
        words = given["receipt"] if destroyed else given["lost"]
        signatures = [Signature.parse(each) for each in ([given["signature"]] if destroyed else given["signatures"])]
        well_formed = set(words) == FIELDS and words["kind"] == (DESTROYED if destroyed else LOST) and signatures
        if not well_formed or (destroyed and signatures[0].key_id != words["key"]):
            raise _refused("epoch", "the closed epoch holds something that is no receipt of a share")
        for signature in signatures:
            verify_words(known[signature.key_id], words, signature)
    except (SaggarError, KeyError, TypeError) as error:
        raise _refused("epoch", "a custodian's word on a share, which the closed epoch holds, does not hold") from error


def _verified_signers(document: SignedRecord, context: str, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    known, message = {key.key_id: key for key in keys}, canonical_bytes(document.record)
    signers: dict[str, PublicKey] = {}
    for signature in document.signatures:
        key = known.get(signature.key_id)
        if key is None:
            raise _refused("signature", f"a signature is by key `{signature.key_id}`, which is not trusted here")
        try:
            verify_signature(key, context, message, signature)
        except SaggarError as error:
            raise _refused("signature", f"the signature by `{key.name}` does not hold") from error
        signers[key.key_id] = key
    if len(signers) != len(document.signatures):
        raise _refused("signature", "a party signed twice")
    return tuple(signers.values())


def _logged(receipt: str, trusted: Trusted, kind: EntryKind, digest: Digest) -> ReceiptFacts:
    facts = verify_receipt(receipt, None, trusted)
    named = facts.entry.body.get("certificate" if kind is EntryKind.DATASET_DESTROYED else "record")
    if facts.entry.kind is not kind or named != digest:
        raise _refused("receipt", "the receipt is of another entry than the one about this document")
    return facts


def _check_inventory(record: dict[str, Any]) -> None:
    if not record["snapshots"]:
        raise ValueError("nothing destroyed")
    for each in record["snapshots"]:
        if set(each) != _SNAPSHOT:
            raise ValueError("fields")
        parse_digest(each["snapshot"])
        for sealed in each["objects"]:
            parse_digest(sealed["digest"])


def _refused(code: str, message: str) -> LedgerError:
    return LedgerError(
        message,
        hint="ask for the certificate again, and compare its digest with the one in the log",
        code=f"ledger.destruction.{code}",
    )
