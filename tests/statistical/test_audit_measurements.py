"""Every measurement, audited: the worst neighbours that a search finds, and what an attacker can prove from draws.

Two bounds.  `cost` is exact: the distance of the worst pair in units of the noise, at most rho if sensitivities hold.
`shown` is statistical: what is proven from draws of the deployed path; it sees the noise itself.  Both ends are exact:
no claim that holds is passed but for a chance of 2 * ALARM, and the law of the scores is computed, so that draws of it
prove less than `sure` but for a chance of ALARM.  That is 3e-9 a call, and below 3e-7 in this whole file.

Each family has its canaries: a sensitivity twice the claimed, a bound that is dropped, half the noise.
"""

import dataclasses
import datetime as dt
from fractions import Fraction
from functools import cache

import pytest

from sandbox.errors import PrivacyError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from tests.support import audit
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
RHO, DELTA = Fraction(1, 2), Fraction(1, 10**6)
TRIALS, CANARY_TRIALS, SOAK_TRIALS = 11_000, 3000, 100_000
OTHERS = {
    unit: [{"age": 10 * unit, "cost": 1000 * unit, "district": "east", "diag": diag}] * 2
    for unit, diag in enumerate(["D1", "D2", ""])
}
WHOLE = Fraction(99, 100)
STEP = "WITH p AS (SELECT patient, COUNT(*) AS n, SUM(cost) AS s, MAX(age) AS a FROM visits GROUP BY patient) "
PLACES = "WITH d(district, kind, size) AS (VALUES ('east', 'urban', 3), ('west', 'rural', 5), ('north', 'rural', -1)) "

# The question, the bound (rows, groups), and the share of the claim that the worst pair must reach: the search is not
# idle, and no more noise is added than the proofs ask for.  Where counts of rows and of units stand together the whole
# claim has no pair: rows move furthest in one group, units in as many as they may.
MEASUREMENTS = {
    "count": ("SELECT COUNT(*) AS n FROM visits", (3, 3), WHOLE),
    "count after a filter": ("SELECT COUNT(*) AS n FROM visits WHERE age >= 50", (3, 3), WHOLE),
    "count by group": ("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", (3, 3), WHOLE),
    "count of values": ("SELECT COUNT(cost) AS n FROM visits", (3, 3), WHOLE),
    "units": ("SELECT COUNT(DISTINCT patient) AS n FROM visits", (3, 3), WHOLE),
    "units by group": ("SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district", (4, 2), WHOLE),
    "sum": ("SELECT SUM(cost) AS total FROM visits", (3, 3), WHOLE),
    "sum of a signed value": ("SELECT district, SUM(delta) AS total FROM visits GROUP BY district", (3, 3), WHOLE),
    "sum of an expression": ("SELECT SUM(CASE WHEN age > 60 THEN cost ELSE -cost END) AS s FROM visits", (2, 2), WHOLE),
    "mean": ("SELECT AVG(cost) AS mean FROM visits", (3, 3), WHOLE),
    "mean by group": ("SELECT district, AVG(age) AS mean FROM visits WHERE cost > 10 GROUP BY district", (3, 3), WHOLE),
    "many at once": (
        "SELECT district, COUNT(*) AS n, COUNT(DISTINCT patient) AS u, AVG(age) AS a FROM visits GROUP BY district",
        (2, 2),
        WHOLE * Fraction(5, 6),  # all rows in one group: count 1, sum 1, units 1/2, each with a third of the loss
    ),
    "weighed": (
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits WHERE urgent SETTINGS weights = (1, 3)",
        (2, 2),
        WHOLE,
    ),
    "variance": ("SELECT VARIANCE(age) AS v FROM visits", (2, 2), WHOLE),
    "standard deviation by group": ("SELECT district, STDDEV(age) AS v FROM visits GROUP BY district", (2, 2), WHOLE),
    "correlation": ("SELECT CORR(age, cost) AS r FROM visits", (2, 2), WHOLE),
    "a ratio of sums": ("SELECT SUM(cost) / COUNT(*) AS share FROM visits", (2, 2), WHOLE),
    "by day": ("SELECT day, COUNT(*) AS n FROM visits WHERE day < DATE '2020-02-01' GROUP BY day", (2, 2), WHOLE),
    "quantiles by group": (
        "SELECT district, QUANTILE_CONT(age, [0.1, 0.5, 0.9]) FROM visits GROUP BY district",
        (2, 2),
        WHOLE,
    ),
    "distinct values": ("SELECT COUNT(DISTINCT FLOOR(age / 10)) AS n FROM visits", (3, 3), WHOLE),
    "two steps": (STEP + "SELECT AVG(n) AS m, SUM(LEAST(s, 2000)) AS t, COUNT(*) AS u FROM p", (3, 3), WHOLE),
    "two steps by a value": (STEP + "SELECT n, AVG(a) AS m FROM p GROUP BY n", (3, 3), WHOLE),
    "a public table": (
        PLACES + "SELECT kind, COUNT(*) AS n, SUM(size) AS s FROM visits JOIN d USING (district) GROUP BY kind",
        (3, 3),
        WHOLE,
    ),
    "rescaled": (
        "SELECT district, COUNT(*) AS n, SUM(cost) AS s FROM visits GROUP BY district SETTINGS bounding = 'rescale'",
        (2, 2),
        WHOLE,
    ),
    "rescaled variance": ("SELECT VARIANCE(age) AS v FROM visits SETTINGS bounding = 'rescale'", (2, 2), WHOLE),
    "private keys": (
        "SELECT diag, COUNT(DISTINCT patient) AS u, AVG(age) AS m FROM visits GROUP BY diag",
        (3, 1),
        WHOLE,
    ),
}
WIDE = 2**62
EXTREMES = {
    "age": [0, 120, 50, 61, 77, 130, WIDE, -WIDE],
    "cost": [100_000, None, 0, 50_000, WIDE, -WIDE],
    "delta": [-150, 60, 0, WIDE, -WIDE],
    "free": [0, WIDE, -WIDE],
    "district": ["east", "west", "north", None],
    "diag": ["D1", "D2", ""],
    "day": [dt.date(2020, 1, 1), dt.date(2020, 1, 31), dt.date(2021, 12, 31), dt.date(1, 1, 1)],
    "urgent": [True, False, None],
}


def row(draw):
    """A row of extremes and of ordinary values."""
    ordinary = {"age": draw.randint(0, 120), "cost": draw.randint(0, 100_000), "delta": draw.randint(-150, 60)}
    return {name: draw.choice([*values, ordinary.get(name, values[0])]) for name, values in EXTREMES.items()}


@cache
def planned(name, times=1):
    sql, (rows, groups), _ = MEASUREMENTS[name]
    delta = DELTA if name == "private keys" else Fraction(0)
    bound = {"rows": rows * times, "groups": groups * times}
    return world.plan(sql, world.describe(**bound), loss=PrivacyLoss(RHO, delta))


@cache
def worst(name):
    return audit.worst_neighbours(planned(name), OTHERS, EXTREMES, row, most_rows=3 * MEASUREMENTS[name][1][0])


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_worst_neighbours_cost_at_most_the_claim_and_nothing_more_is_shown(name):
    plan, pair, share = planned(name), worst(name), MEASUREMENTS[name][2]
    assert pair.cost <= plan.loss.rho, f"the search found {pair.rows}"
    assert pair.cost >= share * plan.loss.rho, "the search is idle, or the noise is too large"
    attack = audit.attack(plan, pair, TRIALS)
    assert attack.sure > float(pair.cost) / 3, "the attacker of this audit is too weak to mean anything"
    assert attack.sure <= audit.audit(plan, pair, attack) <= float(plan.loss.rho)


class HalfNoise(OpenDpNoise):
    """A canary: half the noise that was planned."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return super().gaussian(values, sigma=sigma / 2, sensitivity_squared=sensitivity_squared, rho=4 * rho)

    def thresholded(self, counts, *, sigma, threshold, rho):
        loose = dataclasses.replace(threshold, delta=Fraction(1))
        return super().thresholded(counts, sigma=sigma / 2, threshold=loose, rho=4 * rho)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_half_the_noise_is_caught_by_its_draws(name):
    plan = planned(name)
    attack = audit.attack(plan, worst(name), CANARY_TRIALS, noise=0.5)
    assert attack.sure > float(plan.loss.rho)
    assert audit.audit(plan, worst(name), attack, HalfNoise()) > float(plan.loss.rho)


def further(pair, times):
    """The same neighbours, where the unit moves every exact integer so many times as far."""
    cells = {}
    for key, amounts in pair.with_unit.cells.items():
        before = pair.without.cells.get(key, (0,) * len(amounts))
        cells[key] = tuple(b + times * (a - b) for a, b in zip(amounts, before, strict=True))
    return dataclasses.replace(pair, with_unit=Partials(pair.with_unit.plan, cells))


@pytest.mark.parametrize("name", [name for name in MEASUREMENTS if "distinct" not in name])
def test_a_sensitivity_twice_the_claimed_is_caught_twice(name):
    plan, pair = planned(name), further(worst(name), 2)
    assert audit.cost_of(plan, pair.without, pair.with_unit) > plan.loss.rho
    if name in {"count", "units by group", "sum", "mean by group", "variance", "two steps", "private keys"}:
        # The others take the same draws as half the noise does.
        attack = audit.attack(plan, pair, CANARY_TRIALS)
        assert attack.sure > float(plan.loss.rho)
        assert audit.audit(plan, pair, attack) > float(plan.loss.rho)


UNBOUNDED = {"units", "two steps by a value"}


# The bound of the SQL, four times what the noise was planned for.  That each unit counts once among all, or is one row
# of a first step, is no bound of the description, so these have a canary of their own.
@pytest.mark.parametrize("name", [name for name in MEASUREMENTS if name not in UNBOUNDED])
def test_a_dropped_bound_is_caught_by_the_search(name):
    plan, pair = planned(name), worst(name)
    wide = planned(name, times=4)
    loose = dataclasses.replace(plan, sql=wide.sql, layout=wide.layout)
    assert (loose.sql, loose.layout) != (plan.sql, plan.layout)
    start = [dict(kept) for kept in pair.rows] * 4
    spread = [{**dict(pair.rows[0]), column: value} for column in plan.columns for value in EXTREMES[column]]
    found = audit.worst_neighbours(loose, OTHERS, EXTREMES, row, most_rows=len(start), starts=[start, spread], rounds=4)
    assert found.cost > plan.loss.rho


@pytest.mark.parametrize(
    ("name", "once", "twice"),
    [("units", "_rank = 1", "_rank <= 2"), ("two steps by a value", "GROUP BY _unit", "GROUP BY _unit, _rank")],
)
def test_a_unit_that_counts_more_than_once_is_caught_by_the_search(name, once, twice):
    plan = planned(name)
    sql = plan.sql.replace(once, twice)
    assert sql != plan.sql
    loose = dataclasses.replace(plan, sql=sql)
    assert audit.worst_neighbours(loose, OTHERS, EXTREMES, row, most_rows=4).cost > plan.loss.rho


@pytest.mark.parametrize(
    ("name", "upper"),
    [("sum", "100000"), ("mean by group", "120"), ("two steps", "200000")],
)
def test_a_clamp_that_is_dropped_is_caught_by_the_search(name, upper):
    plan = planned(name)
    loose = audit.unclamped(plan, upper)
    assert audit.worst_neighbours(loose, OTHERS, EXTREMES, row, most_rows=9).cost > plan.loss.rho


@pytest.mark.soak
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_with_more_draws_the_attacker_comes_near_to_the_claim(name):
    plan, pair = planned(name), worst(name)
    attack = audit.attack(plan, pair, SOAK_TRIALS)
    assert attack.sure > 0.7 * float(pair.cost)
    assert attack.sure <= audit.audit(plan, pair, attack) <= float(plan.loss.rho)


def test_a_mechanism_of_its_own_would_not_pass_the_maps_of_opendp():
    """The noise itself checks the claim before a draw, so most canaries never run: they have to cheat twice."""
    plan = planned("count")
    statistic = plan.statistics[0]
    with pytest.raises(PrivacyError, match="too little"):
        OpenDpNoise().gaussian(
            [0],
            sigma=statistic.sigma / 2,
            sensitivity_squared=statistic.statistic.sensitivity_squared,
            rho=plan.loss.rho,
        )
