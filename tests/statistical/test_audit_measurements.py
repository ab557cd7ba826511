"""Every measurement, audited: the worst neighbours that a search finds, and what an attacker can prove from draws.

Two bounds.  `cost` is exact: the distance of the worst pair in units of the noise, at most rho if sensitivities hold.
`shown` is statistical: what is proven from draws of the deployed path; it sees the noise itself.  Each call accuses a
right implementation with probability at most 2e-9, so this whole file does with probability below 1e-7.
"""

import dataclasses
import datetime as dt
from fractions import Fraction

import pytest

from sandbox.errors import BoundError, QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from tests.support import audit
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
RHO = Fraction(1, 2)
TRIALS, CANARY_TRIALS = 6000, 6000
OTHERS = {unit: [{"age": 10 * unit, "cost": 1000 * unit, "district": "east"}] * 2 for unit in range(3)}

# The question, the bound (rows, groups), and the share of the claim that the worst pair must reach: the search is not
# idle, and no more noise is added than the proofs ask for.
MEASUREMENTS = {
    "count": ("SELECT COUNT(*) AS n FROM visits", (3, 3), 0.99),
    "count after a filter": ("SELECT COUNT(*) AS n FROM visits WHERE age >= 50", (3, 3), 0.99),
    "count by group": ("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", (3, 3), 0.99),
    "count of values": ("SELECT COUNT(cost) AS n FROM visits", (3, 3), 0.99),
    "units": ("SELECT COUNT(DISTINCT patient) AS n FROM visits", (3, 3), 0.99),
    "units by group": ("SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district", (4, 2), 0.99),
    "sum": ("SELECT SUM(cost) AS total FROM visits", (3, 3), 0.9),
    "sum of a signed value": ("SELECT district, SUM(delta) AS total FROM visits GROUP BY district", (3, 3), 0.7),
    "sum of an expression": ("SELECT SUM(CASE WHEN age > 60 THEN cost ELSE -cost END) AS s FROM visits", (2, 2), 0.9),
    "mean": ("SELECT AVG(cost) AS mean FROM visits", (3, 3), 0.9),
    "mean by group": ("SELECT district, AVG(age) AS mean FROM visits WHERE cost > 10 GROUP BY district", (3, 3), 0.7),
    "many at once": (
        "SELECT district, COUNT(*) AS n, COUNT(DISTINCT patient) AS u, AVG(age) AS a FROM visits GROUP BY district",
        (2, 2),
        0.6,
    ),
    "variance": ("SELECT VARIANCE(age) AS v FROM visits", (2, 2), 0.5),
    "standard deviation by group": ("SELECT district, STDDEV(age) AS v FROM visits GROUP BY district", (2, 2), 0.5),
    "a ratio of sums": ("SELECT SUM(cost) / COUNT(*) AS share FROM visits", (2, 2), 0.5),
    "by day": ("SELECT day, COUNT(*) AS n FROM visits WHERE day < DATE '2020-02-01' GROUP BY day", (2, 2), 0.99),
}


def row(draw):
    """A row of extremes and of ordinary values."""
    return {
        "age": draw.choice([0, 120, 60, 61, 49, 50, -(2**62), 2**62, draw.randint(0, 120)]),
        "cost": draw.choice([None, 0, 100_000, 2**62, -(2**62), draw.randint(0, 100_000)]),
        "delta": draw.choice([-150, 60, 0, draw.randint(-150, 60)]),
        "district": draw.choice(["east", "west", "north", None]),
        "diag": draw.choice([None, "", "D1", "D2"]),
        "day": draw.choice([dt.date(2020, 1, 1), dt.date(2020, 1, 15), dt.date(2021, 12, 31), dt.date(1, 1, 1)]),
    }


def planned(name, rho=RHO):
    sql, (rows, groups), share = MEASUREMENTS[name]
    try:
        return world.plan(sql, world.describe(rows=rows, groups=groups), loss=PrivacyLoss(rho)), rows, share
    except (QueryError, BoundError) as error:
        pytest.skip(f"the language refuses this measurement: {error.message}")


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_worst_neighbours_cost_at_most_the_claim_and_nothing_more_is_shown(name):
    plan, rows, share = planned(name)
    pair = audit.worst_neighbours(plan, OTHERS, row, most_rows=3 * rows, rounds=60)
    assert pair.cost <= plan.loss.rho, f"the search found {pair.rows}"
    assert pair.cost >= Fraction(share) * plan.loss.rho, "the search is idle, or the noise is too large"
    shown = audit.audit(plan, pair, TRIALS)
    assert shown <= float(plan.loss.rho)
    assert shown > float(pair.cost) / 10, "the attacker of this audit is too weak to mean anything"


class HalfNoise(OpenDpNoise):
    """A canary: half the noise that was planned."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return super().gaussian(values, sigma=sigma / 2, sensitivity_squared=sensitivity_squared, rho=4 * rho)


@pytest.mark.parametrize("name", ["count", "units by group", "sum", "mean by group", "variance"])
def test_half_the_noise_is_caught_by_its_draws(name):
    plan, rows, _ = planned(name)
    pair = audit.worst_neighbours(plan, OTHERS, row, most_rows=3 * rows, rounds=60)
    if pair.cost < plan.loss.rho * Fraction(3, 4):
        pytest.skip("the proof of this measurement is not tight, so half the noise still holds the claim")
    assert audit.audit(plan, pair, CANARY_TRIALS, HalfNoise()) > float(plan.loss.rho)


@pytest.mark.parametrize("name", ["count", "sum", "mean by group"])
def test_a_dropped_bound_is_caught_by_the_search(name):
    plan, rows, _ = planned(name)
    sql = plan.sql.replace(f"<= {rows}", "<= 1000")
    assert sql != plan.sql
    pair = audit.worst_neighbours(dataclasses.replace(plan, sql=sql), OTHERS, row, most_rows=3 * rows, rounds=60)
    assert pair.cost > plan.loss.rho


@pytest.mark.parametrize("name", ["count", "units by group", "sum"])
def test_a_sensitivity_twice_the_claimed_is_caught_twice(name):
    plan, rows, _ = planned(name)
    # Noise for half the distance: what a proof that is off by two would plan.
    halved = tuple(dataclasses.replace(s, sigma=s.sigma / 2) for s in plan.statistics)
    broken = dataclasses.replace(plan, statistics=halved)
    pair = audit.worst_neighbours(broken, OTHERS, row, most_rows=3 * rows, rounds=60)
    assert pair.cost > broken.loss.rho

    class Planned(OpenDpNoise):
        def gaussian(self, values, *, sigma, sensitivity_squared, rho):
            return super().gaussian(values, sigma=sigma, sensitivity_squared=sensitivity_squared, rho=4 * rho)

    assert audit.audit(broken, pair, CANARY_TRIALS, Planned()) > float(broken.loss.rho)


def test_a_clamp_that_is_dropped_is_caught_by_the_search():
    plan, rows, _ = planned("sum")
    sql = plan.sql.replace("CAST(100000 AS BIGINT)", "CAST(400000 AS BIGINT)")
    assert sql != plan.sql
    pair = audit.worst_neighbours(dataclasses.replace(plan, sql=sql), OTHERS, row, most_rows=3 * rows, rounds=60)
    assert pair.cost > plan.loss.rho


def test_a_mechanism_of_its_own_would_not_pass_the_maps_of_opendp():
    """The noise itself asserts the claim before a draw, so most canaries never run: they have to cheat twice."""
    plan, _, _ = planned("count")
    statistic = plan.statistics[0]
    with pytest.raises(AssertionError):
        OpenDpNoise().gaussian(
            [0],
            sigma=statistic.sigma / 2,
            sensitivity_squared=statistic.statistic.sensitivity_squared,
            rho=plan.loss.rho,
        )
