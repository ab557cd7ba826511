"""Quote a plan: what it costs and how good its answer will be, from public facts only, before anything is spent."""

from __future__ import annotations

import math
from fractions import Fraction

from sandbox.model.question import Quote, QuotedStatistic
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.estimate import Z, root_up
from sandbox.privacy.notes import bias_notes, key_notes
from sandbox.privacy.plan import Plan
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import AggregateKind
from sandbox.privacy.statistics import Estimate

REFERENCE_COUNT = 1000
"""Rows in the cell that a mean's error is quoted for where no profile says better."""


def quote_plan(plan: Plan, profile: Profile | None = None) -> Quote:
    """Return the quote of a plan.

    Args:
        plan: what would be measured.
        profile: a released profile of the dataset: it gives the bias of the bound and the size of a typical cell.
    """
    epsilon, delta = people_loss(plan.loss)
    reference = _reference_count(plan, profile)
    return Quote(
        loss=plan.loss,
        epsilon=epsilon,
        delta=delta,
        columns=((plan.dataset, plan.columns),),
        statistics=tuple(
            _quoted(plan, output.label.name, plan.estimates[output.slot.index], reference)
            for output in plan.outputs
            if not output.slot.is_key
        ),
        keys=plan.key_mode.value,
        cells=plan.cells,
        threshold=None if plan.threshold is None else float(plan.threshold.value),
        bounding=plan.bounding,
        bound=plan.bound.to_record(),
        notes=(*bias_notes(plan, profile), *key_notes(plan)),
    )


def _reference_count(plan: Plan, profile: Profile | None) -> int:
    if profile is None or plan.cells is None or plan.cells == 0:
        return REFERENCE_COUNT
    return max(1, profile.kept_rows(plan.bound.rows) // plan.cells)


def _quoted(plan: Plan, name: str, estimate: Estimate, reference: int) -> QuotedStatistic:
    sigmas = [statistic.sigma for statistic in plan.statistics]
    main = estimate.count if estimate.sum is None else estimate.sum
    assert main is not None
    of_count = Fraction(0) if estimate.count is None else sigmas[estimate.count]
    of_sum = Fraction(0) if estimate.sum is None else sigmas[estimate.sum]
    if estimate.kind is AggregateKind.MEAN:
        # The worst mean: at an end of the range, where the noise of the count weighs most.
        furthest = max(estimate.upper - estimate.centre, estimate.centre - estimate.lower)
        error = root_up(of_sum**2 + furthest**2 * of_count**2) / reference
        error = min(error, Fraction(estimate.upper - estimate.lower))
        scale, half = of_sum / reference, Z * error
    else:
        weight = 1 if estimate.sum is None else estimate.centre
        error = root_up(of_sum**2 + weight**2 * of_count**2)
        scale, half = error, Fraction(math.ceil(Z * error))
    step = estimate.resolution
    return QuotedStatistic(
        name=name,
        mechanism="discrete Gaussian",
        sensitivity=_root_text(plan.statistics[main].statistic.sensitivity_squared),
        noise_scale=float(scale * step),
        standard_error=float(error * step),
        half_width_95=float(half * step),
        reference_count=reference if estimate.kind is AggregateKind.MEAN else None,
    )


def _root_text(square: int) -> str:
    root = math.isqrt(square)
    return str(root) if root * root == square else f"sqrt({square})"
