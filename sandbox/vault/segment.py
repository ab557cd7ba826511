"""Column segments: one column of one partition, as one sealed object.

A segment is a row of sealed chunks, back to back, without a header.  The payload of a chunk is a Parquet file of a
single column and a single row group, with the encoding that fits the column, compressed with lz4, behind its length and
in front of padding that blurs its size.  Where chunks begin and how many rows they hold is in the sealed part of the
manifest, not in clear.  `docs/reference/segment-format.md` describes all of it for a second implementation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sandbox.crypto.suites import Suite
from sandbox.errors import SealBrokenError
from sandbox.vault.arrays import numpy_of
from sandbox.vault.chunks import ChunkContext, open_chunk, seal_chunk_into, sealed_length
from sandbox.vault.columns import RANK_COLUMN, SYSTEM_COLUMNS, UNIT_COLUMN
from sandbox.vault.packed import DICTIONARY_BYTES, SAMPLE_ROWS, packed_numbers, packed_texts, packed_units
from sandbox.vault.parquet_file import DictionaryColumn, write_dictionary_column
from sandbox.vault.room import Room

CHUNK_ROWS = 1 << 20
_FIRST_ROWS = 64  # these alone show of most numbers that they have many values
_VERY_FEW = 4
_PAGE_ROWS = 1 << 20
# What Parquet takes in at once, before it looks whether a page is full.
_TEXTS_AT_ONCE = 1 << 10
_NUMBERS_AT_ONCE = 1 << 16
_WORTH_IT = 0.8
_LZ4 = pa.Codec("lz4_raw")
_HEAD_BYTES = 8
# What a file takes beyond its values: a part of them where nothing compresses, and what Parquet itself says.
_LENGTHENED = 64
_FILE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """Which column of which partition of which snapshot of which dataset."""

    dataset: str
    snapshot: str
    partition: int
    column: str

    def context(self, number: int, count: int, rows: int) -> ChunkContext:
        """Return the context of one chunk of the segment."""
        return ChunkContext(self.dataset, self.snapshot, self.partition, self.column, number, count, rows)


def chunk_rows(rows: int, *, limit: int) -> tuple[int, ...]:
    """Return the rows of each chunk: as few chunks of at most `limit` rows as possible, even in size, at least one."""
    count = max(1, -(-rows // limit))
    each, more = divmod(rows, count)
    return tuple(each + (number < more) for number in range(count))


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where segments are sealed, one after the other: memory for a chunk's payload, and for a sealed object."""

    payload: Room = field(default_factory=Room)
    sealed: Room = field(default_factory=Room)


def seal_segment(
    suite: Suite, key: bytes, place: SegmentPlace, values: pa.Array, chunks: Sequence[int], rooms: Rooms
) -> tuple[memoryview, tuple[int, ...]]:
    """Return the sealed object of a column and the length of each chunk in it, in bytes.

    Args:
        suite: the snapshot's suite.
        key: the object key, fresh.
        place: where the column belongs.
        values: the column of the partition, in order.
        chunks: the rows of each chunk; together, `len(values)`.
        rooms: memory to work in; the object lies there, until the rooms are used again.
    """
    lengths: list[int] = []
    start = end = 0
    for number, rows in enumerate(chunks):
        payload = _payload(place.column, values.slice(start, rows), rooms.payload)
        length = sealed_length(suite, len(payload))
        room = rooms.sealed.reach(end + length)[end:]
        seal_chunk_into(suite, key, place.context(number, len(chunks), rows), payload, room)
        lengths.append(length)
        start, end = start + rows, end + length
    return rooms.sealed.reach(end), tuple(lengths)


def open_segment(
    suite: Suite,
    key: bytes,
    place: SegmentPlace,
    raw: bytes,
    *,
    chunks: Sequence[int],
    lengths: Sequence[int],
    expected: pa.DataType,
    name: str,
    dictionaries: bool = False,
) -> pa.ChunkedArray:
    """Return the column that a sealed object holds.

    Args:
        suite: the snapshot's suite.
        key: the object key.
        place: where the column belongs.
        raw: the whole object.
        chunks: the rows of each chunk.
        lengths: the bytes of each chunk.
        expected: the storage type.
        name: the object's name, for errors.
        dictionaries: leave text that was stored with a dictionary so; each chunk has a dictionary of its own.

    Raises:
        SealBrokenError: the object is not what was sealed here; the condition depends on stored bytes, not on values.
    """
    if len(raw) != sum(lengths):
        raise SealBrokenError(
            f"the sealed object `{name}` is {len(raw)} bytes long, expected {sum(lengths)}",
            hint="restore the object from a backup and run the check again",
            code="vault.seal_broken.length",
            object=name,
        )
    arrays: list[pa.Array] = []
    start, whole = 0, memoryview(raw)
    for number, (rows, length) in enumerate(zip(chunks, lengths, strict=True)):
        context = place.context(number, len(chunks), rows)
        payload = open_chunk(suite, key, context, whole[start : start + length], name=name)
        column = _decode_column(payload, place.column, dictionaries=dictionaries and pa.types.is_string(expected))
        if column is None or not _fits(column.type, expected) or len(column) != rows:
            raise SealBrokenError(
                f"the sealed object `{name}` does not hold the rows that its manifest says",
                hint="it was sealed by another version or a broken writer; seal the data again",
                code="vault.seal_broken.content",
                object=name,
            )
        arrays.extend(each if _is_as_expected(each, expected) else each.cast(expected) for each in column.chunks)
        start += length
    if dictionaries and any(pa.types.is_dictionary(each.type) for each in arrays):
        # Chunks that were stored without a dictionary get one, so that the column has one type.
        arrays = [each if pa.types.is_dictionary(each.type) else each.dictionary_encode() for each in arrays]
        return pa.chunked_array(arrays, type=arrays[0].type)
    return pa.chunked_array(arrays, type=expected)


def value_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return what a dictionary holds, or the type itself."""
    return arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type


def encode_column(column: str, values: pa.Array) -> pa.Buffer:
    """Return the Parquet bytes of one column, encoded as `write_column` does it."""
    sink = pa.BufferOutputStream()
    write_column(column, values, sink)
    return sink.getvalue()


def write_column(column: str, values: pa.Array, sink: pa.NativeFile) -> None:
    """Write the Parquet file of one column, encoded for its kind.

    Text of few values, numbers of very few or close to one another, and units in runs get a dictionary.  Other numbers
    and dates are split into planes of bytes, of which lz4 drops the empty ones, or left as they are: a sample decides.
    64-bit numbers that fit into 32 bits are stored so.  A column without missing values says so, which spares a level
    for each value on both ways.  Statistics are left out: they would only lengthen what is sealed anyway.

    Args:
        column: its name.
        values: in the storage type, or text with a dictionary, or 64-bit numbers as 32-bit ones.
        sink: where to.
    """
    own = column in SYSTEM_COLUMNS
    narrow = values if own else _narrowed(values)
    packed = _packed(column, narrow)
    if packed is not None:
        write_dictionary_column(column, packed, sink)
        return
    layout = _Layout() if column == UNIT_COLUMN else _choose_layout(narrow, own=own)
    schema = pa.schema([pa.field(column, narrow.type, nullable=bool(narrow.null_count))])
    pq.write_table(
        pa.table([narrow], schema=schema),
        sink,
        row_group_size=max(1, len(narrow)),
        use_dictionary=layout.dictionary,
        dictionary_pagesize_limit=DICTIONARY_BYTES,
        column_encoding={column: "BYTE_STREAM_SPLIT"} if layout.split else None,
        compression=layout.compression,
        write_statistics=False,
        store_schema=False,
        max_rows_per_page=_PAGE_ROWS,
        write_batch_size=_TEXTS_AT_ONCE if pa.types.is_string(value_type(narrow.type)) else _NUMBERS_AT_ONCE,
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """How Parquet is to write a column: with a dictionary, in planes of bytes, and compressed by what."""

    dictionary: bool = False
    split: bool = False
    compression: str = "lz4"


def _choose_layout(values: pa.Array, *, own: bool) -> _Layout:
    """Choose by the kind and by the first rows, which are in random order of units."""
    if pa.types.is_boolean(values.type):
        return _Layout()
    if not own and _has_few_values(values):
        return _Layout(dictionary=True)
    if pa.types.is_integer(values.type) or pa.types.is_date32(values.type):
        return _number_layout(values.slice(0, SAMPLE_ROWS).drop_null())
    return _Layout()


def _number_layout(sample: pa.Array) -> _Layout:
    """Leave numbers as they are where lz4 would save less than a fifth: reading and writing them is cheaper then."""
    if not len(sample):
        return _Layout()
    width = sample.type.bit_width // 8
    whole, split = _compressed(sample)
    if min(whole, split) > _WORTH_IT * len(sample) * width:
        return _Layout(compression="none")
    return _Layout(split=split < whole)


def _compressed(sample: pa.Array) -> tuple[int, int]:
    """Return how many bytes lz4 makes of numbers or dates as they are, and in planes of bytes."""
    width = sample.type.bit_width // 8
    raw = numpy_of(sample.view(pa.int32() if width == 4 else pa.int64())).view(np.uint8).reshape(-1, width)
    whole, split = (_LZ4.compress(np.ascontiguousarray(each)).size for each in (raw, raw.T))
    return whole, split


def _packed(column: str, values: pa.Array) -> DictionaryColumn | None:
    """Return a column whose dictionary is at hand, or None where Arrow's writer does better."""
    if column == UNIT_COLUMN:
        return packed_units(values)
    if column == RANK_COLUMN:
        return None
    if pa.types.is_dictionary(values.type):
        return packed_texts(values)
    if not pa.types.is_integer(values.type) and not pa.types.is_date32(values.type):
        return None
    sample = values.slice(0, SAMPLE_ROWS)
    if not len(sample) or values.null_count or _has_few_values(sample):
        return None
    return packed_numbers(values, most=min(_compressed(sample)))


def _narrowed(values: pa.Array) -> pa.Array:
    """Return 64-bit numbers in 32 bits where all of them fit."""
    if values.type != pa.int64():
        return values
    found = pc.min_max(values)
    least, most = found["min"].as_py(), found["max"].as_py()
    fits = least is not None and least >= -(2**31) and most < 2**31
    return values.cast(pa.int32()) if fits else values


def _has_few_values(values: pa.Array) -> bool:
    """Guess from the first rows, which are in random order of units, whether a dictionary pays."""
    if pa.types.is_dictionary(values.type):
        return True
    sample = values.slice(0, SAMPLE_ROWS)
    if pa.types.is_integer(values.type) or pa.types.is_date32(values.type):
        return all(pc.count_distinct(each).as_py() <= _VERY_FEW for each in (sample.slice(0, _FIRST_ROWS), sample))
    return bool(pc.count_distinct(sample).as_py() <= max(_VERY_FEW, len(sample) // 8))


def _is_as_expected(values: pa.Array, expected: pa.DataType) -> bool:
    return bool(value_type(values.type) == expected)


def _fits(stored: pa.DataType, expected: pa.DataType) -> bool:
    """Return whether a column of the type `expected` may be stored as `stored`."""
    return bool(value_type(stored) == expected or (expected == pa.int64() and stored == pa.int32()))


def padded_length(length: int) -> int:
    """Return the next length of the Padmé scheme: sizes then tell O(log log n) bits, at a cost below 12 %.

    Source: Nikitin et al. 2019, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs".
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << max(0, free_bits)) - 1
    return (length + mask) & ~mask


def _payload(column: str, values: pa.Array, room: Room) -> memoryview:
    """Return a chunk's payload: the length of the file, the file, zero bytes."""
    enough = values.nbytes + values.nbytes // _LENGTHENED + _FILE_BYTES
    try:
        sink = pa.FixedSizeBufferWriter(pa.py_buffer(room.reach(_HEAD_BYTES + enough)[_HEAD_BYTES:]))
        write_column(column, values, sink)
        length = sink.tell()
    except (OSError, pa.ArrowException):
        # Hardly ever is a file longer than that; whatever else is wrong comes up again.
        file = encode_column(column, values)
        length = len(file)
        room.reach(_HEAD_BYTES + length)[_HEAD_BYTES:] = memoryview(file).cast("B")
    used = _HEAD_BYTES + length
    payload = room.reach(padded_length(used))
    payload[:_HEAD_BYTES] = struct.pack(">Q", length)
    payload[used:] = bytes(len(payload) - used)
    return payload


def _decode_column(payload: bytes, column: str, *, dictionaries: bool) -> pa.ChunkedArray | None:
    """Return the column in an authenticated payload, or None where the payload is not such a file."""
    if len(payload) < 8:
        return None
    length = struct.unpack(">Q", payload[:8])[0]
    if length > len(payload) - 8:
        return None
    try:
        parquet = pa.py_buffer(payload).slice(8, length)
        file = pq.ParquetFile(pa.BufferReader(parquet), read_dictionary=[column] if dictionaries else None)
        if dictionaries and not _has_dictionary(file.metadata):
            file = pq.ParquetFile(pa.BufferReader(parquet))
        table = file.read(use_threads=False)
    except pa.ArrowException:
        return None
    return table.column(0) if table.column_names == [column] else None


def _has_dictionary(metadata: pq.FileMetaData) -> bool:
    if metadata.num_row_groups != 1 or metadata.num_columns != 1:
        return False
    return bool(metadata.row_group(0).column(0).has_dictionary_page)
