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
from sandbox.model.question import Answer, Cell, Question
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.models.asking import COUNT_SHARE, Ask, ModelCard, Source, check_enough, column, literal, source_of
from sandbox.privacy.models.numerics import logarithm

MAX_CHARACTERISTICS = 20
BASE_POINTS, BASE_ODDS, DOUBLING = 600, 50.0, 20
"""600 points mean odds of 50 negatives to 1 positive, and 20 points more mean twice the odds."""
FACTOR = DOUBLING / logarithm(2.0)
"""Points for one unit of log-odds."""


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
        whens = " ".join(f"WHEN ({self.sql}) < {literal(cut)} THEN {place}" for place, cut in enumerate(self.cuts))
        return f"CASE {whens} ELSE {len(self.cuts)} END"

    def bin_text(self, key: Cell) -> str:
        """Return what people read for a bin: `below 2`, `2 to below 4`, `4 or more`, or the category."""
        if not self.cuts:
            return "(missing)" if key is None else str(key)
        place = int(key or 0)
        if place == 0:
            return f"below {literal(self.cuts[0])}"
        least = literal(self.cuts[place - 1])
        return f"{least} or more" if place == len(self.cuts) else f"{least} to below {literal(self.cuts[place])}"


@dataclass(frozen=True, slots=True)
class ScoredBin:
    """One bin: its key as released, noisy rows and positives, the weight of evidence, the noise's error, the points."""

    key: str | int | float | bool | None
    text: str
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
                            "text": found.text,
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


def characteristic_questions(
    source: Source, target: str, characteristics: Sequence[Characteristic], loss: PrivacyLoss
) -> list[Question]:
    """Return one question for each characteristic: rows and positives by bin, in equal parts of what the count left."""
    share = (1 - COUNT_SHARE) / len(characteristics)
    bad = f"SUM(CASE WHEN {target} THEN 1 ELSE 0 END) AS bad"
    return [
        source.question(f"{found.bin_sql()} AS bin, COUNT(*) AS n, {bad}", loss.scaled(share), group="1")
        for found in characteristics
    ]


def fit_scorecard(
    ask: Ask,
    source: Source | str,
    target: str,
    characteristics: Sequence[Characteristic],
    loss: PrivacyLoss,
) -> Scorecard:
    """Return a scorecard of a condition, refused below the rule of rows needed.

    Args:
        ask: asks a question; the losses of all questions sum to at most `loss`.
        source: which rows, or the name of a table for all of its rows.
        target: a condition of the language: what is bad.
        characteristics: what points are given for, at most `MAX_CHARACTERISTICS`.
        loss: of the whole model.

    Raises:
        BoundError: no characteristic or too many, or too few positives (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together.
    """
    if not 1 <= len(characteristics) <= MAX_CHARACTERISTICS:
        raise BoundError(
            f"a scorecard takes 1 to {MAX_CHARACTERISTICS} characteristics",
            hint="each takes its part of the loss: choose the few that matter",
            code="privacy.bound.features",
        )
    source, names = source_of(source), [found.name for found in characteristics]
    positives, rule = check_enough(ask, source, target, names, loss)
    questions = characteristic_questions(source, target, characteristics, loss)
    tables = [(found, ask(question)) for found, question in zip(characteristics, questions, strict=True)]
    total_rows, total_bad = _totals([answer for _, answer in tables])
    base = round(
        BASE_POINTS + FACTOR * (logarithm(max(1.0, total_rows - total_bad) / total_bad) - logarithm(BASE_ODDS))
    )
    scored = tuple((found.name, _bins(found, answer, total_rows, total_bad)) for found, answer in tables)
    notes = tuple(dict.fromkeys(note for _, answer in tables for note in answer.notes))
    quality = (
        "area under the curve within some 0.02 of the same card without noise, where the rule's value is 70 or more"
    )
    card = ModelCard(
        "scorecard",
        source.table,
        source.where,
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
    rows = math.fsum(math.fsum(column(answer, "n")[0]) for answer in answers) / len(answers)
    bad = math.fsum(math.fsum(column(answer, "bad")[0]) for answer in answers) / len(answers)
    return max(2.0, rows), min(max(1.0, bad), max(1.0, rows - 1))


def _bins(of: Characteristic, answer: Answer, total_rows: float, total_bad: float) -> tuple[ScoredBin, ...]:
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
        raw = logarithm(good / held) - logarithm((1 - rate) / rate)
        # Noise of the counts (the positives' moves both odds), and the chance of the draw of people itself.
        noise, moved = count_error / good, bad_error * (1 / good + 1 / held)
        variance = noise * noise + moved * moved + 1 / held + 1 / good
        evidence = raw * raw * raw / (raw * raw + variance) if raw else 0.0
        points, error = round(FACTOR * evidence), math.sqrt(variance)
        found.append(ScoredBin(row[0], of.bin_text(row[0]), round(rows), round(held), evidence, error, points))
    return tuple(found)
