"""`saggar rehearse`: the whole of a job on made-up rows, before anything is spent."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from sandbox.cli.session import console, print_json, session, told
from sandbox.cli.work import (
    AgreementOption,
    DeltaOption,
    EpsilonOption,
    JobArgument,
    JsonOption,
    RowsOption,
    SqlOption,
    operator_of,
    read_job,
)
from sandbox.model.question import Answer

_ROWS_SHOWN = 12


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog="Example: saggar rehearse examples/hospital/job_python.yaml")(rehearse)


@told
def rehearse(
    job: JobArgument = None,
    sql: SqlOption = None,
    epsilon: EpsilonOption = None,
    delta: DeltaOption = "1e-7",
    agreement: AgreementOption = None,
    rows: RowsOption = None,
    units: Annotated[int, typer.Option(help="How many made-up units each dataset has.", min=1, max=100_000)] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Run the very job on made-up rows behind the same walls; spends, opens, logs and releases nothing 排演."""
    from sandbox.cli.render import quote_tables
    from sandbox.jobs.rehearse import rehearse_job
    from sandbox.jobs.specify import specify
    from sandbox.privacy.noise import OpenDpNoise
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        asked = read_job(records, job, sql, epsilon, delta, agreement, rows)
        spec = specify(records, asked.job, asked.code)
        operator = operator_of(records, spec)
        gone = rehearse_job(records, spec, asked.code, operator=operator, noise=OpenDpNoise(), units=units)
    if as_json:
        print_json(gone.to_record())
    else:
        for part in [*quote_tables(gone.quote), *_blocks(gone), *_questions(gone), *_outputs(gone)]:
            console.print(part)
    if gone.outputs is None:
        raise typer.Exit(9)


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
