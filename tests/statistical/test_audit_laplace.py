"""Laplace noise, audited: the law of the draws, its exact divergences, the worst neighbours, what draws prove, canaries.

Both claims are audited.  The pure loss: `cost` is exact, the distance of the worst pair that a search finds in units of
the noise, at most epsilon if the L1 sensitivities hold; `shown` is what draws of the deployed path prove of epsilon.
What is charged: the Renyi divergences of the noise are computed exactly, and the largest D_a / a is at most rho.

False-alarm rate: no claim that holds is passed but for a chance of 2 * ALARM a call of `pure_audit`, and draws of the
planned law prove less than is sure but for a chance of ALARM: 3e-9 a call, and below 2e-7 in this whole file.
"""

import dataclasses
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from scipy import stats

from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.fit import FALSE_ALARM, size_limits
from sandbox.privacy.mechanism import LaplaceNoise, laplace_noise
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from tests.statistical import test_audit_measurements as gaussian
from tests.support import audit, proving
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
RHO, TRIALS = Fraction(1, 2), 30_000
NAMES = [
    name
    for name in gaussian.MEASUREMENTS
    if name not in {"quantiles by group", "rescaled", "rescaled variance", "private keys", "two steps by a value"}
]
# Rows count most in one group, units in as many as they may: no pair reaches both, as with Gaussian noise.
SHARES = {"many at once": Fraction(5, 6)}
ORDERS = np.concatenate([1 + np.geomspace(1e-5, 1, 30), np.geomspace(2, 500, 40)[1:]])


@cache
def planned(name, times=1):
    sql, (rows, groups), _ = gaussian.MEASUREMENTS[name]
    said = f"{sql}, noise = 'laplace'" if "SETTINGS" in sql else f"{sql} SETTINGS noise = 'laplace'"
    described = world.describe(rows=rows * times, groups=groups * times)
    return world.plan(said, described, loss=PrivacyLoss(RHO))


@cache
def worst(name):
    rows = gaussian.MEASUREMENTS[name][1][0]
    return audit.worst_neighbours(planned(name), gaussian.OTHERS, gaussian.EXTREMES, gaussian.row, most_rows=3 * rows)


# The law


@pytest.mark.parametrize("scale", [0.3, 1.5, 8.0])
def test_the_draws_have_the_law_of_discrete_laplace_noise(scale):
    """ALARM in all: the exact binomial range of how often each place near 0 comes, and a scale a third off leaves them."""
    noise = LaplaceNoise(Fraction(scale), 0, Fraction(0))
    drawn = np.array(OpenDpNoise().laplace([0] * 20_000, noise=noise, rho=Fraction(1)))
    places = range(-3, 4)

    def chances(b):
        q = math.exp(-1 / b)
        return [(1 - q) / (1 + q) * q ** abs(place) for place in places]

    each = proving.ALARM / (2 * len(places))
    ranges = [stats.binom.ppf([each, 1 - each], len(drawn), chance) for chance in chances(scale)]
    assert all(low <= np.sum(drawn == place) <= high for place, (low, high) in zip(places, ranges, strict=True))
    for wrong in (scale / 1.5, scale * 1.5):
        kept = [
            stats.binom.cdf(high, len(drawn), chance) - stats.binom.cdf(low - 1, len(drawn), chance)
            for chance, (low, high) in zip(chances(wrong), ranges, strict=True)
        ]
        assert min(kept) < 1e-3


@pytest.mark.parametrize("scale", [0.4, 3.0, 1000.0])
def test_the_size_test_of_the_auditor_accepts_true_noise_and_is_not_idle(scale):
    """2 * FALSE_ALARM."""
    noise = LaplaceNoise(Fraction(scale), 0, Fraction(0))
    drawn = OpenDpNoise().laplace([0] * 2000, noise=noise, rho=Fraction(1))
    low, high = size_limits(2000, scale, FALSE_ALARM)
    assert low <= sum(abs(draw) / scale for draw in drawn) / 2000 <= high
    if scale > 1:
        assert low > 0.8
        assert high < 1.2


def rho_of(scale, distance, *, mass=1e-18):
    """The exact rho of integers that are moved by `distance`: the largest D_a / a, both ways by symmetry."""
    reach = math.ceil(-float(scale) * math.log(mass)) + distance
    places = np.arange(-reach, reach + 1, dtype=float)
    ln_p, ln_q = (-np.abs(places - moved) / float(scale) for moved in (0, distance))
    norm = np.logaddexp.reduce(-np.abs(places) / float(scale))
    terms = ORDERS[:, None] * ln_p + (1 - ORDERS[:, None]) * ln_q - norm
    return float(np.max(np.logaddexp.reduce(terms, axis=1) / (ORDERS - 1) / ORDERS))


@pytest.mark.parametrize("distance", [1, 3, 40])
@pytest.mark.parametrize("rho", [Fraction(1, 200), Fraction(1, 20), Fraction(1, 2), Fraction(3)])
def test_the_exact_divergence_is_within_the_charge_and_canaries_are_beyond(distance, rho):
    """In closed form, no draws: half the noise passes the charge where the bound is not far from it."""
    noise = laplace_noise(distance, rho)
    found = rho_of(noise.scale, distance)
    assert found <= float(rho)
    if rho <= Fraction(1, 20):
        assert found > 0.85 * float(rho), "no more noise than the charge asks for, but for the bound's own room"
        assert rho_of(noise.scale / 2, distance) > float(rho)
        assert rho_of(noise.scale, 2 * distance) > float(rho)


@pytest.mark.parametrize("epsilon", [Fraction(1, 5), Fraction(1), Fraction(5, 2)])
def test_the_bound_of_continuous_noise_does_not_hold_for_discrete_noise(epsilon):
    """Why the charge is not epsilon + exp(-epsilon) - 1: the divergence of order one is above it, by the proof's formula."""
    distance, scale = 5, Fraction(5) / epsilon
    unit, loss = float(scale), float(epsilon)
    of_order_one = loss - (1 - math.exp(-loss)) / (unit * math.sinh(1 / unit))
    assert rho_of(scale, distance) == pytest.approx(of_order_one, rel=1e-3)
    assert loss + math.exp(-loss) - 1 < of_order_one < loss**2 / 2


@pytest.mark.parametrize("parts", [(1, 2), (1, 1, 1), (0, 3)])
def test_what_is_spread_over_cells_costs_no_more_than_in_one(parts):
    scale = laplace_noise(3, RHO).scale
    assert sum(rho_of(scale, part) for part in parts if part) <= rho_of(scale, 3) + 1e-12


# What leaves the deployed path


@pytest.mark.parametrize("name", NAMES)
def test_the_worst_neighbours_cost_at_most_the_claim_and_nothing_more_is_shown(name):
    plan, pair = planned(name), worst(name)
    share = SHARES.get(name, gaussian.WHOLE)
    assert pair.cost <= plan.pure_loss, f"the search found {pair.rows}"
    assert pair.cost >= share * plan.pure_loss, "the search is idle, or the noise is too large"
    attack = audit.pure_attack(plan, pair, TRIALS)
    assert attack.sure > float(pair.cost) / 4, "the attacker of this audit is too weak to mean anything"
    assert attack.sure <= audit.pure_audit(plan, pair, attack) <= float(plan.pure_loss)


class HalfNoise(OpenDpNoise):
    """A canary: half the noise that was planned."""

    def laplace(self, values, *, noise, rho):
        half = dataclasses.replace(noise, scale=noise.scale / 2, epsilon=2 * noise.epsilon)
        return super().laplace(values, noise=half, rho=4 * rho)


# A correlation has six integers: so few releases lie beyond all of them that its canary wants ten times the draws.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "correlation"])
def test_half_the_noise_is_caught_by_its_draws(name):
    plan = planned(name)
    attack = audit.pure_attack(plan, worst(name), TRIALS, noise=0.5)
    assert attack.sure > float(plan.pure_loss)
    assert audit.pure_audit(plan, worst(name), attack, HalfNoise()) > float(plan.pure_loss)


@pytest.mark.parametrize("name", [name for name in NAMES if "distinct" not in name])
def test_a_sensitivity_twice_the_claimed_is_caught(name):
    plan, pair = planned(name), gaussian.further(worst(name), 2)
    assert audit.cost_of(plan, pair.without, pair.with_unit) > plan.pure_loss
    if name in {"count", "units by group", "sum"}:
        # The others take the same draws as half the noise does.
        attack = audit.pure_attack(plan, pair, TRIALS)
        assert attack.sure > float(plan.pure_loss)
        assert audit.pure_audit(plan, pair, attack) > float(plan.pure_loss)


def test_a_sensitivity_in_l2_where_l1_is_due_is_caught():
    """A canary of the likeliest mistake: noise for sqrt(groups), where a unit stands in all of them."""
    name = "units by group"
    plan, pair = planned(name), worst(name)
    (statistic,) = plan.statistics
    short = dataclasses.replace(statistic.laplace, scale=statistic.laplace.scale / Fraction(math.sqrt(2)))
    canary = dataclasses.replace(plan, statistics=(dataclasses.replace(statistic, laplace=short),))
    assert audit.cost_of(canary, pair.without, pair.with_unit) > plan.pure_loss


# The bound of the SQL, four times what the noise was planned for.
@pytest.mark.parametrize("name", [name for name in NAMES if name not in gaussian.UNBOUNDED])
def test_a_dropped_bound_is_caught_by_the_search(name):
    plan, pair, wide = planned(name), worst(name), planned(name, times=4)
    loose = dataclasses.replace(plan, sql=wide.sql, layout=wide.layout)
    assert (loose.sql, loose.layout) != (plan.sql, plan.layout)
    start = [dict(kept) for kept in pair.rows] * 4
    extremes = gaussian.EXTREMES
    spread = [{**dict(pair.rows[0]), column: value} for column in plan.columns for value in extremes[column]]
    found = audit.worst_neighbours(
        loose, gaussian.OTHERS, extremes, gaussian.row, most_rows=len(start), starts=[start, spread], rounds=4
    )
    assert found.cost > plan.pure_loss


@pytest.mark.parametrize(("name", "upper"), [("sum", "100000"), ("mean by group", "120")])
def test_a_clamp_that_is_dropped_is_caught_by_the_search(name, upper):
    plan = planned(name)
    loose = audit.unclamped(plan, upper)
    found = audit.worst_neighbours(loose, gaussian.OTHERS, gaussian.EXTREMES, gaussian.row, most_rows=9)
    assert found.cost > plan.pure_loss


def test_a_unit_that_counts_in_every_group_is_caught():
    """A canary of the count of units: the noise of one group, and a unit in two."""
    plan = planned("units by group")
    one = world.plan(
        "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district SETTINGS noise = 'laplace'",
        world.describe(rows=4, groups=1),
        loss=PrivacyLoss(RHO),
    )
    loose = dataclasses.replace(one, sql=plan.sql, layout=plan.layout)
    pair = worst("units by group")
    moved = [Partials(loose.digest(), side.cells) for side in (pair.without, pair.with_unit)]
    assert audit.cost_of(loose, *moved) == 2 * one.pure_loss
