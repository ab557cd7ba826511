"""The house rules that a tool can see."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("sandbox", "policies", "connectors", "products")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

BANNED = {
    r"\bpickle\b": "canonical JSON",
    r"\byaml\.load\(": "sandbox.model.document.read_document",
    r"\beval\(|\bexec\(": "nothing; the guest's one compile stands in guest/language.py",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "an issue",
    r"\brandom\.(random|randint|choice|shuffle)\(": "sandbox.crypto.entropy",
    r"hashlib\.(md5|sha1)\b": "sandbox.model.digest",
}
ALLOWED = {("sandbox/runtime/guest", r"\beval\(|\bexec\(")}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_enough_to_read_at_once(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{name_of(path)} has {lines} lines: would two rooms be better?"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_is_short_enough_to_hold_in_mind(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1})"
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - (node.body[0].end_lineno if ast.get_docstring(node) else node.lineno) > MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_banned_words_stay_out_of_the_code(path: Path) -> None:
    code = "\n".join(
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith(("#", '"""'))
    )
    code = re.sub(r'"[^"\n]*"|\'[^\'\n]*\'', '""', re.sub(r'""".*?"""', '""', code, flags=re.DOTALL))
    for pattern, instead in BANNED.items():
        if any(name_of(path).startswith(room) and pattern == allowed for room, allowed in ALLOWED):
            continue
        found = re.search(pattern, code)
        assert found is None, f"{name_of(path)} has `{found and found[0]}`: use {instead}"


def test_the_locks_name_no_registry_and_hash_every_file() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert "index-url" not in text
        blocks = re.findall(
            r"^[A-Za-z0-9_.\-]+==[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", text, re.MULTILINE
        )
        assert len(blocks) == len(re.findall(r"^[A-Za-z0-9_.\-]+==", text, re.MULTILINE)) > 20


def test_the_runtime_lock_is_a_part_of_the_test_lock() -> None:
    pins = {
        name: set(
            re.findall(
                r"^([A-Za-z0-9_.\-]+==[^ \\\n]+)", (ROOT / "locks" / name).read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        for name in ("runtime.txt", "dev.txt")
    }
    assert pins["runtime.txt"] <= pins["dev.txt"]


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    own = re.compile(r"/(?:work|farm|root)/[a-z]|/tmp/bash")
    for path in [*SOURCES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "Makefile"]:
        assert not own.search(path.read_text(encoding="utf-8")), name_of(path)
