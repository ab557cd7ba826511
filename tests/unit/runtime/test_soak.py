"""Many jobs one after the other: nothing is left behind, whatever they did.  60 in every run, 1,000 under `soak`."""

import os
import signal
import threading
from collections import Counter
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
SPIN = "def analyze(data):\n    while True:\n        pass\n"
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


def resident_bytes(process):
    """Return the memory that a process keeps for itself, in bytes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:")))


def held(host):
    """Return what this process and each zygote keep, in bytes."""
    outer = [zygote._process.pid for zygote in host._zygotes._running.values()]
    inner = [child for pid in outer for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [resident_bytes(pid) for pid in (os.getpid(), *outer, *inner)]


def cancelled(host):
    cancel = threading.Event()
    cancel.set()
    return host.run(Program(SPIN, {}, bytes(32)), lambda _: REFUSE, limits=LIMITS, cancel=cancel)


def killed(host):
    """Run a program whose process is ended from outside, as the kernel does when memory is short."""

    def answer(_):
        for worker in list(host._live.values()):
            worker.send_signal(signal.SIGKILL)
        return REFUSE

    return host.run(Program(PROGRAMS[3], {}, bytes(32)), answer, limits=LIMITS)


def ahead(host, number):
    """Run a program in a process that was begun before; every third time in another, and the first is given up."""
    host.begin_process(PROGRAMS[0])
    if number % 3 == 0:
        host.end_begun()
    return host.run(Program(PROGRAMS[0], {}, bytes(32)), lambda _: REFUSE)


def run_many(jobs):
    rows = world.units(8)
    others = left_behind(None)[1]  # a zygote that other tests share may stand beside ours
    with GuestHost() as host:
        table = world.split(rows, blocks=2)
        block = world.work("def block(rows):\n    return len(rows)\n", table, wall_s=0.3, lanes=2)
        bad = world.work(SPIN.replace("analyze(data)", "block(rows)"), table, wall_s=0.1, lanes=2)
        host.run(Program(PROGRAMS[0], {}, bytes(32)), lambda _: REFUSE, limits=LIMITS)
        host.run_blocks(block)
        before, kept = left_behind(host), held(host)
        ended = Counter()
        for number in range(jobs):
            match number % 7:
                case 5:
                    outcome = cancelled(host)
                case 6:
                    outcome = killed(host)
                case kind:
                    outcome = host.run(Program(PROGRAMS[kind], {}, bytes(32)), lambda _: REFUSE, limits=LIMITS)
            ended[outcome.status] += 1
            if number % 7 == 0:
                ended[ahead(host, number).status] += 1
            if number % 20 == 0:
                host.run_blocks(block if number % 40 else bad)
        assert {"ok", "program_error", "limit", "killed"} <= ended.keys()
        assert left_behind(host) == before
        assert before[2] == 0
        assert host.memory_bytes() == ()
        grown = [after - start for start, after in zip(kept, held(host), strict=True)]
        print(
            f"{jobs} jobs {dict(ended)}; descriptors, processes, zombies, namespaces {before}; grown by {grown} bytes"
        )
        # Not by so much as one job's program, answers or table, each of which would be kept once a job.
        assert max(grown) < (4 << 20) + jobs * 4096
    assert left_behind(None)[1] == others


def test_nothing_is_left_after_60_jobs():
    run_many(60)


@pytest.mark.soak
def test_nothing_is_left_after_1000_jobs():
    run_many(1000)
