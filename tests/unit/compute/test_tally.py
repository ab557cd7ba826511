"""What is counted and summed in an array is what the plan's statement counts and sums."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.compute import run, tally
from sandbox.compute.arrange import Groups
from sandbox.compute.run import run_plan
from sandbox.errors import CanonicalError, VaultError
from sandbox.model.description import ColumnKind
from sandbox.privacy.layout import Layout
from sandbox.privacy.tallies import EXACT, Count, Factor, Sum, parse_tally
from tests.support import privacy_world as world

ENGINE = run.open_engine(1)
ROWS, UNITS = Count("rows"), Count("units")
AGE = Factor("age", 0, 120, 1, -60)
COST = Factor("cost", 0, 100_000, 1, -50_000)
MEAN_AGE, MEAN_COST = Sum((AGE,), -60, 60, 0), Sum((COST,), -50_000, 50_000, 0)
QUESTIONS = {
    "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag": (UNITS, ROWS),
    "SELECT district, COUNT(*) AS n FROM visits GROUP BY district": (ROWS,),
    "SELECT district, diag, COUNT(*) AS n FROM visits GROUP BY district, diag": (UNITS, ROWS),
    "SELECT diag, COUNT(*) AS n FROM visits WHERE age > 30 GROUP BY diag": (UNITS, ROWS),
    "SELECT MEDIAN(age) AS m FROM visits": (ROWS,),
    "SELECT district, QUANTILE_CONT(age, 0.1) AS q FROM visits WHERE cost > 10 GROUP BY district": (ROWS,),
    "SELECT district, COUNT(cost) AS n FROM visits GROUP BY district": (Count("rows", ("cost",)),),
    "SELECT district, SUM(age) AS s FROM visits GROUP BY district": (Sum((Factor("age", 0, 120, 1, 0),), 0, 120, 0),),
    "SELECT diag, SUM(age) AS s, COUNT(*) AS n FROM visits WHERE age > 30 GROUP BY diag": (UNITS, ROWS, MEAN_AGE),
    "SELECT district, AVG(cost) AS m FROM visits GROUP BY district": (Count("rows", ("cost",)), MEAN_COST),
    "SELECT district, SUM(3 - 2 * age) AS s FROM visits GROUP BY district": (
        Sum((Factor("age", 0, 120, -2, 3),), -237, 3, 0),
    ),
    "SELECT district, SUM(age * cost) AS s FROM visits WHERE delta < 0 GROUP BY district": (
        Sum((Factor("age", 0, 120, 1, 0), Factor("cost", 0, 100_000, 1, 0)), 0, 12_000_000, 0),
    ),
    "SELECT district, VAR_SAMP(age) AS v FROM visits GROUP BY district": (
        ROWS,
        MEAN_AGE,
        Sum((AGE, AGE), 0, 3600, 1800),
    ),
    "SELECT district, CORR(age, delta) AS c, VAR_POP(delta) AS v FROM visits GROUP BY district": (
        ROWS,
        MEAN_AGE,
        Sum((Factor("delta", -150, 60, 1, 45),), -105, 105, 0),
        Sum((AGE, Factor("delta", -150, 60, 1, 45)), -6300, 6300, 0),
        Sum((AGE, AGE), 0, 3600, 1800),
        Sum((Factor("delta", -150, 60, 1, 45),) * 2, 0, 11025, 5512),
    ),
}
MORE = (
    "SELECT diag, SUM(LEAST(age, 20)) AS s FROM visits GROUP BY diag",
    "SELECT district, SUM(CASE WHEN age > 20 THEN cost END) AS s FROM visits GROUP BY district",
    "SELECT district, SUM(age + delta) AS s FROM visits GROUP BY district",
    "SELECT district, SUM(FLOOR(age / 7)) AS s FROM visits GROUP BY district",
    "SELECT district, COUNT(CASE WHEN age > 20 THEN 1 END) AS n FROM visits GROUP BY district",
    "SELECT district, MEDIAN(age) AS m, COUNT(*) AS n FROM visits GROUP BY district",
    "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district",
    "SELECT age, COUNT(*) AS n FROM visits GROUP BY age",
    "SELECT district, COVAR_SAMP(cost, delta) AS v FROM visits GROUP BY district",
)
WHOLE = st.sampled_from([-(2**63), -(2**53) - 1, -1, 0, 1, 59, 60, 120, 121, 2**53 + 1, 2**63 - 1]) | st.integers(
    -5, 130
)


def rows_of():
    visit = st.fixed_dictionaries(
        {},
        optional={
            "diag": st.sampled_from(["a", "b", "", "陶", None]),
            "district": st.sampled_from(["north", "south", None]),
            "age": WHOLE | st.none(),
            "cost": WHOLE | st.integers(0, 10**5) | st.none(),
            "delta": WHOLE | st.integers(-160, 70),
        },
    )
    return st.dictionaries(st.integers(1, 9), st.lists(visit, min_size=1, max_size=6), max_size=6)


@pytest.mark.parametrize("sql", QUESTIONS)
@given(data=st.data())
def test_an_array_counts_what_the_statement_counts(sql, data):
    plan = world.plan(sql, world.describe(rows=2, groups=2))
    assert plan.layout.tallies == QUESTIONS[sql]
    whole = world.table(world.visits(data.draw(rows_of())))
    cut = data.draw(st.integers(0, len(whole)))
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "_SLICE", data.draw(st.integers(1, 40)))
        patch.setattr(tally, "EXACT", data.draw(st.sampled_from([EXACT, 1])))
        counted = run_plan(plan, [chunked], engine=ENGINE)
        patch.setattr(run, "tallied", unreachable)
        patch.setattr(run, "MOST_COUNTED", 0)
        assert run_plan(plan, [chunked], engine=ENGINE) == counted


def unreachable(*_):
    raise AssertionError("too many groups for an array are counted by the statement")


@pytest.mark.parametrize("sql", MORE)
def test_a_statement_that_does_more_runs(sql, monkeypatch):
    plan = world.plan(sql, world.describe(rows=2, groups=2))
    assert plan.layout.tallies == ()
    monkeypatch.setattr(run, "tallied", unreachable)
    assert run_plan(plan, [world.table(world.visits({1: [{}]}))]).cells


def test_all_numbers_are_below_the_size():
    assert Groups([["a", "b"], ["c"]], [None, None]).size == 6
    assert Groups([], []).size == 1


def test_a_renumbered_digit_counts_what_is_left(monkeypatch):
    monkeypatch.setattr("sandbox.compute.arrange.WIDEST", 10)
    layout = Layout(("one", "other"), few=2, tallies=(ROWS,))
    texts = {"one": pa.array(["a", "b", "c", "a"]), "other": pa.array(["x", "y", None, "x"])}
    whole = pa.table({"_unit": range(4), "_rank": pa.array([1] * 4, pa.int32()), **texts})
    statement = run.Statement("SELECT _group, count(*) FROM t GROUP BY _group", (("one", "other"),), 2, layout)
    found = dict(run.run_partition(ENGINE, statement, whole))
    assert found == {("a", "x"): (2,), ("b", "y"): (1,), ("c", None): (1,)}


def wide(upper):
    amount = world.column("amount", ColumnKind.INTEGER, -upper, upper, 1, nullable=True)
    return world.describe(rows=2, groups=2, max_rows=100, columns=(amount, *world.COLUMNS))


@pytest.mark.parametrize(("upper", "arrays"), [(10**7, True), (2**26, True), (2**27, False)])
def test_squares_of_wide_columns_are_exact(upper, arrays):
    """A double holds what one row adds; where it would not, the statement runs."""
    plan = world.plan("SELECT district, VAR_POP(amount) AS v FROM visits GROUP BY district", wide(upper))
    assert bool(plan.layout.tallies) is arrays
    amounts = [upper - 1, -upper, 3, None, upper] * 3
    rows = [{"_unit": unit, "_rank": 1, "district": "east"} for unit in range(len(amounts))]
    whole = world.table(rows).append_column("amount", pa.array(amounts, pa.int64()))
    found = run_plan(plan, [whole], engine=ENGINE).cells[("east",)]
    kept = [amount for amount in amounts if amount is not None]
    centre = plan.statistics[2].statistic.centre
    assert found == (len(kept), sum(kept), sum(amount**2 - centre for amount in kept))


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.date32()])
def test_a_column_that_is_not_of_whole_numbers_is_refused_without_its_values(kind):
    plan = world.plan("SELECT district, SUM(age) AS s FROM visits GROUP BY district", world.describe(rows=2, groups=2))
    whole = world.table(world.visits({1: [{}]}))
    whole = whole.set_column(whole.schema.get_field_index("age"), "age", pa.nulls(1, kind))
    with pytest.raises(VaultError, match="the engine failed on a partition") as refused:
        run_plan(plan, [whole], engine=ENGINE)
    assert refused.value.code == "vault.engine"


@pytest.mark.parametrize("one", [ROWS, UNITS, Count("rows", ("a", "b")), MEAN_AGE, Sum((AGE, COST), -7, 8, 3)])
def test_a_tally_comes_back(one):
    assert parse_tally(one.to_record()) == one


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"of": "sums", "present": []},
        {"of": "units", "present": ["age"]},
        {"of": "rows", "present": [], "more": 1},
        {**MEAN_AGE.to_record(), "more": 1},
        {**MEAN_AGE.to_record(), "factors": []},
        {**MEAN_AGE.to_record(), "lower": "9", "upper": "8"},
        {**MEAN_AGE.to_record(), "upper": str(EXACT + 1)},
        {**MEAN_AGE.to_record(), "lower": str(-EXACT), "centre": "1"},
        {**MEAN_AGE.to_record(), "factors": [{**AGE.to_record(), "upper": "-1"}]},
        {**MEAN_AGE.to_record(), "factors": [{**AGE.to_record(), "times": str(EXACT)}]},
        {**MEAN_AGE.to_record(), "factors": [{**AGE.to_record(), "more": 1}]},
        {**MEAN_AGE.to_record(), "factors": [{**AGE.to_record(), "upper": str(2**27)}] * 2},
    ],
)
def test_a_tally_that_an_array_could_get_wrong_is_refused(record):
    with pytest.raises(CanonicalError, match="a layout is malformed"):
        parse_tally(record)


@pytest.mark.parametrize("of", [Sum((AGE,), -10, 10, 0), Sum((AGE, AGE), 5, 100, 3)])
def test_the_bounds_of_a_sum_hold_last_of_all(of):
    ages = [0, 30, 61, 120]
    whole = pa.table({"age": ages, "_group": pa.array([0] * 4, pa.int8())})
    layout = Layout(("one",), few=1, carried=("age",), tallies=(of,))
    moved = [(age - 60) ** len(of.factors) for age in ages]
    expected = sum(min(max(value, of.lower), of.upper) - of.centre for value in moved)
    assert list(tally.tallied(whole, Groups([["x"]], [None]), layout)) == [(("x",), (expected,))]
