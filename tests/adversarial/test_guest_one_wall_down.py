"""One wall after another is taken down, and the language with it; what is left gives nothing away.

The programs run in a cage of their own (`tests/support/cage.py`).  The full run, which also writes the table on the page,
is `make soak`; here a part that would reach out if it could.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox
from sandbox.runtime.guest import jail, zygote
from sandbox.runtime.host import zygote_process
from tests.support.hostile import all_attacks, by_name
from tests.support.hostile_matrix import ARRANGEMENTS, OS_LAYERS
from tests.support.walls_table import PAGE, reached_out, render, rows, section, through_without

ROOT = Path(__file__).parents[2]
PAGE_TEXT = PAGE.read_text(encoding="utf-8")
SAMPLE = [
    "file_open", "file_write", "file_listdir", "file_unlink", "file_etc_passwd", "walk_wrap_close", "pandas_to_csv", "numpy_save",
    "socket_tcp", "socket_udp", "socket_abstract", "proc_of_victim", "signal_victim_probe", "signal_victim", "subprocess", "shell",
    "ctypes_shared_memory", "ctypes_executable_memory", "fork_once", "environment", "frame_traceback",
]  # fmt: skip


def run_matrix(arrangements, names=()):
    """Run programs in a cage and return what had an effect."""
    command = [sys.executable, "-m", "tests.support.hostile_matrix", "--arrangements", ",".join(arrangements)]
    done = subprocess.run(
        [*command, "--names", ",".join(names)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        pytest.skip(f"walls come down in a cage only, and this machine gives none: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.isolation
def test_with_one_wall_down_and_the_language_too_nothing_reaches_out():
    found = run_matrix([f"without {layer}" for layer in OS_LAYERS], SAMPLE)
    attacks = by_name()
    for layer in OS_LAYERS:
        effects = found[f"without {layer}"]
        assert [name for name, effect in effects.items() if reached_out(effect)] == []
        assert {name for name in effects if not attacks[name].inside} <= through_without(PAGE_TEXT, layer)


@pytest.mark.isolation
def test_with_every_wall_down_the_same_programs_reach_out_so_the_suite_can_fail():
    effects = run_matrix(["nothing"], SAMPLE)["nothing"]
    assert len([name for name in SAMPLE if name in effects]) >= 17
    assert sum(reached_out(effect) for effect in effects.values()) >= 8


@pytest.mark.soak
@pytest.mark.isolation
def test_the_page_says_what_a_full_run_finds():
    assert render(run_matrix(ARRANGEMENTS)) == section(PAGE_TEXT)


def test_the_table_on_the_page_is_about_this_suite():
    found = rows(PAGE_TEXT)
    for category, programs in all_attacks().items():
        assert found[category][0] == str(len(programs)), category
    total = found["**all**"]
    assert total[0] == str(len(by_name()))
    assert int(total[1]) > 250
    # With every wall up nothing goes through in the language; without it, only looks into the own process.
    assert total[-1] == "0"


def test_the_page_admits_nothing_that_reached_out():
    found = [line.split("|")[2].strip() for line in section(PAGE_TEXT).split("| Missing")[1].splitlines()[2:]]
    assert found == ["0"] * len(OS_LAYERS)


def test_the_switches_that_take_walls_down_are_nowhere_in_the_package():
    room = Path(sandbox.__file__).parent
    for path in sorted(room.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("unsafe_guest", "unsafe_take_down", "UnsafePlain", "UnsafeHost")), path
        # Only the self-test asks for some layers; every worker gets all of them.
        if path.name not in {"canary.py", "jail.py"} and "runtime" in path.parts:
            calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            assert not [call for call in calls if any(word.arg == "layers" for word in call.keywords)], path


def test_nothing_from_outside_chooses_what_a_guest_starts_with(monkeypatch):
    assert zygote_process.GUEST_COMMAND == ("-m", "sandbox.runtime.guest.zygote")
    assert frozenset(jail.LAYERS) == jail.ALL
    assert jail.enter.__kwdefaults__["layers"] == jail.ALL
    assert zygote._restricted_language().__class__.__name__ == "RestrictedLanguage"
    for module in (ROOT / "sandbox/runtime").rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert "os.environ" not in text, module
        assert "getenv" not in text, module
