"""Attack: get the same noise twice, from a copy of the process, another thread or another piece, and subtract it away."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest

from sandbox.compute.noise_pool import PIECE, ThreadedNoise
from sandbox.privacy.mechanism import gaussian_sigma, threshold_release
from sandbox.privacy.noise import OpenDpNoise

RHO = Fraction(1, 10**12)
SIGMA = gaussian_sigma(1, RHO)
"""Some 700,000: eight equal draws in two places are no chance."""


def draw(count=8, source=None):
    source = OpenDpNoise() if source is None else source
    return source.gaussian([0] * count, sigma=SIGMA, sensitivity_squared=1, rho=RHO)


def drawn_in_a_fork():
    """Return what a forked copy of this process draws."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(draw()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)


@pytest.mark.filterwarnings("ignore:This process")
def test_copies_of_a_process_draw_apart_from_it_and_from_each_other():
    draw()
    first, second = drawn_in_a_fork(), drawn_in_a_fork()
    own = draw()
    assert len({*first, *second, *own}) >= 20


def test_threads_draw_apart_from_each_other():
    with ThreadPoolExecutor(4) as executor:
        found = [value for piece in executor.map(lambda _: draw(), range(8)) for value in piece]
    assert len(set(found)) >= 60


def test_pieces_of_one_vector_draw_apart_from_each_other():
    count = 3 * PIECE
    found = draw(count, ThreadedNoise(4))
    size = PIECE // 2
    pieces = [tuple(found[start : start + 8]) for start in range(0, count, size)]
    assert len(pieces) >= 6
    assert len(set(pieces)) == len(pieces)


def test_the_same_counts_pass_a_threshold_with_noise_of_their_own_each_time():
    sigma, threshold = threshold_release(1, RHO, Fraction(1, 10**6))
    counts = {f'["{key}"]': threshold.value * 3 for key in range(8)}
    one, other = (OpenDpNoise().thresholded(counts, sigma=sigma, threshold=threshold, rho=RHO) for _ in range(2))
    assert one.keys() == other.keys() == counts.keys()
    assert len({*one.values(), *other.values()}) >= 14
