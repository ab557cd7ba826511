"""What is counted in an array is what the plan's statement counts."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.compute import run, tally
from sandbox.compute.arrange import Groups
from sandbox.compute.run import run_plan
from sandbox.privacy.layout import Layout
from tests.support import privacy_world as world

ENGINE = run.open_engine(1)
QUESTIONS = {
    "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag": ("units", "rows"),
    "SELECT district, COUNT(*) AS n FROM visits GROUP BY district": ("rows",),
    "SELECT district, diag, COUNT(*) AS n FROM visits GROUP BY district, diag": ("units", "rows"),
    "SELECT diag, COUNT(*) AS n FROM visits WHERE age > 30 GROUP BY diag": ("units", "rows"),
    "SELECT MEDIAN(age) AS m FROM visits": ("rows",),
    "SELECT district, QUANTILE_CONT(age, 0.1) AS q FROM visits WHERE cost > 10 GROUP BY district": ("rows",),
}
SUMMED = (
    "SELECT diag, SUM(age) AS s FROM visits GROUP BY diag",
    "SELECT district, COUNT(cost) AS n FROM visits GROUP BY district",
    "SELECT district, MEDIAN(age) AS m, COUNT(*) AS n FROM visits GROUP BY district",
    "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district",
    "SELECT age, COUNT(*) AS n FROM visits GROUP BY age",
)


def rows_of():
    visit = st.fixed_dictionaries(
        {},
        optional={
            "diag": st.sampled_from(["a", "b", "", "陶", None]),
            "district": st.sampled_from(["north", "south", None]),
            "age": st.integers(-5, 130) | st.none(),
            "cost": st.integers(0, 50),
        },
    )
    return st.dictionaries(st.integers(1, 9), st.lists(visit, min_size=1, max_size=6), max_size=6)


@pytest.mark.parametrize("sql", QUESTIONS)
@given(data=st.data())
def test_an_array_counts_what_the_statement_counts(sql, data):
    plan = world.plan(sql, world.describe(rows=2, groups=2))
    assert plan.layout.counts == QUESTIONS[sql]
    whole = world.table(world.visits(data.draw(rows_of())))
    cut = data.draw(st.integers(0, len(whole)))
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "_SLICE", data.draw(st.integers(1, 40)))
        counted = run_plan(plan, [chunked], engine=ENGINE)
        patch.setattr(run, "tallied", unreachable)
        patch.setattr(run, "MOST_COUNTED", 0)
        assert run_plan(plan, [chunked], engine=ENGINE) == counted


def unreachable(*_):
    raise AssertionError("too many groups for an array are counted by the statement")


@pytest.mark.parametrize("sql", SUMMED)
def test_a_statement_that_does_more_runs(sql, monkeypatch):
    plan = world.plan(sql, world.describe(rows=2, groups=2))
    assert plan.layout.counts == ()
    monkeypatch.setattr(run, "tallied", unreachable)
    assert run_plan(plan, [world.table(world.visits({1: [{}]}))]).cells


def test_all_numbers_are_below_the_size():
    assert Groups([["a", "b"], ["c"]], [None, None]).size == 6
    assert Groups([], []).size == 1


def test_a_renumbered_digit_counts_what_is_left(monkeypatch):
    monkeypatch.setattr("sandbox.compute.arrange.WIDEST", 10)
    layout = Layout(("one", "other"), few=2, counts=("rows",))
    texts = {"one": pa.array(["a", "b", "c", "a"]), "other": pa.array(["x", "y", None, "x"])}
    whole = pa.table({"_unit": range(4), "_rank": pa.array([1] * 4, pa.int32()), **texts})
    statement = run.Statement("SELECT _group, count(*) FROM t GROUP BY _group", (("one", "other"),), 2, layout)
    found = dict(run.run_partition(ENGINE, statement, whole))
    assert found == {("a", "x"): (2,), ("b", "y"): (1,), ("c", None): (1,)}
