"""The deployed path, measured: coverage, bias, and lower bounds on the loss, each with canaries that must be caught.

OpenDP takes no seed, so these tests are statistical.  Each states its false-alarm rate: the chance that a right
implementation fails it.  All rates together are below 1e-6 for one run.
"""

import dataclasses
import math
from fractions import Fraction

import pytest

from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accounting import epsilon_at
from sandbox.privacy.fit import FALSE_ALARM, energy_limits
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan
from tests.support import privacy_world as world
from tests.support import proving

pytestmark = pytest.mark.statistical
ALARM = 1e-8
RHO = Fraction(1, 2)
ROUNDS = 60
BY_AGE = "SELECT age, COUNT(*) AS n FROM visits GROUP BY age"


class HalfNoise(OpenDpNoise):
    """A canary: half the noise that was planned."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return super().gaussian(values, sigma=sigma / 2, sensitivity_squared=sensitivity_squared, rho=rho * 4)


def plan_with(rho: Fraction, sql: str = BY_AGE, delta: Fraction = Fraction(0), rows: int = 3) -> Plan:
    return world.plan(sql, world.describe(rows=rows, groups=rows), loss=PrivacyLoss(rho, delta))


def draws(plan: Plan, amounts: tuple[int, ...], noise, rounds: int = ROUNDS):
    """Yield the answers of a plan whose every cell holds `amounts`: each cell is one trial of the mechanism."""
    cells = {(key,): amounts for key in plan.keys[0].domain}
    partials = Partials(plan.digest(), cells)
    for _ in range(rounds):
        yield measure(plan, partials, noise).answer


def hoeffding(trials: int) -> float:
    """Return how far a share of `trials` strays from its chance with probability ALARM at most."""
    return math.sqrt(math.log(2 / ALARM) / (2 * trials))


@pytest.mark.parametrize("rho", [Fraction(100), Fraction(1), Fraction(1, 200)])
def test_counts_are_unbiased_and_their_intervals_cover_95_percent(rho):
    plan = plan_with(rho)
    covered = total = trials = 0
    for answer in draws(plan, (50,), OpenDpNoise()):
        for row, low, high in zip(answer.rows, answer.lower, answer.upper, strict=True):
            covered += low[1] <= 50 <= high[1]
            total += row[1] - 50
            trials += 1
    assert covered / trials >= 0.95 - hoeffding(trials)
    # The mean of n sub-Gaussian draws of scale sigma.
    sigma = float(plan.statistics[0].sigma)
    assert abs(total / trials) <= sigma * math.sqrt(2 * math.log(2 / ALARM) / trials)


@pytest.mark.parametrize("count", [5000, 60, 8, 1])
def test_intervals_of_means_cover_95_percent_however_small_the_group(count):
    plan = plan_with(Fraction(1, 20), "SELECT age, AVG(cost) AS mean FROM visits WHERE cost > 0 GROUP BY age")
    # Every row at 700 yuan: 20 000 hundredths above the middle of the public range.
    covered = trials = 0
    for answer in draws(plan, (count, count * 20_000), OpenDpNoise()):
        for low, high, row in zip(answer.lower, answer.upper, answer.rows, strict=True):
            covered += row[1] is None or low[1] <= 700 <= high[1]
            trials += 1
    assert covered / trials >= 0.95 - hoeffding(trials)


ROWS = 3
FAR_DELTA = Fraction(1, 100)


def cuts(plan: Plan, rows: int) -> tuple[float, float]:
    """Return where an attacker looks: far out for epsilon, in the middle for total variation."""
    return 100 + rows / 2 + float(plan.statistics[0].sigma), 100 + rows / 2


def loss_of(counts, trials: int) -> tuple[float, float]:
    """Return what counts beyond the cuts prove: epsilon at FAR_DELTA, and total variation; but for 4 * ALARM."""
    (with_far, with_near), (without_far, without_near) = (
        [proving.limits(int(count), trials, ALARM) for count in side] for side in counts
    )
    return math.log(max(1e-9, with_far[0] - float(FAR_DELTA)) / without_far[1]), with_near[0] - without_near[1]


def loss_shown(plan: Plan, noise, rows: int) -> tuple[float, float]:
    """Return what draws prove of neighbours `rows` rows apart."""
    counts, trials = [], 0
    for amount in (100 + rows, 100):
        values = [row[1] for answer in draws(plan, (amount,), noise) for row in answer.rows]
        counts.append([sum(value > cut for value in values) for cut in cuts(plan, rows)])
        trials = len(values)
    return loss_of(counts, trials)


def loss_sure(plan: Plan, rows: int, *, noise: float = 1) -> tuple[float, float]:
    """Return the least that draws of discrete Gaussians prove, but for 4 * ALARM, at `noise` times the scale."""
    sigma, trials = float(plan.statistics[0].sigma) * noise, ROUNDS * len(plan.keys[0].domain)
    counts = [
        [bound(proving.gaussian_passes(sigma, math.floor(cut) + 1 - amount), trials, ALARM) for cut in cuts(plan, rows)]
        for amount, bound in ((100 + rows, proving.fewest), (100, proving.most))
    ]
    return loss_of(counts, trials)


def test_the_loss_that_an_attacker_can_show_is_within_the_claim_and_canaries_are_caught():
    """False-alarm rate: 16 * ALARM.  The claim: epsilon at (rho, 1/100), total variation sqrt(rho / 2) (Pinsker)."""
    plan = plan_with(RHO)
    claimed, variation = float(epsilon_at(RHO, FAR_DELTA)), math.sqrt(RHO / 2)
    sure_epsilon, sure = loss_sure(plan, ROWS)
    assert sure_epsilon > 0.5
    assert sure > 0.25
    epsilon, shown = loss_shown(plan, OpenDpNoise(), ROWS)
    assert sure_epsilon <= epsilon <= claimed
    assert sure <= shown <= variation
    for canary, noise, rows in ((HalfNoise(), 0.5, ROWS), (OpenDpNoise(), 1, 2 * ROWS)):
        assert loss_sure(plan, rows, noise=noise)[1] > variation
        _, broken = loss_shown(plan, canary, rows)
        assert broken > variation, "a broken mechanism went unnoticed"


def released(plan: Plan, trials: int) -> int:
    alone = {(f"unit {index}",): (1,) for index in range(trials)}
    return len(measure(plan, Partials(plan.digest(), alone), OpenDpNoise()).answer.rows)


def test_a_key_of_one_unit_passes_with_chance_delta_at_most_and_a_lower_threshold_is_caught():
    """Each of many keys of one unit is one trial.  False-alarm rate: 3 * ALARM."""
    delta, trials = Fraction(1, 50), 10_000
    plan = plan_with(Fraction(1, 10), "SELECT diag, COUNT(DISTINCT patient) AS n FROM visits GROUP BY 1", delta, rows=1)
    assert plan.threshold is not None
    sigma = float(plan.statistics[0].sigma)
    chance = proving.gaussian_passes(sigma, plan.threshold.value - 1)
    assert float(delta) / 4 < chance <= float(delta)
    assert proving.fewest(chance, trials, ALARM) <= released(plan, trials) <= proving.most(chance, trials, ALARM)
    lowered = dataclasses.replace(plan.threshold, value=plan.threshold.value - math.ceil(sigma), delta=Fraction(1, 2))
    canary = dataclasses.replace(plan, threshold=lowered)
    surely = int(proving.fewest(proving.gaussian_passes(sigma, lowered.value - 1), trials, ALARM))
    assert proving.limits(surely, trials, ALARM)[0] > float(delta)
    assert proving.limits(released(canary, trials), trials, ALARM)[0] > float(delta)


@pytest.mark.parametrize("sigma", [0.4, 3.0, 1000.0])
def test_the_energy_test_of_the_audit_accepts_true_noise_and_is_not_idle(sigma):
    values = OpenDpNoise().gaussian([0] * 2000, sigma=Fraction(sigma), sensitivity_squared=0, rho=Fraction(0))
    low, high = energy_limits(2000, sigma, FALSE_ALARM)
    energy = sum((value / sigma) ** 2 for value in values) / len(values)
    assert low <= energy <= high
    if sigma > 1:
        assert low > 0.4
        assert high < 2.0
