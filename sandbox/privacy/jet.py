"""Numbers that carry their error: a value, its derivative by every noisy integer, and what is known of its interval.

All of it is post-processing.  An affine value has an exact standard error and an exact interval.  A quotient of two
affine values has Fieller's interval.  A product has the error of a product of normals.  Anything else has the delta
method's error, and the interval that goes with it; where a part is not known well, or its own interval is not what the
delta method makes it, the interval is what the parts' own leave the whole.  Statistics that two values share are
counted once, since derivatives add before they are squared.  Noise of a few steps is not normal but moves in whole
steps: intervals take it as reaching to the next one.

Source: Fieller 1954, "Some problems in interval estimation".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sandbox.privacy.scales import of_the_same_law, reach_of_95, widening_for_two

STEPS = 64
SMOOTH = 10
"""Noise of so many steps is as good as normal: the steps move what an interval covers by less than 0.6 %."""
_KNOWN = 10
"""A factor is known well where its noise is below one part in this many."""
_LIKE = Fraction(6, 5)
"""A value is as good as linear where each side of its interval is the delta method's within this factor."""


def root_up(square: Fraction) -> Fraction:
    """Return a square root, rounded up to 2**-64; the same on every machine."""
    scaled = (square.numerator << (2 * STEPS)) // square.denominator
    return Fraction(math.isqrt(scaled) + 1, 1 << STEPS) if square else Fraction(0)


@dataclass(frozen=True, slots=True)
class Jet:
    """A value with its derivatives.

    Attributes:
        amount: the value.
        slopes: index of a noisy integer to the derivative by it; zeros are left out.
        affine: whether the value is affine in the noisy integers.
        grain: for an affine value, the step that it moves in (0: it is constant); its interval is widened to whole
            steps, which keeps small discrete noise covered.
        interval: the 95 % interval, where it is not the delta method's.
        error: the standard error, where it is not the delta method's.
    """

    amount: Fraction
    slopes: Mapping[int, Fraction] = field(default_factory=dict)
    affine: bool = False
    grain: Fraction = Fraction(0)
    interval: tuple[Fraction, Fraction] | None = None
    error: Fraction | None = None

    @property
    def constant(self) -> bool:
        """Whether it rests on no noisy integer."""
        return self.affine and not self.slopes


def constant(amount: Fraction) -> Jet:
    """Return a literal."""
    return Jet(amount, affine=True)


def measured(index: int, noisy: Fraction | int) -> Jet:
    """Return a noisy integer itself."""
    return Jet(Fraction(noisy), {index: Fraction(1)}, affine=True, grain=Fraction(1))


def covariance(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> Fraction:
    """Return the delta method's covariance of two values."""
    shared = one.slopes.keys() & other.slopes.keys()
    return sum((one.slopes[i] * other.slopes[i] * sigmas[i] ** 2 for i in shared), Fraction(0))


def _reaching(jet: Jet, sigmas: Sequence[Fraction]) -> Sequence[Fraction]:
    """Return the scales that the interval of a value goes by.

    Where noise of few steps makes more than half of its error, such noise is taken as reaching to a whole step; where
    smooth noise makes more, it hides the steps.
    """
    coarse = {index: slope for index, slope in jet.slopes.items() if sigmas[index] < SMOOTH}
    if not coarse:
        return sigmas
    steps = Jet(Fraction(0), coarse)
    if 2 * covariance(steps, steps, sigmas) <= covariance(jet, jet, sigmas):
        return sigmas
    z = reach_of_95(sigmas)
    reaching = [sigma if sigma >= SMOOTH else Fraction(math.ceil(z * sigma)) / z for sigma in sigmas]
    return of_the_same_law(sigmas, reaching)


def error_of(jet: Jet, sigmas: Sequence[Fraction]) -> Fraction:
    """Return the standard error."""
    return root_up(covariance(jet, jet, sigmas)) if jet.error is None else jet.error


def interval_of(jet: Jet, sigmas: Sequence[Fraction]) -> tuple[Fraction, Fraction]:
    """Return the 95 % interval."""
    if jet.interval is not None:
        return jet.interval
    if jet.error is not None or len(jet.slopes) < 2:
        half = reach_of_95(sigmas) * error_of(jet, sigmas)
    else:
        half = reach_of_95(sigmas) * root_up(covariance(jet, jet, _reaching(jet, sigmas)))
    if jet.grain:
        half = math.ceil(half / jet.grain) * jet.grain
    return jet.amount - half, jet.amount + half


def scaled(jet: Jet, factor: Fraction) -> Jet:
    """Return a multiple."""
    interval = jet.interval
    if interval is not None:
        low, high = interval[0] * factor, interval[1] * factor
        interval = (min(low, high), max(low, high))
    return Jet(
        jet.amount * factor,
        {} if factor == 0 else {index: slope * factor for index, slope in jet.slopes.items()},
        jet.affine,
        jet.grain * abs(factor),
        interval,
        None if jet.error is None else jet.error * abs(factor),
    )


def added(one: Jet, other: Jet) -> Jet:
    """Return the sum."""
    if one.constant:
        one, other = other, one
    if other.constant:
        interval = one.interval
        if interval is not None:
            interval = (interval[0] + other.amount, interval[1] + other.amount)
        return Jet(one.amount + other.amount, one.slopes, one.affine, one.grain, interval, one.error)
    slopes = dict(one.slopes)
    for index, slope in other.slopes.items():
        slopes[index] = slopes.get(index, Fraction(0)) + slope
    slopes = {index: slope for index, slope in slopes.items() if slope}
    both = one.affine and other.affine
    return Jet(one.amount + other.amount, slopes, both, _common(one.grain, other.grain) if both else Fraction(0))


def total(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> Jet:
    """Return the sum, with the interval that both leave it where one of them is not as good as linear."""
    found = added(one, other)
    if one.constant or other.constant or (_is_linear(one, sigmas) and _is_linear(other, sigmas)):
        return found
    (low, high), (low_2, high_2) = _widened(one, sigmas), _widened(other, sigmas)
    return Jet(found.amount, found.slopes, interval=(low + low_2, high + high_2))


def _is_linear(jet: Jet, sigmas: Sequence[Fraction]) -> bool:
    """Return whether the delta method says of a value what its own interval says."""
    if jet.affine:
        return True
    low, high = interval_of(jet, sigmas)
    half = reach_of_95(sigmas) * root_up(covariance(jet, jet, sigmas))
    return all(half <= side * _LIKE and side <= half * _LIKE for side in (jet.amount - low, high - jet.amount))


def multiplied(one: Jet, other: Jet) -> Jet:
    """Return the product."""
    for factor, jet in ((one, other), (other, one)):
        if factor.constant:
            return scaled(jet, factor.amount)
    slopes = {
        index: one.slopes.get(index, Fraction(0)) * other.amount + other.slopes.get(index, Fraction(0)) * one.amount
        for index in one.slopes.keys() | other.slopes.keys()
    }
    return Jet(one.amount * other.amount, slopes)


def product(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> Jet:
    """Return the product with its error: the delta method's, and what the noise of both factors makes together.

    Source: Goodman 1960, "On the exact variance of products", for two normals.
    """
    found = multiplied(one, other)
    if one.constant or other.constant:
        return found
    first, second = covariance(one, one, sigmas), covariance(other, other, sigmas)
    together = first * second + covariance(one, other, sigmas) ** 2
    error = root_up(covariance(found, found, sigmas) + together)
    known = all(jet.amount**2 > _KNOWN**2 * square for jet, square in ((one, first), (other, second)))
    if known and _is_linear(one, sigmas) and _is_linear(other, sigmas):
        half = reach_of_95(sigmas) * root_up(covariance(found, found, _reaching(found, sigmas)) + together)
        return Jet(found.amount, found.slopes, interval=(found.amount - half, found.amount + half), error=error)
    ends = [end * end_2 for end in _widened(one, sigmas) for end_2 in _widened(other, sigmas)]
    return Jet(found.amount, found.slopes, interval=(min(ends), max(ends)), error=error)


def _widened(jet: Jet, sigmas: Sequence[Fraction]) -> tuple[Fraction, Fraction]:
    (low, high), wider = interval_of(jet, sigmas), widening_for_two(sigmas)
    return jet.amount - (jet.amount - low) * wider, jet.amount + (high - jet.amount) * wider


def divided(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> Jet | None:
    """Return the quotient, or None where the divisor is within its own noise of zero.

    Where the delta method does not hold, the interval is the one that both parts leave it.
    """
    found = quotient(one, other, sigmas)
    if found is None or other.constant or (one.affine and other.affine):
        return found
    known = other.amount**2 > _KNOWN**2 * covariance(other, other, sigmas)
    if known and _is_linear(one, sigmas) and _is_linear(other, sigmas):
        return found
    low, high = _widened(other, sigmas)
    if low <= 0 <= high:
        return None
    ends = [end / end_2 for end in _widened(one, sigmas) for end_2 in (low, high)]
    return Jet(found.amount, found.slopes, interval=(min(ends), max(ends)))


def quotient(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> Jet | None:
    """Return the quotient by the delta method, or of affine values by Fieller's; None where `divided` gives None."""
    if other.constant:
        return None if other.amount == 0 else scaled(one, 1 / other.amount)
    if other.amount**2 <= reach_of_95(sigmas) ** 2 * covariance(other, other, sigmas) or other.amount == 0:
        return None
    ratio = one.amount / other.amount
    slopes = {
        index: (one.slopes.get(index, Fraction(0)) - ratio * other.slopes.get(index, Fraction(0))) / other.amount
        for index in one.slopes.keys() | other.slopes.keys()
    }
    interval = fieller(one, other, sigmas) if one.affine and other.affine else None
    return Jet(ratio, slopes, interval=interval)


def fieller(one: Jet, other: Jet, sigmas: Sequence[Fraction]) -> tuple[Fraction, Fraction] | None:
    """Return the interval of a quotient of two affine values, or None where it is unbounded.

    It holds all r for which (one - r other)**2 <= z**2 Var(one - r other), so it covers the true quotient in 95 % of
    cases, however small the divisor is.
    """
    square = reach_of_95(sigmas) ** 2
    if other.amount:
        sigmas = _reaching(added(one, scaled(other, -one.amount / other.amount)), sigmas)
    free = other.amount**2 - square * covariance(other, other, sigmas)
    if free <= 0:
        return None
    middle = one.amount * other.amount - square * covariance(one, other, sigmas)
    spread = root_up(max(Fraction(0), middle**2 - free * (one.amount**2 - square * covariance(one, one, sigmas))))
    return (middle - spread) / free, (middle + spread) / free


def rooted(jet: Jet, sigmas: Sequence[Fraction]) -> Jet:
    """Return the square root of a value that is not negative; its interval is the root of the interval."""
    low, high = interval_of(jet, sigmas)
    root = root_up(jet.amount)
    interval = (root_up(max(Fraction(0), low)), root_up(max(Fraction(0), high)))
    if root == 0:
        return Jet(root, interval=interval, error=root_up(error_of(jet, sigmas)))
    return Jet(root, {index: slope / (2 * root) for index, slope in jet.slopes.items()}, interval=interval)


def within(jet: Jet, low: Fraction, high: Fraction, sigmas: Sequence[Fraction]) -> Jet:
    """Return a value held within its public range, and its interval and error likewise."""
    lower, upper = interval_of(jet, sigmas)
    interval = (min(max(lower, low), high), max(min(upper, high), low))
    error = min(error_of(jet, sigmas), high - low)
    return Jet(min(max(jet.amount, low), high), jet.slopes, interval=interval, error=error)


def _common(one: Fraction, other: Fraction) -> Fraction:
    denominator = math.lcm(one.denominator, other.denominator)
    return Fraction(math.gcd(int(one * denominator), int(other * denominator)), denominator)
