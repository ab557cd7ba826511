"""What every model begins with: features, a way to ask, the rule of rows needed, and the card that leaves with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sandbox.errors import BoundError
from sandbox.model.exact import format_exact
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer, Question
from sandbox.privacy.accounting import DISPLAY_DELTA, epsilon_at
from sandbox.privacy.render import quote_name

Ask = Callable[[Question], Answer]
"""Asks a question of the engine; whoever gives it has charged the question's loss."""

RULE = 70
"""Positives x epsilon / features, at least: below it the models of the published comparisons lose their worth."""

COUNT_SHARE = Fraction(1, 20)
"""The share of a model's loss that pays for counting whether there is enough to learn from."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A number that a model reads of each row.

    Attributes:
        name: for the card.
        sql: an expression of the language, never NULL (wrap it in COALESCE).
        lower, upper: public bounds of it; they scale the feature, and the engine clamps by bounds of its own.
    """

    name: str
    sql: str
    lower: Fraction
    upper: Fraction

    @property
    def middle(self) -> Fraction:
        """The middle of the bounds."""
        return (self.lower + self.upper) / 2

    @property
    def half(self) -> Fraction:
        """Half of their width; a feature of no width says nothing."""
        return max((self.upper - self.lower) / 2, Fraction(1, 10**9))

    def centred(self) -> str:
        """Return the SQL of the feature less its middle."""
        sign = "-" if self.middle >= 0 else "+"
        return f"(({self.sql}) {sign} {literal(abs(self.middle))})"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a reader has to know of a model before using it.

    Attributes:
        kind: `linear`, `logistic`, `scorecard` or `synthetic`.
        table, target: what it was learned from, and what it predicts (empty where it predicts nothing).
        features: their names.
        loss, epsilon: what it cost; epsilon at a delta of 1e-7.
        rows: about how many rows it learned from, after the bound.
        positives: about how many of them were positive, or None.
        rule: positives x epsilon / features, or None.
        quality: what to expect, in words.
        notes: what the answers said of bounds and bias.
    """

    kind: str
    table: str
    target: str
    features: tuple[str, ...]
    loss: PrivacyLoss
    epsilon: str
    rows: int
    positives: int | None
    rule: int | None
    quality: str
    notes: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the card as a canonical record."""
        return {
            "v": 1,
            "kind": self.kind,
            "table": self.table,
            "target": self.target,
            "features": list(self.features),
            "loss": self.loss.to_record(),
            "epsilon": self.epsilon,
            "rows": self.rows,
            "positives": self.positives,
            "rule": self.rule,
            "quality": self.quality,
            "notes": list(self.notes),
        }


def literal(amount: Fraction) -> str:
    """Return a decimal literal of the language, to six digits after the point."""
    return format(float(round(amount, 6)), ".6f").rstrip("0").rstrip(".") or "0"


def table_name(table: str) -> str:
    """Return a table's name, quoted."""
    return quote_name(table)


def shown_epsilon(loss: PrivacyLoss) -> Fraction:
    """Return the epsilon of a loss at a delta of 1e-7, rounded up."""
    return epsilon_at(loss.rho, DISPLAY_DELTA)


def column(answer: Answer, name: str) -> tuple[list[float], list[float]]:
    """Return the values and standard errors of a column of an answer; a missing value is zero."""
    place = [found.name for found in answer.columns].index(name)
    values = [float(row[place]) if isinstance(row[place], (int, float)) else 0.0 for row in answer.rows]  # type: ignore[arg-type]
    return values, [error[place] or 0.0 for error in answer.standard_errors]


def check_enough(ask: Ask, table: str, target: str, features: Sequence[str], loss: PrivacyLoss) -> tuple[int, int]:
    """Return about how many positives there are, and the rule's value; asked with noise, never looked up.

    Args:
        ask: asks the question.
        table: which table.
        target: a condition of the language: what counts as positive.
        features: their names.
        loss: of the whole model; `COUNT_SHARE` of it is spent here.

    Raises:
        BoundError: the lower end of the count's 95 % interval is below the rule (`privacy.bound.rows_needed`).

    Privacy: the decision is post-processing of a released count, so a refusal tells nothing more than the count does.
    """
    sql = f"SELECT COUNT(*) AS n FROM {table_name(table)} WHERE {target}"  # noqa: S608 (the language checks it)
    answer = ask(Question(sql, loss.scaled(COUNT_SHARE)))
    positives = max(0, int(column(answer, "n")[0][0]))
    least = max(0, int(answer.lower[0][0] or 0))
    epsilon = shown_epsilon(loss)
    count = max(1, len(features))
    if least * epsilon < RULE * count:
        wanted = -(-RULE * count * epsilon.denominator // epsilon.numerator)
        raise BoundError(
            f"there is too little to learn from: positives x epsilon / features is below {RULE}",
            hint=f"ask with {count} features only where there are {wanted} positives, use fewer features or more loss",
            code="privacy.bound.rows_needed",
            positives=positives,
            epsilon=format_exact(round(epsilon, 6)),
            features=count,
            spent=loss.scaled(COUNT_SHARE).to_record(),
        )
    return positives, int(positives * epsilon / count)
