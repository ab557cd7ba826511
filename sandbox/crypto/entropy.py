"""The one door through which entropy enters."""

from __future__ import annotations

import os


def random_bytes(n: int) -> bytes:
    """Return `n` bytes from the kernel's generator.

    Nothing is buffered in the process, so a forked child never repeats what its parent drew.

    Args:
        n: how many bytes, 0 or more.
    """
    return os.urandom(n)
