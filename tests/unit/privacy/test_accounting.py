"""Losses for people and for the account: never rounded in our favour."""

import math
from fractions import Fraction

import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import BudgetExhaustedError, ExactError
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.privacy.accounting import JobFilter, epsilon_at, epsilon_of, loss_from_epsilon, people_loss
from sandbox.privacy.mechanism import (
    SIGMA_BITS,
    gaussian_measurement,
    gaussian_sigma,
    sqrt_up,
    threshold_measurement,
    threshold_release,
)

EPSILONS = [Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(3), Fraction(20), Fraction(400)]
DELTAS = [Fraction(1, 10**12), Fraction(1, 10**7), Fraction(1, 100)]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_a_loss_from_epsilon_is_within_it_and_wastes_almost_nothing(epsilon, delta):
    loss = loss_from_epsilon(epsilon, delta)
    assert loss.delta == delta / 2
    assert epsilon_at(loss.rho, delta / 2) <= epsilon
    assert epsilon_at(loss.rho * Fraction(1_000_001, 1_000_000), delta / 2) > epsilon * Fraction(999_999, 1_000_000)
    assert epsilon_of(loss, delta) <= epsilon + Fraction(1, 10**6)


@pytest.mark.parametrize("delta", [1e-12, 1e-7, 1e-2])
@pytest.mark.parametrize("sigma", [0.2, 1.0, 7.3, 200.0])
def test_our_conversion_agrees_with_opendps(sigma, delta):
    measurement = gaussian_measurement(sigma)
    rho = Fraction(measurement.map(1.0))
    theirs = dp.c.make_zCDP_to_approxDP(measurement).map(1.0).epsilon(delta)
    ours = epsilon_at(rho, Fraction(delta))
    assert float(ours) == pytest.approx(theirs, rel=1e-4, abs=1e-9)


def test_epsilon_is_rounded_up_and_its_own_delta_is_counted():
    loss = PrivacyLoss(Fraction(1, 50), Fraction(1, 10**7))
    exact = epsilon_at(loss.rho, Fraction(1, 10**7))
    shown = epsilon_of(loss, Fraction(2, 10**7))
    assert exact <= shown <= exact + Fraction(1, 10**6)
    assert epsilon_of(NO_LOSS, Fraction(0)) == 0
    with pytest.raises(ExactError, match="above the loss's own delta"):
        epsilon_of(loss, Fraction(1, 10**7))


@pytest.mark.parametrize(("epsilon", "delta"), [(0, "1/10"), (-1, "1/10"), (1, 0), (1, 1), (2000, "1/10")])
def test_an_epsilon_or_delta_out_of_range_is_refused(epsilon, delta):
    with pytest.raises(ExactError, match="epsilon must lie in"):
        loss_from_epsilon(Fraction(epsilon), Fraction(delta))


def test_people_read_the_loss_that_they_asked_for():
    assert people_loss(loss_from_epsilon(Fraction(1), Fraction(1, 10**6))) == ("1", "1e-6")
    assert people_loss(PrivacyLoss(Fraction(1, 50)))[1] == "1e-7"
    assert people_loss(PrivacyLoss(Fraction(1), Fraction(1))) == ("unbounded", "1")


def test_a_square_root_is_never_rounded_down():
    for square in (Fraction(2), Fraction(3), Fraction(10**30 + 1), Fraction(1, 3)):
        assert Fraction(sqrt_up(square)) ** 2 >= square


def test_the_threshold_of_one_group_is_one_above_where_opendp_puts_it():
    sigma, threshold = threshold_release(1, Fraction(1, 50), Fraction(1, 10**7))
    assert sigma == gaussian_sigma(1, Fraction(1, 50))
    assert threshold.value == 28


def chance_of(least, sigma):
    """Return the chance that a discrete Gaussian is `least` or more, summed by hand."""
    weights = {x: math.exp(-(x**2) / (2 * sigma**2)) for x in range(-int(40 * sigma) - 40, int(40 * sigma) + 40)}
    return math.fsum(weight for x, weight in weights.items() if x >= least) / math.fsum(weights.values())


@pytest.mark.parametrize("groups", [1, 4, 50])
@pytest.mark.parametrize("rho", [Fraction(1, 200), Fraction(1, 50), Fraction(1, 2), Fraction(2)])
@pytest.mark.parametrize("delta", [Fraction(1, 10**4), Fraction(1, 10**7)])
@pytest.mark.parametrize("most", [1, 3])
def test_a_key_that_one_table_alone_has_passes_with_less_than_delta(groups, rho, delta, most):
    """OpenDP's map leaves out the chance of the threshold itself, at which it does release a key."""
    sigma, threshold = threshold_release(groups, rho, delta, squared=groups * most**2, most=most)
    passes = groups * chance_of(threshold.value - most, float(sigma))
    assert passes <= delta
    assert groups * chance_of(threshold.value - most - 2, float(sigma)) > float(delta) * (1 - 1e-3), "nor much less"
    kept = threshold_measurement(1e-6, threshold.value)({"at": threshold.value, "below": threshold.value - 1})
    assert set(kept) == {"at"}


def passing_chance(sigma, threshold, groups):
    """Return the chance that any of a unit's own keys passes, from the law of the discrete Gaussian."""
    masses = [math.exp(-((place / sigma) ** 2) / 2) for place in range(-math.ceil(40 * sigma) - 1, threshold * 3)]
    whole = math.fsum(masses)
    own = math.fsum(masses[threshold - 1 + math.ceil(40 * sigma) + 1 :]) / whole
    return -math.expm1(groups * math.log1p(-own))


@pytest.mark.parametrize("delta", ["1/50", "1/10000", "1/1000000", "1/10000000", "1/1000000000000"])
@pytest.mark.parametrize("rho", ["1/200", "1/50", "1/10", "1/2", "2", "8"])
@pytest.mark.parametrize("groups", [1, 2, 3, 10])
def test_delta_is_at_least_the_exact_chance_that_a_units_own_key_passes(groups, rho, delta):
    """A past hole: OpenDP's map forgets the noisy counts that equal the threshold, and its measurement lets them pass."""
    sigma, threshold = threshold_release(groups, Fraction(rho), Fraction(delta))
    assert passing_chance(float(sigma), threshold.value, groups) <= Fraction(delta)
    assert threshold.value == 3 or passing_chance(float(sigma), threshold.value - 2, groups) > Fraction(delta)


def test_a_filter_charges_exactly_and_stays_closed_after_a_refusal():
    account = JobFilter(PrivacyLoss(Fraction(1, 10), Fraction(1, 10**6)))
    third = PrivacyLoss(Fraction(1, 30), Fraction(1, 10**7))
    for _ in range(3):
        account.request(third)
    assert account.remaining == PrivacyLoss(Fraction(0), Fraction(7, 10**7))
    account.request(NO_LOSS)
    with pytest.raises(BudgetExhaustedError, match="more loss than the job has left") as raised:
        account.request(PrivacyLoss(Fraction(1, 10**30)))
    assert raised.value.code == "privacy.budget"
    assert raised.value.details["remaining"]["rho"] == "0"
    assert account.closed
    with pytest.raises(BudgetExhaustedError):
        account.request(NO_LOSS)
    assert account.spent.rho == Fraction(1, 10)


def test_a_filter_watches_delta_as_well():
    account = JobFilter(PrivacyLoss(Fraction(1), Fraction(1, 10**9)))
    with pytest.raises(BudgetExhaustedError):
        account.request(PrivacyLoss(Fraction(1, 100), Fraction(1, 10**8)))
    assert account.spent == NO_LOSS


@given(st.integers(1, 2**40), st.fractions(Fraction(1, 10**6), Fraction(10)))
def test_a_scale_is_short_and_hardly_more_than_it_must_be(square, rho):
    sigma = gaussian_sigma(square, rho)
    assert sigma**2 * 2 * rho >= square
    assert sigma**2 * 2 * rho <= square * (1 + Fraction(1, 10**8))
    # An odd whole number times a power of two: its bits are those of the whole number.
    whole = sigma.numerator
    while whole % 2 == 0:
        whole //= 2
    assert whole.bit_length() <= SIGMA_BITS
