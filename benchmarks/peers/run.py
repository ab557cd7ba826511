"""Install and run the peers: one small script and one virtual environment each, below `build/peers`.

A peer's script says what it needs in a line `# requires: ...` and prints one JSON object, question -> seconds.  Nothing
of a peer is installed beside Saggar: their pins of pandas, Polars and OpenDP differ from ours and from one another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path("build/peers")
LIMIT_S = 1800


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
        try:
            done = subprocess.run(
                [str(python), str(script), str(table.resolve()), str(repeats)],
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"peer {name} skipped: it took longer than {LIMIT_S} s")
            continue
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            print(f"peer {name} skipped: {words}")
            continue
        found[name] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


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
