"""Linear and logistic regression from noisy sufficient statistics: one pass over the data, no iteration, no gradient.

Both ask for sums of products of centred features, which the language bounds exactly.  The logistic loss is replaced by
the parabola that fits it best on a public range of scores, so the same sums suffice for it.

Source: Vu and Slavkovic 2009, Foulds et al. 2016 (arXiv 1603.07294) for noisy sufficient statistics; Huggins, Adams,
Broderick 2017 (arXiv 1709.09216) for the parabola.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.models.asking import (
    COUNT_SHARE,
    Ask,
    Feature,
    ModelCard,
    Source,
    check_enough,
    column,
    count_question,
    source_of,
)
from sandbox.privacy.models.numerics import Array, Matrix, applied, eigen_symmetric, product

MAX_FEATURES = 20
_SUMS = 60
CURVATURE = 0.1633
"""Minus twice the last coefficient of the Chebyshev parabola of -log(1 + exp(-s)) on [-4, 4]; a test computes it."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Noisy sums of products of scaled features, each between -1 and 1; the first feature is the constant 1.

    Attributes:
        products: shape (d, d), symmetric: sum of z_i z_j.
        responses: shape (d,): sum of z_i y, with y scaled as well.
        product_errors, response_errors: the standard errors of the noise, of the same shapes.
        notes: of the answers.
    """

    products: Array
    responses: Array
    product_errors: Array
    response_errors: Array
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Regression:
    """A fitted model: score = intercept + sum of coefficients times features; a logistic one predicts log-odds.

    Attributes:
        intercept, intercept_error: in the target's measure (linear) or in log-odds (logistic).
        coefficients, standard_errors: one for each feature, in its own measure; the errors are those of the noise.
        card: what to know.
    """

    intercept: float
    intercept_error: float
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    card: ModelCard

    def to_record(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return {
            "v": 1,
            "intercept": self.intercept,
            "intercept_error": self.intercept_error,
            "coefficients": list(self.coefficients),
            "standard_errors": list(self.standard_errors),
            "card": self.card.to_record(),
        }


def fit_linear(
    ask: Ask, source: Source | str, target: Feature, features: Sequence[Feature], loss: PrivacyLoss
) -> Regression:
    """Return a linear regression.

    Args:
        ask: asks a question; the losses of all questions sum to `loss`.
        source: which rows, or the name of a table for all of its rows.
        target: what is predicted.
        features: what it is predicted from, at most `MAX_FEATURES`.
        loss: of the whole model.

    Raises:
        BoundError: too many features, or too few rows for any fit (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together; `COUNT_SHARE` of it counts rows first.
    """
    _check_width(features)
    source, size = source_of(source), len(features) + 1
    counted = ask(count_question(source, "", loss))
    # A sum of products of scaled features is noised as a count is, but for its share of the loss.
    expected = column(counted, "n")[1][0] * math.sqrt(COUNT_SHARE / (1 - COUNT_SHARE) * count_sums(len(features)))
    _check_rows(float(counted.lower[0][0] or 0), expected, size)
    found = ask_moments(ask, source, target, features, loss.scaled(1 - COUNT_SHARE))
    _check_rows(float(found.products[0, 0]), float(found.product_errors.max()), size)
    weights, covariance = _solve(found, curvature=1.0, slope=1.0)
    half = float(target.half)
    scaled = [weight * half for weight in weights]
    spread = [[cell * half * half for cell in row] for row in covariance]
    card = _card("linear", source, target.name, features, loss, found)
    return _in_measure(scaled, spread, float(target.middle), features, card)


def fit_logistic(
    ask: Ask, source: Source | str, target: str, features: Sequence[Feature], loss: PrivacyLoss
) -> Regression:
    """Return a logistic regression of a condition, refused below the rule of rows needed.

    Args:
        ask: asks a question; the losses of all questions sum to `loss`.
        source: which rows, or the name of a table for all of its rows.
        target: a condition of the language: what is predicted.
        features: what it is predicted from, at most `MAX_FEATURES`.
        loss: of the whole model.

    Raises:
        BoundError: too many features, or too few positives (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together; `COUNT_SHARE` of it counts positives first.
    """
    _check_width(features)
    source = source_of(source)
    names = [feature.name for feature in features]
    positives, rule = check_enough(ask, source, target, names, loss)
    found = ask_moments(ask, source, response_of(target), features, loss.scaled(1 - COUNT_SHARE))
    # y is scaled to -1 and 1, so the gradient of the parabola is responses / 2 - curvature * products @ weights.
    weights, covariance = _solve(found, curvature=CURVATURE, slope=0.5)
    card = _card("logistic", source, target, features, loss, found, positives, rule)
    return _in_measure(weights, covariance, 0.0, features, card)


def response_of(target: str) -> Feature:
    """Return the number that a condition is: 1 where it holds, 0 where it does not or is unknown."""
    return Feature(target, f"CASE WHEN {target} THEN 1 ELSE 0 END", Fraction(0), Fraction(1))


def moment_questions(
    source: Source, target: Feature, features: Sequence[Feature], loss: PrivacyLoss
) -> list[tuple[Question, list[tuple[int, int]]]]:
    """Return the questions for all moments, each with the places (i, j) of its sums; the loss is split by their number.

    The first question counts rows besides.
    """
    inputs, size = [None, *features], len(features) + 1
    pairs = [(i, j) for i, j in itertools.combinations_with_replacement(range(size), 2) if j > 0]
    wanted = [(pair, _product(inputs[pair[0]], inputs[pair[1]])) for pair in pairs]
    wanted += [((i, size), _product(inputs[i], target)) for i in range(size)]
    questions = []
    for start in range(0, len(wanted), _SUMS):
        chunk = wanted[start : start + _SUMS]
        named = [f"{sql} AS m{place}" for place, (_, sql) in enumerate(chunk)]
        counted = ["COUNT(*) AS n"] if start == 0 else []
        share = Fraction(len(chunk) + len(counted), len(wanted) + 1)
        question = source.question(", ".join(counted + named), loss.scaled(share))
        questions.append((question, [place for place, _ in chunk]))
    return questions


def ask_moments(ask: Ask, source: Source, target: Feature, features: Sequence[Feature], loss: PrivacyLoss) -> Moments:
    """Return the noisy moments, in as few questions as the language allows, the loss split by the number of sums."""
    _check_width(features)
    size = len(features) + 1
    products, product_errors = np.zeros((size, size)), np.zeros((size, size))
    responses, response_errors = np.zeros(size), np.zeros(size)
    scales = [1.0, *(float(feature.half) for feature in features), float(target.half)]
    notes: list[str] = []
    for number, (question, places) in enumerate(moment_questions(source, target, features, loss)):
        answer = ask(question)
        notes += [note for note in answer.notes if note not in notes]
        if number == 0:
            (products[0, 0],), (product_errors[0, 0],) = column(answer, "n")
        for place, (i, j) in enumerate(places):
            (value,), (error,) = column(answer, f"m{place}")
            scale = scales[i] * scales[j]
            if j == size:
                responses[i], response_errors[i] = value / scale, error / scale
            else:
                products[i, j] = products[j, i] = value / scale
                product_errors[i, j] = product_errors[j, i] = error / scale
    return Moments(products, responses, product_errors, response_errors, tuple(notes))


def _check_width(features: Sequence[Feature]) -> None:
    if not 1 <= len(features) <= MAX_FEATURES:
        raise BoundError(
            f"a model takes 1 to {MAX_FEATURES} features",
            hint="each feature adds noise to all of them: choose the few that matter",
            code="privacy.bound.features",
        )


def _product(one: Feature | None, other: Feature | None) -> str:
    assert other is not None
    return f"SUM({other.centred()})" if one is None else f"SUM({one.centred()} * {other.centred()})"


def _solve(found: Moments, *, curvature: float, slope: float) -> tuple[list[float], Matrix]:
    """Return the weights w of `curvature * products @ w = slope * responses`, and the covariance that noise gives them.

    Noise can make the matrix indefinite; its eigenvalues are raised to the size of the noise of a random symmetric
    matrix, twice its standard error times the root of its order, which also shrinks directions that are only noise.

    With noise e in the responses and symmetric E in the products, w moves by `inverse @ (slope e - curvature E w)` to
    first order.  Entries i and j of E w share the noise of product (i, j) where i and j differ.
    """
    size = len(found.responses)
    floor = 2 * float(found.product_errors.max()) * math.sqrt(size)
    values, axes = eigen_symmetric([[curvature * float(cell) for cell in row] for row in found.products])
    held = [1 / max(value, curvature * floor, 1e-9) for value in values]
    turned = [[cell * one for cell, one in zip(row, held, strict=True)] for row in axes]
    inverse = product(turned, [list(row) for row in zip(*axes, strict=True)])
    weights = applied(inverse, [slope * float(response) for response in found.responses])
    noise = [[float(error) * curvature for error in row] for row in found.product_errors]
    inner = [
        [
            noise[i][j] * noise[i][j] * weights[i] * weights[j]
            if i != j
            else (slope * float(found.response_errors[i])) * (slope * float(found.response_errors[i]))
            + math.fsum(noise[i][k] * noise[i][k] * weights[k] * weights[k] for k in range(size))
            for j in range(size)
        ]
        for i in range(size)
    ]
    return weights, product(product(inverse, inner), inverse)


def _in_measure(
    weights: Sequence[float], covariance: Matrix, middle: float, features: Sequence[Feature], card: ModelCard
) -> Regression:
    """Return the model in the features' own measures, from weights of scaled features and their covariance."""
    own = [w / float(f.half) for w, f in zip(weights[1:], features, strict=True)]
    middles = [float(f.middle) for f in features]
    intercept = math.fsum([middle, weights[0], *(-w * m for w, m in zip(own, middles, strict=True))])
    shifts = [1.0, *(-m / float(f.half) for m, f in zip(middles, features, strict=True))]
    shown = tuple(
        _root(covariance[place][place]) / float(feature.half) for place, feature in enumerate(features, start=1)
    )
    variance = math.fsum(x * y for x, y in zip(shifts, applied(covariance, shifts), strict=True))
    return Regression(intercept, _root(variance), tuple(own), shown, card)


def _root(variance: float) -> float:
    return math.sqrt(max(0.0, variance))


def _card(
    kind: str,
    source: Source,
    target: str,
    features: Sequence[Feature],
    loss: PrivacyLoss,
    found: Moments,
    positives: int | None = None,
    rule: int | None = None,
) -> ModelCard:
    quality = (
        "log-odds come from a parabola, good for ranking; scores beyond 4 in size are too large"
        if kind == "logistic"
        else "coefficients whose standard error is half their size or more say little"
    )
    names = tuple(feature.name for feature in features)
    rows = max(0, round(found.products[0, 0]))
    return ModelCard(
        kind,
        source.table,
        source.where,
        target,
        names,
        loss,
        people_loss(loss)[0],
        rows,
        positives,
        rule,
        quality,
        found.notes,
    )


def count_sums(features: int) -> int:
    """Return how many sums share the loss of the moments of so many features."""
    return (features + 1) * (features + 2) // 2 + features + 1


def rows_needed(noise: float, features: int) -> int:
    """Return how many rows a linear regression wants where a sum of products has noise of this standard deviation."""
    return math.ceil(10 * noise * math.sqrt(features + 1))


def _check_rows(rows: float, noise: float, size: int) -> None:
    if rows < 10 * noise * math.sqrt(size):
        raise BoundError(
            "there is too little to learn from: the noise is as large as the sums",
            hint=f"this model wants some {rows_needed(noise, size - 1)} rows; use fewer features or more loss",
            code="privacy.bound.rows_needed",
        )
