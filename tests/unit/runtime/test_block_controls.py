"""A busy machine is told by blocks of the sandbox's own; a slow function of an operator cannot say anything that way."""

import dataclasses

import pytest

from sandbox.errors import ReplayMismatchError
from sandbox.jobs import blocks
from sandbox.jobs.blocks import control_ms
from sandbox.privacy.blocks_measure import NOT_WATCHED, Pace, measure_blocks, verify_blocks
from sandbox.privacy.noise import OpenDpNoise
from sandbox.runtime.host.blocks import HANDOVER_S, ROUND_SLOTS, BlockWork
from sandbox.runtime.host.guests import GuestHost
from sandbox.runtime.host.libraries import Libraries
from tests.support import blocks_world as world

HONEST = "def block(rows):\n    return 0.25\n"
SLOW = {
    "spins": "def block(rows):\n    while True:\n        pass\n",
    "takes memory": "def block(rows):\n    x = [0] * (1 << 25)\n    while True:\n        pass\n",
    "dies": "def block(rows):\n    raise ValueError\n",
}


def control(source=HONEST, wall_s=5.0, lanes=2):
    """Return controls; the source stands for how fast the machine is."""
    return dataclasses.replace(
        world.work(source, world.split([], blocks=lanes), wall_s=wall_s, lanes=lanes), blocks=lanes
    )


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


@pytest.mark.isolation
@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_whatever_blocks_do_no_control_is_late(host, source):
    work = world.work(source, world.split(world.units(4), blocks=2), wall_s=0.3, lanes=2)
    run = host.watch_blocks(work, control())
    assert run.vectors == [None, None]
    assert (run.controls, run.late) == (4, 0)


@pytest.mark.isolation
def test_on_a_machine_that_is_too_slow_for_them_every_control_is_late_and_the_blocks_are_as_they_are(host):
    work = world.work(HONEST, world.split(world.units(4), blocks=2), wall_s=5.0, lanes=2)
    run = host.watch_blocks(work, control(SLOW["spins"], wall_s=0.1))
    assert run.vectors == [(0.25,), (0.25,)]
    assert (run.controls, run.late) == (4, 4)


@pytest.mark.isolation
def test_controls_stand_around_every_round(host):
    table = world.split(world.units(4), blocks=2 * ROUND_SLOTS + 1)
    work = world.work(SLOW["dies"], table, wall_s=0.05)
    run = host.watch_blocks(work, control(lanes=1, wall_s=0.1))
    assert len(run.vectors) == 2 * ROUND_SLOTS + 1
    assert run.controls == 4


@pytest.mark.parametrize(
    ("milliseconds", "libraries", "allowed"),
    [
        (25, Libraries.PLAIN, 15),
        (25, Libraries.SCIENCE, 25),
        (40, Libraries.SCIENCE, 30),
        (100, Libraries.PLAIN, 50),
        (100, Libraries.SCIENCE, 50),
        (10, Libraries.PLAIN, 10),
    ],
)
def test_a_control_has_the_time_that_its_kind_of_guest_takes_to_start(milliseconds, libraries, allowed):
    assert control_ms(milliseconds, libraries) == allowed


@pytest.mark.isolation
def test_the_controls_of_a_program_with_models_start_as_its_blocks_do():
    question = dataclasses.replace(
        world.plan().question, program="import sklearn\ndef block(rows):\n    return 0\n", milliseconds=40
    )
    control = blocks._control(dataclasses.replace(world.plan(), question=question))
    assert (control.libraries, control.wall_s) == (Libraries.SCIENCE, 0.03)


def test_the_planned_time_counts_the_controls():
    work = BlockWork(lambda _: b"", 2 * ROUND_SLOTS, 1, 1.0)
    extra = BlockWork(lambda _: b"", 1, 1, 0.5)
    assert work.planned_with_s(extra) == pytest.approx(2 * ROUND_SLOTS * (1 + HANDOVER_S) + 3 * (0.5 + HANDOVER_S))


def test_an_answer_says_when_controls_were_late_and_an_auditor_reads_the_same():
    plan = world.plan()
    vectors = [(0.5,)] * 8
    quiet = measure_blocks(plan, vectors, OpenDpNoise(), split="00", pace=Pace(4, 0))
    busy = measure_blocks(plan, vectors, OpenDpNoise(), split="00", pace=Pace(4, 3))
    assert not any("busy" in note for note in quiet.answer.notes)
    (told,) = [note for note in busy.answer.notes if "busy" in note]
    assert told.startswith("the machine was busy: 3 of 4 control blocks, which hold no data, were late")
    assert told.endswith("give each block more milliseconds, or ask again later")
    verify_blocks(plan, busy.answer.to_record(), busy.sealed)
    with pytest.raises(ReplayMismatchError, match="the answer over blocks is not the replay's"):
        verify_blocks(plan, busy.answer.to_record(), {**busy.sealed, "pace": [4, 0]})
    with pytest.raises(ReplayMismatchError, match="counts controls that cannot be"):
        verify_blocks(plan, busy.answer.to_record(), {**busy.sealed, "pace": [4, 5]})
    assert NOT_WATCHED.notes() == ()
