"""Post-processing that a question may ask for: no negative counts, rounded values, no values without meaning.

All of it works on released values, costs nothing, and is said in the notes of the answer.
"""

from __future__ import annotations

import math
from fractions import Fraction

from sandbox.privacy.estimate import INTEGERS
from sandbox.privacy.plan import Plan
from sandbox.privacy.query import AggregateKind
from sandbox.privacy.value import MISSING, Value


def shown(plan: Plan, index: int, value: Value) -> Value:
    """Return a value as the settings want it shown."""
    if value.amount is None or value.standard_error is None or value.lower is None or value.upper is None:
        return value
    settings = plan.settings
    amount, lower, upper = value.amount, value.lower, value.upper
    # By the further end: a mean that was held at a public bound has no interval beyond it.
    if settings.suppress is not None and max(upper - amount, amount - lower) > settings.suppress * abs(amount):
        return MISSING
    if settings.nonnegative and _never_negative(plan, index):
        amount, lower, upper = (max(Fraction(0), part) for part in (amount, lower, upper))
    if settings.rounded and value.standard_error > 0:
        step = _step(value.standard_error)
        amount = Fraction(round(amount / step)) * step
    return Value(amount, value.standard_error, lower, upper)


def showing_notes(plan: Plan) -> list[str]:
    """Return what an answer says of its post-processing."""
    settings, notes = plan.settings, []
    if settings.suppress is not None:
        share = f"{math.floor(settings.suppress * 1000) / 10:g} %"
        notes.append(
            f"values whose 95 % interval reaches beyond +-{share} of the value are not shown; which are is chosen by "
            "the noisy values, so those that just pass lean away from zero, and their intervals do not say so"
        )
    if settings.nonnegative:
        notes.append("counts and totals below zero are shown as zero, so that sums over many small cells lean high")
    if settings.rounded:
        notes.append("values are rounded to the size of their standard error; intervals are not")
    if plan.rolled:
        notes.append("rows whose key is (total) are totals; each level of totals has noise of its own")
    if settings.consistent:
        notes.append(
            "cells and totals were made to add up by weighted least squares, so counts are not whole; standard errors "
            "and intervals are those after it"
        )
    return notes


def _never_negative(plan: Plan, index: int) -> bool:
    estimate = plan.plain_estimate(index)
    if estimate is None:
        return False
    return estimate.kind in INTEGERS or (estimate.kind is AggregateKind.SUM and estimate.lower >= 0)


def _step(error: Fraction) -> Fraction:
    """Return the power of ten at or below an error."""
    power = math.floor(math.log10(error)) if error < 10**300 else 300
    return Fraction(10) ** power
