"""Sentences for people: how the bound is kept, how far it bends the answer, what thresholds hide."""

from __future__ import annotations

import math
from fractions import Fraction

from sandbox.model.exact import decimal_text
from sandbox.privacy.chosen_quantile import choice_notes
from sandbox.privacy.influence import limits_of
from sandbox.privacy.plan import Plan
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import AggregateKind, Bounding, KeyMode
from sandbox.privacy.scales import Z
from sandbox.privacy.showing import showing_notes


def answer_notes(plan: Plan, profile: Profile | None) -> tuple[str, ...]:
    """Return the notes that an answer carries; a function of public facts."""
    notes = [*bias_notes(plan, profile), *clamp_notes(plan), *unit_notes(plan), *key_notes(plan), *showing_notes(plan)]
    notes += pure_notes(plan)
    notes.append("the 95 % intervals cover the noise, and not what the contribution bound left out")
    if plan.finish.having is not None or plan.finish.limit is not None:
        notes.append("rows were chosen by their noisy values, so the values shown lean towards the choice")
    return tuple(notes)


def pure_notes(plan: Plan) -> list[str]:
    """Return the pure loss of an answer with Laplace noise, beside what it is charged."""
    if plan.pure_loss is None:
        return []
    epsilon, rho = (decimal_text(amount, round_up=True) for amount in (plan.pure_loss, plan.loss.rho))
    said = f"this answer has a pure loss of epsilon = {epsilon}, delta = 0; its accounts are charged rho = {rho} for it"
    return [f"the noise is discrete Laplace: {said}"]


def unit_notes(plan: Plan) -> list[str]:
    """Return which further units the noise covers."""
    limits = limits_of(plan.others)
    return [f"the noise covers one {kind} with at most {rows} rows too" for kind, rows in limits.items()]


def bias_notes(plan: Plan, profile: Profile | None) -> list[str]:
    """Return what is known of the rows that the contribution bound leaves out."""
    unit = plan.unit_kind
    if not plan.bounds_rows:
        return [f"no row was left out: {plan.bounding}"]
    notes = [f"of one {unit} at most {plan.bound.rows} rows in {plan.bound.groups} groups count ({plan.bounding})"]
    if plan.settings.bounding is Bounding.RESCALE:
        notes = [f"every row counts; one {unit} counts for what {plan.bound.rows} rows can bring at most"]
        notes.append(
            "totals come out low by what units beyond that lose, and means lean a little towards units below it"
        )
        return notes
    if plan.joined is not None:
        notes.append("how many rows the bound leaves out is not known: no profile speaks of joined rows")
        return notes
    lost = None if profile is None else profile.lost_share(plan.bound.rows)
    if profile is None:
        why = "no profile is taken of several kinds of units" if plan.others else "the dataset has no profile yet"
        notes.append(f"how many rows the bound leaves out is not known: {why}")
    elif lost is None:
        notes.append("how many rows the bound leaves out is not known: the dataset is too small for its profile")
    elif lost < Fraction(1, 1000):
        notes.append("the bound leaves out less than 0.1 % of all rows")
    else:
        share = f"{math.ceil(lost * 1000) / 10:.1f} %"
        notes.append(
            f"the bound leaves out about {share} of all rows, so counts and totals over all rows come out about that "
            f"much too low (less where a WHERE leaves few rows of a {unit}); means are hardly affected"
        )
    return notes


def clamp_notes(plan: Plan) -> list[str]:
    """Return the public bounds within which values count; how much lies beyond them no public fact says."""
    named = []
    for output in plan.outputs:
        estimate = None if output.slot.is_key else plan.plain_estimate(output.slot.index)
        if estimate is None:
            continue
        of = estimate.moments[0] if estimate.moments else estimate
        if estimate.sum is not None or estimate.moments:
            lower, upper = (float(end * of.resolution) for end in (of.lower, of.upper))
            named.append(f"{output.label.name} {lower:g} to {upper:g}")
    if not named:
        return []
    bounds = ", ".join(named)
    return [
        (
            f"values count within public bounds ({bounds}); one beyond counts as the nearer bound, and how far that "
            "bends the answer no public fact says: ask COUNT(*) FILTER (WHERE the value is beyond it)"
        )
    ]


def key_notes(plan: Plan) -> list[str]:
    """Return what is to be known about the groups."""
    if plan.choice is not None:
        choice = plan.choice
        behind = math.ceil(choice.scale * Fraction(math.log(20 * choice.count * choice.candidates)))
        return [
            (
                f"the first {choice.count} of {choice.candidates} groups are chosen by report-noisy-max, for half of "
                f"the loss: in 19 of 20 answers none that is shown has {behind} units ({plan.unit_kind}) less than one "
                "that should stand in its place"
            ),
            "the counts of the groups shown have noise of their own, so they do not lean towards the choice",
        ]
    if plan.key_mode is KeyMode.PRIVATE:
        assert plan.threshold is not None
        value, reach = plan.threshold.value, math.ceil(Z * plan.statistics[0].sigma)
        lean = math.ceil(plan.statistics[0].sigma * 4 / 5)
        return [
            (
                f"groups are shown from a noisy count of {value} units ({plan.unit_kind}) on; smaller "
                "ones stay hidden, and values of groups just above lean high"
            ),
            (
                f"a group of {max(1, value - reach)} units is shown in less than 1 of 40 answers, one of "
                f"{value + reach} in all but 1 of 40; the count of one of {value}, where it is shown, leans high by "
                f"{lean} or less"
            ),
        ]
    notes = [] if plan.leaf_choice is None else choice_notes(plan.leaf_choice)
    if plan.key_mode is KeyMode.PUBLIC:
        notes.append(f"all {plan.cells} groups of the public domain are shown, empty ones too")
    if not plan.settings.nonnegative and any(e.kind is not AggregateKind.MEAN for e in plan.estimates):
        notes.append(
            "noise may make small counts and totals negative; they are not cut off, so that sums stay unbiased"
        )
    return notes
