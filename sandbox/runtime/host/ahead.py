"""Work of guests that can begin while the line waits for the disk or the witness: a check, and a process to run in.

Nothing of it is believed earlier or differently for having begun earlier: whoever needs it waits for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sandbox.errors import SaggarError
from sandbox.runtime.host.zygote_process import Worker, ZygoteProcess

Checked = tuple[dict[str, Any], ...]


class Ahead:
    """At most one check and one process at a time; a second request takes the place of the first.

    Args:
        discard: ends a process that nobody took.
    """

    def __init__(self, discard: Callable[[ZygoteProcess, Worker], object]) -> None:
        self._discard = discard
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="guest-ahead")
        self._check: tuple[str, Future[Checked]] | None = None
        self._process: tuple[ZygoteProcess, Future[Worker]] | None = None

    def begin_check(self, source: str, check: Callable[[str], Checked]) -> None:
        """Begin to check a program."""
        with self._lock:
            self._check = (source, self._threads.submit(check, source))

    def take_check(self, source: str) -> Checked | None:
        """Return what the check of this very program found, or None if it was not begun; raises what it raised."""
        with self._lock:
            if self._check is None or self._check[0] != source:
                return None
            (_, found), self._check = self._check, None
        return found.result()

    def begin_process(self, zygote: ZygoteProcess, start: Callable[[ZygoteProcess], Worker]) -> None:
        """Begin to start a process."""
        with self._lock:
            before, self._process = self._process, (zygote, self._threads.submit(start, zygote))
        self._end(before)

    def take_process(self, zygote: ZygoteProcess) -> Worker | None:
        """Return the process that was started from this zygote, if there is one that lives."""
        with self._lock:
            begun, self._process = self._process, None
        if begun is None:
            return None
        if begun[0] is not zygote:
            self._end(begun)
            return None
        with contextlib.suppress(SaggarError):
            worker = begun[1].result()
            if not worker.has_ended(0):
                return worker
            self._discard(zygote, worker)
        return None

    def end_process(self) -> None:
        """End the process that was begun and that nobody took, if there is one."""
        with self._lock:
            begun, self._process = self._process, None
        self._end(begun)

    def close(self) -> None:
        """Wait for what was begun, and end what nobody took."""
        self._threads.shutdown()
        self.end_process()

    def _end(self, begun: tuple[ZygoteProcess, Future[Worker]] | None) -> None:
        if begun is not None:
            with contextlib.suppress(SaggarError):
                self._discard(begun[0], begun[1].result())
