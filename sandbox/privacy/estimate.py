"""From noisy integers to values, standard errors and 95 % intervals: exact rationals, floats only at the very end.

Intervals cover the noise, not the bias of the contribution bound, which the notes of an answer speak of.

- A count or total has discrete noise of a known scale; its half-width is `ceil(1.96 sigma)` steps, which covers at
  least 95 % for every scale.
- A mean is a ratio of a noisy sum S and a noisy count N.  Its standard error is the delta method's; its interval is
  Fieller's, which stays honest when N is small: where N is within its own noise of zero, it is the whole public range.
- A variance, covariance or correlation is made of such means.  Its interval is the delta method's where N and the means
  are known well enough for that to hold, else the whole range (`docs/proofs/variance.md`).
- A quantile lies where the noisy counts below it leave it; its standard error is its interval's (`quantile.py`).
- Arithmetic between values follows `jet.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sandbox.model.question import Cell
from sandbox.privacy import jet as jets
from sandbox.privacy import means
from sandbox.privacy.jet import Jet, root_up
from sandbox.privacy.keys import whole_cell
from sandbox.privacy.quantile import QuantilePlacer
from sandbox.privacy.query import AggregateKind, Formula, FormulaOp
from sandbox.privacy.scales import Z
from sandbox.privacy.statistics import Estimate, Moment
from sandbox.privacy.value import LARGEST, MISSING, Value

__all__ = ["as_cell", "as_float", "root_up", "value_of", "valuer_of"]

INTEGERS = {AggregateKind.COUNT, AggregateKind.UNITS, AggregateKind.DISTINCT}
"""What is a whole number."""
_LINEAR = {*INTEGERS, AggregateKind.SUM}

_KNOWN = 10
"""A count or mean is known well where its noise is below one part in this many, of itself or of its range."""


def value_of(
    formula: Formula, estimates: Sequence[Estimate], noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]
) -> Value:
    """Return the value that a formula makes of one cell's noisy statistics."""
    return _as_value(_formula(formula, estimates, noisy, sigmas), sigmas)


def _as_value(found: Jet | None, sigmas: Sequence[Fraction]) -> Value:
    if found is None:
        return MISSING
    lower, upper = jets.interval_of(found, sigmas)
    value = Value(found.amount, jets.error_of(found, sigmas), lower, upper)
    parts = (value.amount, value.standard_error, value.lower, value.upper)
    return value if all(part is not None and abs(part) < LARGEST for part in parts) else MISSING


def valuer_of(
    formula: Formula, estimates: Sequence[Estimate], sigmas: Sequence[Fraction]
) -> Callable[[Sequence[Fraction | int]], Value]:
    """Return `value_of` for many cells: what follows from the scales of the noise alone is found once."""
    estimate = None if formula.index is None else estimates[formula.index]
    if formula.op is not FormulaOp.AGGREGATE or estimate is None:
        return lambda noisy: value_of(formula, estimates, noisy, sigmas)
    if estimate.kind is AggregateKind.QUANTILE:
        placer = _placer(estimate, sigmas)
        return lambda noisy: _as_value(_quantile(estimate, noisy, placer), sigmas)
    if estimate.kind is AggregateKind.MEAN:
        quick = means.mean_valuer(estimate, sigmas)
        return lambda noisy: quick(noisy) or value_of(formula, estimates, noisy, sigmas)
    if estimate.kind not in _LINEAR:
        return lambda noisy: value_of(formula, estimates, noisy, sigmas)
    return _linear_valuer(estimate, sigmas)


def _linear_valuer(estimate: Estimate, sigmas: Sequence[Fraction]) -> Callable[[Sequence[Fraction | int]], Value]:
    found = _linear(estimate, [0] * len(sigmas))
    error, (low, high) = jets.error_of(found, sigmas), jets.interval_of(found, sigmas)
    total, count, weight = estimate.sum, estimate.count, 1 if estimate.sum is None else estimate.centre
    # Far within what a float holds, whatever the interval adds.
    near = int(LARGEST / estimate.resolution) // 4 if max(error, abs(low), abs(high)) < LARGEST // 4 else 0
    # Everything over one denominator, so that a cell costs whole additions.
    below = math.lcm(estimate.resolution.denominator, low.denominator, high.denominator)
    step, lower, upper = (int(part * below) for part in (estimate.resolution, low, high))

    def value(noisy: Sequence[Fraction | int]) -> Value:
        steps = (0 if total is None else noisy[total]) + (0 if count is None else noisy[count] * weight)
        if -near < steps < near and type(steps) is int:
            scaled = steps * step
            return Value(_over(scaled, below), error, _over(scaled + lower, below), _over(scaled + upper, below))
        amount = steps * estimate.resolution
        parts = (amount, error, amount + low, amount + high)
        return Value(*parts) if all(abs(part) < LARGEST for part in parts) else MISSING

    return value


def _over(amount: int, below: int) -> Fraction:
    return Fraction(amount) if below == 1 else Fraction(amount, below)


def _formula(
    formula: Formula, estimates: Sequence[Estimate], noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]
) -> Jet | None:
    if formula.op is FormulaOp.AGGREGATE:
        assert formula.index is not None
        return estimate_jet(estimates[formula.index], noisy, sigmas)
    if formula.op is FormulaOp.LITERAL:
        assert formula.amount is not None
        return jets.constant(formula.amount)
    left, right = (_formula(argument, estimates, noisy, sigmas) for argument in formula.args)
    if left is None or right is None:
        return None
    match formula.op:
        case FormulaOp.ADD:
            return jets.total(left, right, sigmas)
        case FormulaOp.SUBTRACT:
            return jets.total(left, jets.scaled(right, Fraction(-1)), sigmas)
        case FormulaOp.MULTIPLY:
            return jets.product(left, right, sigmas)
        case _:
            return jets.divided(left, right, sigmas)


def estimate_jet(estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]) -> Jet | None:
    """Return what one aggregate's estimate makes of noisy statistics, or None where it cannot be given."""
    match estimate.kind:
        case AggregateKind.MEAN:
            return _mean(estimate, noisy, sigmas)
        case AggregateKind.VARIANCE:
            return _variance(estimate, noisy, sigmas)
        case AggregateKind.DEVIATION:
            found = _variance(estimate, noisy, sigmas)
            return None if found is None else jets.rooted(found, sigmas)
        case AggregateKind.COVARIANCE:
            return _covariance(estimate, noisy, sigmas)
        case AggregateKind.CORRELATION:
            return _correlation(estimate, noisy, sigmas)
        case AggregateKind.QUANTILE:
            return _quantile(estimate, noisy, _placer(estimate, sigmas))
        case _:
            return _linear(estimate, noisy)


def _linear(estimate: Estimate, noisy: Sequence[Fraction | int]) -> Jet:
    found = jets.constant(Fraction(0))
    if estimate.sum is not None:
        found = jets.measured(estimate.sum, noisy[estimate.sum])
    if estimate.count is not None:
        weight = Fraction(1 if estimate.sum is None else estimate.centre)
        found = jets.added(found, jets.scaled(jets.measured(estimate.count, noisy[estimate.count]), weight))
    # The interval moves in whole steps of the total, whatever the count beside it weighs.
    return jets.scaled(Jet(found.amount, found.slopes, affine=True, grain=Fraction(1)), estimate.resolution)


def _mean(estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]) -> Jet | None:
    assert estimate.sum is not None
    assert estimate.count is not None
    total = jets.measured(estimate.sum, noisy[estimate.sum])
    count = jets.measured(estimate.count, noisy[estimate.count])
    if count.amount <= 0:
        return None
    low, high = Fraction(estimate.lower - estimate.centre), Fraction(estimate.upper - estimate.centre)
    ratio = total.amount / count.amount
    slopes = {estimate.sum: 1 / count.amount, estimate.count: -ratio / count.amount}
    found = Jet(ratio, slopes, interval=jets.fieller(total, count, sigmas) or (low, high))
    held = jets.within(found, low, high, sigmas)
    return jets.scaled(jets.added(held, jets.constant(Fraction(estimate.centre))), estimate.resolution)


def _placer(estimate: Estimate, sigmas: Sequence[Fraction]) -> QuantilePlacer:
    assert estimate.tree is not None
    assert estimate.fraction is not None
    return QuantilePlacer(estimate.tree, estimate.fraction, sigmas, Z)


def _quantile(estimate: Estimate, noisy: Sequence[Fraction | int], placer: QuantilePlacer) -> Jet | None:
    leaf = None if estimate.leaf is None else int(noisy[estimate.leaf])
    placed = placer.place([int(amount) for amount in noisy], leaf)
    if placed is None:
        return None
    error = (placed.upper - placed.lower) / (2 * Z)
    found = Jet(placed.amount, interval=(placed.lower, placed.upper), error=error)
    return jets.scaled(found, estimate.resolution)


@dataclass(frozen=True, slots=True)
class _Means:
    """Means of moments over one count.

    Attributes:
        means: of the moments, in order; the first ones are shifted by their centres.
        correction: n / (n - 1) for a sample, else 1.
        sure: whether the count and the first means are known well enough for the delta method.
    """

    means: tuple[Jet, ...]
    correction: Fraction
    sure: bool


def _means(
    estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction], first: int
) -> _Means | None:
    assert estimate.count is not None
    count = jets.measured(estimate.count, noisy[estimate.count])
    if count.amount <= (0 if estimate.population else 1):
        return None
    found: list[Jet] = []
    sure = count.amount > _KNOWN * sigmas[estimate.count]
    for place, moment in enumerate(estimate.moments):
        total = jets.measured(moment.sum, noisy[moment.sum])
        ratio = total.amount / count.amount
        mean = Jet(ratio, {moment.sum: 1 / count.amount, estimate.count: -ratio / count.amount})
        if place < first:
            width = Fraction(moment.upper - moment.lower)
            sure = sure and jets.error_of(mean, sigmas) * _KNOWN * 2 < width
        else:
            # The first means stay shifted, as the products that are compared with them were.
            mean = jets.added(mean, jets.constant(Fraction(moment.centre)))
        found.append(jets.scaled(mean, moment.resolution))
    correction = Fraction(1) if estimate.population else count.amount / (count.amount - 1)
    return _Means(tuple(found), correction, sure)


def _spread(moment: Moment) -> Fraction:
    """Return the largest deviation of a moment from the middle of its range."""
    return max(moment.upper - moment.centre, moment.centre - moment.lower) * moment.resolution


def _held(found: Jet, low: Fraction, high: Fraction, sigmas: Sequence[Fraction], *, sure: bool) -> Jet:
    if not sure:
        found = Jet(found.amount, found.slopes, interval=(low, high), error=found.error)
    return jets.within(found, low, high, sigmas)


def _variance(estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]) -> Jet | None:
    means = _means(estimate, noisy, sigmas, first=1)
    if means is None:
        return None
    mean, square = means.means
    found = jets.added(square, jets.scaled(jets.multiplied(mean, mean), Fraction(-1)))
    found = jets.scaled(found, means.correction)
    highest = _spread(estimate.moments[0]) ** 2 * means.correction
    return _held(found, Fraction(0), highest, sigmas, sure=means.sure)


def _covariance(estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]) -> Jet | None:
    means = _means(estimate, noisy, sigmas, first=2)
    if means is None:
        return None
    found = _comoment(means.means[0], means.means[1], means.means[2])
    highest = _spread(estimate.moments[0]) * _spread(estimate.moments[1]) * means.correction
    return _held(jets.scaled(found, means.correction), -highest, highest, sigmas, sure=means.sure)


def _correlation(estimate: Estimate, noisy: Sequence[Fraction | int], sigmas: Sequence[Fraction]) -> Jet | None:
    means = _means(estimate, noisy, sigmas, first=2)
    if means is None:
        return None
    one, other, both, square, other_square = means.means
    spread, other_spread = _comoment(one, one, square), _comoment(other, other, other_square)
    if spread.amount <= 0 or other_spread.amount <= 0:
        return None
    scale = jets.rooted(jets.multiplied(spread, other_spread), sigmas)
    found = jets.quotient(_comoment(one, other, both), scale, sigmas)
    if found is None:
        return None
    sure = means.sure and all(jets.error_of(part, sigmas) * _KNOWN < part.amount * 2 for part in (spread, other_spread))
    return _held(found, Fraction(-1), Fraction(1), sigmas, sure=sure)


def _comoment(one: Jet, other: Jet, both: Jet) -> Jet:
    return jets.added(both, jets.scaled(jets.multiplied(one, other), Fraction(-1)))


def as_cell(estimate: Estimate | None, amount: Fraction | None) -> Cell:
    """Return the cell that people get: an integer for a count, else a float."""
    if amount is None:
        return None
    if estimate is not None and estimate.kind in INTEGERS:
        return whole_cell(round(amount))
    return as_float(amount)


def as_float(amount: Fraction | None) -> float | None:
    """Return the nearest float."""
    return None if amount is None else amount.numerator / amount.denominator
