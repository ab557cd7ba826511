"""`saggar quote`, `submit`, `jobs`, `show` and `budget`: the operator's data engineer."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from sandbox.cli.asking import Asking, asking, of_the_log
from sandbox.cli.session import console, own_key, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.crypto.entropy import random_bytes
from sandbox.errors import InputError
from sandbox.model.digest import short
from sandbox.model.job import JobSpec, JobState

_STATE_ZH = {
    JobState.SUBMITTED: "已提交",
    JobState.ADMITTED: "已准入",
    JobState.RESERVED: "已预留",
    JobState.OPENED: "已开封",
    JobState.GATED: "已过闸",
    JobState.RELEASED: "已出窑",
    JobState.REFUSED: "已拒绝",
    JobState.FAILED: "已失败",
    JobState.RECOVERED: "已按全额计费",
}

KeyOption = Annotated[Path | None, typer.Option("--key", help="A key file kept outside the state directory.")]
AsOption = Annotated[str | None, typer.Option("--as", help="Whose key signs. Default: the agreement's operator.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(
        epilog="Example: saggar quote --sql 'SELECT age, COUNT(*) AS n FROM encounters GROUP BY age' --epsilon 0.5"
    )(quote)
    app.command(epilog="Example: saggar submit examples/hospital/job_python.yaml")(submit)
    app.command(epilog="Example: saggar jobs --json")(jobs)
    app.command(epilog="Example: saggar show 3f2a9c1b7d04")(show)
    app.command(epilog="Example: saggar budget")(budget)


@told
@asking
def quote(
    asked_for: Asking,
    within: Annotated[
        str | None, typer.Option(help="With --sql: say how much loss gives this error, as in 2%.")
    ] = None,
    cell: Annotated[int, typer.Option(help="With --within: in a cell of so many rows.", min=1)] = 1000,
    weights: Annotated[str | None, typer.Option(help="With --sql: split the loss over the values, as in 3,1.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a job would cost, whether it is allowed, and how good its answer would be; costs nothing 报价."""
    from sandbox.cli.render import quote_tables
    from sandbox.jobs.quoting import quote_job
    from sandbox.jobs.specify import specify
    from sandbox.privacy.parse import with_weights
    from sandbox.service.compose import open_records

    if asked_for.sql is not None and weights is not None:
        asked_for = replace(asked_for, sql=with_weights(asked_for.sql, weights))
    wanted = None if within is None else (share_of(within), cell)
    if wanted is not None and asked_for.sql is not None and asked_for.epsilon is None:
        asked_for = replace(asked_for, epsilon="1")
    with open_records(session.state) as records:
        asked = of_the_log(records, asked_for)
        spec = specify(records, asked.job, asked.code)
        quoted = quote_job(records, spec, asked.code, operator=operator_of(records, spec), wanted=wanted)
    if as_json:
        print_json(quoted.to_record())
        return
    for part in quote_tables(quoted):
        console.print(part)


@told
@asking
def submit(
    asked_for: Asking,
    as_name: AsOption = None,
    key: KeyOption = None,
    again: Annotated[bool, typer.Option("--again", help="Ask again with fresh noise, and pay again.")] = False,
    out: Annotated[Path, typer.Option(help="Where the release, its receipt, table and picture go.")] = Path("releases"),
    as_json: JsonOption = False,
) -> None:
    """Sign a job, run it, and take what leaves: the release with its receipt 提交."""
    from sandbox.jobs.specify import specify
    from sandbox.service.compose import open_engine

    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="submit", wait_s=session.wait_s
    ) as engine:
        asked = of_the_log(engine, asked_for)
        spec = specify(engine, asked.job, asked.code, nonce=random_bytes(8).hex() if again else None)
        delivery = run_and_deliver(engine, spec, asked.code, as_name=as_name, key_file=key, out=out, quiet=as_json)
    if as_json:
        print_json(delivery.to_record())
        return
    delivery.show(console)


@told
def jobs(as_json: JsonOption = False) -> None:
    """List the jobs in the log, newest first 作业."""
    from sandbox.cli.render import rho_text
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        known = sorted(records.state().jobs.values(), key=lambda facts: -facts.submitted_seq)
    if as_json:
        print_json([facts.to_record() for facts in known])
        return
    table = Table(title="jobs 作业", title_justify="left")
    for heading in ("job 作业", "name 名称", "kind", "state 状态", "posted 消耗 ρ", "why 原因"):
        table.add_column(heading)
    for facts in known:
        state = f"{facts.state.value} {_STATE_ZH[facts.state]}"
        table.add_row(short(facts.job), facts.name, facts.kind, state, rho_text(facts.posted), facts.ending or "")
    console.print(table)


@told
def show(
    job: Annotated[str, typer.Argument(help="The job's digest, or the first digits of it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one job: its state, its entries, and what left 详情."""
    from sandbox.cli.delivery import show_release
    from sandbox.model.release import Release
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        facts = find_job(records, job)
        entries = [e for e in records.ledger.entries(0, records.ledger.size) if e.body.get("job") == facts.job]
        release = Release.parse(records.documents.get(facts.release)) if facts.release else None
    if as_json:
        print_json(
            {
                "job": facts.to_record(),
                "entries": [{"seq": e.seq, "at": e.at, "kind": e.kind.value, "body": e.body} for e in entries],
                "release": release.to_record() if release else None,
            }
        )
        return
    table = Table(title=f"job {short(facts.job)}: {facts.name}", title_justify="left")
    for heading in ("entry", "at (UTC)", "kind"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(str(entry.seq), entry.at, entry.kind.value)
    console.print(table)
    console.print(
        f"{facts.state.value} {_STATE_ZH[facts.state]}" + (f", because `{facts.ending}`" if facts.ending else "")
    )
    if release is not None:
        show_release(console, release)


@told
def budget(as_json: JsonOption = False) -> None:
    """Show every account: its limit, what is posted and pending, what remains, and which jobs used it 预算."""
    from sandbox.cli.render import accounts_table, rho_text
    from sandbox.jobs.quoting import account_line
    from sandbox.model.loss import NO_LOSS
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        state = records.state()
        lines = [account_line(records, name, NO_LOSS) for name in sorted(state.accounts)]
        users = [facts for facts in state.jobs.values() if facts.posted.rho or facts.reserved.rho]
    if as_json:
        print_json({name: state.accounts[name].to_record() for name in sorted(state.accounts)})
        return
    console.print(accounts_table(lines, title="privacy budget 隐私预算"))
    for facts in sorted(users, key=lambda f: f.submitted_seq):
        console.print(f"  job {short(facts.job)} {facts.name}: ρ {rho_text(facts.posted)} ({facts.state.value})")


def share_of(text: str) -> Fraction:
    """Return the share that `2%` or `0.02` writes."""
    from sandbox.model.exact import parse_exact

    share = parse_exact(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    if not 0 < share < 1:
        raise InputError(f"`{text}` is no share between 0 and 1", hint="write 2% or 0.02", code="input.usage")
    return share


def operator_of(records: Any, spec: JobSpec) -> str:
    """Return the key id of the operator of a spec's agreement."""
    from sandbox.jobs.registry import agreement_of

    return agreement_of(records, spec.agreement).agreement.operator


def run_and_deliver(
    engine: Any,
    spec: JobSpec,
    code: str,
    *,
    as_name: str | None,
    out: Path,
    quiet: bool,
    key_file: Path | None = None,
    passphrase: str | None = None,
) -> Any:
    """Sign and run a job, verify what came back as its operator would, put it on disk, and return the `Delivery`."""
    from sandbox.cli.delivery import deliver
    from sandbox.client.submission import sign_spec
    from sandbox.jobs.line import run_job
    from sandbox.jobs.stages import SignedJob

    signer = own_key(as_name or engine.state().keys[operator_of(engine, spec)].name, key_file, passphrase)
    signature = sign_spec(spec, signer)
    waiting = contextlib.nullcontext() if quiet else console.status("signed; on the line 烧制中 …")
    with waiting as status:

        def progress(stage: str) -> None:
            if status is not None:
                status.update(f"{stage} …")

        with cancelled_by_interrupt() as cancel:
            released = run_job(engine, SignedJob(spec, code, signature), cancel=cancel, progress=progress)
    return deliver(engine, spec, released, out)


@contextlib.contextmanager
def cancelled_by_interrupt() -> Iterator[threading.Event]:
    """Make the first Ctrl-C cancel the job, so that only what it was answered is spent; the second ends the command."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return

    def on_interrupt(*_: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def find_job(records: Any, text: str) -> Any:
    """Return the one job whose digest begins with `text`."""
    wanted = text.partition(":")[2] or text
    found = [facts for job, facts in records.state().jobs.items() if job.partition(":")[2].startswith(wanted)]
    if len(found) != 1:
        how = "no job has" if not found else "several jobs have"
        raise InputError(
            f"{how} a digest that begins with `{text}`", hint="list them with `saggar jobs`", code="input.unknown_job"
        )
    return found[0]
