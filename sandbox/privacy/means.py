"""Means in whole numbers: what `estimate.py` finds through jets, over common denominators that are found once.

A mean is (centre + S / N) * resolution, held within its public range.  With A and B the squares of z times the scales
of N and S, Fieller's interval of S / N is (S N +- root) / (N**2 - A), the root being that of
(S N)**2 - (N**2 - A)(S**2 - B).  For whole S and N every part is a whole number over a denominator of the plan's.  A
test holds both ways together, value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from sandbox.privacy.jet import SMOOTH, STEPS
from sandbox.privacy.scales import reach_of_95
from sandbox.privacy.statistics import Estimate
from sandbox.privacy.value import LARGEST, Value


def mean_valuer(estimate: Estimate, sigmas: Sequence[Fraction]) -> Callable[[Sequence[Fraction | int]], Value | None]:
    """Return what a mean is in cells, or None in those where only the long way tells."""
    assert estimate.sum is not None
    assert estimate.count is not None
    total, count = estimate.sum, estimate.count
    squares = sigmas[total] ** 2, sigmas[count] ** 2
    below = math.lcm(*(square.denominator for square in squares))
    total_square, count_square = (int(square * below) for square in squares)
    # Noise of few steps is widened by the share that it has of the whole, which the long way looks at.
    smooth = min(sigmas[total], sigmas[count]) >= SMOOTH
    low, high = estimate.lower - estimate.centre, estimate.upper - estimate.centre
    fits = max(abs(estimate.lower), abs(estimate.upper), high - low) * estimate.resolution < LARGEST
    z = reach_of_95(sigmas)
    z_top, z_below = z.numerator**2, z.denominator**2
    # Over one denominator: A and B as above.
    whole = below * z_below
    count_reach, total_reach = count_square * z_top, total_square * z_top

    def shown(part: Fraction) -> Fraction:
        return (min(max(part, Fraction(low)), Fraction(high)) + estimate.centre) * estimate.resolution

    def value(noisy: Sequence[Fraction | int]) -> Value | None:
        top, rows = noisy[total], noisy[count]
        if not (smooth and fits and type(top) is int and type(rows) is int and rows > 0 and total != count):
            return None
        error = _root_up(total_square * rows**2 + count_square * top**2, below * rows**4)
        error = min(error, Fraction(high - low)) * estimate.resolution
        free = rows**2 * whole - count_reach
        amount, lower, upper = Fraction(top, rows), Fraction(low), Fraction(high)
        if free > 0:
            middle = top * rows
            under = (middle * whole) ** 2 - free * (top**2 * whole - total_reach)
            root = _root_up(max(0, under), whole**2)
            # (middle +- root) / (free / whole), the root in steps of 2**-STEPS.
            steps, scale = int(root * (1 << STEPS)), free << STEPS
            lower = Fraction(((middle << STEPS) - steps) * whole, scale)
            upper = Fraction(((middle << STEPS) + steps) * whole, scale)
        return Value(shown(amount), error, shown(lower), shown(upper))

    return value


def _root_up(top: int, below: int) -> Fraction:
    """Return `jet.root_up` of a quotient that need not be in lowest terms."""
    return Fraction(math.isqrt((top << (2 * STEPS)) // below) + 1, 1 << STEPS) if top else Fraction(0)
