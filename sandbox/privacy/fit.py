"""Whether recorded noise fits the discrete Gaussian that a plan names: three tests with proven false-alarm rates.

- Each draw: P(|X| >= t) <= 2 exp(-t**2 / (2 sigma**2)); the bound is taken over all that were drawn.
- The energy of n draws, from below and from above: Chernoff's bound on the sum of squares, with
  E[exp(-s X**2)] <= (sigma' + 1/sqrt(2 pi)) / sigma, where 1/sigma'**2 = 1/sigma**2 + 2 s (Poisson summation: a
  discrete Gaussian's normaliser lies between sqrt(2 pi) sigma and that plus 1).

Noise that was scaled down, left out or drawn too large is found as soon as there are enough cells.  Draws that survived
a threshold are a selection, so only the first test holds for them.

Source: Canonne, Kamath, Steinke 2020, proposition 25 and fact 18 (arXiv 2004.00010).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from sandbox.errors import ReplayMismatchError

FALSE_ALARM = 1e-9
"""The chance at most that noise which was drawn as planned is refused, for one whole answer."""

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


def energy_limits(draws: int, sigma: float, alarm: float) -> tuple[float, float]:
    """Return the limits of the mean of (X / sigma)**2 over `draws` draws, each passed with chance `alarm`."""
    rate = math.log(1 / alarm) / draws
    slack = 1 / (math.sqrt(2 * math.pi) * sigma)

    def low_at(s: float) -> float:
        # mean <= m has chance <= exp(n (s m + ln M(s))); solve for m.
        return (-rate - math.log((1 + 2 * s) ** -0.5 + slack)) / s

    def high_at(s: float) -> float:
        return (rate + math.log((1 - 2 * s) ** -0.5 + slack)) / s

    grid = [2.0 ** (power / 4) for power in range(-60, 60)]
    low = max(low_at(s) for s in grid)
    high = min(high_at(s) for s in grid if s < 0.5)
    return max(0.0, low), high
