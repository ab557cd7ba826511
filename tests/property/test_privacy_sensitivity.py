"""The claim that everything rests on, tried on random questions and tables with every extreme."""

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.privacy.keys import Key
from sandbox.privacy.query import KeyMode
from sandbox.privacy.vectors import entries, gather
from tests.support import privacy_world as world
from tests.support.privacy_strategies import NUMBERS, any_questions, questions, tables

ENGINES = {threads: open_engine(threads) for threads in (1, 2, 8)}
QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def measured(plan, partials):
    return {key: entries(plan, vector) for key, vector in gather(plan, partials).items()}


def squared_distance(plan, one: dict[Key, tuple[int, ...]], other: dict[Key, tuple[int, ...]]) -> list[int]:
    zeros = (0,) * len(plan.entry_sigmas())
    keys, found, start = set(one) | set(other), [], 0
    for statistic in plan.statistics:
        places = range(start, start + statistic.statistic.width)
        start += statistic.statistic.width
        found.append(sum((one.get(k, zeros)[i] - other.get(k, zeros)[i]) ** 2 for k in keys for i in places))
    return found


@QUIET
@given(any_questions(), tables(), st.integers(1, 4), st.data())
def test_no_unit_moves_a_statistic_further_than_its_claimed_sensitivity(sql, rows, bound_rows, data):
    groups = data.draw(st.integers(1, bound_rows))
    try:
        plan = world.plan(sql, world.describe(rows=bound_rows, groups=groups))
    except (QueryError, BoundError):
        return
    whole = measured(plan, run_plan(plan, [world.table(rows)], engine=ENGINES[1]))
    for unit in {row["_unit"] for row in rows}:
        without = [row for row in rows if row["_unit"] != unit]
        rest = measured(plan, run_plan(plan, [world.table(without)], engine=ENGINES[1]))
        moved = squared_distance(plan, whole, rest)
        claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
        assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (plan.sql, moved, claimed)
        if plan.key_mode is KeyMode.PRIVATE:
            touched = [k for k in set(whole) | set(rest) if whole.get(k, (0,))[0] != rest.get(k, (0,))[0]]
            assert len(touched) <= plan.threshold.groups
            assert all(abs(whole[k][0] - rest.get(k, (0,))[0]) <= 1 for k in touched)


@QUIET
@given(any_questions(), tables(max_units=6), st.data())
def test_partitions_and_threads_change_no_integer(sql, rows, data):
    try:
        plan = world.plan(sql)
    except (QueryError, BoundError):
        return
    whole = run_plan(plan, [world.table(rows)], engine=ENGINES[1]).digest()
    units = sorted({row["_unit"] for row in rows})
    place = {unit: data.draw(st.integers(0, 2)) for unit in units}
    parts = defaultdict(list)
    for row in rows:
        parts[place[row["_unit"]]].append(row)
    assert run_plan(plan, [world.table(parts[i]) for i in range(3)], engine=ENGINES[2]).digest() == whole
    assert run_plan(plan, [world.table(rows[::-1])], engine=ENGINES[8]).digest() == whole


@QUIET
@given(st.one_of(NUMBERS.map(lambda n: f"SUM(LEAST(GREATEST({n}, -1000), 1000))")), tables(2, 4, described=True))
def test_duckdb_computes_what_the_algebra_means(aggregate, rows):
    try:
        plan = world.plan(f"SELECT {aggregate} FROM visits", world.describe(rows=9, groups=9))
    except (QueryError, BoundError):
        return
    found = run_plan(plan, [world.table(rows)], engine=ENGINES[1]).cells[()][0]
    statistic = plan.statistics[0].statistic
    values = [world.evaluate(statistic.argument, row) for row in rows]
    kept = [value for value in values if value is not None]
    assert found == sum(value - statistic.centre for value in kept)
    of = statistic.argument.type
    assert all(of.lower <= value <= of.upper for value in kept)
    if not statistic.argument.nullable:
        assert len(kept) == len(values)


@QUIET
@given(questions(), tables(max_units=3, max_rows=4, described=True))
def test_filters_and_keys_mean_what_the_algebra_says(sql, rows):
    try:
        checked = world.check(sql, world.describe(rows=50, groups=50))
        plan = world.plan(sql, world.describe(rows=50, groups=50))
    except (QueryError, BoundError):
        return
    counted = [i for i, s in enumerate(plan.statistics) if s.statistic.kind == "rows" and s.statistic.argument is None]
    if not counted:
        return
    kept = [row for row in rows if checked.filter is None or world.evaluate(checked.filter, row) is True]
    found = measured(plan, run_plan(plan, [world.table(rows)], engine=ENGINES[1]))
    assert sum(amounts[counted[0]] for amounts in found.values()) == len(kept)
    groups = {tuple(world.evaluate(key.expr, row) for key in checked.keys) for row in kept}
    assert len([1 for amounts in found.values() if amounts[counted[0]]]) == len(groups)
    for key in found:
        for text, planned in zip(key, plan.keys, strict=True):
            assert planned.domain is None or text in planned.domain


@pytest.mark.parametrize("broken", ["rows", "clamp"])
def test_the_sensitivity_test_itself_finds_a_broken_bound(broken):
    """A canary: with the cap or the clamp taken out of the SQL, one unit moves a total further than claimed."""
    import dataclasses

    plan = world.plan("SELECT SUM(age) FROM visits", world.describe(rows=2, groups=1))
    sql = (
        plan.sql.replace(" WHERE _rank <= 2", "")
        if broken == "rows"
        else plan.sql.replace("CAST(120 AS BIGINT)", "CAST(999 AS BIGINT)")
    )
    assert sql != plan.sql
    worse = dataclasses.replace(plan, sql=sql)
    rows = world.visits({1: [{"age": 999}] * 3})
    moved = run_plan(worse, [world.table(rows)]).cells[()][0] ** 2
    claimed = plan.statistics[0].statistic.sensitivity_squared
    assert moved > claimed
    assert run_plan(plan, [world.table(rows)]).cells[()][0] ** 2 <= claimed
