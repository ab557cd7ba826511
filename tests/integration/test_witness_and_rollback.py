"""Nothing leaves without the witness: when it is away, when it refuses, and when the log was rolled back."""

import shutil

import pytest

from sandbox.errors import ConsistencyError, DeniedError, GateError, SaggarError, WitnessError
from sandbox.jobs.export import export_bundle
from sandbox.model.job import JobState
from sandbox.model.keys import Role
from tests.conftest import PROGRAM, PYTHON_JOB, SQL, SQL_JOB, copy_world
from tests.support.line_world import AGREEMENT_ACCOUNT, check_log, posted, saggar, size


def keep_ledger(world, to):
    shutil.copytree(world.state / "ledger", to)


def put_back(world, kept):
    shutil.rmtree(world.state / "ledger")
    shutil.copytree(kept, world.state / "ledger")


def test_while_the_witness_is_away_a_job_settles_and_nothing_leaves_and_later_it_leaves_for_nothing(world):
    key = world.state / "witness" / "witness.key"
    hidden = key.rename(key.with_suffix(".away"))
    with pytest.raises(WitnessError, match="the witness refused: the witness's key cannot be read") as refused:
        world.run()
    assert refused.value.code.startswith("ledger.witness")
    assert refused.value.hint
    before = posted(world)
    with world.records() as records:
        (job,) = records.state().jobs.values()
        assert job.state is JobState.RELEASED
        stored = records.documents.get(job.release)
    with pytest.raises(WitnessError):
        world.run()
    hidden.rename(key)
    released = world.run()
    assert released.raw == stored
    assert posted(world) == before
    with world.engine() as engine:
        check_log(engine)


def test_a_witness_that_is_away_does_not_hide_why_a_job_was_refused_or_failed(world):
    (world.state / "witness" / "witness.key").unlink()
    with pytest.raises(DeniedError, match="purpose-agreed"):
        world.run(SQL_JOB.replace("public-governance", "advertising"))
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
    with pytest.raises(WitnessError, match="the witness does not answer, so nothing may leave") as refused:
        world.run()
    assert refused.value.code == "ledger.witness.unreachable"
    assert "costs nothing more" in refused.value.hint
    monkeypatch.undo()
    assert sys.executable
    before = posted(world)
    world.run()
    assert posted(world) == before


def test_a_log_that_was_rolled_back_releases_nothing_new(world, tmp_path):
    keep_ledger(world, tmp_path / "kept")
    first = world.run()
    put_back(world, tmp_path / "kept")
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


def test_a_shorter_log_than_the_witness_saw_is_called_rolled_back(world, tmp_path):
    keep_ledger(world, tmp_path / "kept")
    seen = size(world)
    world.run()
    world.run(nonce="2")
    put_back(world, tmp_path / "kept")
    with pytest.raises(
        ConsistencyError, match=rf"the witness has seen {seen + 14} entries, this log has {seen + 7}"
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
