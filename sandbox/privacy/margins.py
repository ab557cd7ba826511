"""Margins: totals of groups over some of their keys (ROLLUP, CUBE, GROUPING SETS), and cells that add up to them.

Every level of totals is measured with noise of its own.  For a ROLLUP `consistent` then finds the cells and totals that
add up and lie nearest to all that was measured, by least squares, in exact rationals; each value gets better by it,
never worse.

Source: Hay, Rastogi, Miklau, Suciu 2010, "Boosting the accuracy of differentially private histograms through
consistency" (arXiv 0904.0942), here for trees whose levels branch each in its own way.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from sandbox.privacy.jet import root_up
from sandbox.privacy.keys import TOTAL, Key, KeyText
from sandbox.privacy.scales import of_the_same_law
from sandbox.privacy.statistics import Statistic

Noisy = tuple[Key, Sequence[Fraction | int], Sequence[Fraction]]
"""A cell or a total: its key, its noisy statistics, and their scales."""

Levels = tuple[tuple[int, ...], ...]
"""For each level the places of the keys that are kept there; the first one keeps all: the cells."""


def rolled_statistics(statistics: Sequence[Statistic], levels: int) -> tuple[Statistic, ...]:
    """Return the statistics of a question that measures its groups at so many levels.

    Privacy: one unit moves a level by at most what it moves the cells by, since it brings so many rows in all; so the
    squares of the sensitivities of all levels together are `levels` times the cells' (`docs/proofs/margins.md`).
    """
    return tuple(replace(s, sensitivity_squared=s.sensitivity_squared * levels) for s in statistics)


def rollup_levels(keys: int) -> Levels:
    """Return the levels of a ROLLUP: the cells, the totals over the last key, over the last two, …, over all."""
    return tuple(tuple(range(kept)) for kept in range(keys, -1, -1))


def total_keys(domains: Sequence[Sequence[KeyText]], levels: Levels | None = None) -> list[Key]:
    """Return the keys of all totals, level by level; by default of a ROLLUP: over the last key first, of all last."""
    found: list[Key] = []
    for level in (rollup_levels(len(domains)) if levels is None else levels)[1:]:
        parts = [domain if place in level else (TOTAL,) for place, domain in enumerate(domains)]
        found += itertools.product(*parts)
    return found


def with_totals(cells: Mapping[Key, tuple[int, ...]], levels: Levels | None = None) -> dict[Key, tuple[int, ...]]:
    """Return exact cells with the exact totals that they make, at every level; by default of a ROLLUP."""
    found: dict[Key, tuple[int, ...]] = dict(cells)
    for key, amounts in cells.items():
        for level in (rollup_levels(len(key)) if levels is None else levels)[1:]:
            total = tuple(part if place in level else TOTAL for place, part in enumerate(key))
            before = found.get(total, (0,) * len(amounts))
            found[total] = tuple(one + other for one, other in zip(before, amounts, strict=True))
    return found


def consistent(measured: Sequence[Noisy], branches: Sequence[int]) -> list[Noisy]:
    """Return cells and totals that add up, nearest to the measured ones, with the scales of the noise left in them.

    Args:
        measured: every cell and every total, each with noise of the same scale in one statistic.
        branches: how many values each key has; the levels are those of a ROLLUP.

    Privacy: post-processing.
    """
    sigmas = measured[0][2]
    factors = _factors(branches)
    scales = [of_the_same_law(sigmas, [root_up(factor * sigma**2) for sigma in sigmas]) for factor in factors]
    best = _upwards({key: [Fraction(amount) for amount in noisy] for key, noisy, _ in measured}, branches)
    held = _downwards(best, branches)
    return [(key, held[key], scales[_depth(key)]) for key, _, _ in measured]


def _depth(key: Key) -> int:
    """Return how many keys are not rolled up."""
    return sum(part != TOTAL for part in key)


def _weights(branches: Sequence[int]) -> list[Fraction]:
    """Return the variance of the best guess from a node and all below it, by depth, in units of one measurement's."""
    found = [Fraction(1)]
    for branch in reversed(branches):
        below = branch * found[0]
        found.insert(0, below / (1 + below))
    return found


def _factors(branches: Sequence[int]) -> list[Fraction]:
    """Return the variance of the final value, by depth, in units of one measurement's."""
    weights = _weights(branches)
    found = [weights[0]]
    for depth, branch in enumerate(branches, start=1):
        # What the children share comes from the parent; what parts them does not depend on it.
        found.append(weights[depth] * (1 - Fraction(1, branch)) + found[-1] / branch**2)
    return found


def _parents(keys: Mapping[Key, object], depth: int) -> dict[Key, list[Key]]:
    found: dict[Key, list[Key]] = {}
    for key in keys:
        if _depth(key) == depth:
            found.setdefault((*key[: depth - 1], *[TOTAL] * (len(key) - depth + 1)), []).append(key)
    return found


def _upwards(own: dict[Key, list[Fraction]], branches: Sequence[int]) -> dict[Key, list[Fraction]]:
    """Return the best guess of each node from itself and all below it."""
    weights, best = _weights(branches), dict(own)
    for depth in range(len(branches), 0, -1):
        below = branches[depth - 1] * weights[depth]
        for parent, children in _parents(own, depth).items():
            sums = [sum(column, Fraction(0)) for column in zip(*(best[child] for child in children), strict=True)]
            best[parent] = [
                (mine * below + theirs) / (1 + below) for mine, theirs in zip(own[parent], sums, strict=True)
            ]
    return best


def _downwards(best: dict[Key, list[Fraction]], branches: Sequence[int]) -> dict[Key, list[Fraction]]:
    """Return values that add up: what a parent has beyond its children's sum is shared among them evenly."""
    held = dict(best)
    for depth in range(1, len(branches) + 1):
        for parent, children in _parents(best, depth).items():
            sums = [sum(column, Fraction(0)) for column in zip(*(best[child] for child in children), strict=True)]
            more = [(whole - part) / len(children) for whole, part in zip(held[parent], sums, strict=True)]
            for child in children:
                held[child] = [mine + share for mine, share in zip(best[child], more, strict=True)]
    return held
