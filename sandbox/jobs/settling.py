"""Settle and release: one entry fixes what left and what it cost; a cosigned checkpoint lets it go."""

from __future__ import annotations

import math
from typing import Any

from sandbox.errors import CancelledError, JobError, SaggarError
from sandbox.jobs.engine import Engine
from sandbox.jobs.gate import check_permit
from sandbox.jobs.publishing import publish, receipt_for, witness_hint
from sandbox.jobs.stages import Gated, Measured, Released, Reserved, Settled
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import Digest, digest_of
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.release import Release
from sandbox.privacy.accounting import people_loss


def settle(engine: Engine, gated: Gated) -> Settled:
    """Log that the gate let exact bytes pass, post the loss and fix the release; void what was not spent.

    What passed the gate and what it cost are one commit: neither is ever in the log without the other.
    """
    measured = gated.measured
    reserved = measured.reserved
    release = _release_of(gated)
    transcript = measured.transcript.to_bytes()
    check_permit(
        gated.permit,
        job=release.job,
        outputs=release.outputs,
        transcript=digest_of(transcript),
        key=engine.key.public,
    )
    permit = canonical_bytes(gated.permit.to_record())
    digests = engine.documents.put_all(transcript, permit, release.to_bytes(), *measured.envelopes)
    passed = {"job": release.job, "permit": digests[1], "output": gated.permit.output}
    body = _settlement(engine, measured, transcript=digests[0], release=digests[2], code=None)
    entries = engine.append_all((EntryKind.JOB_GATED, passed), (EntryKind.JOB_SETTLED, body), at=reserved.at)
    return Settled(release.job, release, entries[-1].seq)


def settle_failed(engine: Engine, measured: Measured, error: SaggarError) -> None:
    """Post what was answered of a job that failed or was stopped at the gate; nothing leaves."""
    transcript, *_ = engine.documents.put_all(measured.transcript.to_bytes(), *measured.envelopes)
    body = _settlement(engine, measured, transcript=transcript, release=None, code=error.code)
    engine.append(EntryKind.JOB_SETTLED, body, at=measured.reserved.at)


def release(engine: Engine, job: Digest) -> Released:
    """Return what leaves, once a cosigned checkpoint includes the settlement.  Doing it twice gives the same bytes.

    Raises:
        WitnessError: the witness did not cosign; nothing leaves, and asking again later is free.
    """
    known = engine.state().jobs[job]
    if known.state is not JobState.RELEASED or known.release is None or known.ended_seq is None:
        raise JobError(
            f"the job has no release, it is `{known.state}`", hint="see `saggar show`", code="job.no_release"
        )
    raw = engine.documents.get(known.release)
    parsed = Release.parse(raw)
    check_permit(
        parsed.permit,
        job=job,
        outputs=parsed.outputs,
        transcript=parsed.permit.transcript,
        key=engine.key.public,
    )
    with witness_hint("then submit the same job again; it costs nothing more"):
        publish(engine)
    return Released(parsed, raw, receipt_for(engine, known.ended_seq))


def duration_bucket_s(elapsed_s: float) -> int:
    """Return the public duration: the next power of two seconds, at least 1.  The line pads to it."""
    return max(1, int(2 ** math.ceil(math.log2(max(elapsed_s, 1e-9)))))


def pad_duration(engine: Engine, reserved: Reserved) -> int:
    """Return the public duration in seconds, once it has passed; how a job ends must not show in a shorter one."""
    bucket_s = duration_bucket_s(engine.clock.monotonic_s() - reserved.started_s)
    engine.clock.sleep_until_s(reserved.started_s + bucket_s)
    return bucket_s


def _settlement(
    engine: Engine, measured: Measured, *, transcript: Digest, release: Digest | None, code: str | None
) -> dict[str, object]:
    reserved = measured.reserved
    if code == CancelledError.code:  # Who cancelled knows when; every other end comes at the end of its bucket.
        bucket_s = duration_bucket_s(engine.clock.monotonic_s() - reserved.started_s)
    else:
        bucket_s = pad_duration(engine, reserved)
    return {
        "job": measured.transcript.job,
        "outcome": "failed" if release is None else "released",
        "code": code,
        "posted": measured.spent.to_record(),
        "release": release,
        "transcript": transcript,
        "duration_bucket_s": bucket_s,
        "isolation": _isolation(reserved.admitted.isolation),
    }


def _isolation(report: dict[str, Any]) -> dict[str, Any]:
    """Return the flat facts of the walls that every release's entry carries."""
    return {name: report[name] for name in ("level", "kernel", "landlock_abi", "filter_digest") if name in report}


def _release_of(gated: Gated) -> Release:
    measured = gated.measured
    submitted = measured.reserved.admitted.submitted
    spec, spent = submitted.spec, measured.spent
    epsilon, delta = people_loss(spent)
    return Release(
        job=submitted.job,
        name=spec.name,
        agreement=spec.agreement,
        product=spec.product,
        purpose=spec.purpose,
        snapshots=spec.snapshots,
        loss=spent,
        epsilon=epsilon,
        delta=delta,
        outputs=gated.outputs,
        permit=gated.permit,
        isolation=measured.reserved.admitted.isolation["level"],
    )
