"""Attacks on a privacy engine, by name: each is tried, and each must come to nothing."""

import ast
import datetime as dt
import importlib.util
import math
import random
import re
import time
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest

from sandbox.compute.order import TableOrder, WorkOrder
from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BudgetExhaustedError, CanonicalError, QueryError, SaggarError, VaultError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accounting import JobFilter
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quote import quote_plan
from tests.support import audit
from tests.support import privacy_world as world

ROOT = Path(__file__).parents[2]
ENGINE = open_engine(1)
RHO = PrivacyLoss(Fraction(1, 2))
TARGET = 999
BIG = 2**63 - 1
CROWD = {unit: [{"age": 20 + unit, "cost": 100 * unit, "district": "east", "diag": "D1"}] * 3 for unit in range(8)}


def partials(sql, units, description=None, plan=None, parts=1):
    """Return the exact integers over the units' rows, dealt over partitions by unit."""
    plan = world.plan(sql, description, loss=RHO) if plan is None else plan
    dealt = [{u: rows for u, rows in units.items() if u % parts == part} for part in range(parts)]
    return run_plan(plan, [world.table(world.visits(part)) for part in dealt], engine=ENGINE)


def answer(sql, units, description=None, loss=RHO, noise=None):
    plan = world.plan(sql, description, loss=loss)
    found = run_plan(plan, [world.table(world.visits(units))], engine=ENGINE)
    return measure(plan, found, world.NoNoise() if noise is None else noise).answer


def refused(sql):
    with pytest.raises(SaggarError) as raised:
        world.plan(sql)
    assert raised.value.hint
    return raised.value


def check_family(error, *families):
    assert error.code.startswith(families)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_least_significant_bits_tell_nothing_since_noise_is_on_the_grid_of_the_values():
    """Mironov 2012: floats near a noisy value betray the exact one.  Ours is an integer count of a public step."""
    found = answer("SELECT SUM(cost) AS s, COUNT(*) AS n FROM visits", CROWD, noise=OpenDpNoise())
    total, count = found.rows[0]
    assert isinstance(count, int)
    assert float(Fraction(round(total * 100), 100)) == total


def test_precision_of_a_released_number_depends_on_the_noisy_integer_alone():
    """Haney et al. 2022: precision after noise leaks.  Two tables with one noisy sum give one answer, bit for bit."""
    plan = world.plan("SELECT SUM(cost) AS s FROM visits", loss=RHO)

    class Fixed(world.NoNoise):
        def gaussian(self, values, **how):
            return [123_457 for _ in values]

    tables = ({1: [{"cost": 1}]}, {unit: [{"cost": 99_999}] for unit in range(7)})
    records = [measure(plan, partials("", units, plan=plan), Fixed()).answer.to_record() for units in tables]
    assert records[0] == records[1]


@pytest.mark.parametrize("value", [BIG, -BIG - 1, 2**62, -(2**62)])
@pytest.mark.parametrize("argument", ["age", "cost", "delta * 1000", "age * age * age", "cost + age", "-delta"])
def test_overflow_cannot_happen_and_an_extreme_row_moves_a_sum_by_the_claim_at_most(argument, value):
    sql = f"SELECT SUM({argument}) AS s FROM visits"
    plan = world.plan(sql, loss=RHO)
    rows = [{"age": value, "cost": value, "delta": value}] * 9
    one, other = partials(sql, CROWD, plan=plan), partials(sql, {**CROWD, TARGET: rows}, plan=plan)
    assert audit.cost_of(plan, one, other) <= RHO.rho


def test_the_order_of_rows_and_partitions_changes_no_bit_of_a_sum():
    """Casacuberta et al. 2022: sums of floats depend on their order, so their sensitivity is not what is proven."""
    draw = random.Random(5)
    units = {u: [{"cost": draw.randint(0, 99_999), "age": draw.randint(0, 120)}] * 2 for u in range(60)}
    sql = "SELECT SUM(cost) AS s, AVG(age) AS a FROM visits"
    digests = set()
    for parts in (1, 2, 5):
        for _ in range(3):
            shuffled = list(units)
            draw.shuffle(shuffled)
            digests.add(partials(sql, {unit: units[unit] for unit in shuffled}, parts=parts).digest())
    assert len(digests) == 1


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, -0.0])
def test_nan_cannot_poison_a_sum_since_floats_have_no_way_in(poison):
    table = world.table(world.visits(CROWD))
    place = table.column_names.index("cost")
    floats = table.set_column(place, "cost", pa.array([poison] * len(table)))
    with pytest.raises(VaultError, match="not in storage types"):
        run_plan(world.plan("SELECT SUM(cost) AS s FROM visits"), [floats], engine=ENGINE)
    assert refused("SELECT SUM('nan'::DOUBLE) AS s FROM visits").code.startswith("input.query")


# --- keys and rows ---------------------------------------------------------------------------------------------------


def test_a_group_key_of_one_person_stays_hidden_and_a_public_one_shows_nothing():
    loss = PrivacyLoss(Fraction(1, 2), Fraction(1, 10**7))
    units = {**CROWD, TARGET: [{"diag": "only-mine", "district": "north"}] * 4}
    keyed = answer("SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag", units, loss=loss)
    assert "only-mine" not in str(keyed.to_record())
    public = [
        [row[0] for row in answer("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", given).rows]
        for given in (CROWD, units, {})
    ]
    assert public[0] == public[1] == public[2]


def test_differencing_two_questions_costs_the_sum_of_both():
    """The tracker: all, and all but one.  The pair is one measurement of (rho + rho), and it holds that claim."""
    everyone = world.plan("SELECT COUNT(*) AS n FROM visits", loss=RHO)
    others = world.plan("SELECT COUNT(*) AS n FROM visits WHERE age <> 77", loss=RHO)
    units = {**CROWD, TARGET: [{"age": 77}] * 9}
    cost = sum(
        (
            audit.cost_of(plan, partials("", CROWD, plan=plan), partials("", units, plan=plan))
            for plan in (everyone, others)
        ),
        Fraction(0),
    )
    assert cost <= 2 * RHO.rho
    account = JobFilter(RHO)
    account.request(everyone.loss)
    with pytest.raises(BudgetExhaustedError):
        account.request(others.loss)


def test_averaging_by_retry_is_paid_for_every_time_and_ends():
    account, plan = JobFilter(RHO), world.plan("SELECT COUNT(*) AS n FROM visits", loss=RHO.scaled(Fraction(1, 10)))
    for _ in range(10):
        account.request(plan.loss)
    with pytest.raises(BudgetExhaustedError):
        account.request(plan.loss)
    assert account.spent == RHO
    # The mean of ten such answers is no sharper than one answer for all of the loss.
    one = world.plan("SELECT COUNT(*) AS n FROM visits", loss=RHO)
    assert plan.statistics[0].sigma / math.isqrt(10) >= one.statistics[0].sigma * Fraction(99, 100)


@pytest.mark.parametrize(
    "source",
    [
        "visits a CROSS JOIN visits b",
        "visits a, visits b",
        "visits a JOIN visits b ON TRUE",
        "visits a, range(1000000)",
    ],
)
def test_a_join_cannot_explode_the_rows_of_one_person(source):
    sql = f"SELECT COUNT(*) AS n FROM {source}"
    try:
        plan = world.plan(sql, loss=RHO)
    except SaggarError as error:
        check_family(error, "input.query")
        return
    found = [partials(sql, units, plan=plan) for units in (CROWD, {**CROWD, TARGET: [{}] * 30})]
    assert audit.cost_of(plan, *found) <= RHO.rho


def test_duplicate_rows_move_an_answer_by_the_bound_and_no_further():
    sql = "SELECT district, COUNT(*) AS n, SUM(age) AS s FROM visits GROUP BY district"
    plan = world.plan(sql, loss=RHO)
    base = partials(sql, CROWD, plan=plan)
    costs = [
        audit.cost_of(plan, base, partials(sql, {**CROWD, TARGET: [{"age": 120}] * copies}, plan=plan))
        for copies in (1, 4, 400)
    ]
    assert costs[0] < costs[1] == costs[2] <= RHO.rho


def test_null_keys_are_one_public_group_like_any_other():
    sql = "SELECT district, COUNT(*) AS n FROM visits GROUP BY district"
    rows = {unit: [{"district": None}] for unit in range(5)}
    shown = dict(answer(sql, rows).rows)
    assert shown[None] == 5
    assert None in dict(answer(sql, {}).rows), "whether somebody's key is missing must not show"


def test_time_zones_and_the_ends_of_the_calendar_change_no_group(monkeypatch):
    days = [dt.date(1, 1, 1), dt.date(2020, 1, 1), dt.date(2020, 2, 29), dt.date(2021, 12, 31), dt.date(9999, 12, 31)]
    units = {unit: [{"day": day}] for unit, day in enumerate(days)}
    sql = "SELECT DATE_TRUNC('month', day) AS m, COUNT(*) AS n FROM visits GROUP BY 1"
    digests = set()
    for zone in ("UTC", "Asia/Shanghai", "Pacific/Kiritimati", "America/St_Johns"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        engine = open_engine(1)
        digests.add(run_plan(world.plan(sql), [world.table(world.visits(units))], engine=engine).digest())
        engine.close()
    monkeypatch.delenv("TZ")
    time.tzset()
    assert len(digests) == 1
    shown = dict(answer(sql, units).rows)
    assert sum(shown.values()) == len(days), "a day beyond the public ends counts in the first or last month"


# --- errors and time as a channel ------------------------------------------------------------------------------------

CHANNELS = {
    "division": "SELECT SUM(1 / (age - 77)) AS s FROM visits",
    "modulo": "SELECT SUM(age % (age - 77)) AS s FROM visits",
    "cast": "SELECT SUM(CAST(diag AS INTEGER)) AS s FROM visits",
    "overflow": "SELECT SUM(free * free * free) AS s FROM visits",
    "power": "SELECT SUM(POWER(age, 400)) AS s FROM visits",
    "error function": "SELECT SUM(CASE WHEN age = 77 THEN error('x') ELSE 1 END) AS s FROM visits",
    "scalar subquery": "SELECT COUNT(*) AS n FROM visits WHERE age = (SELECT age FROM visits)",
    "cross join of one person's row": "SELECT COUNT(*) AS n FROM visits a, visits b, visits c WHERE a.age = 77",
    "regex": "SELECT COUNT(*) AS n FROM visits WHERE regexp_matches(diag, '(a+)+$')",
    "repeat": "SELECT COUNT(*) AS n FROM visits WHERE length(repeat(diag, 1000000000)) > 1",
    "sleep": "SELECT COUNT(*) AS n FROM visits WHERE sleep_ms(1000) IS NULL",
    "recursion": "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT COUNT(*) AS n FROM r",
}


@pytest.mark.parametrize("name", CHANNELS)
def test_no_persons_row_decides_whether_a_question_fails(name):
    """Either the text is refused before any row is seen, or it is total: it works with and without the person."""
    try:
        plan = world.plan(CHANNELS[name])
    except SaggarError as error:
        check_family(error, "input.query", "privacy.bound")
        return
    hostile = [{"age": 77, "diag": "a" * 40 + "!", "free": BIG, "cost": BIG}] * 4
    for units in (CROWD, {**CROWD, TARGET: hostile}):
        run_plan(plan, [world.table(world.visits(units))], engine=ENGINE)


def test_what_the_engine_says_about_values_reaches_nobody():
    table = world.table(world.visits({1: [{"diag": "secret-value"}]}))
    words = set()
    for sql in ("SELECT CAST(diag AS INTEGER) FROM t", "SELECT error(diag) FROM t", "SELECT nothing FROM t"):
        order = WorkOrder(
            world.plan("SELECT COUNT(*) AS n FROM visits").digest(), sql, (TableOrder("t", ("diag",)),), 0, 1
        )
        with pytest.raises(VaultError) as raised:
            order.run(ENGINE, table)
        words.add(str(raised.value.to_dict()))
    assert len(words) == 1
    assert "secret-value" not in words.pop()


# --- pitfalls that other engines fell into ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", " WHERE age > 21", " WHERE district = 'east'"])
def test_leaving_the_table_never_shifts_which_rows_of_others_are_kept(where):
    """A sample by row number or by an unkeyed hash of the row moves for everybody when one person leaves."""
    sql = f"SELECT age, COUNT(*) AS n FROM visits{where} GROUP BY age"
    description = world.describe(rows=2, groups=2)
    units = {unit: [{"age": 20 + (unit + visit) % 9, "district": "east"} for visit in range(5)] for unit in range(12)}
    whole = partials(sql, units, description)
    for leaver, own in units.items():
        rest = partials(sql, {u: rows for u, rows in units.items() if u != leaver}, description)
        alone = partials(sql, {leaver: own}, description)
        added = {key: rest.cells.get(key, (0,))[0] + alone.cells.get(key, (0,))[0] for key in whole.cells}
        assert added == {key: amounts[0] for key, amounts in whole.cells.items()}


def test_the_clamp_comes_after_the_users_expression():
    sql = "SELECT SUM(CASE WHEN age = 77 THEN cost * 1000000 ELSE 0 END) AS s FROM visits"
    plan = world.plan(sql, loss=RHO)
    found = [partials(sql, units, plan=plan) for units in (CROWD, {**CROWD, TARGET: [{"age": 77, "cost": BIG}] * 9})]
    assert audit.cost_of(plan, *found) <= RHO.rho


def test_a_missing_value_is_not_the_lower_bound_and_infinity_not_the_upper_one():
    rows = {unit: [{"cost": None}] for unit in range(4)} | {9: [{"cost": 70_000}]}
    shown = answer("SELECT COUNT(cost) AS n, SUM(cost) AS s, AVG(cost) AS a FROM visits", rows).rows[0]
    assert shown == (1, 700.0, 700.0)
    least = answer("SELECT SUM(LEAST(cost, 5)) AS s, SUM(GREATEST(cost, 5)) AS g FROM visits", rows).rows[0]
    assert least == (5.0, 700.0)


def test_no_measurement_with_data_in_it_is_ever_serialised():
    calls = re.compile(r"\bdp\.serialize|\bdp\.deserialize|make_privacy_filter|make_fully_adaptive|Context\.compositor")
    for path in (ROOT / "sandbox").rglob("*.py"):
        assert not calls.search(path.read_text(encoding="utf-8")), path.name


def test_a_question_that_is_refused_was_not_paid_for():
    account = JobFilter(RHO)
    for sql in CHANNELS.values():
        try:
            plan = world.plan(sql, loss=RHO.scaled(Fraction(1, 100)))
        except SaggarError:
            continue
        account.request(plan.loss)
    spent = account.spent
    refused("SELECT MIN(age) AS m FROM visits")
    assert account.spent == spent
    account.request(RHO.scaled(Fraction(1, 4)))


def test_the_noise_of_a_sum_does_not_grow_with_the_ceiling_on_rows():
    small, large = (
        world.plan("SELECT SUM(age) AS s FROM visits", world.describe(max_rows=most), loss=RHO)
        for most in (10**4, 10**9)
    )
    assert small.statistics[0].sigma == large.statistics[0].sigma


def test_the_loss_of_a_question_is_one_total_however_many_columns_it_has():
    many = ", ".join(f"SUM(age * {factor}) AS s{factor}, AVG(cost + {factor}) AS a{factor}" for factor in range(1, 8))
    plan = world.plan(f"SELECT COUNT(*) AS n, {many} FROM visits", loss=RHO)
    assert sum(statistic.rho for statistic in plan.statistics) <= RHO.rho
    assert plan.loss == quote_plan(plan).loss == RHO


def test_the_declared_size_of_a_table_clips_no_answer():
    crowd = {unit: [{}] * 4 for unit in range(60)}
    assert answer("SELECT COUNT(*) AS n FROM visits", crowd, world.describe(max_rows=100)).rows == ((240,),)


def test_public_keys_come_from_the_description_and_never_from_rows():
    stranger = {1: [{"district": "nowhere-in-the-domain"}] * 2, 2: [{"district": "east"}]}
    found = answer("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", stranger)
    assert [row[0] for row in found.rows] == [*world.DISTRICTS, None]
    assert "nowhere" not in str(found.to_record())


def test_no_plan_draws_at_random_or_depends_on_the_place_of_a_row():
    for sql in ("SELECT COUNT(*) AS n FROM visits WHERE age > 3", "SELECT diag, COUNT(*) AS n FROM visits GROUP BY 1"):
        text = world.plan(sql).sql.lower()
        assert not re.search(r"random|rowid|hash\(|uuid|now\(|current_", text)
        assert len({partials(sql, CROWD, plan=world.plan(sql)).digest() for _ in range(3)}) == 1


def test_nothing_that_arrives_from_outside_is_unpickled():
    banned = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    for path in (ROOT / "sandbox").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not banned & {name.split(".")[0] for name in names}, path.name
    with pytest.raises(CanonicalError):
        WorkOrder.parse(b"\x80\x04\x95\x00.")


def test_small_cells_keep_their_sign_so_that_sums_of_them_are_unbiased():
    noisy = OpenDpNoise().gaussian([0] * 2000, sigma=Fraction(20), sensitivity_squared=1, rho=Fraction(1))
    # Each sign has a chance above 0.48; missing 600 of 2000 has a chance below 1e-50.
    assert sum(value < 0 for value in noisy) > 600
    assert sum(value > 0 for value in noisy) > 600


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n FROM (SELECT * FROM visits LIMIT 1)",
        "SELECT COUNT(*) AS n FROM (SELECT *, row_number() OVER (ORDER BY age) AS r FROM visits) WHERE r = 1",
        "SELECT COUNT(*) AS n FROM visits TABLESAMPLE 10%",
        "SELECT COUNT(*) AS n FROM visits WHERE random() < 0.5",
        "SELECT COUNT(*) AS n FROM visits QUALIFY row_number() OVER (ORDER BY age) = 1",
        "SELECT SUM(SUM(age)) OVER () AS s FROM visits",
        "SELECT COUNT(*) AS n FROM visits WHERE now() > DATE '2020-01-01'",
        "SELECT COUNT(*) AS n FROM visits WHERE _rank = 1",
        "SELECT COUNT(*) AS n FROM visits WHERE _unit = 5",
    ],
)
def test_no_window_limit_sample_or_volatile_function_gets_below_the_bound(sql):
    assert isinstance(refused(sql), QueryError)


def test_peers_live_in_environments_of_their_own():
    scripts = sorted((ROOT / "benchmarks/peers").glob("peer_*.py"))
    assert len(scripts) >= 3
    for script in scripts:
        assert re.search(r"^# requires: \S+", script.read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("snsql", "pipeline_dp", "pyqrlew", "tmlt"):
        assert importlib.util.find_spec(name) is None
