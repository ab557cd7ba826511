"""From noisy integers to values, standard errors and 95 % intervals: exact rationals, floats only at the very end.

Intervals cover the noise, not the bias of the contribution bound, which the notes of an answer speak of.

- A count or total has discrete noise of a known scale; its half-width is `ceil(1.96 sigma)` steps, which covers at
  least 95 % for every scale.
- A mean is a ratio of a noisy sum S and a noisy count N.  Its standard error is the delta method's; its interval is
  Fieller's, which stays honest when N is small: where N is within its own noise of zero, it is the whole public range.

Source: Fieller 1954, "Some problems in interval estimation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sandbox.model.question import Cell
from sandbox.privacy.query import AggregateKind
from sandbox.privacy.statistics import Estimate

Z = Fraction(1_959_964, 1_000_000)
"""The 97.5 % point of the normal law, rounded up."""

_STEPS = 64


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an answer, exact, with its error; all None where it cannot be given."""

    amount: Fraction | None
    standard_error: Fraction | None
    lower: Fraction | None
    upper: Fraction | None


MISSING = Value(None, None, None, None)


def root_up(square: Fraction) -> Fraction:
    """Return a square root, rounded up to 2**-64; the same on every machine."""
    scaled = (square.numerator << (2 * _STEPS)) // square.denominator
    return Fraction(math.isqrt(scaled) + 1, 1 << _STEPS) if square else Fraction(0)


def value_of(estimate: Estimate, noisy: Sequence[int], sigmas: Sequence[Fraction]) -> Value:
    """Return the value that an estimate makes of one cell's noisy statistics."""
    if estimate.kind is AggregateKind.MEAN:
        return _mean(estimate, noisy, sigmas)
    amount = variance = Fraction(0)
    if estimate.sum is not None:
        amount += noisy[estimate.sum]
        variance += sigmas[estimate.sum] ** 2
    if estimate.count is not None:
        weight = 1 if estimate.sum is None else estimate.centre
        amount += weight * noisy[estimate.count]
        variance += weight**2 * sigmas[estimate.count] ** 2
    error = root_up(variance)
    half = math.ceil(Z * error)
    step = estimate.resolution
    return Value(amount * step, error * step, (amount - half) * step, (amount + half) * step)


def _mean(estimate: Estimate, noisy: Sequence[int], sigmas: Sequence[Fraction]) -> Value:
    assert estimate.sum is not None
    assert estimate.count is not None
    total, count = noisy[estimate.sum], noisy[estimate.count]
    if count <= 0:
        return MISSING
    total_variance, count_variance = sigmas[estimate.sum] ** 2, sigmas[estimate.count] ** 2
    ratio = Fraction(total, count)
    error = root_up((total_variance + ratio**2 * count_variance) / count**2)
    lowest, highest = Fraction(estimate.lower), Fraction(estimate.upper)
    low, high = lowest - estimate.centre, highest - estimate.centre
    free = count**2 - Z**2 * count_variance
    lower, upper = low, high
    if free > 0:
        inner = (total * count) ** 2 - free * (total**2 - Z**2 * total_variance)
        spread = root_up(max(Fraction(0), inner))
        lower = min(max((total * count - spread) / free, low), high)
        upper = max(min((total * count + spread) / free, high), low)
    amount = min(max(ratio, low), high)
    step, centre = estimate.resolution, estimate.centre
    error = min(error, highest - lowest)
    return Value((centre + amount) * step, error * step, (centre + lower) * step, (centre + upper) * step)


def as_cell(estimate: Estimate, amount: Fraction | None) -> Cell:
    """Return the cell that people get: an integer for a count, else a float."""
    if amount is None:
        return None
    if estimate.kind in {AggregateKind.COUNT, AggregateKind.UNITS}:
        return int(amount)
    return float(amount)


def as_float(amount: Fraction | None) -> float | None:
    """Return the nearest float."""
    return None if amount is None else float(amount)
