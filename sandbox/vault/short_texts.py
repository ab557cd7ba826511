"""Numbering texts of one short length, which is what codes are, in a third of the time.

Arrow's own lookup hashes text by text.  Where all texts of a batch have one length of at most 16 bytes, their first
and last eight bytes say all that they are, and a few passes over whole columns of those find each text's number.
Every number that is given out was compared in full: a text that the table does not hold is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.uint16]
_Halves = tuple[npt.NDArray[Any], npt.NDArray[Any]]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio: an odd number whose products spread over the upper bits
_SLOT_BITS = 16
_WORD = 8


@dataclass(frozen=True, slots=True)
class ShortTexts:
    """A table of known texts of one length.

    Attributes:
        length: bytes of a text.
        slots: for each slot the code, from 1, of the text that lies there, or 0.
        halves: for each code, and for 0, the first and the last eight bytes of its text.
    """

    length: int
    slots: Codes
    halves: _Halves

    def codes(self, values: pa.Array) -> tuple[Codes, npt.NDArray[np.bool_]] | None:
        """Return a code from 1 for each text, and which of them hold; None where texts are missing or of other lengths.

        Args:
            values: text.
        """
        found = _halves_of(values)
        if found is None or found[0] != self.length:
            return None
        codes = self.slots.take(_slots_of(found[1]), mode="clip")
        first, last = (
            known.take(codes, mode="clip") == each for known, each in zip(self.halves, found[1], strict=True)
        )
        first &= last
        first &= codes != 0
        return codes, first


def table_of(known: pa.Array) -> ShortTexts | None:
    """Return a table of distinct texts, whose codes are their places plus one; None if their lengths do not allow it.

    Where two texts fall into one slot, the earlier stays.
    """
    found = _halves_of(known)
    if found is None:
        return None
    length, halves = found
    slots = np.zeros(1 << _SLOT_BITS, dtype=np.uint16)
    slots[_slots_of(halves)[::-1]] = np.arange(len(known), 0, -1, dtype=np.uint16)
    first, last = (np.concatenate((np.zeros(1, np.uint64), each)) for each in halves)
    return ShortTexts(length, slots, (first, last))


def _slots_of(halves: _Halves) -> npt.NDArray[np.int64]:
    mixed = halves[0] * _MIX
    mixed ^= halves[1]
    mixed *= _MIX
    mixed >>= np.uint64(64 - _SLOT_BITS)
    return mixed.view(np.int64)


def _halves_of(values: pa.Array) -> tuple[int, _Halves] | None:
    """Return the common length of texts, and the first and last eight bytes of each; None where they have none."""
    rows = len(values)
    if not rows or values.null_count or not pa.types.is_string(values.type):
        return None
    _, ends, data = values.buffers()
    offsets = np.frombuffer(ends, np.int32, rows + 1, values.offset * 4)
    start, length = int(offsets[0]), int(offsets[1] - offsets[0])
    if not 1 <= length <= 2 * _WORD or int(offsets[-1]) - start != rows * length:
        return None
    if not bool((np.diff(offsets) == length).all()):
        return None
    text = np.frombuffer(data, np.uint8, rows * length, start)
    if length >= _WORD:
        return length, (_words(text, 0, length, rows), _words(text, length - _WORD, length, rows))
    # The last few words would reach beyond the texts: they are read from a copy with room behind it.
    safe = max(0, rows - _WORD)
    tail = np.concatenate((text[safe * length :], np.zeros(_WORD, np.uint8)))
    words = np.concatenate((_words(text, 0, length, safe), _words(tail, 0, length, rows - safe)))
    words &= np.uint64((1 << 8 * length) - 1)  # what lies behind a text belongs to the next one
    return length, (words, words)


def _words(text: npt.NDArray[np.uint8], start: int, step: int, count: int) -> npt.NDArray[np.uint64]:
    """Return `count` words of eight bytes, a step apart."""
    return np.ndarray((count,), np.dtype("<u8"), text.data, start, (step,)).copy()
