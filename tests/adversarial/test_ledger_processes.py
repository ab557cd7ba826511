"""Real processes against one ledger: they never overspend together, and a killed one leaves a valid log."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

from sandbox.ledger.account import state_digest
from sandbox.ledger.checkpoint import Checkpoint
from sandbox.ledger.merkle import HASH_NAMES, verify_consistency
from sandbox.ledger.store import Ledger
from sandbox.ledger.verify import Trusted, fold_log, verify_log
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import SuiteName
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from tests.support import ledger_world as city

# One worker: it takes jobs down the line, one entry a commit, and prints a line for each commit it was told of.
WORKER = """
import sys
from pathlib import Path
import sandbox.ledger.store as store
from sandbox.errors import BudgetExhaustedError
from sandbox.model.entry import EntryKind
from tests.support import ledger_world as city

store.read_mounts = lambda: ""
name, count, stop_after = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
amount = city.loss(sys.argv[5])
with store.Ledger.open(Path(sys.argv[1])) as ledger:
    print("ready", flush=True)
    for number in range(count):
        job = city.digest(f"{name} {number}")
        try:
            for kind, body in city.line_of(job)[:stop_after]:
                if kind is EntryKind.BUDGET_RESERVED:
                    body = city.reserving(job, amount)
                if kind is EntryKind.QUESTION_ANSWERED:
                    body = city.answering(job, 0, amount)
                if kind is EntryKind.JOB_SETTLED:
                    body = city.settling(job, posted=amount)
                entry = ledger.append(kind, city.SANDBOX.key_id, body, city.START)
                print(entry.seq, flush=True)
        except BudgetExhaustedError:
            ledger.append(EntryKind.JOB_REFUSED, city.SANDBOX.key_id, city.refusing(job), city.START)
"""


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch):
    """Temporary directories may be in memory on some machines; what is tested here is not that."""
    monkeypatch.setattr("sandbox.ledger.store.read_mounts", lambda: "/dev/sda / ext4 rw 0 0\n")


@pytest.fixture
def directory(tmp_path):
    with Ledger.create(
        tmp_path / "state", origin=city.ORIGIN, suite=SuiteName.GM, key=city.SANDBOX, versions={}, at=city.START
    ) as ledger:
        city.found(ledger)
    return tmp_path / "state"


def start(directory, name, count, stop_after, rho):
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), name, str(count), str(stop_after), rho],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )


def check_whole(directory):
    """Rebuild, replay and re-root the log in every way there is; return its state."""
    with Ledger.open(directory) as ledger:
        ledger.check_tree()
        leaves = list(ledger.leaves())
        state = ledger.state()
        assert state_digest(fold_log(leaves)) == state_digest(state)
        note = city.cosigned(ledger)
        trusted = Trusted(city.ORIGIN, (city.sandbox_key().public,), (city.witness_key().public,))
        assert verify_log(leaves, [note], trusted).covered == len(leaves)
    for account in state.accounts.values():
        assert (account.posted + account.pending).fits(account.limit)
    return state


def test_four_processes_spend_a_budget_to_the_last_and_never_beyond(directory):
    workers = [start(directory, f"worker {number}", 5, 3, "1/2") for number in range(4)]
    seen = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert (worker.returncode, err) == (0, "")
        seen += [int(line) for line in out.split()[1:]]
    assert len(seen) == len(set(seen)), "two processes were given the same number"
    state = check_whole(directory)
    account = state.accounts[city.ACCOUNTS[0]]
    # 20 jobs asked for 1/2 each and the agreement has 4: eight hold it, twelve were refused.
    assert (account.pending, account.posted) == (PrivacyLoss(Fraction(4)), NO_LOSS)
    assert account.remaining.rho == 0
    standing = [job.state for job in state.jobs.values()]
    assert (standing.count(JobState.RESERVED), standing.count(JobState.REFUSED)) == (8, 12)
    assert state.accounts[city.ACCOUNTS[1]].pending == PrivacyLoss(Fraction(4))


def test_an_appender_killed_at_any_moment_leaves_a_valid_log_with_all_it_acknowledged(directory):
    draw = random.Random(20260301)
    head: Checkpoint | None = None
    posted = Fraction(0)
    for round_number in range(8):
        worker = start(directory, f"round {round_number}", 1000, 7, "1/500")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0.0, 0.15))
        worker.kill()
        out, _ = worker.communicate(timeout=300)
        told = [int(line) for line in out.split("\n")[:-1]]
        state = check_whole(directory)
        assert state.size > max(told, default=0), "an acknowledged entry is gone"
        with Ledger.open(directory) as ledger:
            if head is not None:
                for name in HASH_NAMES:
                    verify_consistency(
                        head.size,
                        ledger.size,
                        head.roots.of(name),
                        ledger.roots().of(name),
                        ledger.consistency(head.size).of(name),
                        name,
                    )
            for job in list(state.jobs.values()):
                if job.state in {JobState.RESERVED, JobState.OPENED, JobState.GATED}:
                    body = city.recovering(job.job, job.reserved.to_record())
                    ledger.append(EntryKind.JOB_RECOVERED, city.SANDBOX.key_id, body, city.START)
            head = ledger.checkpoint()
            account = ledger.state().accounts[city.ACCOUNTS[0]]
        assert account.pending == NO_LOSS
        assert account.posted.rho >= posted, "something was given back"
        posted = account.posted.rho
    ended = [job for job in state.jobs.values() if job.state is JobState.RELEASED]
    assert posted >= Fraction(1, 500) * len(ended)
    assert ended, "no job was ever released, so nothing was tested"
