"""Private keys, the profile and whole jobs, audited: chances and sums of losses, each with a canary.

False-alarm rate of the whole file: below 1e-7.
"""

import dataclasses
import math
import random
from fractions import Fraction

import pytest

from sandbox.errors import BudgetExhaustedError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import Plan
from sandbox.privacy.profile import profile_plan
from tests.support import audit
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
DELTA = Fraction(1, 50)
TRIALS = 4000
KEYS = "SELECT diag, COUNT(DISTINCT patient) AS n FROM visits GROUP BY diag"
OTHERS = {unit: [{"diag": "shared"}] for unit in range(3)}


def keyed(groups: int) -> Plan:
    description = world.describe(rows=6, groups=groups)
    return world.plan(KEYS, description, loss=PrivacyLoss(Fraction(1, 10), DELTA))


def worst_own_keys(plan: Plan, rounds: int = 40) -> list[int]:
    """Return the counts of keys that only one unit has, for the unit that a search finds to have most of them."""
    draw, worst = random.Random(3), []
    known = set(audit.exact(plan, OTHERS).cells)
    for _ in range(rounds):
        rows = [{"diag": f"own {draw.randint(0, 11)}"} for _ in range(draw.randint(1, 12))]
        found = audit.exact(plan, {**OTHERS, 999: rows})
        own = [amounts[0] for key, amounts in found.cells.items() if key not in known]
        worst = max(worst, own, key=lambda counts: (sum(counts), max(counts, default=0)))
    return worst


def passing_share(plan: Plan, counts: list[int]) -> tuple[float, float]:
    """Return limits of the chance that any of a unit's own keys is released."""
    assert plan.threshold is not None
    first = plan.statistics[0]
    given = {f"{trial}/{place}": count for trial in range(TRIALS) for place, count in enumerate(counts)}
    released = OpenDpNoise().thresholded(given, sigma=first.sigma, threshold=plan.threshold, rho=first.rho)
    return audit.limits(len({key.split("/")[0] for key in released}), TRIALS)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_units_own_keys_pass_with_chance_delta_at_most(groups):
    plan = keyed(groups)
    counts = worst_own_keys(plan)
    assert counts == [1] * groups, "a unit counts once in each of its groups, and in no more groups than the bound"
    low, high = passing_share(plan, counts)
    assert low <= float(DELTA)
    assert high > float(DELTA) / 6, "the threshold is far higher than it has to be"


def test_a_cap_on_groups_that_is_dropped_is_caught():
    plan = keyed(2)
    sql = plan.sql.replace("<= 2", "<= 1000")
    assert sql != plan.sql
    assert len(worst_own_keys(dataclasses.replace(plan, sql=sql))) > 2


def test_a_threshold_one_standard_deviation_lower_is_caught():
    plan = keyed(1)
    assert plan.threshold is not None
    value = plan.threshold.value - math.ceil(float(plan.statistics[0].sigma))
    lowered = dataclasses.replace(plan.threshold, value=value, delta=Fraction(1, 2))
    low, _ = passing_share(dataclasses.replace(plan, threshold=lowered), [1])
    assert low > float(DELTA)


def test_the_profile_costs_its_claim_whatever_a_unit_holds():
    plan = profile_plan(world.describe(rows=3, groups=3), PrivacyLoss(Fraction(1, 2)))
    pair = audit.worst_neighbours(plan, OTHERS, lambda draw: {"age": draw.randint(0, 9)}, most_rows=60, rounds=60)
    assert pair.cost <= plan.loss.rho
    assert pair.cost >= plan.loss.rho * Fraction(99, 100)
    assert audit.audit(plan, pair, TRIALS) <= float(plan.loss.rho)


def test_an_adaptive_job_costs_at_most_its_limit_and_a_filter_that_forgets_is_caught():
    """The second question is chosen by the first answer; all questions are about one unit's worst rows."""
    limit = PrivacyLoss(Fraction(1, 2))

    def ask(share: Fraction, *, forgets: bool) -> Fraction:
        account, total = JobFilter(limit), Fraction(0)
        for step in range(8):
            plan = world.plan(f"SELECT COUNT(*) AS n FROM visits WHERE age > {step}", loss=limit.scaled(share))
            try:
                (JobFilter(limit) if forgets else account).request(plan.loss)
            except BudgetExhaustedError:
                break
            without = audit.exact(plan, OTHERS)
            total += audit.cost_of(plan, without, audit.exact(plan, {**OTHERS, 9: [{"age": 120}] * 9}))
        return total

    for share in (Fraction(1, 2), Fraction(1, 3), Fraction(1)):
        assert ask(share, forgets=False) <= limit.rho
    assert ask(Fraction(1, 3), forgets=True) > limit.rho
