"""Models: right without noise, useful with it, never dearer than their loss, and refused where data is thin.

The statistical ones ask for errors far beyond what noise gives: a false alarm has a chance below 1e-6.
"""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sandbox.errors import BoundError, SaggarError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.model_document import ModelDocument, ModelInput, ModelKind
from sandbox.privacy.models.asking import COUNT_SHARE, Feature, Source, literal, needed
from sandbox.privacy.models.expecting import quote_model
from sandbox.privacy.models.planning import plan_model
from sandbox.privacy.models.regression import CURVATURE, fit_linear, fit_logistic
from sandbox.privacy.models.running import run_model
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
    assert pytest.approx(-2 * 2 * second / 16, abs=1e-4) == CURVATURE


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
    ask, loss = models.Asker(FEW), PrivacyLoss(Fraction(1, 1000))
    with pytest.raises(BoundError, match="the noise is as large as the sums") as raised:
        fit_linear(ask, "visits", SPENT, [AGE, INCOME, RENTS], loss)
    assert raised.value.code == "privacy.bound.rows_needed"
    assert ask.spent == loss.scaled(COUNT_SHARE), "nothing but the rows was counted"


def test_a_filter_and_a_bound_go_into_every_question_of_a_model():
    source = Source("visits", "home <> 'own' OR age < 9", 1, 1)
    ask = models.Asker(PEOPLE)
    fit_logistic(ask, source, "bad OR age > 99", [AGE], LOSS)
    fit_scorecard(ask, source, "bad OR age > 99", CARD, LOSS)
    draw_synthetic(ask, source, ["home", "town"], LOSS, seed=1)
    fit_linear(ask, source, SPENT, [AGE], LOSS)
    assert all("(home <> 'own' OR age < 9)" in question.sql for question in ask.questions)
    assert {(question.rows, question.groups) for question in ask.questions} == {(1, 1)}
    assert ask.questions[0].sql.endswith("WHERE (home <> 'own' OR age < 9) AND (bad OR age > 99)")


def documents():
    age, home = ModelInput("age", "age"), ModelInput("home", "home")
    bad = ModelInput("bad", "bad")
    many = tuple(ModelInput(f"f{n}", f"age * {n}") for n in range(1, 12))
    return [
        ModelDocument(ModelKind.LINEAR, "visits", "", ModelInput("spent", "spent"), (age,), 10),
        ModelDocument(ModelKind.LOGISTIC, "visits", "age > 3", bad, many, 10),
        ModelDocument(ModelKind.SCORECARD, "visits", "", bad, (replace(age, cuts=(Fraction(30),)), home), 10),
        ModelDocument(ModelKind.SYNTHETIC, "visits", "", None, (home, ModelInput("bad", "bad")), 10),
    ]


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.kind.value)
def test_a_model_asks_just_what_was_planned_and_its_answers_alone_make_it(document):
    tables = {"visits": models.DESCRIPTION}
    plan = plan_model(document, LOSS, tables, rows=2, groups=None)
    ask, answers = models.Asker(PEOPLE), []

    def kept(question):
        answers.append(ask(question))
        return answers[-1]

    first = run_model(plan, kept, LOSS, seed=b"s")
    assert ask.questions == [question for question, _ in plan.questions]
    assert ask.spent.rho <= LOSS.rho
    rest = iter(answers)
    assert run_model(plan, lambda _: next(rest), LOSS, seed=b"s") == first
    assert set(first) == {output.name for output in plan.outputs}
    assert {column for _, asked in plan.questions for column in asked.columns} == set(plan.reads[1])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"filter": "age > 3) OR (TRUE"}, "input.query.model", "is not one expression"),
        ({"filter": "age > 3 -- all"}, "input.query.model", "is not one expression"),
        ({"filter": "home = 'own"}, "input.query.model", "is not one expression"),
        ({"filter": "age > 3 SETTINGS noise = 'laplace'"}, "input.query.model", "their noise is Gaussian"),
        ({"inputs": (ModelInput("x", "age settings top = 'noisy_max'"),)}, "input.query.model", "take no SETTINGS"),
        ({"filter": "home = 'it''s (--'"}, "input.query.unknown_value", ""),
        ({"target": None}, "input.query.model", "the model has no target"),
        ({"inputs": ()}, "privacy.bound.features", "takes 1 to 20 features"),
        ({"inputs": (ModelInput("x", "CASE WHEN bad THEN 1 END"),)}, "input.query.model", "may be NULL"),
        ({"inputs": (ModelInput("x", "COUNT(*)"),)}, "input.query.aggregate_place", ""),
    ],
)
def test_what_cannot_be_planned_is_refused_before_any_question(change, code, message):
    with pytest.raises(SaggarError) as refused:
        plan_model(replace(documents()[1], **change), LOSS, {"visits": models.DESCRIPTION}, rows=None, groups=None)
    assert refused.value.code == code
    assert message in refused.value.message
    assert refused.value.hint


def test_a_model_without_the_setting_that_its_questions_refuse_is_planned():
    document = replace(documents()[1], filter="age > 3")
    plan = plan_model(document, LOSS, {"visits": models.DESCRIPTION}, rows=None, groups=None)
    assert not any(query.settings.laplace for _, query in plan.questions)


def test_a_scorecard_of_a_number_that_may_be_missing_and_too_many_characteristics_are_refused():
    tables = {"visits": models.DESCRIPTION}
    card = documents()[2]
    missing = replace(card.inputs[0], sql="CASE WHEN bad THEN age END")
    with pytest.raises(SaggarError, match="may be NULL"):
        plan_model(replace(card, inputs=(missing,)), LOSS, tables, rows=None, groups=None)
    with pytest.raises(BoundError, match="1 to 20 characteristics") as raised:
        fit_scorecard(models.Asker(FEW), "visits", "bad", CARD[:1] * 21, LOSS)
    assert raised.value.code == "privacy.bound.features"


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.kind.value)
def test_what_a_quote_expects_is_about_what_the_model_then_says(document):
    """Errors that a quote names before and a model after, on data as evenly spread as the quote takes it: within 3x."""
    plan = plan_model(document, LOSS, {"visits": models.DESCRIPTION}, rows=None, groups=None)
    quoted = quote_model(plan, LOSS)
    assert quoted.questions == len(plan.questions)
    assert quoted.counted == {"linear": "rows", "synthetic": ""}.get(document.kind.value, "positives")
    assert len(quoted.expected) == {"linear": 1, "logistic": 11, "scorecard": 2, "synthetic": 1}[document.kind.value]
    if document.kind is ModelKind.LINEAR:
        (expected,) = quoted.expected
        said = run_model(plan, models.Asker(PEOPLE), LOSS, seed=b"")["coefficients"]["rows"][1][4]
        assert 1 / 3 < said / (expected.standard_error * expected.rows / (2 * 4000)) < 3


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


def test_a_loss_that_shows_as_no_epsilon_is_refused_in_words():
    assert needed(1, PrivacyLoss(Fraction(1, 10**20))) == 70 * 10**6
