"""Models: right without noise, useful with it, never dearer than their loss, and refused where data is thin.

The statistical ones ask for errors far beyond what noise gives: a false alarm has a chance below 1e-6.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.models.asking import COUNT_SHARE, Feature, literal
from sandbox.privacy.models.regression import _CURVATURE, fit_linear, fit_logistic
from sandbox.privacy.models.scorecard import Characteristic, fit_scorecard
from sandbox.privacy.models.synthetic import draw_synthetic
from tests.support import models_world as models
from tests.support.privacy_world import NoNoise

PEOPLE = models.people(4000)
FEW = models.people(60)
LOSS = PrivacyLoss(Fraction(1, 20))
AGE, INCOME = (
    Feature("age", "age", Fraction(0), Fraction(100)),
    Feature("income", "income", Fraction(0), Fraction(1000)),
)
SPENT = Feature("spent", "spent", Fraction(-500), Fraction(1500))
RENTS = Feature("rents", "CASE WHEN home = 'rent' THEN 1 ELSE 0 END", Fraction(0), Fraction(1))
CARD = (
    Characteristic("age", "age", tuple(Fraction(cut) for cut in (20, 35, 50, 65, 80))),
    Characteristic("home", "home"),
)


def test_a_linear_regression_without_noise_is_the_least_squares_fit():
    fitted = fit_linear(models.Asker(PEOPLE, NoNoise()), "visits", SPENT, [AGE, INCOME], LOSS)
    age, income, spent = (PEOPLE.column(name).to_numpy() for name in ("age", "income", "spent"))
    matrix = np.column_stack([np.ones(len(age)), age, income / 10])
    exact, *_ = np.linalg.lstsq(matrix, spent / 10, rcond=None)
    assert [fitted.intercept, *fitted.coefficients] == pytest.approx(exact, rel=1e-6)


def test_a_linear_regression_finds_the_coefficients_through_noise_and_says_how_far_off_it_is():
    ask = models.Asker(PEOPLE)
    fitted = fit_linear(ask, "visits", SPENT, [AGE, INCOME], LOSS)
    assert fitted.coefficients[0] == pytest.approx(2, abs=8 * fitted.standard_errors[0] + 0.1)
    assert fitted.coefficients[1] == pytest.approx(0.5, abs=8 * fitted.standard_errors[1] + 0.01)
    assert fitted.standard_errors[0] < 1
    assert ask.spent.rho <= LOSS.rho
    assert fitted.card.loss == LOSS
    assert fitted.card.rows == pytest.approx(8000, abs=600)


def test_the_standard_errors_of_a_linear_regression_cover_what_the_noise_does():
    """40 fits of one table: the share within 3 standard errors of the fit without noise.  At least 30 of 40."""
    exact = fit_linear(models.Asker(PEOPLE, NoNoise()), "visits", SPENT, [AGE], LOSS).coefficients[0]
    ask, within, sizes = models.Asker(PEOPLE), 0, []
    for _ in range(40):
        fitted = fit_linear(ask, "visits", SPENT, [AGE], LOSS)
        within += abs(fitted.coefficients[0] - exact) <= 3 * fitted.standard_errors[0]
        sizes.append(abs(fitted.coefficients[0] - exact) / fitted.standard_errors[0])
    assert within >= 30
    assert max(sizes) > 0.3, "errors are so wide that they say nothing"


def test_the_curvature_is_that_of_the_chebyshev_parabola():
    points = [math.pi * (k + 0.5) / 2000 for k in range(2000)]
    second = 2 / 2000 * sum(-math.log1p(math.exp(-4 * math.cos(t))) * math.cos(2 * t) for t in points)
    assert pytest.approx(-2 * 2 * second / 16, abs=1e-4) == _CURVATURE


@pytest.mark.parametrize("noise", [NoNoise(), None])
def test_a_logistic_regression_ranks_as_well_as_the_truth_does(noise):
    ask = models.Asker(PEOPLE, noise)
    fitted = fit_logistic(ask, "visits", "bad", [AGE, RENTS], LOSS)
    age, home = PEOPLE.column("age").to_numpy(), PEOPLE.column("home").to_numpy(zero_copy_only=False)
    bad = PEOPLE.column("bad").to_numpy(zero_copy_only=False)
    truth = -1 - (age - 50) / 20 + (home == "rent")
    scores = fitted.intercept + fitted.coefficients[0] * age + fitted.coefficients[1] * (home == "rent")
    gap = models.area_under_curve(truth, bad) - models.area_under_curve(scores, bad)
    assert gap <= 0.015
    assert fitted.coefficients[0] < 0 < fitted.coefficients[1]
    assert ask.spent.rho <= LOSS.rho
    assert fitted.card.rule >= 70


def test_a_scorecard_ranks_as_well_as_the_truth_does_and_its_points_add_up():
    ask = models.Asker(PEOPLE)
    card = fit_scorecard(ask, "visits", "bad", CARD, LOSS)
    age, home = PEOPLE.column("age").to_numpy(), PEOPLE.column("home").to_numpy(zero_copy_only=False)
    bad = PEOPLE.column("bad").to_numpy(zero_copy_only=False)
    bins = np.searchsorted([20, 35, 50, 65, 80], age, side="right")
    scores = [card.score([int(place), kind]) for place, kind in zip(bins, home, strict=True)]
    truth = 1 + (age - 50) / 20 - (home == "rent")
    assert models.area_under_curve(truth, ~bad) - models.area_under_curve(scores, ~bad) <= 0.03
    assert ask.spent.rho <= LOSS.rho
    ages = dict(card.characteristics)["age"]
    assert ages[0].points < 0 < ages[-1].points
    assert len(ages) == 6
    assert {found.key for found in dict(card.characteristics)["home"]} >= {"own", "rent", "other"}


def test_a_thin_bin_gets_points_near_none():
    card = fit_scorecard(models.Asker(models.people(1500)), "visits", "bad", CARD[1:], PrivacyLoss(Fraction(1, 5)))
    rent, other = (next(b for b in card.characteristics[0][1] if b.key == key) for key in ("rent", "other"))
    assert rent.standard_error < other.standard_error
    assert abs(rent.points) > 0


@pytest.mark.parametrize("kind", ["logistic", "scorecard"])
def test_too_few_positives_are_found_by_a_noisy_count_and_the_model_is_refused(kind):
    ask = models.Asker(FEW)
    fit, learned = (fit_logistic, [AGE, RENTS]) if kind == "logistic" else (fit_scorecard, CARD)
    with pytest.raises(BoundError, match="positives x epsilon / features is below 70") as raised:
        fit(ask, "visits", "bad", learned, LOSS)
    assert raised.value.code == "privacy.bound.rows_needed"
    assert len(ask.questions) == 1, "nothing but the count was asked"
    assert ask.spent == LOSS.scaled(COUNT_SHARE)


def test_a_linear_regression_of_noise_is_refused():
    with pytest.raises(BoundError, match="the noise is as large as the sums") as raised:
        fit_linear(models.Asker(FEW), "visits", SPENT, [AGE, INCOME, RENTS], PrivacyLoss(Fraction(1, 1000)))
    assert raised.value.code == "privacy.bound.rows_needed"


def test_many_features_take_several_questions_and_one_loss():
    features = [Feature(f"f{n}", f"age * {n}", Fraction(0), Fraction(100 * n)) for n in range(1, 12)]
    ask = models.Asker(PEOPLE, NoNoise())
    fit_linear(ask, "visits", SPENT, features, LOSS)
    assert len(ask.questions) > 1
    assert ask.spent.rho <= LOSS.rho


@pytest.mark.parametrize("count", [0, 21])
def test_no_features_or_too_many_are_refused(count):
    with pytest.raises(BoundError, match="takes 1 to 20 features") as raised:
        fit_linear(models.Asker(FEW), "visits", SPENT, [AGE] * count, LOSS)
    assert raised.value.code == "privacy.bound.features"


def test_a_synthetic_table_keeps_pairs_of_the_tree_and_the_same_seed_draws_the_same_rows():
    ask = models.Asker(PEOPLE)
    made = draw_synthetic(ask, "visits", ["home", "town", "bad"], LOSS, seed=3)
    assert ("home", "town") in made.tree or ("town", "home") in made.tree
    own = sum(row[:2] == ("own", "a") for row in made.rows)
    exact = sum(
        h == "own" and t == "a"
        for h, t in zip(PEOPLE.column("home").to_pylist(), PEOPLE.column("town").to_pylist(), strict=True)
    )
    assert own / len(made.rows) == pytest.approx(exact / len(PEOPLE), abs=0.05)
    assert len(made.rows) == pytest.approx(len(PEOPLE), rel=0.1)
    assert ask.spent.rho <= LOSS.rho
    exactly = models.Asker(PEOPLE, NoNoise())
    one, two = (draw_synthetic(exactly, "visits", ["home", "town"], LOSS, seed=9, size=50) for _ in range(2))
    assert one == two
    assert one != draw_synthetic(exactly, "visits", ["home", "town"], LOSS, seed=10, size=50)


def test_a_synthetic_table_of_almost_nothing_is_still_a_table_of_public_values():
    made = draw_synthetic(
        models.Asker(FEW.slice(0, 0)), "visits", ["home", "town"], PrivacyLoss(Fraction(1, 100)), seed=1
    )
    assert {row[0] for row in made.rows} <= {"own", "rent", "other"}


def test_a_column_without_a_public_domain_cannot_be_synthesised():
    with pytest.raises(BoundError) as raised:
        draw_synthetic(models.Asker(FEW), "visits", ["home", "note"], LOSS, seed=1)
    assert raised.value.code == "privacy.bound.delta"


@pytest.mark.parametrize("columns", [["home"], ["home", "home"], [f"c{n}" for n in range(13)]])
def test_a_synthetic_table_of_the_wrong_width_is_refused(columns):
    with pytest.raises(BoundError, match="2 to 12 different columns"):
        draw_synthetic(models.Asker(FEW), "visits", columns, LOSS, seed=1)


def test_every_model_leaves_with_a_card_that_is_plain_data():
    import json

    fitted = fit_logistic(models.Asker(PEOPLE), "visits", "bad", [AGE], LOSS)
    card = fit_scorecard(models.Asker(PEOPLE), "visits", "bad", CARD, LOSS)
    made = draw_synthetic(models.Asker(PEOPLE), "visits", ["home", "town"], LOSS, seed=1, size=3)
    for record in (fitted.to_record(), card.to_record(), made.to_record()):
        assert json.loads(json.dumps(record))["card"]["epsilon"]
        assert record["card"]["quality"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [(Fraction(1, 2), "0.5"), (Fraction(0), "0"), (Fraction(100), "100"), (Fraction(1, 3), "0.333333")],
)
def test_literals_are_decimals_of_the_language(amount, text):
    assert literal(amount) == text
