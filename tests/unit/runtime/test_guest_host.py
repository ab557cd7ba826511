"""The host: limits, cancellation, many jobs and accidents."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.cli.doctor import _guest_report
from sandbox.errors import GuestFailedError, ProgramError
from sandbox.runtime.host.guests import (
    DEFAULT_LIMITS,
    GuestHost,
    GuestLimits,
    GuestOutcome,
    Program,
    guest_memory_bytes,
)
from sandbox.runtime.host.zygote_process import ZygoteProcess

SEED = bytes(range(32))
LIMITS = GuestLimits(cpu_s=0.5, wall_s=20, memory_bytes=256 << 20, questions=3, output_bytes=4096)
ANSWER = {
    "ok": True,
    "answer": {
        "columns": [{"name": "k", "role": "key"}, {"name": "n", "role": "value"}], "rows": [["a", 5], ["b", None]],
        "standard_errors": [[None, 1.0], [None, None]], "lower": [[None, 3.0], [None, None]],
        "upper": [[None, 7.0], [None, None]], "loss": {"measure": "zcdp", "amount": "1/8"}, "notes": ["a note"],
    },
}  # fmt: skip
SPIN = "def analyze(data):\n    while True:\n        pass\n"
ADD = "def analyze(data):\n    return {'n': data.parameters['a'] + 1}\n"
ASK = "def analyze(data):\n    return {'t': data.ask('SELECT 1', share='1/2', rows=2, groups=3).table}\n"


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


def running(host):
    """Return the one zygote of a host that has run plain programs only."""
    (zygote,) = host._zygotes._running.values()
    return zygote


def run(host, source, parameters=None, answer=lambda _: ANSWER, limits=LIMITS, **more):
    return host.run(Program(source, parameters or {}, SEED), answer, limits=limits, **more)


def children():
    own = str(os.getpid())
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return sum(stat[1] == own for stat in stats)


@pytest.mark.isolation
def test_a_question_reaches_the_engine_and_its_answer_the_program(host):
    asked = []
    outcome = run(host, ASK, answer=lambda request: asked.append(request) or ANSWER)
    assert asked == [{"sql": "SELECT 1", "share": "1/2", "rows": 2, "groups": 3, "index": 0}]
    assert outcome == GuestOutcome(
        "ok", {"t": {"kind": "table", "columns": ["k", "n"], "rows": [["a", 5.0], ["b", None]]}}, "", 1
    )


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("written", "sent"), [("None", None), ("'1/2'", "1/2"), ("'0.25'", "1/4"), ("1", "1"), ("Fraction(2, 6)", "1/3")]
)
def test_a_share_arrives_as_exact_text(host, written, sent):
    asked = []
    source = (
        f"from fractions import Fraction\ndef analyze(data):\n    data.ask('x', share={written})\n    return {{}}\n"
    )
    run(host, source, answer=lambda request: asked.append(request["share"]) or ANSWER)
    assert asked == [sent]


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("source", "limits", "status", "message"),
    [
        (SPIN, {}, "limit", "the program used more than 0.5 seconds of processor time"),
        (SPIN, {"cpu_s": 20, "wall_s": 0.5}, "limit", "the program ran longer than 0.5 seconds"),
        ("def analyze(data):\n    return {'x': len('y' * (1 << 33))}\n", {}, "limit", "the program used up its memory"),
        ("def analyze(data):\n    return {'x': {'x': list(range(9999))}}\n", {}, "limit", "the outputs are larger than 4096 bytes"),
        ("def analyze(data):\n    while True:\n        data.ask('x')\n", {}, "limit", "the program asked more than 3 questions"),
        ("#" * 70_000, {}, "program_error", "the program has 70000 bytes, more than 65536"),
        ("import os\n", {}, "program_error", "line 1: `import os` is not offered"),
        ("\ud800", {}, "program_error", "the program is not Unicode text"),
    ],
)  # fmt: skip
def test_a_limit_ends_the_program_with_a_status_and_a_sentence(host, source, limits, status, message):
    outcome = run(host, source, limits=GuestLimits(**{**{f: getattr(LIMITS, f) for f in LIMITS.__slots__}, **limits}))
    assert (outcome.status, outcome.outputs) == (status, None)
    assert outcome.message.startswith(message)


@pytest.mark.isolation
def test_the_time_in_which_the_engine_answers_does_not_count(host):
    waited = threading.Event()

    def slow(_):
        waited.wait(1.0)
        return ANSWER

    assert run(host, ASK, answer=slow, limits=GuestLimits(wall_s=0.8, cpu_s=5)).status == "ok"


@pytest.mark.isolation
def test_a_cancelled_job_ends(host):
    cancel = threading.Event()
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    outcome = run(host, SPIN, limits=GuestLimits(cpu_s=60), cancel=cancel)
    timer.join()
    assert (outcome.status, outcome.message) == ("killed", "the job was cancelled")


@pytest.mark.isolation
def test_frozen_programs_do_nothing_and_lose_no_time(host):
    asked = []
    source = "def analyze(data):\n    for i in range(300):\n        data.ask('x')\n    return {'n': i}\n"
    limits = GuestLimits(cpu_s=20, wall_s=8, questions=300)
    outcomes = []
    job = threading.Thread(
        target=lambda: outcomes.append(run(host, source, answer=lambda r: asked.append(r) or ANSWER, limits=limits))
    )
    job.start()
    pause = threading.Event()
    while len(asked) < 5:
        pause.wait(0.01)
    with host.frozen():
        pause.wait(0.3)
        before = len(asked)
        late = threading.Thread(
            target=lambda: outcomes.append(run(host, ASK, answer=lambda r: asked.append(r) or ANSWER))
        )
        late.start()
        pause.wait(0.5)
        assert len(asked) == before
    late.join()
    job.join()
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


@pytest.mark.isolation
@pytest.mark.parametrize("value", [float("nan"), 2**70, [1], {}, b"x", "\ud800", object()])
def test_a_parameter_that_is_not_plain_is_refused(host, value):
    with pytest.raises(ProgramError) as caught:
        run(host, ADD, {"a": value})
    assert caught.value.code == "input.program.parameter"
    assert caught.value.message == "the parameter `a` is not a plain value"


@pytest.mark.isolation
def test_outputs_that_are_not_unicode_are_the_programs_error(host):
    outcome = run(host, "def analyze(data):\n    return {'x': {'x': [chr(0xD800)]}}\n")
    assert (outcome.status, outcome.message) == ("program_error", "the outputs hold text that is not Unicode")


@pytest.mark.isolation
def test_an_engine_that_raises_ends_the_program_and_the_error_goes_on(host):
    def broken(_):
        raise KeyError("engine")

    with pytest.raises(KeyError, match="engine"):
        run(host, ASK, answer=broken)
    assert run(host, ADD, {"a": 1}).status == "ok"


@pytest.mark.isolation
def test_an_answer_that_is_too_large_is_refused_to_the_program(host, monkeypatch):
    monkeypatch.setattr("sandbox.runtime.host.conversation._TO_GUEST_BYTES_MAX", 1000)
    source = (
        "def analyze(data):\n    try:\n        data.ask('x')\n    except QuestionRefused as refusal:\n"
        "        return {'c': {'c': [refusal.code, refusal.message]}}\n"
    )
    outcome = run(host, source, answer=lambda _: {**ANSWER, "more": "x" * 2000})
    assert outcome.outputs["c"]["rows"] == [["isolation.limit.answer"], ["the answer is too large to hand over"]]


@pytest.mark.isolation
def test_many_jobs_leave_no_process_and_no_descriptor_behind(host):
    run(host, ADD, {"a": 1})
    before = (children(), len(os.listdir("/proc/self/fd")))
    for number in range(25):
        assert run(host, ADD, {"a": number}).outputs["n"]["value"] == number + 1
    run(host, "def analyze(data):\n    return 1\n")
    run(host, SPIN, limits=GuestLimits(wall_s=0.2))
    with pytest.raises(ProgramError):
        host.check("import os")
    assert (children(), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.isolation
def test_jobs_in_several_threads_do_not_mix(host):
    results = {}
    source = "def analyze(data):\n    a = data.ask('x').table\n    return {'n': data.parameters['a']}\n"

    def job(number):
        results[number] = run(host, source, {"a": number}, answer=lambda _: ANSWER).outputs["n"]["value"]

    threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: number for number in range(8)}


@pytest.mark.isolation
def test_one_job_does_not_see_what_another_left(host):
    write = "import pandas as pd\nimport math\nclass A:\n    pass\nA.mark = 1\nSEEN = []\ndef analyze(data):\n    SEEN.append(1)\n    return {'n': len(SEEN)}\n"
    assert [run(host, write).outputs["n"]["value"] for _ in range(3)] == [1, 1, 1]


DETERMINISM = """
import random
import numpy as np
import pandas as pd

class Thing:
    pass

def analyze(data):
    mixed = {None, "a", "b", 3.5, analyze, Thing, (1, None), "longer text", frozenset([None, "x"])}
    things = {Thing(): i for i in range(20)}
    t = data.ask("x").table
    return {
        "order": {"o": [str(x)[:9] for x in mixed]}, "things": {"t": [things[k] for k in set(things)]},
        "random": random.random(), "normal": float(np.random.normal()), "rng": float(np.random.default_rng().normal()),
        "shuffled": t.sample(frac=1.0), "repr": {"r": [repr(Thing())]}, "boot": pd.Series(range(50)).sample(5),
        "words": {"w": list({w for w in "the quick brown fox jumps over".split()})},
    }
"""


@pytest.mark.isolation
def test_a_program_is_a_function_of_its_seed_and_its_answers():
    outcomes = []
    for _ in range(2):
        with GuestHost() as fresh:
            run(fresh, ADD, {"a": 1})
            outcomes += [json.dumps(run(fresh, DETERMINISM).outputs) for _ in range(2)]
    assert len(set(outcomes)) == 1
    with GuestHost() as fresh:
        other = fresh.run(Program(DETERMINISM, {}, bytes(32)), lambda _: ANSWER, limits=LIMITS)
    assert json.dumps(other.outputs) != outcomes[0]
    assert other.outputs["order"] == json.loads(outcomes[0])["order"]


@pytest.mark.isolation
def test_a_zygote_that_died_is_replaced_for_the_next_job():
    with GuestHost() as host:
        process = running(host)._process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(GuestFailedError) as caught:
            run(host, ADD, {"a": 1})
        assert caught.value.code == "isolation.guest_failed.zygote"
        assert caught.value.hint == "try again; a new one is started for the next job"
        assert run(host, ADD, {"a": 1}).status == "ok"


@pytest.mark.isolation
def test_closing_ends_every_program_that_runs():
    host = GuestHost()
    host.start()
    outcome = []

    def job():
        try:
            outcome.append(run(host, SPIN, limits=GuestLimits(cpu_s=100)).status)
        except GuestFailedError as error:
            outcome.append(error.code)

    started = threading.Thread(target=job)
    started.start()
    threading.Event().wait(0.5)
    zygote = running(host)._process
    host.close()
    started.join(10)
    assert not started.is_alive()
    assert outcome in (["killed"], ["isolation.guest_failed.zygote"])
    assert zygote.poll() is not None


@pytest.mark.isolation
def test_guests_end_when_the_engine_is_killed():
    script = (
        "import sys, threading\nfrom sandbox.runtime.host.guests import *\n"
        "h = GuestHost(); h.start(); (z,) = h._zygotes._running.values(); print(z._process.pid, flush=True)\n"
        f"h.run(Program({SPIN!r}, {{}}, bytes(32)), None, limits=GuestLimits(cpu_s=100))\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    zygote = int(engine.stdout.readline())
    handle = os.pidfd_open(zygote)
    engine.kill()
    engine.wait()
    engine.stdout.close()
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    assert poll.poll(10_000)
    os.close(handle)


@pytest.mark.isolation
def test_a_start_that_fails_says_so(monkeypatch):
    monkeypatch.setattr(GuestHost, "_command", ("-c", "raise SystemExit(3)"))
    with pytest.raises(GuestFailedError) as caught:
        GuestHost().start()
    assert caught.value.code == "isolation.guest_failed.start"
    assert caught.value.message == "the process that programs are started from did not come up"


@pytest.mark.isolation
def test_the_memory_of_a_guest_is_what_the_kernel_counts_and_the_guest_is_buried():
    with ZygoteProcess() as zygote:
        taken = guest_memory_bytes(zygote)
        outer = zygote._process.pid
        (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        assert not Path(f"/proc/{inner}/task/{inner}/children").read_text().split()
    assert 1 << 20 < taken < DEFAULT_LIMITS.memory_bytes


def test_a_machine_on_which_no_guest_starts_is_told_by_the_doctor():
    class Broken:
        def spawn(self, **_):
            raise GuestFailedError("no", hint="no", code="isolation.guest_failed.zygote")

    assert _guest_report(Broken()) == {"memory_bytes": None, "memory_limit_bytes": DEFAULT_LIMITS.memory_bytes}
