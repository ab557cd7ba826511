"""What a sealed table looks like, and the last look at rows before they are sealed.

Bounds are public and rows were clamped to them at ingest.  Sensitivity rests on that, so the vault looks again: a batch
that breaks its description is refused whole, before any of it is stored.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pyarrow as pa

from sandbox.errors import InputError
from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.vault.arrays import numpy_of

UNIT_COLUMN = "_unit"
RANK_COLUMN = "_rank"
SYSTEM_COLUMNS = (UNIT_COLUMN, RANK_COLUMN)
_INT64 = range(-(2**63), 2**63)

_STORAGE = {
    ColumnKind.INTEGER: pa.int64(),
    ColumnKind.DECIMAL: pa.int64(),
    ColumnKind.DATE: pa.date32(),
    ColumnKind.BOOLEAN: pa.bool_(),
    ColumnKind.CATEGORY: pa.string(),
    ColumnKind.TEXT: pa.string(),
}
_TYPE_NAMES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "date": pa.date32(),
    "bool": pa.bool_(),
    "text": pa.string(),
}


def batch_schema(description: DatasetDescription) -> pa.Schema:
    """Return the schema that batches must arrive in: `_unit`, tokens of other units, the description's columns."""
    columns = [pa.field(other.token_column, pa.int64()) for other in description.also_protects]
    columns += [pa.field(column.name, type_for(column)) for column in description.columns]
    return pa.schema([pa.field(UNIT_COLUMN, pa.int64()), *columns])


def type_for(column: Column) -> pa.DataType:
    """Return the storage type of a column."""
    return _STORAGE[column.kind]


def type_name(arrow_type: pa.DataType) -> str:
    """Return the manifest's word for a storage type."""
    return next(name for name, known in _TYPE_NAMES.items() if known == arrow_type)


def type_of(name: str) -> pa.DataType:
    """Return the storage type that the manifest's word `name` means."""
    return _TYPE_NAMES[name]


def type_names() -> frozenset[str]:
    """Return the manifest's words for storage types."""
    return frozenset(_TYPE_NAMES)


class BatchCheck:
    """The last look at the batches of one dataset.

    Args:
        description: the dataset.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._dataset = description.dataset
        self._schema = batch_schema(description)
        self._tokens = (UNIT_COLUMN, *(other.token_column for other in description.also_protects))
        self._columns = tuple((column, _bounds_of(column)) for column in description.columns)

    def check(self, batch: pa.RecordBatch) -> None:
        """Refuse a batch that is not what its description says.

        Raises:
            InputError: `input.batch.schema` (columns or types), `input.batch.null` (a value is missing where none may
                be), `input.batch.bounds` (a value lies outside the public bounds).  The message names the column, never
                a value.
        """
        if batch.schema.names != self._schema.names or batch.schema.types != self._schema.types:
            raise InputError(
                f"a batch for the dataset `{self._dataset}` has other columns or types than its description",
                hint=f"expected {', '.join(f'{field.name} {field.type}' for field in self._schema)}",
                code="input.batch.schema",
            )
        for tokens in self._tokens:
            if batch.column(tokens).null_count:
                raise _missing_value(tokens)
        for column, bounds in self._columns:
            values = batch.column(column.name)
            if values.null_count and not column.nullable:
                raise _missing_value(column.name)
            if bounds is not None and not _within(values, bounds):
                raise InputError(
                    f"a value of the column `{column.name}` lies outside its public bounds",
                    hint="clamp values to the description's bounds before sealing",
                    code="input.batch.bounds",
                )


def check_row_count(description: DatasetDescription, rows: int) -> None:
    """Refuse more rows than the description's public ceiling, which keeps sums from overflowing."""
    if rows > description.max_rows:
        raise InputError(
            f"the rows for the dataset `{description.dataset}` are more than the {description.max_rows} it may hold",
            hint="raise `max_rows` in the description, or seal a smaller batch",
            code="input.batch.rows",
        )


def _bounds_of(column: Column) -> range | None:
    """Return the counts of the resolution that a column may hold, of those that 64 bits hold; None for all of them.

    The bounds are rounded outward, since ingest may round after clamping.
    """
    if column.kind not in {ColumnKind.INTEGER, ColumnKind.DECIMAL, ColumnKind.DATE}:
        return None
    if column.lower is None and column.upper is None:
        return None
    step = Fraction(1) if column.kind is ColumnKind.DATE or column.resolution is None else column.resolution
    lowest = _INT64.start if column.lower is None else max(_INT64.start, floor(column.lower / step))
    highest = _INT64.stop - 1 if column.upper is None else min(_INT64.stop - 1, ceil(column.upper / step))
    return range(lowest, highest + 1)


def _within(values: pa.Array, bounds: range) -> bool:
    """Return whether all counts lie within bounds: one comparison a value, of its distance from the lower bound."""
    if len(values) == values.null_count:
        return True
    if not bounds:
        return False
    counts = (values.view(pa.int32()) if pa.types.is_date32(values.type) else values).drop_null()
    numbers = numpy_of(counts)
    if numbers.dtype != np.int64:
        numbers = numbers.astype(np.int64)
    # A count below the lower bound wraps around and is more than the widest distance, unless all 64 bits are allowed.
    distances = numbers - np.int64(bounds.start) if bounds.start else numbers
    return int(distances.view(np.uint64).max()) <= bounds.stop - 1 - bounds.start


def _missing_value(column: str) -> InputError:
    return InputError(
        f"a value of the column `{column}` is missing where none may be",
        hint="leave the row out, or make the column nullable in the description",
        code="input.batch.null",
    )
