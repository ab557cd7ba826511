"""Stop a running aggregation when its job is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SLICE_S = 0.1


@contextmanager
def interrupted_by(connection: Any, cancel: threading.Event | None) -> Iterator[None]:
    """Interrupt whatever a connection computes inside this context, once `cancel` is set.

    The interrupted statement fails; the caller looks at `cancel` to tell a cancellation from a fault.
    """
    if cancel is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if cancel.wait(_SLICE_S):
                # Again and again: an interrupt between two statements is lost.
                connection.interrupt()
                over.wait(_SLICE_S)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
