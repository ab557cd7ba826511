"""Report-noisy-max, audited: the law of the choice, what an attacker proves from it, and canaries.

False-alarm rate of the whole file: below 1e-7.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure
from sandbox.privacy.mechanism import top_measurement, top_scale
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from tests.support import audit, proving
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
RHO = Fraction(1, 8)
TRIALS, CANARY_TRIALS = 5000, 3000


def choices(scores, count, scale, trials=TRIALS):
    measurement = top_measurement(float(scale), count)
    given = np.asarray(scores, dtype=np.int64)
    return [tuple(measurement(given)) for _ in range(trials)]


def test_the_choice_is_the_exponential_mechanism_without_replacement():
    """Chi-square over all orders of two of four: a right implementation fails with chance 1e-9."""
    scores, scale = [3, 2, 0, 1], 1.5
    weights = np.exp(np.array(scores) / scale)
    found = choices(scores, 2, scale)
    orders = list(itertools.permutations(range(4), 2))
    chances = [weights[i] / weights.sum() * weights[j] / (weights.sum() - weights[i]) for i, j in orders]
    counts = [found.count(order) for order in orders]
    assert sum(counts) == TRIALS
    assert stats.chisquare(counts, np.array(chances) * TRIALS).pvalue > 1e-9


def shown(scale, *, moves=1, count=1, trials=TRIALS):
    """Return the rho that choices prove: a unit lifts the groups that it has; the score is the likelihood ratio of the order."""
    without = [50] * (2 * count)
    with_unit = [50 + moves] * count + [50] * count

    def chance(order, scores):
        weights = np.exp((np.array(scores) - 50) / float(scale))
        return sum(math.log(weights[p] / (weights.sum() - weights[list(order[:i])].sum())) for i, p in enumerate(order))

    sides = (choices(side, count, scale, trials) for side in (with_unit, without))
    ratios = (np.array([chance(order, with_unit) - chance(order, without) for order in side]) for side in sides)
    return proving.shown_rho(*ratios)


@pytest.mark.parametrize("count", [1, 3])
def test_draws_prove_no_more_than_the_claim_and_canaries_are_caught(count):
    """2 * ALARM a call.  Half the noise; and a unit that counts twice, as a sum over its rows would."""
    scale = top_scale(count, RHO)
    honest = shown(scale, count=count)
    assert float(RHO) / 8 < honest <= float(RHO)
    assert shown(scale / 2, count=count, trials=CANARY_TRIALS) > float(RHO)
    assert shown(scale, moves=2, count=count, trials=CANARY_TRIALS) > float(RHO)


def test_the_exact_divergence_of_the_worst_choice_is_within_the_claim_and_near_to_it():
    """Two groups, the one with the unit: all orders up to 200, in closed form; half the noise is beyond the claim."""

    def worst(scale):
        found = 0.0
        for gap in np.linspace(-4, 4, 81):
            chances = [1 / (1 + math.exp(-(gap + step) / float(scale))) for step in (1, 0)]
            for p, q in (chances, chances[::-1]):
                for order in np.concatenate([np.geomspace(1.001, 3, 30), np.geomspace(3, 200, 20)]):
                    terms = [order * math.log(a) + (1 - order) * math.log(b) for a, b in ((p, q), (1 - p, 1 - q))]
                    found = max(found, float(np.logaddexp(*terms)) / (order - 1) / order)
        return found

    for rho in (Fraction(1, 100), RHO, Fraction(1)):
        scale = top_scale(1, rho)
        assert worst(scale) <= float(rho)
        assert worst(scale / 2) > float(rho)
    assert worst(top_scale(1, Fraction(1, 100))) > 0.95 / 100


def test_no_unit_moves_a_score_by_more_than_one_or_two_scores_in_two_directions():
    plan = world.plan(
        "SELECT age, COUNT(DISTINCT patient) AS n FROM visits WHERE cost > 3 GROUP BY age ORDER BY n DESC LIMIT 3 "
        "SETTINGS top = 'noisy_max'",
        loss=PrivacyLoss(RHO),
    )
    others = {unit: [{"age": 10 * unit}] * 3 for unit in range(5)}
    for rows in ([{"age": 10}] * 50, [{"age": age} for age in range(121)], [{"age": 2**62}] * 3, [{"cost": None}]):
        without, found = audit.exact(plan, others), audit.exact(plan, {**others, 999: rows})
        moved = {key: found.cells.get(key, (0,))[0] - without.cells.get(key, (0,))[0] for key in found.cells}
        assert set(moved.values()) <= {0, 1}
        assert set(without.cells) <= set(found.cells)


def test_a_choice_of_the_notes_reach_is_as_rare_as_they_say():
    """Groups behind by beta * ln(20 c m) are chosen in 1 of 20 answers at most; Clopper-Pearson at 1e-9."""
    count, candidates, scale = 3, 40, top_scale(3, RHO)
    behind = math.ceil(float(scale) * math.log(20 * count * candidates))
    scores = [1000] * count + [1000 - behind] * (candidates - count)
    missed = sum(max(order) >= count for order in choices(scores, count, scale, 1000))
    assert proving.limits(missed, 1000)[0] <= 1 / 20


def test_the_counts_of_what_was_chosen_do_not_lean_towards_the_choice():
    """30 equal groups, of which one is chosen: its fresh count is unbiased; noise of all groups would lean by 2 sigma."""
    sql = "SELECT age, COUNT(DISTINCT patient) AS n FROM visits GROUP BY age ORDER BY n DESC LIMIT 1"
    plan = world.plan(sql + " SETTINGS top = 'noisy_max'", loss=PrivacyLoss(RHO))
    partials = Partials(plan.digest(), {(key,): (500,) for key in plan.keys[0].domain})
    values = [measure(plan, partials, OpenDpNoise()).answer.rows[0][1] - 500 for _ in range(250)]
    sigma = float(plan.statistics[0].sigma)
    assert abs(np.mean(values)) < sigma * math.sqrt(2 * math.log(2e9) / len(values))
