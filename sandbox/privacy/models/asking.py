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
from sandbox.privacy.accounting import DISPLAY_DELTA, epsilon_of
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
        table, where, target: what it was learned from, which of its rows (empty for all), and what it predicts (empty
            where it predicts nothing).
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
    where: str
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
            "where": self.where,
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


@dataclass(frozen=True, slots=True)
class Source:
    """Which rows a model learns from.

    Attributes:
        table: the table's name in SQL.
        where: a condition of the language, or empty for all rows.
        rows, groups: the contribution bound to ask for, or None for the dataset's own.
    """

    table: str
    where: str = ""
    rows: int | None = None
    groups: int | None = None

    def question(self, select: str, loss: PrivacyLoss, *, also: str = "", group: str = "") -> Question:
        """Return the question that selects `select` of the rows for which `also` holds too, by `group`."""
        conditions = [f"({condition})" for condition in (self.where, also) if condition]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        by = f" GROUP BY {group}" if group else ""
        sql = f"SELECT {select} FROM {quote_name(self.table)}{where}{by}"  # noqa: S608 (the language checks it)
        return Question(sql, loss, self.rows, self.groups)


def source_of(source: Source | str) -> Source:
    """Return where a model's rows come from; the name of a table means all of its rows."""
    return source if isinstance(source, Source) else Source(source)


def shown_epsilon(loss: PrivacyLoss) -> Fraction:
    """Return the epsilon of a loss's rho at a delta of 1e-7, rounded up to millionths."""
    return epsilon_of(PrivacyLoss(loss.rho), DISPLAY_DELTA)


def needed(features: int, loss: PrivacyLoss) -> int:
    """Return how many positives (or rows) the rule wants for a model of so many features."""
    # A loss that shows as no epsilon at all wants as many as the least one that shows.
    epsilon = max(shown_epsilon(loss), Fraction(1, 10**6))
    return -(-RULE * max(1, features) * epsilon.denominator // epsilon.numerator)


def column(answer: Answer, name: str) -> tuple[list[float], list[float]]:
    """Return the values and standard errors of a column of an answer; a missing value is zero."""
    place = [found.name for found in answer.columns].index(name)
    values = [float(row[place]) if isinstance(row[place], (int, float)) else 0.0 for row in answer.rows]  # type: ignore[arg-type]
    return values, [error[place] or 0.0 for error in answer.standard_errors]


def count_question(source: Source, target: str, loss: PrivacyLoss) -> Question:
    """Return the question whose answer says whether there is enough to learn from; `COUNT_SHARE` of `loss`.

    Args:
        source: which rows.
        target: a condition of the language: what counts as positive; empty for all rows.
        loss: of the whole model.
    """
    return source.question("COUNT(*) AS n", loss.scaled(COUNT_SHARE), also=target)


def check_enough(ask: Ask, source: Source, target: str, features: Sequence[str], loss: PrivacyLoss) -> tuple[int, int]:
    """Return about how many positives there are, and the rule's value; asked with noise, never looked up.

    Args:
        ask: asks the question.
        source: which rows.
        target: a condition of the language: what counts as positive; empty for all rows.
        features: their names.
        loss: of the whole model; `COUNT_SHARE` of it is spent here.

    Raises:
        BoundError: the lower end of the count's 95 % interval is below the rule (`privacy.bound.rows_needed`).

    Privacy: the decision is post-processing of a released count, so a refusal tells nothing more than the count does.
    """
    answer = ask(count_question(source, target, loss))
    positives = max(0, int(column(answer, "n")[0][0]))
    least = max(0, int(answer.lower[0][0] or 0))
    epsilon, count = shown_epsilon(loss), max(1, len(features))
    if least * epsilon < RULE * count:
        counted = "positives" if target else "rows"
        raise BoundError(
            f"there is too little to learn from: {counted} x epsilon / features is below {RULE}",
            hint=f"ask with {count} features only where there are {needed(count, loss)} {counted}, use fewer features "
            "or more loss",
            code="privacy.bound.rows_needed",
            positives=positives,
            epsilon=format_exact(epsilon),
            features=count,
            spent=loss.scaled(COUNT_SHARE).to_record(),
        )
    return positives, int(positives * epsilon / count)
