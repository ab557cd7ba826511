"""A quantile by report-noisy-max, audited: the law of the choice, its exact divergence, what draws prove, and canaries.

False-alarm rate of the whole file: below 1e-7.  What canaries are caught by is computed from the exact law, not drawn.
"""

import itertools
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.chosen_quantile import leaf_scores, reach_of
from sandbox.privacy.measure import measure
from sandbox.privacy.mechanism import choice_measurement, choice_scale
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quantile import QuantilePlacer
from sandbox.privacy.scales import Z
from sandbox.privacy.vectors import entries
from tests.support import audit, proving
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
TRIALS = 5000
ORDERS = np.concatenate([np.geomspace(1.001, 3, 20), np.geomspace(3, 200, 16)[1:]])
HALF, TENTH = Fraction(1, 2), Fraction(1, 10)


def chances(scores, scale):
    """The exponential mechanism, written anew: the law of the chosen place."""
    weights = np.exp((np.array(scores, dtype=float) - max(scores)) / float(scale))
    return weights / weights.sum()


def rho_of(groups, others, scale):
    """The exact rho between two lists of groups' scores: the largest D_a / a, and divergences of groups add."""
    found = np.zeros(len(ORDERS))
    for one, other in zip(groups, others, strict=True):
        ln_p, ln_q = (np.log(chances(scores, scale)) for scores in (one, other))
        terms = ORDERS[:, None] * ln_p + (1 - ORDERS[:, None]) * ln_q
        found += np.logaddexp.reduce(terms, axis=1) / (ORDERS - 1)
    return float(np.max(found / ORDERS))


def moved(bins, places):
    more = list(bins)
    for place in places:
        more[place] += 1
    return more


def worst(fraction, scale, rows):
    """The exact rho of the worst neighbours of all small tables, in either direction, one group."""
    found = 0.0
    for bins in itertools.product((0, 1, 4), repeat=4):
        before = leaf_scores(bins, fraction)
        for places in itertools.combinations_with_replacement(range(len(bins)), rows):
            after = leaf_scores(moved(bins, places), fraction)
            found = max(found, rho_of([before], [after], scale), rho_of([after], [before], scale))
    return found


def tilted(fraction, rows, empty):
    """Return a table, and the bin where a unit's `rows` rows move it most: the worst case of the proof.

    Bins without rows lie on both sides of the rank, and the unit lifts those on the one side and lowers the others, so
    that it exchanges which of them are ahead.
    """
    part, whole = fraction.numerator, fraction.denominator
    most, middle = rows * max(part, whole - part), 2 * rows
    at_first = whole - part >= part
    behind = whole * rows + (most // 2 if at_first else -(most // 2))
    first = next(count for count in range(20, 20 + part + 1) if (whole * count + behind) % part == 0)
    last = (whole * first + behind) // part - first - middle
    bins = [first, *([0] * empty), middle, *([0] * empty), last]
    return bins, 0 if at_first else len(bins) - 1


def tilted_rho(fraction, scale, rows, *, empty=400):
    bins, place = tilted(fraction, rows, empty)
    before, after = (leaf_scores(side, fraction) for side in (bins, moved(bins, [place] * rows)))
    return max(rho_of([before], [after], scale), rho_of([after], [before], scale))


@pytest.mark.parametrize("fraction", [HALF, TENTH, 1 - TENTH])
@pytest.mark.parametrize("rho", [Fraction(1, 50), Fraction(1, 2)])
def test_the_exact_divergence_of_the_worst_neighbours_is_within_the_claim_and_canaries_are_beyond(fraction, rho):
    """In closed form, no draws: half the noise, and a unit that brings twice the rows of its bound, pass the claim."""
    sensitivity = max(fraction.numerator, fraction.denominator - fraction.numerator)
    scale = choice_scale(2 * sensitivity, rho)
    assert worst(fraction, scale, 2) <= float(rho)
    assert 0.75 * float(rho) < tilted_rho(fraction, scale, 2) <= float(rho)
    assert tilted_rho(fraction, scale / 2, 2) > float(rho)
    assert tilted_rho(fraction, scale, 4) > float(rho)


@pytest.mark.parametrize("fraction", [HALF, TENTH])
def test_a_unit_over_several_groups_costs_no_more_than_in_one(fraction):
    """All ways to place three rows in three groups, exactly: the most is lost where all stand in one."""
    sensitivity = 3 * max(fraction.numerator, fraction.denominator - fraction.numerator)
    scale, rho = choice_scale(sensitivity, HALF), float(HALF)
    group = [6, 0, 0, 6]
    found = Counter()
    for where in itertools.combinations_with_replacement(itertools.product(range(3), (0, 3)), 3):
        after = [moved(group, [place for of, place in where if of == index]) for index in range(3)]
        before, behind = ([leaf_scores(bins, fraction) for bins in side] for side in ([group] * 3, after))
        touched = len({of for of, _ in where})
        found[touched] = max(found[touched], rho_of(before, behind, scale), rho_of(behind, before, scale))
    assert found[3] < found[2] < found[1] <= rho


def test_the_choice_is_the_exponential_mechanism():
    """ALARM in all: the exact binomial range of how often each place comes.

    The ranges tell: a scale a third smaller, or half as large again, leaves them but for a chance of 1e-6.
    """
    scores, scale = [-3, -2, 0, -1], 1.5
    each = proving.ALARM / (2 * len(scores))
    ranges = [stats.binom.ppf([each, 1 - each], TRIALS, chance) for chance in chances(scores, scale)]
    measurement, given = choice_measurement(scale), np.array(scores, dtype=np.int64)
    found = Counter(measurement(given) for _ in range(TRIALS))
    assert all(low <= found[place] <= high for place, (low, high) in enumerate(ranges))
    for wrong in (chances(scores, scale * 2 / 3), chances(scores, scale * 3 / 2)):
        kept = [
            stats.binom.cdf(high, TRIALS, chance) - stats.binom.cdf(low - 1, TRIALS, chance)
            for chance, (low, high) in zip(wrong, ranges, strict=True)
        ]
        assert min(kept) < 1e-6


# What leaves the deployed path

SQL = "SELECT district, MEDIAN(age) AS m FROM visits GROUP BY district SETTINGS quantile = 'noisy_max'"
RHO = Fraction(1)
EXTREMES = [0, 45, 120, 2**62]


def plan_of(rows):
    sql = "SELECT MEDIAN(age) AS m FROM visits SETTINGS quantile = 'noisy_max'"
    return world.plan(sql, world.describe(rows=rows, groups=1), loss=PrivacyLoss(RHO))


class Chooser(OpenDpNoise):
    """Notes what `measure` gives to the choice, and chooses `times` over in the first group."""

    def __init__(self, times=1, stretch=Fraction(1)):
        self.times, self.stretch = times, stretch

    def best(self, groups, *, scale, sensitivity, rho):
        self.groups = groups
        how = {"scale": scale * self.stretch, "sensitivity": sensitivity, "rho": rho / self.stretch**2}
        self.drawn = super().best([groups[0]] * self.times, **how)
        return [0] * len(groups)


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_no_unit_moves_the_scores_of_all_groups_further_than_the_plan_says(fraction):
    """Searched over units at the extremes, in one and in several groups, with more rows than the bound; exactly."""
    sql = SQL.replace("MEDIAN(age)", f"QUANTILE_CONT(age, {fraction})").replace(
        "FROM visits", "FROM visits WHERE urgent"
    )
    plan = world.plan(sql, world.describe(rows=3, groups=2), loss=PrivacyLoss(RHO))
    others = {
        unit: [{"age": age, "district": d}]
        for unit, (age, d) in enumerate(itertools.product((0, 60, 120), world.DISTRICTS))
    }
    before, most = _scores(plan, audit.exact(plan, others)), 0
    for ages in itertools.combinations_with_replacement(EXTREMES, 3):
        for where in (["east"] * 9, ["east", "west", "north"] * 3):
            unit = [{"age": age, "district": d} for age, d in zip([*ages] * 3, where, strict=True)]
            after = _scores(plan, audit.exact(plan, {**others, 999: unit}))
            most = max(
                most,
                sum(max(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)),
            )
    assert most == plan.leaf_choice.sensitivity


def neighbours(rows):
    """Return the worst table with and without a unit of so many rows: everybody else has one row."""
    bins, place = tilted(HALF, rows, 59)
    others = [age for age, count in enumerate(bins) for _ in range(count)]
    units = {unit: [{"age": age}] for unit, age in enumerate(others)}
    return {**units, 999: [{"age": place}] * rows}, units


def passing(plan, pair, stretch=1):
    """Return the places that tell two tables apart best, by what draws of the exact law are sure to prove."""
    p, q = (chances(*_scores(plan, partials), plan.leaf_choice.scale * stretch) for partials in pair)
    order = np.argsort(q / p)
    found = []
    for most in range(1, len(order)):
        places = order[:most]
        found.append((sure_rho(p[places].sum(), q[places].sum()), frozenset(places.tolist())))
    return max(found, key=lambda one: one[0])


def _scores(plan, partials):
    chooser = Chooser()
    measure(plan, partials, chooser)
    return chooser.groups


def sure_rho(p, q):
    """Return what TRIALS draws of each side prove but for a chance of ALARM: the exact binomial quantiles."""
    fewest = int(stats.binom.ppf(proving.ALARM / 2, TRIALS, p))
    most = int(stats.binom.isf(proving.ALARM / 2, TRIALS, q))
    return shown(fewest, most)


def shown(with_unit, without):
    low, high = proving.limits(with_unit, TRIALS)[0], proving.limits(without, TRIALS)[1]
    return proving.least_rho([low], [high])


def drawn(plan, pair, places, stretch=Fraction(1)):
    found = []
    for partials in pair:
        chooser = Chooser(TRIALS, stretch)
        measure(plan, partials, chooser)
        found.append(sum(leaf in places for leaf in chooser.drawn))
    return shown(*found)


def test_draws_prove_no_more_than_the_claim_and_a_canary_of_half_the_noise_is_caught():
    """6 * ALARM: what draws prove at least is known exactly before them, and they prove no more than the claim."""
    plan = plan_of(rows=4)
    pair, claim = [audit.exact(plan, units) for units in neighbours(4)], float(plan.leaf_choice.rho)
    sure, places = passing(plan, pair)
    assert sure > claim / 4, "the attacker of this audit is too weak to mean anything"
    assert sure <= drawn(plan, pair, places) <= claim
    sure, places = passing(plan, pair, stretch=0.5)
    assert sure > claim
    assert drawn(plan, pair, places, HALF) > claim


def test_a_canary_that_counts_twice_the_rows_of_the_bound_is_caught():
    """2 * ALARM: the noise of a bound of four rows, and a unit with eight."""
    choice = plan_of(rows=4).leaf_choice
    canary = replace(plan_of(rows=8), leaf_choice=choice)
    pair = [audit.exact(canary, units) for units in neighbours(8)]
    sure, places = passing(canary, pair)
    assert sure > float(choice.rho)
    assert drawn(canary, pair, places) > float(choice.rho)


def test_a_value_is_as_near_to_its_rank_as_the_notes_say():
    """ALARM, about the exact law where the notes are nearest to failing: all bins but one are at the reach."""
    choice = plan_of(rows=4).leaf_choice
    scores = [0, *([-math.ceil(reach_of(choice, Fraction(1, 20)))] * (choice.leaves - 1))]
    chance = 1 - chances(scores, choice.scale)[0]
    assert 1 / 40 < chance <= 1 / 20
    measurement, given = choice_measurement(float(choice.scale)), np.array(scores, dtype=np.int64)
    missed = sum(measurement(given) != 0 for _ in range(1000))
    low, high = stats.binom.ppf([proving.ALARM / 2, 1 - proving.ALARM / 2], 1000, chance)
    assert low <= missed <= high


def test_the_value_errs_less_than_the_trees_where_a_group_is_small():
    """300 rows over 121 bins, one loss for both.  The choice's mean squared error is exact; the tree's is drawn.

    It is 3.8 times as large, 68 with a standard error of 5 in 300 draws, so the bar of 1.2 times is eight of them off.
    """
    bins, loss = [*([3] * 100), *([0] * 21)], PrivacyLoss(Fraction(1, 20))
    plan, tree = (
        world.plan("SELECT MEDIAN(age) AS m FROM visits" + setting, world.describe(rows=4, groups=1), loss=loss)
        for setting in (" SETTINGS quantile = 'noisy_max'", "")
    )
    law = chances(leaf_scores(bins, HALF), plan.leaf_choice.scale)
    chosen = float(law @ (np.arange(121) - 49.5) ** 2)
    placer = QuantilePlacer(tree.estimates[0].tree, HALF, tree.entry_sigmas(), Z)
    exact = entries(tree, bins)
    how = {"sensitivity_squared": 16, "rho": tree.statistics[0].rho, "sigma": tree.statistics[0].sigma}
    placed = [placer.place(OpenDpNoise().gaussian(exact, **how)) for _ in range(300)]
    read = float(np.mean([float(each.amount - 49.5) ** 2 for each in placed if each is not None]))
    assert chosen * 1.2 < read
