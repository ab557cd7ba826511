"""Count and sum the rows of numbered groups in arrays: what a statement that does no more gives, in half its time.

The statement stays in the plan as what these integers mean, and runs where there are too many numbers for an array; a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.compute.arrange import Groups
from sandbox.privacy.keys import Key
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, Layout
from sandbox.privacy.tallies import EXACT, Count, Factor, Sum, Tally

MOST_COUNTED = 1 << 20
"""Groups are counted in an array while their numbers are at most so many: 8 MiB for each count."""

_SLICE = 1 << 16
"""At least so many rows are counted together: what is computed of them stays near the processor."""

_HALF = 1 << 32
"""Sums that could pass what a double holds are made of two: of each amount's lower 32 bits, and of the others."""

Numbers = npt.NDArray[Any]


def tallied(table: pa.Table, groups: Groups, layout: Layout) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Return the keys that some row has, with what a layout counts and sums of each, exactly.

    Args:
        table: numbered as the layout asks (`arrange.numbered`).
        groups: what the numbers stand for, at most `MOST_COUNTED` of them.
        layout: says what is counted and summed.

    Raises:
        TypeError: a column that is summed does not hold whole numbers.
    """
    # No fewer rows together than numbers, so that adding up their counts is no more work than counting.
    rows, step = np.zeros(groups.size, np.int64), max(_SLICE, 2 * groups.size)
    totals = [_Total(tally, groups.size, step) for tally in layout.tallies]
    read = _Slice(min(step, len(table)))
    for batch in table.to_batches(max_chunksize=step):
        read.turn_to(batch)
        rows += (own := np.bincount(read.numbers, minlength=groups.size))
        for total in totals:
            total.add(read, own)
    present = np.flatnonzero(rows)
    return zip(groups.keys(present.tolist()), zip(*(total.of(present) for total in totals), strict=True), strict=True)


class _Slice:
    """Some rows, with their numbers and what was computed of their columns so far.

    Args:
        most_rows: no slice is longer.
    """

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._room: dict[Factor, Numbers] = {}
        self._spare = np.empty((2, most_rows), np.float64)

    def turn_to(self, batch: pa.RecordBatch) -> None:
        """Go on with other rows."""
        self._batch = batch
        self._known: dict[Factor, Numbers] = {}
        self.numbers: Numbers = batch.column(GROUP_COLUMN).to_numpy().astype(np.intp)

    @property
    def spare(self) -> Numbers:
        """Two arrays of doubles, as long as the slice, for whoever computes next."""
        return self._spare[:, : len(self.numbers)]

    @property
    def firsts(self) -> Numbers:
        """The numbers of rows that are the first of their unit in their group."""
        marks: Numbers = self._batch.column(FIRST_COLUMN).to_numpy()
        return self.numbers[marks.view(np.bool_)]

    def valid(self, columns: Sequence[str]) -> Numbers | None:
        """Return which rows have a value in every one of some columns, or None where all have."""
        parts = [self._batch.column(name) for name in columns]
        if not any(part.null_count for part in parts):
            return None
        valid: Numbers = np.logical_and.reduce([part.is_valid().to_numpy(zero_copy_only=False) for part in parts])
        return valid

    def values(self, factor: Factor) -> Numbers:
        """Return a factor in every row, whole numbers in doubles; anything where its column is NULL."""
        if factor not in self._known:
            column = self._batch.column(factor.column)
            if not pa.types.is_integer(column.type):
                raise TypeError
            room = self._room.setdefault(factor, np.empty(self._most_rows, np.float64))
            found = self._known[factor] = room[: len(column)]
            # A number too large for a double is rounded, but not to the other side of a bound.
            np.copyto(found, (column.fill_null(0) if column.null_count else column).to_numpy())
            np.clip(found, factor.lower, factor.upper, out=found)
            if factor.times != 1:
                found *= factor.times
            if factor.plus:
                found += factor.plus
        return self._known[factor]


class _Total:
    """What is counted or summed of each number so far."""

    def __init__(self, tally: Tally, size: int, most_rows: int) -> None:
        self._tally = tally
        self._halves = isinstance(tally, Sum) and tally.reach * most_rows > EXACT
        self._low, self._high = np.zeros(size, np.int64), np.zeros(size if self._halves else 0, np.int64)

    def add(self, read: _Slice, rows: Numbers) -> None:
        """Add a slice, of which each number has so many rows."""
        size = len(rows)
        match self._tally:
            case Count("units"):
                self._low += np.bincount(read.firsts, minlength=size)
            case Count(present=columns):
                valid = read.valid(columns)
                self._low += rows if valid is None else np.bincount(read.numbers[valid], minlength=size)
            case Sum(columns=columns) as tally:
                amounts, numbers, valid = _amounts(read, tally), read.numbers, read.valid(columns)
                if valid is not None:
                    amounts, numbers = amounts[valid], numbers[valid]
                if self._halves:
                    above = np.floor(amounts / _HALF)
                    self._high += np.bincount(numbers, above, size).astype(np.int64)
                    amounts = amounts - above * _HALF
                self._low += np.bincount(numbers, amounts, size).astype(np.int64)

    def of(self, present: Numbers) -> list[int]:
        """Return it for some numbers."""
        low: list[int] = self._low[present].tolist()
        if not self._halves:
            return low
        return [below + above * _HALF for below, above in zip(low, self._high[present].tolist(), strict=True)]


def _amounts(read: _Slice, tally: Sum) -> Numbers:
    """Return what each row adds; no step of it leaves the whole numbers that a double holds (`tallies.EXACT`)."""
    product = read.values(tally.factors[0])
    for factor in tally.factors[1:]:
        product = np.multiply(product, read.values(factor), out=read.spare[0])
    if not tally.is_line:
        product = np.clip(product, tally.lower, tally.upper, out=read.spare[1])
    if tally.centre:
        product = np.subtract(product, tally.centre, out=read.spare[1])
    return product
