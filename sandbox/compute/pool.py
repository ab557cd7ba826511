"""Pools: the same exact integers from threads, processes or a cluster, one partition at a time for each worker.

The partition is the unit of work.  Every unit's rows stand in one partition, so partials of partitions are added and
noised once; integers do not depend on who added them in which order, and so `Partials.digest()` is the same on every
pool, with every number of workers, and after any worker died and its partition was done again.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, Self

import pyarrow as pa

from sandbox.compute.arrange import RANK_COLUMN, UNIT_COLUMN
from sandbox.compute.joint import Joint, tables_of
from sandbox.compute.order import WorkOrder, part_bytes, part_of, run_order
from sandbox.compute.run import open_engine
from sandbox.errors import UnavailableError
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan

MAX_TRIES = 3
"""How often a partition is tried before a job fails because workers keep dying."""

TOGETHER = 8
"""How many partitions a thread takes at once; those that are small are summed by one statement."""


class Partitions(Protocol):
    """Where partitions come from; `SealedTables` is one, of several tables side by side for a join.

    Called from several threads at once.
    """

    @property
    def partition_count(self) -> int:
        """How many there are."""
        ...

    def partition(self, number: int) -> pa.Table | Joint:
        """Return one of them, whole, in storage types."""
        ...


class HeldPartitions:
    """Partitions that are in memory already.

    Args:
        tables: the partitions.
        encode: whether to turn texts into dictionaries first: some 10 ms for a million rows of a column, once, and
            every grouping by it takes half the time from then on.  The integers are the same.
    """

    def __init__(self, tables: Iterable[pa.Table], *, encode: bool = False) -> None:
        self._tables = tuple(_encoded(table) if encode else table for table in tables)

    @property
    def partition_count(self) -> int:
        """How many there are."""
        return len(self._tables)

    def partition(self, number: int) -> pa.Table:
        """Return one of them."""
        return self._tables[number]


def _encoded(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if field.type in {pa.string(), pa.large_string()}:
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table


class Pool(Protocol):
    """Whoever computes partials."""

    def map_partitions(self, plan: Plan, parts: Partitions) -> Partials:
        """Return the exact integers of a plan, summed over all partitions.

        Raises:
            VaultError: a partition is not in storage types, or the engine failed.
            UnavailableError: workers died `MAX_TRIES` times over one partition (`service.unavailable.worker`).
        """
        ...


class ThreadPool:
    """Workers in this process, an engine of one thread each: opening a partition and summing it run side by side.

    Args:
        workers: how many; each has up to `TOGETHER` partitions in memory at once, of `BATCH_ROWS` rows in all.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = max(1, workers)
        self._local = threading.local()
        self._engines: list[Any] = []
        self._executor = ThreadPoolExecutor(self._workers, "partition", self._open_engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and close their engines."""
        self._executor.shutdown()
        while self._engines:
            self._engines.pop().close()

    def map_partitions(self, plan: Plan, parts: Partitions) -> Partials:
        """Return the exact integers of a plan, summed over all partitions."""
        order = WorkOrder.of(plan)

        def run(numbers: range) -> Partials:
            return order.run_all(self._local.engine, map(parts.partition, numbers))

        count = parts.partition_count
        size = min(TOGETHER, max(1, -(-count // self._workers)))
        done = self._executor.map(run, (range(start, min(count, start + size)) for start in range(0, count, size)))
        return add_partials(order.plan, (part.cells.items() for part in done))

    def _open_engine(self) -> None:
        self._local.engine = open_engine(threads=1)
        self._engines.append(self._local.engine)


class ProcessPool:
    """Workers in processes of their own: a worker that dies takes no more than its partition, which is done again.

    What travels is bytes: a work order and an Arrow stream there, canonical partials back.

    Args:
        workers: how many; processes are started afresh, so they hold nothing of this one.
    """

    def __init__(self, workers: int = 2, *, run: Callable[[bytes, bytes], bytes] | None = None) -> None:
        self._workers = max(1, workers)
        self._run = run_order if run is None else run
        self._executor = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown()

    def map_partitions(self, plan: Plan, parts: Partitions) -> Partials:
        """Return the exact integers of a plan, summed over all partitions."""
        order = WorkOrder.of(plan)
        raw = order.to_bytes()
        done: dict[int, Partials] = {}
        for _ in range(MAX_TRIES):
            left = [number for number in range(parts.partition_count) if number not in done]
            try:
                self._try(order, raw, parts, left, done)
            except BrokenProcessPool:
                self._executor.shutdown(cancel_futures=True)
                self._executor = self._start()
                continue
            return add_partials(order.plan, (done[number].cells.items() for number in sorted(done)))
        raise worker_lost()

    def _try(
        self, order: WorkOrder, raw: bytes, parts: Partitions, left: Sequence[int], done: dict[int, Partials]
    ) -> None:
        """Run what is left, with no more than two partitions a worker on the way."""
        running: dict[Future[bytes], int] = {}
        waiting = list(reversed(left))
        while waiting or running:
            while waiting and len(running) < 2 * self._workers:
                number = waiting.pop()
                running[self._executor.submit(self._run, raw, needed_bytes(order, parts, number))] = number
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                number = running.pop(future)
                done[number] = order.parse_reply(future.result())

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn"))


def needed_bytes(order: WorkOrder, parts: Partitions, number: int) -> bytes:
    """Return one partition, with the columns that an order reads and no other, as bytes."""
    tables = tables_of(parts.partition(number))
    return part_bytes(part_of([_picked(table, read.columns) for table, read in zip(tables, order.tables, strict=True)]))


def _picked(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    wanted = [UNIT_COLUMN, RANK_COLUMN, *columns]
    return table.select([name for name in wanted if name in table.column_names])


def worker_lost() -> UnavailableError:
    """Return the error of a partition over which every worker died."""
    return UnavailableError(
        f"workers died {MAX_TRIES} times over one partition",
        hint="give workers more memory, and look at the logs of their machine",
        code="service.unavailable.worker",
    )
