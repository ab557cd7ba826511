"""Ingest: a department's rows become a sealed snapshot, and the log learns that it exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import pyarrow as pa

from connectors.quality import no_rows
from sandbox.compute.sealed import SealedTables
from sandbox.errors import InputError
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import publish
from sandbox.jobs.registry import destroyed_before
from sandbox.ledger.account import DatasetFacts
from sandbox.model.canonical import canonical_bytes
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.entry import EntryKind
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.profile import profile_plan, read_profile

PROFILE_SHARE = Fraction(1, 500)
"""The share of a dataset's budget that its one-time profile costs."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest left in the log."""

    dataset: str
    snapshot: Digest


def ingest(
    engine: Engine,
    description: DatasetDescription,
    source: Callable[..., Iterable[pa.RecordBatch]],
    *,
    suite: SuiteName,
    owner: str,
    append: bool = False,
    batch: tuple[Digest, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ingested:
    """Seal a snapshot, log it, and take the one-time profile of rows a unit.

    Args:
        engine: the trusted side.
        description: what the department says about the rows.
        source: makes the batches, given a `Tokeniser` for each kind of unit that the dataset protects.
        suite: `gm` or `intl`.
        owner: the department's key name; its half of the snapshot key is kept apart.
        append: whether the new snapshot holds the current one's rows too; otherwise it holds the new rows alone.
        batch: of a batch that was sealed at the source, its digest and the key id of the department that signed it.
        progress: called with rows sealed so far.

    Raises:
        FileFormatError: no row is left to seal (`input.file.no_rows`): the current snapshot would give way to nothing.

    Privacy:
        The profile costs `PROFILE_SHARE` of the dataset's own budget, once a snapshot.
    """
    _check_names(engine, description, owner)
    batches = source(*engine.vault.tokenisers(description))
    known = engine.state().datasets.get(description.dataset)
    if append:
        batches = chain(_rows_so_far(engine, description, known), batches)
    manifest = engine.vault.seal(
        description,
        _some_rows(batches),
        suite=suite,
        signer=engine.key,
        owner=owner,
        at=engine.clock.now(),
        parent=None if known is None else known.snapshot,
        progress=progress,
    )
    snapshot = manifest.digest()
    if batch is not None:
        received = {"dataset": description.dataset, "batch": batch[0], "department": batch[1], "snapshot": snapshot}
        engine.append(EntryKind.BATCH_RECEIVED, received)
    body = {
        "dataset": description.dataset,
        "table": description.table,
        "unit_kind": description.unit.kind,
        "also_protects": sorted(other.kind for other in description.also_protects),
        "description": engine.documents.put(canonical_bytes(description.to_record())),
        "snapshot": snapshot,
        "parent": None if known is None else known.snapshot,
        "suite": suite.value,
        "budget": description.budget.to_record(),
    }
    engine.append(EntryKind.DATASET_SEALED, body)
    take_profile(engine, description, snapshot)
    publish(engine)
    return Ingested(description.dataset, snapshot)


def _some_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches, or refuse a source that has no row."""
    found = False
    for batch in batches:
        found = found or batch.num_rows > 0
        yield batch
    if not found:
        raise no_rows()


def _check_names(engine: Engine, description: DatasetDescription, owner: str) -> None:
    """Raise unless the owner is a registered department and the table's name is free or this dataset's own."""
    if owner not in {key.name for key in engine.trusted(Role.DEPARTMENT)}:
        raise InputError(
            f"no registered department is called `{owner}`",
            hint=f"make its key with `saggar keys new {owner} --role department`",
            code="input.unknown_key",
        )
    for known in engine.state().datasets.values():
        if known.table == description.table and known.dataset != description.dataset:
            raise InputError(
                f"table `{description.table}` belongs to dataset `{known.dataset}` already",
                hint="give the new dataset's table another name",
                code="input.table_taken",
            )


def _rows_so_far(
    engine: Engine, description: DatasetDescription, known: DatasetFacts | None
) -> Iterator[pa.RecordBatch]:
    """Return the current snapshot's rows; they must have been sealed under this very description."""
    if known is None:
        return iter(())
    snapshot, described = known.snapshots[-1]
    if known.certificate_of(snapshot) is not None:
        raise destroyed_before(known, snapshot)
    if described != description.digest():
        raise InputError(
            f"rows cannot be appended to `{description.dataset}` under another description than its own",
            hint="seal the whole dataset again without `--append`, or use the description it was sealed under",
            code="input.seal.append",
        )
    return engine.vault.rows(snapshot, engine.trusted(Role.SANDBOX))


def take_profile(engine: Engine, description: DatasetDescription, snapshot: Digest) -> None:
    """Measure rows a unit once, differentially private, so that quotes can speak of the bound's bias.

    A dataset whose budget has no room for it gets none: its quotes then say that the bias is not known.  Neither does
    one that protects several kinds of units: the histogram's sensitivity is that of the one that bounds rows alone.
    """
    if description.also_protects:
        return
    loss = PrivacyLoss(description.budget.rho * PROFILE_SHARE)
    if not loss.fits(engine.state().accounts[engine.state().datasets[description.dataset].account].remaining):
        return
    plan = profile_plan(description, loss)
    trusted = engine.trusted(Role.SANDBOX)
    with engine.vault.open_snapshot(snapshot, (), trusted) as opened, engine.pool.job() as computing:
        partials = computing.map_partitions(plan, SealedTables.of(plan, {description.dataset: opened}))
    profile = read_profile(plan, measure(plan, partials, engine.noise).answer)
    body = {
        "dataset": description.dataset,
        "snapshot": snapshot,
        "loss": loss.to_record(),
        "profile": engine.documents.put(canonical_bytes(profile.to_record())),
    }
    engine.append(EntryKind.DATASET_PROFILED, body)
