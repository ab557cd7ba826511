"""Histograms over public bins: what quantiles and counts of distinct values are made of.

A quantile needs the noisy number of rows below every place.  We count rows in a tree: the leaves are equal bins of the
public range, every inner node has four children, and each level is one noisy histogram.  A prefix is at most three
nodes a level, so its noise grows with the logarithm of the bins and not with their number; and one tree answers every
quantile (`docs/proofs/quantile.md`).

Source: Hay, Rastogi, Miklau, Suciu 2010 (hierarchical histograms); Chan, Shi, Song 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sandbox.errors import BoundError
from sandbox.model.exact import format_exact
from sandbox.privacy import build
from sandbox.privacy.algebra import Expr, Op
from sandbox.privacy.keys import KeyText
from sandbox.privacy.layout import LARGEST, Bins

BRANCHING = 4
LARGEST_DOMAIN = 1024
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
    if argument.op is Op.COLUMN and max(abs(of.lower), abs(of.upper)) < LARGEST:
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
