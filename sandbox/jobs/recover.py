"""Recover: a crash can waste budget, never give it back."""

from __future__ import annotations

from sandbox.jobs.engine import Engine
from sandbox.model.digest import Digest
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState

_OPEN = (JobState.SUBMITTED, JobState.ADMITTED, JobState.RESERVED, JobState.OPENED, JobState.GATED)
_UNRESERVED = (JobState.SUBMITTED, JobState.ADMITTED)


def recover(engine: Engine) -> list[Digest]:
    """End every job that a dead process left open; return their digests.

    The caller holds the state directory alone, so an open job has no living owner.  A job that had reserved is charged
    in full, whether or not it had opened data: nobody can prove that it had not.
    """
    recovered = []
    for known in engine.state().jobs.values():
        job = known.job
        if known.state in _UNRESERVED:
            body = {"job": job, "stage": "crash", "code": "job.crashed", "clauses": []}
            engine.append(EntryKind.JOB_REFUSED, body)
            recovered.append(job)
        elif known.state in _OPEN:
            post_everything(engine, job, reason="crash")
            recovered.append(job)
    return recovered


def post_everything(engine: Engine, job: Digest, *, reason: str, at: str | None = None) -> None:
    """Charge all that a job had reserved; `at` is the time to log, now unless given."""
    known = engine.state().jobs[job]
    body = {"job": job, "reason": reason, "posted": known.reserved.to_record()}
    engine.append(EntryKind.JOB_RECOVERED, body, at=at)
