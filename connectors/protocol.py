"""What a source is: batches in storage types, and a report of what did not become a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from connectors.quality import QualityReport
from sandbox.model.description import ColumnKind, DatasetDescription

UNIT_COLUMN = "_unit"

_TYPES = {
    ColumnKind.INTEGER: pa.int64(),
    ColumnKind.DECIMAL: pa.int64(),
    ColumnKind.CATEGORY: pa.string(),
    ColumnKind.TEXT: pa.string(),
    ColumnKind.DATE: pa.date32(),
    ColumnKind.BOOLEAN: pa.bool_(),
}


class Tokens(Protocol):
    """What turns the texts of a unit's key into keyed tokens; `sandbox.crypto.tokens.Tokeniser` is one."""

    def tokens(self, values: Sequence[str]) -> Any:
        """Return int64 tokens, one a value, in order."""
        ...


class Source(Protocol):
    """Rows on their way into the vault.

    A source that refuses raises in the middle of the iteration or at its end: whoever seals the batches keeps nothing
    of them before the iteration has ended well.
    """

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch: `_unit`, then the described columns in order."""
        ...

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Read from the start."""
        ...

    def report(self) -> QualityReport:
        """Return what became of the rows; only after an iteration that ended well."""
        ...


def storage_schema(description: DatasetDescription) -> pa.Schema:
    """Return the schema of a description's batches: tokens of the unit and of other units, then the columns in order.

    Numbers are int64 counts of the column's resolution, dates are days, categories and text are UTF-8.
    """
    fields = [pa.field(UNIT_COLUMN, pa.int64(), nullable=False)]
    fields += [pa.field(other.token_column, pa.int64(), nullable=False) for other in description.also_protects]
    fields += [pa.field(column.name, _TYPES[column.kind], nullable=column.nullable) for column in description.columns]
    return pa.schema(fields)
