"""A permit is checked again wherever something could leave: at settling, and at every release."""

import pytest

from sandbox.errors import GateError, JobError, SaggarError, SignatureError
from sandbox.jobs import line, settling
from sandbox.jobs.settling import duration_bucket_s, release
from sandbox.model.digest import digest_of
from sandbox.model.job import JobState
from tests.conftest import SQL_JOB


def test_outputs_changed_after_the_gate_do_not_settle(world, monkeypatch):
    from dataclasses import replace

    honest = line.gate

    def bent(measured, key):
        gated = honest(measured, key)
        return replace(gated, outputs={"answer": {"kind": "answer", "rows": []}})

    monkeypatch.setattr(line, "gate", bent)
    with pytest.raises(GateError) as refused:
        world.run()
    assert refused.value.code == "job.gate.permit"
    with world.engine() as engine:
        (job,) = engine.state().jobs.values()
        assert (job.state, job.release) == (JobState.RECOVERED, None)


def test_a_permit_by_another_key_does_not_settle(world, monkeypatch):
    from sandbox.crypto.keys import generate_key
    from sandbox.model.keys import Role, SuiteName

    honest, other = line.gate, generate_key("sandbox", Role.SANDBOX, SuiteName.GM)
    monkeypatch.setattr(line, "gate", lambda measured, _: honest(measured, other))
    with pytest.raises((SignatureError, SaggarError)) as refused:
        world.run()
    assert refused.value.code.startswith("policy.signature")


def test_a_stored_release_that_was_changed_on_disk_does_not_leave_again(world):
    released = world.run()
    path = world.state / "documents" / "objects" / digest_of(released.raw).partition(":")[2]
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"north"', b'"North"', 1))
    with pytest.raises(SaggarError, match="was changed on disk") as refused:
        world.run()
    assert refused.value.code == "vault.seal_broken"
    path.unlink()
    with pytest.raises(SaggarError, match="is not in the store") as refused:
        world.run()
    assert refused.value.code == "vault.storage"
    path.write_bytes(raw)
    assert world.run().raw == released.raw


def test_a_job_without_a_release_has_nothing_to_release(world):
    with pytest.raises(SaggarError):
        world.run(SQL_JOB.replace("public-governance", "advertising"))
    with world.engine() as engine:
        (job,) = engine.state().jobs
        with pytest.raises(JobError, match="the job has no release, it is `refused`") as refused:
            release(engine, job)
        assert refused.value.code == "job.no_release"


def test_a_public_duration_is_a_power_of_two_and_never_shorter_than_the_real_one():
    assert [duration_bucket_s(s) for s in (0.0, 0.2, 1.0, 1.1, 2.0, 3.0, 4.5, 100.0)] == [1, 1, 1, 2, 2, 4, 8, 128]


def test_the_line_waits_until_the_public_duration_is_over(world, monkeypatch):
    waited = []

    class Clock:
        def __init__(self, clock):
            self._clock = clock

        def sleep_until_s(self, moment_s):
            waited.append(moment_s - self._clock.monotonic_s())

        def __getattr__(self, name):
            return getattr(self._clock, name)

    from dataclasses import replace

    from tests.conftest import SQL

    with world.engine() as engine:
        patient = replace(engine, clock=Clock(engine.clock))
        line.run_job(patient, world.signed(patient, SQL_JOB, SQL))
        body = [e.body for e in engine.ledger.entries() if "duration_bucket_s" in e.body][-1]
    assert len(waited) == 1
    assert body["duration_bucket_s"] in (1, 2, 4, 8, 16)
    assert settling.duration_bucket_s(body["duration_bucket_s"]) == body["duration_bucket_s"]
