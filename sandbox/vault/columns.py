"""What a sealed table looks like, and the last look at rows before they are sealed.

Bounds are public and rows were clamped to them at ingest.  Sensitivity rests on that, so the vault looks again: a batch
that breaks its description is refused whole, before any of it is stored.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import pyarrow as pa

from sandbox.errors import InputError
from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.vault.arrays import numpy_of

UNIT_COLUMN = "_unit"
RANK_COLUMN = "_rank"
SYSTEM_COLUMNS = (UNIT_COLUMN, RANK_COLUMN)

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


def check_batch(description: DatasetDescription, batch: pa.RecordBatch) -> None:
    """Refuse a batch that is not what its description says.

    Raises:
        InputError: `input.batch.schema` (columns or types), `input.batch.null` (a value is missing where none may be),
            `input.batch.bounds` (a value lies outside the public bounds).  The message names the column, never a value.
    """
    expected = batch_schema(description)
    if batch.schema.names != expected.names or batch.schema.types != expected.types:
        raise InputError(
            f"a batch for the dataset `{description.dataset}` has other columns or types than its description",
            hint=f"expected {', '.join(f'{field.name} {field.type}' for field in expected)}",
            code="input.batch.schema",
        )
    for tokens in (UNIT_COLUMN, *(other.token_column for other in description.also_protects)):
        if batch.column(tokens).null_count:
            raise _missing_value(tokens)
    for column in description.columns:
        values = batch.column(column.name)
        if values.null_count and not column.nullable:
            raise _missing_value(column.name)
        _check_bounds(column, values)


def check_row_count(description: DatasetDescription, rows: int) -> None:
    """Refuse more rows than the description's public ceiling, which keeps sums from overflowing."""
    if rows > description.max_rows:
        raise InputError(
            f"the rows for the dataset `{description.dataset}` are more than the {description.max_rows} it may hold",
            hint="raise `max_rows` in the description, or seal a smaller batch",
            code="input.batch.rows",
        )


def _check_bounds(column: Column, values: pa.Array) -> None:
    """Compare with the bounds as counts of the resolution, rounded outward, since ingest may round after clamping."""
    if column.kind not in {ColumnKind.INTEGER, ColumnKind.DECIMAL, ColumnKind.DATE} or len(values) == 0:
        return
    step = Fraction(1) if column.kind is ColumnKind.DATE or column.resolution is None else column.resolution
    counts = (values.view(pa.int32()) if column.kind is ColumnKind.DATE else values).drop_null()
    if not len(counts):
        return
    numbers = numpy_of(counts)
    lowest, highest = int(numbers.min()), int(numbers.max())
    too_low = column.lower is not None and lowest < floor(column.lower / step)
    too_high = column.upper is not None and highest > ceil(column.upper / step)
    if too_low or too_high:
        raise InputError(
            f"a value of the column `{column.name}` lies outside its public bounds",
            hint="clamp values to the description's bounds before sealing",
            code="input.batch.bounds",
        )


def _missing_value(column: str) -> InputError:
    return InputError(
        f"a value of the column `{column}` is missing where none may be",
        hint="leave the row out, or make the column nullable in the description",
        code="input.batch.null",
    )
