"""Arrange a partition as a plan's statement asks: in order, a unit's first rows alone, groups numbered.

All of it is a function of the partition alone, and exact: numbers stand for texts and bins one to one, and which rows
are a unit's first is a comparison of whole numbers.  A partition that is in another order than a vault's is sorted
first, so a bound that rests on the order holds for any partition.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sandbox.privacy.keys import Key
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, PLACE_COLUMN, Bins, Layout

UNIT_COLUMN = "_unit"
RANK_COLUMN = "_rank"
MOST_STEPS = 32
"""First rows are found by comparing with up to this many rows before; where more could matter, by sorting."""

WIDEST = 2**62
"""Numbers of groups, and of pairs of a unit and a group, stay below this."""

_SLICE = 1 << 17
"""Rows that are looked at together, so that what is computed of them stays near the processor."""

_MANY = 1 << 23
"""Places of tables up to so many rows are made once."""

Numbers = npt.NDArray[Any]


class Groups:
    """The texts that the numbers in `_group` stand for: mixed radix, the last column its last digit.

    Args:
        values: the distinct values of each column; the digit after the last of them is NULL.
        renumbered: for each column, what the numbers before its digit were counted from, or None where they stand.
    """

    def __init__(self, values: Sequence[Sequence[str | None]], renumbered: Sequence[Numbers | None]) -> None:
        self._steps = tuple(zip(values, renumbered, strict=True))

    @property
    def width(self) -> int:
        """How many texts a number stands for."""
        return len(self._steps)

    @property
    def size(self) -> int:
        """All numbers are below this."""
        size = 1
        for values, before in self._steps:
            size = (size if before is None else len(before)) * (len(values) + 1)
        return size

    def keys(self, numbers: Sequence[int]) -> list[Key]:
        """Return the texts of numbers."""
        left = np.asarray(numbers, dtype=np.int64)
        found: list[list[str | None]] = []
        for values, before in reversed(self._steps):
            left, digits = np.divmod(left, len(values) + 1)
            texts = [*values, None]
            found.append([texts[digit] for digit in digits.tolist()])
            left = left if before is None else before[left]
        return list(zip(*reversed(found), strict=True))


def clustered(table: pa.Table) -> pa.Table:
    """Return a partition in order of units and ranks."""
    if is_clustered(table):
        return table
    by = [(UNIT_COLUMN, "ascending"), (RANK_COLUMN, "ascending")]
    return table.take(pc.sort_indices(table, sort_keys=by))


def placed(table: pa.Table) -> pa.Table:
    """Return a table with the place of each row beside it, so that rows can be told whatever order they come in."""
    if len(table) <= _MANY:
        return table.append_column(PLACE_COLUMN, _places().slice(0, len(table)))
    return table.append_column(PLACE_COLUMN, pa.array(np.arange(len(table), dtype=np.int64)))


@cache
def _places() -> pa.Array:
    return pa.array(np.arange(_MANY, dtype=np.int32))


def few_rows(table: pa.Table, layout: Layout, places: Numbers | None = None) -> pa.Table:
    """Return the first rows of each unit, with the columns that a layout rests on or hands on.

    Args:
        table: a partition; where the layout asks for order, in order.
        layout: says how many, and which columns.
        places: where the rows stand that pass the layout's filter, in any order; None where it has none.
    """
    binned = () if layout.bins is None else (layout.bins.column,)
    told = (UNIT_COLUMN if layout.filter else RANK_COLUMN,) if layout.firsts else ()
    batches = table.to_batches()
    if places is None:
        chosen = [np.flatnonzero(batch.column(RANK_COLUMN).to_numpy() <= layout.few) for batch in batches]
    else:
        chosen = _first_passing(batches, places, layout.few)
    names = list(dict.fromkeys([*layout.carried, *layout.groups, *binned, *told]))
    taken = [batch.select(names).take(pa.array(rows)) for batch, rows in zip(batches, chosen, strict=True)]
    found = pa.Table.from_batches(taken, schema=table.select(names).schema)
    for name in binned:
        if found.column(name).null_count:
            found = found.filter(found.column(name).is_valid())
    return found


def _first_passing(batches: Sequence[pa.RecordBatch], places: Numbers, few: int) -> list[Numbers]:
    """Return, for each batch, which of its rows are the first of their unit among some rows of all batches."""
    # Which rows pass is a set, in whatever order it is told.
    passed = places if bool((places[1:] > places[:-1]).all()) else np.unique(places)
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    cuts = list(itertools.pairwise(np.searchsorted(passed, starts).tolist()))
    rows = [passed[start:stop] - before for (start, stop), before in zip(cuts, starts.tolist(), strict=False)]
    units = [batch.column(UNIT_COLUMN).to_numpy()[own] for batch, own in zip(batches, rows, strict=True)]
    whole = np.concatenate([np.zeros(0, np.int64), *units])
    fresh = np.ones(len(whole), np.bool_)
    fresh[few:] = whole[few:] != whole[:-few]
    return [own[fresh[start:stop]] for own, (start, stop) in zip(rows, cuts, strict=True)]


def numbered(table: pa.Table, layout: Layout) -> tuple[pa.Table, Groups | None]:
    """Return rows with the numbers and marks that a layout asks for, and what the numbers stand for."""
    if not layout.numbers:
        return table, None
    digits = [_digits(table.column(name)) for name in layout.groups]
    if layout.bins is not None:
        digits.append(_binned(table.column(layout.bins.column), layout.bins))
    numbers, groups = _numbered(digits)
    beside = {GROUP_COLUMN: pa.array(numbers)}
    if layout.firsts:
        filtered = bool(layout.filter)
        told = _numpy(table, UNIT_COLUMN if filtered else RANK_COLUMN)
        # As a small integer: the engine sums it faster than it counts by it.
        marks = first_rows(_positions(told) if filtered else told, numbers)
        beside[FIRST_COLUMN] = pa.array(marks.view(np.int8))
    shown = table.select(layout.carried) if layout.few else table
    return pa.table({**dict(zip(shown.column_names, shown.columns, strict=True)), **beside}), groups


def is_clustered(table: pa.Table) -> bool:
    """Return whether rows of a unit stand together with ranks 1, 2, 3 …; each unit has each rank at most once."""
    unit, rank = 0, 0
    for batch in table.select([UNIT_COLUMN, RANK_COLUMN]).to_batches():
        units, ranks = (column.to_numpy() for column in batch.columns)
        for start in range(0, len(units), _SLICE):
            own, places = units[start : start + _SLICE], ranks[start : start + _SLICE]
            if not (places[0] == 1 or (own[0] == unit and places[0] == rank + 1 and rank)) or not _follows(own, places):
                return False
            unit, rank = int(own[-1]), int(places[-1])
    return True


def _follows(units: Numbers, ranks: Numbers) -> bool:
    """Return whether every row but the first starts a unit or is the next of the row before."""
    following = ranks[1:] - ranks[:-1] == 1
    following &= units[1:] == units[:-1]
    following |= ranks[1:] == 1
    return bool(following.all())


def _positions(units: Numbers) -> Numbers:
    """Return 1, 2, 3 … within each run of one unit."""
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(units)), np.bool_), units[1:] != units[:-1]]))
    return np.arange(1, len(units) + 1) - np.repeat(starts, np.diff(np.append(starts, len(units))))


def first_rows(positions: Numbers, groups: Numbers) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their unit in their group.

    Args:
        positions: 1, 2, 3 … within each unit; its rows stand together.
        groups: numbers of groups.
    """
    marks = np.zeros(len(groups), np.bool_)
    narrow = positions.astype(_narrowest(int(positions.max(initial=0))), copy=False)
    start = 0
    while start < len(groups):
        stop = _unit_end(narrow, start + _SLICE)
        marks[start:stop] = _first_among(narrow[start:stop], groups[start:stop])
        start = stop
    return marks


def _unit_end(positions: Numbers, place: int) -> int:
    """Return the first place from `place` on where a unit ends."""
    while place < len(positions):
        starts = np.flatnonzero(positions[place : place + _SLICE] == 1)
        if len(starts):
            return place + int(starts[0])
        place += _SLICE
    return len(positions)


def _first_among(positions: Numbers, groups: Numbers) -> npt.NDArray[np.bool_]:
    steps = int(positions.max()) - 1
    if steps > MOST_STEPS:
        marks = np.zeros(len(groups), np.bool_)
        marks[np.unique(_pairs(np.cumsum(positions == 1), groups), return_index=True)[1]] = True
        return marks
    seen = np.zeros(len(groups), np.bool_)
    for step in range(1, steps + 1):
        again = groups[step:] == groups[:-step]
        again &= positions[step:] > step
        seen[step:] |= again
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
    numbers = np.empty(len(coded), _narrowest(len(values) + 1))
    start = 0
    for chunk in coded.chunks:
        numbers[start : start + len(chunk)] = _filled(chunk.indices, len(values))
        start += len(chunk)
    return numbers, values


def _binned(column: pa.ChunkedArray, bins: Bins) -> tuple[Numbers, list[str | None]]:
    """Return the bin of each row, and the bins' names; no row is NULL."""
    names: list[str | None] = [*bins.names]
    numbers = np.empty(len(column), _narrowest(len(names) + 1))
    # Below 32 bits a division takes a third of the time.
    of = np.uint32 if bins.upper - bins.lower < 2**32 and bins.width < 2**32 else np.int64
    start = 0
    for chunk in column.chunks:
        values = chunk.to_numpy().astype(np.int64, copy=False)
        for place in range(0, len(values), _SLICE):
            held = np.clip(values[place : place + _SLICE], bins.lower, bins.upper)
            held -= bins.lower
            numbers[start : start + len(held)] = held.astype(of) // of(bins.width)
            start += len(held)
    return numbers, names


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
    if indices.null_count:
        indices = indices.cast(pa.int32()).fill_null(missing)
    found: Numbers = indices.to_numpy(zero_copy_only=False)
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
