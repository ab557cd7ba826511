"""Count the rows of numbered groups in an array: what a statement that only counts would give, in a third of its time.

The statement stays in the plan as what these counts mean, and runs where there are too many numbers for an array; a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sandbox.compute.arrange import Groups
from sandbox.privacy.keys import Key
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, Layout

MOST_COUNTED = 1 << 20
"""Groups are counted in an array while their numbers are at most so many: 8 MiB for each count."""

_SLICE = 1 << 17
"""At least so many rows are counted together: numpy widens their numbers first, which then stay near the processor."""

Numbers = npt.NDArray[Any]


def tallied(table: pa.Table, groups: Groups, layout: Layout) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Return the keys that some row has, with what a layout counts of each.

    Args:
        table: numbered as the layout asks (`arrange.numbered`).
        groups: what the numbers stand for, at most `MOST_COUNTED` of them.
        layout: says what is counted.
    """
    numbers: Numbers = table.column(GROUP_COLUMN).to_numpy()
    counts = {"rows": _count(numbers, groups.size)}
    if layout.firsts:
        firsts: Numbers = table.column(FIRST_COLUMN).to_numpy()
        counts["units"] = _count(numbers[firsts.view(np.bool_)], groups.size)
    present = np.flatnonzero(counts["rows"])
    columns = [counts[name][present].tolist() for name in layout.counts]
    return zip(groups.keys(present.tolist()), zip(*columns, strict=True), strict=True)


def _count(numbers: Numbers, size: int) -> Numbers:
    """Return how many of some numbers are 0, 1, 2 … up to `size`."""
    found, step = np.zeros(size, np.int64), max(_SLICE, 2 * size)
    for start in range(0, len(numbers), step):
        found += np.bincount(numbers[start : start + step], minlength=size)
    return found
