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
import numpy.typing as npt

from sandbox.errors import BoundError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Question
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.models.asking import COUNT_SHARE, Ask, Feature, ModelCard, check_enough, column, table_name

MAX_FEATURES = 20
_SUMS = 60
_CURVATURE = 0.1633
"""Minus twice the last coefficient of the Chebyshev parabola of -log(1 + exp(-s)) on [-4, 4]; a test computes it."""

Array = npt.NDArray[np.float64]


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
        intercept: in the target's measure (linear) or in log-odds (logistic).
        coefficients, standard_errors: one for each feature, in its own measure; the errors are those of the noise.
        card: what to know.
    """

    intercept: float
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    card: ModelCard

    def to_record(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return {
            "v": 1,
            "intercept": self.intercept,
            "coefficients": list(self.coefficients),
            "standard_errors": list(self.standard_errors),
            "card": self.card.to_record(),
        }


def fit_linear(
    ask: Ask, table: str, target: Feature, features: Sequence[Feature], loss: PrivacyLoss, *, rows: int | None = None
) -> Regression:
    """Return a linear regression.

    Args:
        ask: asks a question; the losses of all questions sum to `loss`.
        table: which table.
        target: what is predicted.
        features: what it is predicted from, at most `MAX_FEATURES`.
        loss: of the whole model.
        rows: the contribution bound to ask for.

    Raises:
        BoundError: too many features, or too few rows for any fit (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together.
    """
    found = ask_moments(ask, table, target, features, loss, rows=rows)
    count = found.products[0, 0]
    noise = float(found.product_errors.max())
    if count < 10 * noise * math.sqrt(len(found.responses)):
        raise _too_few("the noise is as large as the sums")
    weights, errors = _solve(found, curvature=1.0, slope=1.0)
    half, middle = float(target.half), float(target.middle)
    scaled = [weight * half for weight in weights]
    return _in_measure(
        scaled, [e * half for e in errors], middle, features, _card("linear", table, target.name, features, loss, found)
    )


def fit_logistic(
    ask: Ask,
    table: str,
    target: str,
    features: Sequence[Feature],
    loss: PrivacyLoss,
    *,
    rows: int | None = None,
) -> Regression:
    """Return a logistic regression of a condition, refused below the rule of rows needed.

    Args:
        ask: asks a question; the losses of all questions sum to `loss`.
        table: which table.
        target: a condition of the language: what is predicted.
        features: what it is predicted from, at most `MAX_FEATURES`.
        loss: of the whole model.
        rows: the contribution bound to ask for.

    Raises:
        BoundError: too many features, or too few positives (`privacy.bound.rows_needed`).

    Privacy: post-processing of answers that cost `loss` together; `COUNT_SHARE` of it counts positives first.
    """
    names = [feature.name for feature in features]
    positives, rule = check_enough(ask, table, target, names, loss)
    response = Feature(target, f"CASE WHEN {target} THEN 1 ELSE 0 END", Fraction(0), Fraction(1))
    found = ask_moments(ask, table, response, features, loss.scaled(1 - COUNT_SHARE), rows=rows)
    # y is scaled to -1 and 1, so the gradient of the parabola is responses / 2 - curvature * products @ weights.
    weights, errors = _solve(found, curvature=_CURVATURE, slope=0.5)
    card = _card("logistic", table, target, features, loss, found, positives, rule)
    return _in_measure(list(weights), list(errors), 0.0, features, card)


def ask_moments(
    ask: Ask, table: str, target: Feature, features: Sequence[Feature], loss: PrivacyLoss, *, rows: int | None = None
) -> Moments:
    """Return the noisy moments, in as few questions as the language allows, the loss split by the number of sums."""
    if not 1 <= len(features) <= MAX_FEATURES:
        raise BoundError(
            f"a model takes 1 to {MAX_FEATURES} features",
            hint="each feature adds noise to all of them: choose the few that matter",
            code="privacy.bound.features",
        )
    inputs, size = [None, *features], len(features) + 1
    pairs = [(i, j) for i, j in itertools.combinations_with_replacement(range(size), 2) if j > 0]
    wanted = [(pair, _product(inputs[pair[0]], inputs[pair[1]])) for pair in pairs]
    wanted += [((i, size), _product(inputs[i], target)) for i in range(size)]
    products, product_errors = np.zeros((size, size)), np.zeros((size, size))
    responses, response_errors = np.zeros(size), np.zeros(size)
    scales = [1.0, *(float(feature.half) for feature in features), float(target.half)]
    notes: list[str] = []
    chunks = [wanted[start : start + _SUMS] for start in range(0, len(wanted), _SUMS)]
    for number, chunk in enumerate(chunks):
        named = [f"{sql} AS m{place}" for place, (_, sql) in enumerate(chunk)]
        counted = ["COUNT(*) AS n"] if number == 0 else []
        sql = f"SELECT {', '.join(counted + named)} FROM {table_name(table)}"  # noqa: S608 (the language checks it)
        share = Fraction(len(chunk) + len(counted), len(wanted) + 1)
        answer = ask(Question(sql, loss.scaled(share), rows))
        notes += [note for note in answer.notes if note not in notes]
        if counted:
            (products[0, 0],), (product_errors[0, 0],) = column(answer, "n")
        for place, ((i, j), _) in enumerate(chunk):
            (value,), (error,) = column(answer, f"m{place}")
            scale = scales[i] * scales[j]
            if j == size:
                responses[i], response_errors[i] = value / scale, error / scale
            else:
                products[i, j] = products[j, i] = value / scale
                product_errors[i, j] = product_errors[j, i] = error / scale
    return Moments(products, responses, product_errors, response_errors, tuple(notes))


def _product(one: Feature | None, other: Feature | None) -> str:
    assert other is not None
    return f"SUM({other.centred()})" if one is None else f"SUM({one.centred()} * {other.centred()})"


def _solve(found: Moments, *, curvature: float, slope: float) -> tuple[Array, Array]:
    """Return the weights w of `curvature * products @ w = slope * responses`, and the errors that the noise gives them.

    Noise can make the matrix indefinite; its eigenvalues are raised to the size of the noise of a random symmetric
    matrix, twice its standard error times the root of its order, which also shrinks directions that are only noise.
    """
    floor = 2 * float(found.product_errors.max()) * math.sqrt(len(found.responses))
    values, axes = np.linalg.eigh(curvature * (found.products + found.products.T) / 2)
    inverse = axes @ np.diag(1 / np.maximum(values, max(curvature * floor, 1e-9))) @ axes.T
    weights: Array = inverse @ (slope * found.responses)
    variance = (slope * found.response_errors) ** 2 + ((curvature * found.product_errors) ** 2) @ weights**2
    errors: Array = np.sqrt(np.maximum(0.0, np.diag(inverse @ np.diag(variance) @ inverse.T)))
    return weights, errors


def _in_measure(
    weights: Sequence[float], errors: Sequence[float], middle: float, features: Sequence[Feature], card: ModelCard
) -> Regression:
    own = [w / float(f.half) for w, f in zip(weights[1:], features, strict=True)]
    intercept = middle + weights[0] - sum(w * float(f.middle) for w, f in zip(own, features, strict=True))
    shown = tuple(float(e / float(f.half)) for e, f in zip(errors[1:], features, strict=True))
    return Regression(float(intercept), tuple(float(w) for w in own), shown, card)


def _card(
    kind: str,
    table: str,
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
        kind, table, target, names, loss, people_loss(loss)[0], rows, positives, rule, quality, found.notes
    )


def _too_few(why: str) -> BoundError:
    return BoundError(
        f"there is too little to learn from: {why}",
        hint="use fewer features, more loss, or more rows",
        code="privacy.bound.rows_needed",
    )
