"""Attack: make each row that passes a filter so large that the engine runs out of memory at a number of them.

Such a failure is an exact comparison of a count, with no noise; so what a row may take is bounded before data is asked.
"""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sandbox.compute.joint import Joint
from sandbox.compute.run import run_plan
from sandbox.errors import QueryError
from tests.support import join_world as joins
from tests.support import privacy_world as world

LONG = "x" * 201
MANY = 11


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (f"SELECT CASE WHEN urgent THEN diag ELSE '{LONG}' END AS k, COUNT(*) AS n FROM visits GROUP BY k", "literal"),
        (f"SELECT COALESCE(diag, '{LONG}') AS k, COUNT(*) AS n FROM visits WHERE age > 3 GROUP BY k", "literal"),
        (f"SELECT COUNT(COALESCE(diag, '{LONG}')) AS n FROM visits", "literal"),
        (
            (
                f"SELECT k, COUNT(*) AS n FROM (SELECT patient, MIN(COALESCE(diag, '{LONG}')) AS k FROM visits "
                "GROUP BY patient) AS p GROUP BY k"
            ),
            "literal",
        ),
        (
            (
                f"WITH d(district, k) AS (VALUES ('east', '{LONG}'), ('west', '')) "
                "SELECT k, COUNT(*) AS n FROM visits JOIN d USING (district) GROUP BY k"
            ),
            "literal",
        ),
        (f"SELECT COUNT(*) AS n FROM visits GROUP BY {', '.join(f'age + {i}' for i in range(MANY))}", "group_key"),
        (
            (
                f"SELECT COUNT(*) AS n FROM (SELECT patient, {', '.join(f'age + {i} AS k{i}' for i in range(MANY))}, "
                f"COUNT(*) AS c FROM visits GROUP BY patient, {', '.join(f'age + {i}' for i in range(MANY))}) AS p"
            ),
            "group_key",
        ),
        (
            "SELECT COUNT(*) AS n FROM visits HAVING " + " AND ".join(f"SUM(age + {i}) > 0" for i in range(401)),
            "too_deep",
        ),
        (f"SELECT {' + '.join(f'SUM(age * {i + 1})' for i in range(401))} AS s FROM visits", "too_deep"),
    ],
)
def test_a_row_that_would_take_much_memory_is_refused_before_data_is_asked(sql, code):
    with pytest.raises(QueryError) as raised:
        world.plan(sql)
    assert raised.value.code == f"input.query.{code}"


def test_what_people_ask_stays_within_these_limits():
    keys = ", ".join(f"FLOOR(age / {i + 2})" for i in range(MANY - 1))
    assert world.plan(f"SELECT COUNT(*) AS n FROM visits GROUP BY {keys}").keys
    assert world.plan(f"SELECT COALESCE(diag, '{LONG[1:]}') AS k, COUNT(*) AS n FROM visits GROUP BY k").keys
    sums = ", ".join(f"CORR(age, cost * {i + 1}) AS c{i}" for i in range(60))
    assert len(world.plan(f"SELECT {sums} FROM visits").estimates) == 60


@pytest.mark.parametrize("where", ["", " WHERE v.age > c.age * 3"])
@pytest.mark.parametrize("join", ["JOIN", "LEFT JOIN"])
def test_pairs_of_a_join_that_the_bound_drops_take_no_room(join, where):
    """A unit of many rows on both sides brings their product: how many such units there are would decide what fits."""
    units, each = 500, 100
    described = joins.bounded(rows=each, groups=1, other_rows=each, other_groups=1)
    plan = joins.plan(f"SELECT SUM(paid) AS s FROM visits v {join} claims c ON v.patient = c.insured{where}", described)
    rows = {"_unit": np.repeat(np.arange(units), each), "_rank": np.tile(np.arange(1, each + 1, dtype=np.int32), units)}
    visits, claims = ({**rows, "age": np.full(units * each, age)} for age in (30, 3))
    part = Joint((pa.table(visits), pa.table({**claims, "paid": np.full(units * each, 3)})))
    engine = duckdb.connect(config={"memory_limit": "64MB", "temp_directory": "", "threads": "1"})
    cells = run_plan(plan, [part], engine=engine).cells
    assert cells == {(): (units * each * 3,)}


def _pairs(units, each):
    """A partition of a join whose units have so many rows on both sides, each of another text and another number."""
    numbers = np.tile(np.arange(each, dtype=np.int64), units)
    texts = pa.array([f"d{number}" for number in numbers])
    rows = {"_unit": np.repeat(np.arange(units), each), "_rank": (numbers + 1).astype(np.int32)}
    visits = {**rows, "age": numbers % 100, "diag": texts}
    return Joint((pa.table(visits), pa.table({**rows, "age": numbers % 10, "paid": numbers % 50, "note": texts})))


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("v.age, paid", "COUNT(DISTINCT patient) AS u"),
        ("v.age, paid", "COUNT(DISTINCT patient) AS u, COUNT(*) AS n, SUM(paid) AS s"),
        ("diag, note", "COUNT(DISTINCT patient) AS u"),
        ("diag, note", "SUM(paid) AS s"),
        ("v.age, paid", "COUNT(DISTINCT patient) AS u TOP"),
    ],
)
@pytest.mark.parametrize("where", ["", " WHERE v.age + paid >= 0"])
def test_groups_of_a_join_that_are_capped_take_no_room_for_all_pairs(keys, shown, where):
    """Units by group over a join: a unit's pairs are capped before its groups are led, so their square takes no room."""
    units, each = 300, 100
    described = joins.bounded(rows=each, groups=5, other_rows=each, other_groups=5)
    sql = f"SELECT {keys}, {shown} FROM visits v JOIN claims c ON v.patient = c.insured{where} GROUP BY {keys}"
    if "TOP" in shown:
        sql = sql.replace(" TOP", "") + " ORDER BY u DESC LIMIT 3 SETTINGS top = 'noisy_max'"
    engine = duckdb.connect(config={"memory_limit": "48MB", "temp_directory": "", "threads": "1"})
    cells = run_plan(joins.plan(sql, described), [_pairs(units, each)], engine=engine).cells
    assert {amounts[0] for amounts in cells.values()} == {units}


THREE = "visits v {0} claims c ON v.patient = c.insured {0} drugs d ON d.holder = v.patient"
FOUR = f"{THREE} {{0}} visits w ON w.patient = c.insured"


def _cubes(sides, units, each):
    """A partition of a join of three or four sides whose units have so many rows on each."""
    part = _pairs(units, each)
    rows = part.tables[1].select(["_unit", "_rank", "age"])
    prices = part.tables[1].column("paid")
    forms = pa.array([("pill", "salve")[number % 2] for number in range(units * each)])
    drugs = rows.append_column("price", prices).append_column("form", forms)
    return Joint((*part.tables, drugs, part.tables[0])[:sides])


@pytest.mark.parametrize("join", ["JOIN", "LEFT JOIN"])
@pytest.mark.parametrize(
    "asked",
    [
        "SELECT SUM(price) AS s FROM {}",
        "SELECT SUM(price) AS s FROM {} WHERE v.age + c.age + d.age >= 0",
        "SELECT v.age, paid, form, COUNT(DISTINCT v.patient) AS u FROM {} GROUP BY v.age, paid, form",
        "SELECT c.note, COUNT(DISTINCT v.patient) AS u, COUNT(*) AS n FROM {} WHERE v.age + d.age >= 0 GROUP BY c.note",
    ],
)
@pytest.mark.parametrize("source", [THREE, FOUR])
def test_rows_of_three_and_four_tables_that_the_bound_drops_take_no_room(source, asked, join):
    """A unit with 100 rows on each side would bring a million of three and a hundred million of four."""
    units, each = 100, 100
    described = joins.bounded(rows=each, groups=5, other_rows=each, other_groups=5)
    plan = joins.plan(asked.format(source.format(join)), described)
    engine = duckdb.connect(config={"memory_limit": "64MB", "temp_directory": "", "threads": "1"})
    cells = run_plan(plan, [_cubes(len(plan.datasets), units, each)], engine=engine).cells
    if plan.keys:
        assert {amounts[0] for amounts in cells.values()} == {units}
        return
    # The rows that count are a unit's first visit beside its first claim and each of the drugs, or as many visits.
    assert set(cells) == {()}
    assert 0 <= cells[()][0] <= units * each * 20


def test_four_tables_whose_units_differ_wildly_stay_within_the_bound_of_each():
    """One unit has everything, others one row or none on a side; what any of them counts for is the bound."""
    described = joins.bounded(rows=7, groups=7, other_rows=7, other_groups=7)
    plan = joins.plan(f"SELECT COUNT(*) AS n FROM {FOUR.format('JOIN')}", described)
    hoard = [{}] * 900
    visits, claims, drugs = ({1: hoard, 2: [{}], **more} for more in ({3: [{}]}, {}, {3: [{}]}))
    part = joins.pair(plan, *(world.visits(rows) for rows in (visits, claims, drugs)))
    engine = duckdb.connect(config={"memory_limit": "64MB", "temp_directory": "", "threads": "1"})
    assert run_plan(plan, [part], engine=engine).cells == {(): (7 + 1,)}
