"""Margins: totals of groups over some of their keys (ROLLUP, CUBE, GROUPING SETS), and cells that add up to them.

Every level of totals is measured with noise of its own.  `consistent` then finds the cells and totals that add up and
lie nearest to all that was measured, by least squares, in exact rationals; each value gets better by it, never worse.

Source: Hay, Rastogi, Miklau, Suciu 2010, "Boosting the accuracy of differentially private histograms through
consistency" (arXiv 0904.0942), here for any levels, by the parts of a table that vary with a set of keys alone: Barak,
Chaudhuri, Dwork, Kale, McSherry, Talwar 2007 (PODS), in the orthogonal form of an analysis of variance.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.privacy.jet import root_up
from sandbox.privacy.keys import TOTAL, Key, KeyText
from sandbox.privacy.scales import of_the_same_law
from sandbox.privacy.statistics import Statistic

Noisy = tuple[Key, Sequence[Fraction | int], Sequence[Fraction]]
"""A cell or a total: its key, its noisy statistics, and their scales."""

Level = frozenset[int]
"""The places of the keys that a level keeps."""

Table = npt.NDArray[Any]
"""One side for each key, and one for statistics; whole numbers of any size."""

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

    A table of cells is a sum of parts, one for each set of keys: a part varies with these keys alone and its sum over
    any of them is zero.  A level shows the parts of the keys that it keeps, and noise is as large in each of them; so a
    part is the weighted mean of what the levels that show it say, and parts do not depend on each other.

    Args:
        measured: every cell, and every total of some levels, each with noise of the same scale in one statistic.
        branches: how many values each key has.

    Privacy: post-processing.
    """
    places = _places(measured)
    levels = _measured_levels(measured, branches, places)
    weights = {part: _weight(part, levels, branches) for part in _subsets(branches)}
    parts = {part: _part(part, levels, branches) for part in weights}
    held: dict[Level, tuple[Table, int, Sequence[Fraction]]] = {}
    for level in levels:
        values, below = _assembled(level, parts, weights, branches)
        factor = _factor(level, weights, branches)
        scales = of_the_same_law(measured[0][2], [root_up(factor * sigma**2) for sigma in measured[0][2]])
        held[level] = values, below, scales
    found: list[Noisy] = []
    for key, _, _ in measured:
        values, below, scales = held[_level_of(key)]
        found.append((key, [Fraction(amount, below) for amount in values[_place_of(key, places)]], scales))
    return found


def _level_of(key: Key) -> Level:
    """Return the keys that are not summed over."""
    return frozenset(place for place, part in enumerate(key) if part != TOTAL)


def _places(measured: Sequence[Noisy]) -> list[dict[KeyText, int]]:
    """Return where each value of each key stands along its side of a table; the total is all that is there."""
    found: list[dict[KeyText, int]] = [{} for _ in measured[0][0]]
    for key, _, _ in measured:
        for part, side in zip(key, found, strict=True):
            if part != TOTAL:
                side.setdefault(part, len(side))
    return found


def _place_of(key: Key, places: Sequence[Mapping[KeyText, int]]) -> tuple[int, ...]:
    return tuple(0 if part == TOTAL else side[part] for part, side in zip(key, places, strict=True))


def _measured_levels(
    measured: Sequence[Noisy], branches: Sequence[int], places: Sequence[Mapping[KeyText, int]]
) -> dict[Level, Table]:
    """Return the measured values of each level, one side for each key, of length 1 where it is summed over."""
    found: dict[Level, Table] = {}
    for key, noisy, _ in measured:
        level = _level_of(key)
        if level not in found:
            sides = [branch if place in level else 1 for place, branch in enumerate(branches)]
            found[level] = np.zeros((*sides, len(noisy)), dtype=object)
        found[level][_place_of(key, places)] = noisy
    return found


def _size(level: Level, branches: Sequence[int]) -> int:
    return math.prod(branches[place] for place in level)


def _subsets(branches: Sequence[int]) -> list[Level]:
    everything = range(len(branches))
    return [frozenset(one) for size in range(len(branches) + 1) for one in itertools.combinations(everything, size)]


def _weight(part: Level, levels: Collection[Level], branches: Sequence[int]) -> Fraction:
    """Return how well a part is known: a level of few cells knows it better, since its cells sum up more."""
    return sum((Fraction(1, _size(level, branches)) for level in levels if part <= level), Fraction(0))


def _part(part: Level, levels: Mapping[Level, Table], branches: Sequence[int]) -> Table:
    """Return the sum of what levels say of a part, as means; times all cells and the part's size, to be whole."""
    cells, own = math.prod(branches), _size(part, branches)
    shown = ((level, table) for level, table in levels.items() if part <= level)
    means = [
        table.sum(axis=tuple(level - part), keepdims=True) * (cells * own // _size(level, branches))
        for level, table in shown
    ]
    found: Table = functools.reduce(operator.add, means)
    for place in part:
        found = found * branches[place] - found.sum(axis=place, keepdims=True)
    return found


def _assembled(
    level: Level, parts: Mapping[Level, Table], weights: Mapping[Level, Fraction], branches: Sequence[int]
) -> tuple[Table, int]:
    """Return a level's values from the parts that it shows, and what all of them are to be divided by."""
    whole = math.prod(branches) * _size(level, branches)
    factors = {part: 1 / (whole * _size(part, branches) * weights[part]) for part in parts if part <= level}
    below = math.lcm(*(factor.denominator for factor in factors.values()))
    found: Table = functools.reduce(
        operator.add, [parts[part] * int(factor * below) for part, factor in factors.items()]
    )
    return found, below


def _factor(level: Level, weights: Mapping[Level, Fraction], branches: Sequence[int]) -> Fraction:
    """Return the variance of a level's values, in units of one measurement's."""
    shown = (part for part in weights if part <= level)
    each = (math.prod(branches[place] - 1 for place in part) / weights[part] for part in shown)
    return sum(each, Fraction(0)) / _size(level, branches) ** 2
