"""Arrange a partition as a plan's statement asks: in order of units and ranks, groups numbered, rows marked.

All of it is a function of the partition alone, and exact: numbers stand for texts one to one, and a mark is a
comparison of whole numbers.  A partition that is in another order than a vault's is sorted first, so a bound that
rests on the order holds for any partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sandbox.privacy.keys import Key
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, KEPT_COLUMN, PLACE_COLUMN, Layout

UNIT_COLUMN = "_unit"
RANK_COLUMN = "_rank"
MOST_STEPS = 32
"""First rows are found by comparing with up to this many rows before; where more could matter, by sorting."""

WIDEST = 2**62
"""Numbers of groups, and of pairs of a unit and a group, stay below this."""

_SLICE = 1 << 17
"""Rows that are looked at together, so that what is computed of them stays near the processor."""

Numbers = npt.NDArray[Any]


class Groups:
    """The texts that the numbers in `_group` stand for: mixed radix, the last column its last digit.

    Args:
        values: the distinct values of each column; the digit after the last of them is NULL.
        renumbered: for each column, what the numbers before its digit were counted from, or None where they stand.
    """

    def __init__(self, values: Sequence[Sequence[str | None]], renumbered: Sequence[Numbers | None]) -> None:
        self._steps = tuple(zip(values, renumbered, strict=True))

    def key(self, number: int) -> Key:
        """Return the texts of a number."""
        found: list[str | None] = []
        for values, before in reversed(self._steps):
            number, digit = divmod(number, len(values) + 1)
            found.append(values[digit] if digit < len(values) else None)
            number = number if before is None else int(before[number])
        return tuple(reversed(found))


def arranged(table: pa.Table, layout: Layout) -> tuple[pa.Table, Groups | None]:
    """Return a partition as a layout asks, and what its numbers stand for."""
    if layout.clustered and not is_clustered(table):
        by = [(UNIT_COLUMN, "ascending"), (RANK_COLUMN, "ascending")]
        table = table.take(pc.sort_indices(table, sort_keys=by))
    if not layout.groups:
        return table, None
    digits = [_digits(table.column(name)) for name in layout.groups]
    numbers, groups = _numbered(digits)
    table = table.append_column(GROUP_COLUMN, pa.array(numbers))
    if layout.firsts:
        marks = first_rows(_numpy(table, UNIT_COLUMN), _numpy(table, RANK_COLUMN), numbers, layout.firsts)
        table = table.append_column(FIRST_COLUMN, pa.array(marks))
    return table, groups


def placed(table: pa.Table) -> pa.Table:
    """Return a table with the place of each row beside it, so that rows can be told whatever order they come in."""
    return table.append_column(PLACE_COLUMN, pa.array(np.arange(len(table), dtype=np.int64)))


def with_kept(table: pa.Table, places: Numbers, few: int) -> pa.Table:
    """Return an arranged table with a mark at the first rows of each unit among some.

    Args:
        table: rows of a unit stand together, ranks ascending.
        places: where the rows stand that pass a filter, in any order.
        few: how many of a unit's are marked at most.
    """
    marks = np.zeros(len(table), np.bool_)
    marks[places] = True
    passed = np.flatnonzero(marks)
    units = _numpy(table, UNIT_COLUMN)[passed]
    marks[passed[few:]] = units[few:] != units[:-few]
    return table.append_column(KEPT_COLUMN, pa.array(marks))


def is_clustered(table: pa.Table) -> bool:
    """Return whether rows of a unit stand together with ranks 1, 2, 3 …; each unit has each rank at most once."""
    if len(table) == 0:
        return True
    units, ranks = _numpy(table, UNIT_COLUMN), _numpy(table, RANK_COLUMN)
    return bool(ranks[0] == 1) and all(
        _follows(units[start : start + _SLICE + 1], ranks[start : start + _SLICE + 1])
        for start in range(0, len(units), _SLICE)
    )


def _follows(units: Numbers, ranks: Numbers) -> bool:
    """Return whether every row but the first starts a unit or is the next of the row before."""
    following = (units[1:] == units[:-1]) & (ranks[1:] == ranks[:-1] + 1)
    return bool((following | (ranks[1:] == 1)).all())


def first_rows(units: Numbers, ranks: Numbers, groups: Numbers, most: int) -> npt.NDArray[np.bool_]:
    """Return, for rows in order of units, which are the first of their unit in their group among ranks to `most`.

    Rows of a higher rank are not marked.
    """
    marks = np.zeros(len(units), np.bool_)
    start = 0
    while start < len(units):
        stop = _unit_end(units, start + _SLICE)
        kept = np.flatnonzero(ranks[start:stop] <= most)
        if len(kept):
            marks[start + kept] = _first_among(units[start:stop][kept], groups[start:stop][kept])
        start = stop
    return marks


def _unit_end(units: Numbers, place: int) -> int:
    """Return the first place from `place` on where a unit ends."""
    while 0 < place < len(units):
        ends = np.flatnonzero(
            units[place : place + _SLICE] != units[place - 1 : place - 1 + _SLICE][: len(units) - place]
        )
        if len(ends):
            return place + int(ends[0])
        place += _SLICE
    return min(place, len(units))


def _first_among(units: Numbers, groups: Numbers) -> npt.NDArray[np.bool_]:
    starts = np.concatenate([[True], units[1:] != units[:-1]])
    steps = int(np.diff(np.append(np.flatnonzero(starts), len(units))).max()) - 1
    pairs = _pairs(np.cumsum(starts, dtype=np.int32), groups)
    if steps > MOST_STEPS:
        marks = np.zeros(len(units), np.bool_)
        marks[np.unique(pairs, return_index=True)[1]] = True
        return marks
    seen = np.zeros(len(units), np.bool_)
    for step in range(1, steps + 1):
        seen[step:] |= pairs[step:] == pairs[:-step]
    return ~seen


def _pairs(place: Numbers, groups: Numbers) -> Numbers:
    """Return one number for each pair of a unit and a group, 32 bits where they suffice."""
    width, count = int(groups.max()) + 1, int(place[-1]) + 1
    if width * count >= WIDEST:
        _, groups = np.unique(groups, return_inverse=True)
        width = int(groups.max()) + 1
    of = np.dtype(np.int32 if width * count < 2**31 else np.int64)
    return np.multiply(place, width, dtype=of) + groups


def _digits(column: pa.ChunkedArray) -> tuple[Numbers, list[str | None]]:
    """Return a number for each row of a text column, and the values that they number; NULL is the number after all."""
    coded = _encoded(column)
    values = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
    chunks = [_filled(chunk.indices, len(values)) for chunk in coded.chunks]
    return (np.concatenate(chunks) if chunks else np.zeros(0, np.int32)), values


def _encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as one dictionary of distinct values without NULL."""
    if pa.types.is_dictionary(column.type):
        if all(chunk.dictionary.null_count == 0 for chunk in column.chunks):
            column = column.unify_dictionaries()
            if column.num_chunks == 0 or len(pc.unique(column.chunk(0).dictionary)) == len(column.chunk(0).dictionary):
                return column
        column = column.cast(column.type.value_type)
    return column.dictionary_encode().unify_dictionaries()


def _filled(indices: pa.Array, missing: int) -> Numbers:
    numbers = indices.cast(pa.int32())
    if numbers.null_count:
        numbers = numbers.fill_null(missing)
    found: Numbers = numbers.to_numpy(zero_copy_only=False)
    return found


def _numbered(digits: Sequence[tuple[Numbers, list[str | None]]]) -> tuple[Numbers, Groups]:
    numbers, width = digits[0][0], len(digits[0][1]) + 1
    renumbered: list[Numbers | None] = [None]
    for own, values in digits[1:]:
        before = None
        if width * (len(values) + 1) >= WIDEST:
            # Only numbers that occur get a new one, so there are at most as many as rows; two such fit 62 bits.
            before, numbers = np.unique(numbers, return_inverse=True)
            width = len(before)
        renumbered.append(before)
        width *= len(values) + 1
        numbers = np.multiply(numbers, len(values) + 1, dtype=_narrowest(width))
        numbers += own.astype(numbers.dtype, copy=False)
    return numbers.astype(_narrowest(width), copy=False), Groups([values for _, values in digits], renumbered)


def _narrowest(width: int) -> np.dtype[Any]:
    """Return a type for numbers below `width`: where a byte or two suffice, the engine groups without hashing."""
    fits = (of for of in (np.int8, np.int16, np.int32) if width <= np.iinfo(of).max)
    return np.dtype(next(fits, np.int64))


def _numpy(table: pa.Table, name: str) -> Numbers:
    found: Numbers = table.column(name).to_numpy()
    return found


def batches(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield tables put together while they have one schema and no more than about `rows` rows.

    Every unit stands in one of them, so it still does, and a statement that runs over fewer, larger tables gives the
    same sums.
    """
    held: list[pa.Table] = []
    for table in tables:
        if held and (table.schema != held[0].schema or sum(len(each) for each in held) + len(table) > rows):
            yield pa.concat_tables(held)
            held = []
        held.append(table)
    if held:
        yield pa.concat_tables(held)
