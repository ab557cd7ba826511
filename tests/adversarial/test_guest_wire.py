"""A worker that has broken out and speaks badly is cut off, and the job beside it does not notice."""

import threading

import pytest

from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program
from tests.support.hostile_matrix import unsafe_host
from tests.support.hostile_wire import WIRE, speak
from tests.support.hostile_world import ANSWER, commit, open_world

BESIDE = """
def analyze(data):
    total = 0
    for place in range(data.parameters["questions"]):
        total += int(data.ask("SELECT " + str(place)).table["n"].iloc[0])
    return {"total": total}
"""
QUESTIONS = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="module")
def host():
    with unsafe_host(("language",)) as host:
        yield host


@pytest.mark.isolation
@pytest.mark.parametrize("name", WIRE)
def test_a_worker_that_breaks_the_wire_is_cut_off(host, world, name):
    outcome, marks = commit(host, world, speak(WIRE[name]))
    assert marks == []
    assert outcome.status in {"protocol", "limit"}
    assert outcome.outputs is None
    assert outcome.message.isprintable()


@pytest.mark.isolation
@pytest.mark.parametrize("name", ["flood", "garbage", "huge_announcement", "truncated_frame", "silence", "out_of_turn"])
def test_the_job_beside_a_worker_that_breaks_the_wire_finishes_unharmed(host, world, name):
    asked, outcomes, begun, broken = [], [], threading.Event(), threading.Event()

    def answer(request):
        asked.append(request["sql"])
        begun.set()
        if request["index"] == QUESTIONS // 2:
            broken.wait(20)
        return ANSWER

    def job():
        program = Program(BESIDE, {"questions": QUESTIONS}, bytes(32))
        outcomes.append(host.run(program, answer, limits=GuestLimits(wall_s=60, questions=QUESTIONS)))

    beside = threading.Thread(target=job)
    beside.start()
    assert begun.wait(20)
    hostile, marks = commit(host, world, speak(WIRE[name]))
    broken.set()
    beside.join(60)
    assert marks == []
    assert hostile.status in {"protocol", "limit"}
    assert [outcome.outputs for outcome in outcomes] == [{"total": {"kind": "number", "value": 5 * QUESTIONS}}]
    assert asked == [f"SELECT {place}" for place in range(QUESTIONS)]


@pytest.mark.isolation
def test_a_million_questions_end_at_the_limit(host):
    asked = []
    source = "import os\nfrom sandbox.runtime.wire import encode_frame\ndef analyze(data):\n    for i in range(10 ** 6):\n        data._exchange({'type': 'ask', 'sql': 'x', 'share': None, 'rows': None, 'groups': None, 'index': i})\n"
    outcome = host.run(
        Program(source, {}, bytes(32)), lambda r: asked.append(r["index"]) or ANSWER, limits=GuestLimits(questions=50)
    )
    assert (outcome.status, outcome.message, outcome.questions) == (
        "limit",
        "the program asked more than 50 questions",
        50,
    )
    assert asked == list(range(50))


@pytest.mark.isolation
def test_a_worker_that_says_it_is_ready_twice_is_cut_off():
    with GuestHost() as host:
        conversation = host.run(Program("def analyze(data):\n    return {'n': 1}\n", {}, bytes(32)), lambda _: ANSWER)
        assert conversation.status == "ok"
    with unsafe_host(("language",)) as broken:
        source = speak('send(b\'{"type":"ready"}\')')
        assert broken.run(Program(source, {}, bytes(32)), lambda _: ANSWER).status == "protocol"
