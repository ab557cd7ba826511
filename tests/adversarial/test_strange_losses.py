"""Attack: losses of strange sizes and shapes, to pay nothing, to hang the planner, or to make an account unreadable."""

from fractions import Fraction

import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import BoundError, ExactError
from sandbox.jobs.questions import loss_of_request
from sandbox.jobs.specify import loss_of
from sandbox.ledger.state import Account
from sandbox.model.exact import parse_exact
from sandbox.model.loss import GRID, PrivacyLoss
from sandbox.privacy.accounting import epsilon_at, loss_from_epsilon, people_loss
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.mechanism import gaussian_sigma, laplace_noise
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world
from tests.support.strange_jobs import job_file, spec_of

SMALL, LARGE = Fraction(1, 10**400), Fraction(10**399)


@pytest.mark.parametrize("power", [19, 160, 320, 390])
def test_a_loss_beyond_all_sense_is_refused_and_does_not_hang(power):
    with pytest.raises(BoundError) as raised:
        world.plan("SELECT COUNT(*) AS n FROM visits", loss=PrivacyLoss(Fraction(10) ** power))
    assert raised.value.code == "privacy.bound.loss"


def test_a_scale_is_still_rounded_up_at_the_largest_loss():
    rho = Fraction(10**18)
    assert gaussian_sigma(1, rho) ** 2 * 2 * rho >= 1
    noise = laplace_noise(1, rho)
    assert noise.epsilon**2 <= 2 * rho
    assert noise.epsilon * noise.scale >= 1


@pytest.mark.parametrize("rho", [SMALL, Fraction(1, 10**40)])
@pytest.mark.parametrize("asked", ["", ", pure_loss = 1e-300"])
def test_laplace_noise_for_next_to_no_loss_is_refused_and_does_not_hang(rho, asked):
    with pytest.raises(BoundError, match="the noise would be beyond 55 bits|is charged rho = ") as raised:
        world.plan(f"SELECT COUNT(*) AS n FROM visits SETTINGS noise = 'laplace'{asked}", loss=PrivacyLoss(rho))
    assert raised.value.code in {"privacy.bound.loss", "privacy.bound.pure"}


@pytest.mark.parametrize("rho", [Fraction(1, 10**6), Fraction(50), Fraction(10**12), Fraction(10**18)])
def test_laplace_noise_of_any_accepted_size_has_an_answer(rho):
    sql = "SELECT COUNT(*) AS n, AVG(age) AS m FROM visits SETTINGS noise = 'laplace'"
    plan = world.plan(sql, loss=PrivacyLoss(rho))
    found = measure(plan, run_plan(plan, [world.table(world.visits({1: [{}], 2: [{}]}))]), OpenDpNoise())
    verify_measured(plan, found.answer.to_record(), found.sealed)
    if rho > 10**6:
        assert found.answer.rows == ((2, 40.0),)


@pytest.mark.parametrize(
    "loss",
    [PrivacyLoss(rho, delta) for rho in (SMALL, Fraction(1, 100), LARGE) for delta in (Fraction(0), SMALL, 1 - SMALL)],
)
def test_people_can_read_any_loss_and_it_is_never_shown_too_small(loss):
    epsilon, delta = people_loss(loss)
    if epsilon == "unbounded":
        assert loss.delta * 2 > 1
        return
    assert parse_exact(delta) >= loss.delta
    assert parse_exact(epsilon) >= epsilon_at(loss.rho, parse_exact(delta) - loss.delta) - Fraction(1, 10**6)


@pytest.mark.parametrize("epsilon", ["1e-400", "1e-320", "1e-9", "1000"])
@pytest.mark.parametrize("delta", ["1e-400", "1e-320", "1e-7", "0.999999"])
def test_any_epsilon_and_delta_buy_no_more_than_they_say(epsilon, delta):
    loss = loss_from_epsilon(parse_exact(epsilon), parse_exact(delta))
    assert loss.delta == parse_exact(delta) / 2
    assert epsilon_at(loss.rho, loss.delta) <= parse_exact(epsilon)


@pytest.mark.parametrize(
    "text", ["１", "0x1", "1e401", "nan", "inf", "-inf", "1_0", "+1", "1/0", "", " ", "1e", "٣", "½"]
)
def test_an_amount_is_written_in_plain_digits_or_refused(text):
    with pytest.raises(ExactError):
        parse_exact(text)


@pytest.mark.parametrize("epsilon", ["0", "-1", "1001", "-1e-400"])
def test_no_epsilon_of_nothing_or_too_much(epsilon):
    with pytest.raises(ExactError):
        loss_from_epsilon(parse_exact(epsilon), Fraction(1, 10**6))


@pytest.mark.parametrize("share", ["-1", "-1/10", "2", "10000001/10000000", "1e400"])
def test_a_program_cannot_spend_a_negative_share_or_more_than_all(share):
    spec = spec_of(PrivacyLoss(Fraction(1, 10)))
    with pytest.raises(ExactError):
        loss_of_request({"share": share}, spec, spec.loss)


def test_shares_with_denominators_of_their_own_leave_an_account_that_can_be_written_down():
    """Each share is short; sums of exact ones had thousands of digits, and then no entry could hold them."""
    spec = spec_of(PrivacyLoss(Fraction(1, 10), Fraction(1, 10**6)))
    spent = PrivacyLoss(Fraction(0))
    for odd in range(10**29 + 1, 10**29 + 121, 2):
        loss = loss_of_request({"share": f"1/{odd}"}, spec, spec.loss)
        assert loss.fits(spec.loss.scaled(Fraction(1, odd)))
        spent += loss
    assert PrivacyLoss.parse(spent.to_record()) == spent
    third = loss_of_request({"share": "1/3"}, spec, spec.loss)
    assert 0 <= spec.loss.rho / 3 - third.rho < Fraction(1, GRID)


def test_jobs_with_denominators_of_their_own_leave_an_account_that_can_be_written_down():
    account = Account("dataset:clinic/patient", PrivacyLoss(Fraction(1)))
    for odd in range(10**395 + 1, 10**395 + 61, 2):
        loss = loss_of(job_file(PrivacyLoss(Fraction(1, 1000) + Fraction(1, odd))))
        assert 0 <= Fraction(1, 1000) + Fraction(1, odd) - loss.rho < Fraction(1, GRID)
        account = account.reserve(loss)
        assert PrivacyLoss.parse(account.remaining.to_record()) == account.remaining
