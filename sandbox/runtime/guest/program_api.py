"""What a program is given: `data`, with which it asks, and the answers that come back.

Everything here is already differentially private when it arrives, or public.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import pandas as pd

from sandbox.runtime.guest.block_request import blocks_request
from sandbox.runtime.guest.faults import QuestionRefused

_SQL_CHARACTERS_MAX: Final = 60_000


class AskedAnswer:
    """One answer: noisy values with their errors.

    Attributes:
        table: the keys and values, one row a group.
        standard_errors: keys and the standard error of each value.
        lower, upper: keys and the ends of each value's 95 % interval.
        loss: what the answer cost.
        pure_loss: its epsilon at delta = 0 where the question chose Laplace noise, else None.
        notes: sentences on bounds, bias and limits.
    """

    __slots__ = ("loss", "lower", "notes", "pure_loss", "standard_errors", "table", "upper")

    def __init__(self, record: dict[str, Any]) -> None:
        columns = record["columns"]
        self.table = _frame(columns, record["rows"], record["rows"])
        self.standard_errors = _frame(columns, record["rows"], record["standard_errors"])
        self.lower = _frame(columns, record["rows"], record["lower"])
        self.upper = _frame(columns, record["rows"], record["upper"])
        self.loss: dict[str, Any] = dict(record["loss"])
        self.pure_loss: dict[str, Any] | None = dict(record["pure_loss"]) if "pure_loss" in record else None
        self.notes: list[str] = list(record["notes"])

    def __repr__(self) -> str:
        return f"answer with {len(self.table)} rows: {', '.join(map(str, self.table.columns))}"


def _frame(columns: list[dict[str, Any]], rows: list[list[Any]], cells: list[list[Any]]) -> pd.DataFrame:
    """Return a table with the keys of the answer and the given cells for its values."""
    series: dict[str, pd.Series[Any]] = {}
    for place, column in enumerate(columns):
        if column["role"] == "key":
            series[column["name"]] = pd.Series([row[place] for row in rows])
        else:
            values = [row[place] for row in cells]
            # A value that cannot be given is missing, and a column with one is of floats.
            whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
            series[column["name"]] = pd.Series(values, dtype="int64" if whole and values else None)
            if not whole and not any(isinstance(value, (str, bool)) for value in values):
                series[column["name"]] = series[column["name"]].astype("float64")
    return pd.DataFrame(series)


class Data:
    """The data as a program sees them: questions go out, released answers come back.

    Attributes:
        parameters: the job's public parameters.
    """

    __slots__ = ("_asked", "_exchange", "parameters")

    def __init__(self, exchange: Callable[[dict[str, Any]], dict[str, Any]], parameters: dict[str, Any]) -> None:
        self._exchange = exchange
        self._asked = 0
        self.parameters = dict(parameters)

    def ask(
        self, sql: str, share: str | int | Fraction | None = None, rows: int | None = None, groups: int | None = None
    ) -> AskedAnswer:
        """Ask one question and wait for the answer.

        Args:
            sql: one SELECT over the tables that the job may use.
            share: the part of the job's privacy loss to spend, exact: `"1/4"`, `"0.25"`; the host decides when None.
            rows: rows of one privacy unit that count at most; the dataset's own bound when None.
            groups: groups that one unit may touch at most; likewise.

        Raises:
            QuestionRefused: the engine will not answer; nothing was spent unless its message says so.
            TypeError: an argument is not of the kind above.
        """
        if type(sql) is not str:
            raise TypeError("the question must be text")
        if len(sql) > _SQL_CHARACTERS_MAX:
            raise ValueError(f"the question is longer than {_SQL_CHARACTERS_MAX} characters")
        request = {
            "type": "ask",
            "sql": sql,
            "share": _share(share),
            "rows": _count(rows, "rows"),
            "groups": _count(groups, "groups"),
            "index": self._asked,
        }
        return self._put(request)

    def blocks(
        self,
        table: str,
        program: str,
        k: int,
        output: dict[str, Any],
        *,
        columns: list[str] | None = None,
        parameters: dict[str, Any] | None = None,
        statistic: str = "mean",
        milliseconds: int = 250,
        mode: str = "strict",
        failures: bool = False,
        share: str | int | Fraction | None = None,
    ) -> AskedAnswer:
        """Run a function on k blocks of whole units and wait for the noisy mean or median of what it returns.

        Args:
            table: the table's name, as in SQL.
            program: the function as text: `def block(rows): ...`, or `def block(rows, parameters): ...`; it returns a
                dict, list or single number, in the order of `output`.
            k: how many blocks.
            output: name to `(lower, upper)`, or to a dict with `lower`, `upper` and, if wanted, `resolution` (the
                range over 1048576, for a median over 1024, when left out) and `default` (the middle).
            columns: which columns each block carries; all that the job declared for the table when None.
            parameters: plain values for the function.
            statistic: `mean` or `median` over the blocks.
            milliseconds: how long each block may run; each takes that long.
            mode: `strict`, one block at a time, or `fast`, two, under an assumption that the answer states.
            failures: whether to release the share of failed blocks too, for its part of the loss.
            share: the part of the job's privacy loss to spend, as in `ask`.

        Raises:
            QuestionRefused: the engine will not answer; nothing was spent unless its message says so.
            TypeError, ValueError: an argument is not of the kind above.
        """
        request = blocks_request(
            table, program, k, output, columns, parameters, statistic, milliseconds, mode, failures=failures
        )
        return self._put({**request, "share": _share(share), "index": self._asked})

    def _put(self, request: dict[str, Any]) -> AskedAnswer:
        self._asked += 1
        reply = self._exchange(request)
        if not reply["ok"]:
            raise QuestionRefused(str(reply["code"]), str(reply["message"]), str(reply["hint"]))
        return AskedAnswer(reply["answer"])


def _share(share: object) -> str | None:
    if share is None:
        return None
    if isinstance(share, float):
        raise TypeError('a share is exact: write "1/4" or "0.25" in quotes')
    if type(share) not in {str, int, Fraction}:
        raise TypeError('a share is text such as "1/4"')
    try:
        amount = Fraction(str(share))
    except (ValueError, ZeroDivisionError):
        raise ValueError('a share is text such as "1/4"') from None
    if not 0 < amount <= 1:
        raise ValueError("a share is more than 0 and at most 1")
    return str(amount)


def _count(value: object, name: str) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= 1_000_000:
        raise TypeError(f"`{name}` is a whole number from 1 to 1000000")
    return value
