"""Run the hostile programs with walls taken down one by one, inside a cage, and say what each wall is worth.

`python -m tests.support.hostile_matrix` prints JSON: for each arrangement of walls the programs that had an effect.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from sandbox.errors import GuestFailedError
from sandbox.runtime.host.guests import GuestHost
from tests.adversarial.unsafe_guest_zygote import LAYERS, command
from tests.support.cage import NoCageError, enter_cage
from tests.support.hostile import by_name
from tests.support.hostile_world import commit, open_world

OS_LAYERS = tuple(layer for layer in LAYERS if layer != "language")
ARRANGEMENTS = {
    "all": (),
    "walls": ("language",),
    "language alone": OS_LAYERS,
    "nothing": LAYERS,
    **{f"without {layer}": ("language", layer) for layer in OS_LAYERS},
    **{f"{layer} alone": tuple(x for x in LAYERS if x != layer) for layer in OS_LAYERS},
}


def unsafe_host(off: tuple[str, ...]) -> GuestHost:
    """Return a host whose guests lack the named layers."""

    class UnsafeHost(GuestHost):
        _command = command(*off)

    return UnsafeHost()


def measure(off: tuple[str, ...], names: list[str], world) -> dict[str, str]:
    """Return the programs that had an effect in an arrangement, with the effect."""
    attacks, effects = by_name(), {}
    with unsafe_host(off) as host:
        for name in names:
            try:
                outcome, marks = commit(host, world, attacks[name].source)
            except GuestFailedError:
                outcome, marks = None, ["the zygote ended"]
            if outcome is not None and outcome.status == "ok":
                marks.append("it did what it wanted")
            if marks:
                effects[name] = ", ".join(marks)
                world.restore()
    return effects


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arrangements", default=",".join(ARRANGEMENTS))
    parser.add_argument("--names", default="")
    chosen = parser.parse_args()
    names = chosen.names.split(",") if chosen.names else list(by_name())
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    outside = os.fork()
    if outside > 0:  # the one process that stays out, to clear away
        _, status = os.waitpid(outside, 0)
        folder.rmdir()
        return os.waitstatus_to_exitcode(status) & 0x7F
    try:
        status = enter_cage(folder)
    except NoCageError as error:
        print(json.dumps({"no cage": str(error)}))
        return 3
    if status is not None:
        return status
    place = folder / "world"
    place.mkdir()
    with open_world(place) as world:
        found = {}
        for arrangement in chosen.arrangements.split(","):
            print(arrangement, file=sys.stderr, flush=True)
            found[arrangement] = measure(ARRANGEMENTS[arrangement], names, world)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
