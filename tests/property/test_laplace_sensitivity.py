"""What Laplace noise rests on, tried: whatever leaves a table, no statistic moves further in L1 than claimed."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.model.unit import OtherUnit
from sandbox.privacy.margins import with_totals
from sandbox.privacy.vectors import entries, gather
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.privacy_strategies import CONDITIONS, pure, tables

ENGINE = open_engine(1)
QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
SETTING = " SETTINGS noise = 'laplace'"
KEYS = st.sampled_from(["", "district", "urgent", "FLOOR(age / 30)", "district, urgent"])
SHOWN = st.lists(
    st.sampled_from(
        [
            "COUNT(*)",
            "COUNT(cost)",
            "COUNT(DISTINCT patient)",
            "SUM(delta)",
            "AVG(age)",
            "VARIANCE(age)",
            "CORR(age, delta)",
            "COUNT(DISTINCT district)",
            "SUM(cost) / COUNT(*)",
        ]
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
WHERE = st.one_of(st.just(""), CONDITIONS.map(lambda c: f" WHERE {c}"))
PEOPLE = st.lists(st.integers(0, 6), min_size=35, max_size=35)


def asked(key, shown, where):
    values = ", ".join(f"{one} AS v{place}" for place, one in enumerate(shown))
    return f"SELECT {values} FROM visits{where}{' GROUP BY ' + key if key else ''}{SETTING}"


def measured(plan, part):
    found = gather(plan, run_plan(plan, [part], engine=ENGINE))
    if plan.rolled:
        found = with_totals(found, plan.levels)
    return {key: entries(plan, vector) for key, vector in found.items()}


def check(plan, whole, rest):
    """Additive integers have one entry a statistic."""
    zeros = (0,) * len(plan.statistics)
    for place, planned in enumerate(plan.statistics):
        moved = sum(abs(whole.get(k, zeros)[place] - rest.get(k, zeros)[place]) for k in set(whole) | set(rest))
        assert moved <= planned.laplace.distance, (plan.sql, moved, planned.laplace)


def try_units(sql, rows, described):
    plan = world.plan(sql, described)
    whole = measured(plan, world.table(rows))
    for unit in {row["_unit"] for row in rows}:
        check(plan, whole, measured(plan, world.table([row for row in rows if row["_unit"] != unit])))


@QUIET
@given(KEYS, SHOWN, WHERE, tables(), st.integers(1, 4), st.data())
def test_no_unit_moves_a_statistic_further_in_l1_than_claimed(key, shown, where, rows, most, data):
    described = world.describe(rows=most, groups=data.draw(st.integers(1, most)))
    try:
        world.plan(asked(key, shown, where), described)
    except BoundError:
        return
    try_units(asked(key, shown, where), rows, described)


@QUIET
@given(pure(), tables(), st.integers(1, 4))
def test_questions_of_every_form_are_refused_or_hold(sql, rows, most):
    try:
        world.plan(sql, world.describe(rows=most, groups=most))
    except (QueryError, BoundError):
        return
    try_units(sql, rows, world.describe(rows=most, groups=most))


@QUIET
@given(st.lists(st.sampled_from(["COUNT(*)", "SUM(delta)", "AVG(age)"]), min_size=1, unique=True), tables())
def test_totals_hold_over_all_levels(shown, rows):
    values = ", ".join(f"{one} AS v{place}" for place, one in enumerate(shown))
    where = "district IS NOT NULL AND urgent IS NOT NULL"
    sql = f"SELECT {values} FROM visits WHERE {where} GROUP BY CUBE (district, urgent){SETTING}"
    try_units(sql, rows, world.describe(rows=3, groups=2))


def without(rows, gone):
    """Return the rows that stay, ranked anew in the order that they had."""
    ranks, kept = Counter(), []
    for row in sorted(rows, key=lambda row: (row["_unit"], row["_rank"])):
        if not gone(row):
            ranks[row["_unit"]] += 1
            kept.append({**row, "_rank": ranks[row["_unit"]]})
    return kept


@QUIET
@given(KEYS, SHOWN, tables(), PEOPLE, st.integers(1, 3), st.data())
def test_no_unit_of_two_kinds_moves_a_statistic_further_in_l1_than_claimed(key, shown, rows, people, most, data):
    held = [{**row, "person": person} for row, person in zip(rows, people, strict=False)]
    limit = max(Counter(row["person"] for row in held).values())
    person = OtherUnit("person", "person_id", "自然人", limit)
    described = world.describe(rows=most, groups=data.draw(st.integers(1, most)))
    plan = world.plan(asked(key, shown, ""), replace(described, also_protects=(person,)))
    whole = measured(plan, world.table(held))
    for kind in ("_unit", "person"):
        for unit in {row[kind] for row in held}:
            rest = without(held, lambda row, k=kind, u=unit: row[k] == u)
            check(plan, whole, measured(plan, world.table(rest)))


@QUIET
@given(joins.join_questions(), tables(max_rows=6), joins.claim_tables(), st.integers(1, 4))
def test_no_unit_of_a_join_moves_a_statistic_further_in_l1_than_claimed(sql, visits, claims, most):
    described = joins.bounded(rows=most, groups=most, other_rows=most, other_groups=most)
    try:
        plan = joins.plan(sql + SETTING, described)
    except (QueryError, BoundError):
        return

    whole = measured(plan, joins.pair(plan, visits, claims))
    for unit, leaves in itertools.product({row["_unit"] for row in [*visits, *claims]}, ("both", "visits", "claims")):
        left = [
            [row for row in rows if row["_unit"] != unit or leaves not in {"both", name}]
            for name, rows in (("visits", visits), ("claims", claims))
        ]
        check(plan, whole, measured(plan, joins.pair(plan, *left)))


@pytest.mark.parametrize(("shown", "distance"), [("COUNT(DISTINCT patient)", 3), ("COUNT(*)", 3), ("SUM(age)", 360)])
def test_the_claims_are_attained(shown, distance):
    """A unit with a row in each of three groups: no smaller distance would do, and half of it is found wanting."""
    sql = f"SELECT district, {shown} AS n FROM visits GROUP BY district{SETTING}"
    plan = world.plan(sql, world.describe(rows=3, groups=3))
    rows = world.visits({1: [{"district": name, "age": 120} for name in world.DISTRICTS]})
    whole = measured(plan, world.table(rows))
    assert plan.statistics[0].laplace.distance == distance == sum(amounts[0] for amounts in whole.values())
    noise = plan.statistics[0].laplace
    halved = replace(plan, statistics=(replace(plan.statistics[0], laplace=replace(noise, distance=distance // 2)),))
    with pytest.raises(AssertionError):
        check(halved, whole, {})
