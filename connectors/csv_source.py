"""CSV files as departments export them, as record batches in storage types.

The order of the rules matters: a row that an exclusion rule names is dropped before anything else of it is looked at;
then a row is whole or broken; only whole rows are handed on.  No message and no report carries a value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa

from connectors.protocol import UNIT_COLUMN, Tokens, storage_schema
from connectors.quality import FIRST_ROWS, BrokenReason, BrokenRows, QualityReport
from connectors.textfile import open_lines
from connectors.values import ColumnReader, UnitReader, plain_text
from sandbox.errors import FileFormatError
from sandbox.model.description import DatasetDescription

Row = list[str]
BrokenKey = tuple[BrokenReason, str]


@dataclass(slots=True)
class _Tally:
    """The counts of one reading, while it goes on."""

    encoding: str = ""
    read: int = 0
    sealed: int = 0
    excluded: list[int] = field(default_factory=list)
    broken: dict[BrokenKey, int] = field(default_factory=dict)
    first_rows: dict[BrokenKey, list[int]] = field(default_factory=dict)
    clamped: dict[str, int] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)
    first_broken: int | None = None

    def note_broken(self, reason: BrokenReason, column: str, row: int, *, rows: int = 1) -> None:
        key = (reason, column)
        self.broken[key] = self.broken.get(key, 0) + rows
        numbers = self.first_rows.setdefault(key, [])
        if len(numbers) < FIRST_ROWS:
            numbers.append(row)
        self.first_broken = row if self.first_broken is None else min(row, self.first_broken)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in a row things stand."""

    width: int
    unit: int
    others: tuple[int, ...]
    columns: tuple[int, ...]
    exclusions: tuple[int, ...]


class CsvSource:
    """One CSV file, or one member of a `.zip`, read as often as it is iterated.

    Args:
        path: the file.
        description: what the department declared.
        tokeniser: gives the keyed tokens of the privacy unit's key.
        others: the same for each further kind of unit that the description protects.
        encoding: `utf-8`, `utf-8-sig` or `gb18030`; a byte-order mark in the file comes first.
        member: the member of an archive; None for its only one.
        delimiter: one character.
        batch_rows: rows read for one batch; a batch may have fewer after rules and broken rows.
        progress: told the rows read so far, after each batch.
    """

    def __init__(
        self,
        path: Path,
        description: DatasetDescription,
        tokeniser: Tokens,
        *others: Tokens,
        encoding: str = "utf-8",
        member: str | None = None,
        delimiter: str = ",",
        batch_rows: int = 65_536,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if batch_rows < 1:
            raise AssertionError("a batch has at least one row")
        self._path = path
        self._description = description
        self._tokenisers = (tokeniser, *others)
        if len(others) != len(description.also_protects):
            raise AssertionError("a tokeniser for each kind of unit")
        self._encoding = encoding
        self._member = member
        self._delimiter = delimiter
        self._batch_rows = batch_rows
        self._progress = progress
        self._finished: _Tally | None = None
        self._excluded_values = [frozenset(map(plain_text, rule.values)) for rule in description.exclusions]

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch: `_unit`, then the described columns in order."""
        return storage_schema(self._description)

    def report(self) -> QualityReport:
        """Return what became of the rows.

        Raises:
            FileFormatError: the file was not read to its end, or was refused.
        """
        tally = self._finished
        if tally is None:
            raise FileFormatError(
                f"file `{self._path.name}` was not read to its end",
                hint="read all batches first",
                code="input.file.unfinished",
            )
        rules = zip(self._description.exclusions, tally.excluded, strict=True)
        broken = [
            BrokenRows(reason, column, rows, tuple(tally.first_rows[reason, column]))
            for (reason, column), rows in tally.broken.items()
        ]
        return QualityReport(
            dataset=self._description.dataset,
            source=self._path.name,
            encoding=tally.encoding,
            rows_read=tally.read,
            rows_sealed=tally.sealed,
            excluded=tuple((rule.column, rule.reason_en, rows) for rule, rows in rules),
            broken=tuple(sorted(broken, key=lambda b: (-b.rows, b.first_rows))),
            clamped=tuple(
                (c.name, tally.clamped.get(c.name, 0)) for c in self._description.columns if c.lower is not None
            ),
            nulls=tuple((c.name, tally.nulls.get(c.name, 0)) for c in self._description.columns if c.nullable),
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Read the file from its start.

        Raises:
            FileFormatError: it cannot be read as declared, or too many of its rows are broken; the latter is known at
                the end at the latest, so nothing of an iteration that raised may be kept.
        """
        self._finished = None
        tally = _Tally(excluded=[0] * len(self._description.exclusions))
        readers = [ColumnReader(column) for column in self._description.columns]
        units = [UnitReader() for _ in self._tokenisers]
        with open_lines(self._path, self._member, self._encoding) as (lines, encoding):
            tally.encoding = encoding
            # Strict: a stray quote may not silently swallow the rows after it.
            rows = csv.reader(lines, delimiter=self._delimiter, strict=True)
            layout = self._read_header(rows)
            while chunk := self._read_chunk(rows, layout, tally):
                batch = self._convert(*chunk, layout, readers, units, tally)
                if self._progress is not None:
                    self._progress(tally.read)
                self._check_broken(tally, self._description.max_rows)
                if batch is not None:
                    yield batch
        self._check_broken(tally, tally.read)
        self._finished = tally

    def _read_header(self, rows: Iterator[Row]) -> _Layout:
        header = [name.strip() for name in self._next_row(rows, 1) or []]
        if not header:
            raise FileFormatError(
                f"file `{self._path.name}` has no header line",
                hint="the first line names the columns",
                code="input.file.empty",
            )

        def place(name: str, what: str) -> int:
            if header.count(name) == 1:
                return header.index(name)
            # The headers found are not quoted: in a file without a header line they are somebody's values.
            known = header.count(name) > 1
            raise FileFormatError(
                f"{what} `{name}` is {'twice' if known else 'not'} in the header of file `{self._path.name}`",
                hint="compare the description's `source` names with the first line, and check the delimiter",
                code=f"input.file.{'duplicate' if known else 'missing'}_column",
                column=name,
            )

        return _Layout(
            width=len(header),
            unit=place(self._description.unit.column, "the privacy unit's key column"),
            others=tuple(place(o.column, "the other unit's key column") for o in self._description.also_protects),
            columns=tuple(place(column.source, "column") for column in self._description.columns),
            exclusions=tuple(place(rule.column, "exclusion column") for rule in self._description.exclusions),
        )

    def _next_row(self, rows: Iterator[Row], number: int) -> Row | None:
        try:
            return next(rows, None)
        except csv.Error:
            # Not chained: the reader's error may quote the line.
            raise FileFormatError(
                f"row {number} of file `{self._path.name}` has a stray quotation mark or a field without an end",
                hint="double the quotation marks inside a quoted field",
                code="input.file.quoting",
                row=number,
            ) from None

    def _read_chunk(self, rows: Iterator[Row], layout: _Layout, tally: _Tally) -> tuple[list[Row], list[int]] | None:
        """Return the next rows with the right number of fields, and their numbers; None at the end of the file."""
        kept: list[Row] = []
        numbers: list[int] = []
        read_before = tally.read
        while tally.read - read_before < self._batch_rows:
            line = rows.line_num  # type: ignore[attr-defined]
            row = self._next_row(rows, tally.read + 2)
            if row is None:
                break
            if not row:
                continue
            tally.read += 1
            if len(row) == layout.width:
                kept.append(row)
                numbers.append(tally.read + 1)
                continue
            # A quoted field may have swallowed rows: each line it covers counts as a broken row.
            swallowed = max(1, rows.line_num - line)  # type: ignore[attr-defined]
            tally.note_broken(BrokenReason.FIELD_COUNT, "", tally.read + 1, rows=swallowed)
            tally.read += swallowed - 1
        if tally.read > self._description.max_rows:
            raise FileFormatError(
                f"file `{self._path.name}` has more rows than the description allows",
                hint="raise `max_rows` in the description, or split the file",
                code="input.file.too_many_rows",
                max_rows=self._description.max_rows,
            )
        return None if tally.read == read_before else (kept, numbers)

    def _convert(
        self,
        rows: list[Row],
        numbers: list[int],
        layout: _Layout,
        readers: list[ColumnReader],
        units: list[UnitReader],
        tally: _Tally,
    ) -> pa.RecordBatch | None:
        for index, (place, out) in enumerate(zip(layout.exclusions, self._excluded_values, strict=True)):
            stays = [plain_text(row[place]) not in out for row in rows]
            tally.excluded[index] += len(rows) - sum(stays)
            rows, numbers = list(compress(rows, stays)), list(compress(numbers, stays))
        if not rows:
            return None
        fields = list(zip(*rows, strict=True))
        places = (layout.unit, *layout.others)
        keys = [list(map(reader.__getitem__, fields[at])) for reader, at in zip(units, places, strict=True)]
        values = [
            list(map(reader.__getitem__, fields[place])) for reader, place in zip(readers, layout.columns, strict=True)
        ]
        whole = self._whole_rows(fields, numbers, layout, readers, units, tally)
        if whole is not None:
            keys = [list(compress(column, whole)) for column in keys]
            values = [list(compress(column, whole)) for column in values]
        for reader, place in zip(readers, layout.columns, strict=True):
            name, texts = reader.column.name, fields[place] if whole is None else compress(fields[place], whole)
            if reader.clamped or reader.missing:
                seen = list(texts)
                tally.clamped[name] = tally.clamped.get(name, 0) + sum(map(reader.clamped.__contains__, seen))
                tally.nulls[name] = tally.nulls.get(name, 0) + sum(map(reader.missing.__contains__, seen))
            reader.forget_if_large()
        for reader_of_units in units:
            reader_of_units.forget_if_large()
        tally.sealed += len(keys[0])
        return self._batch(keys, values) if keys[0] else None

    @staticmethod
    def _whole_rows(
        fields: list[tuple[str, ...]],
        numbers: list[int],
        layout: _Layout,
        readers: list[ColumnReader],
        units: list[UnitReader],
        tally: _Tally,
    ) -> list[bool] | None:
        """Return which rows are whole, or None where all are; note the others under their first fault."""
        whole = [True] * len(numbers)
        faults = [(reader.broken, at, "") for reader, at in zip(units, (layout.unit, *layout.others), strict=True)]
        faults += [
            (reader.broken, place, reader.column.name) for reader, place in zip(readers, layout.columns, strict=True)
        ]
        for broken, place, column in faults:
            if not broken:
                continue
            for index, text in enumerate(fields[place]):
                if text in broken and whole[index]:
                    whole[index] = False
                    tally.note_broken(broken[text], column, numbers[index])
        return None if all(whole) else whole

    def _batch(self, keys: list[list[str]], values: list[list[int | str | bool | None]]) -> pa.RecordBatch:
        schema, arrays = self.schema, []
        for tokeniser, column in zip(self._tokenisers, keys, strict=True):
            distinct = list(dict.fromkeys(column))
            tokens = dict(zip(distinct, np.asarray(tokeniser.tokens(distinct)).tolist(), strict=True))
            arrays.append(pa.array([tokens[key] for key in column], schema.field(UNIT_COLUMN).type))
        arrays += [pa.array(column, schema.field(index).type) for index, column in enumerate(values, start=len(keys))]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _check_broken(self, tally: _Tally, rows: int) -> None:
        """Refuse where the broken rows are more than the share of `rows` that the description tolerates."""
        count = sum(tally.broken.values())
        if count <= self._description.max_broken_share * rows:
            return
        reasons = [f"{reason}{f' in `{column}`' if column else ''}" for reason, column in tally.broken]
        raise FileFormatError(
            f"{count} of the {tally.read} rows read of file `{self._path.name}` are broken, the first is row "
            f"{tally.first_broken}",
            hint=f"mend the file or the description, then hand it in again; found: {'; '.join(reasons[:5])}",
            code="input.file.too_many_broken_rows",
            rows=count,
            first_row=tally.first_broken,
        )
