"""Tables with two kinds of units: whichever leaves, one primary or one further unit, no statistic moves too far."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.model.unit import OtherUnit
from sandbox.privacy import influence
from sandbox.privacy.query import KeyMode
from sandbox.privacy.vectors import entries, gather
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.privacy_strategies import any_questions, tables

ENGINE = open_engine(1)
QUIET = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def describe(limit, rows=3, groups=2):
    return replace(
        world.describe(rows=rows, groups=groups), also_protects=(OtherUnit("person", "person_id", "自然人", limit),)
    )


def measured(plan, rows):
    found = gather(plan, run_plan(plan, [world.table(rows)], engine=ENGINE))
    return {key: entries(plan, vector) for key, vector in found.items()}


def squared_distances(plan, one, other):
    zeros = (0,) * len(plan.entry_sigmas())
    keys, found, start = set(one) | set(other), [], 0
    for statistic in plan.statistics:
        places = range(start, start + statistic.statistic.width)
        start += statistic.statistic.width
        found.append(sum((one.get(k, zeros)[i] - other.get(k, zeros)[i]) ** 2 for k in keys for i in places))
    return found


def without(rows, gone):
    """Return the rows that stay, ranked anew in the order that they had."""
    ranks = defaultdict(int)
    kept = []
    for row in sorted(rows, key=lambda row: (row["_unit"], row["_rank"])):
        if not gone(row):
            ranks[row["_unit"]] += 1
            kept.append({**row, "_rank": ranks[row["_unit"]]})
    return kept


def check(sql, rows, people, bound_rows, groups):
    """Try every unit of either kind; return whether the question was one that such a table answers."""
    held = [{**row, "person": person} for row, person in zip(rows, people, strict=False)]
    limit = max(Counter(row["person"] for row in held).values())
    try:
        plan = world.plan(sql, describe(limit, bound_rows, groups))
    except (QueryError, BoundError):
        return False
    whole = measured(plan, held)
    claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
    for kind in ("_unit", "person"):
        for unit in {row[kind] for row in held}:
            rest = measured(plan, without(held, lambda row, k=kind, u=unit: row[k] == u))
            moved = squared_distances(plan, whole, rest)
            assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (kind, plan.sql, moved, claimed)
            check_keys(plan, whole, rest)
    return True


def check_keys(plan, whole, rest):
    """What the threshold of private keys rests on: in how many groups units are counted anew, and how far."""
    if plan.key_mode is KeyMode.PRIVATE:
        changes = [abs(whole.get(k, (0,))[0] - rest.get(k, (0,))[0]) for k in set(whole) | set(rest)]
        groups, distance, most = plan.threshold.distances
        assert sum(change > 0 for change in changes) <= groups
        assert sum(change**2 for change in changes) <= distance**2
        assert max(changes, default=0) <= most


PEOPLE = st.lists(st.integers(0, 6), min_size=35, max_size=35)


@QUIET
@given(any_questions(), tables(), PEOPLE, st.integers(1, 4), st.data())
def test_no_unit_of_either_kind_moves_a_statistic_further_than_its_claimed_sensitivity(sql, rows, people, most, data):
    check(sql, rows, people, most, data.draw(st.integers(1, most)))


KEYS = ["district", "urgent", "FLOOR(age / 30)", "district, urgent"]
SHOWN = ["COUNT(*)", "COUNT(DISTINCT patient)", "SUM(delta)", "AVG(age)", "MEDIAN(age)", "COUNT(DISTINCT district)"]
STEP = "(SELECT patient, SUM(delta) AS delta, MAX(age) AS age{} FROM visits GROUP BY patient{}) p"


@QUIET
@given(st.sampled_from(KEYS), st.lists(st.sampled_from(SHOWN), min_size=1, max_size=3, unique=True), tables(), PEOPLE)
def test_capped_groups_hold(key, shown, rows, people):
    columns = ", ".join(f"{one} AS a{i}" for i, one in enumerate(shown))
    for where in ("", " WHERE age > 20"):
        assert check(f"SELECT {columns} FROM visits{where} GROUP BY {key}", rows, people, 3, 1)


@QUIET
@given(
    st.sampled_from(["diag", "diag, urgent", "free", "seen"]),
    st.lists(st.sampled_from(SHOWN), min_size=1, max_size=3, unique=True),
    tables(),
    PEOPLE,
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_private_keys_hold(key, shown, rows, people, bound):
    columns = ", ".join(f"{one} AS a{i}" for i, one in enumerate(shown))
    for where in ("", " WHERE age > 20"):
        sql = f"SELECT {columns} FROM visits{where} GROUP BY {key}"
        assert check(sql, rows, people, max(bound), min(bound))


@QUIET
@given(
    st.sampled_from(["", " WHERE age > 20", " GROUP BY district", " WHERE urgent GROUP BY FLOOR(age / 30), urgent"]),
    tables(),
    PEOPLE,
    st.integers(2, 4),
)
def test_rescaled_rows_hold(rest, rows, people, most):
    sql = f"SELECT COUNT(*) AS n, SUM(delta) AS s, AVG(age) AS a FROM visits{rest} SETTINGS bounding = 'rescale'"
    assert check(sql, rows, people, most, most)


def joined(plan, visits, claims):
    found = gather(plan, run_plan(plan, [joins.pair(plan, visits, claims)], engine=ENGINE))
    return {key: entries(plan, vector) for key, vector in found.items()}


@settings(QUIET, max_examples=40)
@given(joins.join_questions(), tables(max_units=3), joins.claim_tables(max_units=3), PEOPLE, PEOPLE, st.data())
def test_joins_hold_for_a_person_who_leaves_either_table_or_both(sql, visits, claims, first, second, data):
    most, other = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    described = joins.bounded(rows=most, groups=1 if most > 2 else most, other_rows=other, other_groups=other)
    held = {"visits": visits, "claims": claims}
    for name, people in (("visits", first), ("claims", second)):
        if data.draw(st.integers(0, 3)) == 0:
            continue  # one of the two tables may protect enterprises alone
        held[name] = [{**row, "person": person} for row, person in zip(held[name], people, strict=False)]
        limit = max(Counter(row["person"] for row in held[name]).values(), default=1)
        protected = (OtherUnit("person", "person_id", "自然人", limit),)
        described[name] = replace(described[name], also_protects=protected)
    plan = joins.plan(sql, described)
    whole = joined(plan, held["visits"], held["claims"])
    claimed = [statistic.statistic.sensitivity_squared for statistic in plan.statistics]
    for kind in ("_unit", "person"):
        units = {row[kind] for rows in held.values() for row in rows if kind in row}
        for unit, leaves in itertools.product(units, ({"visits"}, {"claims"}, {"visits", "claims"})):
            left = {
                name: without(rows, lambda row, n=name: n in leaves and row.get(kind, -1) == unit)  # noqa: B023
                for name, rows in held.items()
            }
            rest = joined(plan, left["visits"], left["claims"])
            moved = squared_distances(plan, whole, rest)
            assert all(m <= c for m, c in zip(moved, claimed, strict=True)), (kind, leaves, plan.sql, moved, claimed)
            check_keys(plan, whole, rest)


@QUIET
@given(st.sampled_from([("", "FLOOR(age / 30)"), (", district", "district")]), tables(), PEOPLE, st.integers(1, 3))
def test_first_steps_hold(step, rows, people, most):
    inner, key = step
    source = STEP.format(inner, inner)
    for group in ("", f" GROUP BY {key}"):
        sql = f"SELECT COUNT(*) AS n, COUNT(DISTINCT patient) AS u, SUM(delta) AS s, SUM(age) AS a FROM {source}{group}"
        assert check(sql, rows, people, most, 1)


@pytest.mark.parametrize("broken", ["rows", "groups"])
def test_the_test_itself_finds_an_influence_that_is_too_small(broken, monkeypatch):
    """A canary: with the rows that enter, or all that a group brings, left out, one person moves more than claimed."""
    honest = influence._other_influence

    def smaller(query, limit):
        found = honest(query, limit)
        return influence.Influence(
            found.rows // 2 if broken == "rows" else 2 * limit, found.units, *(found.units_squared, 1)
        )

    if broken == "rows":
        # One row in each of 4 districts' ranks: the person's first row leaves, the next one of another kind enters.
        rows = world.visits({u: [{"delta": 60}, {"delta": -150}] for u in range(4)})
        people = [0, 1, 0, 2, 0, 3, 0, 4]
        sql, bound = "SELECT SUM(delta) AS s, COUNT(*) AS n FROM visits", (1, 1)
    else:
        rows = world.visits(
            {u: [{"district": "east"}, *[{"district": "west", "age": 120}] * 3, {"district": "east"}] for u in range(4)}
        )
        people = [0, 1, 1, 1, 2] * 4
        sql, bound = "SELECT district, COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits GROUP BY 1", (3, 1)
    held = [{**row, "person": person} for row, person in zip(rows, people, strict=True)]

    def distances():
        plan = world.plan(sql, describe(4, *bound))
        rest = without(held, lambda row: row["person"] == 0)
        moved = squared_distances(plan, measured(plan, held), measured(plan, rest))
        return [(m, s.statistic.sensitivity_squared) for m, s in zip(moved, plan.statistics, strict=True)]

    assert all(moved <= claimed for moved, claimed in distances())
    monkeypatch.setattr(influence, "_other_influence", smaller)
    assert any(moved > claimed for moved, claimed in distances())
