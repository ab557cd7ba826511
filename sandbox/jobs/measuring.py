"""Open and measure: from here the reservation is spent, whatever happens."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from sandbox.crypto.envelope import seal_to
from sandbox.errors import CancelledError, CanonicalError, GateError, GuestFailedError, SaggarError
from sandbox.jobs.engine import Engine
from sandbox.jobs.gate import SQL_OUTPUT
from sandbox.jobs.models import learn
from sandbox.jobs.questions import Questioner
from sandbox.jobs.stages import Measured, Reserved
from sandbox.model.canonical import canonical_release_bytes
from sandbox.model.digest import Digest, digest_of, hash_bytes
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobKind
from sandbox.model.keys import Role
from sandbox.model.question import Question
from sandbox.model.transcript import SEALING_CONTEXT, Transcript, padded_secret
from sandbox.runtime.host.guests import Program


def program_seed(job: Digest) -> bytes:
    """Return the 32 bytes of entropy a program gets: a function of the job, so that an auditor can run it again."""
    return hash_bytes(b"saggar/program-seed/1\0" + job.encode())


def log_opening(engine: Engine, reserved: Reserved) -> None:
    """Log which columns' keys are about to be unwrapped; durable before any of them is."""
    admitted = reserved.admitted
    snapshots = dict(admitted.submitted.spec.snapshots)
    reads = [[dataset, snapshots[dataset], list(columns)] for dataset, columns in admitted.reads]
    engine.append(EntryKind.VAULT_OPENED, {"job": admitted.submitted.job, "reads": reads}, at=reserved.at)


def measure_job(engine: Engine, reserved: Reserved, cancel: threading.Event | None = None) -> Measured:
    """Open the admitted columns, run the code, and return what it was told and what it handed over.

    Raises:
        FailedAfterOpenError: the code failed; it carries what was spent.
    """
    admitted = reserved.admitted
    snapshots = dict(admitted.submitted.spec.snapshots)
    trusted = engine.trusted(Role.SANDBOX)
    seed = program_seed(admitted.submitted.job)
    with ExitStack() as stack:
        questioner = Questioner(engine, reserved, stack.enter_context(engine.pool.job()), seed=seed, cancel=cancel)
        try:
            for dataset, columns in admitted.reads:
                snapshot = stack.enter_context(engine.vault.open_snapshot(snapshots[dataset], columns, trusted))
                questioner.hand(dataset, snapshot)
            outputs, guest = _run_code(engine, reserved, questioner, cancel)
        except SaggarError as error:
            raise FailedAfterOpenError(error, _close(engine, reserved, questioner, {}, {})) from error
    return _close(engine, reserved, questioner, outputs, guest)


class FailedAfterOpenError(Exception):
    """The code failed after data was opened; what was answered is spent.  Never leaves this room.

    Attributes:
        error: why.
        measured: the answers given so far, without outputs.
    """

    def __init__(self, error: SaggarError, measured: Measured) -> None:
        super().__init__(error.message)
        self.error = error
        self.measured = measured


def _run_code(
    engine: Engine, reserved: Reserved, questioner: Questioner, cancel: threading.Event | None
) -> tuple[dict[str, Any], dict[str, str]]:
    submitted = reserved.admitted.submitted
    spec = submitted.spec
    if spec.kind is JobKind.SQL:
        answer = questioner.answer(Question(submitted.code, spec.loss, spec.rows, spec.groups))
        return {SQL_OUTPUT: {"kind": "answer", **answer}}, {}
    if spec.kind is JobKind.MODEL:
        tables = {description.table: description for description in reserved.admitted.descriptions}
        return learn(spec, submitted.code, tables, questioner, seed=program_seed(submitted.job)), {}
    guests = engine.guests()
    program = Program(submitted.code, dict(spec.parameters), program_seed(submitted.job))
    outcome = guests.run(program, questioner.answer_request, cancel=cancel)
    if cancel is not None and cancel.is_set():
        raise CancelledError("the job was cancelled", hint="what it had been answered is spent")
    if outcome.status != "ok" or outcome.outputs is None:
        raise GuestFailedError(
            f"the program ended without outputs: {outcome.message or outcome.status}",
            hint="mend it and submit it again; what it had been answered is spent",
            code=f"isolation.guest_failed.{outcome.status}",
        )
    _check_writable(outcome.outputs)
    return outcome.outputs, dict(guests.report_for(submitted.code).versions)


def _check_writable(outputs: dict[str, Any]) -> None:
    """Raise `GateError` where an output has no canonical form, such as an integer beyond 2**53."""
    try:
        canonical_release_bytes(outputs)
    except CanonicalError as error:
        raise GateError(
            f"an output of the program cannot be written: {error.message}",
            hint="return such numbers as floats or as text",
            code="job.gate.type",
        ) from error


def _close(
    engine: Engine, reserved: Reserved, questioner: Questioner, outputs: dict[str, Any], guest: dict[str, str]
) -> Measured:
    submitted = reserved.admitted.submitted
    secret = padded_secret({"v": 1, "job": submitted.job, "questions": list(questioner.sealed)})
    context = f"{SEALING_CONTEXT}/{submitted.job}"
    envelopes = {key.key_id: seal_to(key, secret, context) for key in engine.trusted(Role.AUDITOR)}
    transcript = Transcript(
        job=submitted.job,
        code=submitted.spec.code,
        seed=program_seed(submitted.job).hex(),
        exchanges=tuple(questioner.exchanges),
        refusals=tuple(questioner.refusals),
        outputs=outputs,
        guest=guest,
        sealed={key_id: digest_of(envelope) for key_id, envelope in envelopes.items()},
    )
    return Measured(reserved, transcript, questioner.spent, tuple(envelopes.values()))
