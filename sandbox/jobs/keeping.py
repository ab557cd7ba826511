"""Keeping a vault: what the log says must be there is what a check looks for and what tidying never touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from sandbox.errors import LedgerError, VaultError
from sandbox.jobs.engine import Engine
from sandbox.jobs.export import named_documents, sealed_parts
from sandbox.ledger.checkpoint import verify_checkpoint
from sandbox.ledger.database import FILE_NAME
from sandbox.model.digest import Digest, short
from sandbox.model.entry import Entry
from sandbox.model.keys import Role
from sandbox.vault.manifest import manifest_name
from sandbox.vault.scrub import Fault, ScrubReport

OWNER_HALF = "vault.key_unavailable.owner_half"
_KEYS = {
    "vault.key_unavailable.platform_half": "the platform's half of its key",
    "vault.key_unavailable.dataset": "the key file of its dataset",
}


def check_vault(engine: Engine, progress: Callable[[int], None] | None = None) -> ScrubReport:
    """Read every sealed object, manifest and key file again.

    What the log names and what cannot be opened any more, a half in its owner's hands apart, is a fault: a snapshot
    without its manifest, its platform half or its dataset's key; and so is a document that is not there, and a kept
    checkpoint that is not what the sandbox signed and a witness cosigned.
    """
    held = held_snapshots(engine)
    report = engine.vault.check(engine.trusted(Role.SANDBOX), progress, held)
    faults = [
        Fault(
            manifest_name(snapshot),
            code,
            f"snapshot `{short(snapshot)}` does not open: {_KEYS.get(code, 'a key of it')} is missing",
        )
        for snapshot, code in zip(report.locked, report.locks, strict=True)
        if snapshot in held and code != OWNER_HALF
    ]
    return replace(report, faults=(*report.faults, *faults, *missing_documents(engine), *broken_checkpoints(engine)))


def missing_documents(engine: Engine) -> Iterator[Fault]:
    """Yield each document that the log names and that is not here; what those that are here hold is not looked at."""
    told: set[str] = set()
    for entry in engine.ledger.entries(0, engine.ledger.size):
        for digest in (*named_documents(entry), *_sealed_parts(engine, entry)):
            if digest not in told and not engine.documents.holds(digest):
                told.add(digest)
                name = f"documents/objects/{digest.partition(':')[2]}"
                what = f"the document `{name}`, which entry {entry.seq} of the log names, is missing"
                yield Fault(name, "vault.seal_broken.missing", what)


def broken_checkpoints(engine: Engine) -> Iterator[Fault]:
    """Yield each kept checkpoint that is not signed and cosigned, or not of this log: receipts are made of them."""
    sandbox, witnesses = engine.trusted(Role.SANDBOX), engine.trusted(Role.WITNESS)
    for number, note in enumerate(engine.ledger.checkpoints(), start=1):
        try:
            found = verify_checkpoint(note, sandbox, witnesses).checkpoint
            is_kept = found == engine.ledger.checkpoint(found.size)
        except LedgerError:
            is_kept = False
        if not is_kept:
            what = f"checkpoint {number} that the log keeps is not what was signed and cosigned"
            yield Fault(FILE_NAME, "ledger.checkpoint.kept", what)


def collect_vault(engine: Engine) -> tuple[str, ...]:
    """Remove what a crash left behind, and return its names.

    Raises:
        VaultError: the manifest of a snapshot that the log names is missing or does not verify
            (`vault.collect_refused`): its objects would be taken for garbage; nothing is removed.
    """
    return engine.vault.collect(engine.trusted(Role.SANDBOX), held_snapshots(engine))


def held_snapshots(engine: Engine) -> tuple[Digest, ...]:
    """Return the snapshots that the log knows and that were not destroyed."""
    return tuple(
        snapshot
        for dataset in engine.state().datasets.values()
        for snapshot, _ in dataset.snapshots
        if dataset.certificate_of(snapshot) is None
    )


def _sealed_parts(engine: Engine, entry: Entry) -> list[str]:
    """Return the sealed parts that a settled job's transcript names; one that is missing or broken names none."""
    try:
        return sealed_parts(engine, entry)
    except VaultError:
        return []
