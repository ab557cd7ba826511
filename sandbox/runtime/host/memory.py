"""How much memory a process takes, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_KIB: Final = 1024


def memory_bytes(handle: int) -> int:
    """Return the memory of a process, in bytes; 0 when it has ended.

    Pages that are shared with other processes count in parts (PSS) where the kernel lets us see them, else whole (RSS).

    Args:
        handle: a pidfd of the process.
    """
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines())
        process = Path("/proc") / fields["Pid"].strip()
        try:
            return _shared_in_parts(process)
        except (PermissionError, StopIteration):
            return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, KeyError, IndexError):
        return 0


def _shared_in_parts(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * _KIB for line in lines if line.startswith("Pss:"))
