"""Intake: a department gets the token key of its kind of unit, and hands in batches that it sealed itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.sealed_batch import SealedBatch, open_batch
from connectors.token_key import batch_check, issue_token_key, token_check
from sandbox.errors import InputError, SnapshotNotFoundError
from sandbox.jobs.engine import Engine
from sandbox.jobs.ingest import Ingested, ingest
from sandbox.model.digest import short
from sandbox.model.keys import PublicKey, Role, SuiteName
from sandbox.model.load_description import UNIT_KIND, UNIT_RULE
from sandbox.vault.unit_keys import ensure_unit_keys


@dataclass(frozen=True, slots=True)
class Received:
    """What a batch became.

    Attributes:
        ingested: the snapshot.
        department: who sealed the batch.
        report: the department's quality report, as it sealed it.
    """

    ingested: Ingested
    department: PublicKey
    report: dict[str, Any]


def token_key_for(engine: Engine, unit_kind: str, department: PublicKey) -> bytes:
    """Return the file with the token key of a kind of unit, sealed to the department; made at the first call.

    Raises:
        InputError: the receiver is no department (`input.sealed_batch.owner`), or `unit_kind` is no name of a kind
            (`input.unit_kind`).
    """
    if not UNIT_KIND.fullmatch(unit_kind):
        raise InputError(f"`{unit_kind[:64]}` is no kind of unit", hint=UNIT_RULE, code="input.unit_kind")
    if department.role is not Role.DEPARTMENT:
        raise InputError(
            f"`{department.name}` is registered as {department.role.value} and gets no token key",
            hint="a token key goes to the department that keeps the identifiers",
            code="input.sealed_batch.owner",
        )
    secret = ensure_unit_keys(engine.vault.keyring, unit_kind).tokens
    return issue_token_key(secret, unit_kind, department, signer=engine.key, at=engine.clock.now())


def receive(
    engine: Engine,
    path: Path,
    *,
    suite: SuiteName,
    append: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Received:
    """Verify a batch sealed at the source and seal its rows as a snapshot.

    Everything that can be told without opening it is checked first: form, signature, digest, addressee, that it was not
    received before, its owner and its token key.  Then the rows are opened frame by frame; if one of them is not what
    was sealed, no snapshot comes of it.

    Args:
        engine: the trusted side.
        path: the batch.
        suite: of the snapshot.
        append: whether the current snapshot's rows stay in the new one.
        progress: told the rows sealed so far.

    Raises:
        InputError: `input.sealed_batch.*`, which names what is wrong.
    """
    batch = open_batch(path, vault=engine.key.public, departments=engine.trusted(Role.DEPARTMENT))
    facts = batch.facts
    if facts.batch in engine.state().batches:
        raise InputError(
            f"batch `{short(facts.batch)}` was received before",
            hint=f"it is snapshot `{short(engine.state().batches[facts.batch])}`; new rows are a new batch",
            code="input.sealed_batch.replayed",
        )
    dataset = facts.description.dataset
    _check_owner(engine, dataset, facts.department)
    _check_token_key(engine, batch)
    ingested = ingest(
        engine,
        facts.description,
        lambda *_: batch.rows(engine.key),
        suite=suite,
        owner=facts.department.name,
        append=append,
        batch=(facts.batch, facts.department.key_id),
        progress=progress,
    )
    return Received(ingested, facts.department, batch.report)


def _check_owner(engine: Engine, dataset: str, department: PublicKey) -> None:
    """Raise if the dataset's current snapshot is another department's."""
    known = engine.state().datasets.get(dataset)
    if known is None:
        return
    try:
        owner = engine.vault.manifest(known.snapshot, engine.trusted(Role.SANDBOX)).owner
    except SnapshotNotFoundError:  # destroyed: nobody owns what is not there
        return
    if owner != department.name:
        raise InputError(
            f"the dataset `{dataset}` belongs to `{owner}` and not to `{department.name}`",
            hint="the department that owns it seals its batches; another dataset needs another name",
            code="input.sealed_batch.owner",
        )


def _check_token_key(engine: Engine, batch: SealedBatch) -> None:
    kinds = batch.facts.description.unit_kinds
    own = batch_check([token_check(ensure_unit_keys(engine.vault.keyring, kind).tokens) for kind in kinds])
    if own != batch.facts.token_key:
        raise InputError(
            f"the identifiers in the batch were replaced under another token key than {' and '.join(kinds)}'s",
            hint="issue the key with `saggar keys issue-token-key` and seal the batch again",
            code="input.sealed_batch.token_key",
        )
