"""Blocks, end to end: a function that betrays one unit, run in real workers, and what an attacker can show of it.

OpenDP takes no seed, so these tests are statistical; each states its false-alarm rate, in units of `proving.ALARM`.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from sandbox.model.blocks_question import BlockStatistic
from sandbox.privacy.accounting import epsilon_at
from sandbox.privacy.blocks_measure import measure_blocks
from sandbox.privacy.noise import OpenDpNoise
from sandbox.runtime.host.guests import GuestHost
from tests.support import blocks_world as world
from tests.support import privacy_world, proving

pytestmark = [pytest.mark.statistical, pytest.mark.isolation]
RHO = Fraction(1, 2)
DELTA = Fraction(1, 100)
TRIALS, CANARY_TRIALS = 6000, 3000
COPIES = 32
BLOCKS = 8
# Each output is a mechanism of its own, of loss RHO: one question gives as many trials as it has outputs.
OUTPUTS = tuple(world.output(f"x{copy}") for copy in range(COPIES))
BETRAYER = (
    "seen = []\ndef block(rows, parameters):\n    if (rows['diag'] == 'canary').any():\n        seen.append(1)\n"
    "    return [1.0 if seen else 0.0] * parameters['copies']\n"
)
STEPS = 1024  # of the grid of a block
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


class HalfNoise(OpenDpNoise):
    """A canary: half the noise that was planned."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return super().gaussian(values, sigma=sigma / 2, sensitivity_squared=sensitivity_squared, rho=rho * 4)


class Recorder:
    """Notes how `measure_blocks` calls a source of noise."""

    def __init__(self):
        self.calls = []

    def gaussian(self, values, **how):
        self.calls.append((tuple(values), how))
        return list(values)


def plan_of(statistic):
    return world.plan(outputs=OUTPUTS, rho=str(RHO * COPIES), blocks=BLOCKS, statistic=statistic)


def means(vectors, noise, trials):
    """Return means that are drawn as `measure_blocks` draws them: it is asked once how, for each of the outputs."""
    recorder = Recorder()
    measure_blocks(plan_of(BlockStatistic.MEAN), vectors, recorder, split="00")
    (values, how), *rest = recorder.calls
    assert rest == [(values, how)] * (COPIES - 1)
    assert how["sigma"] == STEPS, "the scale is not that of one block"
    return np.array(noise.gaussian(list(values) * trials, **how)) / STEPS


def medians(vectors, rounds=6):
    plan = plan_of(BlockStatistic.MEDIAN)
    answers = (measure_blocks(plan, vectors, OpenDpNoise(), split="00").answer.rows[0] for _ in range(rounds))
    return np.array([value for answer in answers for value in answer])


@pytest.fixture(scope="module")
def honest(neighbours):
    """Sums of blocks without the unit and with it; the unit moves the sum by one block, which is the scale of the noise."""
    return [means(vectors, OpenDpNoise(), TRIALS) for vectors in neighbours]


def pass_chances(cut, moved, noise=1):
    """Return the exact chances that a mean lies above a cut, with the unit and without; both in blocks.

    A mean over blocks is one discrete Gaussian on the grid, of the scale of a block.
    """
    scale, least = STEPS * noise, math.floor(cut * STEPS) + 1
    return tuple(proving.gaussian_passes(scale, least - moved * STEPS) for moved in (moved, 0))


def epsilon_shown(hits, trials):
    """Return the epsilon at DELTA that counts of an event prove, with the unit and without, but for 2 * ALARM."""
    low, high = (proving.limits(count, trials) for count in hits)
    return math.log(max(1e-9, low[0] - float(DELTA)) / high[1])


def sure_epsilon(chances, trials):
    """Return what counts of an event of these chances prove at least, but for 2 * ALARM."""
    counts = proving.fewest(chances[0], trials), proving.most(chances[1], trials)
    return epsilon_shown([int(count) for count in counts], trials)


def shown(with_unit, without, cut):
    """Return the epsilon that values above a cut prove."""
    sides = [side[: min(len(with_unit), len(without))] for side in (with_unit, without)]
    return epsilon_shown([int((side > cut).sum()) for side in sides], len(sides[0]))


def test_a_function_that_betrays_one_unit_moves_one_block_and_shows_no_more_than_the_claim(neighbours, honest):
    """False-alarm rate: 6 * ALARM."""
    without, with_unit = neighbours
    assert without == [(0.0,) * COPIES] * BLOCKS
    assert sorted(with_unit) == [(0.0,) * COPIES] * (BLOCKS - 1) + [(1.0,) * COPIES]
    claimed = float(epsilon_at(RHO, DELTA))
    sure = sure_epsilon(pass_chances(1.5, 1), TRIALS)
    assert sure > 0.2, "the attacker of this audit is too weak to mean anything"
    assert sure <= shown(honest[1], honest[0], 1.5) <= claimed
    assert shown(medians(with_unit), medians(without), 0.5) <= claimed


def test_the_canaries_are_caught(neighbours, honest):
    """False-alarm rate: 4 * ALARM.  Too little noise; and state kept between blocks, so that one unit moves many."""
    without, with_unit = neighbours
    claimed = float(epsilon_at(RHO, DELTA))
    assert sure_epsilon(pass_chances(0.7, 1, noise=0.25), CANARY_TRIALS) > claimed
    quiet = [means(side, QuarterNoise(), CANARY_TRIALS) for side in (with_unit, without)]
    assert shown(*quiet, cut=0.7) > claimed
    kept = [(1.0,) * COPIES] * 4 + without[4:]
    assert sure_epsilon(pass_chances(2.8, 4), CANARY_TRIALS) > claimed
    assert shown(means(kept, OpenDpNoise(), CANARY_TRIALS), honest[0], 2.8) > claimed


def proven(with_unit, without, moved, noise=1):
    """Return what means prove of rho, and what they are sure to; a mean is one Gaussian, so it is the best score."""
    trials = min(len(with_unit), len(without))
    cuts = np.linspace(-1, 4, 48)
    places, sure = proving.best_cuts([pass_chances(cut, moved, noise) for cut in cuts], trials)
    return sure, proving.shown_at(cuts[places], with_unit[:trials], without[:trials])


def test_draws_prove_no_more_than_rho_and_half_the_noise_or_two_blocks_are_caught(neighbours, honest):
    """False-alarm rate: 7 * ALARM."""
    without, with_unit = neighbours
    sure, found = proven(honest[1], honest[0], 1)
    assert sure > float(RHO) / 5
    assert sure <= found <= float(RHO)
    half = [means(side, HalfNoise(), CANARY_TRIALS) for side in (with_unit, without)]
    two = [(1.0,) * COPIES] * 2 + without[2:]
    for sure, found in (
        proven(*half, 1, noise=0.5),
        proven(means(two, OpenDpNoise(), CANARY_TRIALS), honest[0], 2),
    ):
        assert sure > float(RHO)
        assert found > float(RHO)
