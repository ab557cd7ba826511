"""Private keys, the profile and whole jobs, audited: chances and sums of losses, each with a canary.

False-alarm rate of the whole file: below 1e-7.
"""

import dataclasses
import itertools
import math
import random
from fractions import Fraction

import pyarrow as pa
import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import BudgetExhaustedError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.check import check_question
from sandbox.privacy.models.asking import Feature
from sandbox.privacy.models.regression import fit_linear, fit_logistic
from sandbox.privacy.models.scorecard import Characteristic, fit_scorecard
from sandbox.privacy.models.synthetic import draw_synthetic
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import Plan, plan_query
from sandbox.privacy.profile import profile_plan
from tests.support import audit, proving
from tests.support import models_world as models
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


def passing(plan: Plan, counts: list[int]) -> int:
    """Return in how many trials any of a unit's own keys is released."""
    assert plan.threshold is not None
    first = plan.statistics[0]
    given = {f"{trial}/{place}": count for trial in range(TRIALS) for place, count in enumerate(counts)}
    released = OpenDpNoise().thresholded(given, sigma=first.sigma, threshold=plan.threshold, rho=first.rho)
    return len({key.split("/")[0] for key in released})


def passing_chance(plan: Plan, groups: int) -> float:
    """Return the exact chance of it, for keys of one unit."""
    assert plan.threshold is not None
    own = proving.gaussian_passes(float(plan.statistics[0].sigma), plan.threshold.value - 1)
    return 1 - (1 - own) ** groups


@pytest.mark.parametrize("groups", [1, 3])
def test_a_units_own_keys_pass_with_chance_delta_at_most(groups):
    """2 * ALARM: the chance is computed, and draws keep to its exact binomial range."""
    plan = keyed(groups)
    counts = worst_own_keys(plan)
    assert counts == [1] * groups, "a unit counts once in each of its groups, and in no more groups than the bound"
    chance = passing_chance(plan, groups)
    assert chance <= float(DELTA)
    assert chance > float(DELTA) / 6, "the threshold is far higher than it has to be"
    assert proving.fewest(chance, TRIALS) <= passing(plan, counts) <= proving.most(chance, TRIALS)


def test_a_cap_on_groups_that_is_dropped_is_caught():
    plan = keyed(2)
    sql = plan.sql.replace("<= 2", "<= 1000")
    assert sql != plan.sql
    assert len(worst_own_keys(dataclasses.replace(plan, sql=sql))) > 2


def test_a_threshold_one_standard_deviation_lower_is_caught():
    """ALARM."""
    plan = keyed(1)
    assert plan.threshold is not None
    value = plan.threshold.value - math.ceil(float(plan.statistics[0].sigma))
    lowered = dataclasses.replace(plan.threshold, value=value, delta=Fraction(1, 2))
    canary = dataclasses.replace(plan, threshold=lowered)
    surely = int(proving.fewest(passing_chance(canary, 1), TRIALS))
    assert proving.limits(surely, TRIALS)[0] > float(DELTA)
    assert proving.limits(passing(canary, [1]), TRIALS)[0] > float(DELTA)


def test_the_profile_costs_its_claim_whatever_a_unit_holds():
    plan = profile_plan(world.describe(rows=3, groups=3), PrivacyLoss(Fraction(1, 2)))
    ages = {"age": [0, 120]}
    pair = audit.worst_neighbours(plan, OTHERS, ages, lambda draw: {"age": draw.randint(0, 9)}, most_rows=60, rounds=60)
    assert pair.cost <= plan.loss.rho
    assert pair.cost >= plan.loss.rho * Fraction(99, 100)
    attack = audit.attack(plan, pair, TRIALS)
    assert attack.sure > float(plan.loss.rho) / 6
    assert attack.sure <= audit.audit(plan, pair, attack) <= float(plan.loss.rho)


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


LINEAR = (
    Feature("spent", "spent", Fraction(-500), Fraction(1500)),
    [Feature("age", "age", Fraction(0), Fraction(100)), Feature("income", "income", Fraction(0), Fraction(1000))],
)
FITS = {
    "linear": lambda ask, loss: fit_linear(ask, "visits", *LINEAR, loss),
    "logistic": lambda ask, loss: fit_logistic(ask, "visits", "bad", LINEAR[1], loss),
    "scorecard": lambda ask, loss: fit_scorecard(ask, "visits", "bad", [Characteristic("home", "home")], loss),
    "synthetic": lambda ask, loss: draw_synthetic(ask, "visits", ["home", "town"], loss, seed=1),
}
ENDS = {"age": [0, 100], "income": [0, 10_000], "spent": [-5000, 15_000]}
PEOPLE = models.people(2000)


def model_cost(kind: str, loss: PrivacyLoss, times: int = 1) -> tuple[Fraction, Fraction]:
    """Return what all questions of one fit together tell of the worst of some units, and what they were charged."""
    ask = models.Asker(PEOPLE, world.NoNoise())
    FITS[kind](ask, loss)
    units = [
        {**dict(zip(ENDS, values, strict=True)), "bad": bad, "home": home, "town": "a", "note": "n"}
        for values in itertools.product(*ENDS.values())
        for bad, home in itertools.product([True, False], ["own", "rent"])
    ]
    tables = [
        pa.Table.from_pylist([{"_unit": 10**6, "_rank": i, **unit} for i in range(1, 7)]).cast(PEOPLE.schema)
        for unit in units
    ]
    found = [Fraction(0)] * len(units)
    loosened = world.describe(2 * times, 2 * times, columns=models.COLUMNS)
    for question in ask.questions:
        plan = plan_query(check_question(question, ask.tables), question.loss)
        loose = plan_query(check_question(question, {"visits": loosened}), question.loss)
        asked = dataclasses.replace(plan, sql=loose.sql, layout=loose.layout)
        # Rows and units are kept by what the unit holds alone, so it moves an empty table as far as any other.
        nobody, *each = (run_plan(asked, [rows], engine=audit.engine()) for rows in (PEOPLE.slice(0, 0), *tables))
        found = [cost + audit.cost_of(asked, nobody, one) for cost, one in zip(found, each, strict=True)]
    return max(found), ask.spent.rho


@pytest.mark.parametrize("kind", FITS)
def test_all_questions_of_a_model_together_tell_no_more_of_a_unit_than_its_loss(kind):
    loss = PrivacyLoss(Fraction(1, 2))
    cost, charged = model_cost(kind, loss)
    assert cost <= charged <= loss.rho
    assert cost >= charged * Fraction(99, 100), "the model buys more noise than its questions need"
    assert model_cost(kind, loss, times=2)[0] > loss.rho, "a bound twice the claimed went unnoticed"
