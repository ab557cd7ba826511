"""Laplace noise by choice: `SETTINGS noise = 'laplace'` gives an answer a pure loss, with no delta, at a known price.

The account stays in zCDP, the one measure that adds.  Each statistic has its share rho_i of the question's loss and
noise whose pure loss epsilon_i has epsilon_i**2 / 2 <= rho_i; all of the question's rho is charged, and the answer as a
whole has a pure loss of at most the sum of all epsilon_i.  At the same charge Gaussian noise is never wider, so the
setting is for those who need delta = 0 (`docs/proofs/laplace.md`, ADR 0019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import cache

from sqlglot import exp

from sandbox.errors import BoundError
from sandbox.model.exact import decimal_text
from sandbox.model.loss import GRID
from sandbox.privacy.accounting import DISPLAY_DELTA, epsilon_at
from sandbox.privacy.guard import broken_guard
from sandbox.privacy.influence import Influence
from sandbox.privacy.jet import root_up
from sandbox.privacy.parse import Text
from sandbox.privacy.query import AggregateKind, Bounding, CheckedQuery, Formula, FormulaOp, KeyMode, Settings
from sandbox.privacy.statistics import Statistic, StatisticKind

_UP = Context(prec=60, rounding=ROUND_CEILING, Emin=-999_999, Emax=999_999)
_MOST_DECAY = Fraction(100_000)
"""exp(-100000) stands for anything smaller, which only widens what rests on it."""


def charges_of(settings: Settings, weights: Sequence[Fraction], rho: Fraction) -> list[Fraction]:
    """Return what each statistic is charged: its weight's share of rho, or of the pure loss that was asked for.

    Under a pure loss of E a statistic with share s has a pure loss of at most s E and is charged (s E)**2 / 2: often
    less than rho in all, and the rest is not spent.

    Raises:
        BoundError: the pure loss that was asked for is charged more than rho (`privacy.bound.pure`).
    """
    shares = [weight / sum(weights) for weight in weights]
    if settings.pure_loss is None:
        return [share * rho for share in shares]
    charges = [(share * settings.pure_loss) ** 2 / 2 for share in shares]
    total = sum(charges, Fraction(0))
    if total > rho:
        needed, epsilon = decimal_text(total, round_up=True), epsilon_at(total, DISPLAY_DELTA / 2)
        given = decimal_text(epsilon, digits=3, round_up=True)
        raise BoundError(
            f"a pure loss of {decimal_text(settings.pure_loss)} is charged rho = {needed}, more than the question has",
            hint=f"give it rho: {needed}, which is --epsilon {given} at delta 1e-7, or ask for a smaller `pure_loss`",
            code="privacy.bound.pure",
        )
    return charges


def charged(charges: Sequence[Fraction], rho: Fraction) -> Fraction:
    """Return the sum of charges on the grid of accounts, rounded up; at most rho, which is on it."""
    return min(rho, Fraction(math.ceil(sum(charges, Fraction(0)) * GRID), GRID))


def distance_of(statistic: Statistic, influence: Influence, levels: int) -> int:
    """Return the exact L1 sensitivity of a statistic over all cells of all levels.

    Rows that differ are at most `influence.rows` in all, and each moves a count, a sum or a number of distinct values
    by at most what it moves it in one cell; so these move as far in L1 as in L2, where all stand in one cell.  Counts
    of units move in several cells at once.

    Args:
        statistic: whose L2 sensitivity is that over all levels (`rolled_statistics`).
        influence: what one change moves.
        levels: how many levels are measured, each of which moves by what the cells do; 1 without totals.

    Raises:
        PrivacyError: the L2 sensitivity of what rows move is no whole number (`privacy.guard`).
    """
    if statistic.kind is StatisticKind.UNITS:
        return influence.units * levels
    root = math.isqrt(statistic.sensitivity_squared // levels)
    if root**2 * levels != statistic.sensitivity_squared:
        raise broken_guard("what rows move is no whole number, so their distance in L1 is not known")
    return root * levels


@cache
def laplace_deviation(scale: Fraction) -> Fraction:
    """Return the standard deviation of discrete Laplace noise, rounded up to 2**-64.

    With q = exp(-1 / scale) it is sqrt(2 q) / (1 - q); always below sqrt(2) * scale.
    """
    if scale == 0:
        return Fraction(0)
    decay = min(1 / scale, _MOST_DECAY)
    # `exp` rounds to nearest; one more unit in the last place makes it a bound.
    exponent = _UP.divide(Decimal(-decay.numerator), Decimal(decay.denominator))
    share = _UP.next_plus(_UP.exp(exponent))
    return root_up(2 * Fraction(share) / (1 - Fraction(share)) ** 2)


def check_laplace(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse a question whose answer cannot have Laplace noise.

    Raises:
        QueryError: its keys are private; a value is chosen, or read from a tree; rows are rescaled; two noisy values
            are multiplied; or a pure loss is asked for without the noise that has one (`input.query.noise`).
    """
    if not query.settings.laplace:
        raise text.refusal(
            select,
            "noise",
            "only Laplace noise has a pure loss",
            "write SETTINGS noise = 'laplace', pure_loss = 0.5, or leave `pure_loss` out",
        )
    refused = next((one for one in _not_for(query) if one.holds), None)
    if refused is not None:
        raise text.refusal(select, "noise", f"`noise = 'laplace'` is not for {refused.what}", refused.rewrite)


@dataclass(frozen=True, slots=True)
class _Refusal:
    holds: bool
    what: str
    rewrite: str


def _not_for(query: CheckedQuery) -> list[_Refusal]:
    settings = query.settings
    below = "COUNT(*) FILTER (WHERE x <= 10)"
    return [
        _Refusal(
            query.key_mode is KeyMode.PRIVATE,
            "private group keys, whose threshold needs a delta",
            "group by what has a public domain, as in CASE WHEN diag = 'A' THEN 'A' ELSE 'other' END, or leave it out",
        ),
        _Refusal(
            any(aggregate.kind is AggregateKind.QUANTILE for aggregate in query.aggregates),
            "quantiles, which are read from a noisy tree",
            f"ask for quantiles apart, without the setting, or count rows below a value: {below}",
        ),
        _Refusal(
            settings.top or settings.quantile,
            "a choice by report-noisy-max, which has noise of its own",
            "leave `top` and `quantile` out: every group is then counted, and LIMIT picks among those counts",
        ),
        _Refusal(
            settings.bounding is Bounding.RESCALE,
            "rescaling, which holds units to a norm in L2",
            "leave `bounding` out, or the setting",
        ),
        _Refusal(
            any(_multiplies(formula) for formula in query.formulas),
            "a product of two noisy values, whose error it does not know",
            "ask for both as columns, and multiply the answers",
        ),
    ]


def _multiplies(formula: Formula) -> bool:
    """Return whether two values that carry noise are multiplied somewhere."""
    noisy = [bool(argument.aggregates()) for argument in formula.args]
    own = formula.op is FormulaOp.MULTIPLY and all(noisy)
    return own or any(_multiplies(argument) for argument in formula.args)
