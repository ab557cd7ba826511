"""Partitions of opened snapshots, for whoever computes: opened here, or handed over sealed with the keys they need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from sandbox.errors import VaultError
from sandbox.privacy.plan import Plan
from sandbox.vault.columns import SYSTEM_COLUMNS
from sandbox.vault.handed import HandedPartition
from sandbox.vault.opened import OpenedSnapshot


class SealedTables:
    """The tables that an order reads, partition by partition.

    Args:
        tables: for each table of the order, its snapshot and the columns to open, the vault's own two included.

    Raises:
        VaultError: the snapshots are not cut into the same number of partitions (`vault.partition`).
    """

    def __init__(self, tables: Sequence[tuple[OpenedSnapshot, tuple[str, ...]]]) -> None:
        self._tables = tuple(tables)
        if len({snapshot.partition_count for snapshot, _ in tables}) != 1:
            raise VaultError(
                "tables that are read together have different numbers of partitions",
                hint="seal them with the same number",
                code="vault.partition",
            )

    @classmethod
    def of(cls, plan: Plan, snapshot: OpenedSnapshot) -> SealedTables:
        """Return the one table of a plan."""
        return cls([(snapshot, (*SYSTEM_COLUMNS, *plan.columns))])

    @property
    def partition_count(self) -> int:
        """How many partitions there are."""
        return self._tables[0][0].partition_count

    def partition(self, number: int) -> pa.Table:
        """Return the first table of a partition, opened here."""
        snapshot, columns = self._tables[0]
        return snapshot.partition(number, columns, dictionaries=True)

    def hand(self, number: int) -> tuple[HandedPartition, ...]:
        """Return what somebody else needs to open a partition's tables: the keys of these columns and no others."""
        return tuple(snapshot.hand(number, columns) for snapshot, columns in self._tables)

    @contextmanager
    def descriptors(self, handed: Sequence[HandedPartition]) -> Iterator[list[int]]:
        """Yield a descriptor of each sealed object, table by table and column by column; they are closed at the end."""
        with ExitStack() as stack:
            found = []
            for (snapshot, _), table in zip(self._tables, handed, strict=True):
                for column in table.columns:
                    found.append(snapshot.sealed_descriptor(column))
                    stack.callback(os.close, found[-1])
            yield found

    def sealed_bytes(self, handed: Sequence[HandedPartition]) -> list[bytes]:
        """Return the bytes of each sealed object, table by table and column by column."""
        return [
            snapshot.sealed_bytes(column)
            for (snapshot, _), table in zip(self._tables, handed, strict=True)
            for column in table.columns
        ]
