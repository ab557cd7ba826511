"""What a model would be worth, before anything is spent: from its plan and public facts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sandbox.model.loss import PrivacyLoss
from sandbox.model.model_document import ModelKind
from sandbox.model.question import Quote
from sandbox.privacy.models.asking import needed
from sandbox.privacy.models.planning import ModelPlan
from sandbox.privacy.models.regression import CURVATURE, rows_needed
from sandbox.privacy.models.scorecard import FACTOR
from sandbox.privacy.profile import Profile
from sandbox.privacy.quote import quote_plan

_EVEN = 1 / 3
"""The variance of a scaled feature that lies evenly between its bounds."""
_BIN_ROWS, _BIN_SHARE = 1_000, 0.1
_LARGER = 10


@dataclass(frozen=True, slots=True)
class ExpectedError:
    """About how far off one number of a model would be.

    Attributes:
        name: the feature, the characteristic or the pair of columns.
        what: what the error is of, for people.
        rows: for a model, or a bin, of so many rows; 0 where it does not depend on them.
        standard_error: of the noise.
    """

    name: str
    what: str
    rows: int
    standard_error: float

    def to_record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"name": self.name, "what": self.what, "rows": self.rows, "standard_error": self.standard_error}


@dataclass(frozen=True, slots=True)
class QuotedModel:
    """The quote of a model.

    Attributes:
        kind: the recipe.
        questions: how many it asks.
        counted: what is counted before it is learned: `positives`, `rows`, or nothing.
        needed: how many of them it wants; below that it is refused, for the count's part of the loss.
        expected: what its numbers would be worth.
        notes: of its questions.
    """

    kind: str
    questions: int
    counted: str
    needed: int | None
    expected: tuple[ExpectedError, ...]
    notes: tuple[str, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the quote as plain data."""
        return {
            "kind": self.kind,
            "questions": self.questions,
            "counted": self.counted,
            "needed": self.needed,
            "expected": [found.to_record() for found in self.expected],
            "notes": list(self.notes),
        }


def quote_model(plan: ModelPlan, loss: PrivacyLoss, profile: Profile | None = None) -> QuotedModel:
    """Return what a planned model would be worth.

    Args:
        plan: what would be learned.
        loss: of the whole model.
        profile: a released profile of the dataset, for the notes on bias.
    """
    kind = plan.document.kind
    quotes = [quote_plan(asked, profile) for _, asked in plan.questions]
    notes = tuple(dict.fromkeys(note for quote in quotes for note in quote.notes))
    if kind is ModelKind.SYNTHETIC:
        expected = tuple(
            ExpectedError(
                " x ".join(asked.outputs[i].label.name for i in range(2)), "rows in a cell", 0, _noise(quote, 0)
            )
            for (_, asked), quote in zip(plan.questions, quotes, strict=True)
        )
        return QuotedModel(kind.value, len(quotes), "", None, expected, notes)
    # The lower end of the count's interval has to reach the rule.
    margin = math.ceil(quotes[0].statistics[0].half_width_95)
    if kind is ModelKind.SCORECARD:
        least = needed(len(plan.characteristics), loss) + margin
        expected = tuple(
            _points(found.name, quote) for found, quote in zip(plan.characteristics, quotes[1:], strict=True)
        )
        return QuotedModel(kind.value, len(quotes), "positives", least, expected, notes)
    if kind is ModelKind.LINEAR:
        least = rows_needed(_noise(quotes[1], 0), len(plan.features)) + margin
    else:
        least = needed(len(plan.features), loss) + margin
    counted = "rows" if kind is ModelKind.LINEAR else "positives"
    expected = _coefficients(plan, quotes[1:], least * _LARGER)
    return QuotedModel(kind.value, len(quotes), counted, least, expected, notes)


def _noise(quote: Quote, place: int) -> float:
    return quote.statistics[place].noise_scale


def _coefficients(plan: ModelPlan, quotes: list[Quote], rows: int) -> tuple[ExpectedError, ...]:
    """Return the errors of coefficients, from the noise of the sums of each feature times the target."""
    assert plan.target is not None
    noises = [statistic.noise_scale for quote in quotes for statistic in quote.statistics][-len(plan.features) :]
    half = float(plan.target.half)
    factor = 1.0 if plan.document.kind is ModelKind.LINEAR else 0.5 / (CURVATURE * half)
    return tuple(
        ExpectedError(
            feature.name,
            "coefficient",
            rows,
            factor * noise / (rows * _EVEN * float(feature.half) * float(feature.half)),
        )
        for feature, noise in zip(plan.features, noises, strict=True)
    )


def _points(name: str, quote: Quote) -> ExpectedError:
    bad = _BIN_ROWS * _BIN_SHARE
    good = _BIN_ROWS - bad
    counted, moved = _noise(quote, 0) / good, _noise(quote, 1) * (1 / good + 1 / bad)
    return ExpectedError(name, "points", _BIN_ROWS, FACTOR * math.hypot(counted, moved))
