"""Scorecards: public bins, noisy weights of evidence, points that add up.

Each characteristic is one question, counts of rows and of positives by bin.  The weight of evidence of a bin is the log
of its odds less the log of all odds; a bin that is too thin to tell from its noise gets less of it, down to none.

Source: Siddiqi 2006, "Credit Risk Scorecards", for points; shrinkage is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer, Question
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.models.asking import COUNT_SHARE, Ask, ModelCard, check_enough, column, literal, table_name

BASE_POINTS, BASE_ODDS, DOUBLING = 600, 50.0, 20
"""600 points mean odds of 50 negatives to 1 positive, and 20 points more mean twice the odds."""


@dataclass(frozen=True, slots=True)
class Characteristic:
    """A number cut at public points, or a category with a public domain.

    Attributes:
        name: for the card.
        sql: an expression of the language.
        cuts: rising; bin i holds what is below cut i and not below cut i - 1; the last one the rest.  Empty for a
            category, whose own values are the bins.
    """

    name: str
    sql: str
    cuts: tuple[Fraction, ...] = ()

    def bin_sql(self) -> str:
        """Return the SQL of the bin's number, or of the category itself."""
        if not self.cuts:
            return self.sql
        whens = " ".join(f"WHEN {self.sql} < {literal(cut)} THEN {place}" for place, cut in enumerate(self.cuts))
        return f"CASE {whens} ELSE {len(self.cuts)} END"


@dataclass(frozen=True, slots=True)
class ScoredBin:
    """One bin: its key as released, noisy rows and positives, the weight of evidence, the noise's error, the points."""

    key: str | int | float | bool | None
    rows: int
    positives: int
    evidence: float
    standard_error: float
    points: int


@dataclass(frozen=True, slots=True)
class Scorecard:
    """A scorecard: a row's score is `base` plus the points of its bin in each characteristic; more is safer."""

    base: int
    characteristics: tuple[tuple[str, tuple[ScoredBin, ...]], ...]
    card: ModelCard

    def score(self, keys: Sequence[str | int | float | bool | None]) -> int:
        """Return the score of a row by the keys of its bins, in the order of the characteristics."""
        total = self.base
        for key, (_, bins) in zip(keys, self.characteristics, strict=True):
            total += next((found.points for found in bins if found.key == key), 0)
        return total

    def to_record(self) -> dict[str, Any]:
        """Return the scorecard as plain data."""
        return {
            "v": 1,
            "base": self.base,
            "characteristics": [
                {
                    "name": name,
                    "bins": [
                        {
                            "key": found.key,
                            "rows": found.rows,
                            "positives": found.positives,
                            "evidence": found.evidence,
                            "standard_error": found.standard_error,
                            "points": found.points,
                        }
                        for found in bins
                    ],
                }
                for name, bins in self.characteristics
            ],
            "card": self.card.to_record(),
        }


def fit_scorecard(
    ask: Ask,
    table: str,
    target: str,
    characteristics: Sequence[Characteristic],
    loss: PrivacyLoss,
    *,
    rows: int | None = None,
) -> Scorecard:
    """Return a scorecard of a condition, refused below the rule of rows needed.

    Args:
        ask: asks a question; the losses of all questions sum to at most `loss`.
        table: which table.
        target: a condition of the language: what is bad.
        characteristics: what points are given for.
        loss: of the whole model.
        rows: the contribution bound to ask for.

    Raises:
        BoundError: no characteristic, or too few positives (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together.
    """
    if not characteristics:
        raise BoundError("a scorecard needs characteristics", hint="name one or more", code="privacy.bound.features")
    names = [found.name for found in characteristics]
    positives, rule = check_enough(ask, table, target, names, loss)
    share = (1 - COUNT_SHARE) / len(characteristics)
    tables: list[tuple[str, Answer]] = []
    for found in characteristics:
        sql = (
            f"SELECT {found.bin_sql()} AS bin, COUNT(*) AS n, SUM(CASE WHEN {target} THEN 1 ELSE 0 END) AS bad "  # noqa: S608 (the language checks it)
            f"FROM {table_name(table)} GROUP BY 1"
        )
        tables.append((found.name, ask(Question(sql, loss.scaled(share), rows))))
    factor = DOUBLING / math.log(2)
    total_rows, total_bad = _totals([answer for _, answer in tables])
    base = round(BASE_POINTS + factor * (math.log(max(1.0, total_rows - total_bad) / total_bad) - math.log(BASE_ODDS)))
    scored = tuple((name, _bins(answer, factor, total_rows, total_bad)) for name, answer in tables)
    notes = tuple(dict.fromkeys(note for _, answer in tables for note in answer.notes))
    quality = (
        "area under the curve within some 0.02 of the same card without noise, where the rule's value is 70 or more"
    )
    card = ModelCard(
        "scorecard",
        table,
        target,
        tuple(names),
        loss,
        people_loss(loss)[0],
        round(total_rows),
        positives,
        rule,
        quality,
        notes,
    )
    return Scorecard(base, scored, card)


def _totals(answers: Sequence[Answer]) -> tuple[float, float]:
    """Return the totals of rows and positives, averaged over the characteristics, which all count the same rows."""
    rows = sum(sum(column(answer, "n")[0]) for answer in answers) / len(answers)
    bad = sum(sum(column(answer, "bad")[0]) for answer in answers) / len(answers)
    return max(2.0, rows), min(max(1.0, bad), max(1.0, rows - 1))


def _bins(answer: Answer, factor: float, total_rows: float, total_bad: float) -> tuple[ScoredBin, ...]:
    counts, count_errors = column(answer, "n")
    bads, bad_errors = column(answer, "bad")
    rate = total_bad / total_rows
    found = []
    for row, count, count_error, bad, bad_error in zip(
        answer.rows, counts, count_errors, bads, bad_errors, strict=True
    ):
        rows = max(count, 1.0)
        held = min(max(bad, 0.5), rows - 0.5) if rows > 1 else rate * rows
        good = max(rows - held, 0.5)
        raw = math.log(good / held) - math.log((1 - rate) / rate)
        # Noise of the counts, and the chance of the draw of people itself.
        variance = (bad_error / held) ** 2 + (math.hypot(count_error, bad_error) / good) ** 2 + 1 / held + 1 / good
        evidence = raw * raw**2 / (raw**2 + variance) if raw else 0.0
        points = round(factor * evidence)
        found.append(ScoredBin(row[0], round(rows), round(held), evidence, math.sqrt(variance), points))
    return tuple(found)
