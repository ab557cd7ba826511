"""Partitions of a join: the rows of the same units in two tables, side by side.

Datasets of one unit kind place a unit by one keyed hash, and a partition is a range of that hash.  So the partitions of
the dataset with fewer are unions of whole partitions of the other, and a join of two datasets is a join of each such
range by itself (`docs/proofs/join.md`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Pair:
    """One partition of a join: `t` of the left table and `u` of the right one, whole units both."""

    t: pa.Table
    u: pa.Table


class Opened(Protocol):
    """One table's partitions, from which columns can be picked; an opened snapshot of the vault is one."""

    @property
    def partition_count(self) -> int:
        """How many there are."""
        ...

    def partition(self, number: int, columns: Sequence[str] | None = None, *, dictionaries: bool = False) -> pa.Table:
        """Return some columns of one of them, in storage types."""
        ...


@dataclass(frozen=True, slots=True)
class JoinedPartitions:
    """The partitions of a join of two tables of one unit kind; several threads may take from it at once.

    Attributes:
        left, right: the two tables.
        columns: what is read of each, with `_unit` and `_rank`.
    """

    left: Opened
    right: Opened
    columns: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def partition_count(self) -> int:
        """The largest number of ranges that both tables' partitions fill exactly."""
        return math.gcd(self.left.partition_count, self.right.partition_count)

    def partition(self, number: int) -> Pair:
        """Return one range of both tables."""
        left, right = (
            self._gathered(opened, number, columns)
            for opened, columns in zip((self.left, self.right), self.columns, strict=True)
        )
        return Pair(left, right)

    def _gathered(self, opened: Opened, number: int, columns: tuple[str, ...]) -> pa.Table:
        width = opened.partition_count // self.partition_count
        parts = range(number * width, (number + 1) * width)
        tables = [opened.partition(part, columns, dictionaries=True) for part in parts]
        return tables[0] if width == 1 else pa.concat_tables(tables).unify_dictionaries()
