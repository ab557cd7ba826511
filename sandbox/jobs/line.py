"""The line of a job, from a signed spec to a release, as one straight function.

```
submit → admit → reserve │ open → measure → gate → settle │ release
       nothing spent      │   the reservation is spent     │ cosigned, then it leaves
   the witness cosigns ──▲                                ▲── and cosigns again
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from sandbox.errors import AuthenticationError, GateError, SaggarError
from sandbox.jobs.admit import admit, refused_at, reserve
from sandbox.jobs.engine import Engine
from sandbox.jobs.gate import gate
from sandbox.jobs.measuring import FailedAfterOpenError, log_opening, measure_job
from sandbox.jobs.publishing import publish, publish_reservation
from sandbox.jobs.recover import post_everything
from sandbox.jobs.settling import pad_duration, release, settle, settle_failed
from sandbox.jobs.stages import Gated, Released, Reserved, SignedJob, Submitted
from sandbox.jobs.submit import check_submitter, submit
from sandbox.model.job import JobKind, JobState

Progress = Callable[[str], None]


def run_job(
    engine: Engine,
    signed: SignedJob,
    *,
    cancel: threading.Event | None = None,
    progress: Progress = lambda _: None,
) -> Released:
    """Return what leaves.  The same spec gives the stored release again, never fresh noise.

    Args:
        engine: the trusted side.
        signed: the job.
        cancel: set it to stop the program; what was answered stays spent.
        progress: called with the stage about to begin, for people.

    Raises:
        SaggarError: refused or failed; the log says which, and what was spent.
    """
    job = signed.spec.digest()
    known = engine.state().jobs.get(job)
    if known is not None and known.state is JobState.RELEASED:
        _check_owner(engine, signed, known.submitter)
        return release(engine, job)
    with ExitStack() as ending:
        return _run_new(engine, signed, cancel, progress, ending)


def _run_new(
    engine: Engine, signed: SignedJob, cancel: threading.Event | None, progress: Progress, ending: ExitStack
) -> Released:
    """Run the line of a job that has no release yet; `ending` closes what was begun for it and not needed."""
    try:
        progress("submit 提交")
        submitted = submit(engine, signed)
        progress("admit 准入")
        with refused_at(engine, submitted.job, "pool"):
            engine.pool.prepare()  # A reader starts while the log and the witness are at work.
        admitted = admit(engine, submitted)
        progress("reserve 预留")
        reserved = reserve(engine, admitted)
        if submitted.spec.kind is JobKind.PYTHON:
            _begin_process(engine, submitted, ending)
        publish_reservation(engine, submitted.job)
    except SaggarError:
        _publish_ending(engine)
        raise
    progress("measure 测量")
    gated = _measure_and_gate(engine, reserved, cancel)
    progress("settle 结算")
    settled = settle(engine, gated)
    progress("release 出窑")
    return release(engine, settled.job)


def _begin_process(engine: Engine, submitted: Submitted, ending: ExitStack) -> None:
    """Start a program's process while the witness is asked; one that the job never came to ends with the job."""
    guests = engine.guests()
    ending.callback(guests.end_begun)
    with suppress(SaggarError):  # Whoever needs the process meets it again.
        guests.begin_process(submitted.code)


def _publish_ending(engine: Engine) -> None:
    """Publish the ending of a job of which nothing leaves; a witness that is away must not hide why it ended."""
    with suppress(SaggarError):
        publish(engine)


def _check_owner(engine: Engine, signed: SignedJob, owner: str) -> None:
    """Raise unless the one who asks for a stored release again is the one who submitted the job."""
    if check_submitter(engine, signed).key_id != owner:
        raise AuthenticationError(
            "the job was submitted by another operator",
            hint="ask that operator for the release, or submit a job of your own",
            code="service.authentication.another_operator",
        )


def _measure_and_gate(engine: Engine, reserved: Reserved, cancel: threading.Event | None) -> Gated:
    job = reserved.admitted.submitted.job
    with refused_at(engine, job, "open"):
        log_opening(engine, reserved)
    try:
        measured = measure_job(engine, reserved, cancel)
        try:
            gated = gate(measured, engine.key)
        except GateError as error:
            raise FailedAfterOpenError(error, measured) from error
    except FailedAfterOpenError as failure:
        settle_failed(engine, failure.measured, failure.error)
        _publish_ending(engine)
        raise failure.error from None
    except BaseException:
        # At the time of the reservation: when data made a fault must not show.
        post_everything(engine, job, reason="fault", at=reserved.at)
        pad_duration(engine, reserved)
        raise
    return gated
