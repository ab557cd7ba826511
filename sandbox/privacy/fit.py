"""Whether recorded noise fits the law that a plan names: three tests of each statistic with proven false-alarm rates.

Discrete Gaussian noise of scale sigma:

- Each draw: P(|X| >= t) <= 2 exp(-t**2 / (2 sigma**2)); the bound is taken over all that were drawn.
- The energy of n draws, from below and from above: Chernoff's bound on the sum of (X / sigma)**2, whose moment
  generating function is the ratio of two normalisers of discrete Gaussians (`_moment_bound`).

Noise that was scaled down, left out or drawn too large is found as soon as there are enough cells.  Draws that survived
a threshold are a selection, so only the first test holds for them.

Discrete Laplace noise of scale b (`check_laplace_fit`), with Y = |X| / b: P(Y >= t) <= 2 exp(-t), and Chernoff's bound
on the sum of Y, whose moment generating function is known exactly.

Choices by report-noisy-max have tests of their own (`check_choice`, `check_leaves`).

Source: Canonne, Kamath, Steinke 2020, proposition 25 and fact 18 (arXiv 2004.00010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from sandbox.errors import ReplayMismatchError

FALSE_ALARM = 1e-9
"""The chance at most that noise which was drawn as planned is refused, for one whole answer."""

_LOW_TILTS = tuple(2.0 ** (power / 2) for power in range(-10, 16))
_HIGH_TILTS = tuple(-power / 16 for power in range(1, 16))
"""Where Chernoff's bounds on choices are tried: far below what is due, and far above."""

_HINT = "keep both records as evidence and look at who wrote them"


def check_fit(noise: Sequence[int], sigma: Fraction, *, drawn: int, selected: bool, place: str, share: int) -> None:
    """Raise `ReplayMismatchError` where noise does not fit its scale.

    Args:
        noise: the recorded noise.
        sigma: the scale; 0 means that there is none.
        drawn: how many draws there were in all, with those that a threshold hid.
        selected: whether a threshold chose among the draws.
        place: what to name.
        share: how many such checks share the false-alarm rate.
    """
    if sigma == 0:
        if any(noise):
            raise ReplayMismatchError("noise stands where none was drawn", hint=_HINT, place=place)
        return
    scale = float(sigma)
    alarm = FALSE_ALARM / (3 * share)
    limit = scale * math.sqrt(2 * math.log(2 * max(1, drawn) / alarm))
    for index, draw in enumerate(noise):
        if abs(draw) > limit:
            raise ReplayMismatchError(
                "the noise of a cell is beyond its mechanism", hint=_HINT, place=f"{place}, cell {index}"
            )
    if not selected and noise:
        energy = math.fsum((draw / scale) ** 2 for draw in noise) / len(noise)
        low, high = energy_limits(len(noise), scale, alarm)
        if not low <= energy <= high:
            raise ReplayMismatchError("the noise is not of its mechanism's size", hint=_HINT, place=place)


def check_laplace_fit(noise: Sequence[int], scale: Fraction, *, place: str, share: int) -> None:
    """Raise `ReplayMismatchError` where noise does not fit discrete Laplace noise of its scale.

    Args:
        noise: the recorded noise, all that was drawn.
        scale: of the noise; 0 means that there is none.
        place: what to name.
        share: how many such checks share the false-alarm rate.
    """
    if scale == 0 or not noise:
        check_fit(noise, Fraction(0), drawn=0, selected=False, place=place, share=share)
        return
    alarm, unit = FALSE_ALARM / (3 * share), float(scale)
    limit = unit * math.log(2 * len(noise) / alarm)
    for index, draw in enumerate(noise):
        if abs(draw) > limit:
            raise ReplayMismatchError(
                "the noise of a cell is beyond its mechanism", hint=_HINT, place=f"{place}, cell {index}"
            )
    size = math.fsum(abs(draw) / unit for draw in noise) / len(noise)
    low, high = size_limits(len(noise), unit, alarm)
    if not low <= size <= high:
        raise ReplayMismatchError("the noise is not of its mechanism's size", hint=_HINT, place=place)


def check_choice(scores: Sequence[int], chosen: Sequence[int], scale: Fraction) -> None:
    """Raise `ReplayMismatchError` where groups were chosen that report-noisy-max would hardly have chosen.

    With Gumbel noise the next group is i with chance exp(s_i / scale) over the sum for all that are left, at most
    exp(-(best - s_i) / scale).  So one that is behind the best by `scale * ln(candidates * count / alarm)` is chosen
    anywhere with chance `alarm` at most, which is half of `FALSE_ALARM`: the counts have the other half.

    Args:
        scores: of all candidates.
        chosen: places among them, first one first.
        scale: of the noise.
    """
    limit = float(scale) * math.log(2 * len(scores) * max(1, len(chosen)) / FALSE_ALARM)
    left = set(range(len(scores)))
    for index, place in enumerate(chosen):
        if max(scores[other] for other in left) - scores[place] > limit:
            raise ReplayMismatchError("a group was chosen that is too far behind", hint=_HINT, place=f"choice {index}")
        left.discard(place)


def check_leaves(groups: Sequence[Sequence[int]], leaves: Sequence[int], scale: Fraction, *, share: int) -> None:
    """Raise `ReplayMismatchError` where bins were chosen that report-noisy-max would hardly have chosen.

    - Each choice, as in `check_choice`: one that is behind the best by `scale * ln(bins / alarm)` is chosen anywhere
      with chance `alarm` at most, where the bins of all groups are counted.
    - All choices together, from below and from above: Chernoff's bound on the sum of what they are behind.  With g the
      gaps of a group's bins in scales and Z(s) the sum of exp(-s g), a choice has E[exp(-s g)] = Z(1 + s) / Z(1).

    Args:
        groups: for each group the scores of all bins.
        leaves: the chosen place in each group.
        scale: of the noise.
        share: how many such checks share the false-alarm rate.
    """
    alarm = FALSE_ALARM / (3 * share)
    gaps = [(max(scores) - np.array(scores, dtype=np.float64)) / float(scale) for scores in groups]
    behind = [float(gap[leaf]) for gap, leaf in zip(gaps, leaves, strict=True)]
    limit = math.log(max(1, sum(map(len, groups))) / alarm)
    for index, found in enumerate(behind):
        if found > limit:
            raise ReplayMismatchError(
                "a value was chosen that is too far from the wanted rank", hint=_HINT, place=f"cell {index}"
            )
    for tilt in (*_LOW_TILTS, *_HIGH_TILTS):
        moment = sum(math.log(float(np.exp(-(1 + tilt) * g).sum()) / float(np.exp(-g).sum())) for g in gaps)
        if tilt * math.fsum(behind) + moment < math.log(alarm):
            raise ReplayMismatchError("the choices are not of their mechanism's size", hint=_HINT, place="leaves")


def energy_limits(draws: int, sigma: float, alarm: float) -> tuple[float, float]:
    """Return the limits of the mean of (X / sigma)**2 over `draws` draws, each passed with chance `alarm`."""
    rate = math.log(1 / alarm) / draws

    def low_at(s: float) -> float:
        # mean <= m has chance <= exp(n (s m + ln M(s))); solve for m.
        return (-rate - math.log(_moment_bound(sigma, (1 + 2 * s) ** -0.5))) / s

    def high_at(s: float) -> float:
        return (rate + math.log(_moment_bound(sigma, (1 - 2 * s) ** -0.5))) / s

    grid = [2.0 ** (power / 4) for power in range(-60, 60)]
    low = max(low_at(s) for s in grid)
    high = min(high_at(s) for s in grid if s < 0.5)
    return max(0.0, low), high


def size_limits(draws: int, scale: float, alarm: float) -> tuple[float, float]:
    """Return the limits of the mean of |X| / scale over `draws` Laplace draws, each passed with chance `alarm`.

    With q = exp(-1 / scale), r = q exp(s / scale) < 1: E[exp(s |X| / scale)] = (1 - q) / (1 + q) * (1 + r) / (1 - r).
    """
    rate = math.log(1 / alarm) / draws

    def log_moment(s: float) -> float:
        q, r = math.exp(-1 / scale), math.exp(-(1 - s) / scale)
        return math.log(-math.expm1(-1 / scale) / (1 + q)) + math.log((1 + r) / -math.expm1(-(1 - s) / scale))

    low = max((-rate - log_moment(-s)) / s for s in (2.0 ** (power / 4) for power in range(-60, 60)))
    near_one = [1 - 2.0 ** (-power / 8) for power in range(1, 120)]
    high = min((rate + log_moment(s)) / s for s in (*near_one, *(2.0 ** (-power / 4) for power in range(4, 60))))
    return max(0.0, low), high


def _moment_bound(sigma: float, stretch: float) -> float:
    """Return an upper bound on the ratio of the normalisers of scales `stretch * sigma` and `sigma`.

    The normaliser of scale s is sqrt(2 pi) s (1 + 2 sum exp(-2 pi**2 s**2 k**2)) and lies below sqrt(2 pi) s + 1; it is
    at least sqrt(2 pi) s, and at least 1.
    """
    scale = stretch * sigma
    decay = math.exp(-2 * (math.pi * scale) ** 2)
    poisson = scale * (1 + 2 * decay / (1 - decay)) if decay < 0.5 else math.inf
    root = math.sqrt(2 * math.pi)
    return min(poisson, scale + 1 / root) / max(sigma, 1 / root)
