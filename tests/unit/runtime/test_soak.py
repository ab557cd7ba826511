"""Many jobs one after the other: nothing is left behind, whatever they did.  60 in every run, 1,000 under `soak`."""

import os
from pathlib import Path

import pytest

from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program
from tests.support import blocks_world as world

pytestmark = pytest.mark.isolation
LIMITS = GuestLimits(cpu_s=0.2, wall_s=10, memory_bytes=256 << 20, questions=2, output_bytes=4096)
PROGRAMS = (
    "def analyze(data):\n    return {'n': 1}\n",
    "def analyze(data):\n    raise ValueError('on purpose')\n",
    "def analyze(data):\n    return {'x': len('y' * (1 << 33))}\n",
    "def analyze(data):\n    data.ask('SELECT 1')\n    return {}\n",
    "def analyze(data):\n    while True:\n        data.ask('SELECT 1')\n",
)
REFUSE = {"ok": False, "code": "x", "message": "no", "hint": "no"}


def left_behind(host):
    """Return our descriptors, the processes below us with those that are dead and unburied, and their namespaces."""
    below, zombies, spaces = [], 0, set()
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = (int(fields[1]), fields[0])
    known = {os.getpid()}
    for _ in range(6):
        known |= {pid for pid, (parent, _) in parents.items() if parent in known}
    for pid in known - {os.getpid()}:
        below.append(pid)
        zombies += parents[pid][1] == "Z"
        for kind in ("mnt", "net", "pid", "user"):
            try:
                spaces.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return len(os.listdir("/proc/self/fd")), len(below), zombies, len(spaces)


def run_many(jobs):
    rows = world.units(8)
    others = left_behind(None)[1]  # a zygote that other tests share may stand beside ours
    with GuestHost() as host:
        table = world.split(rows, blocks=2)
        block = world.work("def block(rows):\n    return len(rows)\n", table, wall_s=0.3, lanes=2)
        host.run(Program(PROGRAMS[0], {}, bytes(32)), lambda _: REFUSE, limits=LIMITS)
        host.run_blocks(block)
        before = left_behind(host)
        ended = set()
        for number in range(jobs):
            outcome = host.run(
                Program(PROGRAMS[number % len(PROGRAMS)], {}, bytes(32)), lambda _: REFUSE, limits=LIMITS
            )
            ended.add(outcome.status)
            if number % 20 == 0:
                host.run_blocks(block)
        assert {"ok", "program_error", "limit"} <= ended
        assert left_behind(host) == before
        assert before[2] == 0
        assert host.memory_bytes() == ()
    assert left_behind(None)[1] == others


def test_nothing_is_left_after_60_jobs():
    run_many(60)


@pytest.mark.soak
def test_nothing_is_left_after_1000_jobs():
    run_many(1000)
