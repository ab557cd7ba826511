"""Readers for many engines: what starts them is started once, each job still has a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.compute.reader import ReaderPool


@contextmanager
def shared_readers() -> Iterator[ReaderPool]:
    """Let every engine of this process use one pool; yield it."""
    from sandbox.service import compose

    made = compose.open_pool
    with ReaderPool() as pool:
        # The answer of the first start is read here, so that children forked later need not.
        pool.host.take().close()

        @contextmanager
        def lent(*_: object) -> Iterator[ReaderPool]:
            yield pool

        compose.open_pool = lent
        try:
            yield pool
        finally:
            compose.open_pool = made
