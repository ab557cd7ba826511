"""What became of the rows of a batch: counts and row numbers, never a value.

The report is for the department that handed the batch in.  Its counts are exact, so it stays with the department and
the sandbox and is no release.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.errors import FileFormatError

FIRST_ROWS = 10
"""How many row numbers are kept for each reason."""


class BrokenReason(StrEnum):
    """Why a row was not sealed; the text is what people read."""

    FIELD_COUNT = "wrong number of fields"
    UNIT_MISSING = "privacy unit's key is missing"
    UNIT_MANGLED = "privacy unit's key was turned into a rounded number by a spreadsheet"
    VALUE_MISSING = "value is missing in a column that may not miss any"
    NOT_A_NUMBER = "not a number"
    NOT_A_DATE = "not a date"
    NOT_A_BOOLEAN = "not a yes or no"
    OUTSIDE_DOMAIN = "outside the public domain"


@dataclass(frozen=True, slots=True)
class BrokenRows:
    """Rows that were broken for one reason in one column.

    Attributes:
        reason: why.
        column: the described column, or empty where the whole row is meant.
        rows: how many; a row with several faults counts once, under the first.
        first_rows: the first row numbers, as a spreadsheet counts them: the header is row 1.
    """

    reason: BrokenReason
    column: str
    rows: int
    first_rows: tuple[int, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the rows as a canonical record."""
        return {
            "reason": self.reason.name.lower(),
            "column": self.column,
            "rows": self.rows,
            "first_rows": list(self.first_rows),
        }


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What became of every row of a source: `rows_read` is the sum of sealed, excluded and broken ones.

    Attributes:
        dataset: the dataset's identifier.
        source: the file's name, without folders.
        encoding: the encoding it was read in.
        rows_read: rows after the header.
        rows_sealed: rows that were handed on.
        excluded: `(source header, reason in English, rows)` for each exclusion rule, in the description's order; a row
            that several rules exclude counts under the first.
        broken: broken rows, most first.
        clamped: `(column, values)` moved to the nearest bound, among sealed rows; every column with bounds.
        nulls: `(column, values)` missing, among sealed rows; every column that may miss values.
    """

    dataset: str
    source: str
    encoding: str
    rows_read: int
    rows_sealed: int
    excluded: tuple[tuple[str, str, int], ...]
    broken: tuple[BrokenRows, ...]
    clamped: tuple[tuple[str, int], ...]
    nulls: tuple[tuple[str, int], ...]

    @property
    def rows_excluded(self) -> int:
        """How many rows the exclusion rules kept out."""
        return sum(rows for _, _, rows in self.excluded)

    @property
    def rows_broken(self) -> int:
        """How many rows were broken."""
        return sum(broken.rows for broken in self.broken)

    def to_record(self) -> dict[str, Any]:
        """Return the report as a canonical record."""
        return {
            "v": 1,
            "dataset": self.dataset,
            "source": self.source,
            "encoding": self.encoding,
            "rows_read": self.rows_read,
            "rows_sealed": self.rows_sealed,
            "excluded": [{"column": column, "reason": reason, "rows": rows} for column, reason, rows in self.excluded],
            "broken": [broken.to_record() for broken in self.broken],
            "clamped": dict(self.clamped),
            "nulls": dict(self.nulls),
        }


def no_rows() -> FileFormatError:
    """Return the error of a source of which no row is left to seal."""
    return FileFormatError(
        "no row is left to seal",
        hint="the file has none, or the exclusion rules and broken rows took them all; compare the rules with the file",
        code="input.file.no_rows",
    )
