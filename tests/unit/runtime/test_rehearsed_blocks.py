"""What a worker says of a rehearsed block is read as strictly as the rest of the wire; numbers of any bits are harmless."""

import math
import struct

import pytest

from sandbox.privacy.blocks_measure import grid_steps
from sandbox.runtime.host.conversation import Ended
from sandbox.runtime.host.rehearsing import read_tried
from tests.support import blocks_world as world

SIGNALLING, QUIET = 0x7FF0000000000001, 0x7FF8DEADBEEF1234


def bits(pattern):
    return struct.unpack("<d", struct.pack("<Q", pattern))[0]


def test_numbers_come_back_exactly():
    for number in (0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), -1.5):
        (back,) = read_tried({"type": "rehearsed", "numbers": [number.hex()]}, None, 0.5).numbers
        assert struct.pack("<d", back) == struct.pack("<d", number)
    tried = read_tried({"type": "rehearsed", "numbers": ["nan"]}, None, 0.5)
    assert math.isnan(tried.numbers[0])
    assert (tried.reason, tried.took_s) == ("", 0.5)


@pytest.mark.parametrize(
    "numbers", [["0x1.0p+99999999"], ["1"], [1.0], [None], ["0x1." + "0" * 400 + "p+0"], ["__import__"], [["0x1.0p+0"]]]
)
def test_what_is_no_number_is_told_and_not_read(numbers):
    tried = read_tried({"type": "rehearsed", "numbers": numbers}, None, 0.1)
    assert tried.numbers is None
    assert tried.reason == "the function's process sent what are no numbers"


def test_other_endings_have_a_sentence():
    assert read_tried({"type": "failed", "message": "line 2: x\n\x1b[31m"}, None, 0.1).reason == "line 2: x [31m"
    assert read_tried(None, Ended("limit", "the program ran longer than 1 seconds"), 0.1).reason == (
        "the function ran longer than 1 seconds"
    )
    assert read_tried({"type": "result"}, None, 0.1).reason == "the function's process ended without numbers"


@pytest.mark.parametrize("pattern", [SIGNALLING, QUIET, 0xFFF8000000000001, 0x7FF0000000000000, 0xFFF0000000000000])
def test_no_bits_of_what_is_not_a_number_get_past_the_default(pattern):
    plan = world.plan(blocks=2)
    default = grid_steps(plan, 0, [None, None])
    assert grid_steps(plan, 0, [(bits(pattern),), None]) == default


@pytest.mark.parametrize("number", [5e-324, -0.0, 2.2250738585072014e-308, 0.0])
def test_the_smallest_numbers_are_the_lowest_step(number):
    assert grid_steps(world.plan(blocks=2), 0, [(number,), (0.0,)]) == [0, 0]


@pytest.mark.parametrize("number", [-5e-324, math.nextafter(1.0, 2.0), 1e308, -1e308])
def test_a_hair_outside_the_bounds_is_the_default(number):
    plan = world.plan(blocks=2)
    assert grid_steps(plan, 0, [(number,), None]) == grid_steps(plan, 0, [None, None])
