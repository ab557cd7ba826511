"""Partitions of a join: the rows of the same units in two tables, side by side.

Datasets of one unit kind place a unit by one keyed hash, and a partition is a range of that hash.  So the partitions of
the dataset with fewer are unions of whole partitions of the other, and a join of two datasets is a join of each such
range by itself (`docs/proofs/join.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Pair:
    """One partition of a join: `t` of the left table and `u` of the right one, whole units both."""

    t: pa.Table
    u: pa.Table


def parts_of_range(partitions: int, ranges: int, number: int) -> range:
    """Return which of a table's partitions fill one of so many ranges; there is a whole number of them in each."""
    width = partitions // ranges
    return range(number * width, (number + 1) * width)


def gathered(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of neighbouring partitions as one table."""
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries()
