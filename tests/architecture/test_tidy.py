"""The house rules that a tool can see."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("sandbox", "policies", "connectors", "products")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

BANNED_IMPORTS = {
    "pickle": "canonical JSON",
    "marshal": "canonical JSON",
    "shelve": "the ledger or the vault",
    "random": "sandbox.crypto.entropy",
}
BANNED_CALLS = {
    "eval": "nothing",
    "exec": "nothing; the guest's one compile stands in its worker",
    "yaml.load": "sandbox.model.document.read_document",
    "hashlib.md5": "sandbox.model.digest",
    "hashlib.sha1": "sandbox.model.digest",
    "pd.read_pickle": "canonical JSON",
}
ALLOWED = {("sandbox/runtime/guest", "exec"), ("sandbox/runtime/guest", "random")}
"""The guest compiles and runs operators' programs, and seeds their generators: that is its job."""


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


def banned_uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield `(name, what instead)` for every banned import and call."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((name, BANNED_IMPORTS[name]) for name in names if name in BANNED_IMPORTS)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BANNED_CALLS:
            yield ast.unparse(node.func), BANNED_CALLS[ast.unparse(node.func)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_is_banned_is_not_used(path: Path) -> None:
    for name, instead in banned_uses(ast.parse(path.read_text(encoding="utf-8"))):
        allowed = any(name_of(path).startswith(room) and name == use for room, use in ALLOWED)
        assert allowed, f"{name_of(path)} uses `{name}`: use {instead}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_to_do_in_a_comment(path: Path) -> None:
    with path.open("rb") as stream:
        comments = [t.string for t in tokenize.tokenize(stream.readline) if t.type == tokenize.COMMENT]
    assert not [comment for comment in comments if re.search(r"\b(TODO|FIXME|XXX)\b", comment)]


def test_the_ban_itself_finds_what_it_bans() -> None:
    code = "import pickle\nfrom random import choice\nyaml.load(x)\neval('1')\nhashlib.md5(b'')\n"
    assert [name for name, _ in banned_uses(ast.parse(code))] == [
        "pickle",
        "random",
        "yaml.load",
        "eval",
        "hashlib.md5",
    ]


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
