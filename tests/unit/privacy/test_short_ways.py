"""What is computed in a shorter way is what the long way gives, exactly."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import CanonicalError
from sandbox.privacy.estimate import MISSING, value_of, valuer_of
from sandbox.privacy.histogram import BRANCHING, level_counts, levels_of, tree_counts
from sandbox.privacy.keys import join_key, split_key
from sandbox.privacy.layout import PLAIN, Layout
from tests.support import privacy_world as world

QUESTIONS = (
    "SELECT COUNT(*) AS n FROM visits",
    "SELECT COUNT(DISTINCT patient) AS n FROM visits",
    "SELECT SUM(delta) AS s FROM visits",
    "SELECT COUNT(*) AS n, SUM(cost) AS s, AVG(cost) AS m, COUNT(cost) AS c FROM visits",
    "SELECT COUNT(DISTINCT district) AS d, SUM(age) * 2 AS s FROM visits",
)


@given(st.sampled_from(QUESTIONS), st.data())
def test_one_error_for_all_cells_is_the_error_of_each(sql, data):
    plan = world.plan(sql)
    sigmas = plan.entry_sigmas()
    amount = st.integers(-(2**62), 2**62) | st.fractions() | st.integers(-(10**310), 10**310)
    noisy = data.draw(st.lists(amount, min_size=len(sigmas), max_size=len(sigmas)))
    for formula in plan.formulas:
        expected = value_of(formula, plan.estimates, noisy, sigmas)
        assert valuer_of(formula, plan.estimates, sigmas)(noisy) == expected


def test_what_no_float_holds_is_missing():
    plan = world.plan(QUESTIONS[0])
    assert valuer_of(plan.formulas[0], plan.estimates, plan.entry_sigmas())([10**301]) == MISSING


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_every_level_sums_the_leaves_below_its_nodes(leaves):
    levels = levels_of(len(leaves))
    for level in range(1, levels + 1):
        size = BRANCHING ** (levels - level)
        expected = [sum(leaves[node * size : (node + 1) * size]) for node in range(BRANCHING**level)]
        assert tree_counts(leaves)[level - 1] == level_counts(leaves, level) == expected


@given(st.lists(st.none() | st.text(), max_size=4))
def test_a_joined_key_is_json_and_comes_back(parts):
    joined = join_key(tuple(parts))
    assert joined == json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    assert split_key(joined, len(parts)) == tuple(parts)


@pytest.mark.parametrize("layout", [PLAIN, Layout(clustered=True), Layout(True, ("a", "b"), 7)])
def test_a_layout_comes_back_from_its_record(layout):
    assert Layout.parse(layout.to_record()) == layout


@pytest.mark.parametrize(
    "change",
    [
        {"firsts": 3},
        {"firsts": 3, "clustered": True},
        {"firsts": 3, "groups": ["a"]},
        {"more": 1},
    ],
)
def test_a_layout_that_no_plan_writes_is_refused(change):
    with pytest.raises(CanonicalError, match="a layout is malformed") as raised:
        Layout.parse(PLAIN.to_record() | change)
    assert raised.value.code == "input.canonical"


def test_a_plans_digest_names_its_layout():
    plan = world.plan("SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag", world.describe(rows=3, groups=3))
    assert plan.layout == Layout(clustered=True, groups=("diag",), firsts=3)
    assert plan.to_record()["layout"] == plan.layout.to_record()
    assert isinstance(plan.statistics[0].rho, Fraction)
