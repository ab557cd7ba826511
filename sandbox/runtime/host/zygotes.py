"""The zygotes of one host: started when first needed, started again when one died, refused when the walls are thin."""

from __future__ import annotations

import threading
from enum import Enum
from typing import Final

from sandbox.runtime.host.libraries import Libraries
from sandbox.runtime.host.report import Level, too_thin_error
from sandbox.runtime.host.zygote_process import ZygoteProcess


class Purpose(Enum):
    """What a zygote's workers are for; blocks have one that has never served a program."""

    PROGRAMS = "programs"
    BLOCKS = "blocks"


_WITH: Final = {Libraries.PLAIN: (), Libraries.SCIENCE: ("science",)}


class Zygotes:
    """Keeps at most one running zygote for each purpose and set of libraries.

    Args:
        command: what starts one.
        least: the level below which none is kept.
    """

    def __init__(self, command: tuple[str, ...], least: Level) -> None:
        self._command = command
        self._least = least
        self._lock = threading.Lock()
        self._running: dict[tuple[Purpose, Libraries], ZygoteProcess] = {}

    def get(self, purpose: Purpose, libraries: Libraries) -> ZygoteProcess:
        """Return a zygote that runs: the one there is, or a new one where there is none or it died.

        Raises:
            LayerMissingError: the machine gives less than the least level.
            GuestFailedError: it does not start.
        """
        with self._lock:
            kind = (purpose, libraries)
            zygote = self._running.get(kind)
            if zygote is not None and zygote.alive:
                return zygote
            if zygote is not None:
                zygote.close()
                del self._running[kind]
            fresh = ZygoteProcess((*self._command, *_WITH[libraries]))
            if fresh.report.level < self._least:
                fresh.close()
                raise too_thin_error(fresh.report, self._least)
            self._running[kind] = fresh
            return fresh

    def close(self) -> None:
        """End them all, and every worker with them."""
        with self._lock:
            for zygote in self._running.values():
                zygote.close()
            self._running.clear()
