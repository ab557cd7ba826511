"""Channels: a secret is planted, every way out that we know is tried, and all that an operator can see is compared.

Where data is involved the secret is one patient's rows, and a function over blocks that has seen them does its worst.
The noise is taken out for these tests, so that whatever differs is a leak.
"""

import dataclasses
import threading

import pytest

from sandbox.jobs.line import run_job
from sandbox.model.entry import EntryKind
from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program
from tests.conftest import PYTHON_JOB
from tests.support.hostile_matrix import unsafe_host
from tests.support.hostile_world import ANSWER
from tests.support.line_world import last

pytestmark = pytest.mark.isolation

PRESENT, ABSENT = "unique-illness", "another-ailment"[:14]
JOB = PYTHON_JOB[: PYTHON_JOB.index("outputs:")].replace("rho: 0.1", "rho: 0.5").replace(
    "[days, district]", "[days, reason]"
) + ("outputs:\n  - {name: seen, kind: table, columns: {value: number}, max_rows: 20}\n")
# What a function that has met the secret does in order to be noticed; it hands over the default in any case.
LEAKS = {
    "time": "while True:\n            pass",
    "exception": "raise ValueError('the secret is here')",
    "division": "1 / 0",
    "memory": "hoard = [0] * (40 << 20)",
    "too much memory": "hoard = [0] * (400 << 20)",
    "recursion": "return block(rows)",
    "more numbers": "return {'x': 7, 'y': 7}",
    "no numbers": "return {}",
    "text": "return 'secret'",
    "not a number": "return {'x': float('nan')}",
    "print": "print('secret' * 1000)",
    "state of the library": "import numpy as np\n        np.random.seed(1)",
}


class NoNoise:
    """Gives exact values back; for these tests only."""

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return list(values)

    def thresholded(self, counts, *, sigma, threshold, rho):
        return dict(counts)


def program(secret, leaks=LEAKS, milliseconds=100):
    """Return a program that asks one question to blocks a leak, all of them looking for one word."""
    functions = [
        f"def block(rows):\n    if (rows['reason'] == '{secret}').any():\n        {leak}\n    return {{'x': 7}}\n"
        for leak in leaks.values()
    ]
    return (
        f"FUNCTIONS = {functions!r}\ndef analyze(data):\n    seen = []\n    for function in FUNCTIONS:\n"
        "        answer = data.blocks('visits', function, k=4, output={'x': (0, 14)}, milliseconds=MS, mode='fast', share='1/12')\n"
        "        seen.append(float(answer.table['x'][0]))\n    return {'seen': {'value': seen}}\n".replace(
            "MS", str(milliseconds)
        )
    )


def visible(world, secret):
    """Run the job with a program that looks for a word, and return all that its operator can see of it."""
    with world.engine() as engine:
        silent = dataclasses.replace(engine, noise=NoNoise())
        start = engine.ledger.size
        released = run_job(silent, world.signed(silent, JOB, program(secret), nonce=secret))
        entries = [(entry.kind.value, sorted(entry.body)) for entry in engine.ledger.entries(start)]
        settled = last_body(engine, EntryKind.JOB_SETTLED)
        transcript = engine.documents.get(settled["transcript"])
        sizes = {"release": len(released.raw), "receipt": len(released.receipt), "transcript": len(transcript)}
    return {
        "outputs": dict(released.release.outputs),
        "loss": released.release.loss,
        "log": entries,
        "outcome": (settled["outcome"], settled["code"], settled["posted"]),
        "sizes": sizes,
    }


def last_body(engine, kind):
    return [entry.body for entry in engine.ledger.entries() if entry.kind is kind][-1]


def test_nothing_that_an_operator_can_see_of_a_job_depends_on_one_patient(world, monkeypatch):
    # Short blocks keep the test short; on a busy machine some of them end as the leak by time does.
    monkeypatch.setattr("sandbox.jobs.questions.check_pace", lambda *_: None)
    with_secret, without = visible(world, PRESENT), visible(world, ABSENT)
    assert len(PRESENT) == len(ABSENT)
    assert len(with_secret["outputs"]["seen"]["rows"]) == len(LEAKS)
    assert with_secret == without


def test_the_planted_patient_is_there_so_a_leak_would_show(world):
    # The same question, with a function that says what it saw in its number instead of beside it.
    told = program(PRESENT, {"number": "return {'x': 14}"}, milliseconds=1000)
    with world.engine() as engine:
        silent = dataclasses.replace(engine, noise=NoNoise())
        released = run_job(silent, world.signed(silent, JOB, told))
    assert [row[0] for row in released.release.outputs["seen"]["rows"]] == [(7 * 3 + 14) / 4]
    assert last(world, EntryKind.JOB_SETTLED)["outcome"] == "released"


# State, time, memory, load: what a program of the plain language, without RestrictedPython, can find out by itself.
LEAVE = """
import builtins, gc, os, sys
def analyze(data):
    mark = data.parameters["mark"]
    builtins.left = sys.left = os.environ["LEFT"] = mark
    import numpy, pandas
    numpy.left = mark
    pandas.options.display.max_rows = 4321
    numpy.random.seed(4321)
    kept = [mark + str(i) for i in range(100000)]
    return {"n": len(kept)}
"""
FIND = """
import builtins, gc, os, sys
def analyze(data):
    mark = data.parameters["mark"][::-1]
    import numpy, pandas
    gc.unfreeze()
    found = [hasattr(builtins, "left"), hasattr(sys, "left"), "LEFT" in os.environ, hasattr(numpy, "left")]
    found.append(pandas.options.display.max_rows == 4321)
    found.append(any(type(x) is str and mark in x for thing in gc.get_objects() if type(thing) in (list, tuple, set) for x in thing))
    found.append(mark.encode() in bytes(numpy.empty(1 << 24, dtype="u1")))
    return {"n": sum(found), "looked": len(found)}
"""


@pytest.fixture(scope="module")
def unspoken():
    with unsafe_host(("language",)) as host:
        yield host


LIMITS = GuestLimits(cpu_s=10, memory_bytes=256 << 20)


def run(host, source, parameters=None, answer=lambda _: ANSWER, limits=LIMITS):
    return host.run(Program(source, parameters or {}, bytes(32)), answer, limits=limits)


def test_state_a_job_finds_nothing_that_another_left(unspoken):
    assert run(unspoken, LEAVE, {"mark": "brand-mark"}).status == "ok"
    outcome = run(unspoken, FIND, {"mark": "kram-dnarb"})
    assert {name: output["value"] for name, output in outcome.outputs.items()} == {"n": 0, "looked": 7}


WAITING = """
import ctypes, time
def analyze(data):
    readings = []
    for read in (time.time, time.monotonic, time.perf_counter, time.process_time, time.thread_time):
        try:
            readings.append(str(read()))
        except OSError:
            readings.append("none")
    data.ask("SELECT 1")
    libc = ctypes.CDLL(None, use_errno=True)
    moment = (ctypes.c_long * 2)(0, 0)
    for number in (228, 96, 201, 98, 100, 99, 35, 230):
        readings.append(str(libc.syscall(number, 1, moment, moment, moment)) + str(list(moment)))
    return {"r": {"r": readings}}
"""


def test_time_a_program_cannot_tell_a_slow_answer_from_a_quick_one(unspoken):
    readings = []
    for delay_s in (0.0, 0.5):

        def answer(_, delay_s=delay_s):
            threading.Event().wait(delay_s)
            return ANSWER

        outcome = run(unspoken, WAITING, answer=answer)
        assert outcome.status == "ok", outcome.message
        readings.append([row[0] for row in outcome.outputs["r"]["rows"]])
    assert readings[0] == readings[1]
    # What libc hands over when it is refused a clock is a constant below zero.
    assert all(reading == "none" or reading.startswith("-") for reading in readings[0])


HOARD = """
def analyze(data):
    low, high = 0, 1 << 30
    while high - low > 1 << 16:
        middle = (low + high) // 2
        try:
            bytes(middle)
            low = middle
        except MemoryError:
            high = middle
    return {"n": low >> 20}
"""


def test_memory_pressure_how_much_a_program_gets_does_not_depend_on_what_others_hold(unspoken):
    alone = run(unspoken, HOARD)
    ballast = bytearray(300 << 20)
    pressed = run(unspoken, HOARD)
    assert alone.outputs == pressed.outputs
    assert 100 < alone.outputs["n"]["value"] <= 256
    assert len(ballast) == 300 << 20


ENDINGS = {
    "exit status": "os._exit(data.parameters['bit'])",
    "a signal of its own": "os.kill(os.getpid(), 9 + 6 * data.parameters['bit'])",
    "a crash": "ctypes.string_at(8 * (1 + data.parameters['bit']))",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_exit_status_how_a_process_dies_says_one_thing(unspoken, name):
    source = f"import ctypes, os\ndef analyze(data):\n    {ENDINGS[name]}\n    return {{'n': 1}}\n"
    endings = [run(unspoken, source, {"bit": bit}) for bit in (0, 1)]
    assert endings[0] == endings[1]
    assert endings[0].outputs is None


COUNT = """
def analyze(data):
    n = 0
    while data.ask("SELECT 1").table["n"].iloc[0] == 5:
        n += 1
        if n == data.parameters["stop"]:
            return {"n": n}
"""


def test_load_a_program_makes_no_step_while_a_question_that_data_can_steer_runs():
    with GuestHost() as host:
        steps, begun, done = [], threading.Event(), []

        def answer(_):
            steps.append(1)
            begun.set()
            return ANSWER

        limits = GuestLimits(questions=10_000, wall_s=60)
        beside = threading.Thread(target=lambda: done.append(run(host, COUNT, {"stop": 400}, answer, limits)))
        beside.start()
        assert begun.wait(30)
        with host.frozen():
            threading.Event().wait(0.3)
            before = len(steps)
            threading.Event().wait(0.3)
            assert len(steps) == before
        beside.join(60)
        assert done[0].outputs == {"n": {"kind": "number", "value": 400}}
