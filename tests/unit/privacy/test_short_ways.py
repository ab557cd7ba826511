"""What is computed in a shorter way is what the long way gives, exactly."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.estimate import value_of, valuer_of
from sandbox.privacy.histogram import BRANCHING, level_counts, levels_of, tree_counts
from sandbox.privacy.keys import join_key, join_keys
from sandbox.privacy.layout import Layout
from sandbox.privacy.partials import Partials
from sandbox.privacy.tallies import Count
from sandbox.privacy.value import MISSING
from tests.support import privacy_world as world

QUESTIONS = (
    "SELECT COUNT(*) AS n FROM visits",
    "SELECT COUNT(DISTINCT patient) AS n FROM visits",
    "SELECT SUM(delta) AS s FROM visits",
    "SELECT COUNT(*) AS n, SUM(cost) AS s, AVG(cost) AS m, COUNT(cost) AS c FROM visits",
    "SELECT COUNT(DISTINCT district) AS d, SUM(age) * 2 AS s FROM visits",
    "SELECT MEDIAN(age) AS m, QUANTILE_CONT(age, 0.9) AS q FROM visits",
    "SELECT AVG(delta) AS m, AVG(age) AS f FROM visits SETTINGS weights = (3, 1)",
)


@given(st.sampled_from(QUESTIONS), st.sampled_from([Fraction(1, 50), Fraction(10)]), st.data())
def test_what_is_found_once_for_all_cells_is_what_each_gives(sql, rho, data):
    plan = world.plan(sql, loss=PrivacyLoss(rho, Fraction(1, 10**6)))
    sigmas = plan.entry_sigmas()
    amount = (
        st.integers(-1000, 10**4) | st.integers(-(2**62), 2**62) | st.fractions() | st.integers(-(10**310), 10**310)
    )
    noisy = data.draw(st.lists(amount, min_size=len(sigmas), max_size=len(sigmas)))
    for formula in plan.formulas:
        expected = value_of(formula, plan.estimates, noisy, sigmas)
        assert valuer_of(formula, plan.estimates, sigmas)(noisy) == expected


def test_what_no_float_holds_is_missing():
    plan = world.plan(QUESTIONS[0])
    assert valuer_of(plan.formulas[0], plan.estimates, plan.entry_sigmas())([10**301]) == MISSING


@given(
    st.dictionaries(
        st.lists(st.none() | st.text(), min_size=2, max_size=2).map(tuple),
        st.tuples(st.integers(-(2**70), 2**70), st.just(0) | st.integers()),
        max_size=5,
    )
)
def test_the_bytes_of_partials_are_the_canonical_ones(cells):
    partials = Partials("sm3:plan", cells)
    assert partials.to_bytes() == canonical_bytes(partials.to_record())


def test_partials_that_have_no_canonical_form_are_refused():
    with pytest.raises(CanonicalError, match="value has no canonical form"):
        Partials("sm3:plan", {("\ud800",): (1,)}).to_bytes()


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_every_level_sums_the_leaves_below_its_nodes(leaves):
    levels = levels_of(len(leaves))
    for level in range(1, levels + 1):
        size = BRANCHING ** (levels - level)
        expected = [sum(leaves[node * size : (node + 1) * size]) for node in range(BRANCHING**level)]
        assert tree_counts(leaves)[level - 1] == level_counts(leaves, level) == expected


@given(st.lists(st.lists(st.none() | st.text(), max_size=4).map(tuple), max_size=4))
def test_a_joined_key_is_json_and_many_are_joined_as_one_is(keys):
    joined = [json.dumps(key, ensure_ascii=False, separators=(",", ":")) for key in keys]
    assert joined == [join_key(key) for key in keys] == join_keys(keys)


def test_a_plans_digest_names_its_layout():
    plan = world.plan("SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag", world.describe(rows=3, groups=3))
    assert plan.layout == Layout(groups=("diag",), few=3, firsts=True, tallies=(Count("units"), Count("rows")))
    assert plan.to_record()["layout"] == plan.layout.to_record()
    assert isinstance(plan.statistics[0].rho, Fraction)
