"""Memory kept from one use to the next: a page fresh from the system costs more than what is written into it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Room:
    """A stretch of memory that grows to what is asked for and is never given back before the object goes."""

    def __init__(self) -> None:
        self._memory: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def reach(self, size: int) -> memoryview:
        """Return the first `size` bytes, with what was written there before; views from earlier calls may go stale."""
        if size > len(self._memory):
            longer = np.empty(size + size // 8, dtype=np.uint8)
            longer[: len(self._memory)] = self._memory
            self._memory = longer
        return self._memory[:size].data
