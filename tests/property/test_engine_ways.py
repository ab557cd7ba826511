"""The engine's short ways (order, numbers for texts, marks) give the integers that their meaning says, row by row."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.privacy.vectors import gather
from tests.support import privacy_world as world
from tests.support.privacy_strategies import tables

ENGINE = open_engine(2)
QUIET = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
KEYS = ((), ("district",), ("diag",), ("diag", "district"), ("district", "diag"))
FILTERS = ("", " WHERE age < 60", " WHERE urgent", " WHERE diag <> 'D1'", " WHERE cost IS NOT NULL AND age >= 10")


def kept_rows(checked, rows):
    """A unit's first rows by rank among those that the filter lets pass, one at a time."""
    units = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["_rank"]):
        if checked.filter is None or world.evaluate(checked.filter, row) is True:
            units[row["_unit"]].append(row)
    return {unit: own[: checked.bound.rows] for unit, own in units.items()}


def plainly(checked, plan, rows):
    """Count rows and units, and sum, by group: what the statement means."""
    found = defaultdict(lambda: [0] * len(plan.statistics))
    if not plan.keys:
        found[()] = [0] * len(plan.statistics)
    for own in kept_rows(checked, rows).values():
        seen = set()
        for row in own:
            key = tuple(world.evaluate(key.expr, row) for key in checked.keys)
            for place, planned in enumerate(plan.statistics):
                statistic = planned.statistic
                value = 1 if statistic.argument is None else world.evaluate(statistic.argument, row)
                if statistic.kind == "units":
                    found[key][place] += key not in seen
                elif statistic.kind == "rows":
                    found[key][place] += value is not None
                elif value is not None:
                    found[key][place] += value - statistic.centre
            seen.add(key)
    return {key: tuple(amounts) for key, amounts in found.items()}


def encoded(table):
    for name in ("district", "diag"):
        place = table.schema.get_field_index(name)
        chunks = [table.column(name).slice(start, 3).combine_chunks() for start in range(0, len(table), 3)]
        coded = pa.chunked_array([c.dictionary_encode() for c in chunks], pa.dictionary(pa.int32(), pa.string()))
        table = table.set_column(place, name, coded)
    return table


@QUIET
@given(
    st.sampled_from(KEYS),
    st.sampled_from(FILTERS),
    st.sampled_from(
        [
            "COUNT(*)",
            "COUNT(*) AS n, COUNT(DISTINCT patient) AS u",
            "COUNT(*) AS n, SUM(age) AS s, COUNT(cost) AS c",
            "COUNT(*) FILTER (WHERE 1 = 2)",
            "SUM(2) AS s",
            "COUNT(CASE WHEN 1 = 1 THEN 1 END) AS n, COUNT(DISTINCT patient) AS u",
        ]
    ),
    tables(max_units=8, max_rows=9),
    st.integers(1, 5),
)
def test_the_statement_counts_what_one_counts_row_by_row(keys, where, aggregates, rows, bound):
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    sql = f"SELECT {', '.join([*keys, aggregates])} FROM visits{where}{by}"
    description = world.describe(rows=bound, groups=bound)
    checked, plan = world.check(sql, description), world.plan(sql, description)
    expected = plainly(checked, plan, rows)
    sealed = sorted(rows, key=lambda row: (hash(row["_unit"]), row["_rank"]))
    for table in (world.table(rows), world.table(sealed), encoded(world.table(rows)), encoded(world.table(sealed))):
        assert dict(run_plan(plan, [table], engine=ENGINE).cells) == expected
    units = sorted({row["_unit"] for row in rows})
    parts = [encoded(world.table([row for row in sealed if row["_unit"] == unit])) for unit in units]
    assert dict(run_plan(plan, parts, engine=ENGINE).cells) == expected


@QUIET
@given(
    st.sampled_from(KEYS),
    st.sampled_from(FILTERS),
    st.sampled_from(["age", "cost", "age + 1", "3", "CASE WHEN 1 = 2 THEN 3 END"]),
    st.booleans().flatmap(lambda described: tables(max_units=6, described=described)),
    st.integers(1, 4),
)
def test_a_histogram_holds_the_rows_that_one_counts_by_value(keys, where, argument, rows, bound):
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    sql = f"SELECT {', '.join([*keys, f'MEDIAN({argument})'])} FROM visits{where}{by}"
    description = world.describe(rows=bound, groups=bound)
    checked, plan = world.check(sql, description), world.plan(sql, description)
    expected = defaultdict(lambda: [0] * len(plan.histograms[0].domain))
    for own in kept_rows(checked, rows).values():
        for row in own:
            key = tuple(world.evaluate(key.expr, row) for key in checked.keys)
            value = world.evaluate(plan.histograms[0].argument, row)
            if value is not None:
                expected[key][plan.histograms[0].domain.index(str(value))] += 1
    for table in (world.table(rows), encoded(world.table(rows))):
        vectors = gather(plan, run_plan(plan, [table], engine=ENGINE))
        bins = {key: list(vector[plan.scalars :]) for key, vector in vectors.items()}
        found = {key: counts for key, counts in bins.items() if any(counts)}
        assert found == dict(expected)


def test_a_public_table_of_one_row_makes_a_literal_of_its_column():
    """A past fault: values that read no column were counted as rows, or the plan failed on its own layout."""
    sql = (
        "WITH d(district, weight) AS (VALUES ('east', 5)) "
        "SELECT district, {} AS v FROM visits JOIN d USING (district) GROUP BY district"
    )
    rows = world.visits({1: [{}, {}], 2: [{"district": "west"}], 3: [{}]})
    # Of a literal 5 the step is 5, so three rows sum to 3.
    expected = {"SUM(weight)": (3,), "COUNT(*) FILTER (WHERE weight > 5)": (0,), "SUM(weight - 5)": (0,)}
    for value, amounts in expected.items():
        plan = world.plan(sql.format(value))
        assert dict(run_plan(plan, [world.table(rows)], engine=ENGINE).cells) == {("east",): amounts}
    plan = world.plan(sql.format("MEDIAN(weight)"))
    (found,) = gather(plan, run_plan(plan, [world.table(rows)], engine=ENGINE)).items()
    assert found == (("east",), (3,))


@pytest.mark.parametrize("rows", [3, 2000])
def test_a_bound_after_a_filter_holds_for_units_that_stand_apart(rows):
    """A table in no order, more rows than one statement looks back over, and one unit far beyond the bound."""
    plan = world.plan("SELECT COUNT(*) FROM visits WHERE age > 0", world.describe(rows=rows, groups=1))
    units = {1: [{}] * 5000, 2: [{}] * 3, 3: [{}]}
    ranked = world.visits(units)
    apart = [ranked[place] for place in sorted(range(len(ranked)), key=lambda place: (place * 7919) % len(ranked))]
    expected = sum(min(rows, len(own)) for own in units.values())
    for table in (world.table(ranked), world.table(apart)):
        assert run_plan(plan, [table], engine=ENGINE).cells == {(): (expected,)}


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("condition", ["age < 60", f"age IN ({', '.join(map(str, range(0, 120, 2)))})"])
def test_a_bound_after_a_filter_rests_on_no_order_of_the_engines(threads, condition):
    """Hundreds of thousands of rows in many chunks; a long IN becomes a join, which promises no order."""
    draw = np.random.default_rng(5)
    counts = draw.integers(1, 40, 15_000)
    total = int(counts.sum())
    age = draw.integers(0, 121, total)
    whole = pa.table(
        {
            "_unit": np.repeat(draw.permutation(15_000), counts),
            "_rank": np.concatenate([np.arange(1, count + 1) for count in counts]).astype(np.int32),
            "age": age,
        }
    )
    plan = world.plan(f"SELECT COUNT(*) AS n, SUM(age) AS s FROM visits WHERE {condition}", world.describe(3, 1))
    engine = open_engine(threads)
    chunks = pa.concat_tables([whole.slice(start, 10_007) for start in range(0, total, 10_007)])
    found = run_plan(plan, [chunks], engine=engine).cells[()]
    engine.register("whole", whole)
    counted, summed = engine.execute(
        f"SELECT count(*), sum(age) FROM (SELECT age FROM whole WHERE {condition} "
        "QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _rank) <= 3)"
    ).fetchone()
    engine.close()
    centre = next(p.statistic.centre for p in plan.statistics if p.statistic.kind == "sum")
    assert sorted(found) == sorted((counted, summed - centre * counted))
