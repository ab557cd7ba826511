"""Columns whose values are few or lie in runs, as a dictionary and places in it, without looking any value up.

Numbers that lie close together are places already, once the least is taken away; texts come with their codes; and the
units of a partition lie in runs, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.crypto.buffers import Data
from sandbox.vault.arrays import numpy_of
from sandbox.vault.parquet_file import MOST_BYTES, DictionaryColumn, PhysicalType, varint

Places = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
SAMPLE_ROWS = 4_096  # these show what packs a column best
_CLOSE = 1 << 8
_TEXTS_MAX = 1 << 16
DICTIONARY_BYTES = 1 << 23
_MOST_RUNS = 1 << 24
_GROUP = 8
_BLOCK_ROWS = 1 << 15  # a multiple of the group
_WORD_BITS = 64
_SHORT_RUN = 1 << 6
_PHYSICAL = {pa.int32(): PhysicalType.INT32, pa.int64(): PhysicalType.INT64, pa.date32(): PhysicalType.DATE}


def packed_units(values: pa.Array) -> DictionaryColumn | None:
    """Return units that lie in runs of four or more on average, as the unit of each run and how long it is.

    Args:
        values: 64-bit tokens, none missing, those of a unit together.
    """
    units, rows = numpy_of(values), len(values)
    if not 0 < rows < MOST_BYTES // 8:
        return None
    begins = np.append(0, np.flatnonzero(units[1:] != units[:-1]) + 1)
    runs = len(begins)
    if runs > min(rows // 4, _MOST_RUNS):
        return None
    lengths = np.diff(begins, append=rows)
    longest = int(lengths.max())
    # A run is its length, doubled, in groups of seven bits, and its place in whole bytes; all are written equally long.
    groups = 1 if longest < _SHORT_RUN else len(varint(longest << 1))
    width = max(1, (runs - 1).bit_length())
    place_bytes = -(-width // 8)
    written = np.empty((runs, groups + place_bytes), dtype=np.uint8)
    for group in range(groups):
        more = 0x80 if group < groups - 1 else 0
        written[:, group] = (lengths << 1 >> 7 * group) & 0x7F | more
    places = np.arange(runs, dtype="<u4").view(np.uint8).reshape(-1, 4)
    written[:, groups:] = places[:, :place_bytes]
    found = (bytes([width]), written.reshape(-1).data)
    return DictionaryColumn(
        PhysicalType.INT64, rows, runs, units[begins].data.cast("B"), found, sum(len(each) for each in found)
    )


def packed_numbers(values: pa.Array, *, most: int) -> DictionaryColumn | None:
    """Return numbers of which the largest and the least are close, as the numbers between and places among them.

    Args:
        values: whole numbers or dates.
        most: how many bytes the first `SAMPLE_ROWS` of them may take; more, and there is a better way.
    """
    if not len(values) or values.null_count or len(values) >= MOST_BYTES:
        return None
    numbers = numpy_of(values.view(pa.int32()) if pa.types.is_date32(values.type) else values)
    sample = numbers[:SAMPLE_ROWS]
    if int(sample.max()) - int(sample.min()) >= _CLOSE:
        return None
    least, highest = int(numbers.min()), int(numbers.max())
    width = max(1, (highest - least).bit_length())
    if highest - least >= _CLOSE or len(sample) * width > 8 * most:
        return None
    dictionary = np.arange(least, highest + 1, dtype=numbers.dtype)
    base = numbers.dtype.type(least)
    places = ((each - base if least else each).astype(np.uint8) for each in _blocks(numbers))
    return _packed(_PHYSICAL[values.type], len(values), dictionary.data.cast("B"), len(dictionary), places, width)


def packed_texts(values: pa.Array) -> DictionaryColumn | None:
    """Return texts that come with a dictionary, unless so many are like the one before that runs say them better.

    Args:
        values: text with a dictionary.
    """
    rows, texts = len(values), values.dictionary
    if not 0 < rows < MOST_BYTES // 2 or values.null_count or not pa.types.is_string(texts.type):
        return None
    if not 0 < len(texts) <= _TEXTS_MAX or texts.null_count or texts.nbytes > DICTIONARY_BYTES:
        return None
    indices = numpy_of(values.indices)
    sample = indices[:SAMPLE_ROWS]
    if np.count_nonzero(sample[1:] == sample[:-1]) > len(sample) // 4:
        return None
    width = max(1, (len(texts) - 1).bit_length())
    narrow = np.uint8 if width <= 8 else np.uint16
    places = (each.astype(narrow, copy=False) for each in _blocks(indices))
    return _packed(PhysicalType.TEXT, rows, _plain_texts(texts), len(texts), places, width)


def _packed(
    physical: PhysicalType, rows: int, dictionary: Data, size: int, places: Iterator[npt.NDArray[Any]], width: int
) -> DictionaryColumn:
    """Return a column whose places are one run, in which each takes so many bits."""
    count = -(-rows // _GROUP)
    head = bytes([width]) + varint(count << 1 | 1)
    pieces = chain[Data]((head,), (packed_places(each, width) for each in places))
    return DictionaryColumn(physical, rows, size, dictionary, pieces, len(head) + count * width)


def _blocks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield values in parts so small that what is made of them stays in a processor's cache."""
    for start in range(0, len(values), _BLOCK_ROWS):
        yield values[start : start + _BLOCK_ROWS]


def packed_places(places: Places, width: int) -> memoryview:
    """Return places behind one another, so many bits each, the lowest bit first, padded with zeros to whole bytes.

    Neighbours are drawn together two by two until a word is full: eight of them are `width` whole bytes.

    Args:
        places: each less than `2 ** width`.
        width: bits, from 1 to 16, and to 8 for bytes.
    """
    count = -(-len(places) // _GROUP)
    if len(places) % _GROUP:
        places = np.concatenate((places, np.zeros(count * _GROUP - len(places), dtype=places.dtype)))
    bits, held, words = places.itemsize * 8, width, places.view(f"<u{places.itemsize}")
    while bits < _WORD_BITS:
        words = _drawn_together(words.view(f"<u{bits // 4}"), bits - held, (1 << held) - 1, held)
        bits, held = bits * 2, held * 2
    packed = np.empty((count, width), dtype=np.uint8)
    if places.itemsize == 1:
        _put_bytes(words, packed)
    else:
        _put_pairs(words, held, packed)
    return packed.reshape(-1).data


def _drawn_together(words: npt.NDArray[Any], gap: int, mask: int, held: int) -> npt.NDArray[Any]:
    """Return words whose upper half is moved down over a gap of so many bits, onto the lower one."""
    kind = words.dtype.type
    upper: npt.NDArray[Any] = words >> kind(gap)
    upper &= kind(mask << held)
    upper |= words & kind(mask)
    return upper


def _put_pairs(words: npt.NDArray[np.uint64], held: int, packed: npt.NDArray[np.uint8]) -> None:
    """Write two words of so many bits each into each row of bytes."""
    lower, upper = words[::2], words[1::2]
    if held == _WORD_BITS:
        packed[:] = words.view(np.uint8).reshape(packed.shape)
        return
    _put_bytes(lower | upper << np.uint64(held), packed[:, :8])
    _put_bytes(upper >> np.uint64(_WORD_BITS - held), packed[:, 8:])


def _put_bytes(words: npt.NDArray[np.uint64], packed: npt.NDArray[np.uint8]) -> None:
    """Write the lower bytes of each word into a row of bytes; place by place, which numpy does fastest."""
    whole = words.view(np.uint8)
    for place in range(packed.shape[1]):
        packed[:, place] = whole[place::8]


def _plain_texts(texts: pa.Array) -> memoryview:
    """Return texts in Parquet's plain encoding: each behind its length in four bytes."""
    _, ends, data = texts.buffers()
    offsets = np.frombuffer(ends, np.int32, len(texts) + 1, texts.offset * 4)
    start, stop = int(offsets[0]), int(offsets[-1])
    heads = (offsets[:-1] - start + 4 * np.arange(len(texts)))[:, None] + np.arange(4)
    plain = np.empty(4 * len(texts) + stop - start, dtype=np.uint8)
    text = np.ones(len(plain), dtype=np.bool_)
    text[heads] = False
    plain[heads] = np.diff(offsets).astype("<u4").view(np.uint8).reshape(-1, 4)
    if stop > start:
        plain[text] = np.frombuffer(data, np.uint8, stop - start, start)
    return plain.data
