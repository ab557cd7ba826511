"""Ingest: a department's rows become a sealed snapshot, and the log learns that it exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import pyarrow as pa

from sandbox.compute.run import run_plan
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import InputError
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import publish
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
    source: Callable[[Tokeniser], Iterable[pa.RecordBatch]],
    *,
    suite: SuiteName,
    owner: str,
    progress: Callable[[int], None] | None = None,
) -> Ingested:
    """Seal a snapshot, log it, and take the one-time profile of rows a unit.

    Args:
        engine: the trusted side.
        description: what the department says about the rows.
        source: makes the batches, given the tokeniser of the dataset's unit key.
        suite: `gm` or `intl`.
        owner: the department's key name; its half of the snapshot key is kept apart.
        progress: called with rows sealed so far.

    Privacy:
        The profile costs `PROFILE_SHARE` of the dataset's own budget, once a snapshot.
    """
    _check_names(engine, description, owner)
    batches = source(engine.vault.tokeniser(description))
    manifest = engine.vault.seal(
        description, batches, suite=suite, signer=engine.key, owner=owner, at=engine.clock.now(), progress=progress
    )
    known = engine.state().datasets.get(description.dataset)
    snapshot = manifest.digest()
    body = {
        "dataset": description.dataset,
        "table": description.table,
        "unit_kind": description.unit.kind,
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


def take_profile(engine: Engine, description: DatasetDescription, snapshot: Digest) -> None:
    """Measure rows a unit once, differentially private, so that quotes can speak of the bound's bias.

    A dataset whose budget has no room for it gets none: its quotes then say that the bias is not known.
    """
    loss = PrivacyLoss(description.budget.rho * PROFILE_SHARE)
    if not loss.fits(engine.state().accounts[engine.state().datasets[description.dataset].account].remaining):
        return
    plan = profile_plan(description, loss)
    with engine.vault.open_snapshot(snapshot, (), engine.trusted(Role.SANDBOX)) as opened:
        partials = run_plan(plan, opened.partitions(), threads=engine.threads)
    profile = read_profile(plan, measure(plan, partials, engine.noise).answer)
    body = {
        "dataset": description.dataset,
        "snapshot": snapshot,
        "loss": loss.to_record(),
        "profile": engine.documents.put(canonical_bytes(profile.to_record())),
    }
    engine.append(EntryKind.DATASET_PROFILED, body)
