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


def order_chances(scores, scale):
    """Return the chance of each order of two of some scores."""
    weights = np.exp(np.array(scores) / scale)
    orders = itertools.permutations(range(len(scores)), 2)
    return {(i, j): weights[i] / weights.sum() * weights[j] / (weights.sum() - weights[i]) for i, j in orders}


def test_the_choice_is_the_exponential_mechanism_without_replacement():
    """ALARM in all: the exact binomial range of how often each order of two of four comes.

    The ranges tell: a scale a third smaller, or half as large again, leaves them but for a chance of 1e-6.
    """
    scores, scale = [3, 2, 0, 1], 1.5
    chances = order_chances(scores, scale)
    each = proving.ALARM / (2 * len(chances))
    ranges = {order: stats.binom.ppf([each, 1 - each], TRIALS, chance) for order, chance in chances.items()}
    found = choices(scores, 2, scale)
    assert set(found) <= set(chances)
    assert all(low <= found.count(order) <= high for order, (low, high) in ranges.items())
    for wrong in (order_chances(scores, scale * 2 / 3), order_chances(scores, scale * 3 / 2)):
        kept = [
            stats.binom.cdf(high, TRIALS, wrong[o]) - stats.binom.cdf(low - 1, TRIALS, wrong[o])
            for o, (low, high) in ranges.items()
        ]
        assert min(kept) < 1e-6


LIFTED = 18


class Neighbours:
    """Groups of equal scores, of which a unit lifts some; and all that the orders tell an attacker, by its exact law.

    Whether each place went to a lifted group has all of it, as groups are alike otherwise.  There are so many others
    that a place goes to a lifted group with the same chance with the unit as to another without it: the worst case.
    """

    def __init__(self, scale, count, moves=1):
        self.scale, self.count, self.moves = float(scale), count, moves
        self.others = round(LIFTED * math.exp(moves / self.scale / 2))
        weights = math.exp(moves / self.scale), 1.0
        self.laws = {
            pattern: tuple(self._chance(pattern, weight) for weight in weights)
            for pattern in itertools.product((True, False), repeat=count)
        }
        self.scores = {pattern: math.log(p / q) for pattern, (p, q) in self.laws.items()}

    def _chance(self, pattern, weight):
        lifted, others, chance = LIFTED, self.others, 1.0
        for is_lifted in pattern:
            chance *= (lifted * weight if is_lifted else others) / (lifted * weight + others)
            lifted, others = lifted - is_lifted, others - (not is_lifted)
        return chance

    def cuts(self, trials):
        """Return cuts, and the rho that `trials` draws of each side prove but for a chance of ALARM."""
        rising = sorted(set(self.scores.values()))
        between = [(a + b) / 2 for a, b in itertools.pairwise(rising) if b - a > 1e-9]
        passing = [[self.laws[pattern] for pattern, score in self.scores.items() if score > cut] for cut in between]
        places, sure = proving.best_cuts([tuple(map(sum, zip(*laws, strict=True))) for laws in passing], trials)
        return [between[place] for place in places], sure

    def drawn(self, *, moves, trials):
        scores = [50 + moves] * LIFTED + [50] * self.others
        found = choices(scores, self.count, self.scale, trials)
        return np.array([self.scores[tuple(place < LIFTED for place in order)] for order in found])

    def shown(self, cuts, trials):
        sides = (self.drawn(moves=moves, trials=trials) for moves in (self.moves, 0))
        return proving.shown_at(cuts, *sides)


CLAIM = Fraction(1, 2)
"""Of the draws: choices that tell more show it in fewer draws.  How the scale follows from a claim is checked exactly."""


@pytest.mark.parametrize("count", [1, 3])
def test_draws_prove_no_more_than_the_claim_and_canaries_are_caught(count):
    """6 * ALARM a call: what draws of the true law prove at least is known exactly, and so is what they prove at most.

    The canaries: half the noise; and a unit that counts twice, as a sum over its rows would.
    """
    scale = top_scale(count, CLAIM)
    honest = Neighbours(scale, count)
    cuts, sure = honest.cuts(TRIALS)
    assert sure > float(CLAIM) / 4, "the attacker of this audit is too weak to mean anything"
    assert sure <= honest.shown(cuts, TRIALS) <= float(CLAIM)
    for canary in (Neighbours(scale / 2, count), Neighbours(scale, count, moves=2)):
        cuts, sure = canary.cuts(CANARY_TRIALS)
        assert sure > float(CLAIM)
        assert canary.shown(cuts, CANARY_TRIALS) > float(CLAIM)


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
