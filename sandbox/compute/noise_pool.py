"""Noise for many groups at once: OpenDP's samplers leave the interpreter's lock, so threads use every core.

The pieces of a vector get the noise that the whole would get: every coordinate's draw is independent of the others and
of the same scale, so the joint law is the same, and with it the loss (`docs/proofs/pieces.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice

from sandbox.privacy.mechanism import LaplaceNoise, Threshold
from sandbox.privacy.noise import NoiseSource, OpenDpNoise

PIECE = 256
"""More draws than this are split: some 4 ms of one core, and to start a thread takes a tenth of one."""


class ThreadedNoise:
    """A source of noise that splits long vectors over threads.

    Args:
        workers: how many threads.
        source: draws the noise of a piece.
    """

    def __init__(self, workers: int = 2, source: NoiseSource | None = None) -> None:
        self._workers = max(1, workers)
        self._source: NoiseSource = OpenDpNoise() if source is None else source

    def gaussian(self, values: Sequence[int], *, sigma: Fraction, sensitivity_squared: int, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Gaussian noise of scale `sigma`.

        Privacy: rho-zCDP as a whole: each draw asserts OpenDP's map at the sensitivity of the whole vector.
        """

        def draw(piece: Sequence[int]) -> list[int]:
            return self._source.gaussian(piece, sigma=sigma, sensitivity_squared=sensitivity_squared, rho=rho)

        return self._in_pieces(values, draw)

    def laplace(self, values: Sequence[int], *, noise: LaplaceNoise, rho: Fraction) -> list[int]:
        """Return `values` with independent discrete Laplace noise.

        Privacy: pure loss `noise.epsilon` as a whole: each draw asserts OpenDP's map at the distance of the whole.
        """
        return self._in_pieces(values, lambda piece: self._source.laplace(piece, noise=noise, rho=rho))

    def _in_pieces(self, values: Sequence[int], draw: Callable[[Sequence[int]], list[int]]) -> list[int]:
        if len(values) <= PIECE:
            return draw(values)
        size = _piece_size(len(values), self._workers)
        pieces = [values[start : start + size] for start in range(0, len(values), size)]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="noise") as executor:
            return [value for piece in executor.map(draw, pieces) for value in piece]

    def thresholded(
        self, counts: Mapping[str, int], *, sigma: Fraction, threshold: Threshold, rho: Fraction
    ) -> dict[str, int]:
        """Return the noisy counts of those keys whose noisy count reaches the threshold.

        Privacy: (rho, delta) as a whole: whether a key is released depends on its own count and draw alone.
        """

        def draw(piece: Mapping[str, int]) -> dict[str, int]:
            return self._source.thresholded(piece, sigma=sigma, threshold=threshold, rho=rho)

        if len(counts) <= PIECE:
            return draw(counts)
        size, rest = _piece_size(len(counts), self._workers), iter(counts.items())
        pieces: list[dict[str, int]] = []
        while piece := dict(islice(rest, size)):
            pieces.append(piece)
        released: dict[str, int] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="noise") as executor:
            for part in executor.map(draw, pieces):
                released |= part
        return released

    def top(self, scores: Sequence[int], *, count: int, scale: Fraction, rho: Fraction) -> list[int]:
        """Return the places of the largest noisy scores: one draw over all candidates, which is not split.

        Privacy: as the source's.
        """
        return self._source.top(scores, count=count, scale=scale, rho=rho)

    def best(self, groups: Sequence[Sequence[int]], *, scale: Fraction, sensitivity: int, rho: Fraction) -> list[int]:
        """Return for each group the place of the largest noisy score; groups are split over threads.

        Privacy: rho-zCDP as a whole: each draw asserts OpenDP's map at the sensitivity over all groups.
        """

        def draw(piece: Sequence[Sequence[int]]) -> list[int]:
            return self._source.best(piece, scale=scale, sensitivity=sensitivity, rho=rho)

        if sum(map(len, groups)) <= PIECE:
            return draw(groups)
        size = -(-len(groups) // (4 * self._workers))
        pieces = [groups[start : start + size] for start in range(0, len(groups), size)]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="noise") as executor:
            return [place for piece in executor.map(draw, pieces) for place in piece]


def _piece_size(length: int, workers: int) -> int:
    # A few pieces a worker, so that a slow core does not hold up the others.
    return max(PIECE // 2, -(-length // (4 * workers)))
