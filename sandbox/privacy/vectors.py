"""The exact integers of one group as a vector, and what is measured of it.

The SQL of a plan gives one integer for each scalar statistic, and with histograms one more row for each bin that some
row is in, whose last key text says which (`0:17`, bin `17` of the first histogram).  A vector holds the scalars and
then every bin of every histogram.  What gets noise are its entries: the scalars, the nodes of trees, and numbers of
distinct values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandbox.privacy.histogram import tree_counts
from sandbox.privacy.keys import Key
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan
from sandbox.privacy.statistics import StatisticKind

Vector = tuple[int, ...]


def vector_width(plan: Plan) -> int:
    """Return how many integers a group's vector has."""
    return plan.scalars + sum(len(histogram.domain) for histogram in plan.histograms)


def gather(plan: Plan, partials: Partials) -> dict[Key, Vector]:
    """Return the vector of every group that has rows."""
    if not plan.histograms:
        return dict(partials.cells)
    places = _places(plan)
    width, scalars = vector_width(plan), plan.scalars
    found: dict[Key, list[int]] = {}
    for key, amounts in partials.cells.items():
        group, where = key[:-1], key[-1]
        vector = found.get(group)
        if vector is None:
            vector = found[group] = [0] * width
        if where is None:
            vector[:scalars] = amounts
        elif where in places:
            vector[places[where]] += amounts[0]
    return {key: tuple(vector) for key, vector in found.items()}


def scatter(plan: Plan, vectors: Mapping[Key, Vector]) -> Partials:
    """Return the partials that `gather` reads as these vectors; cells that are all zero do not count in a digest."""
    if not plan.histograms:
        return Partials(plan.digest(), dict(vectors))
    zeros = (0,) * (plan.row_width - 1)
    cells: dict[Key, tuple[int, ...]] = {}
    for key, vector in vectors.items():
        if plan.scalars:
            cells[(*key, None)] = tuple(vector[: plan.scalars])
        for where, index in _places(plan).items():
            cells[(*key, where)] = (vector[index], *zeros)
    return Partials(plan.digest(), cells)


def entries(plan: Plan, vector: Sequence[int]) -> Vector:
    """Return what is measured of a vector, in the order of the plan's statistics."""
    if not plan.histograms:
        return tuple(vector)
    starts = _starts(plan)
    levels: dict[int, list[list[int]]] = {}
    found: list[int] = []
    for index, planned in enumerate(plan.statistics):
        statistic = planned.statistic
        if statistic.histogram is None:
            found.append(vector[index])
            continue
        start = starts[statistic.histogram]
        bins = vector[start : start + len(plan.histograms[statistic.histogram].domain)]
        if statistic.kind is StatisticKind.DISTINCT:
            found.append(sum(count > 0 for count in bins))
        else:
            if statistic.histogram not in levels:
                levels[statistic.histogram] = tree_counts(bins)
            found += levels[statistic.histogram][statistic.level - 1]
    return tuple(found)


def _starts(plan: Plan) -> list[int]:
    starts, place = [], plan.scalars
    for histogram in plan.histograms:
        starts.append(place)
        place += len(histogram.domain)
    return starts


def _places(plan: Plan) -> dict[str, int]:
    return {
        f"{index}:{text}": start + offset
        for index, (histogram, start) in enumerate(zip(plan.histograms, _starts(plan), strict=True))
        for offset, text in enumerate(histogram.domain)
    }
