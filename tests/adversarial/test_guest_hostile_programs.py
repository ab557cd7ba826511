"""Every hostile program, in the language that operators have and again with that language taken away.

Judged by what happened in the world (`tests/support/hostile_world.py`), not by what a program says.
"""

import socket

import pytest

from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program
from tests.support.hostile import all_attacks, by_name
from tests.support.hostile_matrix import unsafe_host
from tests.support.hostile_world import ANSWER, HONEST, commit, open_world

ATTACKS = by_name()
ENDINGS = {"program_error", "limit", "killed", "protocol"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    for path in (folder, *list(folder.parents)[:2]):
        path.chmod(0o755)
    with open_world(folder) as world:
        yield world


@pytest.fixture(scope="module")
def spoken(world):
    with GuestHost() as host:
        yield host
        check_still_honest(host)


@pytest.fixture(scope="module")
def unspoken(world):
    with unsafe_host(("language",)) as host:
        yield host
        check_still_honest(host)


def check_still_honest(host):
    after = host.run(Program(HONEST, {"n": 7}, bytes(32)), lambda _: ANSWER)
    assert after.outputs == {"n": {"kind": "number", "value": 7}}


@pytest.mark.isolation
@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_program_does_nothing_in_its_language(spoken, world, name):
    outcome, marks = commit(spoken, world, ATTACKS[name].source)
    assert marks == []
    assert outcome.status in ENDINGS, outcome.outputs
    assert outcome.outputs is None
    assert 0 < len(outcome.message) <= 500
    assert outcome.message.isprintable()


@pytest.mark.isolation
@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_program_does_nothing_with_the_walls_alone(unspoken, world, name):
    outcome, marks = commit(unspoken, world, ATTACKS[name].source)
    assert marks == []
    # A program that only looks around in its own process may succeed there: nothing lies in it.
    assert ATTACKS[name].inside or outcome.status in ENDINGS, outcome.outputs


@pytest.mark.isolation
def test_the_whole_process_holds_no_secret_to_be_found(unspoken, world):
    source = (
        "import gc, sys, os\ndef analyze(data):\n    gc.unfreeze()\n"
        "    seen = set(os.environ) | set(os.environ.values()) | set(sys.argv) | set(sys.orig_argv)\n"
        "    for thing in gc.get_objects():\n        if type(thing) in (dict, list, tuple, set):\n"
        "            seen.update(x for x in thing if type(x) is str)\n"
        "            if type(thing) is dict:\n                seen.update(x for x in thing.values() if type(x) is str)\n"
        "    words = [word[::-1] for word in ('ESARHPSSAP_RAGGAS', data.parameters['token'])]\n"
        "    return {'found': sum(word in text for word in words for text in seen), 'size': len(seen)}\n"
    )
    program = Program(source, {"token": world.token[::-1]}, bytes(32))
    outcome = unspoken.run(program, lambda _: ANSWER, limits=GuestLimits(cpu_s=20))
    assert outcome.status == "ok", outcome.message
    assert outcome.outputs["size"]["value"] > 10_000
    assert outcome.outputs["found"]["value"] == 0


def test_the_suite_is_large_enough_to_mean_something():
    assert len(ATTACKS) >= 120
    assert all(len(programs) >= 6 for programs in all_attacks().values())


@pytest.mark.isolation
def test_the_detector_sees_each_effect(world):
    (world.folder / "new").write_text("x")
    assert world.touched("") == ["the folder changed"]
    world.restore()
    assert world.touched(f"... {world.token} ...") == ["the secret came out"]
    with socket.create_connection(world.tcp.getsockname()):
        assert world.touched("") == ["something arrived over tcp"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", world.udp.getsockname())
    assert world.touched("") == ["something arrived over udp"]
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(world.abstract.getsockname())
        assert world.touched("") == ["something arrived over abstract"]
    assert world.touched("") == []
