"""`saggar demo`: the kiln fired once, on real data, from a department's file to the auditor's verdict."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sandbox.cli.session import console, session, told
from sandbox.cli.tables import Table
from sandbox.errors import ReplayMismatchError, SaggarError, StateUnsafeError
from sandbox.model.agreement import Agreement
from sandbox.model.digest import short
from sandbox.model.keys import Role, SuiteName
from sandbox.model.transcript import question_words

PASSPHRASE = "fire the kiln"  # noqa: S105  (the demo's own, printed at its end; a city chooses another)
_PARTIES = (
    ("operator", Role.OPERATOR),
    ("agency", Role.AGENCY),
    ("health", Role.DEPARTMENT),
    ("auditor", Role.AUDITOR),
)
_STEPS = 9
_OWN_QUESTION = (
    "SELECT readmitted, COUNT(*) AS n, AVG(num_medications) AS drugs "
    "FROM encounters WHERE age = '[70-80)' GROUP BY readmitted"
)


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="Example: saggar demo --out demo-out")(demo)


@told
def demo(
    out: Annotated[Path, typer.Option(help="Where releases and the audit bundle go.")] = Path("demo-out"),
    state: Annotated[Path, typer.Option(help="The demo's state directory; made over if a demo made it.")] = Path(
        "demo-state"
    ),
    suite: Annotated[SuiteName, typer.Option(help="gm or intl.")] = SuiteName.GM,
) -> None:
    """Fire the kiln once on real hospital data: seal, agree, quote, two jobs, three attacks, an audit 演示."""
    started_s = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("lighting the kiln 点火", total=_STEPS)

        def step(what: str) -> None:
            bar.update(task, description=what, advance=1)

        firing = Firing(state, out, suite, step)
        firing.prepare()
        firing.seal()
        firing.agree()
        firing.quote()
        firing.ask()
        firing.attack()
        firing.audit()
    firing.report()
    console.print(f"[dim]fired in {time.monotonic() - started_s:.0f} s[/]")


class Firing:
    """One run of the demo; each method is one of the ten points, done as a user would do it.

    Args:
        state: the demo's state directory.
        out: where releases and the bundle go.
        suite: the suite everything is sealed and signed in.
        step: told what begins.
    """

    def __init__(self, state: Path, out: Path, suite: SuiteName, step: Callable[[str], None]) -> None:
        self._state, self._out, self._suite, self._step = state, out, suite, step
        self._examples = Path(str(files("examples.hospital")))
        self._shown: list[Any] = []
        self._refused: list[tuple[str, SaggarError]] = []
        self._findings: list[Any] = []
        self._tamper = ""
        session.state = state

    def prepare(self) -> None:
        """Make the state directory and the parties' keys."""
        from sandbox.crypto.keyfile import lock_key
        from sandbox.crypto.keys import generate_key
        from sandbox.service.compose import initialise, register_key
        from sandbox.service.config import Layout
        from sandbox.service.files import write_durably

        self._step("making keys, a log and a vault 初始化")
        _clear(self._state, self._out)
        initialise(self._state, suite=self._suite, passphrase=PASSPHRASE, origin="saggar.demo/hospital", demo=True)
        with self._engine() as engine:
            for name, role in _PARTIES:
                key = generate_key(name, role, self._suite)
                write_durably(Layout(self._state).keys / f"{name}.key", lock_key(key, PASSPHRASE))
                register_key(engine, key.public)

    def seal(self) -> None:
        """Read the department's file and seal it."""
        from connectors.csv_source import CsvSource
        from sandbox.cli.datasets import quality_table
        from sandbox.jobs.ingest import ingest
        from sandbox.model.load_description import load_description

        self._step("sealing 101,766 hospital encounters 封装")
        described = load_description(self._text("hospital.yaml"), "hospital.yaml")
        sources: list[CsvSource] = []

        def rows(*tokenisers: Any) -> CsvSource:
            sources.append(CsvSource(self._examples / "encounters.csv.zip", described, *tokenisers))
            return sources[0]

        with self._engine() as engine:
            sealed = ingest(engine, described, rows, suite=self._suite, owner="health")
        self._shown.append(quality_table(described, sources[0].report()))
        self._shown.append(
            f"sealed as snapshot {short(sealed.snapshot)}, suite {self._suite.value}; nothing in clear on disk\n"
        )

    def agree(self) -> None:
        """Sign the agreement by both parties and register it."""
        from sandbox.cli.datasets import agreement_table
        from sandbox.crypto.signing import sign
        from sandbox.jobs.agree import register_agreement
        from sandbox.model.agreement import SIGNING_CONTEXT, SignedAgreement
        from sandbox.model.canonical import canonical_bytes
        from sandbox.model.load_agreement import load_agreement
        from sandbox.service.compose import unlock_named

        self._step("signing the agreement 签署协议")
        with self._engine() as engine:
            parties = {key.name: key.key_id for key in engine.state().keys.values()}
            written = load_agreement(self._text("agreement.yaml"), "agreement.yaml", parties)
            terms = _beginning_now(written, engine.clock.now())
            message = canonical_bytes(terms.to_record())
            signatures = tuple(
                sign(unlock_named(self._state, name, PASSPHRASE), SIGNING_CONTEXT, message)
                for name in ("operator", "agency")
            )
            register_agreement(engine, SignedAgreement(terms, signatures))
        self._shown.append(agreement_table(terms, {key_id: name for name, key_id in parties.items()}))

    def quote(self) -> None:
        """Ask what the SQL job would cost."""
        from sandbox.cli.asking import Asking, of_the_log
        from sandbox.cli.render import quote_tables
        from sandbox.cli.work import operator_of
        from sandbox.jobs.quoting import quote_job
        from sandbox.jobs.specify import specify
        from sandbox.service.compose import open_records

        self._step("quoting 报价")
        with open_records(self._state) as records:
            asked = of_the_log(records, Asking(self._examples / "job_sql.yaml"))
            spec = specify(records, asked.job, asked.code)
            quoted = quote_job(records, spec, asked.code, operator=operator_of(records, spec))
        self._shown.append("the quote for the SQL job, before anything is spent 报价:")
        self._shown += quote_tables(quoted)

    def ask(self) -> None:
        """Run the SQL job and the Python job."""
        for name, what in (("job_sql.yaml", "the SQL job 查询作业"), ("job_python.yaml", "the Python job 程序作业")):
            self._step(f"firing {what}")
            delivery = self._run(name)
            self._shown.append(Panel(self._asked(delivery.release.job), title=f"asked by {name}", title_align="left"))
            self._shown.append((name, delivery))

    def attack(self) -> None:
        """Try the three attacks; each must be refused."""
        attacks = (
            ("raw rows by SQL 索取原始行", "attack_rows.yaml"),
            ("a program that opens a file and a socket 读文件与联网", "attack_files.yaml"),
            ("a job over budget 超出预算", "attack_budget.yaml"),
        )
        self._step("three attacks 三次攻击")
        for what, name in attacks:
            try:
                self._run(name)
            except SaggarError as error:
                self._refused.append((what, error))
            else:
                raise AssertionError(f"the attack {name} was not refused")

    def audit(self) -> None:
        """Export a bundle, replay it at levels 0 to 3, and show that one changed byte is found and named."""
        from sandbox.cli.audit import read_bundle
        from sandbox.jobs.export import export_bundle
        from sandbox.jobs.replay import replay_bundle
        from sandbox.service.compose import lazy_guests, unlock_named
        from sandbox.service.files import write_durably

        self._step("exporting the audit bundle 导出")
        with self._engine() as engine:
            taker = next(key for key in engine.state().keys.values() if key.name == "auditor")
            bundle = export_bundle(engine, by=taker.key_id)
        for path, data in bundle.items():
            write_durably(self._out / "bundle" / path, data, mode=0o644)
        self._step("the auditor replays 审计重放")
        copy = read_bundle(self._out / "bundle")
        with lazy_guests() as guests:
            key = unlock_named(self._state, "auditor", PASSPHRASE)
            self._findings = replay_bundle(copy, level=3, auditor=key, guests=guests)
        victim = min(path for path in copy if path.startswith("documents/"))
        flipped = copy[victim][:-1] + bytes([copy[victim][-1] ^ 1])
        try:
            replay_bundle({**copy, victim: flipped}, level=0)
        except SaggarError as error:
            self._tamper = f"one byte changed in {victim}: found and named: {error.message}"
        if not self._tamper:
            raise ReplayMismatchError("a changed byte was not found", hint="report this", place=victim)

    def report(self) -> None:
        """Print everything that was asked, refused, spent and verified."""
        from sandbox.cli.audit import findings_table
        from sandbox.cli.render import accounts_table
        from sandbox.jobs.quoting import account_line
        from sandbox.model.loss import NO_LOSS
        from sandbox.service.compose import open_records

        for part in self._shown:
            if isinstance(part, tuple):
                name, delivery = part
                console.rule(f"what left 出窑: {name}")
                delivery.show(console)
            else:
                console.print(part)
        table = Table(title="three attacks, refused 三次攻击均被拒绝", title_justify="left")
        for heading in ("attack 攻击", "why it was refused 拒绝原因", "code"):
            table.add_column(heading)
        for what, error in self._refused:
            table.add_row(what, error.message, error.code)
        console.print(table)
        with open_records(self._state) as records:
            lines = [account_line(records, name, NO_LOSS) for name in sorted(records.state().accounts)]
        console.print(accounts_table(lines, title="what remains of the budget 剩余预算"))
        console.print(findings_table(self._findings))
        console.print(f"[green]✓[/] {self._tamper}")
        console.print("\nask your own question 试着自己提问:")
        console.print(
            f'[cyan]  export SAGGAR_PASSPHRASE="{PASSPHRASE}"\n'
            f"  .venv/bin/saggar --state {self._state} submit --epsilon 0.3 --sql \\\n"
            f'    "{escape(_OWN_QUESTION)}"[/]',
            soft_wrap=True,
        )

    def _asked(self, job: str) -> str:
        """Return the questions of a job, as its transcript has them."""
        from sandbox.jobs.registry import transcript_of
        from sandbox.service.compose import open_records

        with open_records(self._state) as records:
            exchanges = transcript_of(records, job).exchanges
        return "\n".join(f"{number}. {question_words(e.question)}" for number, e in enumerate(exchanges, 1))

    def _run(self, name: str) -> Any:
        from sandbox.cli.asking import Asking, of_the_log
        from sandbox.cli.work import run_and_deliver
        from sandbox.jobs.specify import specify

        with self._engine() as engine:
            asked = of_the_log(engine, Asking(self._examples / name))
            spec = specify(engine, asked.job, asked.code)
            return run_and_deliver(
                engine, spec, asked.code, as_name="operator", out=self._out, quiet=True, passphrase=PASSPHRASE
            )

    def _engine(self) -> Any:
        from sandbox.service.compose import open_engine

        return open_engine(self._state, passphrase=PASSPHRASE, purpose="demo", wait_s=session.wait_s)

    def _text(self, name: str) -> str:
        return (self._examples / name).read_text(encoding="utf-8")


def _beginning_now(terms: Agreement, now: str) -> Agreement:
    """Return the terms for one year from now, so that the demo does not end with the year it was written in."""
    return replace(terms, not_before=now, not_after=f"{int(now[:4]) + 1}-{now[5:7]}-28T00:00:00Z")


def _clear(state: Path, out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    from sandbox.service.config import Layout, StateConfig

    if state.exists():
        if any(state.iterdir()) and not StateConfig.read(Layout(state)).demo:
            raise StateUnsafeError(
                f"`{state}` is a real state directory, not a demo's",
                hint="name another one with `--state`",
                code="ledger.state.not_a_demo",
            )
        shutil.rmtree(state)
    if (out / "bundle").exists():
        shutil.rmtree(out / "bundle")
