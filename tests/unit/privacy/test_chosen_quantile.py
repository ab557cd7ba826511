"""One quantile by report-noisy-max: what may be asked, what it costs and what is released."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.compute.noise_pool import ThreadedNoise
from sandbox.errors import BoundError, PrivacyError, QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import OtherUnit
from sandbox.privacy.accuracy import relative_error
from sandbox.privacy.chosen_quantile import MAX_SCORE, check_chosen_quantile, leaf_scores, reach_of
from sandbox.privacy.mechanism import choice_measurement, choice_scale
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.parse import parse_select
from sandbox.privacy.quote import quote_plan
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.chosen_world import RHO, SETTING, SQL, UNITS, measured

# Scores


@pytest.mark.parametrize(
    ("bins", "fraction", "scores"),
    [
        ([1, 1, 1], Fraction(1, 2), [-1, 0, -1]),
        ([5, 0, 5], Fraction(1, 2), [0, 0, 0]),
        ([5, 0, 6], Fraction(1, 2), [-1, -1, 0]),
        ([9, 0, 1], Fraction(9, 10), [0, 0, 0]),
        ([0, 0], Fraction(1, 3), [0, 0]),
        ([2, 2, 2, 2], Fraction(1, 4), [0, 0, -8, -16]),
    ],
)
def test_a_score_is_how_far_a_bin_is_from_the_wanted_rank(bins, fraction, scores):
    assert leaf_scores(bins, fraction) == scores


counts = st.lists(st.integers(0, 50), min_size=1, max_size=12)
fractions = st.fractions(Fraction(1, 50), Fraction(49, 50), max_denominator=50)


@given(counts, fractions)
def test_some_bin_always_holds_the_wanted_rank_and_rows_between_are_what_a_score_says(bins, fraction):
    scores, below = leaf_scores(bins, fraction), [0, *itertools.accumulate(bins)]
    assert max(scores) == 0
    holding = [i for i, score in enumerate(scores) if score == 0]
    for i, score in enumerate(scores):
        between = max(below[i] - below[holding[-1] + 1], below[holding[0]] - below[i + 1])
        assert between <= -score / fraction.denominator


def test_scores_stay_within_64_bits_whatever_the_counts():
    assert leaf_scores([2**62] * 3, Fraction(1, 9999)) == [0, -MAX_SCORE, -MAX_SCORE]


def worst_move(bins, fraction, rows):
    """How far `rows` more rows, or fewer, in any bins move any score: tried over all ways to place them."""
    before, found = leaf_scores(bins, fraction), []
    for places in itertools.combinations_with_replacement(range(len(bins)), rows):
        more, fewer = list(bins), list(bins)
        for place in places:
            more[place] += 1
            fewer[place] -= 1
        for after in (more, *([fewer] if min(fewer) >= 0 else [])):
            found += [abs(a - b) for a, b in zip(leaf_scores(after, fraction), before, strict=True)]
    return max(found)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("fraction", [Fraction(1, 2), Fraction(1, 4), Fraction(2, 3), Fraction(9, 10)])
def test_the_sensitivity_is_exact_over_all_neighbours_of_all_small_tables(rows, fraction):
    moves = [worst_move(list(bins), fraction, rows) for bins in itertools.product(range(5), repeat=4)]
    assert max(moves) == rows * max(fraction.numerator, fraction.denominator - fraction.numerator)
    plan = world.plan(
        f"SELECT QUANTILE_CONT(age, {float(fraction)}) AS q FROM visits" + SETTING, world.describe(rows=rows, groups=1)
    )
    if fraction != Fraction(2, 3):  # which a decimal literal cannot say
        assert plan.leaf_choice.sensitivity == max(moves)


@given(counts, counts, fractions)
def test_whatever_rows_come_and_go_each_moves_a_score_by_no_more_than_the_proof_says(bins, others, fraction):
    width = max(len(bins), len(others))
    one, other = ([*side, *([0] * (width - len(side)))] for side in (bins, others))
    rows = sum(abs(a - b) for a, b in zip(one, other, strict=True))
    moved = [abs(a - b) for a, b in zip(leaf_scores(one, fraction), leaf_scores(other, fraction), strict=True)]
    assert max(moved) <= rows * max(fraction.numerator, fraction.denominator - fraction.numerator)


# The mechanism


@pytest.mark.parametrize("sensitivity", [1, 7, 9 * 20])
@pytest.mark.parametrize("rho", [Fraction(1, 2), Fraction(1, 3), Fraction(7, 1000)])
def test_the_scale_is_rounded_against_us_and_fits_the_map_of_opendp(sensitivity, rho):
    scale = choice_scale(sensitivity, rho)
    assert 2 * scale**2 * rho >= sensitivity**2
    assert Fraction(choice_measurement(float(scale)).map(sensitivity)) <= rho
    assert 2 * scale**2 * rho <= sensitivity**2 * (1 + Fraction(1, 10**9)), "no more noise than the loss asks for"


def test_a_choice_without_loss_is_refused():
    with pytest.raises(BoundError, match="beyond 58 bits") as raised:
        choice_scale(3, Fraction(0))
    assert raised.value.code == "privacy.bound.loss"


def test_noise_for_less_than_the_claim_does_not_pass_the_map():
    scale = choice_scale(5, Fraction(1))
    assert OpenDpNoise().best([[0, -400], [-400, 0]], scale=scale, sensitivity=5, rho=Fraction(1)) == [0, 1]
    for how in ({"scale": scale / 2, "sensitivity": 5}, {"scale": scale, "sensitivity": 6}):
        with pytest.raises(PrivacyError, match="too little for its share") as raised:
            OpenDpNoise().best([[0, -1]], rho=Fraction(1), **how)
        assert raised.value.code == "privacy.guard"


def test_threads_choose_in_every_group_in_order():
    groups = [[-(10**6) * abs(place - best) for place in range(50)] for best in range(50)]
    how = {"scale": choice_scale(1, Fraction(1)), "sensitivity": 1, "rho": Fraction(1)}
    assert ThreadedNoise(2).best(groups, **how) == list(range(50))
    assert ThreadedNoise(2).best(groups[:3], **how) == [0, 1, 2]


# The plan


def test_half_of_the_loss_chooses_and_half_pays_for_the_tree():
    plan = world.plan(SQL + SETTING, world.describe(rows=4, groups=2), loss=RHO)
    tree = world.plan(SQL, world.describe(rows=4, groups=2), loss=PrivacyLoss(RHO.rho / 2))
    assert plan.statistics == tree.statistics
    assert plan.leaf_choice.rho + sum(s.rho for s in plan.statistics) == plan.loss.rho == RHO.rho
    assert plan.leaf_choice.sensitivity == 4
    assert plan.leaf_choice.leaves == plan.estimates[0].tree.leaves == 121
    assert plan.digest() != world.plan(SQL, world.describe(rows=4, groups=2), loss=RHO).digest()


def test_what_the_choice_costs_rests_on_rows_and_fraction_and_not_on_the_number_of_groups():
    by_key, alone = (
        world.plan(sql + SETTING, world.describe(rows=4, groups=2), loss=RHO).leaf_choice
        for sql in (SQL, "SELECT MEDIAN(age) AS m FROM visits")
    )
    assert by_key == alone
    ninth = world.plan(
        "SELECT QUANTILE_CONT(age, 0.9) AS q FROM visits" + SETTING, world.describe(rows=4, groups=2), loss=RHO
    ).leaf_choice
    assert (ninth.sensitivity, ninth.scale) == (4 * 9, choice_scale(36, RHO.rho / 2))


REFUSED_SHAPES = {
    "another aggregate": SQL.replace("AS m", "AS m, COUNT(*) AS n"),
    "a further quantile": SQL.replace("MEDIAN(age)", "QUANTILE_CONT(age, [0.1, 0.5])"),
    "a quantile of something else": SQL.replace("AS m", "AS m, MEDIAN(cost) AS c"),
    "an aggregate in HAVING": SQL + " HAVING COUNT(*) > 5",
    "no quantile": SQL.replace("MEDIAN", "AVG"),
    "private keys": SQL.replace("district", "diag"),
    "rescaling": SQL + " SETTINGS bounding = 'rescale'",
    "weights": SQL + " SETTINGS weights = (1)",
}


@pytest.mark.parametrize("name", REFUSED_SHAPES)
def test_any_other_shape_is_refused_with_the_one_that_works(name):
    sql = REFUSED_SHAPES[name]
    setting = SETTING if "SETTINGS" not in sql else ", quantile = 'noisy_max'"
    with pytest.raises(QueryError, match="chooses one quantile, by itself, over public keys or none") as raised:
        world.plan(sql + setting)
    assert raised.value.code == "input.query.quantile"
    assert raised.value.details["line"] == 1
    assert "GROUP BY district, without other aggregates" in raised.value.hint


def test_rollup_and_the_other_choice_are_refused_where_they_are_looked_at_first():
    rolled = SQL.replace("GROUP BY district", "AND district IS NOT NULL GROUP BY ROLLUP (district)")
    with pytest.raises(QueryError) as raised:
        world.plan(rolled + SETTING)
    assert raised.value.code == "input.query.rollup"
    with pytest.raises(QueryError) as raised:
        world.plan(SQL + SETTING + ", top = 'noisy_max'")
    assert raised.value.code == "input.query.top"


@pytest.mark.parametrize("fraction", ["0", "1"])
def test_the_least_and_the_largest_value_are_refused(fraction):
    with pytest.raises(QueryError, match="not for the least or the largest value") as raised:
        world.plan(f"SELECT QUANTILE_CONT(age, {fraction}) AS q FROM visits" + SETTING)
    assert raised.value.code == "input.query.quantile"
    assert "QUANTILE_CONT(cost, 0.95)" in raised.value.hint


def test_tables_that_protect_two_kinds_and_exchanged_rows_are_refused():
    text, select, settings = parse_select(SQL + SETTING)
    query = replace(world.check(SQL), settings=settings)
    check_chosen_quantile(text, select, query)
    with pytest.raises(QueryError, match="nor for a table that protects two kinds") as raised:
        check_chosen_quantile(text, select, replace(query, others=(OtherUnit("firm", "firm", "企业", 1),)))
    assert raised.value.code == "input.query.quantile"
    assert "read from a noisy tree" in raised.value.hint


def test_a_join_is_chosen_from_as_many_rows_as_its_bound_and_a_left_join_of_two_datasets_is_refused():
    sql = "SELECT MEDIAN(v.age) AS m FROM visits v {} claims c ON v.patient = c.insured" + SETTING
    assert joins.plan(sql.format("JOIN")).leaf_choice.sensitivity == 3
    own = "SELECT MEDIAN(w.age) AS m FROM visits v LEFT JOIN visits w USING (patient)" + SETTING
    assert joins.plan(own).leaf_choice.sensitivity == joins.plan(own).bound.rows
    with pytest.raises(QueryError, match="is not for a LEFT JOIN of two datasets") as raised:
        joins.plan(sql.format("LEFT JOIN"))
    assert raised.value.code == "input.query.quantile"


@pytest.mark.parametrize("value", ["'best'", "TRUE", "0.5"])
def test_the_setting_has_one_value(value):
    with pytest.raises(QueryError) as raised:
        world.plan(f"{SQL} SETTINGS quantile = {value}")
    assert raised.value.code == "input.query.setting"


# The answer


def test_without_noise_the_value_is_the_quantile_of_every_group_and_its_interval_the_trees():
    plan, found = measured()
    _, read = measured(SQL, loss=PrivacyLoss(RHO.rho / 2))
    for row, other in zip(found.answer.rows[:2], read.answer.rows, strict=False):
        ages = [a["age"] for rows in UNITS.values() for a in rows if a["district"] == row[0] and a["age"] >= 5]
        assert abs(row[1] - np.median(ages)) <= 1
        assert abs(row[1] - other[1]) <= 1
    assert found.answer.lower[:2] == read.answer.lower[:2]
    assert found.answer.upper[:2] == read.answer.upper[:2]
    assert found.answer.rows[2][1] is None, "a group without rows has no median"
    assert plan.leaf_choice is not None


class Elsewhere(world.NoNoise):
    """Chooses the last bin, whatever the scores."""

    def best(self, groups, **_):
        return [len(scores) - 1 for scores in groups]


def test_the_interval_reaches_to_the_value_wherever_that_was_chosen():
    _, found = measured(noise=Elsewhere())
    _, read = measured(SQL, loss=PrivacyLoss(RHO.rho / 2))
    for side in (0, 1):
        assert found.answer.rows[side][1] == 120
        assert found.answer.upper[side][1] == 120
        assert found.answer.lower[side][1] == read.answer.lower[side][1]


def test_in_a_wide_bin_the_value_lies_where_the_tree_puts_it():
    sql = "SELECT MEDIAN(cost) AS m FROM visits"
    plan, found = measured(sql + SETTING, loss=PrivacyLoss(Fraction(10**6)))
    _, read = measured(sql, loss=PrivacyLoss(Fraction(10**6)))
    assert plan.estimates[0].tree.width == 98
    assert found.answer.rows == read.answer.rows
    assert abs(found.answer.rows[0][0] - np.median([100 * u for u in UNITS]) / 100) <= 1


def test_having_order_arithmetic_and_showing_work_on_the_released_value():
    sql = SQL.replace("AS m", "AS m, MEDIAN(age) * 2 AS d") + " HAVING m > 1 ORDER BY m DESC LIMIT 1"
    plan, found = measured(sql + SETTING + ", round = TRUE")
    assert len(plan.estimates) == 1
    (row,) = found.answer.rows
    assert row[2] == pytest.approx(2 * row[1], abs=2)
    assert any("rows were chosen by their noisy values" in note for note in found.answer.notes)


def test_a_first_step_and_a_filter_are_in_the_language():
    plan, found = measured(
        "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) SELECT MEDIAN(n) AS m FROM p" + SETTING
    )
    assert plan.leaf_choice.sensitivity == 1
    assert found.answer.rows[0][0] == 3
    filtered, _ = measured("SELECT MEDIAN(age) FILTER (WHERE urgent) AS m FROM visits" + SETTING)
    assert filtered.leaf_choice.sensitivity == 4


def test_quote_and_answer_say_how_the_value_was_chosen_and_how_far_its_rank_may_be_off():
    plan, found = measured()
    rows = math.ceil(float(plan.leaf_choice.scale) * math.log(20 * 121) / 2)
    quote = quote_plan(plan)
    for notes in (quote.notes, found.answer.notes):
        said = " ".join(notes)
        assert "chosen by report-noisy-max among 121 public bins, for half of the loss" in said
        assert f"in 19 of 20 answers, at most {rows} rows lie between" in said
        assert f"a group of fewer than {2 * rows - 1} rows has less on one side of that rank" in said
        assert "those of the noisy tree" in said
    assert quote.statistics[0].mechanism == "report-noisy-max beside a noisy tree"
    assert quote.statistics[0].half_width_95 > 0
    half = quote_plan(world.plan(SQL, world.describe(rows=4, groups=2), loss=PrivacyLoss(RHO.rho / 2)))
    assert quote.statistics[0].half_width_95 == half.statistics[0].half_width_95
    assert 0 < relative_error(plan, 1000) < 1


def test_the_reach_of_the_notes_is_that_of_the_law():
    """In the worst table all other bins are behind by the reach: one of them is chosen in 1 of 20 answers at most."""
    choice = world.plan(SQL + SETTING, loss=RHO).leaf_choice
    weight = (choice.leaves - 1) * math.exp(-float(reach_of(choice, Fraction(1, 20)) / choice.scale))
    assert weight / (1 + weight) <= 1 / 20
