"""What begins early ends as if it had begun late, and nothing of it is left over."""

import signal
import time

import pytest

from sandbox.errors import ProgramError
from sandbox.runtime.host.guests import GuestHost, Program

HONEST = "def analyze(data):\n    return {'n': 1}\n"
OTHER = "def analyze(data):\n    return {'n': 2}\n"
WRONG = "def analyze(data):\n    return open('x')\n"
DRAWN = "import random\ndef analyze(data):\n    return {'n': random.random(), 'm': len({None, len, max})}\n"


def no_answer(_):
    raise AssertionError("these programs ask nothing")


@pytest.fixture
def host():
    with GuestHost() as host:
        yield host


def run(host, source=HONEST):
    return host.run(Program(source, {}, bytes(32)), no_answer)


def live(host):
    return dict(host._live)


def wait_for_process(host):
    deadline = time.monotonic() + 20
    while not host._live and time.monotonic() < deadline:
        time.sleep(0.01)
    (worker,) = host._live.values()
    return worker


def test_a_check_that_began_early_says_what_a_late_one_says(host):
    host.begin_check(HONEST)
    assert host.check(HONEST) == ()
    with pytest.raises(ProgramError) as late:
        host.check(WRONG)
    host.begin_check(WRONG)
    with pytest.raises(ProgramError) as early:
        host.check(WRONG)
    assert (early.value.message, early.value.details) == (late.value.message, late.value.details)
    assert early.value.details["line"] == 2


def test_a_check_that_began_for_one_program_says_nothing_of_another(host):
    host.begin_check(HONEST)
    with pytest.raises(ProgramError):
        host.check(WRONG)
    assert host.check(HONEST) == ()
    host.begin_check(WRONG)
    assert host.check(HONEST) == ()


def test_a_program_runs_in_the_process_that_was_begun_and_gives_the_same(host):
    late = run(host, DRAWN)
    host.begin_process(DRAWN)
    begun = wait_for_process(host)
    early = run(host, DRAWN)
    assert early == late
    assert begun.handle not in live(host)
    assert live(host) == {}


def test_a_process_that_died_before_it_was_needed_is_replaced(host):
    host.begin_process(HONEST)
    begun = wait_for_process(host)
    begun.send_signal(signal.SIGKILL)
    assert begun.has_ended(10)
    assert run(host).status == "ok"
    assert live(host) == {}


def test_a_second_process_takes_the_place_of_the_first_and_none_is_left(host):
    host.begin_process(HONEST)
    wait_for_process(host)
    host.begin_process(OTHER)
    assert run(host, OTHER).outputs["n"]["value"] == 2
    assert live(host) == {}
    host.begin_process(HONEST)
    host.close()
    assert live(host) == {}


def test_a_process_that_was_begun_stands_still_while_programs_are_frozen(host):
    host.begin_process(HONEST)
    wait_for_process(host)
    with host.frozen():
        assert live(host)
    assert run(host).status == "ok"


def test_a_process_that_is_not_needed_after_all_ends(host):
    host.end_begun()
    host.begin_process(HONEST)
    begun = wait_for_process(host)
    host.end_begun()
    assert begun.has_ended(10)
    assert live(host) == {}
    assert run(host).status == "ok"
