"""The index of attacks beside this file, checked; and those that `test_query_attacks.py` has no room for."""

import itertools
import re
from fractions import Fraction
from pathlib import Path

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BudgetExhaustedError, QueryError, SaggarError
from sandbox.ledger.account import apply
from sandbox.model.entry import EntryKind as K
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.plan import plan_query
from tests.support import audit
from tests.support import join_world as joins
from tests.support import ledger_world as city
from tests.support import privacy_world as world

HERE = Path(__file__).parent
TABLE = (HERE / "README.md").read_text(encoding="utf-8")
ENGINE = open_engine(1)
RHO = PrivacyLoss(Fraction(1, 2))
CROWD = {unit: [{"age": 20 + unit, "cost": 100 * unit, "district": "east"}] * 3 for unit in range(6)}
TARGET = 999


def test_every_pitfall_and_attack_of_the_index_has_its_test():
    defined = set()
    for path in HERE.parent.rglob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    assert named <= defined
    assert [int(number) for number in re.findall(r"^\| P(\d+) \|", TABLE, re.MULTILINE)] == list(range(1, 18))
    for line in re.findall(r"^\| (?:P\d+|[a-z]).*$", TABLE, re.MULTILINE)[2:]:
        assert "`test_" in line or "| attack |" in line, line


# --- P9 --------------------------------------------------------------------------------------------------------------


def reserving(job: str, agreement: str, rho: str):
    accounts = (f"agreement:{agreement}/{city.DATASET}", f"dataset:{city.DATASET}/{city.UNIT}")
    return [
        (K.JOB_SUBMITTED, city.submitting(job, agreement=agreement)),
        (K.JOB_DECIDED, city.deciding(job, loss=city.loss(rho))),
        (K.BUDGET_RESERVED, city.reserving(job, city.loss(rho), accounts)),
    ]


def test_a_second_agreement_or_snapshot_brings_no_fresh_budget_over_the_same_people():
    """Snowflake counts by consumer, BigQuery by view, Clean Rooms by month.  Here the people have one account.

    Five agreements of 4 each stand over a dataset of 10; a newer snapshot of the same people is sealed in between.
    """
    state = city.after(city.founding())
    names = [f"operator-{number}" for number in range(5)]
    for name in names:
        more = city.agreeing(agreement=city.digest(name), name=name)
        state = city.after([(K.AGREEMENT_REGISTERED, more)], state)
    spent = Fraction(0)
    for number, name in enumerate(names):
        again = city.sealing(snapshot=city.digest(f"month {number}"), parent=state_snapshot(state))
        state = city.after([(K.DATASET_SEALED, again)], state)
        steps = reserving(city.digest(name), name, "2")
        state = city.after(steps, state)
        spent += 2
    assert spent == 10
    late = reserving(city.digest("late"), names[0], "1/1000")
    state = city.after(late[:2], state)
    with pytest.raises(BudgetExhaustedError) as raised:
        apply(state, city.entry_in(state, *late[2]))
    assert raised.value.details["account"] == f"dataset:{city.DATASET}/{city.UNIT}"


def state_snapshot(state) -> str:
    return state.datasets[city.DATASET].snapshot


# --- join explosion --------------------------------------------------------------------------------------------------

LARGE = ", ".join(f"('{name}', {size})" for name, size in (("east", 9), ("west", -9), ("north", 9)))
SOURCES = {
    "a public table": f"WITH d(district, size) AS (VALUES {LARGE}) SELECT SUM(size) AS s, COUNT(*) AS n FROM visits "
    "JOIN d USING (district)",
    "a public table, left": f"WITH d(district, size) AS (VALUES {LARGE}) SELECT district, SUM(size) AS s FROM visits "
    "LEFT JOIN d USING (district) GROUP BY district",
    "one row a unit": "WITH p AS (SELECT patient, COUNT(*) AS n, SUM(cost) AS s FROM visits GROUP BY patient) "
    "SELECT SUM(n) AS n, SUM(s) AS s FROM p",
    "some rows a unit": "WITH p AS (SELECT patient, age, COUNT(*) AS n FROM visits GROUP BY patient, age) "
    "SELECT COUNT(*) AS r, SUM(n) AS n FROM p",
    "some rows a unit, by group": "WITH p AS (SELECT patient, district, SUM(age) AS a FROM visits "
    "GROUP BY patient, district) SELECT district, COUNT(*) AS r, SUM(a) AS a FROM p GROUP BY district",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_public_table_or_a_first_step_cannot_explode_the_rows_of_one_person(name):
    """A person with hundreds of rows, of one kind or of many, moves an answer by the claim and no further."""
    plan = world.plan(SOURCES[name], loss=RHO)
    hoards = (
        [{"age": 120, "cost": 100_000, "district": "east"}] * 300,
        [{"age": age % 121, "cost": 100_000, "district": world.DISTRICTS[age % 3]} for age in range(300)],
    )
    nobody = run_plan(plan, [world.table(world.visits(CROWD))], engine=ENGINE)
    costs = [
        audit.cost_of(plan, nobody, run_plan(plan, [world.table(world.visits({**CROWD, TARGET: rows}))], engine=ENGINE))
        for rows in hoards
    ]
    assert 0 < max(costs) <= RHO.rho


def test_a_public_table_with_a_key_twice_is_refused():
    """It would count one row of a person twice, and so many times more as the key is written."""
    sql = "WITH d(district, size) AS (VALUES ('east', 1), ('east', 2)) SELECT COUNT(*) AS n FROM visits JOIN d USING (district)"
    with pytest.raises(QueryError, match="a key stands twice in a public table"):
        world.plan(sql)


THREE = "visits v {0} claims c ON v.patient = c.insured {0} drugs d ON d.holder = v.patient"
FOUR = f"{THREE} {{0}} visits w ON w.patient = v.patient"


@pytest.mark.parametrize("join", ["JOIN", "LEFT JOIN"])
@pytest.mark.parametrize("source", [THREE, FOUR])
@pytest.mark.parametrize(
    "asked",
    [
        "SELECT COUNT(*) AS n, SUM(price) AS s FROM {}",
        "SELECT kind, form, COUNT(*) AS n, SUM(paid) AS s FROM {} GROUP BY kind, form",
        "SELECT c.note, COUNT(DISTINCT v.patient) AS u, COUNT(*) AS n FROM {} GROUP BY c.note",
        "SELECT SUM(paid) AS s FROM {} WHERE v.age >= c.age AND d.age <= v.age",
    ],
)
def test_a_join_of_three_or_four_tables_cannot_explode_the_rows_of_one_person(asked, source, join):
    """A person with dozens of rows in each table makes millions together; whichever tables they leave costs the claim."""
    loss = PrivacyLoss(RHO.rho, Fraction(1, 10**6))
    plan = plan_query(joins.check(asked.format(source.format(join))), loss)
    crowd = {unit: [{"age": 3}] * 2 for unit in range(4)}
    notes = [{"age": number % 9, "paid": 50, "kind": "ab"[number % 2], "note": f"n{number}"} for number in range(40)]
    hoard = {"visits": [{"age": 120}] * 40, "claims": notes, "drugs": [{"age": 9, "price": 20, "form": "salve"}] * 40}

    def found(there):
        rows = ({**crowd, **({TARGET: hoard[name]} if name in there else {})} for name in hoard)
        return run_plan(plan, [joins.pair(plan, *map(world.visits, rows))], engine=ENGINE)

    whole = found(set(hoard))
    some = [set(names) for count in range(3) for names in itertools.combinations(hoard, count)]
    costs = [audit.cost_of(plan, whole, found(there)) for there in some]
    assert 0 < max(costs) <= RHO.rho


@pytest.mark.parametrize("kind", ["", "LEFT "])
@pytest.mark.parametrize(("tables", "rows"), [(3, 50), (8, 40)])
def test_a_chain_of_public_tables_is_weighed_without_being_written_out(tables, rows, kind):
    """Each table is joined by a column of the one before: as text, 40 to the eighth power of cases."""
    names = "abcdefgh"[:tables]
    values = ", ".join(f"({number}, {number})" for number in range(rows))
    with_ = ", ".join(f"{name}(k, x) AS (VALUES {values})" for name in names)
    joined = "".join(
        f" {kind}JOIN {name} ON {name}.k = {before}"
        for name, before in zip(names, ["visits.age", *(f"{name}.x" for name in names)], strict=False)
    )
    with pytest.raises(QueryError) as caught:
        world.plan(f"WITH {with_} SELECT {names[-1]}.x AS x, SUM({names[-1]}.x) AS s FROM visits{joined} GROUP BY 1")
    assert caught.value.code == "input.query.too_deep"
    world.plan(f"WITH {with_} SELECT a.x, COUNT(*) AS n FROM visits {kind}JOIN a ON a.k = visits.age GROUP BY 1")


# --- time as a channel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "length(repeat(diag, 1000000)) > 1",
        "regexp_matches(diag, '(a+)+$')",
        "list_sum(range(free)) > 1",
        "len(generate_series(1, free)) > 1",
        "sleep_ms(free) IS NULL",
        "diag LIKE '%a%a%a%a%b'",
        "levenshtein(diag, diag) > 3",
        "list_reduce(range(free), (x, y) -> x + y) > 1",
        "(SELECT COUNT(*) FROM range(free)) > 1",
        "EXISTS (SELECT 1 FROM visits v WHERE v.age > free)",
    ],
)
def test_no_text_that_makes_work_grow_with_one_row_is_in_the_language(expression):
    """Whatever works on a row takes a bounded number of steps over integers, dates and whole texts."""
    with pytest.raises(SaggarError) as raised:
        world.plan(f"SELECT COUNT(*) AS n FROM visits WHERE {expression}")
    assert raised.value.code.startswith("input.query")
