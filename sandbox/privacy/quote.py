"""Quote a plan: what it costs and how good its answer will be, from public facts only, before anything is spent."""

from __future__ import annotations

import math
from fractions import Fraction

from sandbox.model.question import Quote, QuotedStatistic
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.chosen_quantile import likely_leaf
from sandbox.privacy.estimate import root_up, value_of
from sandbox.privacy.histogram import level_counts
from sandbox.privacy.mechanism import gaussian_sigma
from sandbox.privacy.notes import bias_notes, clamp_notes, key_notes, pure_notes, unit_notes
from sandbox.privacy.plan import Plan, PlannedStatistic
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import AggregateKind
from sandbox.privacy.scales import reach_of_95
from sandbox.privacy.statistics import Estimate, StatisticKind

REFERENCE_COUNT = 1000
"""Rows in the cell that a mean's error is quoted for where no profile says better."""
LAPLACE = "discrete Laplace"
_LINEAR = {AggregateKind.COUNT, AggregateKind.UNITS, AggregateKind.SUM, AggregateKind.DISTINCT}


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
        columns=plan.reads,
        statistics=tuple(
            _quoted(plan, output.label.name, output.slot.index, reference)
            for output in plan.outputs
            if not output.slot.is_key
        ),
        keys=plan.key_mode.value,
        cells=plan.cells,
        threshold=None if plan.threshold is None else float(plan.threshold.value),
        bounding=plan.bounding,
        bound=plan.bound.to_record(),
        notes=(*bias_notes(plan, profile), *clamp_notes(plan), *unit_notes(plan), *key_notes(plan), *_pure_notes(plan)),
        pure_loss=plan.pure_loss,
    )


def _pure_notes(plan: Plan) -> list[str]:
    """Return the pure loss of Laplace noise, and how much narrower Gaussian noise at the same charge would be."""
    wider = [
        planned.sigma / gaussian_sigma(planned.statistic.sensitivity_squared, planned.rho)
        for planned in plan.statistics
        if planned.laplace is not None and planned.sigma
    ]
    notes = pure_notes(plan)
    if wider and min(wider) > 1:
        least, most = (f"{float(share):.3g}" for share in (min(wider), max(wider)))
        times = least if least == most else f"{least} to {most}"
        notes.append(
            f"Gaussian noise at the same charge is {times} times narrower: leave `noise` out where delta = 0 is not "
            "needed"
        )
    return notes


def _reference_count(plan: Plan, profile: Profile | None) -> int:
    if profile is None or plan.cells is None or plan.cells == 0:
        return REFERENCE_COUNT
    return max(1, profile.kept_rows(plan.bound.rows) // plan.cells)


def _quoted(plan: Plan, name: str, index: int, reference: int) -> QuotedStatistic:
    sigmas = plan.entry_sigmas()
    estimate = plan.plain_estimate(index)
    used = sorted(plan.formulas[index].aggregates())
    main = _main_statistic(plan, plan.estimates[used[0]] if estimate is None else estimate)
    linear = estimate is not None and estimate.kind in _LINEAR
    if estimate is not None and estimate.kind is AggregateKind.MEAN:
        assert estimate.sum is not None
        assert estimate.count is not None
        # The worst mean: at an end of the range, where the noise of the count weighs most.
        furthest = max(estimate.upper - estimate.centre, estimate.centre - estimate.lower)
        error = root_up(sigmas[estimate.sum] ** 2 + furthest**2 * sigmas[estimate.count] ** 2) / reference
        error = min(error, Fraction(estimate.upper - estimate.lower)) * estimate.resolution
        scale, half = sigmas[estimate.sum] / reference * estimate.resolution, reach_of_95(sigmas) * error
    else:
        value = value_of(plan.formulas[index], plan.estimates, reference_cell(plan, reference), sigmas)
        if value.standard_error is None or value.lower is None or value.upper is None:
            error = half = Fraction(0)
        else:
            error, half = value.standard_error, (value.upper - value.lower) / 2
        scale = error
    return QuotedStatistic(
        name=name,
        mechanism=_mechanism(plan),
        sensitivity=_root_text(main.statistic.sensitivity_squared)
        if main.laplace is None
        else str(main.laplace.distance),
        noise_scale=float(scale),
        standard_error=float(error),
        half_width_95=float(half),
        reference_count=None if linear else reference,
    )


def _mechanism(plan: Plan) -> str:
    if plan.leaf_choice is not None:
        return "report-noisy-max beside a noisy tree"
    return LAPLACE if plan.settings.laplace else "discrete Gaussian"


def _main_statistic(plan: Plan, estimate: Estimate) -> PlannedStatistic:
    if estimate.tree is not None:
        return next(p for p in plan.statistics if p.statistic.kind is StatisticKind.NODES)
    main = estimate.moments[0].sum if estimate.moments else estimate.count if estimate.sum is None else estimate.sum
    assert main is not None
    return plan.statistics[main]


def reference_cell(plan: Plan, reference: int) -> list[int]:
    """Return the noisy integers of a cell of `reference` rows: sums in the middle, quantiles all over the range."""
    entries: list[int] = []
    for planned in plan.statistics:
        statistic = planned.statistic
        if statistic.kind is StatisticKind.NODES:
            assert statistic.histogram is not None
            used = len(plan.histograms[statistic.histogram].domain)
            entries += level_counts([reference // used + (i < reference % used) for i in range(used)], statistic.level)
        else:
            entries.append(0 if statistic.kind is StatisticKind.SUM else reference)
    return entries if plan.leaf_choice is None else [*entries, likely_leaf(plan.leaf_choice)]


def _root_text(square: int) -> str:
    root = math.isqrt(square)
    return str(root) if root * root == square else f"sqrt({square})"
