"""Holes that were found in the walls, each by its name, and closed."""

import os

import pytest

from sandbox.runtime.guest import canary, jail, kernel
from sandbox.runtime.guest.landlock import landlock_abi
from sandbox.runtime.guest.seccomp import assemble_filter
from tests.support.hostile import by_name
from tests.support.hostile_matrix import unsafe_host
from tests.support.hostile_world import commit, open_world

pytestmark = pytest.mark.isolation

# What was found -> the program that does it.  With the language layer off, each of them went through once.
HOLES = {
    "a wait until a moment told the time": "clock_futex_absolute",
    "a wait for a while was a sleep": "clock_futex_sleep",
    "a blocked signal put off the processor deadline": "signal_block_deadline",
    "a signal mask could be read and set": "channel_signal_mask",
    "a worker saw how many jobs had run before it": "channel_jobs_before",
    "pages could be merged with those of neighbours": "channel_memory_merging",
    "pages could be pushed out of memory": "channel_page_out",
    "the processor could be handed to a neighbour": "channel_yield_to_neighbour",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with open_world(folder) as world:
        yield world


@pytest.fixture(scope="module")
def host():
    with unsafe_host(("language",)) as host:
        yield host


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_that_was_found_stays_closed(host, world, hole):
    commit(host, world, "def analyze(data):\n    return {}\n")
    outcome, marks = commit(host, world, by_name()[HOLES[hole]].source)
    assert marks == []
    assert outcome.status in {"program_error", "killed"}


def test_returning_from_a_signal_that_never_came_ends_the_process():
    # A forged frame on the stack would set the mask and every register at once.
    null_fd = os.open("/dev/null", os.O_RDWR)
    os.dup2(null_fd, 150)
    walls = jail.Walls(assemble_filter(kernel.ARCHITECTURE), landlock_abi(), 1 << 40, 150)
    became = canary.attempt(walls, lambda: kernel._LIBC.syscall(15), frozenset({"seccomp"}))
    os.close(null_fd)
    os.close(150)
    assert became == "ended:SIGSYS"
