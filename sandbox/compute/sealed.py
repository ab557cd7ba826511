"""Partitions of opened snapshots, for whoever computes: opened here, or handed over sealed with the keys they need.

A plan reads one table or, for a join, several.  Those are cut into the ranges that whole partitions of each fill
(`joint.py`), so what is handed over for one range of a table is one partition or a few.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from sandbox.compute.joint import Joint, gathered, parts_of_range
from sandbox.compute.order import part_of
from sandbox.privacy.plan import Plan
from sandbox.vault.columns import SYSTEM_COLUMNS
from sandbox.vault.handed import HandedPartition
from sandbox.vault.opened import OpenedSnapshot

Handed = tuple[HandedPartition, ...]
"""The partitions that fill one range of a table."""


class SealedTables:
    """The tables that an order reads, range by range.

    Args:
        tables: for each table of the order, its snapshot and the columns to open, the vault's own two included.
    """

    def __init__(self, tables: Sequence[tuple[OpenedSnapshot, tuple[str, ...]]]) -> None:
        self._tables = tuple(tables)

    @classmethod
    def of(cls, plan: Plan, snapshots: Mapping[str, OpenedSnapshot]) -> SealedTables:
        """Return the tables of a plan, from the opened snapshots by dataset."""
        pairs = zip(plan.datasets, plan.columns_by_table, strict=True)
        return cls([(snapshots[dataset], (*SYSTEM_COLUMNS, *read)) for dataset, read in pairs])

    @property
    def partition_count(self) -> int:
        """The largest number of ranges that every table's partitions fill exactly."""
        return math.gcd(*(snapshot.partition_count for snapshot, _ in self._tables))

    def partition(self, number: int) -> pa.Table | Joint:
        """Return one range of the tables, opened here."""
        return part_of([self._opened(snapshot, columns, number) for snapshot, columns in self._tables])

    def hand(self, number: int) -> tuple[Handed, ...]:
        """Return what somebody else needs to open a range of the tables: the keys of these columns and no others."""
        return tuple(
            tuple(snapshot.hand(part, columns) for part in self._parts(snapshot, number))
            for snapshot, columns in self._tables
        )

    @contextmanager
    def descriptors(self, handed: Sequence[Handed]) -> Iterator[list[int]]:
        """Yield a descriptor of each sealed object: by table, partition and column.  They are closed at the end."""
        with ExitStack() as stack:
            found = []
            for (snapshot, _), parts in zip(self._tables, handed, strict=True):
                for column in (column for part in parts for column in part.columns):
                    found.append(snapshot.sealed_descriptor(column))
                    stack.callback(os.close, found[-1])
            yield found

    def sealed_bytes(self, handed: Sequence[Handed]) -> list[bytes]:
        """Return the bytes of each sealed object: by table, partition and column."""
        return [
            snapshot.sealed_bytes(column)
            for (snapshot, _), parts in zip(self._tables, handed, strict=True)
            for part in parts
            for column in part.columns
        ]

    def _parts(self, snapshot: OpenedSnapshot, number: int) -> range:
        return parts_of_range(snapshot.partition_count, self.partition_count, number)

    def _opened(self, snapshot: OpenedSnapshot, columns: tuple[str, ...], number: int) -> pa.Table:
        parts = self._parts(snapshot, number)
        return gathered([snapshot.partition(part, columns, dictionaries=True) for part in parts])
