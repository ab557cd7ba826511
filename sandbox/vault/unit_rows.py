"""The public limit on the rows of a further kind of unit, kept where rows are sealed.

What a table charges for a person beside the enterprise rests on it: a person has at most so many rows in the whole
snapshot (`docs/proofs/two-units.md`).  Taking rows away only lowers counts, so a neighbour keeps the limit too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.errors import InputError
from sandbox.model.description import DatasetDescription
from sandbox.model.unit import OtherUnit
from sandbox.vault.arrays import numpy_of

_PENDING_ROWS = 1 << 20


class UnitRowLimits:
    """Counts the rows of each further unit over a whole snapshot.

    Args:
        description: the dataset.

    Cost: 16 bytes a distinct unit, and 8 a row for the last million rows.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._counts = [_Counts(other) for other in description.also_protects]

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch's rows.

        Raises:
            InputError: a unit has more rows than its limit (`input.seal.unit_rows`).  The message names the column and
                the limit, and neither a value nor a count.
        """
        for counts in self._counts:
            counts.add(numpy_of(batch.column(counts.other.token_column)))

    def finish(self) -> None:
        """Count what is left; raises as `add` does."""
        for counts in self._counts:
            counts.merge()


class _Counts:
    def __init__(self, other: OtherUnit) -> None:
        self.other = other
        self._units: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._rows: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._pending: list[npt.NDArray[np.int64]] = []
        self._pending_rows = 0

    def add(self, tokens: npt.NDArray[np.int64]) -> None:
        self._pending.append(tokens)
        self._pending_rows += len(tokens)
        if self._pending_rows >= _PENDING_ROWS:
            self.merge()

    def merge(self) -> None:
        if not self._pending:
            return
        units, rows = np.unique(np.concatenate(self._pending), return_counts=True)
        self._pending, self._pending_rows = [], 0
        both, places = np.unique(np.concatenate([self._units, units]), return_inverse=True)
        total = np.zeros(len(both), np.int64)
        np.add.at(total, places, np.concatenate([self._rows, rows]))
        if len(total) and int(total.max()) > self.other.rows:
            raise InputError(
                f"a {self.other.kind} in the column `{self.other.column}` has more rows than the {self.other.rows} "
                "that the description allows",
                hint="raise `rows` under `also_protects` (more noise for every answer), or seal fewer rows of each",
                code="input.seal.unit_rows",
            )
        self._units, self._rows = both, total
