"""A city as a notebook sees it: its tables, a quote, an answer that shows its own errors.

The client trusts nobody: it signs what it asks, and believes an answer only when the receipt proves that the cosigned
log says exactly these bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import pandas as pd

from sandbox.client.frames import answer_frame
from sandbox.client.picture import bar_picture
from sandbox.client.submission import sign_spec, verify_release
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import InputError
from sandbox.ledger.verify import Trusted
from sandbox.model.description import DatasetDescription
from sandbox.model.exact import decimal_text
from sandbox.model.job import JobSpec
from sandbox.model.keys import Signature
from sandbox.model.question import Answer, ColumnRole
from sandbox.model.release import Release


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in the terms that people use.

    Attributes:
        sql: the question.
        epsilon, delta: the loss, exact text.
        rows: rows of one unit that may count, or None for the dataset's own bound.
        again: ask with fresh noise, and pay again.
    """

    sql: str
    epsilon: str
    delta: str
    rows: int | None
    again: bool


class Transport(Protocol):
    """The way to the trusted side: in this process, or over a network."""

    def trusted(self) -> Trusted:
        """Return whose signatures the client believes."""
        ...

    def descriptions(self) -> list[DatasetDescription]:
        """Return what may be asked about."""
        ...

    def specify(self, asked: Asked) -> JobSpec:
        """Return the spec that the question stands for today."""
        ...

    def quote(self, spec: JobSpec, code: str) -> dict[str, Any]:
        """Return the quote's record."""
        ...

    def rehearse(self, spec: JobSpec, code: str) -> dict[str, Any]:
        """Return the record of the job's rehearsal on made-up rows."""
        ...

    def run(self, spec: JobSpec, code: str, signature: Signature) -> tuple[bytes, str]:
        """Return the release's bytes and its receipt."""
        ...


@dataclass(frozen=True)
class Answered:
    """An answer whose receipt was verified.

    Attributes:
        release: what left.
        answer: its one answer.
        receipt: text that `saggar verify receipt` checks.
    """

    release: Release
    answer: Answer
    receipt: str

    @property
    def frame(self) -> pd.DataFrame:
        """The answer as a frame: keys, values, and for each value `_se`, `_low`, `_high`."""
        return answer_frame(self.answer)

    def picture(self, value: str | None = None) -> bytes:
        """Return a PNG of one value by its keys with 95 % intervals; the last value unless named."""
        names = [column.name for column in self.answer.columns]
        values = [c.name for c in self.answer.columns if c.role is ColumnRole.VALUE]
        chosen = value or values[-1]
        if chosen not in values:
            raise InputError(f"the answer has no value `{chosen}`", hint=f"its values are {', '.join(values)}")
        index = names.index(chosen)
        keys = [i for i, column in enumerate(self.answer.columns) if column.role is ColumnRole.KEY]
        rows = [r for r, row in enumerate(self.answer.rows) if row[index] is not None]
        column = self.answer.columns[index]
        return bar_picture(
            [
                " · ".join("(missing)" if self.answer.rows[r][k] is None else str(self.answer.rows[r][k]) for k in keys)
                for r in rows
            ],
            [float(self.answer.rows[r][index] or 0) for r in rows],
            [float(self.answer.lower[r][index] or 0) for r in rows],
            [float(self.answer.upper[r][index] or 0) for r in rows],
            title=self.release.name,
            axis=f"{column.label_en} {column.label_zh}".strip() or chosen,
        )

    def _repr_html_(self) -> str:
        loss = f"ε ≤ {escape(self.release.epsilon)} at δ = {escape(self.release.delta)}"
        if self.answer.pure_loss is not None:
            loss += f"; pure loss 纯损失: ε = {decimal_text(self.answer.pure_loss, round_up=True)}, δ = 0"
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.answer.notes)
        return f"{self.frame.to_html(index=False)}<p>cost 消耗: {loss}</p><ul>{notes}</ul>"

    def _repr_png_(self) -> bytes:
        return self.picture()


class City:
    """A connection: who asks, and over which way.

    Args:
        transport: the way to the trusted side.
        key: the operator's key; it signs every job.
    """

    def __init__(self, transport: Transport, key: PrivateKey) -> None:
        self._transport = transport
        self._key = key

    @property
    def tables(self) -> pd.DataFrame:
        """Every column that exists, with its labels, kind, bounds and unit of measure; public facts only."""
        rows = [
            {
                "table": description.table,
                "column": column.name,
                "label": column.label_en,
                "名称": column.label_zh,
                "kind": column.kind.value,
                "lower": None if column.lower is None else str(column.lower),
                "upper": None if column.upper is None else str(column.upper),
                "values": None if column.domain is None else len(column.domain),
                "measure": f"{column.measure_en} {column.measure_zh}".strip(),
            }
            for description in self._transport.descriptions()
            for column in description.columns
        ]
        return pd.DataFrame(rows)

    def quote(self, sql: str, *, epsilon: str, delta: str = "1e-7", rows: int | None = None) -> dict[str, Any]:
        """Return what a question would cost and how good its answer would be; costs nothing."""
        spec = self._transport.specify(Asked(sql, epsilon, delta, rows, again=False))
        return self._transport.quote(spec, sql)

    def rehearse(self, sql: str, *, epsilon: str, delta: str = "1e-7", rows: int | None = None) -> dict[str, Any]:
        """Return how a question would go on made-up rows, marked as such; spends, opens and logs nothing."""
        spec = self._transport.specify(Asked(sql, epsilon, delta, rows, again=False))
        return self._transport.rehearse(spec, sql)

    def ask(
        self, sql: str, *, epsilon: str, delta: str = "1e-7", rows: int | None = None, again: bool = False
    ) -> Answered:
        """Ask one question, pay for it, and return the answer once its receipt is verified.

        Raises:
            SaggarError: it is refused; nothing is spent unless the error says otherwise.
        """
        spec = self._transport.specify(Asked(sql, epsilon, delta, rows, again))
        raw, receipt = self._transport.run(spec, sql, sign_spec(spec, self._key))
        release = verify_release(raw, receipt, self._transport.trusted(), spec=spec)
        (output,) = release.outputs.values()
        answer = Answer.parse({name: value for name, value in output.items() if name != "kind"})
        return Answered(release, answer, receipt)
