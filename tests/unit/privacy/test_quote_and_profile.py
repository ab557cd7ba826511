"""Quotes from public facts, and the profile that lets them speak of bias."""

import dataclasses
from fractions import Fraction

import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import DescriptionError
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.profile import Profile, profile_plan, read_profile
from sandbox.privacy.quote import quote_plan
from tests.support import privacy_world as world

PROFILE_LOSS = PrivacyLoss(Fraction(1000))  # little noise, so that five units are enough to speak of bias


def profile(units, noise=None):
    plan = profile_plan(world.describe(rows=4), PROFILE_LOSS)
    table = world.table(world.visits({unit: [{}] * rows for unit, rows in units.items()}))
    measured = measure(plan, run_plan(plan, [table]), world.NoNoise() if noise is None else noise)
    return plan, measured, read_profile(plan, measured.answer)


def test_a_profile_that_drowns_in_its_noise_says_nothing_of_bias():
    _, _, found = profile({1: 1, 2: 1, 3: 2, 4: 10, 5: 60})
    drowned = dataclasses.replace(found, loss=PrivacyLoss(Fraction(1, 100)))
    assert found.tells_rows()
    assert not drowned.tells_rows()
    assert drowned.lost_share(4) is None
    quote = quote_plan(world.plan("SELECT COUNT(*) AS n FROM visits"), drowned)
    assert any("too small for its profile" in note for note in quote.notes)


def test_quotes_say_what_clamping_and_a_threshold_do():
    keyed = quote_plan(world.plan("SELECT diag, SUM(LEAST(cost, 500)) AS s FROM visits GROUP BY diag")).notes
    assert any("(s 0 to 500)" in note and "the nearer bound" in note for note in keyed)
    assert any("leans high by" in note and "in all but 1 of 40" in note for note in keyed)
    plain = quote_plan(world.plan("SELECT COUNT(*) AS n FROM visits")).notes
    assert not any("nearer bound" in note for note in plain)


def test_a_profile_counts_units_by_their_rows_and_says_what_a_bound_drops():
    _, _, found = profile({1: 1, 2: 1, 3: 2, 4: 10, 5: 60})
    assert len(found.counts) == 33
    assert (found.counts[0], found.counts[1], found.counts[9], found.counts[32]) == (2, 1, 1, 1)
    assert found.total_rows() == 2 + 2 + 10 + 33
    assert found.kept_rows(4) == 2 + 2 + 4 + 4
    assert found.lost_share(4) == 1 - Fraction(12, 47)
    assert found.lost_share(60) == 0


def test_a_profile_is_released_and_audited_as_every_answer_is():
    plan, measured, found = profile(dict.fromkeys(range(200), 2), OpenDpNoise())
    verify_measured(plan, measured.answer.to_record(), measured.sealed)
    canonical_bytes(plan.to_record())
    assert plan.statistics[0].statistic.sensitivity_squared == 1
    assert Profile.parse(found.to_record()) == found
    with pytest.raises(DescriptionError, match="profile record is malformed"):
        Profile.parse({**found.to_record(), "counts": ["01", "2"]})


def test_an_empty_profile_promises_nothing():
    assert Profile("clinic", "patient", (0, -3), PROFILE_LOSS).lost_share(1) is None


def test_a_quote_names_cost_error_and_bounding_before_anything_is_spent():
    plan = world.plan("SELECT district, COUNT(*) AS n, AVG(cost) AS mean, SUM(age) AS s FROM visits GROUP BY 1")
    quote = quote_plan(plan)
    assert (quote.keys, quote.cells, quote.threshold) == ("public", 4, None)
    assert quote.loss.delta == 0, "public keys need no threshold, and so spend no delta"
    assert (quote.epsilon, quote.delta) == people_loss(PrivacyLoss(plan.loss.rho))
    assert quote.columns == (("clinic", ("age", "cost", "district")),)
    assert quote.bounding == "rank <= 4"
    assert quote.bound == {"rows": 4, "groups": 2}
    count, mean, total = quote.statistics
    assert (count.sensitivity, mean.sensitivity, total.sensitivity) == ("4", "200000", "240")
    assert count.noise_scale == pytest.approx(float(plan.statistics[0].sigma))
    assert count.half_width_95 >= 1.95 * count.standard_error
    assert mean.reference_count == 1000
    assert total.reference_count is None
    assert any("no profile yet" in note for note in quote.notes)
    canonical_release_bytes(quote.to_record())


def test_a_quote_with_a_profile_speaks_of_bias_and_of_the_usual_cell():
    _, _, found = profile({1: 1, 2: 1, 3: 2, 4: 10, 5: 60})
    plan = world.plan("SELECT AVG(age) AS mean FROM visits")
    quote = quote_plan(plan, found)
    assert quote.statistics[0].reference_count == 12
    assert any("about 74.5 % of all rows" in note for note in quote.notes)
    measured = measure(plan, run_plan(plan, [world.table(world.visits({1: [{}]}))]), world.NoNoise(), profile=found)
    assert any("about 74.5 % of all rows" in note for note in measured.answer.notes)
    assert measured.sealed["profile"] == found.to_record()
    none = quote_plan(plan, Profile("clinic", "patient", (100, 5, 0), PROFILE_LOSS))
    assert any("less than 0.1 %" in note for note in none.notes)


def test_a_quote_for_private_keys_names_the_threshold():
    plan = world.plan("SELECT diag, COUNT(DISTINCT patient) FROM visits GROUP BY 1")
    quote = quote_plan(plan)
    assert (quote.keys, quote.cells) == ("private", None)
    assert quote.threshold == plan.threshold.value
    assert quote.statistics[0].sensitivity == "sqrt(2)"
    assert any(f"noisy count of {plan.threshold.value} units" in note for note in quote.notes)


def test_more_loss_buys_less_error():
    errors = []
    for factor in (1, 4, 16):
        plan = world.plan("SELECT SUM(cost) FROM visits", loss=PrivacyLoss(Fraction(factor, 100)))
        errors.append(quote_plan(plan).statistics[0].standard_error)
    assert errors[0] == pytest.approx(2 * errors[1], rel=1e-6)
    assert errors[1] == pytest.approx(2 * errors[2], rel=1e-6)
