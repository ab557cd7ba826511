"""Read quantiles from a noisy tree: least squares first, so that every level helps to know every place.

A parent's count and the sum of its children's are two noisy measurements of one number.  The counts that fit all of
them best (least squares) are consistent, and a prefix read from them has about a third of the variance that single
nodes leave.  It is post-processing of the noisy tree, so it costs nothing; and it is linear, so the variance that
remains is known exactly (`docs/proofs/quantile.md`).  All of it is done in integers, over common denominators.

Source: Hay, Rastogi, Miklau, Suciu 2010, theorem 3 (arXiv 0904.0942).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.privacy.histogram import BRANCHING, Tree

_SQUARE = BRANCHING**2
_WHOLE = 2**62
"""Sums below this are held in 64 bits, so that no addition and no comparison of two of them leaves those."""

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a quantile lies, in units of the tree's resolution."""

    amount: Fraction
    lower: Fraction
    upper: Fraction


class QuantilePlacer:
    """Places one quantile in the cells of an answer.

    With F(i) the number of rows in leaves before i and n of all rows, the quantile's leaf i has F(i) - q n <= 0 and
    F(i + 1) - q n >= 0.  The interval holds every leaf for which neither is refuted by more than z standard errors,
    so it covers the true leaf in 95 % of cases.  One row of slack covers interpolation between neighbours.

    Args:
        tree: where the noisy nodes stand among a cell's noisy integers.
        fraction: which quantile.
        sigmas: the scale of each noisy integer; a level is taken to have the largest of all levels.
        z: how many standard errors refute.
    """

    def __init__(self, tree: Tree, fraction: Fraction, sigmas: Sequence[Fraction], z: Fraction) -> None:
        self._tree = tree
        self._fraction = fraction
        levels = len(tree.starts)
        sigma = max(sigmas[start] for start in tree.starts)
        # An excess is held times q's denominator and the scale of the fitted counts; so are its slack and its limit.
        whole = scale_of(levels) * fraction.denominator
        variances, below = excess_variances(levels, fraction)
        square = (z * sigma * whole) ** 2 / below
        limits = [whole + math.isqrt(v * square.numerator // square.denominator) for v in variances]
        limits = [*limits[: tree.leaves], limits[-1]]
        self._limits = np.asarray(limits, dtype=object)
        self._short_limits = np.asarray([min(_WHOLE, limit) for limit in limits], dtype=np.int64)

    def place(self, noisy: Sequence[int], leaf: int | None = None) -> Placed | None:
        """Return where the quantile of one cell lies, or None where the fitted number of rows is not positive.

        Args:
            noisy: the noisy integers of the cell.
            leaf: the value's leaf, where something else has chosen it (`chosen_quantile.py`); the interval holds it.
        """
        tree = self._tree
        levels = [noisy[start : start + BRANCHING**level] for level, start in enumerate(tree.starts, start=1)]
        part, whole = self._fraction.numerator, self._fraction.denominator
        leaves = fitted_leaves(levels, whole)
        ends = np.cumsum(leaves)
        total = ends[-1]
        if total <= 0:
            return None
        # The end of the last used leaf is the end of all rows.
        below = np.concatenate([ends[:1] * 0, ends[: tree.leaves - 1], ends[-1:]])
        return self._placed(below * whole - total * part, leaf)

    def _placed(self, above: Numbers, leaf: int | None) -> Placed:
        tree = self._tree
        limits = self._limits if above.dtype == object else self._short_limits
        refuted = (above[:-1] > limits[:-1]) | (above[1:] < -limits[1:])
        place = min(int((above[1:-1] < 0).sum()), tree.leaves - 1) if leaf is None else leaf
        possible = [place, *np.flatnonzero(~refuted.astype(np.bool_)).tolist()]
        before, after = int(above[place]), int(above[place + 1])
        share = Fraction(-before, after - before) if before < 0 < after else Fraction(1, 2)
        amount = tree.lower + place * tree.width + share * (tree.width - 1)
        lowest, highest = tree.lower + min(possible) * tree.width, tree.lower + (max(possible) + 1) * tree.width - 1
        return Placed(min(amount, Fraction(tree.upper)), Fraction(lowest), Fraction(min(highest, tree.upper)))


def fitted_leaves(levels: Sequence[Sequence[int]], factor: int = 1) -> Numbers:
    """Return the least-squares counts of the leaves, times `scale_of` the number of levels: whole numbers.

    They stand in 64 bits where all sums of them fit those even times `factor`, else in Python's integers.

    Args:
        levels: the noisy counts of every level from the top, 4, 16, 64, … of them; the root is not measured.
        factor: what the caller will multiply sums with.
    """
    # Were all leaves as large as the largest noisy count, no fitted prefix would be beyond twice their sum.
    largest = max(max(map(abs, nodes)) for nodes in levels) * BRANCHING ** len(levels)
    of = np.int64 if 4 * factor * largest * scale_of(len(levels)) < _WHOLE else object
    upward = _upward([np.asarray(nodes, dtype=of) for nodes in levels])
    fitted, scale = upward[0], _own_scale(len(levels))
    for depth, nodes in enumerate(upward[1:], start=2):
        # What a parent's fit has beyond the sum of its children goes to them in equal parts.
        step = scale // _own_scale(len(levels) - depth + 1)
        children = nodes.reshape(-1, BRANCHING)
        beyond = fitted - step * children.sum(axis=1)
        fitted = (BRANCHING * step * children + beyond[:, None]).reshape(-1)
        scale *= BRANCHING
    return fitted


def _upward(levels: Sequence[Numbers]) -> list[Numbers]:
    """Return for every node the best count from its own subtree, times `_own_scale` of the subtree's levels."""
    found = [levels[-1]]
    for height, nodes in enumerate(reversed(levels[:-1]), start=2):
        own, rest = BRANCHING ** (height - 1) * _own_scale(height - 1), _weight(height - 1)
        found.append(own * nodes + rest * found[-1].reshape(-1, BRANCHING).sum(axis=1))
    return found[::-1]


def _weight(height: int) -> int:
    """Return 1 + 4 + … + 4**(height - 1), of which the noisy count of a subtree's root weighs 4**(height - 1)."""
    return int(BRANCHING**height - 1) // (BRANCHING - 1)


@cache
def _own_scale(height: int) -> int:
    """Return what the best counts of subtrees of so many levels are multiplied with to be whole."""
    return math.prod(_weight(below) for below in range(2, height + 1))


def scale_of(levels: int) -> int:
    """Return what fitted leaves of a tree of so many levels are multiplied with to be whole."""
    return _own_scale(levels) * int(BRANCHING ** (levels - 1))


@cache
def excess_variances(levels: int, fraction: Fraction) -> tuple[tuple[int, ...], int]:
    """Return the variances of the fitted F(i) - q n for i = 0 … 4**levels, where all noise has variance 1.

    A child's fitted count is a quarter of its parent's and its own subtree's deviation from the mean of the four, and
    these deviations are uncorrelated with everything outside.  So going down a level needs three numbers for each node:
    the variance of the excess at its start, of its count, and their covariance.

    Returns:
        The variances, and the denominator of them all.
    """
    below = fraction.denominator**2 * BRANCHING ** (2 * levels) * math.lcm(*map(_weight, range(1, levels + 1)))
    root = BRANCHING * _best_variance(levels)
    # n is the root's count; the excess at its start is -q n.
    nodes = [tuple(int(below * part) for part in (fraction**2 * root, -fraction * root, root))]
    for depth in range(1, levels + 1):
        spread = int(below * _best_variance(levels - depth + 1))
        nodes = [_child(node, place, spread) for node in nodes for place in range(BRANCHING)]
    return (*(node[0] for node in nodes), int(below * (1 - fraction) ** 2 * root)), below


def _best_variance(height: int) -> Fraction:
    """Return the variance of a node's best count from its own subtree of so many levels."""
    return Fraction(BRANCHING ** (height - 1), _weight(height))


def _child(node: tuple[int, ...], place: int, spread: int) -> tuple[int, ...]:
    """Return a child's three numbers; every division is exact."""
    excess, both, count = node
    return (
        excess + (2 * place * both + spread * place * (BRANCHING - place)) // BRANCHING + place**2 * count // _SQUARE,
        (both - spread * place) // BRANCHING + place * count // _SQUARE,
        count // _SQUARE + spread * (BRANCHING - 1) // BRANCHING,
    )
