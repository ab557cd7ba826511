"""Choose one quantile by report-noisy-max: the bin whose rank is nearest, beside a noisy tree that gives the interval.

The score of a bin is how many rows lie between it and the wanted rank, taken negative: a bin that holds the rank has 0.
A row moves it by a known whole number, up or down, so the mechanism is the one for scores that move in both directions.
Half of the loss pays for the choice, half for the tree; a unit's rows are divided over the groups, so the choices in
all groups together cost what one would (`docs/proofs/chosen-quantile.md`).

Source: Smith 2011 (STOC 2011, the exponential mechanism for quantiles); Cesar, Rogers 2021 (arXiv 2004.07223) for its
loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from sqlglot import exp

from sandbox.model.exact import format_exact
from sandbox.privacy.influence import influence_of, plain_influence
from sandbox.privacy.mechanism import choice_scale
from sandbox.privacy.noise import NoiseSource
from sandbox.privacy.parse import Text
from sandbox.privacy.query import AggregateKind, Bounding, CheckedQuery, KeyMode
from sandbox.privacy.statistics import Chosen

SHARE = Fraction(1, 2)
"""The part of a question's loss that pays for the choice; the rest pays for the tree that the interval is read from."""

MAX_SCORE = 2**62
"""Scores are held within this of zero, which moves no two of them further apart."""


@dataclass(frozen=True, slots=True)
class LeafChoice:
    """How the bin of a quantile is chosen in every group.

    Attributes:
        fraction: which quantile.
        leaves: among how many public bins.
        sensitivity: how far one unit moves a score; over several groups, the sum of what it moves in each.
        rho: what the choices in all groups cost together.
        scale: of their noise, a Gumbel variable for each bin.
    """

    fraction: Fraction
    leaves: int
    sensitivity: int
    rho: Fraction
    scale: Fraction

    def to_record(self) -> dict[str, Any]:
        """Return the choice as a canonical record."""
        return {
            "fraction": format_exact(self.fraction),
            "leaves": self.leaves,
            "sensitivity": str(self.sensitivity),
            "rho": format_exact(self.rho),
            "scale": format_exact(self.scale),
        }


def check_chosen_quantile(text: Text, select: exp.Select, query: CheckedQuery) -> None:
    """Refuse a question whose quantile cannot be chosen by report-noisy-max.

    Raises:
        QueryError: it is not one quantile, strictly between 0 and 1, over public keys or none, of a table that protects
            one kind of units (`input.query.quantile`).
    """
    settings = query.settings
    shaped = (
        [aggregate.kind for aggregate in query.aggregates] == [AggregateKind.QUANTILE]
        and query.key_mode is not KeyMode.PRIVATE
        and not query.rolled
        and settings.bounding is Bounding.SAMPLE
        and not settings.weights
        and not settings.top
    )
    if not shaped:
        raise text.refusal(
            select,
            "quantile",
            "`quantile = 'noisy_max'` chooses one quantile, by itself, over public keys or none",
            "write it as in SELECT district, MEDIAN(cost) AS m … GROUP BY district, without other aggregates, ROLLUP, "
            "weights or rescaling; leave the setting out for several quantiles, which share one tree",
        )
    fraction = query.aggregates[0].fraction
    assert fraction is not None
    if not 0 < fraction < 1:
        raise text.refusal(
            select,
            "quantile",
            "`quantile = 'noisy_max'` is not for the least or the largest value, which are one row's",
            "ask for a fraction between 0 and 1, as in QUANTILE_CONT(cost, 0.95)",
        )
    if query.others or influence_of(query) != plain_influence(query.bound, query.key_mode):
        raise text.refusal(
            select,
            "quantile",
            "`quantile = 'noisy_max'` is not for a LEFT JOIN of two datasets nor for a table that protects two kinds",
            "leave it out: the quantile is then read from a noisy tree",
        )


def with_leaf_choice(chosen: Chosen, rows: int, rho: Fraction) -> tuple[Chosen, LeafChoice]:
    """Return a quantile's statistics, where the chosen leaf stands behind their noisy integers, and how it is chosen.

    Args:
        chosen: the tree of one quantile, as `check_chosen_quantile` has found it to be.
        rows: how many rows one unit adds or takes away, over all groups.
        rho: what the choice may cost.

    Raises:
        BoundError: as `choice_scale`.
    """
    (estimate,) = chosen.estimates
    assert estimate.fraction is not None
    assert estimate.tree is not None
    part, whole = estimate.fraction.numerator, estimate.fraction.denominator
    sensitivity = rows * max(part, whole - part)
    behind = sum(statistic.width for statistic in chosen.statistics)
    choice = LeafChoice(estimate.fraction, estimate.tree.leaves, sensitivity, rho, choice_scale(sensitivity, rho))
    return replace(chosen, estimates=(replace(estimate, leaf=behind),)), choice


def leaf_scores(bins: Sequence[int], fraction: Fraction) -> list[int]:
    """Return the score of every bin from exact counts of rows: 0 where the wanted rank lies in it, else negative.

    With F(i) rows in bins before i, n in all and the fraction a / b, it is -max(0, b F(i) - a n, a n - b F(i + 1)).

    Privacy: a row that comes or goes moves each score by max(a, b - a) at most, in either direction.
    """
    part, whole = fraction.numerator, fraction.denominator
    below = [0, *accumulate(bins)]
    wanted = part * below[-1]
    return [
        -min(MAX_SCORE, max(0, whole * before - wanted, wanted - whole * after)) for before, after in pairwise(below)
    ]


def choose_leaves(choice: LeafChoice, groups: Sequence[Sequence[int]], noise: NoiseSource) -> list[int]:
    """Return for each group the bin that report-noisy-max chooses.

    Args:
        choice: how.
        groups: the exact counts of rows by bin, for each group.
        noise: makes the choices.

    Privacy: `choice.rho`-zCDP for all groups together.
    """
    scores = [leaf_scores(bins, choice.fraction) for bins in groups]
    return noise.best(scores, scale=choice.scale, sensitivity=choice.sensitivity, rho=choice.rho)


def reach_of(choice: LeafChoice, alarm: Fraction) -> Fraction:
    """Return how far below the best score one of a group is chosen with a chance of `alarm` at most.

    A bin that is behind by t is chosen with a chance of at most exp(-t / scale), and there are so many of them.
    """
    return choice.scale * Fraction(math.log(choice.leaves / alarm))


def choice_notes(choice: LeafChoice) -> list[str]:
    """Return what is to be known about a chosen quantile; a function of public facts."""
    reach = reach_of(choice, Fraction(1, 20)) / choice.fraction.denominator
    rows = math.ceil(reach)
    enough = math.ceil(reach / min(choice.fraction, 1 - choice.fraction))
    return [
        (
            f"the value is chosen by report-noisy-max among {choice.leaves} public bins, for half of the loss: in each "
            f"group, in 19 of 20 answers, at most {rows} rows lie between the chosen bin and that of the wanted rank"
        ),
        (
            f"a group of fewer than {enough} rows has less on one side of that rank, where the value may lie anywhere: "
            "read from the tree, without the setting, it may err less"
        ),
        (
            "its interval and standard error are those of the noisy tree, for the other half of the loss: the value is "
            "mostly nearer than they say"
        ),
    ]


def likely_leaf(choice: LeafChoice) -> int:
    """Return the bin of the quantile where rows lie evenly over the range; what a quote reckons with."""
    return min(choice.leaves - 1, int(choice.fraction * choice.leaves))
