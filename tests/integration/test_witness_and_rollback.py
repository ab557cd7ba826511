"""Nothing leaves without the witness: when it is away, when it refuses, and when the log was rolled back."""

import shutil

import pytest

from sandbox.errors import ConsistencyError, DeniedError, GateError, SaggarError, WitnessError
from sandbox.jobs.export import export_bundle
from sandbox.jobs.line import run_job
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role
from sandbox.model.loss import NO_LOSS
from tests.conftest import PROGRAM, PYTHON_JOB, SQL, SQL_JOB, copy_world
from tests.support.line_world import AGREEMENT_ACCOUNT, check_log, kinds, last, posted, saggar, size


def keep_ledger(world, to):
    shutil.copytree(world.state / "ledger", to)


def put_back(world, kept):
    shutil.rmtree(world.state / "ledger")
    shutil.copytree(kept, world.state / "ledger")


@pytest.fixture
def leaves_after_opening(monkeypatch):
    """The witness dies once it has cosigned a job's reservation, as its machine may at any time."""
    from sandbox.jobs import line

    honest, died = line.log_opening, []

    def opened(engine, reserved):
        honest(engine, reserved)
        engine.witness._process.kill()
        engine.witness._process.wait()
        died.append(True)

    monkeypatch.setattr(line, "log_opening", opened)
    yield
    assert died


@pytest.mark.parametrize(("job", "code"), [(SQL_JOB, SQL), (PYTHON_JOB, PROGRAM)], ids=["sql", "python"])
def test_while_the_witness_is_away_no_data_is_opened_and_nothing_is_spent(world, job, code):
    key = world.state / "witness" / "witness.key"
    hidden = key.rename(key.with_suffix(".away"))
    before, entries = posted(world), size(world)
    with pytest.raises(WitnessError, match="the witness refused: the witness's key cannot be read") as refused:
        world.run(job, code)
    assert refused.value.code.startswith("ledger.witness")
    assert "--again" in refused.value.hint
    assert kinds(world, entries) == ["job.submitted", "job.decided", "budget.reserved", "job.refused"]
    assert last(world, EntryKind.JOB_REFUSED)["stage"] == "witness"
    assert last(world, EntryKind.JOB_REFUSED)["code"] == refused.value.code
    with world.records() as records:
        (known,) = records.state().jobs.values()
        assert (known.state, known.posted) == (JobState.REFUSED, NO_LOSS)
        assert all(account.pending == NO_LOSS for account in records.state().accounts.values())
    assert posted(world) == before
    hidden.rename(key)
    assert world.run(job, code, nonce="again").raw
    with world.engine() as engine:
        check_log(engine)


def test_a_program_whose_reservation_is_not_cosigned_leaves_no_process(world):
    """A past leak: the process that was begun while the witness was asked waited for the next job."""
    (world.state / "witness" / "witness.key").unlink()
    with world.engine() as engine:
        with pytest.raises(WitnessError):
            run_job(engine, world.signed(engine, PYTHON_JOB, PROGRAM))
        assert engine.guests().memory_bytes() == ()


def test_when_the_witness_goes_after_data_was_opened_nothing_leaves_and_later_it_leaves_for_nothing(
    world, leaves_after_opening
):
    with pytest.raises(WitnessError, match="the witness does not answer") as refused:
        world.run()
    assert refused.value.code == "ledger.witness.unreachable"
    assert "costs nothing more" in refused.value.hint
    before = posted(world)
    with world.records() as records:
        (job,) = records.state().jobs.values()
        assert job.state is JobState.RELEASED
        stored = records.documents.get(job.release)
    released = world.run()
    assert released.raw == stored
    assert posted(world) == before
    with world.engine() as engine:
        check_log(engine)


def test_a_witness_that_is_away_does_not_hide_why_a_job_was_refused(world):
    (world.state / "witness" / "witness.key").unlink()
    with pytest.raises(DeniedError, match="purpose-agreed"):
        world.run(SQL_JOB.replace("public-governance", "advertising"))


def test_a_witness_that_goes_does_not_hide_why_a_job_failed(world, leaves_after_opening):
    with pytest.raises(GateError, match="`undeclared` was not declared"):
        world.run(PYTHON_JOB, PROGRAM.replace('"mean_days"', '"undeclared"'))


def test_on_the_command_line_a_witness_that_is_away_means_exit_7_and_an_empty_hand(world):
    (world.state / "witness" / "witness.key").unlink()
    told = saggar(
        "--state", world.state, "submit", world.files / "job_sql.yaml", "--out", world.files / "out", "--json",
        cwd=world.files,
    )  # fmt: skip
    assert told.code == 7
    assert told.json["error"]["code"].startswith("ledger.witness")
    assert not (world.files / "out").exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe nonsense"], ids=["empty", "json", "bytes"])
def test_a_damaged_witness_key_is_told_and_nothing_leaves(world, damage):
    (world.state / "witness" / "witness.key").write_bytes(damage)
    with pytest.raises(WitnessError, match="the witness refused"):
        world.run()


def test_a_witness_that_dies_is_told_as_unreachable(world, monkeypatch):
    import sys

    from sandbox.service import witness_client

    monkeypatch.setattr(witness_client.sys, "executable", shutil.which("true"))
    before, entries = posted(world), size(world)
    with pytest.raises(WitnessError, match="the witness does not answer, so nothing is opened") as refused:
        world.run()
    assert refused.value.code == "ledger.witness.unreachable"
    assert "nothing was opened or spent" in refused.value.hint
    assert kinds(world, entries)[-1] == "job.refused"
    assert posted(world) == before
    monkeypatch.undo()
    assert sys.executable
    assert world.run(nonce="again").raw


def test_a_log_that_was_rolled_back_measures_and_releases_nothing(world, tmp_path, monkeypatch):
    from sandbox.jobs import line

    keep_ledger(world, tmp_path / "kept")
    first = world.run()
    put_back(world, tmp_path / "kept")
    entries = size(world)
    monkeypatch.setattr(line, "measure_job", lambda *_: pytest.fail("a rolled-back log opened data"))
    with pytest.raises(SaggarError) as refused:  # the same job once more, in a log that does not know it
        world.run()
    assert isinstance(refused.value, ConsistencyError)
    assert refused.value.code.startswith("ledger.consistency")
    for job, code, nonce in ((SQL_JOB, SQL, "other"), (PYTHON_JOB, PROGRAM, "other")):
        with pytest.raises(ConsistencyError):
            world.run(job, code, nonce=nonce)
    with world.engine() as engine:
        taker = engine.trusted(Role.AUDITOR)[0].key_id
        with pytest.raises(ConsistencyError):
            export_bundle(engine, by=taker)
    assert first.raw
    assert "vault.opened" not in kinds(world, entries)


def test_a_shorter_log_than_the_witness_saw_is_called_rolled_back(world, tmp_path):
    keep_ledger(world, tmp_path / "kept")
    seen = size(world)
    world.run()
    world.run(nonce="2")
    put_back(world, tmp_path / "kept")
    with pytest.raises(
        ConsistencyError, match=rf"the witness has seen {seen + 14} entries, this log has {seen + 3}"
    ) as refused:
        world.run()
    assert refused.value.code == "ledger.consistency.rolled_back"
    assert "rolled back" in refused.value.hint


def test_a_log_that_grew_past_what_the_witness_saw_is_a_fork(world, tmp_path):
    keep_ledger(world, tmp_path / "kept")
    world.run()
    put_back(world, tmp_path / "kept")
    for nonce in ("a", "b"):
        with pytest.raises(ConsistencyError):
            world.run(nonce=nonce)
    with pytest.raises(ConsistencyError, match="does not extend what this witness cosigned"):
        world.run(nonce="c")


def test_putting_the_newest_log_back_makes_everything_well_again(world, tmp_path):
    first = world.run()
    keep_ledger(world, tmp_path / "newest")
    copy_world(world, tmp_path / "elsewhere")
    put_back(world, tmp_path / "newest")
    assert world.run().raw == first.raw
    with world.engine() as engine:
        check_log(engine)
        assert engine.state().accounts[AGREEMENT_ACCOUNT].posted.fits(engine.state().accounts[AGREEMENT_ACCOUNT].limit)


def test_a_witness_of_another_log_does_not_cosign(world, tmp_path, new_world):
    other = new_world("gm")
    shutil.rmtree(world.state / "witness")
    shutil.copytree(other.state / "witness", world.state / "witness")
    with pytest.raises(SaggarError) as refused:
        world.run()
    assert refused.value.code.startswith("ledger.")
    with world.records() as records:
        (job,) = records.state().jobs.values()
        assert not any(note for note in records.ledger.checkpoints(least_size=job.ended_seq + 1))
