"""Histograms over public bins: what quantiles and counts of distinct values are made of.

A quantile needs the noisy number of rows below every place.  We count rows in a tree: the leaves are equal bins of the
public range, every inner node has four children, and each level is one noisy histogram.  A prefix is at most three
nodes a level, so its noise grows with the logarithm of the bins and not with their number; and one tree answers every
quantile (`docs/proofs/quantile.md`).

Source: Hay, Rastogi, Miklau, Suciu 2010 (hierarchical histograms); Chan, Shi, Song 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.errors import BoundError
from sandbox.model.exact import format_exact
from sandbox.privacy import build
from sandbox.privacy.algebra import Expr, Op
from sandbox.privacy.keys import KeyText
from sandbox.privacy.layout import Bins

BRANCHING = 4
LARGEST_DOMAIN = 1024
_FINE = 1 << 20
"""Variances are held in steps this fine, rounded up."""
_WHOLE = 2**62
"""Sums below this are held in 64 bits, so that no addition and no comparison of two of them leaves those."""
MAX_NODES = 100_000
"""The most noisy integers of one answer's histograms; each costs some ten microseconds."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Exact counts of rows by the values of an expression with a public domain.

    Attributes:
        argument: what sorts rows; rows where it is NULL are left out.
        domain: its values as key texts, in order.
        bins: the bins of a plain column that the values are, or None; the argument says the same.
    """

    argument: Expr
    domain: tuple[KeyText, ...]
    bins: Bins | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the histogram as a canonical record."""
        return {"argument": self.argument.to_record(), "domain": list(self.domain)}


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the noisy nodes of a tree stand, and what its leaves mean.

    Attributes:
        starts: for each level from the top, the index of its first noisy integer; a level has 4, 16, 64, … of them.
        leaves: how many leaves are in use.
        lower, upper: the public range, in units of `resolution`.
        width: how many units one leaf spans.
        resolution: the measure of one unit.
    """

    starts: tuple[int, ...]
    leaves: int
    lower: int
    upper: int
    width: int
    resolution: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the tree as a canonical record."""
        return {
            "starts": list(self.starts),
            "leaves": self.leaves,
            "lower": str(self.lower),
            "upper": str(self.upper),
            "width": str(self.width),
            "resolution": format_exact(self.resolution),
        }


def bins_of(argument: Expr, cells: int) -> tuple[Histogram, int]:
    """Return the histogram of a quantile's argument over equal bins, and how many steps a bin spans.

    Fewer bins are used where there are many cells, so that one answer keeps to `MAX_NODES` noisy integers.

    Raises:
        BoundError: there are too many cells for even sixteen bins.
    """
    of = build.number_type(argument, "a quantile")
    most = LARGEST_DOMAIN
    while nodes_of(most) * cells > MAX_NODES:
        most //= BRANCHING
        if most < BRANCHING**2:
            raise BoundError(
                "there are too many cells for a quantile in each",
                hint="group by fewer keys, or filter with WHERE",
                code="privacy.bound.cells",
            )
    width = -(-(of.upper - of.lower + 1) // most)
    shifted = build.add(argument, build.number(-of.lower * of.resolution))
    leaf = build.floor(build.multiply(shifted, build.number(1 / (width * of.resolution))))
    leaves = (of.upper - of.lower) // width + 1
    bins = None
    if argument.op is Op.COLUMN and max(abs(of.lower), abs(of.upper)) < _WHOLE:
        bins = Bins(str(argument.value), of.lower, of.upper, width)
    return Histogram(leaf, tuple(str(index) for index in range(leaves)), bins), width


def levels_of(leaves: int) -> int:
    """Return how many levels a tree over `leaves` leaves has, without its root."""
    levels = 1
    while BRANCHING**levels < leaves:
        levels += 1
    return levels


def nodes_of(leaves: int) -> int:
    """Return how many noisy integers a tree over `leaves` leaves has."""
    return sum(BRANCHING**level for level in range(1, levels_of(leaves) + 1))


def tree_counts(leaves: Sequence[int]) -> list[list[int]]:
    """Return the counts of the nodes of every level from the top, from the counts of the leaves."""
    levels = levels_of(len(leaves))
    level = [*leaves, *([0] * (BRANCHING**levels - len(leaves)))]
    found = [level]
    for _ in range(levels - 1):
        level = [
            sum(children) for children in zip(*(level[child::BRANCHING] for child in range(BRANCHING)), strict=True)
        ]
        found.append(level)
    return found[::-1]


def level_counts(leaves: Sequence[int], level: int) -> list[int]:
    """Return the counts of the nodes of one level, from the counts of the leaves."""
    return tree_counts(leaves)[level - 1]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a quantile lies, in units of the tree's resolution."""

    amount: Fraction
    lower: Fraction
    upper: Fraction


def place_quantile(
    tree: Tree, fraction: Fraction, noisy: Sequence[int], sigmas: Sequence[Fraction], z: Fraction
) -> Placed | None:
    """Return a quantile and its 95 % interval, or None where the noisy number of rows is not positive.

    With F(i) the number of rows in leaves before i and n of all rows, the quantile's leaf i has F(i) - q n <= 0 and
    F(i + 1) - q n >= 0.  The interval holds every leaf for which neither is refuted by more than z standard errors,
    so it covers the true leaf in 95 % of cases.  One row of slack covers interpolation between neighbours.
    """
    return QuantilePlacer(tree, fraction, sigmas, z).place(noisy)


class QuantilePlacer:
    """Places one quantile of one tree in many cells: what rests on the scales of the noise alone is found once.

    Args: as of `place_quantile`.
    """

    def __init__(self, tree: Tree, fraction: Fraction, sigmas: Sequence[Fraction], z: Fraction) -> None:
        self._tree, self._fraction = tree, fraction
        slack = fraction.denominator
        # |excess| is beyond z standard errors where excess**2 * _FINE * z.denominator**2 > z.numerator**2 * variance,
        # and a whole number's square is above a limit where the number is above the limit's root, rounded down.
        limits = [
            -(-(z.numerator**2 * variance) // (z.denominator**2 * _FINE))
            for variance in _variances(tree, fraction, sigmas)
        ]
        reach = [slack + math.isqrt(limit) for limit in limits]
        self._reach = np.asarray([min(_WHOLE, each) for each in reach], dtype=np.int64)
        self._whole_reach = np.asarray(reach, dtype=object)

    def place(self, noisy: Sequence[int]) -> Placed | None:
        """Return the quantile in a cell, as `place_quantile` does."""
        tree = self._tree
        top = noisy[tree.starts[0] : tree.starts[0] + BRANCHING]
        if sum(top) <= 0:
            return None
        above = self._excess(noisy)
        reach = self._whole_reach if above.dtype == object else self._reach
        refuted = (above[:-1] > reach[:-1]) | (above[1:] < -reach[1:])
        possible = np.flatnonzero(~refuted)
        place = min(int((above[1:-1] < 0).sum()), tree.leaves - 1)
        before, after = int(above[place]), int(above[place + 1])
        share = Fraction(-before, after - before) if before < 0 < after else Fraction(1, 2)
        first, last = place, place
        if len(possible):
            first, last = min(int(possible[0]), place), max(int(possible[-1]), place)
        amount = tree.lower + place * tree.width + share * (tree.width - 1)
        lowest, highest = tree.lower + first * tree.width, tree.lower + (last + 1) * tree.width - 1
        return Placed(min(amount, Fraction(tree.upper)), Fraction(lowest), Fraction(min(highest, tree.upper)))

    def _excess(self, noisy: Sequence[int]) -> npt.NDArray[Any]:
        """Return F(i) - q n for i = 0 … leaves, times q's denominator."""
        part, whole = self._fraction.numerator, self._fraction.denominator
        levels = [noisy[start : start + BRANCHING**level] for level, start in enumerate(self._tree.starts, start=1)]
        # A prefix sums at most BRANCHING nodes a level: where this is small, 64 bits hold it all.
        largest = max(max(map(abs, level)) for level in levels)
        of = np.int64 if (whole + part) * BRANCHING * len(levels) * largest < _WHOLE else object
        prefix = np.zeros(1, dtype=of)
        for level in levels:
            nodes = np.asarray(level, dtype=of).reshape(-1, BRANCHING)
            prefix = (prefix[:, None] + np.cumsum(nodes, axis=1) - nodes).reshape(-1)
        total = sum(levels[0])
        # The end of the last used leaf is the end of all rows.
        return np.append(prefix[: self._tree.leaves], np.asarray(total, dtype=of)) * whole - part * total


def _variances(tree: Tree, fraction: Fraction, sigmas: Sequence[Fraction]) -> list[int]:
    """Return the variance of F(i) - q n for i = 0 … leaves, times q's denominator squared and `_FINE`, rounded up."""
    part, whole = fraction.numerator, fraction.denominator
    squares = [math.ceil(sigmas[start] ** 2 * _FINE) for start in tree.starts]
    found = [
        squares[0] * (child * (whole - part) ** 2 + (BRANCHING - child) * part**2) for child in range(BRANCHING + 1)
    ]
    for square in squares[1:]:
        more = [child * square * whole**2 for child in range(BRANCHING)]
        found = [*(variance + extra for variance in found[:-1] for extra in more), found[-1]]
    return [*found[: tree.leaves], found[-1]]
