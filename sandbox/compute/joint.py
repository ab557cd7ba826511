"""Partitions of a join: the rows of the same units in several tables, side by side.

Datasets of one unit kind place a unit by one keyed hash, and a partition is a range of that hash.  So whole partitions
of each dataset fill the ranges that all of them have in common, and a join of datasets is a join of each such range by
itself (`docs/proofs/join.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Joint:
    """One partition of a join: the tables in the order of the question, whole units all, the same units in each."""

    tables: tuple[pa.Table, ...]


def tables_of(part: pa.Table | Joint) -> tuple[pa.Table, ...]:
    """Return the tables of a partition, one or several."""
    return part.tables if isinstance(part, Joint) else (part,)


def parts_of_range(partitions: int, ranges: int, number: int) -> range:
    """Return which of a table's partitions fill one of so many ranges; there is a whole number of them in each."""
    width = partitions // ranges
    return range(number * width, (number + 1) * width)


def gathered(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of neighbouring partitions as one table."""
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries()
