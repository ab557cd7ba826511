"""Questions and answers: what is asked of the engine, what it would cost, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.errors import CanonicalError, ExactError
from sandbox.model.exact import format_exact, parse_exact
from sandbox.model.job import CellKind
from sandbox.model.loss import PrivacyLoss

Cell = int | float | str | None


@dataclass(frozen=True, slots=True)
class Question:
    """One question and the loss it may spend.

    Attributes:
        sql: the text.
        loss: what the answer may cost; all of it is charged.
        rows, groups: the contribution bound asked for, or None for the dataset's own.
    """

    sql: str
    loss: PrivacyLoss
    rows: int | None = None
    groups: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the question as a canonical record."""
        return {"sql": self.sql, "loss": self.loss.to_record(), "rows": self.rows, "groups": self.groups}

    @classmethod
    def parse(cls, record: Any) -> Question:
        """Return the question that a record writes."""
        try:
            return cls(record["sql"], PrivacyLoss.parse(record["loss"]), record["rows"], record["groups"])
        except (KeyError, TypeError) as error:
            raise CanonicalError("a question record is malformed", hint="see docs/reference/transcript.md") from error


class ColumnRole(StrEnum):
    """`key`: a group key, exact.  `value`: a noisy number with a standard error."""

    KEY = "key"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """One column of an answer.

    Attributes:
        name: as the question named it.
        role: key or value.
        kind: what its cells hold.
        label_en, label_zh: for people.
        measure_en, measure_zh: the unit of measure for people, or empty.
    """

    name: str
    role: ColumnRole
    kind: CellKind
    label_en: str
    label_zh: str
    measure_en: str = ""
    measure_zh: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the column as a record."""
        return {
            "name": self.name,
            "role": self.role.value,
            "kind": self.kind.value,
            "label": {"en": self.label_en, "zh": self.label_zh},
            "measure": {"en": self.measure_en, "zh": self.measure_zh},
        }

    @classmethod
    def parse(cls, record: Any) -> AnswerColumn:
        """Return the column that a record writes."""
        return cls(
            record["name"],
            ColumnRole(record["role"]),
            CellKind(record["kind"]),
            record["label"]["en"],
            record["label"]["zh"],
            record["measure"]["en"],
            record["measure"]["zh"],
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question released: already differentially private, so anything may be done with it.

    Attributes:
        columns: in order.
        rows: one tuple a row, aligned with `columns`; a value that cannot be given (a mean over a noisy count that is
            not positive) is None.
        standard_errors: aligned with `rows`; None for keys and for missing values.
        lower, upper: the 95 % interval of each value, aligned with `rows`; None for keys and missing values.
        loss: what it cost.
        notes: sentences on bounds, bias, thresholds and post-processing, for people.
        pure_loss: the epsilon of the answer at delta = 0, rounded up, where its noise is Laplace's; else None.
    """

    columns: tuple[AnswerColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    standard_errors: tuple[tuple[float | None, ...], ...]
    lower: tuple[tuple[float | None, ...], ...]
    upper: tuple[tuple[float | None, ...], ...]
    loss: PrivacyLoss
    notes: tuple[str, ...] = ()
    pure_loss: Fraction | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the answer as a record with floats (`canonical_release_bytes`)."""
        return {
            "columns": [column.to_record() for column in self.columns],
            "rows": [list(row) for row in self.rows],
            "standard_errors": [list(row) for row in self.standard_errors],
            "lower": [list(row) for row in self.lower],
            "upper": [list(row) for row in self.upper],
            "loss": self.loss.to_record(),
            **_pure(self.pure_loss),
            "notes": list(self.notes),
        }

    @classmethod
    def parse(cls, record: Any) -> Answer:
        """Return the answer that a record writes."""
        try:
            answer = cls(
                tuple(AnswerColumn.parse(column) for column in record["columns"]),
                tuple(tuple(row) for row in record["rows"]),
                tuple(tuple(row) for row in record["standard_errors"]),
                tuple(tuple(row) for row in record["lower"]),
                tuple(tuple(row) for row in record["upper"]),
                PrivacyLoss.parse(record["loss"]),
                tuple(record["notes"]),
                parse_exact(record["pure_loss"]["epsilon"]) if "pure_loss" in record else None,
            )
        except (ExactError, KeyError, TypeError, ValueError) as error:
            raise CanonicalError("an answer record is malformed", hint="see docs/reference/answer.md") from error
        return answer


def _pure(epsilon: Fraction | None) -> dict[str, Any]:
    """Return the pure loss as a part of a record; none where there is none."""
    return {} if epsilon is None else {"pure_loss": {"epsilon": format_exact(epsilon), "delta": "0"}}


@dataclass(frozen=True, slots=True)
class QuotedStatistic:
    """What one value column would carry.

    Attributes:
        name: the column.
        mechanism: the mechanism's name for people (`discrete Gaussian`, `discrete Laplace`).
        sensitivity: the exact L2 sensitivity (of Laplace noise L1) in the statistic's integer units, as text.
        noise_scale: the standard deviation of the noise, in the column's own measure.
        standard_error: the expected standard error of a cell, in the column's own measure; for a mean, of a cell of
            `reference_count` rows.
        half_width_95: the half-width of the 95 % interval, likewise.
        reference_count: rows in the cell that the error of a mean is quoted for, or None.
    """

    name: str
    mechanism: str
    sensitivity: str
    noise_scale: float
    standard_error: float
    half_width_95: float
    reference_count: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """What a question would cost and how good its answer would be; computed from public facts only.

    Attributes:
        loss: what it would cost.
        epsilon, delta: the same loss for people, rounded up (six decimals).
        columns: `(dataset, columns)` the question reads.
        statistics: one for each value column.
        keys: `public`, `private` (thresholded) or `none`.
        cells: how many cells would be released with public keys, else None.
        threshold: units below which a private key stays hidden (about), else None.
        bounding: the bounding form, for people (`rank <= 3`).
        bound: the contribution bound that holds.
        notes: sentences on bias and limits.
        pure_loss: as in `Answer`.
    """

    loss: PrivacyLoss
    epsilon: str
    delta: str
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    statistics: tuple[QuotedStatistic, ...]
    keys: str
    cells: int | None
    threshold: float | None
    bounding: str
    bound: dict[str, int]
    notes: tuple[str, ...]
    pure_loss: Fraction | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the quote as a record with floats."""
        return {
            "loss": self.loss.to_record(),
            "epsilon": self.epsilon,
            "delta": self.delta,
            **_pure(self.pure_loss),
            "columns": [[dataset, list(columns)] for dataset, columns in self.columns],
            "statistics": [
                {
                    "name": s.name,
                    "mechanism": s.mechanism,
                    "sensitivity": s.sensitivity,
                    "noise_scale": s.noise_scale,
                    "standard_error": s.standard_error,
                    "half_width_95": s.half_width_95,
                    "reference_count": s.reference_count,
                }
                for s in self.statistics
            ],
            "keys": self.keys,
            "cells": self.cells,
            "threshold": self.threshold,
            "bounding": self.bounding,
            "bound": self.bound,
            "notes": list(self.notes),
        }
