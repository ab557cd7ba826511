"""What a join may be charged for, tried: a unit leaves a table or both; no statistic moves further than claimed."""

import dataclasses
import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.privacy.query import KeyMode
from sandbox.privacy.vectors import entries, gather
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.privacy_strategies import tables

ENGINE = open_engine(1)
QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
LIMITS = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)).map(
    lambda t: {"rows": max(t[:2]), "groups": min(t[:2]), "other_rows": max(t[2:]), "other_groups": min(t[2:])}
)


def measured(plan, visits, claims):
    part = joins.pair(plan, visits, claims)
    return {key: entries(plan, vector) for key, vector in gather(plan, run_plan(plan, [part], engine=ENGINE)).items()}


def squared_distances(plan, one, other):
    zeros = (0,) * len(plan.entry_sigmas())
    keys, found, start = set(one) | set(other), [], 0
    for statistic in plan.statistics:
        places = range(start, start + statistic.statistic.width)
        start += statistic.statistic.width
        found.append(sum((one.get(k, zeros)[i] - other.get(k, zeros)[i]) ** 2 for k in keys for i in places))
    return found


@QUIET
@given(joins.join_questions(), tables(max_rows=6), joins.claim_tables(), LIMITS)
def test_no_unit_that_leaves_a_table_or_both_moves_a_statistic_further_than_its_claimed_sensitivity(
    sql, visits, claims, limits
):
    plan = joins.plan(sql, joins.bounded(**limits))
    whole = measured(plan, visits, claims)
    claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
    for unit, leaves in itertools.product({row["_unit"] for row in [*visits, *claims]}, ("both", "visits", "claims")):
        left = [
            [row for row in rows if row["_unit"] != unit or leaves not in {"both", name}]
            for name, rows in (("visits", visits), ("claims", claims))
        ]
        rest = measured(plan, *left)
        moved = squared_distances(plan, whole, rest)
        assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (plan.sql, moved, claimed)
        if plan.key_mode is KeyMode.PRIVATE:
            touched = [k for k in set(whole) | set(rest) if whole.get(k, (0,))[0] != rest.get(k, (0,))[0]]
            assert len(touched) <= plan.threshold.groups
            assert all(abs(whole.get(k, (0,))[0] - rest.get(k, (0,))[0]) <= 1 for k in touched)


@QUIET
@given(joins.join_questions(), tables(max_rows=6), joins.claim_tables(), st.data())
def test_partitions_of_a_join_change_no_integer(sql, visits, claims, data):
    plan = joins.plan(sql)
    whole = measured(plan, visits, claims)
    place = {unit: data.draw(st.integers(0, 2)) for unit in sorted({row["_unit"] for row in [*visits, *claims]})}
    parts = []
    for number in range(3):
        own = [[row for row in rows if place[row["_unit"]] == number] for rows in (visits, claims)]
        parts.append(joins.pair(plan, *own))
    apart = gather(plan, run_plan(plan, parts, engine=ENGINE))
    assert {key: entries(plan, vector) for key, vector in apart.items()} == whole


def by_unit(rows):
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["_rank"]):
        found[row["_unit"]].append(row)
    return found


@QUIET
@given(tables(max_rows=6), joins.claim_tables(), st.sampled_from(["JOIN", "LEFT JOIN"]), st.integers(1, 5))
def test_a_join_keeps_the_rows_of_lowest_ranks_on_both_sides_whatever_explodes(visits, claims, join, bound):
    described = joins.bounded(rows=bound, groups=1, other_rows=7, other_groups=1)
    count = total = units = 0
    others = by_unit(claims)
    for unit, rows in by_unit(visits).items():
        met = others[unit][:bound] or ([None] if join == "LEFT JOIN" else [])
        pairs = [(held(v, 120), None if c is None else held(c, 9)) for v in rows[:bound] for c in met]
        kept = [age for v, age in pairs if age is None or age > 2 or v > 50][:bound]
        count, units = count + len(kept), units + bool(kept)
        total += sum(age for age in kept if age is not None)
    for asked, expected in {"COUNT(*)": count, "SUM(c.age)": total, "COUNT(DISTINCT patient)": units}.items():
        sql = f"SELECT {asked} AS a FROM visits v {join} claims c ON v.patient = c.insured"
        plan = joins.plan(f"{sql} WHERE c.age > 2 OR c.age IS NULL OR v.age > 50", described)
        assert measured(plan, visits, claims).get((), (0,)) == (expected,)


@QUIET
@given(tables(max_rows=6), joins.claim_tables(), st.sampled_from(["JOIN", "LEFT JOIN"]), st.integers(1, 5), st.data())
def test_pairs_are_capped_by_their_own_ranks_before_groups_are_led(visits, claims, join, bound, data):
    """A second count of units by group, pair by pair: each row of a side that meets anything is among the pairs."""
    groups = data.draw(st.integers(1, bound))
    described = joins.bounded(rows=bound, groups=groups, other_rows=7, other_groups=7)
    others, alone, beside, rows_of = by_unit(claims), Counter(), Counter(), Counter()
    for unit, rows in by_unit(visits).items():
        met = others[unit][:bound] or ([None] if join == "LEFT JOIN" else [])
        pairs = [(i, j, v, c) for i, v in enumerate(rows[:bound]) for j, c in enumerate(met)]
        pairs.sort(key=lambda pair: (min(pair[:2]), max(pair[:2]), pair[0] > pair[1]))
        passing = [(v, c) for _, _, v, c in pairs if c is None or held(v, 120) + held(c, 9) > 20]
        keyed = [(text_of(v["urgent"]), None if c is None else c["kind"]) for v, c in passing[: 2 * bound]]
        led = list(dict.fromkeys(keyed))[:groups]
        kept = [key for key in keyed if key in led][:bound]
        alone.update(led)
        beside.update(set(kept))
        rows_of.update(kept)
    sql = f"SELECT v.urgent, kind, {{}} FROM visits v {join} claims c ON v.patient = c.insured"
    sql += " WHERE c.age IS NULL OR v.age + c.age > 20 GROUP BY 1, 2"
    plan = joins.plan(sql.format("COUNT(DISTINCT patient) AS u"), described)
    assert {key: amounts[0] for key, amounts in measured(plan, visits, claims).items()} == alone
    plan = joins.plan(sql.format("COUNT(DISTINCT patient) AS u, COUNT(*) AS n"), described)
    if groups < bound:
        expected = {key: (beside[key], rows_of[key]) for key in rows_of}
        assert measured(plan, visits, claims) == expected


def text_of(truth):
    return None if truth is None else str(truth).lower()


def held(row, upper):
    return min(max(row["age"], 0), upper)


@pytest.mark.parametrize("broken", ["after", "together"])
def test_the_test_itself_finds_a_join_without_its_bound(broken):
    """A canary: rows that are bounded on each side and not after they met explode to the square."""
    described = joins.bounded(rows=2, groups=1, other_rows=2, other_groups=1)
    plan = joins.plan("SELECT SUM(paid) AS s FROM visits v JOIN claims c ON v.patient = c.insured", described)
    sql = plan.sql.replace("FROM (SELECT l._unit", "FROM (SELECT 1 AS one, l._unit")
    if broken == "after":
        head, _, tail = sql.rpartition(" WHERE _rank <= 2")
        sql = head + tail
    else:
        sql = sql.replace("coalesce((l._rank - 1) * r._most + r._rank, l._rank)", "l._rank")
    assert sql.replace("1 AS one, ", "") != plan.sql
    worse = dataclasses.replace(plan, sql=sql)
    visits, claims = world.visits({1: [{}] * 3}), world.visits({1: [{"paid": 50}] * 3})
    claimed = plan.statistics[0].statistic.sensitivity_squared
    assert measured(worse, visits, claims)[()][0] ** 2 > claimed
    assert measured(plan, visits, claims)[()][0] ** 2 == claimed


def test_a_unit_that_leaves_the_right_table_of_a_left_join_is_paid_for_twice():
    """Its rows are exchanged for others: a sum about its middle moves by twice what one side of the change brings."""
    described = joins.bounded(rows=2, groups=2, other_rows=2, other_groups=2)
    sql = "SELECT kind, SUM(CASE WHEN kind IS NULL THEN -120 ELSE v.age END) AS s FROM visits v {} claims c"
    left, inner = (
        joins.plan(f"{sql.format(join)} ON v.patient = c.insured GROUP BY kind", described)
        for join in ("LEFT JOIN", "JOIN")
    )
    assert left.statistics[0].statistic.sensitivity_squared == 4 * inner.statistics[0].statistic.sensitivity_squared
    visits, claims = world.visits({1: [{"age": 120}] * 2}), world.visits({1: [{"kind": "a"}]})
    moved = squared_distances(left, measured(left, visits, claims), measured(left, visits, []))
    assert inner.statistics[0].statistic.sensitivity_squared < moved[0]
    assert moved[0] <= left.statistics[0].statistic.sensitivity_squared
