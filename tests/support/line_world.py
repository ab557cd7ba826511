"""What the tests of the whole line share: books that must balance, a command line to run, and words that must not leak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandbox.jobs.export import export_bundle
from sandbox.jobs.replay import replay_bundle
from sandbox.ledger.account import State
from sandbox.ledger.verify import Trusted, verify_log
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.service.compose import unlock_named

ROOT = Path(__file__).parents[2]
PASSPHRASE = "a test's passphrase"
ENDED = {JobState.RELEASED, JobState.REFUSED, JobState.FAILED, JobState.RECOVERED}
AGREEMENT_ACCOUNT, DATASET_ACCOUNT = "agreement:clinic-test/clinic", "dataset:clinic/patient"


@dataclass(frozen=True)
class Told:
    """What a command did: its exit code, and what it said where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output; anything beside it is a fault."""
        return json.loads(self.out)


def environment(**changes: str | None) -> dict[str, str]:
    """Return a plain environment in which `saggar` runs, with its passphrase."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    base = {**kept, "PYTHONPATH": str(ROOT), "SAGGAR_PASSPHRASE": PASSPHRASE, "PYTHONWARNINGS": "default"}
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def command(*arguments: object) -> list[str]:
    """Return the command line of `saggar`."""
    return [sys.executable, "-m", "sandbox.cli.main", *map(str, arguments)]


def saggar(*arguments: object, cwd: Path, **changes: str | None) -> Told:
    """Run `saggar` as a person does, in a process of its own."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Told(done.returncode, done.stdout, done.stderr)


def check_books(state: State) -> None:
    """Assert that each account is what the jobs on it, and the profile, cost; and that nothing is over its limit."""
    for name, account in state.accounts.items():
        spent, held = NO_LOSS, NO_LOSS
        for job in state.jobs.values():
            if name in job.accounts:
                spent += job.posted
                held += job.reserved if job.state not in ENDED else NO_LOSS
            assert job.answered.fits(job.posted) or job.state not in ENDED, job
        profile = account.posted.minus(spent)  # raises if less was posted than the jobs cost
        if name.startswith("agreement:"):
            assert profile == NO_LOSS
        assert account.pending == held
        assert (account.posted + account.pending).fits(account.limit)


def check_log(records: Any) -> None:
    """Assert that both trees are whole and that the kept checkpoints hold over the log, offline."""
    records.ledger.check_tree()
    trusted = Trusted(records.state().origin, records.trusted(Role.SANDBOX), records.trusted(Role.WITNESS))
    verify_log(records.ledger.leaves(), records.ledger.checkpoints(), trusted)
    check_books(records.state())


def posted(world: Any, account: str = AGREEMENT_ACCOUNT) -> PrivacyLoss:
    """Return what an account has posted."""
    with world.records() as records:
        return records.state().accounts[account].posted


def kinds(world: Any, start: int = 0) -> list[str]:
    """Return the kinds of the entries from `start`."""
    with world.records() as records:
        return [entry.kind.value for entry in records.ledger.entries(start)]


def size(world: Any) -> int:
    """Return how many entries the log has."""
    with world.records() as records:
        return records.ledger.size


def last(world: Any, kind: EntryKind) -> dict[str, Any]:
    """Return the body of the newest entry of a kind."""
    with world.records() as records:
        return [entry.body for entry in records.ledger.entries() if entry.kind is kind][-1]


def computed_on(world: Any, compute: Any, nonce: str) -> str:
    """Run a job on a pool as the configuration chooses it, and return the digest of its partials."""
    from sandbox.jobs import questions
    from sandbox.service.config import Layout, StateConfig

    layout = Layout(world.state)
    replace(StateConfig.read(layout), compute=compute).write(layout)
    honest, seen = questions.measure, []

    def noted(plan: Any, partials: Any, *given: Any, **more: Any) -> Any:
        seen.append(partials.digest())
        return honest(plan, partials, *given, **more)

    questions.measure = noted  # type: ignore[assignment]
    try:
        world.run(nonce=nonce)
    finally:
        questions.measure = honest
    (digest,) = seen
    return digest


def exported(world: Any) -> dict[str, bytes]:
    """Return the bundle that the auditor takes away."""
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    with world.engine() as engine:
        return export_bundle(engine, by=auditor.public.key_id)


def replayed(world: Any) -> list[str]:
    """Return the verdicts of an auditor who replays everything at level 3, from a bundle alone."""
    auditor = unlock_named(world.state, "auditor", PASSPHRASE)
    findings = replay_bundle(exported(world), level=3, auditor=auditor)
    return [finding.verdict for finding in findings if finding.level == 3]


def files_below(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory as path -> bytes."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
