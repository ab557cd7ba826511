"""What is computed in a shorter way is what the long way gives, exactly."""

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import CanonicalError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.estimate import value_of, valuer_of
from sandbox.privacy.histogram import BRANCHING, Placed, Tree, level_counts, levels_of, place_quantile, tree_counts
from sandbox.privacy.jet import Z
from sandbox.privacy.keys import join_key, join_keys
from sandbox.privacy.layout import Layout
from sandbox.privacy.partials import Partials
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


def place_plainly(tree, fraction, noisy, sigmas, z):
    """Place a quantile as its docstring says: leaf by leaf, in exact integers."""
    part, whole = fraction.numerator, fraction.denominator
    total = sum(noisy[tree.starts[0] : tree.starts[0] + BRANCHING])
    if total <= 0:
        return None
    fine, levels = 1 << 20, len(tree.starts)
    squares = [math.ceil(sigmas[start] ** 2 * fine) for start in tree.starts]
    above, limits = [], []
    for leaf in [*range(tree.leaves), BRANCHING**levels]:
        prefix, variance = 0, squares[0] * BRANCHING * part**2
        for level in range(1, levels + 1):
            node = leaf // BRANCHING ** (levels - level)
            left = node % BRANCHING if leaf < BRANCHING**levels else (BRANCHING if level == 1 else 0)
            start = tree.starts[level - 1] + node - node % BRANCHING if leaf < BRANCHING**levels else tree.starts[0]
            prefix += sum(noisy[start : start + left])
            # The top level is a part of the whole that it is compared with.
            variance += left * squares[level - 1] * ((whole - part) ** 2 - part**2 if level == 1 else whole**2)
        above.append(whole * prefix - part * total)
        limits.append(-(-(z.numerator**2 * variance) // (z.denominator**2 * fine)))
    over = [e > whole and (e - whole) ** 2 > limit for e, limit in zip(above, limits, strict=True)]
    under = [e < -whole and (e + whole) ** 2 > limit for e, limit in zip(above, limits, strict=True)]
    possible = [i for i in range(tree.leaves) if not over[i] and not under[i + 1]]
    place = min(sum(e < 0 for e in above[1:-1]), tree.leaves - 1)
    share = Fraction(1, 2)
    if above[place] < 0 < above[place + 1]:
        share = Fraction(-above[place], above[place + 1] - above[place])
    amount = tree.lower + place * tree.width + share * (tree.width - 1)
    ends = min([*possible, place]), max([*possible, place])
    highest = min(tree.lower + (ends[1] + 1) * tree.width - 1, tree.upper)
    return Placed(min(amount, Fraction(tree.upper)), Fraction(tree.lower + ends[0] * tree.width), Fraction(highest))


@given(st.data())
def test_a_quantile_is_placed_where_one_finds_it_leaf_by_leaf(data):
    leaves = data.draw(st.integers(1, 70))
    levels, before = levels_of(leaves), data.draw(st.integers(0, 3))
    starts = tuple(before + sum(BRANCHING**each for each in range(1, level)) for level in range(1, levels + 1))
    lower, width = data.draw(st.integers(-1000, 1000)), data.draw(st.integers(1, 5))
    upper = lower + leaves * width - data.draw(st.integers(1, width))
    tree = Tree(starts, leaves, lower, upper, width, Fraction(1, 100))
    count = starts[-1] + BRANCHING**levels
    size = data.draw(st.sampled_from([3, 1000, 2**40, 2**58, 2**63]))
    noisy = data.draw(st.lists(st.integers(-size, size), min_size=count, max_size=count))
    noisy[starts[0]] += data.draw(st.sampled_from([0, size]))
    sigma = data.draw(st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(87, 8), Fraction(2**50), Fraction(2**70)]))
    fraction = data.draw(st.fractions(0, 1, max_denominator=1000))
    given = (tree, fraction, noisy, [sigma * (1 + each % 2) for each in range(count)], Z)
    assert place_quantile(*given) == place_plainly(*given)


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
    assert plan.layout == Layout(groups=("diag",), few=3, firsts=True)
    assert plan.to_record()["layout"] == plan.layout.to_record()
    assert isinstance(plan.statistics[0].rho, Fraction)
