"""The error of released values beside the analytic optimum: the Gaussian mechanism at the same bound, loss and data.

A statistic of L2 sensitivity s with a share r of the loss cannot have less Gaussian noise than s / sqrt(2 r); a value
made of several has the error that their noise makes to first order.  The loss is split evenly, which for a mean is the
split whose worst error over all data is least (`docs/proofs/mean.md`).  What is above it would be noise for loose
sensitivities, scales rounded up, or values that are spoiled on their way out.

False-alarm rate: the sum of squares of n Gaussians is beyond n (1 + t)**2 with chance at most exp(-n t**2); with n above
7000 and 0.05 of which 0.004 is left to the first order this is below 1e-6 a test (Laurent, Massart 2000, lemma 1).
"""

import math
from fractions import Fraction

import pytest

from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
ROUNDS, RHO, ROWS = 60, Fraction(1, 10), 3
COUNT = 50_000
MIDDLE = 50_000  # of `cost`, in hundredths; half its range as well
SQUARE = MIDDLE**2 // 2  # the middle of its centred squares


def analytic(*parts):
    """Return the error of a sum of statistics, each with its sensitivity and its weight, for an even split."""
    return math.sqrt(sum((weight * ROWS * s) ** 2 for s, weight in parts) * len(parts) / float(2 * RHO))


# What is asked, the exact integers of each cell, the true value, and the optimum.  Rows lie at 700 and at 500 yuan.
SEVENS, FIVES = 20_000, 0
MEAN_SQUARE = (SEVENS**2 + FIVES**2) // 2
SHIFT = SEVENS / 2 / COUNT
CASES = {
    "COUNT(*)": ((COUNT,), COUNT, analytic((1, 1))),
    "SUM(cost)": ((COUNT * 60_000,), COUNT * 600, analytic((100_000, 0.01))),
    "AVG(cost)": (
        (COUNT, COUNT * SEVENS // 2),
        600,
        analytic((1, 0.01 * SHIFT), (MIDDLE, 0.01 / COUNT)),
    ),
    "VAR_POP(cost)": (
        (COUNT, COUNT * SEVENS // 2, COUNT * (MEAN_SQUARE - SQUARE)),
        100.0**2,
        analytic(
            (1, 1e-4 * (2 * (SEVENS / 2) ** 2 - (MEAN_SQUARE - SQUARE)) / COUNT),
            (MIDDLE, 1e-4 * SEVENS / COUNT),
            (SQUARE, 1e-4 / COUNT),
        ),
    ),
}


def errors(value, amounts, truth, noise):
    where = "" if value in {"COUNT(*)", "SUM(cost)"} else " WHERE cost > 0"
    sql = f"SELECT age, {value} AS v FROM visits{where} GROUP BY age"
    plan = world.plan(sql, world.describe(rows=ROWS, groups=ROWS, max_rows=10**7), loss=PrivacyLoss(RHO))
    assert len(plan.statistics) == len(amounts)
    partials = Partials(plan.digest(), {(key,): amounts for key in plan.keys[0].domain})
    found, claimed = [], []
    for _ in range(ROUNDS):
        answer = measure(plan, partials, noise).answer
        found += [row[1] - truth for row in answer.rows]
        claimed += [error[1] for error in answer.standard_errors]
    return math.sqrt(sum(e * e for e in found) / len(found)), claimed


@pytest.mark.parametrize("value", CASES)
def test_the_error_of_an_answer_is_within_5_percent_of_the_analytic_optimum(value):
    amounts, truth, optimum = CASES[value]
    rms, claimed = errors(value, amounts, truth, OpenDpNoise())
    assert optimum * 0.95 < rms < optimum * 1.05
    # What the answer says of itself, whatever the noise was.
    assert all(optimum * 0.97 < error < optimum * 1.05 for error in claimed)


class MoreNoise(OpenDpNoise):
    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        wider = Fraction(float(sigma) * 1.12)
        return super().gaussian(values, sigma=wider, sensitivity_squared=sensitivity_squared, rho=rho)


@pytest.mark.parametrize("value", CASES)
def test_an_eighth_more_noise_than_needed_is_found(value):
    amounts, truth, optimum = CASES[value]
    assert errors(value, amounts, truth, MoreNoise())[0] > optimum * 1.05
