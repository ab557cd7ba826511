"""A Parquet file of one column with a dictionary, from indices that are packed already.

Arrow's writer takes in values, finds each one in a dictionary that it builds, and packs the places bit by bit; for
values that are known to be few that is most of what sealing them costs.  Where the dictionary and the places are at
hand, such a file is a few short headers around them.  What comes out is ordinary Parquet for every reader: one row
group, a dictionary page, one data page, nothing compressed, no value missing.

Source: the Parquet format 2.12 (parquet.thrift, "Encodings") in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

from sandbox.crypto.buffers import Data

MOST_BYTES = 1 << 30  # a page counts its bytes in 31 bits
_MAGIC = b"PAR1"
_MAKER = b"saggar"
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8  # Encoding
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2  # PageType
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12  # Thrift's compact types


class PhysicalType(Enum):
    """How Parquet holds the values: its number of the type, then its older and newer words for what they mean."""

    INT32 = (1, None)
    INT64 = (2, None)
    DATE = (1, 6)
    TEXT = (6, 0)


# Which member of the union LogicalType says the same as an older word.
_LOGICAL = {0: 1, 6: 6}


@dataclass(frozen=True, slots=True)
class DictionaryColumn:
    """A column of which no value is missing.

    Attributes:
        physical: how its values are held.
        rows: how many there are, at least one.
        size: how many values the dictionary has.
        dictionary: its values in Parquet's plain encoding.
        places: the place of each row's value in it: the width in bits, a byte, and runs of Parquet's RLE hybrid, in
            pieces.
        place_bytes: how long the pieces are, together.
    """

    physical: PhysicalType
    rows: int
    size: int
    dictionary: Data
    places: Iterable[Data]
    place_bytes: int


def write_dictionary_column(name: str, column: DictionaryColumn, sink: pa.NativeFile) -> None:
    """Write the Parquet file of a column.

    Args:
        name: the column's name.
        column: what it holds; less than `MOST_BYTES` in either page.
        sink: where to.
    """
    dictionary_bytes, place_bytes = len(column.dictionary), column.place_bytes
    dictionary_head = _page_head(_DICTIONARY_PAGE, dictionary_bytes, 7, (_i32(column.size), _i32(_PLAIN)))
    levels = (_i32(_RLE), _i32(_RLE))  # of definition and repetition: there are none
    data_head = _page_head(_DATA_PAGE, place_bytes, 5, (_i32(column.rows), _i32(_RLE_DICTIONARY), *levels))
    data_start = len(_MAGIC) + len(dictionary_head) + dictionary_bytes
    end = data_start + len(data_head) + place_bytes
    metadata = _metadata(name, column, data_start, end - len(_MAGIC))
    for piece in (_MAGIC, dictionary_head, column.dictionary, data_head):
        sink.write(piece)
    for piece in column.places:
        sink.write(piece)
    sink.write(metadata + struct.pack("<I", len(metadata)) + _MAGIC)


def varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first, as Thrift and Parquet's runs write it."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_Field = tuple[int, bytes]


def _metadata(name: str, column: DictionaryColumn, data_start: int, length: int) -> bytes:
    kind, meaning = column.physical.value
    leaf = [(1, _i32(kind)), (3, _i32(0)), (4, _binary(name.encode()))]  # REQUIRED
    if meaning is not None:
        leaf += [(6, _i32(meaning)), (10, _struct([(_LOGICAL[meaning], _struct([]))]))]
    schema = [_struct([(4, _binary(b"schema")), (5, _i32(1))]), _struct(leaf)]
    chunk = [
        (1, _i32(kind)),
        (2, _list([_i32(each) for each in (_PLAIN, _RLE, _RLE_DICTIONARY)])),
        (3, _list([_binary(name.encode())])),
        (4, _i32(0)),  # UNCOMPRESSED
        (5, _i64(column.rows)),
        (6, _i64(length)),
        (7, _i64(length)),
        (9, _i64(data_start)),
        (11, _i64(len(_MAGIC))),
    ]
    columns = _list([_struct([(2, _i64(0)), (3, _struct(chunk))])])
    group = _struct([(1, columns), (2, _i64(length)), (3, _i64(column.rows))])
    file = [(1, _i32(2)), (2, _list(schema)), (3, _i64(column.rows)), (4, _list([group])), (6, _binary(_MAKER))]
    return _struct(file)[1]


def _page_head(kind: int, length: int, number: int, inner: Sequence[_Field]) -> bytes:
    head = _struct(list(enumerate(inner, start=1)))
    return _struct([(1, _i32(kind)), (2, _i32(length)), (3, _i32(length)), (number, head)])[1]


# A value is its compact type and its bytes.


def _i32(number: int) -> _Field:
    return _I32, varint(number << 1)  # zigzag of what is never negative


def _i64(number: int) -> _Field:
    return _I64, varint(number << 1)


def _binary(text: bytes) -> _Field:
    return _BINARY, varint(len(text)) + text


def _list(values: Sequence[_Field]) -> _Field:
    """Return a list of at most 14 values of one type."""
    return _LIST, bytes([len(values) << 4 | values[0][0]]) + b"".join(each for _, each in values)


def _struct(fields: Sequence[tuple[int, _Field]]) -> _Field:
    """Return a struct; the fields are in the order of their numbers, which are less than 16 apart."""
    written, last = b"", 0
    for number, (kind, value) in fields:
        written += bytes([number - last << 4 | kind]) + value
        last = number
    return _STRUCT, written + b"\x00"
