"""How much loss for +-x %, and which bound on rows errs least: pure functions of plans and released profiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound
from sandbox.privacy.estimate import value_of
from sandbox.privacy.plan import Plan, plan_query
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import AggregateKind, Bounding, CheckedQuery, KeyMode
from sandbox.privacy.quote import reference_cell
from sandbox.privacy.statistics import StatisticKind

MOST_RHO = Fraction(1000)
_ROUNDS = 40


def relative_error(plan: Plan, cell: int) -> float:
    """Return the largest half-width of a cell's 95 % intervals, as a share of its value; infinite where one is unknown.

    Args:
        plan: what would be measured.
        cell: how many rows (or units) the cell has; its values lie in the middle of their ranges.
    """
    sigmas, noisy = plan.entry_sigmas(), reference_cell(plan, cell)
    worst = 0.0
    for output in plan.outputs:
        if output.slot.is_key:
            continue
        value = value_of(plan.formulas[output.slot.index], plan.estimates, noisy, sigmas)
        if value.amount is None or value.lower is None or value.upper is None or value.amount == 0:
            return math.inf
        worst = max(worst, float((value.upper - value.lower) / 2 / abs(value.amount)))
    return worst


def least_loss(query: CheckedQuery, within: Fraction, cell: int, delta: Fraction) -> PrivacyLoss:
    """Return the least loss for which every value of a cell of `cell` rows has a 95 % half-width within `within`.

    The noise falls as the loss grows, so it is found by bisection, to one part in a thousand, rounded up.  A pure loss
    that the question asks for is left out: it fixes the noise.

    Raises:
        BoundError: no loss up to a rho of 1000 is enough.
    """
    delta = delta if query.key_mode is KeyMode.PRIVATE else Fraction(0)
    query = replace(query, settings=replace(query.settings, pure_loss=None))

    def held(rho: Fraction) -> bool:
        return relative_error(plan_query(query, PrivacyLoss(rho, delta)), cell) <= within

    if not held(MOST_RHO):
        raise BoundError(
            "no loss gives this question so small an error",
            hint="ask about larger cells, narrow the values, or allow a larger error",
            code="privacy.bound.accuracy",
        )
    low, high = -40.0, math.log2(MOST_RHO)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if held(_rho(middle)) else (middle, high)
        if high - low < 0.0014:
            break
    return PrivacyLoss(_rho(high), delta)


def _rho(power: float) -> Fraction:
    """Return about 2**power, in three digits, rounded up."""
    exact = Fraction(2.0**power)
    step = Fraction(10) ** (math.floor(math.log10(exact)) - 3)
    return min(MOST_RHO, math.ceil(exact / step) * step)


@dataclass(frozen=True, slots=True)
class ProposedBound:
    """A bound on rows, and about what share of a typical cell's count it errs by."""

    rows: int
    bias: float
    noise: float


def propose_rows(query: CheckedQuery, loss: PrivacyLoss, profile: Profile, cell: int) -> ProposedBound | None:
    """Return the bound on rows whose bias and noise together are least, for the totals of a cell of `cell` rows.

    A small bound drops rows, a large one needs noise.  Only released numbers and public bounds are read: the share of
    rows that a bound leaves out is the profile's, and a sum is taken to be half of what its rows could bring at most.
    None where no value is a count of rows or a sum: a bound does not bias the others by a share that is known.
    """
    found: list[tuple[float, ProposedBound]] = []
    for rows in sorted({*range(1, min(query.bound.rows, 16) + 1), *_doublings(query.bound.rows)}):
        bound = ContributionBound(rows, min(rows, query.bound.groups))
        noise = _noise_share(plan_query(replace(query, bound=bound), loss), cell)
        if noise is None:
            return None
        lost = profile.lost_share(rows)
        bias = 1.0 if lost is None else float(lost)
        found.append((math.hypot(bias, noise), ProposedBound(rows, bias, noise)))
    return min(found, key=lambda pair: (pair[0], pair[1].rows))[1]


def _noise_share(plan: Plan, cell: int) -> float | None:
    """Return the largest noise of a count of rows or a sum, as a share of its value in a cell of `cell` rows."""
    sigmas = [float(sigma) for sigma in plan.entry_sigmas()]
    shares = []
    for index in range(len(plan.formulas)):
        estimate = plan.plain_estimate(index)
        if estimate is None or estimate.kind not in {AggregateKind.COUNT, AggregateKind.SUM}:
            continue
        if estimate.sum is None:
            assert estimate.count is not None
            shares.append(sigmas[estimate.count] / cell)
            continue
        counted = 0.0 if estimate.count is None else estimate.centre * sigmas[estimate.count]
        half = max(abs(estimate.lower), abs(estimate.upper), 1) / 2
        shares.append(math.hypot(sigmas[estimate.sum], counted) / (cell * half))
    return max(shares, default=None)


def proposals(query: CheckedQuery, loss: PrivacyLoss, profile: Profile | None) -> tuple[str, ...]:
    """Return what a quote proposes: the bounding form and the bound that err least, by the dataset's profile."""
    if profile is None or query.source is not None or not profile.tells_rows():
        return ()
    if query.settings.bounding is Bounding.RESCALE:
        return ()  # It leaves no row out, so there is nothing to weigh against its noise.
    plan = plan_query(query, loss)
    if not plan.bounds_rows or plan.cells is None:
        return ()
    found = []
    cell = max(1, profile.total_rows() // plan.cells)
    best = propose_rows(query, loss, profile, cell)
    if best is not None and best.rows < query.bound.rows:
        found.append(
            f"a bound of {best.rows} rows errs least here (about {best.bias:.1%} left out, {best.noise:.1%} noise in a "
            f"cell of {cell} rows): ask with --rows {best.rows}"
        )
    lost = profile.lost_share(query.bound.rows)
    if _rescaling_helps(query, plan) and lost is not None and lost > Fraction(1, 50):
        found.append(
            f"sampling leaves out about {float(lost):.0%} of all rows; SETTINGS bounding = 'rescale' counts them all, "
            "with the same noise and less bias for sums, and for counts of units that stand in several groups"
        )
    return tuple(found)


def _rescaling_helps(query: CheckedQuery, plan: Plan) -> bool:
    """Return whether rescaling can lose less than sampling does.

    A count over all rows loses the same either way: a unit counts for the bound.  Sums lose less, since few rows have
    the largest value, and so do counts by group, since a unit's rows in several groups are further apart.
    """
    kinds = {statistic.statistic.kind for statistic in plan.statistics}
    fits = kinds <= {StatisticKind.ROWS, StatisticKind.SUM} and query.settings.bounding is Bounding.SAMPLE
    return fits and (StatisticKind.SUM in kinds or query.key_mode is KeyMode.PUBLIC)


def _doublings(top: int) -> set[int]:
    return {*(2**power for power in range(top.bit_length())), top}
