"""Intervals of quantiles and of numbers of distinct values cover the truth, and are not idle."""

import math
from fractions import Fraction

import numpy as np
import pytest

from sandbox.compute.run import run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
ALARM = 1e-8
ROUNDS = 150
GENERATOR = np.random.default_rng(7)
COSTS = np.minimum(99_000, GENERATOR.lognormal(9, 0.8, 4000)).astype(int)
ROWS = world.visits({u: [{"cost": int(c), "age": int(c) % 90}] for u, c in enumerate(COSTS)})


@pytest.mark.parametrize("setting", ["", " SETTINGS quantile = 'noisy_max'"])
@pytest.mark.parametrize("fraction", ["0.5", "0.9"])
def test_95_percent_intervals_of_quantiles_cover_the_truth(fraction, setting):
    """False-alarm rate: ALARM (Hoeffding), if coverage is 95 % or more."""
    plan = world.plan(
        f"SELECT QUANTILE_CONT(cost, {fraction}) AS q FROM visits{setting}",
        world.describe(rows=1, groups=1),
        loss=PrivacyLoss(Fraction(1, 50)),
    )
    partials = run_plan(plan, [world.table(ROWS)])
    truth = float(np.quantile(COSTS / 100, float(fraction)))
    covered, widths = 0, []
    for _ in range(ROUNDS):
        found = measure(plan, partials, OpenDpNoise()).answer
        covered += found.lower[0][0] <= truth <= found.upper[0][0]
        widths.append(found.upper[0][0] - found.lower[0][0])
    assert covered / ROUNDS >= 0.95 - math.sqrt(math.log(1 / ALARM) / (2 * ROUNDS))
    assert np.median(widths) < 100
