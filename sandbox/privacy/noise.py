"""The one place where noise is drawn: OpenDP's exact discrete samplers, on integers, checked by OpenDP's own maps.

This is the only module of the room that is not pure.  No seed can be given to OpenDP and none is wanted: noise is
recorded under seal for the auditor, never derived again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from sandbox.privacy.guard import broken_guard
from sandbox.privacy.mechanism import (
    LaplaceNoise,
    Threshold,
    choice_measurement,
    gaussian_measurement,
    laplace_measurement,
    sqrt_up,
    threshold_loss,
    threshold_measurement,
    top_measurement,
)


class NoiseSource(Protocol):
    """Adds noise to exact integers; what it returns may leave the house, what it is given may not."""

    def gaussian(self, values: Sequence[int], *, sigma: Fraction, sensitivity_squared: int, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Gaussian noise of scale `sigma`."""
        ...

    def laplace(self, values: Sequence[int], *, noise: LaplaceNoise, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Laplace noise."""
        ...

    def thresholded(
        self, counts: Mapping[str, int], *, sigma: Fraction, threshold: Threshold, rho: Fraction
    ) -> dict[str, int]:
        """Return the noisy counts of those keys whose noisy count reaches the threshold."""
        ...

    def top(self, scores: Sequence[int], *, count: int, scale: Fraction, rho: Fraction) -> list[int]:
        """Return the places of the `count` scores that are largest with noise of scale `scale`, largest first."""
        ...

    def best(self, groups: Sequence[Sequence[int]], *, scale: Fraction, sensitivity: int, rho: Fraction) -> list[int]:
        """Return for each group the place of the score that is largest with noise of scale `scale`."""
        ...


class OpenDpNoise:
    """Noise from OpenDP."""

    def gaussian(self, values: Sequence[int], *, sigma: Fraction, sensitivity_squared: int, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Gaussian noise.

        Args:
            values: integers within 2**62 of zero.
            sigma: the scale, a 64-bit float.
            sensitivity_squared: the square of the L2 distance that neighbouring tables move `values` at most.
            rho: what it may cost.

        Privacy: rho-zCDP; checked with OpenDP's map before a draw, or `privacy.guard`.
        """
        measurement = gaussian_measurement(_as_float(sigma))
        if Fraction(measurement.map(sqrt_up(Fraction(sensitivity_squared)))) > rho:
            raise broken_guard("the noise of a statistic is too little for its share of the loss")
        if not values:
            return []
        return [int(value) for value in measurement(np.asarray(values, dtype=np.int64))]

    def laplace(self, values: Sequence[int], *, noise: LaplaceNoise, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Laplace noise.

        Args:
            values: integers within 2**62 of zero, which neighbouring tables move by `noise.distance` in L1 at most.
            noise: its scale, a 64-bit float, and the pure loss that it claims.
            rho: what it may be charged.

        Privacy: pure loss `noise.epsilon`, and rho-zCDP; checked with OpenDP's map before a draw, or `privacy.guard`.
        """
        measurement = laplace_measurement(_as_float(noise.scale))
        if Fraction(measurement.map(noise.distance)) > noise.epsilon or noise.epsilon**2 > 2 * rho:
            raise broken_guard("the noise of a statistic is too little for its share of the loss")
        if not values:
            return []
        return [int(value) for value in measurement(np.asarray(values, dtype=np.int64))]

    def thresholded(
        self, counts: Mapping[str, int], *, sigma: Fraction, threshold: Threshold, rho: Fraction
    ) -> dict[str, int]:
        """Return the keys whose noisy count reaches the threshold, with that count.

        Args:
            counts: key to a count of units, which one change moves by at most `threshold.distances`.
            sigma: the scale, a 64-bit float.
            threshold: the least noisy count, and the delta that it keeps.
            rho: what it may cost.

        Privacy: rho-zCDP but for a chance of delta; checked with OpenDP's map before a draw, or `privacy.guard`.
        """
        spent_rho, spent_delta = threshold_loss(sigma, threshold)
        if spent_rho > rho or spent_delta > threshold.delta:
            raise broken_guard("the threshold of private keys is too low for the loss")
        if not counts:
            return {}
        measurement = threshold_measurement(_as_float(sigma), threshold.value)
        return {str(key): int(value) for key, value in measurement(dict(counts)).items()}

    def top(self, scores: Sequence[int], *, count: int, scale: Fraction, rho: Fraction) -> list[int]:
        """Return the places of the largest noisy scores, largest first; the noisy scores themselves stay inside.

        Args:
            scores: one for each public candidate; one unit moves each by at most 1, and all in one direction.
            count: how many are chosen.
            scale: of the noise, a 64-bit float.
            rho: what it may cost.

        Privacy: rho-zCDP; checked with OpenDP's map before a draw, or `privacy.guard`.
        """
        measurement = top_measurement(_as_float(scale), count)
        if Fraction(measurement.map(1)) > rho:
            raise broken_guard("the noise of a choice is too little for its share of the loss")
        return [int(place) for place in measurement(np.asarray(scores, dtype=np.int64))]

    def best(self, groups: Sequence[Sequence[int]], *, scale: Fraction, sensitivity: int, rho: Fraction) -> list[int]:
        """Return for each group the place of the largest noisy score; the noisy scores themselves stay inside.

        Args:
            groups: one score for each public candidate.  One unit moves the scores of group g by at most d_g, in any
                direction, where the sum of all d_g is at most `sensitivity`.
            scale: of the noise, a 64-bit float.
            sensitivity: a whole number.
            rho: what the choices of all groups may cost together.

        Privacy: rho-zCDP, since the sum of all d_g**2 is at most sensitivity**2; checked with OpenDP's map before a
        draw, or `privacy.guard`.
        """
        measurement = choice_measurement(_as_float(scale))
        if Fraction(measurement.map(sensitivity)) > rho:
            raise broken_guard("the noise of a choice is too little for its share of the loss")
        return [int(measurement(np.asarray(scores, dtype=np.int64))) for scores in groups]


def _as_float(sigma: Fraction) -> float:
    scale = float(sigma)
    if Fraction(scale) != sigma:
        raise broken_guard("a scale of noise is not a 64-bit float")
    return scale
