"""Every function of the language gives a value or NULL, whatever stands in a row."""

import datetime as dt

import pytest

from sandbox.compute.run import open_engine, run_plan
from tests.support import privacy_world as world

ENGINE = open_engine(1)
BIG = 2**63 - 1
EXTREMES = [
    {"age": age, "cost": cost, "delta": age, "free": age, "diag": text, "district": text, "seen": day, "urgent": truth}
    for age, cost, text, day, truth in [
        (0, None, None, None, None),
        (BIG, BIG, "", dt.date(1, 1, 1), True),
        (-BIG - 1, -BIG - 1, "\n", dt.date(9999, 12, 31), False),
        (1, 0, "陶瓷" * 50, dt.date(2024, 2, 29), None),
        (-1, 1, "%_'", dt.date(1969, 12, 31), True),
    ]
]
TABLE = world.table(world.visits({1: EXTREMES, 2: EXTREMES[::-1]}))
NUMBERS = [
    "ABS(free)",
    "LEAST(free, cost, 3)",
    "GREATEST(free, cost)",
    "COALESCE(cost, free, 0)",
    "FLOOR(cost / 7)",
    "CEIL(delta * 0.3)",
    "YEAR(seen)",
    "QUARTER(seen)",
    "MONTH(seen)",
    "DAY(seen)",
    "ISODOW(seen)",
    "EXTRACT(YEAR FROM seen)",
    "CASE WHEN diag LIKE '%' THEN free END",
    "IF(urgent, free, cost)",
    "- free",
    "free + cost",
    "free - delta",
    "free * 3",
    "age * delta",
    "cost / 3",
]
KEYS = [
    "date_trunc('week', seen)",
    "date_trunc('month', seen)",
    "date_trunc('quarter', seen)",
    "date_trunc('year', seen)",
    "diag",
    "free",
]
AGGREGATES = ["SUM", "AVG", "VARIANCE", "STDDEV_POP", "MEDIAN", "COUNT"]
STEPS = ["COUNT", "SUM", "AVG", "MIN", "MAX"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_no_row_makes_a_function_or_an_aggregate_of_it_fail(number, aggregate):
    plan = world.plan(
        f"SELECT {aggregate}(LEAST(GREATEST({number}, -5), 9)) AS v FROM visits WHERE {number} < 3 OR {number} IS NULL"
    )
    assert run_plan(plan, [TABLE], engine=ENGINE).cells


@pytest.mark.parametrize("key", KEYS)
def test_no_row_makes_a_key_fail(key):
    plan = world.plan(f"SELECT {key} AS k, COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits GROUP BY 1")
    assert run_plan(plan, [TABLE], engine=ENGINE).cells


@pytest.mark.parametrize("step", STEPS)
def test_no_row_makes_a_first_step_fail(step):
    value = "LEAST(GREATEST(free * 2, -5), 9)"
    plan = world.plan(
        f"WITH p AS (SELECT patient, {step}({value}) AS v FROM visits GROUP BY patient) SELECT SUM(v) AS s, COUNT(v) AS n FROM p"
    )
    assert run_plan(plan, [TABLE], engine=ENGINE).cells


def test_joint_moments_and_rescaling_hold_on_extremes():
    for sql in (
        "SELECT CORR(cost, LEAST(GREATEST(free, 0), 9)) AS r, COVAR_SAMP(age, cost) AS c FROM visits",
        "SELECT district, SUM(cost) AS s, COUNT(*) AS n FROM visits GROUP BY 1 SETTINGS bounding = 'rescale'",
    ):
        assert run_plan(world.plan(sql), [TABLE], engine=ENGINE).cells
