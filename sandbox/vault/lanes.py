"""Rows packed narrow for the way from a source to their partitions.

Sealing moves each row twice: into a bucket, and into its place within the bucket.  What moves should be small and lie
together, so a row is packed into a few words: its unit, half of its unit's hash, and a code for each column: a number
counted from its column's public lower bound, a place in a dictionary of its column's own texts.  How wide a packed row
is depends on the description alone.  What has no bounds, or text of many values, travels beside as Arrow holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.vault.arrays import arrow_of, numpy_of, truths_of
from sandbox.vault.columns import type_for
from sandbox.vault.placing import HalfHashes, Hashes, Places, Units
from sandbox.vault.short_texts import ShortTexts, table_of

Codes = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]
_WORD_BYTES = 8
_FEW_TEXTS = 1 << 14
_TEXTS_MAX = (1 << 16) - 2
_INT32 = range(-(2**31), 2**31)


class Lane(Protocol):
    """How one column travels.

    Attributes:
        arrow_type: the storage type.
        code_type: the numpy type of its codes, or None if it has none.
    """

    arrow_type: pa.DataType
    code_type: np.dtype[Any] | None

    def narrow(self, values: pa.Array) -> Codes | None:
        """Return the code of each value, in any width; None if the values must travel as they are."""
        ...

    def widen(self, codes: Codes) -> pa.Array:
        """Return the values of codes that `narrow` gave, in a form that `segment.encode_column` takes.

        They may lie in the memory of the codes.
        """
        ...


class NumberLane:
    """Whole numbers or dates between public bounds: the distance from the lower one, and 0 for a missing value.

    Args:
        arrow_type: the storage type.
        lowest, highest: the bounds, as counts of the column's resolution.
        nullable: whether values may be missing.
    """

    def __init__(self, arrow_type: pa.DataType, lowest: int, highest: int, *, nullable: bool) -> None:
        self.arrow_type = arrow_type
        self._base = lowest - int(nullable)
        self._nullable = nullable
        self.code_type: np.dtype[Any] | None = np.min_scalar_type(highest - self._base)
        self._wide = np.dtype(np.int32 if lowest in _INT32 and highest in _INT32 else np.int64)

    def narrow(self, values: pa.Array) -> Codes | None:
        """Return the distance of each value from the lower bound."""
        counts = values.view(pa.int32()) if pa.types.is_date32(values.type) else values
        if counts.null_count:
            counts = counts.cast(pa.int64()).fill_null(self._base)
        whole = numpy_of(counts)
        return np.subtract(whole, self._base, dtype=np.int64) if self._base else whole

    def widen(self, codes: Codes) -> pa.Array:
        """Return the values, in 32 bits where the bounds allow."""
        missing = codes == 0 if self._nullable and not codes.all() else None
        counts = codes.view(self._wide) if codes.itemsize == self._wide.itemsize else codes.astype(self._wide)
        if self._base:
            # The base may lie one below what the type holds; adding it then wraps around for missing values alone.
            counts = counts + np.array(self._base).astype(np.int64).astype(self._wide)
        values = arrow_of(counts, missing)
        return values.view(pa.date32()) if pa.types.is_date32(self.arrow_type) else values


class TokenLane:
    """Tokens of a further kind of unit: 64 bits that are as good as random, never missing."""

    arrow_type = pa.int64()
    code_type: np.dtype[Any] | None = np.dtype(np.int64)

    def narrow(self, values: pa.Array) -> Codes | None:
        """Return each token."""
        return numpy_of(values)

    def widen(self, codes: Codes) -> pa.Array:
        """Return the tokens."""
        return arrow_of(codes)


class TruthLane:
    """Booleans: 0 for a missing value, 1 for false, 2 for true."""

    arrow_type = pa.bool_()
    code_type: np.dtype[Any] | None = np.dtype(np.uint8)

    def narrow(self, values: pa.Array) -> Codes | None:
        """Return a byte for each value."""
        codes: Codes = numpy_of(values.cast(pa.uint8()).fill_null(255)) + np.uint8(1)
        return codes

    def widen(self, codes: Codes) -> pa.Array:
        """Return the truth values."""
        return truths_of(codes == 2, codes == 0)


class TextLane:
    """Text: a number in a dictionary that grows as values are seen, until there are too many; then text as it is.

    Codes that were given out before stay good.  Code 0 is a missing value.
    """

    arrow_type = pa.string()
    code_type: np.dtype[Any] | None = np.dtype(np.uint16)

    def __init__(self) -> None:
        self._known = pa.nulls(0, pa.string())
        self._short: ShortTexts | None = None
        self._open = True

    def narrow(self, values: pa.Array) -> Codes | None:
        """Return a code for each value, or None if they are too many to count."""
        if not self._open:
            return None
        quick = None if self._short is None else self._short.codes(values)
        if quick is None:
            return self._look_up(values)
        codes, holds = quick
        if not holds.all():
            rest = np.flatnonzero(~holds)
            found = self._look_up(values.take(arrow_of(rest)))
            if found is None:
                return None
            codes[rest] = found
        return codes

    def _look_up(self, values: pa.Array) -> Codes | None:
        found = pc.index_in(values, value_set=self._known)
        if found.null_count > values.null_count:
            if not self._learn(values.filter(found.is_null()).unique().drop_null(), many=len(values) // 2):
                return None
            found = pc.index_in(values, value_set=self._known)
        codes: Codes = numpy_of(found.fill_null(-1) if found.null_count else found) + np.int32(1)
        return codes

    def widen(self, codes: Codes) -> pa.Array:
        """Return the texts, with a dictionary of those that occur."""
        missing = codes == 0 if not codes.all() else None
        if len(self._known) <= len(codes) // 64:
            # So small a dictionary costs nothing, whole.
            return pa.DictionaryArray.from_arrays(arrow_of(codes - np.uint16(1), missing), self._known)
        used = np.bincount(codes, minlength=1) > 0
        used[0] = False
        places = np.cumsum(used, dtype=np.int32) - np.int32(1)
        indices = arrow_of(places[codes], missing)
        return pa.DictionaryArray.from_arrays(indices, self._known.take(arrow_of(np.flatnonzero(used) - 1)))

    def _learn(self, fresh: pa.Array, *, many: int) -> bool:
        """Take new texts into the dictionary, or close it; return whether it is open."""
        self._open = len(fresh) <= max(_FEW_TEXTS, many) and len(self._known) + len(fresh) <= _TEXTS_MAX
        if self._open:
            self._known = pa.concat_arrays([self._known, fresh])
            self._short = table_of(self._known)
        return self._open


class ArrowLane:
    """Anything else: as it is.

    Args:
        arrow_type: the storage type.
    """

    def __init__(self, arrow_type: pa.DataType) -> None:
        self.arrow_type = arrow_type
        self.code_type: np.dtype[Any] | None = None

    def narrow(self, values: pa.Array) -> Codes | None:  # noqa: ARG002 - a lane without codes reads none
        """Return None: the values travel as they are."""
        return None

    def widen(self, codes: Codes) -> pa.Array:
        """Refuse (a bug): there are no codes."""
        raise AssertionError(f"{len(codes)} codes in a lane that has none")


@dataclass(frozen=True, slots=True)
class Rows:
    """Packed rows.

    Attributes:
        words: shape (n, words of a row).
        beside: by a column's number (from the one after the unit), the columns whose values travel as they are.
    """

    words: Words
    beside: Mapping[int, pa.Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return int(self.words.nbytes) + sum(int(values.nbytes) for values in self.beside.values())

    def slice(self, start: int, stop: int) -> Rows:
        """Return some of the rows, without a copy."""
        beside = {number: values.slice(start, stop - start) for number, values in self.beside.items()}
        return Rows(self.words[start:stop], beside)

    def take(self, places: Places, room: Words | None = None) -> Rows:
        """Return the rows at these places, their words in `room` if there is one for as many rows."""
        beside = {}
        if self.beside:
            indices = arrow_of(places)
            beside = {number: values.take(indices) for number, values in self.beside.items()}
        # The places are ours and lie within: clipping only spares numpy a copy.
        return Rows(np.take(self.words, places, axis=0, out=room, mode="raise" if room is None else "clip"), beside)


class Packing:
    """How the rows of a dataset are packed.

    Args:
        description: the dataset.
    """

    def __init__(self, description: DatasetDescription) -> None:
        tokens: list[Lane] = [TokenLane() for _ in description.also_protects]
        self.lanes: tuple[Lane, ...] = (*tokens, *(_lane(column) for column in description.columns))
        codes = ((str(number), lane.code_type) for number, lane in enumerate(self.lanes))
        fields: list[tuple[str, np.dtype[Any]]] = [("unit", np.dtype("<i8")), ("hash", np.dtype("<u4"))]
        fields += [(name, code_type) for name, code_type in codes if code_type is not None]
        # The widest first, so that every field lies on a multiple of its width.
        fields.sort(key=lambda each: -each[1].itemsize)
        starts = [0, *accumulate(code_type.itemsize for _, code_type in fields)]
        self._fields = {
            name: (code_type, start // code_type.itemsize)
            for (name, code_type), start in zip(fields, starts, strict=False)
        }
        self.width = -(-starts[-1] // _WORD_BYTES)

    def pack(self, batch: pa.RecordBatch, hashes: Hashes) -> Rows:
        """Return the rows of a batch; only the lower half of each hash is kept."""
        codes = {"unit": numpy_of(batch.column(0)), "hash": hashes.view(np.uint32)[::2]}
        beside = {}
        for number, lane in enumerate(self.lanes):
            values = batch.column(number + 1)
            narrowed = lane.narrow(values)
            if narrowed is None:
                beside[number] = values
            else:
                codes[str(number)] = narrowed
        words = np.empty((batch.num_rows, self.width), dtype=np.uint64)
        words[:, -1] = 0  # what no field fills
        for name, each in codes.items():
            np.copyto(self.field(words, name), each, casting="unsafe")
        return Rows(words, beside)

    def join(self, parts: Sequence[Rows]) -> Rows:
        """Return rows one after the other."""
        if len(parts) == 1:
            return parts[0]
        numbers = {number for part in parts for number in part.beside}
        beside = {number: pa.concat_arrays([self.values(part, number) for part in parts]) for number in sorted(numbers)}
        return Rows(self.join_words([part.words for part in parts]).words, beside)

    def join_words(self, parts: Sequence[Words]) -> Rows:
        """Return packed rows one after the other, beside which nothing travels."""
        return Rows(np.concatenate(parts) if parts else np.empty((0, self.width), dtype=np.uint64))

    def units(self, rows: Rows) -> Units:
        """Return the unit's token of each row."""
        return self.field(rows.words, "unit")

    def hashes(self, rows: Rows) -> HalfHashes:
        """Return the lower half of the hash of each row's unit."""
        return self.field(rows.words, "hash")

    def values(self, rows: Rows, number: int) -> pa.Array:
        """Return a column of a batch, counted from the one after the unit, in its storage type."""
        lane = self.lanes[number]
        if number in rows.beside:
            return rows.beside[number]
        return stored_values(lane, np.ascontiguousarray(self.field(rows.words, str(number))))

    def field(self, words: Words, name: str) -> Codes:
        """Return the view of one field of packed words."""
        code_type, place = self._fields[name]
        field: Codes = words.view(code_type)[:, place]
        return field


def stored_values(lane: Lane, codes: Codes) -> pa.Array:
    """Return the values of codes in the storage type."""
    values = lane.widen(codes)
    return values if values.type == lane.arrow_type else values.cast(lane.arrow_type)


def _lane(column: Column) -> Lane:
    match column.kind:
        case ColumnKind.BOOLEAN:
            return TruthLane()
        case ColumnKind.CATEGORY | ColumnKind.TEXT:
            return TextLane()
        case ColumnKind.INTEGER | ColumnKind.DECIMAL | ColumnKind.DATE:
            return _number_lane(column)


def _number_lane(column: Column) -> Lane:
    arrow_type = type_for(column)
    if column.lower is None or column.upper is None:
        return ArrowLane(arrow_type)
    step = Fraction(1) if column.kind is ColumnKind.DATE else column.resolution or Fraction(1)
    lowest, highest = floor(column.lower / step), ceil(column.upper / step)
    if highest < lowest or highest - lowest >= 2**32 - 1 or lowest <= -(2**63) or highest >= 2**63:
        return ArrowLane(arrow_type)
    return NumberLane(arrow_type, lowest, highest, nullable=column.nullable)
