"""Every function of the language gives a value or NULL, whatever stands in a row."""

import datetime as dt

import pytest

from connectors.values import ColumnReader
from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import QueryError
from sandbox.model.description import ColumnKind, sealed_text
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


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("age > 120", 1),  # only a table that no reader sealed holds this row
        ("age < 0", 2),
        ("age + 0 > 120", 0),  # arithmetic sees the bound
        ("NOT age <= 120", 1),
        ("age = 120", 0),
        ("age + 0 = 120", 1),
        ("day > DATE '2025-01-01'", 0),
    ],
)
def test_a_bare_column_is_compared_as_it_is_stored_and_computed_with_as_it_is_clamped(where, expected):
    plan = world.plan(f"SELECT COUNT(*) AS n FROM visits WHERE {where}", world.describe(rows=10, groups=10))
    assert run_plan(plan, [TABLE], engine=ENGINE).cells.get((), (0,)) == (2 * expected,)


@pytest.mark.parametrize(("text", "bound"), [("121", 120), ("-1", 0), ("9" * 30, 120), ("-9e99", 0), ("60", 60)])
def test_a_sealed_number_is_within_its_bounds_so_both_readings_say_the_same(text, bound):
    assert ColumnReader(next(column for column in world.COLUMNS if column.name == "age"))[text] == bound


@pytest.mark.parametrize("text", ["①", "１", "1", "é", "e\u0301", "a b", "%", ""])
def test_a_text_is_compared_letter_by_letter_in_the_form_in_which_it_is_sealed(text):
    sealed = ColumnReader(world.column("x", ColumnKind.TEXT))[f" {text} \t"]
    assert sealed == (sealed_text(text) or None)
    plan = world.plan(f"SELECT COUNT(*) AS n FROM visits WHERE diag = '{text}'")
    others = [{"diag": other} for other in ("①", "１", "1", "é", "e\u0301", "a b", "%", None)]
    table = world.table([{"_unit": unit, "_rank": 1, **row} for unit, row in enumerate(others)])
    assert run_plan(plan, [table], engine=ENGINE).cells.get((), (0,)) == (int(bool(text)),)


@pytest.mark.parametrize("where", ["diag = ' a'", "diag IN ('a', 'b ')", "'a\t' = diag", "diag <> '\u3000a'"])
def test_a_text_that_no_sealed_value_can_be_is_refused_with_the_form_that_it_may_have(where):
    with pytest.raises(QueryError, match="sealed without spaces around") as caught:
        world.check(f"SELECT COUNT(*) AS n FROM visits WHERE {where}")
    assert caught.value.code == "input.query.unknown_value"
    assert caught.value.hint in {"write 'a'", "write 'b'"}
