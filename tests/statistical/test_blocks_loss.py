"""Blocks, end to end: a function that betrays one unit, run in real workers, and what an attacker can show of it.

OpenDP takes no seed, so these tests are statistical; each states its false-alarm rate.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from sandbox.model.blocks_question import BlockStatistic
from sandbox.privacy.accounting import epsilon_at
from sandbox.privacy.blocks_measure import measure_blocks
from sandbox.privacy.noise import OpenDpNoise
from sandbox.runtime.host.guests import GuestHost
from tests.support import blocks_world as world
from tests.support import privacy_world, proving

pytestmark = [pytest.mark.statistical, pytest.mark.isolation]
ALARM = 1e-8
RHO = Fraction(1, 2)
DELTA = Fraction(1, 100)
COPIES = 32
BLOCKS = 8
# Each output is a mechanism of its own, of loss RHO: one question gives as many trials as it has outputs.
OUTPUTS = tuple(world.output(f"x{copy}") for copy in range(COPIES))
BETRAYER = (
    "seen = []\ndef block(rows, parameters):\n    if (rows['diag'] == 'canary').any():\n        seen.append(1)\n"
    "    return [1.0 if seen else 0.0] * parameters['copies']\n"
)
ROWS = world.units(80)
CANARY = privacy_world.visits({7_777: [{"diag": "canary"}] * 3})


class QuarterNoise(OpenDpNoise):
    """A canary: a quarter of the noise that was planned."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return super().gaussian(values, sigma=sigma / 4, sensitivity_squared=sensitivity_squared, rho=rho * 16)


@pytest.fixture(scope="module")
def neighbours():
    """What the betrayer gives in real workers, without the unit and with it."""
    names = [output.name for output in OUTPUTS]
    with GuestHost() as host:
        return [
            host.run_blocks(
                world.work(
                    BETRAYER, world.split(rows, blocks=BLOCKS), outputs=names, parameters={"copies": COPIES}, lanes=2
                )
            )
            for rows in (ROWS, [*ROWS, *CANARY])
        ]


def limits(successes, trials):
    """Return Clopper-Pearson limits, each passed with probability ALARM at most."""
    low = stats.beta.ppf(ALARM, successes, trials - successes + 1) if successes else 0.0
    high = stats.beta.ppf(1 - ALARM, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def shown(one, two, noise, statistic, rounds, cut):
    """Return a lower bound on epsilon at DELTA that the event `value > cut` shows between two vectors."""
    plan = world.plan(outputs=OUTPUTS, rho=str(RHO * COPIES), blocks=BLOCKS, statistic=statistic)
    hits = [
        sum(
            value > cut
            for _ in range(rounds)
            for value in measure_blocks(plan, vectors, noise, split="00").answer.rows[0]
        )
        for vectors in (one, two)
    ]
    trials = rounds * COPIES
    without, with_unit = limits(hits[0], trials), limits(hits[1], trials)
    return math.log(max(1e-9, with_unit[0] - float(DELTA)) / without[1])


def test_a_function_that_betrays_one_unit_moves_one_block_and_shows_no_more_than_the_claim(neighbours):
    """False-alarm rate: 12 * ALARM."""
    without, with_unit = neighbours
    assert without == [(0.0,) * COPIES] * BLOCKS
    assert sorted(with_unit) == [(0.0,) * COPIES] * (BLOCKS - 1) + [(1.0,) * COPIES]
    claimed = float(epsilon_at(RHO, DELTA))
    # The unit moves the sum by one block, and the noise has the scale of one block.
    assert 0.2 < shown(without, with_unit, OpenDpNoise(), BlockStatistic.MEAN, 40, 1.5 / BLOCKS) <= claimed
    assert shown(without, with_unit, OpenDpNoise(), BlockStatistic.MEDIAN, 6, 0.5) <= claimed


def test_the_canaries_are_caught(neighbours):
    """False-alarm rate: 4 * ALARM.  Too little noise; and state kept between blocks, so that one unit moves many."""
    without, with_unit = neighbours
    claimed = float(epsilon_at(RHO, DELTA))
    assert shown(without, with_unit, QuarterNoise(), BlockStatistic.MEAN, 40, 0.6 / BLOCKS) > claimed
    kept = [(1.0,) * COPIES] * 4 + without[4:]
    assert shown(without, kept, OpenDpNoise(), BlockStatistic.MEAN, 40, 2.4 / BLOCKS) > claimed


def scores(vectors, noise, rounds=64):
    plan = world.plan(outputs=OUTPUTS, rho=str(RHO * COPIES), blocks=BLOCKS, statistic=BlockStatistic.MEAN)
    answers = (measure_blocks(plan, vectors, noise, split="00").answer.rows[0] for _ in range(rounds))
    return np.array([value for answer in answers for value in answer])


def test_draws_prove_no_more_than_rho_and_half_the_noise_or_two_blocks_are_caught(neighbours):
    """False-alarm rate: 6 * proving.ALARM.  A mean over blocks is one Gaussian, so its value is the best score."""

    class HalfNoise(OpenDpNoise):
        def gaussian(self, values, *, sigma, sensitivity_squared, rho):
            return super().gaussian(values, sigma=sigma / 2, sensitivity_squared=sensitivity_squared, rho=rho * 4)

    without, with_unit = neighbours
    honest = proving.shown_rho(scores(with_unit, OpenDpNoise()), scores(without, OpenDpNoise()))
    assert float(RHO) / 5 < honest <= float(RHO)
    assert proving.shown_rho(scores(with_unit, HalfNoise()), scores(without, HalfNoise())) > float(RHO)
    two = [(1.0,) * COPIES] * 2 + without[2:]
    assert proving.shown_rho(scores(two, OpenDpNoise()), scores(without, OpenDpNoise())) > float(RHO)
