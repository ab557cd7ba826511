"""Rows made up from what a department says about a dataset: public facts in, nothing of the data.

The same description gives the same rows, on every machine.  They have the described types, bounds, domains and
missing values, and nothing else of the real ones: every value is as likely as every other, columns know nothing of each
other.  A program that runs on them will run on the real rows; what it finds in them means nothing.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.compute.arrange import RANK_COLUMN, UNIT_COLUMN
from sandbox.model.description import Column, ColumnKind, DatasetDescription

UNITS: Final = 2000
_MISSING_SHARE: Final = 0.05
_WORDS: Final = 12
_WHOLE_MAX: Final = 1_000_000
_DAYS: Final = (18_262, 20_454)  # 2020-01-01 to 2026-01-01, where a date has no bounds


def mock_rows(description: DatasetDescription, *, units: int = UNITS) -> pa.Table:
    """Return made-up rows in storage types, with `_unit` and `_rank`, as an opened partition has them.

    Args:
        description: the dataset, as its department describes it.
        units: how many units; rows stay below the dataset's public ceiling.
    """
    draw = np.random.default_rng(int(description.digest().rpartition(":")[2][:16], 16))
    lengths = draw.integers(1, description.bound.rows + 1, size=units)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), description.max_rows, side="right"))]
    rows = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    table: dict[str, Any] = {
        UNIT_COLUMN: pa.array(np.repeat(np.arange(1, len(lengths) + 1), lengths), pa.int64()),
        RANK_COLUMN: pa.array(np.arange(rows) - np.repeat(starts, lengths) + 1, pa.int32()),
    }
    for column in description.columns:
        missing = draw.random(rows) < (_MISSING_SHARE if column.nullable else 0)
        table[column.name] = _cells(column, draw, rows, missing)
    return pa.table(table)


def _cells(column: Column, draw: np.random.Generator, rows: int, missing: npt.NDArray[np.bool_]) -> pa.Array:
    match column.kind:
        case ColumnKind.INTEGER | ColumnKind.DECIMAL:
            return pa.array(draw.integers(*_counts(column), size=rows, endpoint=True), pa.int64(), mask=missing)
        case ColumnKind.DATE:
            lower = _DAYS[0] if column.lower is None else math.ceil(column.lower)
            upper = _DAYS[1] if column.upper is None else math.floor(column.upper)
            days = draw.integers(lower, upper, size=rows, endpoint=True).astype(np.int32)
            return pa.array(days, pa.int32(), mask=missing).cast(pa.date32())
        case ColumnKind.BOOLEAN:
            return pa.array(draw.random(rows) < 0.5, pa.bool_(), mask=missing)
        case ColumnKind.CATEGORY | ColumnKind.TEXT:
            words = np.array(_words(column), dtype=object)
            return pa.array(words[draw.integers(0, len(words), size=rows)], pa.string(), mask=missing)


def _counts(column: Column) -> tuple[int, int]:
    """Return the least and the largest number of steps of the resolution that the bounds allow."""
    step = column.resolution
    assert step is not None
    lower = 0 if column.lower is None else math.ceil(column.lower / step)
    upper = lower + _WHOLE_MAX if column.upper is None else math.floor(column.upper / step)
    return lower, max(lower, upper)


def _words(column: Column) -> list[str]:
    if column.domain:
        return [value.value for value in column.domain]
    return [f"mock-{column.name}-{number}" for number in range(1, _WORDS + 1)]
