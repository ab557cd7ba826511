"""Install and run the peers: one small script and one virtual environment each, below `build/peers`.

A peer's script says what it needs in a line `# requires: ...` and prints one JSON object, question -> seconds, after
each question, so that one that takes too long loses itself alone.  Nothing of a peer is installed beside Saggar: their
pins of pandas, Polars and OpenDP differ from ours and from one another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path("build/peers")
LIMIT_S = 900


def scripts() -> list[Path]:
    """Return the peers' scripts."""
    return sorted(path for path in HERE.glob("peer_*.py"))


def times(table: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Return the seconds of every peer that could be installed and run; say why where one could not."""
    found: dict[str, dict[str, float]] = {}
    for script in scripts():
        name = script.stem.removeprefix("peer_")
        python = _environment(name, script)
        if python is None:
            continue
        lines, words = _run([str(python), str(script), str(table.resolve()), str(repeats)])
        if words:
            print(f"peer {name}: {words}")
        if lines:
            found[name] = json.loads(lines[-1])
    return found


def _run(command: list[str]) -> tuple[list[str], str]:
    """Return the lines that a peer printed, and what is to be said of how it ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        return out.splitlines(), f"ended after {LIMIT_S} s, some questions unanswered"
    told = (errors.strip().splitlines() or ["without a word"])[-1]
    return out.splitlines(), "" if process.returncode == 0 else f"skipped: {told}"


def _environment(name: str, script: Path) -> Path | None:
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    ready = folder / "installed"
    if ready.exists():
        return python
    needed = next(line for line in script.read_text().splitlines() if line.startswith("# requires: "))
    packages = needed.removeprefix("# requires: ").split()
    print(f"installing peer {name}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        print(f"peer {name} skipped: it cannot be installed here: {words}")
        return None
    ready.touch()
    return python
