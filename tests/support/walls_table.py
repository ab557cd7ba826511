"""Write what the walls are worth into the page on the sandbox, from the runs of `hostile_matrix`.

`python -m tests.support.hostile_matrix > runs.json && python -m tests.support.walls_table runs.json`
"""

import json
import re
import sys
from pathlib import Path

from tests.support.hostile import all_attacks, by_name
from tests.support.hostile_matrix import ARRANGEMENTS, OS_LAYERS

PAGE = Path(__file__).parents[2] / "docs/explanation/sandbox.md"
BEGIN, END = "<!-- walls: begin, written by tests/support/walls_table.py -->", "<!-- walls: end -->"
WANTED = "it did what it wanted"
_TITLES = {
    "filter": "system-call filter", "landlock": "Landlock", "namespaces": "namespaces, empty root, other account",
    "limits": "resource limits", "processor": "processor limit", "rights": "no rights, undumpable", "clocks": "no clock",
}  # fmt: skip


def reached_out(effect: str) -> bool:
    """Return whether an effect is one outside the program's own process."""
    return bool(set(effect.split(", ")) - {WANTED})


def render(runs: dict[str, dict[str, str]]) -> str:
    """Return both tables."""
    return f"{_by_category(runs)}\n\n{_one_missing(runs)}"


def _by_category(runs: dict[str, dict[str, str]]) -> str:
    bare = runs["nothing"]
    shown = ["language alone", *(f"{layer} alone" for layer in OS_LAYERS), "walls", "all"]
    heads = ["language", *OS_LAYERS, "all walls", "walls and language"]
    lines = [
        "| Category | programs | went through with nothing in the way | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(heads) + 2),
    ]
    groups = [*all_attacks().items(), ("**all**", by_name())]
    for category, programs in groups:
        able = [name for name in programs if name in bare]
        cells = [str(sum(name in runs[arrangement] for name in able)) for arrangement in shown]
        lines.append(f"| {category} | {len(programs)} | {len(able)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _one_missing(runs: dict[str, dict[str, str]]) -> str:
    attacks = by_name()
    lines = [
        "| Missing, besides the language | reached anything outside | and inside the process went through |",
        "|---|---:|---|",
    ]
    for layer in OS_LAYERS:
        found = runs[f"without {layer}"]
        out = [name for name, effect in found.items() if reached_out(effect)]
        more = [f"`{name}`" for name in found if name not in out and not attacks[name].inside]
        lines.append(f"| {_TITLES[layer]} | {len(out)} | {', '.join(sorted(more)) or 'nothing'} |")
    return "\n".join(lines)


def section(page: str) -> str:
    """Return what stands between the markers."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def rows(page: str) -> dict[str, list[str]]:
    """Return the rows of both tables: first cell -> the others."""
    found = {}
    for line in section(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 1 and not re.fullmatch(r"-+:?", cells[1]):
            found[cells[0]] = cells[1:]
    return found


def through_without(page: str, layer: str) -> set[str]:
    """Return the programs that the page admits go through when a layer is missing."""
    return set(re.findall(r"`(\w+)`", rows(page)[_TITLES[layer]][1]))


def main() -> int:
    runs: dict[str, dict[str, str]] = {}
    for path in sys.argv[1:]:
        runs |= json.loads(Path(path).read_text())
    missing = ARRANGEMENTS.keys() - runs.keys()
    if missing:
        raise SystemExit(f"runs are missing: {', '.join(sorted(missing))}")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{render(runs)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
