"""`saggar rehearse`: the whole of a job on made-up rows, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from sandbox.cli.asking import Asking, asking, of_the_log
from sandbox.cli.datasets import read_text
from sandbox.cli.session import console, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.cli.work import JsonOption, operator_of
from sandbox.errors import InputError
from sandbox.model.load_job import JobFile
from sandbox.model.question import Answer

_NO_STATE = "no state directory was asked: what the policies allow and what is left of the budget is not known here"
_ROWS_SHOWN = 12


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: saggar rehearse examples/hospital/job_python.yaml")(rehearse)


@told
@asking
def rehearse(
    asked_for: Asking,
    description: Annotated[
        list[Path] | None,
        typer.Option("--description", help="A dataset's description; with it, no state directory is needed."),
    ] = None,
    units: Annotated[int, typer.Option(help="How many made-up units each dataset has.", min=1, max=100_000)] = 2000,
    blocks: Annotated[int, typer.Option(help="How many blocks of a question are tried.", min=1, max=10_000)] = 64,
    as_json: JsonOption = False,
) -> None:
    """Run the very job on made-up rows behind the same walls; spends, opens, logs and releases nothing 排演."""
    from sandbox.cli.render import quote_tables
    from sandbox.jobs.rehearse import Mock

    mock = Mock(units, blocks)
    gone = _described(asked_for, description, mock) if description else _logged(asked_for, mock)
    if as_json:
        print_json(gone.to_record())
    else:
        before = [Text(_NO_STATE)] if gone.quote is None else quote_tables(gone.quote)
        for part in [*before, *_blocks(gone), *_questions(gone), *_outputs(gone)]:
            console.print(part)
    if gone.outputs is None:
        raise typer.Exit(9)


def _logged(asked_for: Asking, mock: Any) -> Any:
    """Rehearse on what the state directory describes, after a quote."""
    from sandbox.jobs.rehearse import rehearse_job
    from sandbox.jobs.specify import specify
    from sandbox.privacy.noise import OpenDpNoise
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        asked = of_the_log(records, asked_for)
        spec = specify(records, asked.job, asked.code)
        operator = operator_of(records, spec)
        return rehearse_job(records, spec, asked.code, operator=operator, noise=OpenDpNoise(), mock=mock)


def _described(asked_for: Asking, files: list[Path], mock: Any) -> Any:
    """Rehearse on descriptions alone."""
    from sandbox.jobs.rehearse import rehearse_described
    from sandbox.jobs.specify import spec_of
    from sandbox.model.load_description import load_description
    from sandbox.privacy.noise import OpenDpNoise
    from sandbox.service.compose import lazy_guests

    described = [load_description(read_text(file), file.name) for file in files]
    asked = asked_for.read(_lone_question)
    spec = spec_of(asked.job, asked.code, {each.table: each for each in described})
    with lazy_guests() as guests:
        return rehearse_described(guests, described, spec, asked.code, noise=OpenDpNoise(), mock=mock)


def _lone_question(asked_for: Asking) -> JobFile:
    from sandbox.jobs.question_job import one_question

    if asked_for.epsilon is None:
        raise InputError("a question needs a loss", hint="add for example `--epsilon 0.5`", code="input.usage")
    terms = (asked_for.agreement or "rehearsal", "rehearsal", "rehearsal")
    return one_question(asked_for.epsilon, asked_for.delta, asked_for.rows, terms=terms)


def _blocks(gone: Any) -> list[Table | Text]:
    parts: list[Table | Text] = []
    for number, asked in enumerate(gone.blocks, 1):
        title = f"blocks {number} 分块: {asked.tried} of {asked.asked} rehearsed, {asked.defaults} fell to the default"
        parts.append(Text(title, style="bold"))
        parts.append(
            Text(
                f"  {asked.median_ms:.0f} ms in the middle, {asked.slowest_ms:.0f} at most, {asked.milliseconds} given"
            )
        )
        parts += [Text(f"  {count} × {message}") for message, count in asked.reasons]
        if asked.tried < asked.asked:
            rest = f"only {asked.tried} of {asked.asked} were tried, and the others count with what these gave"
            parts.append(Text(f"  {rest}; `--blocks {asked.asked}` tries them all"))
    return parts


def _questions(gone: Any) -> list[Text]:
    refused = [Text(f"refused 已拒绝: {refusal['message']} ({refusal['code']})") for refusal in gone.refusals]
    return [Text(f"{gone.questions} questions answered from made-up rows"), *refused]


def _outputs(gone: Any) -> list[Table | Text]:
    from sandbox.cli.render import answer_table, output_table
    from sandbox.jobs.rehearse import MARK

    if gone.outputs is None:
        return [Text(f"the job would fail 作业将失败: {gone.problem}", style="red")]
    parts: list[Table | Text] = []
    for name, output in gone.outputs.items():
        title = f"{MARK} · {name} · {MARK}"
        if output["kind"] == "answer":
            answer = Answer.parse({key: value for key, value in output.items() if key != "kind"})
            parts.append(answer_table(answer, title=title, rows=_ROWS_SHOWN))
        else:
            parts.append(output_table(title, output, rows=_ROWS_SHOWN))
    parts.append(Text("made-up rows: these numbers mean nothing, and nothing was spent 数字为模拟, 未消耗预算"))
    return parts
