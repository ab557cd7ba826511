"""Publish: a checkpoint over the whole log, signed by the sandbox and cosigned by the witness."""

from __future__ import annotations

from sandbox.jobs.engine import Engine
from sandbox.ledger.checkpoint import parse_checkpoint, sign_checkpoint, verify_checkpoint, with_cosignature
from sandbox.ledger.receipt import build_receipt
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
    note = sign_checkpoint(engine.ledger.checkpoint(size), engine.key)
    cosigned = with_cosignature(note, engine.witness.cosign(note, engine.ledger.consistency))
    verify_checkpoint(cosigned, engine.trusted(Role.SANDBOX), engine.trusted(Role.WITNESS))
    engine.ledger.keep_checkpoint(cosigned)
    return cosigned


def receipt_for(engine: Engine, seq: int) -> str:
    """Return the receipt of entry `seq` against the first cosigned checkpoint that includes it."""
    note = next(iter(engine.ledger.checkpoints(least_size=seq + 1)), None) or publish(engine)
    size = parse_checkpoint(note).size
    return build_receipt(engine.ledger.leaf(seq), seq, engine.ledger.inclusion(seq, size), note)
