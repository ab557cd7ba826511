"""Split opened partitions into blocks of whole units, and cut each block into plain columns.

What a block's columns look like is a function of the description and of the block's own rows: types come from the
description, positions and indexes start anew, rows stand in the order of a keyed hash.  Nothing in a block tells of
another block, nor of how many rows there are in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.compute.arrange import UNIT_COLUMN
from sandbox.crypto.scatter import scatter
from sandbox.errors import VaultError
from sandbox.model.description import Column, ColumnKind

UNIT_NUMBER: Final = "unit"
"""The column that numbers the units of a block from 0, so that a function can tell whose rows belong together."""


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """One column of one block.

    Attributes:
        name: as described.
        kind: `number` (float64, NaN where missing), `date` (int64 days since 1970-01-01, the least integer where
            missing) or `text` (a list, None where missing).
        values: as `kind` says.
    """

    name: str
    kind: str
    values: Any


class SplitTable:
    """A table in blocks.

    Args:
        table: all rows, in the order of blocks.
        units: the number of each row's unit within its block.
        bounds: block i has the rows from `bounds[i]` to `bounds[i + 1]`.
        columns: their descriptions.
    """

    def __init__(
        self, table: pa.Table, units: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], columns: Sequence[Column]
    ) -> None:
        self._table = table
        self._units = units
        self._bounds = bounds
        self._columns = tuple(columns)

    @property
    def count(self) -> int:
        """How many blocks; some may be empty."""
        return len(self._bounds) - 1

    def block(self, number: int) -> tuple[int, list[PlainColumn]]:
        """Return the number of rows of a block, and its columns: the unit's number first."""
        start, stop = int(self._bounds[number]), int(self._bounds[number + 1])
        units = self._units[start:stop].astype(np.float64)
        cut = [PlainColumn(UNIT_NUMBER, "number", units)]
        for column in self._columns:
            values = self._table.column(column.name).slice(start, stop - start).combine_chunks()
            cut.append(_plain(column, values))
        return stop - start, cut


def split_blocks(partitions: Iterable[pa.Table], columns: Sequence[Column], *, blocks: int, key: bytes) -> SplitTable:
    """Return the rows of all partitions in blocks.

    Args:
        partitions: tables with `_unit` and the columns; all rows of a unit stand together in one of them.
        columns: which columns, and what they are.
        blocks: how many blocks.
        key: decides, with a unit's token alone, in which block the unit is.

    Raises:
        VaultError: the rows of a unit do not stand together, so a split could tear it apart.

    Privacy: to add or remove all rows of one unit changes the rows of the one block that its token and the key name.
    """
    names = [column.name for column in columns]
    parts = [part.select([UNIT_COLUMN, *names]) for part in partitions]
    if not parts:
        return SplitTable(_empty(columns), np.zeros(0, np.int64), np.zeros(blocks + 1, np.int64), columns)
    table = pa.concat_tables(parts).combine_chunks()
    tokens = table.column(UNIT_COLUMN).to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]])) if len(tokens) else np.zeros(0, int)
    owners = tokens[starts]
    if len(np.unique(owners)) != len(owners):
        raise VaultError(
            "the rows of a unit do not stand together",
            hint="seal the dataset again",
            code="vault.partition",
        )
    hashes = scatter(key, owners)
    homes = (hashes % np.uint64(blocks)).astype(np.int64)
    order = np.lexsort((hashes, homes))
    lengths = np.diff(np.append(starts, len(tokens)))[order]
    rows = np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(tokens))
    unit_bounds = np.searchsorted(homes[order], np.arange(blocks + 1))
    row_bounds = np.concatenate([[0], np.cumsum(lengths)])[unit_bounds]
    within = np.arange(len(order)) - unit_bounds[homes[order]]
    return SplitTable(
        table.drop_columns([UNIT_COLUMN]).take(pa.array(rows)), np.repeat(within, lengths), row_bounds, columns
    )


def _empty(columns: Sequence[Column]) -> pa.Table:
    return pa.table({column.name: pa.array([], pa.int64()) for column in columns})


def _plain(column: Column, values: pa.Array) -> PlainColumn:
    match column.kind:
        case ColumnKind.INTEGER | ColumnKind.DECIMAL:
            assert column.resolution is not None
            counts = _floats(values.cast(pa.int64()))
            step = column.resolution
            return PlainColumn(column.name, "number", counts * float(step.numerator) / float(step.denominator))
        case ColumnKind.BOOLEAN:
            return PlainColumn(column.name, "number", _floats(values.cast(pa.int8())))
        case ColumnKind.DATE:
            days = values.cast(pa.int32()).cast(pa.int64())
            missing = np.iinfo(np.int64).min
            return PlainColumn(column.name, "date", days.fill_null(missing).to_numpy(zero_copy_only=False))
        case ColumnKind.CATEGORY | ColumnKind.TEXT:
            return PlainColumn(column.name, "text", values.to_pylist())


def _floats(values: pa.Array) -> npt.NDArray[np.float64]:
    floats = values.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(floats.to_numpy(zero_copy_only=False), dtype=np.float64)
