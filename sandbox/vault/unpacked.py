"""The columns of one partition, from packed rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sandbox.vault.lanes import Packing, Rows, stored_values
from sandbox.vault.placing import Places, Ranks, Units


class Unpacked:
    """The columns of one partition, filled bucket by bucket while the rows are still in the processor's cache.

    One serves for all partitions, one after the other: fresh memory costs more than what is written to it.

    Args:
        packing: how the rows are packed.
        rows: how many a partition has at most.
        bucket_rows: how many a bucket has at most.
    """

    def __init__(self, packing: Packing, rows: int, bucket_rows: int) -> None:
        self._packing = packing
        self._end = 0
        self._units = np.empty(rows, dtype=np.int64)
        self._ranks = np.empty(rows, dtype=np.int32)
        self._codes = {
            number: np.empty(rows, dtype=lane.code_type)
            for number, lane in enumerate(packing.lanes)
            if lane.code_type is not None
        }
        self._room = np.empty((bucket_rows, packing.width), dtype=np.uint64)
        self._put: Mapping[int, pa.Array] = {}
        self._beside: list[tuple[int, int, Mapping[int, pa.Array]]] = []

    def clear(self) -> None:
        """Begin the next partition; arrays that were handed out change from now on."""
        self._end = 0
        self._beside.clear()

    @property
    def units(self) -> Units:
        """The unit's token of each row."""
        return self._units[: self._end]

    @property
    def ranks(self) -> Ranks:
        """The rank of each row within its unit."""
        return self._ranks[: self._end]

    def put(self, rows: Rows, order: Places) -> Units:
        """Write the rows of a bucket in this order behind those that are kept, and return their units in it."""
        stop = self._end + len(rows)
        ordered = rows.take(order, self._room[: len(rows)])
        units = self._units[self._end : stop]
        units[:] = self._packing.field(ordered.words, "unit")
        for number, codes in self._codes.items():
            codes[self._end : stop] = self._packing.field(ordered.words, str(number))
        self._put = ordered.beside
        return units

    def keep(self, ranks: Ranks) -> None:
        """Keep the rows that were put last, with these ranks."""
        start, self._end = self._end, self._end + len(ranks)
        self._ranks[start : self._end] = ranks
        self._beside.append((start, self._end, self._put))

    def column(self, number: int) -> pa.Array:
        """Return a column of the batches, counted from the one after the unit, as `segment.encode_column` takes it."""
        lane, codes = self._packing.lanes[number], self._codes.get(number)
        if codes is not None and not any(number in beside for _, _, beside in self._beside):
            return lane.widen(codes[: self._end])
        arrays = [pa.nulls(0, lane.arrow_type)]
        for start, end, beside in self._beside:
            if number in beside:
                arrays.append(beside[number])
            elif codes is not None and end > start:
                arrays.append(stored_values(lane, codes[start:end]))
        return pa.concat_arrays(arrays)
