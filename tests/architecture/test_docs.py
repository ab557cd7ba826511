"""The documentation says what the program does."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sandbox.cli.main import app
from sandbox.model.entry import EntryKind
from sandbox.model.job import TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("sandbox", "policies", "connectors") for path in (ROOT / room).rglob("*.py"))


def codes_in_use() -> set[str]:
    """Every dotted error code that the source names, in a class or at a raise."""
    families = ("input", "policy", "privacy", "vault", "ledger", "isolation", "job", "service")
    pattern = re.compile(rf'code(?:: str)? ?= ?"((?:{"|".join(families)})(?:\.[a-z_]+)*)"')
    return {code for path in SOURCES for code in pattern.findall(path.read_text(encoding="utf-8"))}


def test_every_error_code_is_on_the_error_page() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    missing = sorted(code for code in codes_in_use() if f"`{code}`" not in page)
    assert not missing


def test_every_entry_kind_is_on_the_entries_page() -> None:
    page = (ROOT / "docs/reference/entries.md").read_text(encoding="utf-8")
    assert [kind.value for kind in EntryKind if f"`{kind.value}`" not in page] == []


def test_every_job_state_has_a_way_in_and_the_ended_ones_no_way_out() -> None:
    assert set(TRANSITIONS) == set(JobState)
    reachable = {after for afters in TRANSITIONS.values() for after in afters}
    assert reachable == set(JobState) - {JobState.SUBMITTED}
    ended = {JobState.RELEASED, JobState.REFUSED, JobState.FAILED, JobState.RECOVERED}
    assert {state for state, afters in TRANSITIONS.items() if not afters} == ended


def commands() -> list[tuple[str, object]]:
    found = []
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found += [(f"{name} {sub}", c) for sub, c in inner.items()] if inner else [(name, command)]
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_has_a_help_text_an_example_and_a_line_in_the_reference(name: str, command: object) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert command.help
    assert command.epilog.startswith("Example: saggar")
    assert f"saggar {name}" in page


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in get_command(app).commands:
        assert f"`{name}`" in readme, name
