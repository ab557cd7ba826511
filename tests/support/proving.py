"""What draws prove: lower bounds on the rho of a mechanism, each with a stated chance of a false accusation.

A claim of rho-zCDP says that the Renyi divergence of order a of what leaves for neighbours is at most a * rho, for every
a > 1.  An attacker gives every release a score, on which the two tables are told apart by cuts.  For each cut Clopper
and Pearson bound the chances P and Q that a score with and without the unit passes it; all of these bounds hold at once
but for a chance of 2 * ALARM.  `least_rho` then returns the rho of the closest two laws that fit them all.

Why it is the closest: call P_b and Q_b the masses between neighbouring cuts that the bounds P(> c) >= p_c and
Q(> c) <= q_c leave when all of them are sharp.  Where P_b / Q_b rises with b, the derivatives of sum P_b^a Q_b^(1-a)
rise in b for P and fall for Q, so moving P further up or Q further down never makes the sum, which is convex, smaller.
A cut where the ratio falls is left out, which is a weaker test and so still a right one.  Binning is post-processing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

ALARM = 1e-9
ORDERS = np.concatenate([1 + np.geomspace(1e-4, 1, 16), np.geomspace(2, 200, 30)[1:]])
MOST_CUTS = 6
_GRID, _FINE, _BINS, _BLUR = 2**15, 1000, 1000, 1e-6
Array = npt.NDArray[np.float64]


def limits(successes: int, trials: int, alarm: float = ALARM) -> tuple[float, float]:
    """Return Clopper-Pearson limits of a chance, each passed with probability `alarm` at most."""
    low, high = _limits(np.array([successes]), trials, alarm)
    return float(low[0]), float(high[0])


def _limits(successes: npt.NDArray[np.int64], trials: int, alarm: float) -> tuple[Array, Array]:
    rest = trials - successes
    low = np.where(successes > 0, stats.beta.ppf(alarm, np.maximum(successes, 1), rest + 1), 0.0)
    high = np.where(rest > 0, stats.beta.ppf(1 - alarm, successes + 1, np.maximum(rest, 1)), 1.0)
    return low, high


def least_rho(p_low: Sequence[float], q_high: Sequence[float]) -> float:
    """Return the largest rho that chances of passing rising cuts prove: at least `p_low` against at most `q_high`."""
    # A score that passes a higher cut passes a lower one.
    low = np.maximum.accumulate(np.asarray(p_low, dtype=float)[::-1])[::-1]
    high = np.minimum.accumulate(np.asarray(q_high, dtype=float))
    masses: list[tuple[float, float]] = []
    ends = (np.concatenate([[1.0], side, [0.0]]) for side in (low, high))
    for p, q in zip(*(np.maximum(0.0, -np.diff(side)) for side in ends), strict=True):
        masses.append((float(p), float(q)))
        while len(masses) > 1 and masses[-2][0] * masses[-1][1] >= masses[-1][0] * masses[-2][1]:
            last = masses.pop()
            masses[-1] = (masses[-1][0] + last[0], masses[-1][1] + last[1])
    held = [(p, q) for p, q in masses if p > 0]
    if any(q <= 0 for _, q in held):
        return math.inf
    ones, others = (np.log(np.array(side))[:, None] for side in zip(*held, strict=True))
    divergences = np.logaddexp.reduce(ORDERS * ones + (1 - ORDERS) * others, axis=0) / (ORDERS - 1)
    return max(0.0, float(np.max(divergences / ORDERS)))


def _proven(cuts: Array, with_unit: Array, without: Array, *, trials: int) -> float:
    """Return what scores prove at some cuts; `trials` other than their number asks what so many more would."""
    counts = [
        np.rint((side[None, :] > cuts[:, None]).mean(axis=1) * trials).astype(np.int64) for side in (with_unit, without)
    ]
    alarm = ALARM / len(cuts)
    return least_rho(_limits(counts[0], trials, alarm)[0], _limits(counts[1], trials, alarm)[1])  # type: ignore[arg-type]


def fewest(chances: npt.ArrayLike, trials: int, alarm: float = ALARM) -> npt.NDArray[np.int64]:
    """Return the least counts that events of known chances have, each but for a chance of `alarm`: exact."""
    return np.asarray(stats.binom.ppf(alarm, trials, chances)).astype(np.int64)


def most(chances: npt.ArrayLike, trials: int, alarm: float = ALARM) -> npt.NDArray[np.int64]:
    """Return the largest counts that events of known chances have, each but for a chance of `alarm`: exact."""
    return np.asarray(stats.binom.isf(alarm, trials, chances)).astype(np.int64)


def _sure_limits(chances: Sequence[tuple[float, float]], trials: int, cuts: int) -> tuple[Array, Array]:
    """Return the limits that so many cuts at chances of passing give at the least, but for a chance of ALARM in all."""
    p, q = np.array(chances).T
    few, many = (bound(side, trials, ALARM / (2 * cuts)) for bound, side in ((fewest, p), (most, q)))
    return _limits(few, trials, ALARM / cuts)[0], _limits(many, trials, ALARM / cuts)[1]


def best_cuts(chances: Sequence[tuple[float, float]], trials: int) -> tuple[list[int], float]:
    """Return the places of cuts, chosen by their chances before any draw, and the rho that they are sure to prove.

    Args:
        chances: of passing each of some rising cuts, with the unit (or a lower bound) and without it (or an upper one).
        trials: draws with the unit, and as many without.

    Draws of this law prove less with a chance of ALARM at most.  It is exact: binomial quantiles of the counts, and
    `least_rho` only rises where a count with the unit rises or one without it falls, since fewer laws fit them then.
    """
    places: list[int] = []
    value = 0.0
    while len(places) < min(MOST_CUTS, len(chances)):
        low, high = _sure_limits(chances, trials, len(places) + 1)
        tried = [sorted([*places, one]) for one in range(len(chances)) if one not in places]
        found = [least_rho(low[some], high[some]) for some in tried]  # type: ignore[arg-type]
        best = int(np.argmax(found))
        if found[best] <= value * 1.01:
            break
        value, places = found[best], tried[best]
    return places, value


def shown_at(cuts: Sequence[float], with_unit: Array, without: Array) -> float:
    """Return a lower bound on rho from scores for neighbours at rising cuts that were fixed before them."""
    assert len(with_unit) == len(without)
    return _proven(np.asarray(cuts, dtype=float), with_unit, without, trials=len(with_unit))


class SumLaw:
    """The law of a weighed sum of discrete Gaussians about 0, convolved on a grid that every term is rounded down to."""

    def __init__(self, parts: Sequence[tuple[float, float]]) -> None:
        """Convolve terms, each `(weight, sigma)`."""
        self.spread = math.sqrt(sum((weight * sigma) ** 2 for weight, sigma in parts))
        self._step = 24 * self.spread / _GRID
        self._room = sum(self._step + (abs(weight) * sigma / _BINS if sigma >= _FINE else 0) for weight, sigma in parts)
        law = np.ones(_GRID // 2 + 1, dtype=complex)
        for (weight, sigma), times in Counter(parts).items():
            law *= np.fft.rfft(_rounded_down(weight, sigma, self._step)) ** times
        masses = np.fft.irfft(law, _GRID)
        # Places beyond the half are negative.
        self._passing = np.cumsum(np.roll(masses, _GRID // 2)[::-1])[::-1]

    def passes(self, cut: float) -> tuple[float, float]:
        """Return bounds on the chance that the sum is above a cut."""
        hair = self._step / 1000  # what floats may be off by, at the least
        low, high = self._above(cut + hair), self._above(cut - self._room - hair)
        return max(0.0, low - _BLUR), min(1.0, high + _BLUR)

    def _above(self, cut: float) -> float:
        place = math.floor(cut / self._step) + 1 + _GRID // 2
        return float(self._passing[place]) if 0 <= place < _GRID else float(place < 0)


def gaussian_masses(sigma: float) -> tuple[npt.NDArray[np.int64], Array]:
    """Return integers and their chances under the discrete Gaussian, out to ten scales."""
    reach = math.ceil(10 * sigma) + 1
    places = np.arange(-reach, reach + 1)
    masses = np.exp(-0.5 * (places / sigma) ** 2)
    return places, masses / masses.sum()


def gaussian_passes(sigma: float, least: int) -> float:
    """Return the chance that a discrete Gaussian about 0 is `least` or more."""
    places, masses = gaussian_masses(sigma)
    return float(masses[places >= least].sum())


def _rounded_down(weight: float, sigma: float, step: float) -> Array:
    if sigma < _FINE:
        places, masses = gaussian_masses(sigma)
        least = weight * places
    else:
        # Chances of whole bins: those of a discrete Gaussian so wide are the normal's within _BLUR.
        edges = np.linspace(-10, 10, 20 * _BINS + 1)
        masses = np.diff(stats.norm.cdf(edges))
        least = weight * sigma * (edges[:-1] if weight > 0 else edges[1:])
    return np.bincount(np.floor(least / step).astype(np.int64) % _GRID, masses, _GRID)
