"""One writer at a time on a state directory."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import StateBusyError


@contextmanager
def hold_state(directory: Path, *, purpose: str, wait_s: float) -> Iterator[None]:
    """Hold the state directory for writing; the kernel lets go when the process dies, however it dies.

    That a writer is alone is what makes recovery sound: a job that is neither ended nor ours belongs to a dead process.

    Args:
        directory: the state directory.
        purpose: the command, for the message that others see.
        wait_s: how long to wait for another process, in seconds.

    Raises:
        StateBusyError: another process still holds it after `wait_s`.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, wait_s=wait_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, *, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise StateBusyError(
                    f"another saggar process uses this state directory ({_holder(descriptor)})",
                    hint="wait until it ends, or give this command longer with `--wait SECONDS`",
                ) from None
            time.sleep(0.05)
        else:
            return


def _holder(descriptor: int) -> str:
    words = os.pread(descriptor, 200, 0).decode("utf-8", "replace").split()
    return f"process {words[0]}, `{' '.join(words[1:])}`" if words else "process unknown"
