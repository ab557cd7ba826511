"""Certificates of destruction and closed epochs, read back from the log: their files may never have been written."""

from __future__ import annotations

from sandbox.errors import InputError
from sandbox.jobs.destroy import Logged
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import receipt_for
from sandbox.ledger.destruction import SignedRecord
from sandbox.model.digest import Digest, short
from sandbox.model.entry import EntryKind


def logged_certificate(engine: Engine, what: str) -> Logged:
    """Return a certificate of destruction with its receipt.

    Args:
        engine: the trusted side; it publishes the log where no cosigned checkpoint includes the entry yet.
        what: a dataset that has one certificate, or the beginning of a certificate's or a snapshot's digest (8
            hexadecimal digits or more).

    Raises:
        InputError: it names none, or several (`input.unknown_certificate`).
        StorageError: the document is gone; the log still proves what it was.
    """
    prefix = what.partition(":")[2] or what
    found: dict[Digest, int] = {}
    for entry in engine.ledger.entries(0, engine.ledger.size):
        if entry.kind is not EntryKind.DATASET_DESTROYED:
            continue
        digests = (entry.body["certificate"], *entry.body["snapshots"])
        begun = len(prefix) >= 8 and any(digest.partition(":")[2].startswith(prefix) for digest in digests)
        if begun or entry.body["dataset"] == what:
            found[entry.body["certificate"]] = entry.seq
    if len(found) != 1:
        named = ", ".join(short(certificate) for certificate in found)
        raise InputError(
            f"`{what}` names {len(found) or 'no'} certificate{'s' if found else ''} of destruction",
            hint=f"name one of them: {named}" if found else "name a destroyed dataset, or a snapshot or certificate",
            code="input.unknown_certificate",
        )
    return _logged(engine, *found.popitem(), "saggar.destruction")


def logged_epoch(engine: Engine, number: int) -> Logged:
    """Return the record of a closed epoch with its receipt.

    Raises:
        InputError: no such epoch was closed (`input.unknown_certificate`).
        StorageError: the document is gone; the log still proves what it was.
    """
    for entry in engine.ledger.entries(0, engine.ledger.size):
        if entry.kind is EntryKind.EPOCH_CLOSED and entry.body["epoch"] == number:
            return _logged(engine, entry.body["record"], entry.seq, "saggar.epoch_closed")
    raise InputError(
        f"epoch {number} is not closed",
        hint=f"{engine.state().epoch} epochs are closed, counted from 1",
        code="input.unknown_certificate",
    )


def _logged(engine: Engine, digest: Digest, seq: int, kind: str) -> Logged:
    return Logged(SignedRecord.parse(engine.documents.get(digest), kind), digest, receipt_for(engine, seq))
