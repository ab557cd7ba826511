"""Variances, covariances and arithmetic between aggregates: right without noise, honest with it."""

import statistics
from fractions import Fraction

import numpy as np
import pytest

from sandbox.compute.run import run_plan
from sandbox.model.job import CellKind
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy import jet as jets
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quote import quote_plan
from tests.support import privacy_world as world

ROWS = world.visits(
    {
        unit: [
            {"age": (unit * 7 + i) % 100, "cost": None if unit % 5 == 0 else (unit * 331 + 97 * i) % 90_000}
            for i in range(2)
        ]
        for unit in range(400)
    }
)
TABLE = world.table(ROWS)
MUCH = PrivacyLoss(Fraction(10**8), Fraction(1, 10**6))


def exact(sql, **bound):
    plan = world.plan(sql, world.describe(rows=50, groups=50, **bound), loss=MUCH)
    return measure(plan, run_plan(plan, [TABLE]), world.NoNoise()).answer


def test_variances_and_deviations_are_those_of_the_rows():
    ages = [row["age"] for row in ROWS]
    costs = [row["cost"] / 100 for row in ROWS if row["cost"] is not None]
    answer = exact(
        "SELECT VARIANCE(age) v, VAR_SAMP(cost) c, VAR_POP(age) p, STDDEV(cost) d, STDDEV_POP(age) e FROM visits"
    )
    wanted = [
        statistics.variance(ages),
        statistics.variance(costs),
        statistics.pvariance(ages),
        statistics.stdev(costs),
        statistics.pstdev(ages),
    ]
    assert answer.rows[0] == pytest.approx(wanted, rel=1e-9)
    assert [column.kind for column in answer.columns] == [CellKind.NUMBER] * 5
    assert answer.columns[3].measure_zh == "元"
    assert answer.columns[1].measure_zh == ""


def test_covariances_and_correlations_use_rows_where_both_are_known():
    pairs = [(row["age"], row["cost"] / 100) for row in ROWS if row["cost"] is not None]
    ages, costs = (np.array(values, float) for values in zip(*pairs, strict=True))
    answer = exact(
        "SELECT COVAR_SAMP(age, cost) s, COVAR_POP(cost, age) p, CORR(age, cost) r, CORR(cost, cost) o FROM visits"
    )
    wanted = [np.cov(ages, costs)[0, 1], np.cov(ages, costs, bias=True)[0, 1], np.corrcoef(ages, costs)[0, 1], 1.0]
    assert answer.rows[0] == pytest.approx(wanted, rel=1e-9)


def test_arithmetic_between_aggregates_is_done_on_the_answer():
    answer = exact(
        "SELECT SUM(age) AS a, COUNT(*) AS n, 100 * a / n AS rate, a - 2 * n AS d, -(n) AS m, AVG(age) / AVG(age) AS one, "
        "SUM(age) FILTER (WHERE urgent) / SUM(age) AS share FROM visits HAVING a / n > 1 ORDER BY a / n"
    )
    total, count = sum(row["age"] for row in ROWS), len(ROWS)
    assert answer.rows[0] == pytest.approx((total, count, 100 * total / count, total - 2 * count, -count, 1, 1))
    assert [column.name for column in answer.columns] == ["a", "n", "rate", "d", "m", "one", "share"]


def test_division_by_what_is_within_its_noise_of_zero_gives_no_value():
    plan = world.plan("SELECT district, SUM(age) / COUNT(*) AS r FROM visits GROUP BY 1")
    measured = measure(plan, run_plan(plan, [world.table(ROWS[:2])]), world.NoNoise())
    assert [row[1] for row in measured.answer.rows] == [None] * 4
    assert measured.answer.lower[0][1] is None


def test_a_share_of_itself_has_no_error_since_shared_noise_cancels():
    one = jets.measured(0, 100)
    sigmas = [Fraction(10)]
    assert jets.error_of(jets.added(one, jets.scaled(one, Fraction(-1))), sigmas) == 0
    ratio = jets.divided(one, one, sigmas)
    assert (ratio.amount, jets.error_of(ratio, sigmas)) == (1, 0)


def test_a_value_beyond_floats_is_not_given_and_never_crashes():
    answer = exact("SELECT COUNT(*) * 1e300 * 1e300 AS big, COUNT(*) * 1e-300 * 1e-300 AS small FROM visits")
    assert answer.rows[0][0] is None
    assert answer.rows[0][1] == 0.0


def test_squares_that_could_pass_62_bits_are_taken_in_coarser_steps():
    plan = world.plan("SELECT STDDEV(cost * 1000003) AS s FROM visits", world.describe(max_rows=10**6), loss=MUCH)
    squared = plan.estimates[0].moments[1]
    assert max(abs(squared.lower), abs(squared.upper)) * 10**6 < 2**62
    measured = measure(plan, run_plan(plan, [TABLE]), world.NoNoise())
    costs = [row["cost"] / 100 for row in ROWS if row["cost"] is not None]
    assert measured.answer.rows[0][0] == pytest.approx(statistics.stdev(costs) * 1000003, rel=1e-6)


def test_a_variance_costs_three_statistics_and_shares_them_with_a_mean():
    kinds = [
        s.statistic.kind.value
        for s in world.plan("SELECT AVG(cost), STDDEV(cost), VARIANCE(cost) FROM visits").statistics
    ]
    assert kinds == ["rows", "sum", "sum"]
    assert len(world.plan("SELECT CORR(age, cost) FROM visits").statistics) == 6


def test_quotes_and_audits_cover_them():
    plan = world.plan(
        "SELECT district, STDDEV(age) AS s, 100 * SUM(age) / COUNT(*) AS r, CORR(age, cost) AS c FROM visits GROUP BY 1"
    )
    quote = quote_plan(plan)
    assert all(statistic.half_width_95 >= statistic.standard_error > 0 for statistic in quote.statistics)
    assert [statistic.reference_count for statistic in quote.statistics] == [1000] * 3
    measured = measure(plan, run_plan(plan, [TABLE]), OpenDpNoise())
    verify_measured(plan, measured.answer.to_record(), measured.sealed)
