"""Noise scales and thresholds: the smallest that a loss allows, rounded up, and confirmed by OpenDP's own maps.

Nothing here draws noise.  A scale is a 64-bit float, and so an exact rational; the inequality that the guarantee rests
on is checked in exact arithmetic, and again with the map of the very mechanism that will run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

from sandbox.errors import BoundError
from sandbox.model.exact import format_exact
from sandbox.privacy import opendp_parts as dp

dp.enable_features("contrib")

MAX_SIGMA = Fraction(2**58)
"""Noise beyond this could meet the ends of 64 bits; refused."""

SIGMA_BITS = 31
"""A scale has so many significant bits, rounded up: less than a billionth more noise, and its square
fits one word of the sampler's exact arithmetic, which then takes a tenth less time."""

MAX_SCALE = Fraction(2**55)
"""The same for Laplace noise, whose law falls off slower: beyond 128 scales lies less than one draw in 10**55."""

MAX_RHO = 10**18
"""A loss beyond this promises nothing, and its scale would leave what floats can hold; refused."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The release of private keys.

    Attributes:
        groups: the most groups in which one change moves the count of units (L0).
        delta: the chance that a key which only one of two neighbouring tables has passes, at most.
        value: the least noisy count of units that a released key shows.
        squared: the square of the L2 distance that one change moves the counts.
        most: how far it moves one count (Linf).
    """

    groups: int
    delta: Fraction
    value: int
    squared: int
    most: int

    @property
    def distances(self) -> tuple[int, int, int]:
        """What one change moves, as OpenDP takes it: L0, L2 as an integer rounded up, Linf."""
        return (self.groups, threshold_distance(self.squared), self.most)

    def to_record(self) -> dict[str, Any]:
        """Return the threshold as a canonical record."""
        return {
            "groups": self.groups,
            "delta": format_exact(self.delta),
            "value": str(self.value),
            "squared": str(self.squared),
            "most": str(self.most),
        }


@dataclass(frozen=True, slots=True)
class LaplaceNoise:
    """Discrete Laplace noise on one statistic.

    Attributes:
        scale: of the noise, a 64-bit float.
        distance: the exact L1 sensitivity over all cells, in the statistic's integer units.
        epsilon: its pure loss, rounded up.
    """

    scale: Fraction
    distance: int
    epsilon: Fraction

    def to_record(self) -> dict[str, str]:
        """Return the noise as a canonical record."""
        return {
            "scale": format_exact(self.scale),
            "distance": str(self.distance),
            "epsilon": format_exact(self.epsilon),
        }


def gaussian_measurement(sigma: float) -> Any:
    """Return OpenDP's discrete Gaussian on vectors of 64-bit integers, under L2 distance and zCDP."""
    return dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), scale=sigma)


def threshold_measurement(sigma: float, threshold: int) -> Any:
    """Return OpenDP's discrete Gaussian on `{key: count}`, which keeps keys at or above the threshold."""
    return dp.m.make_gaussian_threshold(
        dp.map_domain(dp.atom_domain(T="String"), dp.atom_domain(T="i64")),
        dp.l02inf_distance(dp.absolute_distance(T="i64")),
        scale=sigma,
        threshold=threshold,
    )


@cache
def gaussian_sigma(sensitivity_squared: int, rho: Fraction) -> Fraction:
    """Return the scale of the discrete Gaussian for an L2 sensitivity, as an exact rational, rounded up.

    Args:
        sensitivity_squared: the square of the exact L2 sensitivity, in the statistic's integer units.
        rho: the loss of this statistic.

    Raises:
        BoundError: rho is not positive or promises nothing, or the noise would not fit 64 bits.

    Privacy: sigma**2 * 2 * rho >= sensitivity**2 exactly, and OpenDP's map at the sensitivity (rounded up) is at most
    rho.  Source: Canonne, Kamath, Steinke 2020, theorem 4.
    """
    _check_rho(rho)
    if sensitivity_squared == 0:
        return Fraction(0)
    square = Fraction(sensitivity_squared) / (2 * rho)
    if square >= MAX_SIGMA**2:
        raise BoundError(
            "the noise would be beyond 58 bits", hint="spend more loss, or narrow the values", code="privacy.bound.loss"
        )
    sigma = _short_up(sqrt_up(square))
    distance = sqrt_up(Fraction(sensitivity_squared))
    while Fraction(sigma) ** 2 < square or Fraction(gaussian_measurement(sigma).map(distance)) > rho:
        sigma = _short_up(math.nextafter(sigma, math.inf))
    return Fraction(sigma)


def _short_up(scale: float) -> float:
    """Return the least number of `SIGMA_BITS` bits that is not below a scale."""
    mantissa, exponent = math.frexp(scale)
    return math.ldexp(math.ceil(math.ldexp(mantissa, SIGMA_BITS)), exponent - SIGMA_BITS)


def laplace_measurement(scale: float) -> Any:
    """Return OpenDP's discrete Laplace on vectors of 64-bit integers, under L1 distance and pure loss."""
    return dp.m.make_laplace(dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64"), scale=scale)


def laplace_loss(scale: Fraction, distance: int) -> Fraction:
    """Return the pure loss epsilon of discrete Laplace noise of a scale, a 64-bit float, at an L1 sensitivity.

    It is OpenDP's map, which rounds up, and in exact arithmetic not below `distance / scale`.
    """
    return max(Fraction(laplace_measurement(float(scale)).map(distance)), distance / scale)


@cache
def laplace_scale(distance: int, rho: Fraction) -> Fraction:
    """Return the scale of the discrete Laplace for an L1 sensitivity, as an exact rational, rounded up.

    Args:
        distance: the exact L1 sensitivity, in the statistic's integer units.
        rho: what this statistic is charged in zCDP.

    Raises:
        BoundError: rho is not positive or promises nothing, or the noise would not fit 64 bits.

    Privacy: the noise has a pure loss epsilon, OpenDP's own map, with epsilon**2 / 2 <= rho exactly.  Source: Ghosh,
    Roughgarden, Sundararajan 2012 for the noise; Bun, Steinke 2016, proposition 1.4 for its zCDP
    (`docs/proofs/laplace.md`).
    """
    _check_rho(rho)
    if distance == 0:
        return Fraction(0)
    square = Fraction(distance**2) / (2 * rho)
    if square >= MAX_SCALE**2 or distance >= 2**62:
        raise BoundError(
            "the noise would be beyond 55 bits", hint="spend more loss, or narrow the values", code="privacy.bound.loss"
        )
    scale = _short_up(sqrt_up(square))
    while laplace_loss(Fraction(scale), distance) ** 2 > 2 * rho:
        scale = _short_up(math.nextafter(scale, math.inf))
    return Fraction(scale)


def laplace_noise(distance: int, rho: Fraction) -> LaplaceNoise:
    """Return the least Laplace noise that a charge of rho allows.

    Raises:
        BoundError: as `laplace_scale`.

    Privacy: pure loss `epsilon`, with epsilon**2 / 2 <= rho exactly.
    """
    scale = laplace_scale(distance, rho)
    return LaplaceNoise(scale, distance, laplace_loss(scale, distance) if distance else Fraction(0))


def _check_rho(rho: Fraction) -> None:
    if rho <= 0:
        raise BoundError(
            "the question has no loss to spend", hint="give it a rho above zero", code="privacy.bound.loss"
        )
    if rho > MAX_RHO:
        raise BoundError(
            "a loss so large promises nothing", hint="give the question a rho below 1", code="privacy.bound.loss"
        )


def sqrt_up(square: Fraction) -> float:
    """Return the least float that is certainly not below the square root."""
    root = math.sqrt(square)
    while Fraction(root) ** 2 < square:
        root = math.nextafter(root, math.inf)
    return root


def top_measurement(scale: float, count: int) -> Any:
    """Return OpenDP's report-noisy-max of the `count` largest of some scores that a unit moves in one direction."""
    return dp.m.make_noisy_top_k(
        dp.vector_domain(dp.atom_domain(T="i64")),
        dp.linf_distance(T="i64", monotonic=True),
        dp.zero_concentrated_divergence(),
        k=count,
        scale=scale,
    )


@cache
def top_scale(count: int, rho: Fraction) -> Fraction:
    """Return the scale of a choice of `count` among scores that a unit moves by at most 1, all in one direction.

    Raises:
        BoundError: rho is not positive, or the noise would not fit 64 bits.

    Privacy: scale**2 * 8 * rho >= count exactly, and OpenDP's map at 1 is at most rho (`docs/proofs/top.md`).
    """
    square = Fraction(count) / (8 * rho) if rho > 0 else MAX_SIGMA**2
    if square >= MAX_SIGMA**2:
        raise BoundError(
            "the noise would be beyond 58 bits", hint="spend more loss, or narrow the values", code="privacy.bound.loss"
        )
    scale = sqrt_up(square)
    while Fraction(top_measurement(scale, count).map(1)) > rho:
        scale = math.nextafter(scale, math.inf)
    return Fraction(scale)


def choice_measurement(scale: float) -> Any:
    """Return OpenDP's report-noisy-max of one place among scores that a unit moves in any direction."""
    return dp.m.make_noisy_max(
        dp.vector_domain(dp.atom_domain(T="i64")),
        dp.linf_distance(T="i64"),
        dp.zero_concentrated_divergence(),
        scale=scale,
    )


@cache
def choice_scale(sensitivity: int, rho: Fraction) -> Fraction:
    """Return the scale of a choice of one place among scores that a unit moves by at most `sensitivity`, up or down.

    Raises:
        BoundError: rho is not positive, or the noise would not fit 64 bits.

    Privacy: scale**2 * 2 * rho >= sensitivity**2 exactly, and OpenDP's map at the sensitivity is at most rho
    (`docs/proofs/chosen-quantile.md`).
    """
    square = Fraction(sensitivity**2) / (2 * rho) if rho > 0 else MAX_SIGMA**2
    if square >= MAX_SIGMA**2:
        raise BoundError(
            "the noise would be beyond 58 bits", hint="spend more loss, or narrow the values", code="privacy.bound.loss"
        )
    scale = sqrt_up(square)
    while Fraction(choice_measurement(scale).map(sensitivity)) > rho:
        scale = math.nextafter(scale, math.inf)
    return Fraction(scale)


def threshold_loss(sigma: Fraction, threshold: Threshold) -> tuple[Fraction, Fraction]:
    """Return what a release of keys at a threshold costs: rho, and the chance of a failure.

    OpenDP 0.16 keeps keys *at* the threshold, and its map takes for their chance the tail of a continuous Gaussian from
    there on, which is less than that of the discrete one (its issue 2922).  So the map is asked for a threshold one
    lower: P[X >= m] <= P[N >= m - 1] for the discrete X and the continuous N (Canonne, Kamath, Steinke 2020,
    proposition 25).
    """
    rho, delta = threshold_measurement(float(sigma), threshold.value - 1).map(threshold.distances)
    return Fraction(rho), Fraction(delta)


@cache
def threshold_release(
    groups: int, rho: Fraction, delta: Fraction, *, squared: int | None = None, most: int = 1
) -> tuple[Fraction, Threshold]:
    """Return the scale and the least threshold of a release of private keys.

    Args:
        groups: in how many groups one change moves the count of units at most (L0).
        rho: what the release may cost.
        delta: the chance of a failure.
        squared: the square of the L2 distance that it moves the counts; by default `groups`, as where it moves each of
            them by 1.
        most: how far it moves one of them (Linf).

    Raises:
        BoundError: delta is zero, or too small for OpenDP to account for.

    Privacy: `threshold_loss` is at most (rho, delta).
    """
    if delta <= 0:
        raise BoundError(
            "private group keys need a loss with delta",
            hint="give the loss a delta, as in 1e-7, or group by columns with a public domain",
            code="privacy.bound.delta",
        )
    reach = Threshold(groups, delta, most, groups if squared is None else squared, most)
    sigma = gaussian_sigma(reach.distances[1] ** 2, rho)

    def held(value: int) -> bool:
        spent_rho, spent_delta = threshold_loss(sigma, replace(reach, value=value))
        return spent_rho <= rho and spent_delta <= delta

    tail = math.log(2 * groups) - math.log(float(delta) or 5e-324)
    upper = 2 + most + math.ceil(float(sigma) * math.sqrt(2 * tail))
    for _ in range(3):
        if held(upper):
            break
        upper *= 2
    else:
        raise BoundError(
            "the delta of the loss is too small for private group keys",
            hint="use a delta of 1e-12 or more, or group by columns with a public domain",
            code="privacy.bound.delta",
        )
    lower = most + 1
    while upper - lower > 1:
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if held(middle) else (middle, upper)
    return sigma, replace(reach, value=upper)


def threshold_distance(squared: int) -> int:
    """Return an L2 distance, given as its square, as the integer that OpenDP takes, rounded up."""
    return math.isqrt(squared - 1) + 1
