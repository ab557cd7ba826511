"""`kill -9` at any moment wastes budget at most and never returns it: real processes, real SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from sandbox.errors import JobError
from sandbox.jobs.publishing import publish
from sandbox.model.job import JobState
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from tests.conftest import MARKER, PROGRAM, PYTHON_JOB, SQL, SQL_JOB, World, copy_world
from tests.support.line_world import (
    AGREEMENT_ACCOUNT,
    DATASET_ACCOUNT,
    ENDED,
    ROOT,
    check_log,
    command,
    environment,
    files_below,
)

ACCOUNTS = (AGREEMENT_ACCOUNT, DATASET_ACCOUNT)
# How many entries each commit of a job holds; the reservation comes with the decision, the settlement with the gate.
SQL_COMMITS, PYTHON_COMMITS = (1, 2, 1, 1, 2), (1, 2, 1, 1, 1, 2)
SQL_APPENDS, PYTHON_APPENDS = len(SQL_COMMITS), len(PYTHON_COMMITS)
RESERVED_AT = 2
SQL_FILES = (2, 2, 1, 4, 4, 4, 4)  # for each document, how many are written side by side with it


class Driver:
    """The process that forks children which kill themselves."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash_driver"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, world, job, at=None, n=0, when=""):
        kill = None if at is None else {"at": at, "n": n, "when": when}
        self.process.stdin.write(json.dumps({"state": str(world.state), "job": job, "kill": kill}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        return reply["status"], reply["said"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(300)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def driver():
    driver = Driver()
    yield driver
    driver.close()


def facts(said, name):
    return [line[name] for line in said if name in line]


def spent_before(world):
    with world.records() as records:
        return {name: records.state().accounts[name].posted for name in ACCOUNTS}


def recover_and_check(world, before, answered, *, job):
    """Open what a dead process left, and assert every promise; return the job's facts, or None if the log has none."""
    with world.engine(wait_s=10) as engine:
        state = engine.state()
        assert all(known.state in ENDED for known in state.jobs.values())
        check_log(engine)
        publish(engine)
        check_log(engine)
        known = state.jobs.get(job)
        for name in ACCOUNTS:
            account = state.accounts[name]
            assert account.pending == NO_LOSS
            assert before[name].fits(account.posted), "budget was given back"
            assert (before[name] + answered).fits(account.posted), "an answer was given that nobody paid for"
            assert account.posted == before[name] + (NO_LOSS if known is None else known.posted)
    assert not any(MARKER.encode() in data for data in files_below(world.state).values())
    return known


def answered_in(said):
    losses = facts(said, "answered")
    return PrivacyLoss.parse(losses[-1]) if losses else NO_LOSS


@pytest.mark.parametrize("when", ["inside", "after"])
@pytest.mark.parametrize("n", range(1, SQL_APPENDS + 1))
def test_a_kill_at_every_append_of_an_sql_job_wastes_budget_at_most(driver, world, n, when):
    before = spent_before(world)
    status, said = driver.run(world, "sql", "append", n, when)
    assert status == -signal.SIGKILL
    known = recover_and_check(world, before, answered_in(said), job=facts(said, "job")[0])
    acknowledged = n if when == "after" else n - 1
    assert len(facts(said, "appended")) == sum(SQL_COMMITS[:acknowledged])
    if acknowledged == 0:
        assert known is None
    elif acknowledged < RESERVED_AT:
        assert (known.state, known.posted, known.ending) == (JobState.REFUSED, NO_LOSS, "job.crashed")
    elif acknowledged < SQL_APPENDS:
        assert (known.state, known.posted, known.ending) == (JobState.RECOVERED, known.reserved, "crash")
    else:
        assert (known.state, known.posted) == (JobState.RELEASED, known.reserved)


@pytest.mark.parametrize("n", range(RESERVED_AT, PYTHON_APPENDS + 1))
def test_a_kill_after_every_append_of_a_python_job_wastes_budget_at_most(driver, world, n):
    before = spent_before(world)
    status, said = driver.run(world, "python", "append", n, "after")
    assert status == -signal.SIGKILL
    known = recover_and_check(world, before, answered_in(said), job=facts(said, "job")[0])
    assert known.state is (JobState.RELEASED if n == PYTHON_APPENDS else JobState.RECOVERED)


@pytest.mark.parametrize("n", range(1, len(SQL_FILES) + 1))
def test_a_kill_between_a_document_and_its_rename_leaves_no_half_document(driver, world, n):
    before = spent_before(world)
    status, said = driver.run(world, "sql", "file", n, "inside")
    assert status == -signal.SIGKILL
    recover_and_check(world, before, answered_in(said), job=facts(said, "job")[0])
    half = {path for path in files_below(world.state / "documents") if path.endswith(".new")}
    assert 1 <= len(half) <= SQL_FILES[n - 1], "the kill was not where it was meant to be"
    with world.engine() as engine:
        for path in files_below(world.state / "documents" / "objects").keys() - {p.partition("/")[2] for p in half}:
            engine.documents.get(f"sm3:{path}")


def test_the_moments_above_are_all_the_moments_there_are(driver, world):
    fresh = copy_world(world, world.state.parent / "fresh")
    status, said = driver.run(world, "sql", "append", 99, "after")
    assert status == 0
    assert len(facts(said, "appended")) == sum(SQL_COMMITS)
    status, said = driver.run(world, "python", "append", 99, "after")
    assert status == 0
    assert len(facts(said, "appended")) == sum(PYTHON_COMMITS)
    assert facts(said, "appended")[sum(PYTHON_COMMITS[:RESERVED_AT]) - 1] == "budget.reserved"
    other = copy_world(fresh, world.state.parent / "other")
    assert driver.run(other, "sql", "file", len(SQL_FILES) + 1, "after")[0] == 0


def test_a_job_that_was_settled_when_the_power_went_is_released_later_for_nothing(driver, world):
    status, said = driver.run(world, "sql", "append", SQL_APPENDS, "after")
    assert status == -signal.SIGKILL
    assert not facts(said, "released")
    before = spent_before(world)
    released = world.run()
    assert released.release.job == facts(said, "job")[0]
    assert spent_before(world) == before


def test_a_job_that_was_charged_for_a_crash_can_be_asked_again_by_its_nonce_only(driver, world):
    status, said = driver.run(world, "sql", "append", 4, "after")
    assert status == -signal.SIGKILL
    with pytest.raises(JobError, match="already in the log as `recovered`") as refused:
        world.run()
    assert refused.value.code == "job.known"
    assert "--again" in refused.value.hint
    assert world.run(nonce="again").release.job != facts(said, "job")[0]


def test_a_crash_in_the_middle_of_a_recovery_is_recovered_too(driver, world):
    before = spent_before(world)
    status, said = driver.run(world, "sql", "append", 3, "after")
    assert status == -signal.SIGKILL
    script = (
        "import os, signal, sys; from pathlib import Path; from sandbox.jobs import recover; "
        "from tests.conftest import World; "
        "recover.post_everything = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL); "
        "w = World(Path(sys.argv[1]), Path()); w.engine().__enter__()"
    )
    died = subprocess.run(
        [sys.executable, "-c", script, str(world.state)], cwd=ROOT, env=environment(), check=False, timeout=300
    )
    assert died.returncode == -signal.SIGKILL
    known = recover_and_check(world, before, NO_LOSS, job=facts(said, "job")[0])
    assert known.state is JobState.RECOVERED


@pytest.mark.parametrize("draw", range(1, 6, 2))
@pytest.mark.parametrize("kind", ["job_sql.yaml", "job_python.yaml"])
def test_a_kill_of_the_real_command_at_a_random_time_wastes_budget_at_most(world, kind, draw):
    before = spent_before(world)
    job = digest_of_next(world, kind)
    process = subprocess.Popen(
        command("--state", world.state, "submit", world.files / kind, "--out", world.files / "out"),
        env=environment(),
        cwd=world.files,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_growth(world, process, entries=draw)
    time.sleep(random.Random(draw).uniform(0, 0.15))
    process.kill()
    process.wait(300)
    known = recover_and_check(world, before, NO_LOSS, job=job)
    if (world.files / "out").exists():
        assert known.state is JobState.RELEASED, "something left that the log does not have"


def wait_for_growth(world, process, *, entries):
    """Wait until a submission has appended so many entries, so that the kills spread over its whole life."""
    with world.records() as records:
        start = records.ledger.size
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline and records.ledger.size < start + entries:
            time.sleep(0.002)


def digest_of_next(world: World, kind: str) -> str:
    from sandbox.jobs.specify import specify
    from sandbox.model.load_job import load_job

    text, code = (SQL_JOB, SQL) if kind == "job_sql.yaml" else (PYTHON_JOB, PROGRAM)
    with world.records() as records:
        return specify(records, load_job(text, kind), code).digest()


def test_the_children_of_a_killed_process_do_not_hold_the_state(world):
    process = subprocess.Popen(
        command("--state", world.state, "submit", world.files / "job_python.yaml", "--out", world.files / "out"),
        env=environment(),
        cwd=world.files,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_growth(world, process, entries=5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(300)
    with world.engine(wait_s=2) as engine:
        check_log(engine)
