"""Intervals of variances, correlations and ratios cover the truth; OpenDP takes no seed, so this is statistical."""

import math
import statistics
from fractions import Fraction

import pytest

from sandbox.compute.run import run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
ALARM = 1e-8
ROUNDS = 250
ROWS = world.visits(
    {u: [{"age": (u * 37) % 121, "cost": (u * 37 % 121) * 500 + (u * 611) % 30_000}] for u in range(1500)}
)
AGES = [row["age"] for row in ROWS]
COSTS = [row["cost"] / 100 for row in ROWS]
TRUTHS = {
    "VARIANCE(age)": statistics.variance(AGES),
    "STDDEV(cost)": statistics.stdev(COSTS),
    "COVAR_SAMP(age, cost)": statistics.covariance(AGES, COSTS),
    "CORR(age, cost)": statistics.correlation(AGES, COSTS),
    "SUM(cost) / SUM(age)": sum(COSTS) / sum(AGES),
    "100 * SUM(age) / COUNT(*)": 100 * sum(AGES) / len(AGES),
    "SUM(age) - 20 * COUNT(*)": sum(AGES) - 20 * len(AGES),
    "STDDEV(age) / AVG(age)": statistics.stdev(AGES) / statistics.mean(AGES),
    "SUM(age) * COUNT(*)": sum(AGES) * len(AGES),
}


@pytest.mark.parametrize(("sql", "rho"), [(sql, Fraction(1, 500 if i % 2 else 20)) for i, sql in enumerate(TRUTHS)])
def test_95_percent_intervals_cover_the_truth(sql, rho):
    """False-alarm rate: ALARM for each of the questions (Hoeffding), if coverage is 95 % or more."""
    plan = world.plan(f"SELECT {sql} AS v FROM visits", world.describe(rows=1, groups=1), loss=PrivacyLoss(rho))
    partials = run_plan(plan, [world.table(ROWS)])
    covered = 0
    for _ in range(ROUNDS):
        answer = measure(plan, partials, OpenDpNoise()).answer
        low, high = answer.lower[0][0], answer.upper[0][0]
        covered += low is None or low <= TRUTHS[sql] <= high
    assert covered / ROUNDS >= 0.95 - math.sqrt(math.log(1 / ALARM) / (2 * ROUNDS))
