"""The options that name a job, in one place for `quote`, `rehearse` and `submit`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from sandbox.cli.datasets import read_text
from sandbox.errors import InputError
from sandbox.model.load_job import JobFile

P = ParamSpec("P")

_OPTIONS: dict[str, Any] = {
    "job": Annotated[Path | None, typer.Argument(help="A job file (YAML); or give --sql.")],
    "sql": Annotated[str | None, typer.Option("--sql", help="One question, instead of a job file.")],
    "epsilon": Annotated[str | None, typer.Option(help="With --sql: the loss as epsilon, exact text.")],
    "delta": Annotated[str, typer.Option(help="With --sql: delta for --epsilon.")],
    "agreement": Annotated[str | None, typer.Option(help="With --sql: the agreement, where there are several.")],
    "rows": Annotated[int | None, typer.Option(help="With --sql: rows of one unit that may count.")],
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for: a job file's terms and its code."""

    job: JobFile
    code: str


@dataclass(frozen=True, slots=True)
class Asking:
    """How the command line names a job: a file, or one question with its loss.

    Attributes:
        job: the job file.
        sql, epsilon, delta, agreement, rows: one question, what it may cost, and under which agreement.
    """

    job: Path | None = None
    sql: str | None = None
    epsilon: str | None = None
    delta: str = "1e-7"
    agreement: str | None = None
    rows: int | None = None

    def read(self, question: Callable[[Asking], JobFile]) -> Asked:
        """Return the job, from its file or, by `question`, from `--sql`.

        Raises:
            InputError: neither is given, or both are.
        """
        from sandbox.model.load_job import load_job

        if (self.job is None) == (self.sql is None):
            raise InputError(
                "give a job file or --sql, one of the two", hint="see `saggar submit --help`", code="input.usage"
            )
        if self.job is None:
            return Asked(question(self), str(self.sql))
        parsed = load_job(read_text(self.job), self.job.name)
        if parsed.model is not None:
            return Asked(parsed, parsed.model.to_text())
        return Asked(parsed, read_text(self.job.parent / parsed.code))


def asking(command: Callable[Concatenate[Asking, P], None]) -> Callable[..., None]:
    """Give a command the options that name a job, handed to it as its first argument."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=_OPTIONS[field.name]
        )
        for field in fields(Asking)
    ]
    parameters = [*shared, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own)]

    def run(**given: Any) -> None:
        named = {field.name: given.pop(field.name, field.default) for field in fields(Asking)}
        command(Asking(**named), **given)  # type: ignore[call-arg]  # the rest are the command's own

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def of_the_log(records: Any, asked: Asking) -> Asked:
    """Return the job that the command line names; a question is of the only agreement, or of the one named."""
    from sandbox.jobs.question_job import question_job

    return asked.read(lambda a: question_job(records, a.epsilon, a.delta, a.agreement, a.rows))
