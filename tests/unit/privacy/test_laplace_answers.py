"""Laplace noise by choice: what is released, quoted and replayed."""

import math
from fractions import Fraction

import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import CanonicalError, ReplayMismatchError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer
from sandbox.privacy.accuracy import least_loss, relative_error
from sandbox.privacy.fit import check_laplace_fit
from sandbox.privacy.laplace import laplace_deviation
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.mechanism import (
    gaussian_sigma,
    laplace_noise,
)
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from sandbox.privacy.quote import quote_plan
from sandbox.privacy.scales import Z_LAPLACE, Z
from tests.support import privacy_world as world
from tests.support.laplace_world import BY_DISTRICT, COUNT, ENGINE, LOSS, RHO, SETTING, TABLE, measured, planned

# The answer


def test_an_answer_says_its_pure_loss_beside_the_charge():
    plan, found = measured()
    record = found.answer.to_record()
    assert record["pure_loss"] == {"epsilon": str(plan.pure_loss), "delta": "0"}
    assert record["loss"] == LOSS.to_record()
    (said,) = [note for note in record["notes"] if "pure loss" in note]
    assert "discrete Laplace: this answer has a pure loss of epsilon = 0.707107, delta = 0;" in said
    assert said.endswith("its accounts are charged rho = 0.125 for it")
    assert Answer.parse(record) == found.answer
    assert "pure_loss" not in world_answer(BY_DISTRICT).to_record()


def world_answer(sql):
    plan = world.plan(sql, loss=LOSS)
    return measure(plan, run_plan(plan, [TABLE], engine=ENGINE), OpenDpNoise()).answer


@pytest.mark.parametrize("broken", [{}, {"epsilon": "x", "delta": "0"}, "1/2", {"epsilon": 0.5, "delta": "0"}])
def test_a_malformed_pure_loss_is_refused(broken):
    record = {**measured()[1].answer.to_record(), "pure_loss": broken}
    with pytest.raises(CanonicalError, match="an answer record is malformed"):
        Answer.parse(record)


def test_errors_are_those_of_the_law_and_intervals_reach_further_than_a_normal():
    plan, found = measured("SELECT district, COUNT(*) AS n FROM visits GROUP BY district")
    answer, sigma = found.answer, laplace_deviation(plan.statistics[0].laplace.scale)
    half = math.ceil(Z_LAPLACE * sigma)
    for row, error, low, high in zip(answer.rows, answer.standard_errors, answer.lower, answer.upper, strict=True):
        assert error[1] == float(sigma)
        assert (row[1] - low[1], high[1] - row[1]) == (half, half)
    assert half > math.ceil(Z * sigma)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT AVG(cost) AS v FROM visits",
        "SELECT SUM(cost) / SUM(age) AS v FROM visits",
        "SELECT SUM(age) - 20 * COUNT(*) AS v FROM visits",
        "SELECT STDDEV(age) AS v FROM visits",
        "SELECT SUM(cost) AS v FROM visits",
    ],
)
def test_every_kind_of_interval_reaches_by_the_noises_own_law(sql):
    """With much data: half-width over error is 2.118 where noise is Laplace's, and 1.96 where it is Gaussian."""
    # Enough loss for small noise, but steps enough that rounding to them does not show.
    for setting, reach in ((SETTING, Z_LAPLACE), ("", Z)):
        plan = world.plan(sql + setting, loss=PrivacyLoss(Fraction(1, 5)))
        units = {u: [{"age": 20 + u % 60, "cost": 1_000 * (u % 90)}] * 2 for u in range(20_000)}
        value = measure(plan, run_plan(plan, [world.table(world.visits(units))], engine=ENGINE), world.NoNoise()).answer
        half = (value.upper[0][0] - value.lower[0][0]) / 2
        assert half / value.standard_errors[0][0] == pytest.approx(float(reach), rel=0.005)


def test_totals_that_add_up_keep_the_reach_of_their_law():
    sql = (
        "SELECT district, SUM(cost) AS s FROM visits WHERE district IS NOT NULL GROUP BY ROLLUP (district) "
        "SETTINGS consistent = TRUE, noise = 'laplace'"
    )
    plan = world.plan(sql, loss=LOSS)
    answer = measure(plan, run_plan(plan, [TABLE], engine=ENGINE), OpenDpNoise()).answer
    for row, error, low, high in zip(answer.rows, answer.standard_errors, answer.lower, answer.upper, strict=True):
        assert (high[1] - low[1]) / 2 / error[1] == pytest.approx(float(Z_LAPLACE), rel=1e-3), row
    total = next(row[1] for row in answer.rows if row[0] == "(total)")
    assert total == pytest.approx(sum(row[1] for row in answer.rows if row[0] != "(total)"))


# Quotes and planning


def test_a_quote_names_the_noise_its_l1_sensitivity_and_what_gaussian_noise_would_be():
    quote = quote_plan(planned("SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY district"))
    (statistic,) = quote.statistics
    assert (statistic.mechanism, statistic.sensitivity) == ("discrete Laplace", "2")
    assert statistic.half_width_95 == math.ceil(Z_LAPLACE * Fraction(statistic.standard_error))
    assert quote.pure_loss == Fraction(1, 2)
    assert quote.to_record()["pure_loss"] == {"epsilon": "1/2", "delta": "0"}
    assert (
        "Gaussian noise at the same charge is 1.99 times narrower: leave `noise` out where delta = 0 is not needed"
        in quote.notes
    )
    several = quote_plan(planned("SELECT COUNT(*) AS n, COUNT(DISTINCT patient) AS u FROM visits")).notes
    assert any("is 1.4" in note and "times narrower" in note for note in several)
    plain = quote_plan(world.plan(COUNT)).to_record()
    assert "pure_loss" not in plain
    assert not any("Gaussian" in note or "pure" in note for note in plain["notes"])


def test_nothing_is_said_of_gaussian_noise_where_it_is_not_narrower():
    """Far below one step Laplace noise of the same charge is the smaller one."""
    loss = PrivacyLoss(Fraction(5000))
    plan = planned("SELECT COUNT(DISTINCT patient) AS n FROM visits", loss=loss)
    assert plan.statistics[0].sigma < gaussian_sigma(1, loss.rho)
    assert not any("narrower" in note for note in quote_plan(plan).notes)


def test_a_wanted_accuracy_is_planned_for_its_own_intervals():
    within = Fraction(1, 50)
    query, plain = world.check(COUNT + SETTING), world.check(COUNT)
    wanted, gaussian = (least_loss(q, within, 1000, Fraction(0)).rho for q in (query, plain))
    assert relative_error(plan_query(query, PrivacyLoss(wanted)), 1000) <= within
    assert relative_error(plan_query(query, PrivacyLoss(wanted * Fraction(9, 10))), 1000) > within
    # (2.118 / 1.96)**2 * 2, but for whole steps.
    assert 2 < wanted / gaussian < Fraction(27, 10)


# The auditor


def test_a_replay_holds_and_finds_another_noise_and_another_claim():
    plan, found = measured("SELECT day, COUNT(*) AS n FROM visits WHERE day < DATE '2020-03-01' GROUP BY day")
    record = found.answer.to_record()
    verify_measured(plan, record, found.sealed)
    with pytest.raises(ReplayMismatchError, match="the answer's pure_loss are not the replay's") as raised:
        verify_measured(plan, {**record, "pure_loss": {"epsilon": "1/4", "delta": "0"}}, found.sealed)
    assert raised.value.details["place"] == "pure_loss"
    with pytest.raises(ReplayMismatchError, match="unknown or missing fields"):
        verify_measured(plan, {name: part for name, part in record.items() if name != "pure_loss"}, found.sealed)
    quiet = measured(
        "SELECT day, COUNT(*) AS n FROM visits WHERE day < DATE '2020-03-01' GROUP BY day", world.NoNoise()
    )
    with pytest.raises(ReplayMismatchError, match="not of its mechanism's size"):
        verify_measured(plan, quiet[1].answer.to_record(), quiet[1].sealed)


@pytest.mark.parametrize("times", [Fraction(1, 3), Fraction(4)])
def test_recorded_noise_of_another_size_is_found(times):
    """300 draws: true noise is refused once in 1e9; a mean of 1/3 or 4 is 20 standard deviations from the limits."""
    noise = OpenDpNoise().laplace([0] * 300, noise=laplace_noise(4, RHO / 50), rho=RHO / 50)
    scale = laplace_noise(4, RHO / 50).scale
    check_laplace_fit(noise, scale, place="statistic 0", share=1)
    # Noise that is four times as large has, one time in four, a draw that is itself too large.
    with pytest.raises(ReplayMismatchError, match=r"(not of|beyond) its mechanism") as raised:
        check_laplace_fit(noise, scale / times, place="statistic 0", share=1)
    assert raised.value.details["place"].startswith("statistic 0")


def test_one_draw_too_large_and_noise_where_none_is_are_found():
    with pytest.raises(ReplayMismatchError, match="beyond its mechanism") as raised:
        check_laplace_fit([0, 10**4], Fraction(100), place="statistic 1", share=1)
    assert raised.value.details["place"] == "statistic 1, cell 1"
    check_laplace_fit([], Fraction(3), place="statistic 0", share=1)
    check_laplace_fit([0, 0], Fraction(0), place="statistic 0", share=1)
    with pytest.raises(ReplayMismatchError, match="noise stands where none was drawn"):
        check_laplace_fit([1], Fraction(0), place="statistic 0", share=1)
