"""Statistics: the exact integers behind an answer, each with its exact L2 sensitivity.

A unit brings at most `rows` bounded rows, in at most `groups` groups (where one change reaches further, `influence.py`
says how far).  Over all cells of one answer, removing it moves

- a count of rows by n_1, …, n_m with sum at most `rows`: L2 at most `rows` (all in one cell);
- a sum of values in [lower, upper]: at most `rows * max(|lower|, |upper|)`, likewise; centred on `middle`: at most
  `rows * max(upper - middle, middle - lower)`;
- a count of rows in the bins of a histogram, and so in the nodes of one level of its tree, by at most `rows` in all;
- a number of distinct values by at most `rows` in all: each of them was in a row of the unit;
- a count of units by 1 in at most `groups` cells: L2 at most `sqrt(groups)`; in one group of all rows, 1.

The proofs stand in `docs/proofs/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.model.exact import format_exact
from sandbox.model.unit import ContributionBound
from sandbox.privacy.algebra import Expr, NumberType, null_columns
from sandbox.privacy.histogram import BRANCHING, Histogram, Tree, bins_of, levels_of
from sandbox.privacy.influence import Influence, plain_influence
from sandbox.privacy.keys import key_domain
from sandbox.privacy.query import Aggregate, AggregateKind, KeyMode


class StatisticKind(StrEnum):
    """What is counted or summed.

    `rows`: rows that count.  `units`: units with a row.  `sum`: a sum of `value - centre`.  `nodes`: rows in each
    node of one level of a histogram's tree.  `distinct`: values of a histogram's domain that some row has.
    """

    ROWS = "rows"
    UNITS = "units"
    SUM = "sum"
    NODES = "nodes"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Statistic:
    """One exact integer a cell, or one for each node of a level.

    Attributes:
        kind: what is counted or summed.
        argument: for ROWS the expression that must not be NULL (None: every row); for SUM what is summed.
        centre: for SUM, what is subtracted from each value, in units of the argument's resolution.
        sensitivity_squared: the square of its exact L2 sensitivity over all cells.
        histogram: for NODES and DISTINCT, the index of the histogram that it is made of.
        level: for NODES, the level of the tree, from 1.
        parts: how many statistics share one share of the loss: the levels of one tree.
        fine: how many integer steps make one; above 1 where contributions are rescaled.
    """

    kind: StatisticKind
    argument: Expr | None
    centre: int
    sensitivity_squared: int
    histogram: int | None = None
    level: int = 0
    parts: int = 1
    fine: int = 1

    @property
    def width(self) -> int:
        """How many integers a cell has."""
        return BRANCHING**self.level if self.kind is StatisticKind.NODES else 1

    def to_record(self) -> dict[str, Any]:
        """Return the statistic as a canonical record."""
        return {
            "kind": self.kind.value,
            "argument": None if self.argument is None else self.argument.to_record(),
            "centre": str(self.centre),
            "sensitivity_squared": str(self.sensitivity_squared),
            "histogram": self.histogram,
            "level": self.level,
            "parts": self.parts,
            "fine": self.fine,
        }


@dataclass(frozen=True, slots=True)
class Moment:
    """A sum whose mean a variance or covariance is made of; fields as in `Estimate`."""

    sum: int
    centre: int
    lower: int
    upper: int
    resolution: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the moment as a canonical record."""
        return {
            "sum": self.sum,
            "centre": str(self.centre),
            "lower": str(self.lower),
            "upper": str(self.upper),
            "resolution": format_exact(self.resolution),
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """How one value of the answer comes from noisy statistics.

    With noisy sum S and count N: a count is N; a total is `(S + centre * N) * resolution`; a mean is
    `(centre + S / N) * resolution`, held within its public bounds.

    Attributes:
        kind: what it estimates.
        sum: the index of the sum, or None.
        count: the index of the count, or None.
        centre: in units of `resolution`.
        lower, upper: the public bounds of one value, in units of `resolution`.
        resolution: the measure of one unit.
        moments: the sums of a variance (values, squares), a covariance (both values, products) or a correlation (and
            both squares); values are shifted by their centres before they are squared.
        population: whether a variance divides by n and not by n - 1.
        tree, fraction: for a quantile.
        leaf: where among a cell's released integers its leaf stands that report-noisy-max chose, or None.
    """

    kind: AggregateKind
    sum: int | None
    count: int | None
    centre: int = 0
    lower: int = 0
    upper: int = 0
    resolution: Fraction = Fraction(1)
    moments: tuple[Moment, ...] = ()
    population: bool = False
    tree: Tree | None = None
    fraction: Fraction | None = None
    leaf: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the estimate as a canonical record."""
        return {
            "kind": self.kind.value,
            "sum": self.sum,
            "count": self.count,
            "centre": str(self.centre),
            "lower": str(self.lower),
            "upper": str(self.upper),
            "resolution": format_exact(self.resolution),
            "moments": [moment.to_record() for moment in self.moments],
            "population": self.population,
            "tree": None if self.tree is None else self.tree.to_record(),
            "fraction": None if self.fraction is None else format_exact(self.fraction),
            "leaf": self.leaf,
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """Statistics with a single integer a cell stand first, so that their index is their place among all integers."""

    statistics: tuple[Statistic, ...]
    estimates: tuple[Estimate, ...]
    histograms: tuple[Histogram, ...]

    def rests_on(self, index: int) -> list[int]:
        """Return the indexes of the statistics that an estimate is made of."""
        estimate = self.estimates[index]
        entries = {e for e in (estimate.sum, estimate.count) if e is not None} | {m.sum for m in estimate.moments}
        if estimate.tree is not None:
            entries |= set(estimate.tree.starts)
        found, start = [], 0
        for place, statistic in enumerate(self.statistics):
            found += [place] if start in entries else []
            start += statistic.width
        return found


def choose_statistics(
    aggregates: Sequence[Aggregate],
    bound: ContributionBound,
    mode: KeyMode,
    cells: int,
    influence: Influence | None = None,
) -> Chosen:
    """Return the fewest statistics that answer the aggregates, and one estimate for each aggregate.

    Counts of rows with the same NULLs are one statistic.  A total beside such a count comes from the centred sum and
    the count, which never has more variance than a sum of its own: centre**2 + half**2 <= (|centre| + half)**2.
    With private keys the count of units is always there, first: it is what the threshold sees.  Where one row of a
    unit counts, rows and units are the same number.  Quantiles of one argument share one tree; `cells` says how many
    there will be.  `influence` is what one change moves; by default, that of one unit of a table.
    """
    chooser = _Chooser(bound, cells, plain_influence(bound, mode) if influence is None else influence)
    if mode is KeyMode.PRIVATE:
        chooser.units()
    for aggregate in aggregates:
        if aggregate.kind is AggregateKind.UNITS:
            chooser.units()
        elif aggregate.kind not in {AggregateKind.SUM, *_BINNED}:
            chooser.rows(aggregate.argument)
    found = {a: chooser.estimate(a) for a in aggregates if a.kind not in _BINNED}
    # What is made of histograms stands behind what the SQL gives as it is.
    found |= {a: chooser.estimate(a) for a in aggregates if a.kind is AggregateKind.DISTINCT}
    found |= {a: chooser.quantile(a) for a in aggregates if a.kind is AggregateKind.QUANTILE}
    estimates = tuple(found[aggregate] for aggregate in aggregates)
    return Chosen(tuple(chooser.statistics), estimates, tuple(chooser.histograms))


_BINNED = {AggregateKind.DISTINCT, AggregateKind.QUANTILE}


class _Chooser:
    def __init__(self, bound: ContributionBound, cells: int, influence: Influence) -> None:
        self.bound = bound
        self.cells = cells
        self.histograms: list[Histogram] = []
        self.trees: dict[Expr, Tree] = {}
        self.influence = influence
        self.statistics: list[Statistic] = []

    def estimate(self, aggregate: Aggregate) -> Estimate:
        if aggregate.kind is AggregateKind.UNITS:
            return Estimate(aggregate.kind, None, self.units())
        if aggregate.kind is AggregateKind.COUNT:
            return Estimate(aggregate.kind, None, self.rows(aggregate.argument))
        if aggregate.kind is AggregateKind.DISTINCT:
            return Estimate(aggregate.kind, None, self.distinct(aggregate))
        if aggregate.moments:
            return self._of_moments(aggregate)
        argument, of = _summed(aggregate)
        count = self.found_rows(argument)
        if aggregate.kind is AggregateKind.SUM and count is None:
            return self._totalled(argument, of)
        assert count is not None
        centre = (of.lower + of.upper) // 2
        total = self._sum(argument, centre, max(of.upper - centre, centre - of.lower))
        return Estimate(aggregate.kind, total, count, centre, of.lower, of.upper, of.resolution)

    def distinct(self, aggregate: Aggregate) -> int:
        assert aggregate.argument is not None
        domain = key_domain(aggregate.argument)
        assert domain is not None
        histogram = self._histogram(Histogram(aggregate.argument, tuple(v for v in domain if v is not None)))
        return self._index(
            Statistic(StatisticKind.DISTINCT, aggregate.argument, 0, self.influence.rows**2, histogram=histogram)
        )

    def quantile(self, aggregate: Aggregate) -> Estimate:
        argument, of = _summed(aggregate)
        if argument not in self.trees:
            histogram, width = bins_of(argument, self.cells)
            place, leaves = self._histogram(histogram), len(histogram.domain)
            levels = levels_of(leaves)
            starts = []
            for level in range(1, levels + 1):
                starts.append(sum(statistic.width for statistic in self.statistics))
                self.statistics.append(
                    Statistic(StatisticKind.NODES, argument, 0, self.influence.rows**2, place, level, levels)
                )
            self.trees[argument] = Tree(tuple(starts), leaves, of.lower, of.upper, width, of.resolution)
        return Estimate(
            aggregate.kind, None, None, tree=self.trees[argument], fraction=aggregate.fraction, resolution=of.resolution
        )

    def _histogram(self, histogram: Histogram) -> int:
        if histogram not in self.histograms:
            self.histograms.append(histogram)
        return self.histograms.index(histogram)

    def _of_moments(self, aggregate: Aggregate) -> Estimate:
        count = self.rows(aggregate.argument)
        moments = []
        for argument in aggregate.moments:
            of = argument.type
            assert isinstance(of, NumberType)
            centre = (of.lower + of.upper) // 2
            total = self._sum(argument, centre, max(of.upper - centre, centre - of.lower))
            moments.append(Moment(total, centre, of.lower, of.upper, of.resolution))
        return Estimate(aggregate.kind, None, count, moments=tuple(moments), population=aggregate.population)

    def _totalled(self, argument: Expr, of: NumberType) -> Estimate:
        index = self._sum(argument, 0, max(abs(of.lower), abs(of.upper)))
        return Estimate(AggregateKind.SUM, index, None, 0, of.lower, of.upper, of.resolution)

    def units(self) -> int:
        return self._index(Statistic(StatisticKind.UNITS, None, 0, self.influence.units_squared))

    def rows(self, argument: Expr | None) -> int:
        found = self.found_rows(argument)
        if found is not None:
            return found
        if self.bound.rows == 1 and _counted(argument) is None:
            return self.units()
        return self._index(Statistic(StatisticKind.ROWS, _counted(argument), 0, self.influence.rows**2))

    def found_rows(self, argument: Expr | None) -> int | None:
        """Return the index of a count of the rows where `argument` is not NULL, if there is one."""
        wanted = _nulls(_counted(argument))
        for index, statistic in enumerate(self.statistics):
            is_rows = statistic.kind is StatisticKind.ROWS
            if is_rows and _nulls(statistic.argument) == wanted:
                return index
            if statistic.kind is StatisticKind.UNITS and self.bound.rows == 1 and _counted(argument) is None:
                return index
        return None

    def _sum(self, argument: Expr, centre: int, largest: int) -> int:
        return self._index(Statistic(StatisticKind.SUM, argument, centre, (self.influence.rows * largest) ** 2))

    def _index(self, statistic: Statistic) -> int:
        if statistic not in self.statistics:
            self.statistics.append(statistic)
        return self.statistics.index(statistic)


def _summed(aggregate: Aggregate) -> tuple[Expr, NumberType]:
    argument = aggregate.argument
    assert argument is not None
    assert isinstance(argument.type, NumberType)
    return argument, argument.type


def _counted(argument: Expr | None) -> Expr | None:
    return None if argument is None or not argument.nullable else argument


def _nulls(argument: Expr | None) -> Expr | frozenset[str] | None:
    """Return what decides whether a row counts: nothing, some columns, or the expression itself."""
    if argument is None:
        return None
    names = null_columns(argument)
    return argument if names is None else names
