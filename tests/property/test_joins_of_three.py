"""Joins of three and four tables: the rows of a plain join, counted again by hand, and moved by no unit too far."""

import dataclasses
import itertools
from collections import Counter

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.unit import OtherUnit
from sandbox.privacy.query import KeyMode
from sandbox.privacy.vectors import entries, gather
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support import three_world as three

ENGINE = open_engine(1)
QUIET = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
LIMITS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)).map(
    lambda t: {"rows": max(t[:2]), "groups": min(t[:2]), "other_rows": max(t[2:]), "other_groups": min(t[2:])}
)


def measured(plan, rows):
    part = joins.pair(plan, rows["visits"], rows["claims"], rows["drugs"])
    return {key: entries(plan, vector) for key, vector in gather(plan, run_plan(plan, [part], engine=ENGINE)).items()}


def wide(rows, groups=None):
    """Return descriptions whose bounds are all the same."""
    groups = rows if groups is None else groups
    return joins.bounded(rows=rows, groups=groups, other_rows=rows, other_groups=groups)


def plainly(sql, rows):
    """Return what plain SQL says of the whole tables, without a bound."""
    connection = duckdb.connect(":memory:")
    parts = zip(three.UNITS, (world.table(rows["visits"]), joins.claim_table(rows["claims"]), joins.drug_table(rows["drugs"])), strict=True)  # fmt: skip
    for name, table in parts:
        names = [three.UNITS[name] if column == "_unit" else column for column in table.column_names]
        connection.register(name, table.rename_columns(names))
    return connection.execute(sql).fetchall()


@QUIET
@given(three.shapes(least=2), three.people(max_rows=3), st.data())
def test_a_join_within_its_bound_is_the_join_of_plain_sql(shape, rows, data):
    """Which rows meet, NULL where none do, and each pair of equal rows counted: as the engine's own join has it."""
    place = data.draw(st.integers(0, len(shape) - 1))
    alias, unit = three.ALIASES[place], f"a.{three.UNITS[shape.tables[0]]}"
    for value in ("COUNT(*)", f"SUM({alias}.age)", f"COUNT(DISTINCT {unit})"):
        plan = joins.plan(f"SELECT {value} AS a FROM {shape.source}", wide(81))
        ((expected,),) = plainly(f"SELECT {value} FROM {shape.source}", rows)
        assert measured(plan, rows).get((), (0,))[0] == (expected or 0), value
    for value in ("COUNT(*)", f"COUNT(DISTINCT {unit})"):
        sql = f"SELECT {alias}.{shape.key(place)} AS k, {value} AS n FROM {shape.source} GROUP BY 1"
        found = measured(joins.plan(sql, wide(81)), rows)
        assert {(*key, amounts[0]) for key, amounts in found.items() if amounts[0]} == set(plainly(sql, rows))


@QUIET
@given(three.shapes(), three.people(), st.integers(1, 4), st.data())
def test_rows_of_a_join_are_bounded_as_counted_by_hand(shape, rows, bound, data):
    """Row by row: each side's lowest ranks, what passes between the joins, and the bound at the end."""
    units = {name: three.by_unit(rows[name]) for name in rows}
    place = data.draw(st.integers(0, len(shape) - 1))
    count = total = people = 0
    for unit in {row["_unit"] for row in rows[shape.tables[0]]}:
        sides = [units[name].get(unit, []) for name in shape.tables]
        kept = three.joined_rows(shape, sides, bound, capped=False)[:bound]
        count, people = count + len(kept), people + bool(kept)
        total += sum(row[place]["age"] for row in kept if row[place] is not None)
    unit = f"a.{three.UNITS[shape.tables[0]]}"
    asked = {"COUNT(*)": count, f"SUM({three.ALIASES[place]}.age)": total, f"COUNT(DISTINCT {unit})": people}
    for value, expected in asked.items():
        plan = joins.plan(f"SELECT {value} AS a FROM {shape.source}", wide(bound))
        assert measured(plan, rows).get((), (0,))[0] == expected, (value, plan.sql)


@QUIET
@given(three.shapes(), three.people(), st.integers(1, 4), st.data())
def test_groups_of_a_join_are_led_by_rows_that_are_counted_by_hand(shape, rows, bound, data):
    groups = data.draw(st.integers(1, bound))
    one, other = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(0, len(shape) - 1))
    units = {name: three.by_unit(rows[name]) for name in rows}
    alone, beside, counted = Counter(), Counter(), Counter()
    for unit in {row["_unit"] for row in rows[shape.tables[0]]}:
        sides = [units[name].get(unit, []) for name in shape.tables]
        met = three.joined_rows(shape, sides, bound, capped=True)
        keyed = [tuple(text_of(row[at], shape.key(at)) for at in dict.fromkeys((one, other))) for row in met]
        led = list(dict.fromkeys(keyed))[:groups]
        kept = [key for key in keyed if key in led][:bound]
        alone.update(led)
        beside.update(set(kept))
        counted.update(kept)
    keys = ", ".join(f"{three.ALIASES[at]}.{shape.key(at)}" for at in dict.fromkeys((one, other)))
    units_of = f"COUNT(DISTINCT a.{three.UNITS[shape.tables[0]]}) AS u"
    described = wide(bound, groups)
    plan = joins.plan(f"SELECT {units_of} FROM {shape.source} GROUP BY {keys}", described)
    assert {key: amounts[0] for key, amounts in measured(plan, rows).items() if amounts[0]} == alone
    if groups < bound:
        plan = joins.plan(f"SELECT {units_of}, COUNT(*) AS n FROM {shape.source} GROUP BY {keys}", described)
        found = {key: amounts for key, amounts in measured(plan, rows).items() if any(amounts)}
        assert found == {key: (beside[key], counted[key]) for key in counted}


def text_of(row, name):
    return None if row is None else row[name]


def squared_distances(plan, one, other):
    zeros = (0,) * len(plan.entry_sigmas())
    keys, found, start = set(one) | set(other), [], 0
    for statistic in plan.statistics:
        places = range(start, start + statistic.statistic.width)
        start += statistic.statistic.width
        found.append(sum((one.get(k, zeros)[i] - other.get(k, zeros)[i]) ** 2 for k in keys for i in places))
    return found


@st.composite
def questions(draw):
    """Questions over joins of three and four sides: sums about and beside, units, groups of any side, private keys."""
    shape = draw(three.shapes())
    places = st.integers(0, len(shape) - 1)
    unit = f"COUNT(DISTINCT a.{three.UNITS[shape.tables[0]]})"
    values = [f"SUM({three.ALIASES[draw(places)]}.age - {draw(st.sampled_from([0, 4, 9]))})", "COUNT(*)", unit]
    values.append(f"COUNT({three.ALIASES[draw(places)]}.age)")
    shown = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
    keys = [f"{three.ALIASES[at]}.{shape.key(at)}" for at in draw(st.lists(places, max_size=2, unique=True))]
    if draw(st.booleans()) and "claims" in shape.tables:
        keys.append(f"{three.ALIASES[shape.tables.index('claims')]}.note")
    columns = [f"{key} AS k{i}" for i, key in enumerate(keys)] + [f"{value} AS v{i}" for i, value in enumerate(shown)]
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join(columns)} FROM {shape.source}{by}"


@settings(QUIET, max_examples=100)
@given(questions(), three.people(), LIMITS)
def test_no_unit_that_leaves_any_of_the_datasets_moves_a_statistic_further_than_claimed(sql, rows, limits):
    """Every neighbour of every unit: out of one dataset, of two, of all three."""
    plan = joins.plan(sql, joins.bounded(**limits))
    whole = measured(plan, rows)
    claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
    some = [set(names) for count in (1, 2, 3) for names in itertools.combinations(rows, count)]
    for unit, leaves in itertools.product({row["_unit"] for name in rows for row in rows[name]}, some):
        left = {n: [row for row in rows[n] if row["_unit"] != unit or n not in leaves] for n in rows}
        rest = measured(plan, left)
        moved = squared_distances(plan, whole, rest)
        assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (leaves, plan.sql, moved, claimed)
        if plan.key_mode is KeyMode.PRIVATE:
            touched = [k for k in set(whole) | set(rest) if whole.get(k, (0,))[0] != rest.get(k, (0,))[0]]
            assert len(touched) <= plan.threshold.groups
            assert all(abs(whole.get(k, (0,))[0] - rest.get(k, (0,))[0]) <= 1 for k in touched)


@QUIET
@given(questions(), three.people(), st.data())
def test_partitions_of_a_join_of_three_change_no_integer(sql, rows, data):
    plan = joins.plan(sql)
    place = {unit: data.draw(st.integers(0, 2)) for unit in sorted({r["_unit"] for name in rows for r in rows[name]})}
    parts = [
        joins.pair(plan, *([row for row in rows[name] if place[row["_unit"]] == number] for name in rows))
        for number in range(3)
    ]
    apart = gather(plan, run_plan(plan, parts, engine=ENGINE))
    assert {key: entries(plan, vector) for key, vector in apart.items()} == measured(plan, rows)


CHAIN = "visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = c.insured"


@pytest.mark.parametrize("broken", ["after", "together"])
def test_the_test_itself_finds_three_tables_without_their_bound(broken):
    """A canary: rows of three sides that are bounded on each side and not after they met explode to the cube."""
    plan = joins.plan(f"SELECT SUM(price) AS s FROM {CHAIN}", wide(2, 1))
    if broken == "after":
        head, _, tail = plan.sql.rpartition(" WHERE _rank <= 2")
        sql = head + tail
    else:
        sql = plan.sql.replace("coalesce((l._rank - 1) * r._most + r._rank, l._rank)", "l._rank")
    assert sql != plan.sql
    worse = dataclasses.replace(plan, sql=sql)
    rows = {
        "visits": world.visits({1: [{}] * 3}),
        "claims": world.visits({1: [{}] * 3}),
        "drugs": world.visits({1: [{"price": 20}] * 3}),
    }
    claimed = plan.statistics[0].statistic.sensitivity_squared
    assert measured(worse, rows)[()][0] ** 2 > claimed
    assert measured(plan, rows)[()][0] ** 2 == claimed


@pytest.mark.parametrize("leaves", ["claims", "drugs"])
def test_a_unit_that_leaves_any_of_several_left_tables_is_paid_for_twice_and_not_oftener(leaves):
    """Its rows are exchanged for others whichever of them it leaves: twice one side of the change, as with two tables."""
    sql = (
        "SELECT kind, form, SUM(CASE WHEN kind IS NULL OR form IS NULL THEN -120 ELSE v.age END) AS s FROM visits v "
        "{0} claims c ON v.patient = c.insured {0} drugs d ON d.holder = v.patient GROUP BY kind, form"
    )
    left, inner = (joins.plan(sql.format(join), wide(2)) for join in ("LEFT JOIN", "JOIN"))
    assert left.statistics[0].statistic.sensitivity_squared == 4 * inner.statistics[0].statistic.sensitivity_squared
    rows = {
        "visits": world.visits({1: [{"age": 120}] * 2}),
        "claims": world.visits({1: [{"kind": "a"}]}),
        "drugs": world.visits({1: [{"form": "pill"}]}),
    }
    moved = squared_distances(left, measured(left, rows), measured(left, {**rows, leaves: []}))
    assert inner.statistics[0].statistic.sensitivity_squared < moved[0]
    assert moved[0] <= left.statistics[0].statistic.sensitivity_squared


def without(rows, leaves):
    """Return the rows that stay, ranked anew within their units in the order that they have."""
    ranks, kept = Counter(), []
    for row in sorted(rows, key=lambda row: row["_rank"]):
        if not leaves(row):
            ranks[row["_unit"]] += 1
            kept.append({**row, "_rank": ranks[row["_unit"]]})
    return kept


@settings(QUIET, max_examples=50)
@given(questions(), three.people(), LIMITS, st.data())
def test_joins_of_three_hold_for_a_person_who_leaves_any_of_the_tables(sql, rows, limits, data):
    """Rows of one person stand at several units and in several tables; the limits of all that are read add up."""
    described = joins.bounded(**limits)
    held = {}
    for name, table in rows.items():
        held[name] = [{**row, "person": data.draw(st.integers(0, 2))} for row in table]
        most = max(Counter(row["person"] for row in held[name]).values(), default=1)
        if data.draw(st.integers(0, 3)):
            other = OtherUnit("person", "person_id", "自然人", most)
            described[name] = dataclasses.replace(described[name], also_protects=(other,))
    plan = joins.plan(sql, described)
    whole = measured(plan, held)
    claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
    protected = {name for name in held if described[name].also_protects}
    some = [set(names) for count in (1, 2, 3) for names in itertools.combinations(sorted(protected), count)]
    for person, leaves in itertools.product(range(3), some):
        left = {n: without(held[n], lambda row, n=n: n in leaves and row["person"] == person) for n in held}  # noqa: B023
        rest = measured(plan, left)
        moved = squared_distances(plan, whole, rest)
        assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (leaves, plan.sql, moved, claimed)
        if plan.key_mode is KeyMode.PRIVATE:
            touched = [k for k in set(whole) | set(rest) if whole.get(k, (0,))[0] != rest.get(k, (0,))[0]]
            assert len(touched) <= plan.threshold.groups
