"""Plan a checked question: one SQL statement over a partition, exact sensitivities, noise scales, thresholds.

A plan is frozen and canonical: its digest names everything that decides what the answer is, besides the data and the
noise.  It is computed from public facts only, and so it can be quoted, logged and replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from sandbox.errors import BoundError
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.exact import format_exact
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy.algebra import ValueType
from sandbox.privacy.bounding import bounding_sql
from sandbox.privacy.chosen_quantile import SHARE as LEAF_SHARE
from sandbox.privacy.chosen_quantile import LeafChoice, with_leaf_choice
from sandbox.privacy.guard import broken_guard
from sandbox.privacy.histogram import Histogram
from sandbox.privacy.influence import Influence, influence_of
from sandbox.privacy.joined import Joined, JoinedTable, Reads, reads_of
from sandbox.privacy.keys import KeyText
from sandbox.privacy.laplace import charged, charges_of, distance_of, laplace_deviation
from sandbox.privacy.layout import PLAIN, Layout
from sandbox.privacy.margins import rolled_statistics
from sandbox.privacy.mechanism import LaplaceNoise, Threshold, gaussian_sigma, laplace_noise, threshold_release
from sandbox.privacy.query import PLAIN_SETTINGS, Bounding, CheckedQuery, Finish, Formula, KeyMode, Output, Settings
from sandbox.privacy.rescaling import rescaled
from sandbox.privacy.scales import LaplaceScales
from sandbox.privacy.statistics import Chosen, Estimate, Statistic, choose_statistics
from sandbox.privacy.top import SHARE, Choice, choice_of

PLAN_VERSION = 4


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """A group key: its type, and its public domain with public keys."""

    type: ValueType
    domain: tuple[KeyText, ...] | None

    def to_record(self) -> dict[str, Any]:
        """Return the key as a canonical record."""
        return {"type": self.type.to_record(), "domain": None if self.domain is None else list(self.domain)}


@dataclass(frozen=True, slots=True)
class PlannedStatistic:
    """A statistic with its share of the loss and the scale of its noise, both exact.

    Attributes:
        statistic: what is measured.
        rho: what it is charged.
        sigma: of discrete Gaussian noise the scale; of discrete Laplace noise the standard deviation, rounded up.
        laplace: how Laplace noise is drawn, or None for Gaussian noise.
    """

    statistic: Statistic
    rho: Fraction
    sigma: Fraction
    laplace: LaplaceNoise | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the planned statistic as a canonical record."""
        return {
            "statistic": self.statistic.to_record(),
            "rho": format_exact(self.rho),
            "sigma": format_exact(self.sigma),
            **({} if self.laplace is None else {"laplace": self.laplace.to_record()}),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides an answer besides the data and the noise.

    Attributes:
        dataset, table: whose rows.
        unit_kind: whom the promise protects.
        columns: the columns that a partition must carry, besides `_unit` and `_rank`.
        sql: one DuckDB statement over a partition called `t`, with a join over `t`, `u` and so on: `key_width`
            texts, then `row_width` integers (`vectors.py`); a layout that numbers groups puts one number in place of
            their texts.
        layout: what else the statement asks of the partition.
        keys, key_mode: the group keys and how they are released.
        statistics: in the order of the SQL; with private keys the first is the count of units.
        threshold: of private keys, else None.
        histograms: exact counts that statistics of kinds NODES and DISTINCT are made of.
        estimates: how aggregates come from statistics.
        formulas: how values come from aggregates; slots name them.
        outputs, finish: the columns of the answer and the post-processing.
        bound: the contribution bound; `bounding` says for people how it is kept.
        bounds_rows: whether the bound may drop rows, so that totals come out low.
        loss: what the answer costs; all of it is charged: what was offered, or what a pure loss is charged.
        max_rows: the public ceiling on rows.
        settings: how the loss is split and how values are shown.
        joined: what is joined to the table, or None.
        choice: how the groups that are released are chosen, or None where all are.
        leaf_choice: how the bin of a quantile is chosen, or None where it is read from the tree.
        others: further kinds of units that the noise covers too.
        levels: which keys are kept at each level that is measured, all of them first; none without totals.
    """

    dataset: str
    table: str
    unit_kind: str
    columns: tuple[str, ...]
    sql: str
    keys: tuple[PlannedKey, ...]
    key_mode: KeyMode
    statistics: tuple[PlannedStatistic, ...]
    threshold: Threshold | None
    histograms: tuple[Histogram, ...]
    estimates: tuple[Estimate, ...]
    formulas: tuple[Formula, ...]
    outputs: tuple[Output, ...]
    finish: Finish
    bound: ContributionBound
    bounding: str
    bounds_rows: bool
    loss: PrivacyLoss
    max_rows: int
    settings: Settings = PLAIN_SETTINGS
    levels: tuple[tuple[int, ...], ...] = ()
    choice: Choice | None = None
    leaf_choice: LeafChoice | None = None
    layout: Layout = PLAIN
    joined: Joined | None = None
    others: tuple[OtherUnit, ...] = ()

    @property
    def rolled(self) -> bool:
        """Whether totals are measured beside the cells."""
        return bool(self.levels)

    @property
    def reads(self) -> Reads:
        """The columns that it reads of each dataset."""
        return reads_of(self.dataset, self.columns, self.joined)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Whose rows stand in `t`, and in `u` and so on for a join; of a table joined with itself in several."""
        return (self.dataset, *(table.dataset for table in self._joined_tables))

    @property
    def columns_by_table(self) -> tuple[tuple[str, ...], ...]:
        """The columns that each of its partitions must carry, `t` first."""
        return (self.columns, *(table.columns for table in self._joined_tables))

    @property
    def _joined_tables(self) -> tuple[JoinedTable, ...]:
        return () if self.joined is None else self.joined.tables

    @property
    def cells(self) -> int | None:
        """How many cells public keys span (1 without keys), or None with private keys."""
        product = 1
        for key in self.keys:
            if key.domain is None:
                return None
            product *= len(key.domain)
        return product

    @property
    def scalars(self) -> int:
        """How many statistics the SQL gives as they are; they stand first."""
        return sum(planned.statistic.histogram is None for planned in self.statistics)

    @property
    def key_width(self) -> int:
        """How many texts a row of the SQL begins with: the keys, and with histograms a place in one of them."""
        return len(self.keys) + bool(self.histograms)

    @property
    def row_width(self) -> int:
        """How many integers a row of the SQL has."""
        return max(1, self.scalars)

    @property
    def pure_loss(self) -> Fraction | None:
        """The pure loss epsilon of the whole answer, rounded up, at delta = 0; None where noise is Gaussian."""
        parts = [planned.laplace.epsilon for planned in self.statistics if planned.laplace is not None]
        return sum(parts, Fraction(0)) if self.settings.laplace else None

    def entry_sigmas(self) -> Sequence[Fraction]:
        """Return the scale of every noisy integer of a cell, in whole rows and resolutions."""
        sigmas = [p.sigma / p.statistic.fine for p in self.statistics for _ in range(p.statistic.width)]
        return LaplaceScales(tuple(sigmas)) if self.settings.laplace else sigmas

    def whole(self, noisy: Sequence[int]) -> Sequence[Fraction | int]:
        """Return noisy integers in whole rows and resolutions."""
        fine = self.statistics[0].statistic.fine
        return noisy if fine == 1 else [Fraction(amount, fine) for amount in noisy]

    def plain_estimate(self, index: int) -> Estimate | None:
        """Return the estimate that a value is, or None where it is arithmetic between several."""
        formula = self.formulas[index]
        return None if formula.index is None else self.estimates[formula.index]

    def to_record(self) -> dict[str, Any]:
        """Return the plan as a canonical record."""
        return {
            "v": PLAN_VERSION,
            "dataset": self.dataset,
            "table": self.table,
            "unit_kind": self.unit_kind,
            "columns": list(self.columns),
            "sql": self.sql,
            "layout": self.layout.to_record(),
            "keys": [key.to_record() for key in self.keys],
            "key_mode": self.key_mode.value,
            "statistics": [statistic.to_record() for statistic in self.statistics],
            "threshold": None if self.threshold is None else self.threshold.to_record(),
            "histograms": [histogram.to_record() for histogram in self.histograms],
            "estimates": [estimate.to_record() for estimate in self.estimates],
            "formulas": [formula.to_record() for formula in self.formulas],
            "outputs": [output.to_record() for output in self.outputs],
            "finish": self.finish.to_record(),
            "bound": self.bound.to_record(),
            "bounding": self.bounding,
            "bounds_rows": self.bounds_rows,
            "loss": self.loss.to_record(),
            "max_rows": self.max_rows,
            "settings": self.settings.to_record(),
            "joined": None if self.joined is None else self.joined.to_record(),
            "choice": None if self.choice is None else self.choice.to_record(),
            "leaf_choice": None if self.leaf_choice is None else self.leaf_choice.to_record(),
            "others": [other.to_record() for other in self.others],
            "levels": [list(level) for level in self.levels],
        }

    def digest(self) -> Digest:
        """Return the digest of the canonical record."""
        return digest_of_record(self.to_record())


def plan_query(query: CheckedQuery, loss: PrivacyLoss) -> Plan:
    """Return the plan that answers a checked question for a loss.

    The loss's rho is split evenly over the statistics, where the levels of one tree share one part; the delta pays for
    the threshold of private keys, and is not spent where there is none.

    Raises:
        BoundError: the loss has no rho, or no delta where keys are private, or is too small for 64-bit noise or for the
            pure loss that is asked for.

    Privacy: for tables that differ in all rows of one unit, `measure` of this plan costs at most `loss`: each
    statistic's discrete Gaussian or Laplace noise is rho_i-zCDP with sum(rho_i) <= rho, the thresholded release besides
    fails with probability at most delta, and the rest is post-processing (`docs/proofs/composition.md`).
    """
    if loss.rho <= 0:
        raise BoundError(
            "the question has no loss to spend", hint="give it a rho above zero", code="privacy.bound.loss"
        )
    influence = influence_of(query)
    chosen = choose_statistics(query.aggregates, query.bound, query.key_mode, _cells_about(query), influence)
    if query.settings.bounding is Bounding.RESCALE:
        chosen = replace(chosen, statistics=rescaled(chosen.statistics, query.max_rows))
    chosen, choice, leaf_choice = _with_choices(query, chosen, influence.rows, loss.rho)
    choosing = sum((one.rho for one in (choice, leaf_choice) if one is not None), Fraction(0))
    if query.rolled:
        chosen = replace(chosen, statistics=rolled_statistics(chosen.statistics, len(query.levels)))
    rhos = charges_of(query.settings, statistic_weights(query, chosen), loss.rho - choosing)
    spent = loss.rho if query.settings.pure_loss is None else charged(rhos, loss.rho)
    planned = [
        planned_statistic(query, statistic, rho, influence)
        for statistic, rho in zip(chosen.statistics, rhos, strict=True)
    ]
    threshold: Threshold | None = None
    if query.key_mode is KeyMode.PRIVATE:
        sigma, threshold = threshold_release(
            influence.groups, rhos[0], loss.delta, squared=influence.units_squared, most=influence.most
        )
        planned[0] = replace(planned[0], sigma=sigma)
    bounded = bounding_sql(query, chosen.statistics, chosen.histograms)
    if sum(statistic.rho for statistic in planned) + choosing > loss.rho:
        raise broken_guard("the statistics of a question cost more than its loss")
    binned = [statistic.histogram is not None for statistic in chosen.statistics]
    assert binned == sorted(binned), "scalars stand first"
    return Plan(
        dataset=query.dataset,
        table=query.table,
        unit_kind=query.unit_kind,
        columns=query.columns,
        sql=bounded.sql,
        keys=tuple(PlannedKey(key.expr.type, key.domain) for key in query.keys),
        key_mode=query.key_mode,
        statistics=tuple(planned),
        threshold=threshold,
        histograms=chosen.histograms,
        estimates=chosen.estimates,
        formulas=query.formulas,
        outputs=query.outputs,
        finish=query.finish if choice is None else Finish(),  # they come in the order of the choice
        bound=query.bound,
        bounding=bounded.words,
        bounds_rows=bounded.drops_rows,
        loss=loss if threshold is not None else PrivacyLoss(spent),
        max_rows=query.max_rows,
        settings=query.settings,
        joined=query.joined,
        layout=bounded.layout,
        choice=choice,
        leaf_choice=leaf_choice,
        others=query.others,
        levels=query.levels,
    )


def planned_statistic(
    query: CheckedQuery, statistic: Statistic, rho: Fraction, influence: Influence
) -> PlannedStatistic:
    """Return a statistic with the least noise of the question's kind that its share of the loss allows."""
    if not query.settings.laplace:
        return PlannedStatistic(statistic, rho, gaussian_sigma(statistic.sensitivity_squared, rho))
    levels = max(1, len(query.levels))
    noise = laplace_noise(distance_of(statistic, influence, levels), rho)
    return PlannedStatistic(statistic, rho, laplace_deviation(noise.scale), noise)


def _with_choices(
    query: CheckedQuery, chosen: Chosen, rows: int, rho: Fraction
) -> tuple[Chosen, Choice | None, LeafChoice | None]:
    """Return what is measured besides a choice by report-noisy-max, and the choice of groups or of a quantile's bin."""
    if query.settings.top:
        choice = choice_of(query, _cells_about(query), rho * SHARE)
        # Of the chosen groups each unit may be in all.
        return (
            replace(chosen, statistics=(replace(chosen.statistics[0], sensitivity_squared=choice.count),)),
            choice,
            None,
        )
    if query.settings.quantile:
        chosen, leaf_choice = with_leaf_choice(chosen, rows, rho * LEAF_SHARE)
        return chosen, None, leaf_choice
    return chosen, None, None


def statistic_weights(query: CheckedQuery, chosen: Chosen) -> list[Fraction]:
    """Return how the loss is split: evenly, or each statistic by the largest weight of a value that rests on it.

    The levels of one tree share one part; with private keys the count of units that the threshold sees has the largest.
    """
    if not query.settings.weights:
        return [Fraction(1, statistic.parts) for statistic in chosen.statistics]
    columns = [output.slot.index for output in query.outputs if not output.slot.is_key]
    largest = max(query.settings.weights)
    found = [Fraction(0)] * len(chosen.statistics)
    for column, weight in zip(columns, query.settings.weights, strict=True):
        for index in query.formulas[column].aggregates():
            for place in chosen.rests_on(index):
                found[place] = max(found[place], weight)
    if query.key_mode is KeyMode.PRIVATE:
        found[0] = largest
    return [
        (weight or min(query.settings.weights)) / statistic.parts
        for weight, statistic in zip(found, chosen.statistics, strict=True)
    ]


PRIVATE_CELLS = 100
"""About how many groups a question with private keys is taken to have, where the number of bins rests on it."""


def _cells_about(query: CheckedQuery) -> int:
    if query.key_mode is KeyMode.PRIVATE:
        return PRIVATE_CELLS
    cells = 1
    for key in query.keys:
        assert key.domain is not None
        cells *= len(key.domain)
    return cells
