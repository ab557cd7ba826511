"""Publish: a checkpoint over the whole log, signed by the sandbox and cosigned by the witness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.errors import WitnessError
from sandbox.jobs.admit import refused_at
from sandbox.jobs.engine import Engine
from sandbox.ledger.checkpoint import parse_checkpoint, sign_checkpoint, verify_cosigned, with_cosignature
from sandbox.ledger.receipt import build_receipt
from sandbox.model.digest import Digest
from sandbox.model.keys import Role


def publish(engine: Engine) -> str:
    """Return a cosigned checkpoint that includes every entry so far; keep it durably.

    Raises:
        WitnessError: the witness refused or cannot be reached.
    """
    size = engine.ledger.size
    kept = next(iter(engine.ledger.checkpoints(least_size=size)), None)
    if kept is not None:
        return kept
    cosigned = _cosigned(engine, size)
    engine.ledger.keep_checkpoint(cosigned)
    return cosigned


def _cosigned(engine: Engine, size: int) -> str:
    """Return the checkpoint of `size` entries, signed and cosigned.

    The sandbox's own line is not verified again: it was made a moment ago, and the witness does not cosign without it.
    """
    note = sign_checkpoint(engine.ledger.checkpoint(size), engine.key)
    cosigned = with_cosignature(note, engine.witness.cosign(note, engine.ledger.consistency))
    verify_cosigned(cosigned, engine.trusted(Role.SANDBOX), engine.trusted(Role.WITNESS))
    return cosigned


def publish_reservation(engine: Engine, job: Digest) -> None:
    """Publish a job's reservation before any data is opened; without the witness the job ends here and costs nothing.

    A log that was rolled back is found out here, so it measures nothing: what was answered under the log that it
    forgets cannot be answered a second time for the same budget.

    The checkpoint is kept in the commit that logs the opening: the witness remembers it, and no receipt needs it yet.

    Raises:
        WitnessError: the witness refused or cannot be reached.
        ConsistencyError: it has seen a log that this one does not extend.
    """
    after = "then submit the job with `--again`; nothing was opened or spent"
    with refused_at(engine, job, "witness"), witness_hint(after):
        engine.ledger.keep_checkpoint_with_next(_cosigned(engine, engine.ledger.size))


@contextmanager
def witness_hint(more: str) -> Iterator[None]:
    """Add to a witness's error what it means for the job at hand."""
    try:
        yield
    except WitnessError as error:
        raise WitnessError(error.message, hint=f"{error.hint}; {more}", code=error.code, **error.details) from error


def receipt_for(engine: Engine, seq: int) -> str:
    """Return the receipt of entry `seq` against the first cosigned checkpoint that includes it."""
    note = next(iter(engine.ledger.checkpoints(least_size=seq + 1)), None) or publish(engine)
    size = parse_checkpoint(note).size
    return build_receipt(engine.ledger.leaf(seq), seq, engine.ledger.inclusion(seq, size), note)
