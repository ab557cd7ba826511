"""Laplace noise by choice: its law, what may be asked, what it costs and what is drawn."""

import dataclasses
import itertools
import math
import random
import re
from decimal import Context, Decimal
from fractions import Fraction

import pytest
from opendp.combinators import make_pureDP_to_zCDP

from sandbox.compute.noise_pool import PIECE, ThreadedNoise
from sandbox.errors import BoundError, PrivacyError, QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import OtherUnit
from sandbox.privacy.accounting import loss_from_epsilon
from sandbox.privacy.accuracy import least_loss
from sandbox.privacy.influence import influence_of
from sandbox.privacy.laplace import distance_of, laplace_deviation
from sandbox.privacy.mechanism import (
    MAX_SCALE,
    laplace_loss,
    laplace_measurement,
    laplace_noise,
    laplace_scale,
)
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.scales import Z_LAPLACE, Z, reach_of_95
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.laplace_world import BY_DISTRICT, COUNT, LOSS, RHO, SETTING, planned

# The law

SCALES = [Fraction(2) ** power for power in range(-6, 51)] + [Fraction(n, 16) for n in range(1, 800)]
FINE = Context(prec=80)


def share_of(scale):
    """q, from decimals of more digits than the code has."""
    return Fraction(FINE.exp(FINE.divide(Decimal(-scale.denominator), Decimal(scale.numerator))))


@pytest.mark.parametrize("scale", SCALES[::13])
def test_the_deviation_is_that_of_the_discrete_law_rounded_up(scale):
    q, found = share_of(scale), laplace_deviation(scale)
    assert found**2 >= 2 * q / (1 - q) ** 2
    # To 2**-64 where it is small, and to decimals where it is large.
    assert (found - Fraction(1, 2**62)) ** 2 * (1 - Fraction(1, 10**30)) <= 2 * q / (1 - q) ** 2
    assert found <= scale * Fraction(141_421_356_238, 10**11) + Fraction(1, 2**62)


def test_no_noise_and_noise_beyond_decimals_have_a_deviation():
    assert laplace_deviation(Fraction(0)) == 0
    assert 0 < laplace_deviation(Fraction(1, 10**12)) < Fraction(1, 10**9)


def test_a_half_width_of_whole_steps_holds_95_percent_at_every_scale():
    """Beyond h steps lie 2 q**(h + 1) / (1 + q); and h is no more than a step above the continuous law's."""
    for scale in SCALES:
        q, half = share_of(scale), math.ceil(Z_LAPLACE * laplace_deviation(scale))
        beyond = 2 * FINE.power(FINE.divide(Decimal(q.numerator), Decimal(q.denominator)), half + 1)
        assert beyond <= Decimal("0.05") * (1 + Decimal(float(q))) + Decimal("1e-12"), scale
        if scale > 4:
            assert half <= float(scale) * math.log(20) * 1.000001 + 1


def beyond(weights, reach):
    """The mass of a weighed sum of continuous Laplace variables of distinct weights beyond `reach`: partial fractions."""
    total = 0.0
    for place, weight in enumerate(weights):
        others = [other for index, other in enumerate(weights) if index != place]
        total += math.exp(-reach / weight) * math.prod(weight**2 / (weight**2 - other**2) for other in others)
    return total


def test_as_many_deviations_as_one_noise_needs_hold_95_percent_of_any_sum():
    """The proof's claim, computed: two weights on a fine grid, three to six at random; deviations are 1 throughout."""
    reach = math.log(20) / math.sqrt(2)
    assert 0 <= float(Z_LAPLACE) - reach < 1e-6
    two = [beyond((math.sqrt((1 - s) / 2), math.sqrt(s / 2)), reach) for s in (n / 40_000 for n in range(1, 20_000))]
    assert max(two) <= 0.05
    assert min(two) > 0.045
    draw, tried = random.Random(1), 0
    for _ in range(30_000):
        parts = [draw.expovariate(1) ** draw.choice([1, 2, 4]) for _ in range(draw.randint(3, 6))]
        weights = [math.sqrt(part / sum(parts) / 2) for part in parts]
        apart = min(abs(a - b) / max(a, b) for a, b in itertools.combinations(weights, 2))
        if apart > 5e-3 and min(weights) > 1e-3:  # Else floats cancel.
            tried += 1
            assert 0.034 < beyond(weights, reach) <= 0.05 + 1e-9
    assert tried > 10_000


# The mechanism


@pytest.mark.parametrize("distance", [1, 4, 999, 2**40 + 1])
@pytest.mark.parametrize("rho", [Fraction(1, 2), Fraction(1, 3), Fraction(7, 1000), Fraction(25)])
def test_the_scale_is_rounded_against_us_and_the_charge_is_that_of_opendps_own_conversion(distance, rho):
    noise = laplace_noise(distance, rho)
    assert noise.epsilon == laplace_loss(noise.scale, distance)
    assert noise.epsilon**2 <= 2 * rho
    assert noise.epsilon * noise.scale >= distance
    assert noise.epsilon >= Fraction(laplace_measurement(float(noise.scale)).map(distance))
    assert noise.epsilon**2 > 2 * rho * (1 - Fraction(1, 10**8)), "no more noise than the charge asks for"
    charged = Fraction(make_pureDP_to_zCDP(laplace_measurement(float(noise.scale))).map(distance))
    assert noise.epsilon**2 / 2 <= charged <= rho * (1 + Fraction(1, 10**12))


def test_a_scale_that_nothing_moves_is_none():
    assert laplace_noise(0, RHO).to_record() == {"scale": "0", "distance": "0", "epsilon": "0"}


@pytest.mark.parametrize(
    ("distance", "rho", "message"),
    [
        (1, Fraction(0), "no loss to spend"),
        (1, Fraction(10**19), "a loss so large promises nothing"),
        (2**40, Fraction(1, 2**40), "the noise would be beyond 55 bits"),
        (2**62, Fraction(10**17), "the noise would be beyond 55 bits"),
    ],
)
def test_noise_that_does_not_fit_is_refused(distance, rho, message):
    with pytest.raises(BoundError, match=message) as raised:
        laplace_scale(distance, rho)
    assert raised.value.code == "privacy.bound.loss"
    assert laplace_scale(2**54, Fraction(1, 2)) < MAX_SCALE


def test_noise_for_less_than_the_claim_does_not_pass_the_map():
    noise = laplace_noise(4, RHO)
    assert len(OpenDpNoise().laplace([0] * 5, noise=noise, rho=RHO)) == 5
    assert OpenDpNoise().laplace([], noise=noise, rho=RHO) == []
    cheats = (
        dataclasses.replace(noise, scale=noise.scale / 2),
        dataclasses.replace(noise, distance=5),
        dataclasses.replace(noise, scale=noise.scale / 2, epsilon=noise.epsilon * 2),
    )
    for cheat in cheats:
        with pytest.raises(PrivacyError, match="too little for its share") as raised:
            OpenDpNoise().laplace([1], noise=cheat, rho=RHO)
        assert raised.value.code == "privacy.guard"
    with pytest.raises(PrivacyError, match="no 64-bit float|not a 64-bit float") as raised:
        OpenDpNoise().laplace([1], noise=dataclasses.replace(noise, scale=Fraction(1, 3)), rho=RHO)
    assert raised.value.code == "privacy.guard"


def test_threads_draw_in_pieces_and_each_asserts_the_whole():
    noise = laplace_noise(1, Fraction(10**8))
    values = list(range(0, 10_000_000, 10_000))
    assert len(values) > PIECE
    assert ThreadedNoise(2).laplace(values, noise=noise, rho=Fraction(10**8)) == values
    with pytest.raises(PrivacyError, match="too little"):
        ThreadedNoise(2).laplace(values, noise=noise, rho=Fraction(10**7))


# The plan

DISTANCES = {
    COUNT: [4],
    "SELECT COUNT(DISTINCT patient) AS n FROM visits": [1],
    "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district": [2],
    "SELECT district, COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits GROUP BY district": [4, 2],
    "SELECT SUM(age) AS s FROM visits": [4 * 120],
    "SELECT AVG(age) AS m FROM visits": [4, 4 * 60],
    "SELECT COUNT(DISTINCT district) AS k FROM visits": [4],
    "SELECT district, COUNT(*) AS n FROM visits WHERE district IS NOT NULL GROUP BY ROLLUP (district)": [8],
}


@pytest.mark.parametrize("sql", DISTANCES)
def test_l1_sensitivities_are_exact_whole_numbers(sql):
    plan = planned(sql)
    assert [statistic.laplace.distance for statistic in plan.statistics] == DISTANCES[sql]
    assert all(s.laplace == laplace_noise(s.laplace.distance, s.rho) for s in plan.statistics)
    assert all(s.sigma == laplace_deviation(s.laplace.scale) for s in plan.statistics)
    assert reach_of_95(plan.entry_sigmas()) == Z_LAPLACE


def test_a_sensitivity_that_is_no_whole_number_is_refused_and_never_rounded():
    """Rounded down, the noise would be too small; the check is no `assert`, which `python -O` leaves out."""
    statistic = planned(COUNT).statistics[0].statistic
    influence = influence_of(world.check(COUNT + SETTING))
    assert distance_of(statistic, influence, 1) == 4
    with pytest.raises(PrivacyError, match="no whole number") as caught:
        distance_of(dataclasses.replace(statistic, sensitivity_squared=17), influence, 1)
    assert caught.value.code == "privacy.guard"


def test_a_second_kind_of_units_and_exchanged_rows_are_paid_for_in_l1():
    person = OtherUnit("person", "person_id", "自然人", 5)
    both = dataclasses.replace(world.describe(), also_protects=(person,))
    sql = "SELECT district, COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits GROUP BY district"
    # At most five enterprises touched, each of which exchanges its groups.
    assert [s.laplace.distance for s in planned(sql, both).statistics] == [40, 20]
    described = joins.bounded(rows=3, groups=3, other_rows=3, other_groups=3)
    inner = "SELECT COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured" + SETTING
    assert [s.laplace.distance for s in joins.plan(inner, described).statistics] == [3]
    left = inner.replace(" JOIN", " LEFT JOIN")
    assert [s.laplace.distance for s in joins.plan(left, described).statistics] == [6]


def test_all_of_rho_is_charged_and_pure_losses_add():
    plan = planned(COUNT)
    assert plan.loss == LOSS
    assert plan.pure_loss == Fraction(1, 2)  # sqrt(2 / 8), and a scale of 8 is a float.
    both = planned("SELECT COUNT(*) AS n, SUM(age) AS s FROM visits")
    assert both.loss == LOSS
    assert both.pure_loss == sum(s.laplace.epsilon for s in both.statistics)
    assert Fraction(7071, 10_000) < both.pure_loss <= Fraction(7072, 10_000)
    assert sum(s.laplace.epsilon**2 / 2 for s in both.statistics) <= RHO
    assert planned(COUNT, loss=PrivacyLoss(RHO, Fraction(1, 10**6))).loss == LOSS, "no delta is spent"


def test_weights_split_the_charge():
    sql = "SELECT COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits SETTINGS noise = 'laplace', weights = (1, 3)"
    plan = world.plan(sql, loss=LOSS)
    assert [s.rho for s in plan.statistics] == [RHO / 4, RHO * 3 / 4]


ASKED = ", pure_loss = 0.5"


@pytest.mark.parametrize(
    ("sql", "rho"),
    [
        (COUNT, Fraction(1, 8)),
        ("SELECT COUNT(*) AS n, SUM(age) AS s FROM visits", Fraction(1, 16)),
        (BY_DISTRICT, Fraction(1, 16)),
    ],
)
def test_a_pure_loss_that_is_asked_for_is_kept_and_charged_what_it_costs(sql, rho):
    plan = world.plan(sql + SETTING + ASKED, loss=PrivacyLoss(Fraction(1)))
    assert Fraction(1, 2) * (1 - Fraction(1, 10**8)) < plan.pure_loss <= Fraction(1, 2)
    assert plan.loss == PrivacyLoss(rho)
    assert sum(s.rho for s in plan.statistics) == rho
    same = world.plan(sql + SETTING, loss=PrivacyLoss(rho))
    assert [s.laplace for s in plan.statistics] == [s.laplace for s in same.statistics]
    assert plan.to_record()["settings"]["pure_loss"] == "1/2"
    assert "pure_loss" not in same.to_record()["settings"]


def test_a_charge_that_has_no_short_form_is_rounded_up_onto_the_grid_of_accounts():
    sql = (
        "SELECT COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits SETTINGS noise = 'laplace', weights = (1, 6), "
    )
    plan = world.plan(sql + "pure_loss = 0.5", loss=PrivacyLoss(Fraction(1)))
    exact = sum(s.rho for s in plan.statistics)
    assert exact == Fraction(37, 49) / 8
    assert exact < plan.loss.rho < exact + Fraction(1, 10**30)
    assert plan.loss == plan.loss.on_grid()
    shares = (Fraction(1, 14), Fraction(6, 14))
    assert all(s.laplace.epsilon <= share for s, share in zip(plan.statistics, shares, strict=True))
    tight = world.plan(sql + "pure_loss = 0.5", loss=PrivacyLoss(exact))
    assert tight.loss.rho == exact, "never more than the question has"


def test_a_pure_loss_that_the_question_cannot_pay_is_refused_with_what_it_takes():
    with pytest.raises(
        BoundError, match="a pure loss of 0.5 is charged rho = 0.125, more than the question has"
    ) as raised:
        world.plan(COUNT + SETTING + ASKED, loss=PrivacyLoss(Fraction(124, 1000)))
    assert raised.value.code == "privacy.bound.pure"
    named = re.search("rho: (.*), which is --epsilon (.*) at delta 1e-7", raised.value.hint)
    for loss in (PrivacyLoss(Fraction(named[1])), loss_from_epsilon(Fraction(named[2]), Fraction(1, 10**7))):
        assert world.plan(COUNT + SETTING + ASKED, loss=loss).loss.rho == RHO


def test_a_wanted_accuracy_is_planned_without_the_pure_loss_that_fixes_the_noise():
    within = Fraction(1, 50)
    asked, free = (least_loss(world.check(COUNT + SETTING + more), within, 1000, Fraction(0)) for more in (ASKED, ""))
    assert asked == free


@pytest.mark.parametrize("noise", ["", "noise = 'gaussian', "])
def test_a_pure_loss_without_laplace_noise_is_refused(noise):
    with pytest.raises(QueryError, match="only Laplace noise has a pure loss") as raised:
        world.plan(f"{COUNT} SETTINGS {noise}pure_loss = 0.5")
    assert raised.value.code == "input.query.noise"
    world.plan(f"{COUNT} {raised.value.hint.partition('write ')[2].partition(', or leave')[0]}", loss=LOSS)


@pytest.mark.parametrize("value", ["0", "-1", "1001", "'a'", "(1, 2)", "TRUE"])
def test_a_pure_loss_is_one_positive_number(value):
    with pytest.raises(QueryError, match="a setting|the setting|settings are") as raised:
        world.plan(f"{COUNT} SETTINGS noise = 'laplace', pure_loss = {value}")
    assert raised.value.code == "input.query.setting"


PLAIN_DIGESTS = {
    BY_DISTRICT: {},
    "SELECT diag, COUNT(DISTINCT patient) AS n FROM visits GROUP BY diag": {},
    "SELECT MEDIAN(age) AS m FROM visits SETTINGS quantile = 'noisy_max'": {},
}


@pytest.mark.parametrize("sql", PLAIN_DIGESTS)
def test_a_plan_without_the_setting_has_no_trace_of_it(sql):
    plan = world.plan(sql)
    record = plan.to_record()
    assert "noise" not in record["settings"]
    assert all("laplace" not in statistic for statistic in record["statistics"])
    assert plan.pure_loss is None
    assert reach_of_95(plan.entry_sigmas()) == Z
    said = sql + (", " if "SETTINGS" in sql else " SETTINGS ") + "noise = 'gaussian'"
    assert world.plan(said).digest() == plan.digest()


def test_the_kind_of_noise_is_in_the_digest():
    plan = planned(COUNT)
    record = plan.to_record()
    assert record["settings"]["noise"] == "laplace"
    assert record["statistics"][0]["laplace"] == {"scale": "8", "distance": "4", "epsilon": "1/2"}
    assert plan.digest() != world.plan(COUNT, loss=LOSS).digest()


# What it is not for; each with a rewrite that is accepted

REFUSED = {
    "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag": (
        "private group keys, whose threshold needs a delta",
        "SELECT CASE WHEN diag = 'A' THEN 'A' ELSE 'other' END AS d, COUNT(*) AS n FROM visits GROUP BY 1" + SETTING,
    ),
    "SELECT MEDIAN(age) AS m FROM visits": (
        "quantiles, which are read from a noisy tree",
        "SELECT COUNT(*) FILTER (WHERE age <= 10) AS n FROM visits" + SETTING,
    ),
    "SELECT COUNT(*) AS n, QUANTILE_CONT(age, 0.9) AS q FROM visits": (
        "quantiles, which are read from a noisy tree",
        "SELECT QUANTILE_CONT(age, 0.9) AS q FROM visits",
    ),
    "SELECT COUNT(*) * SUM(age) AS p FROM visits": (
        "a product of two noisy values, whose error it does not know",
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits" + SETTING,
    ),
    "SELECT 1 + SUM(age) / COUNT(*) * COUNT(*) AS p FROM visits": (
        "a product of two noisy values, whose error it does not know",
        "SELECT 1 + SUM(age) / COUNT(*) * 3 AS p, COUNT(*) AS n FROM visits" + SETTING,
    ),
}
WITH_OTHERS = {
    "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district ORDER BY n DESC LIMIT 2"
    " SETTINGS top = 'noisy_max'": "a choice by report-noisy-max, which has noise of its own",
    "SELECT SUM(age) AS s FROM visits SETTINGS bounding = 'rescale'": "rescaling, which holds units to a norm in L2",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_it_is_not_for_is_refused_with_a_rewrite_that_is_accepted(sql):
    reason, rewrite = REFUSED[sql]
    with pytest.raises(QueryError, match=f"`noise = 'laplace'` is not for {reason}") as raised:
        planned(sql)
    assert raised.value.code == "input.query.noise"
    assert raised.value.details["line"] == 1
    assert raised.value.hint
    world.plan(rewrite)
    world.plan(sql)  # And without the setting, as every hint says or leaves open.


@pytest.mark.parametrize("sql", WITH_OTHERS)
def test_settings_that_do_not_go_with_it_are_refused_and_either_alone_is_accepted(sql):
    with pytest.raises(QueryError, match=WITH_OTHERS[sql]) as raised:
        world.plan(sql + ", noise = 'laplace'")
    assert raised.value.code == "input.query.noise"
    world.plan(sql)
    world.plan(sql.partition(" SETTINGS")[0] + SETTING)


@pytest.mark.parametrize("value", ["'gumbel'", "TRUE", "(1)", "''"])
def test_no_other_noise_is_known(value):
    with pytest.raises(QueryError, match="the setting `noise` is not known") as raised:
        world.plan(COUNT + f" SETTINGS noise = {value}")
    assert raised.value.code == "input.query.setting"
    assert "noise = 'laplace'" in raised.value.hint
