"""Functions over blocks that cheat: each plants what it saw in one unit, and tries to get it past its own block.

The judge is the vector of what all blocks gave, before any noise: two tables that differ in one unit may differ in one
item of it, whatever the function does, in the operators' language and in plain Python behind the walls alone.
"""

import os
import time
from pathlib import Path

import pytest

from sandbox.runtime.host.guests import GuestHost
from tests.support import blocks_world as world
from tests.support import privacy_world

pytestmark = pytest.mark.isolation

BLOCKS = 4
ROWS = world.units(60)
CANARY = privacy_world.visits({7_777: [{"diag": "canary", "age": 1}] * 3})
SEEN = "(rows['diag'] == 'canary').any()"

LANGUAGE = {
    "honest": "def block(rows):\n    return rows['age'].mean() / 100\n",
    "shout": f"def block(rows):\n    return 1.0 if {SEEN} else 0.0\n",
    "global_state": f"seen = []\ndef block(rows):\n    if {SEEN}:\n        seen.append(1)\n    return float(len(seen))\n",
    "class_state": (
        f"class S:\n    n = 0\ns = S()\ndef block(rows):\n    if {SEEN}:\n        s.n = 1\n    return float(s.n)\n"
    ),
    "pandas_state": f"import pandas as pd\ndef block(rows):\n    if {SEEN}:\n        rows['new'] = 1\n    return float('new' in list(rows.columns))\n",
    "raise": f"def block(rows):\n    if {SEEN}:\n        raise ValueError('canary')\n    return 0.25\n",
    "too_many": f"def block(rows):\n    return [1.0, 1.0] if {SEEN} else [0.25]\n",
    "text": f"def block(rows):\n    return 'canary' if {SEEN} else 0.25\n",
    "none": f"def block(rows):\n    return None if {SEEN} else 0.25\n",
    "not_a_number": f"def block(rows):\n    return float('nan') if {SEEN} else 0.25\n",
    "spin": f"def block(rows):\n    while {SEEN}:\n        pass\n    return 0.25\n",
    "memory": f"def block(rows):\n    if {SEEN}:\n        x = 'y' * (1 << 33)\n    return 0.25\n",
    "recursion": f"def f(n):\n    return f(n + 1)\ndef block(rows):\n    return f(0) if {SEEN} else 0.25\n",
    "random": f"import numpy as np\ndef block(rows):\n    return float(np.random.default_rng(1).random()) if {SEEN} else 0.25\n",
}  # fmt: skip
_OS = "import os, ctypes, signal, sys\n"
PLAIN = {
    "exit_status": f"{_OS}def block(rows):\n    if {SEEN}:\n        os._exit(42)\n    return 0.25\n",
    "flood": f"{_OS}def block(rows):\n    if {SEEN}:\n        while True:\n            os.write(3, b'x' * 65536)\n    return 0.25\n",
    "early_write": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.write(3, b'12345678')\n    return 0.25\n",
    "write_then_stay": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.write(3, b'12345678')\n        while True: pass\n    return 0.25\n",
    "half": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.write(3, b'1234')\n        os._exit(0)\n    return 0.25\n",
    "read_others": f"{_OS}def block(rows):\n    n = 0\n    for fd in range(200):\n        try:\n            os.read(fd, 1)\n            n += 1\n        except OSError:\n            pass\n    return float(n > 1)\n",
    "write_file": f"{_OS}def block(rows):\n    try:\n        if {SEEN}:\n            open('/tmp/canary', 'w').write('x')\n        return float(os.path.exists('/tmp/canary'))\n    except OSError:\n        return 0.25\n",
    "kill_parent": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.kill(os.getppid(), 9)\n        os.kill(1, 9)\n    return 0.25\n",
    "fork": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.fork()\n    return 0.25\n",
    "segfault": f"{_OS}def block(rows):\n    if {SEEN}:\n        ctypes.string_at(0)\n    return 0.25\n",
    "stop_itself": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.kill(os.getpid(), signal.SIGSTOP)\n    return 0.25\n",
    "count_pids": f"{_OS}def block(rows):\n    try:\n        return os.getpid() % 100 / 100\n    except OSError:\n        return 0.25\n",
    "clock": "import time\ndef block(rows):\n    try:\n        return time.time() % 1\n    except OSError:\n        return 0.25\n",
    "memory_of_others": f"{_OS}import gc\ndef block(rows):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'canary' in o]\n    seen = {SEEN}\n    if seen:\n        sys.modules['canary'] = sys\n    return float('canary' in sys.modules) + len(found)\n",
    "nan_payload": f"{_OS}import struct\ndef block(rows):\n    if {SEEN}:\n        os.write(3, struct.pack('<Q', 0x7FF800000000BEEF))\n        os._exit(0)\n    return 0.25\n",
    "shared_memory_map": f"{_OS}import mmap\nm = mmap.mmap(-1, 4096)\ndef block(rows):\n    if {SEEN}:\n        m[0] = 1\n    return float(m[0])\n",
    "late_thread_of_signals": f"{_OS}def block(rows):\n    if {SEEN}:\n        signal.setitimer(signal.ITIMER_REAL, 0.001)\n        while True: pass\n    return 0.25\n",
    "new_memory_file": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.memfd_create('canary')\n    return 0.25\n",
    "pipe_grown": f"{_OS}import fcntl\ndef block(rows):\n    try:\n        if {SEEN}:\n            fcntl.fcntl(3, 1031, 1 << 20)\n        return fcntl.fcntl(3, 1032) / (1 << 21)\n    except OSError:\n        return 0.25\n",
    "flags_of_null": f"{_OS}import fcntl\ndef block(rows):\n    try:\n        if {SEEN}:\n            fcntl.fcntl(0, fcntl.F_SETFL, os.O_APPEND)\n        return float(bool(fcntl.fcntl(0, fcntl.F_GETFL) & os.O_APPEND))\n    except OSError:\n        return 0.25\n",
    "lowered_priority": f"{_OS}def block(rows):\n    if {SEEN}:\n        os.nice(19)\n    return 0.25\n",
    "libraries_changed": f"{_OS}import numpy as np\ndef block(rows):\n    if {SEEN}:\n        np.canary = 1\n        sys.setrecursionlimit(77)\n        os.environ['CANARY'] = '1'\n    return float(hasattr(np, 'canary') or 'CANARY' in os.environ)\n",
}  # fmt: skip


class UnsafePlainGuestHost(GuestHost):
    """A host whose guests have no language layer; exists in tests only."""

    _command = (str(Path(__file__).with_name("unsafe_guest_zygote.py")),)


@pytest.fixture(scope="module")
def hosts():
    with GuestHost() as language, UnsafePlainGuestHost() as plain:
        yield {"language": language, "plain": plain}


def vectors(host, source, rows, **options):
    return host.run_blocks(world.work(source, world.split(rows, blocks=BLOCKS), lanes=2, **options))


@pytest.mark.parametrize(
    ("layer", "name"),
    [("language", name) for name in LANGUAGE]
    + [("plain", name) for name in ["shout", "global_state", "raise", *PLAIN]],
)
def test_one_unit_more_changes_what_one_block_gives_at_most(hosts, layer, name):
    source = {**LANGUAGE, **PLAIN}[name]
    wall_s = 0.6
    without = vectors(hosts[layer], source, ROWS, wall_s=wall_s)
    with_canary = vectors(hosts[layer], source, [*ROWS, *CANARY], wall_s=wall_s)
    assert sum(one != two for one, two in zip(without, with_canary, strict=True)) <= 1
    if name == "shout":
        assert with_canary.count((1.0,)) == 1, "the canary must be seen, or this test shows nothing"
        assert without.count((1.0,)) == 0
    if name in {"raise", "too_many", "text", "none", "spin", "memory", "recursion", *PLAIN} - {
        "read_others", "write_file", "count_pids", "clock", "memory_of_others", "nan_payload", "shared_memory_map",
        "pipe_grown", "flags_of_null", "libraries_changed",
    }:  # fmt: skip
        assert None not in without
        assert with_canary.count(None) == 1
    assert not Path("/tmp/canary").exists()


def test_a_block_sees_its_own_rows_and_no_trace_of_others(hosts):
    """Each row says whose block it should be in; a worker looks through all memory that Python shows it."""
    rows = [row | {"diag": f"mark-{row['_unit']}-x"} for row in world.units(40)]
    source = (
        "import gc, re\ndef block(rows):\n    own = set(rows['diag'])\n    seen = set()\n"
        "    for thing in gc.get_objects():\n        if isinstance(thing, (list, tuple)):\n"
        "            seen |= {x for x in thing if isinstance(x, str) and re.match(r'mark-\\d+-x$', x)}\n"
        "    return len(seen - own), len(own)\n"
    )
    table = world.split(rows, blocks=4)
    found = hosts["plain"].run_blocks(world.work(source, table, outputs=("others", "own"), wall_s=2.0))
    assert [others for others, _ in found] == [0.0] * 4
    assert sum(own for _, own in found) == 40


def test_every_block_takes_its_fixed_time_whatever_it_does(hosts):
    quick, slow = (
        "def block(rows):\n    return 0.5\n",
        f"def block(rows):\n    while {SEEN}:\n        pass\n    return 0.5\n",
    )
    for source in (quick, slow):
        work = world.work(source, world.split([*ROWS, *CANARY], blocks=3), wall_s=1.0)
        started = time.monotonic()
        hosts["language"].run_blocks(work)
        assert time.monotonic() - started >= work.planned_s


def test_no_descriptor_and_no_process_is_left_after_blocks(hosts):
    host = hosts["plain"]
    host.run_blocks(world.work(LANGUAGE["honest"], world.split(ROWS, blocks=2)))
    before = set(os.listdir("/proc/self/fd"))
    for name in ("exit_status", "flood", "stop_itself"):
        vectors(host, PLAIN[name], [*ROWS, *CANARY], wall_s=0.5)
    assert set(os.listdir("/proc/self/fd")) == before


def test_programs_stand_still_while_blocks_run(hosts):
    """A program that counts as fast as it can gets no turn from the first block to the last."""
    import threading

    from sandbox.runtime.host.guests import GuestLimits, Program

    host = hosts["language"]
    program = Program("def analyze(data):\n    while True:\n        pass\n", {}, bytes(32))
    ended = []
    limits = GuestLimits(cpu_s=60, wall_s=600)
    cancel = threading.Event()
    runner = threading.Thread(
        target=lambda: ended.append(host.run(program, lambda _: {}, limits=limits, cancel=cancel))
    )
    runner.start()
    while not host._live:
        time.sleep(0.01)
    (worker,) = host._live.values()
    pid = int(
        next(
            line.split()[1]
            for line in Path(f"/proc/self/fdinfo/{worker.handle}").read_text().splitlines()
            if line.startswith("Pid:")
        )
    )

    def ticks():
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    with host.frozen():
        time.sleep(0.2)
        start = ticks()
        host.run_blocks(world.work(LANGUAGE["honest"], world.split(ROWS, blocks=2), wall_s=0.5))
        assert ticks() == start
    cancel.set()
    runner.join()
    assert ended[0].status == "killed"
