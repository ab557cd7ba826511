"""Numbering texts of one short length, which is what codes are, in a third of the time.

Arrow's own lookup hashes text by text.  Where all texts of a batch have one length of at most 16 bytes, their first
and last eight bytes say all that they are, and a few passes over whole columns of those find each text's number.
Every number that is given out was compared in full: a text that the table does not hold is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Truths = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
_Halves = tuple[npt.NDArray[np.uint64], ...]
# From the golden ratio and the root of two: odd numbers whose products spread over the upper bits.
_MIXES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xB504F333F9DE6485))
_SLOT_BITS = 16
_WORD = 8


@dataclass(frozen=True, slots=True)
class ShortTexts:
    """A table of known texts of one length.

    Attributes:
        length: bytes of a text.
        slots: for each slot the code, from 1, of the text that lies there, or 0; then the same for texts that found
            their slot taken, mixed otherwise.
        halves: for each code the first and the last eight bytes of its text, once where they are the same; for 0 those
            of the first text, which is always found in its slot, so that no text in an empty slot is like them.
    """

    length: int
    slots: tuple[Places, Places]
    halves: _Halves

    def codes(self, values: pa.Array) -> tuple[Places, Truths] | None:
        """Return a code from 1 for each text, and which of them hold; None where texts are missing or of other lengths.

        Args:
            values: text.
        """
        found = _halves_of(values)
        if found is None or found[0] != self.length:
            return None
        codes, holds = self._look_up(0, found[1])
        if not holds.all():
            rest = np.flatnonzero(~holds)
            codes[rest], holds[rest] = self._look_up(1, tuple(each.take(rest) for each in found[1]))
        return codes, holds

    def _look_up(self, way: int, halves: _Halves) -> tuple[Places, Truths]:
        codes = self.slots[way].take(_slots_of(halves, _MIXES[way]), mode="clip")
        holds, *more = (known.take(codes, mode="clip") == each for known, each in zip(self.halves, halves, strict=True))
        for each in more:
            holds &= each
        return codes, holds


def table_of(known: pa.Array) -> ShortTexts | None:
    """Return a table of distinct texts, whose codes are their places plus one; None if their lengths do not allow it.

    Where two texts fall into one slot on both ways, the earlier stays.
    """
    found = _halves_of(known)
    if found is None:
        return None
    length, halves = found
    places = np.arange(len(known))
    first = _table(places, halves, _MIXES[0])
    displaced = np.flatnonzero(first[_slots_of(halves, _MIXES[0])] != places + 1)
    second = _table(displaced, tuple(each[displaced] for each in halves), _MIXES[1])
    return ShortTexts(length, (first, second), tuple(np.concatenate((each[:1], each)) for each in halves))


def _table(places: Places, halves: _Halves, mix: np.uint64) -> Places:
    slots = np.zeros(1 << _SLOT_BITS, dtype=np.int64)
    slots[_slots_of(halves, mix)[::-1]] = places[::-1] + 1
    return slots


def _slots_of(halves: _Halves, mix: np.uint64) -> Places:
    mixed = halves[0] * mix
    for more in halves[1:]:
        mixed ^= more
        mixed *= mix
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
    if np.count_nonzero(offsets[1:] - offsets[:-1] == length) != rows:
        return None
    text = np.frombuffer(data, np.uint8, rows * length, start)
    if length > _WORD:
        return length, tuple(_words(text, place, length, rows).copy() for place in (0, length - _WORD))
    # The last few words would reach beyond the texts: they are read from a copy with room behind it.
    safe = max(0, rows - _WORD)
    tail = np.concatenate((text[safe * length :], np.zeros(_WORD, np.uint8)))
    words = np.empty(rows, np.uint64)
    words[:safe] = _words(text, 0, length, safe)
    words[safe:] = _words(tail, 0, length, rows - safe)
    if length < _WORD:
        words &= np.uint64((1 << 8 * length) - 1)  # what lies behind a text belongs to the next one
    return length, (words,)


def _words(text: npt.NDArray[np.uint8], start: int, step: int, count: int) -> npt.NDArray[np.uint64]:
    """Return `count` words of eight bytes, a step apart."""
    return np.ndarray((count,), np.dtype("<u8"), text.data, start, (step,))
