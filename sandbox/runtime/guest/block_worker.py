"""One block behind the walls: read the image that was handed over, run the function, write k numbers, end.

There is no socket.  What leaves is exactly eight bytes an output, or nothing; how the process ends says nothing, since
nobody looks at it.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Final

import numpy as np
import pandas as pd

from sandbox.runtime.block_image import ImageColumn, decode_image
from sandbox.runtime.guest.chance import seed_process
from sandbox.runtime.guest.spoken import Language
from sandbox.runtime.guest.syscalls import WIRE_FD

ENTRY: Final = "block"


def read_image(descriptor: int) -> bytes:
    """Return all bytes of a memory file; before the walls go up, which take the descriptor away."""
    size = os.fstat(descriptor).st_size
    parts = []
    place = 0
    while place < size:
        part = os.pread(descriptor, size - place, place)
        if not part:
            break
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def serve_block(language: Language, raw: bytes) -> None:
    """Do the one block of this process.  Whatever goes wrong, nothing is written."""
    numbers = run_block(language, raw)
    os.write(WIRE_FD, struct.pack(f"<{len(numbers)}d", *numbers))


def run_block(language: Language, raw: bytes) -> list[float]:
    """Return what a block's function makes of its image; raises whatever the function raises."""
    job, rows, columns = decode_image(raw)
    del raw
    seed_process(bytes.fromhex(job.seed))
    function = language.load(job.source, {}, ENTRY)
    frame = frame_of(rows, columns)
    arguments = (frame, job.parameters) if takes_parameters(function) else (frame,)
    return numbers_of(function(*arguments), job.outputs)


def takes_parameters(function: Any) -> bool:
    """Return whether the function has a second argument."""
    return bool(function.__code__.co_argcount == 2)


def frame_of(rows: int, columns: list[ImageColumn]) -> pd.DataFrame:
    """Return a block's rows as a table: numbers as float64, dates as datetime64, texts as text."""
    series: dict[str, Any] = {}
    for column in columns:
        cells = column.cells
        if column.kind == "date":
            series[column.name] = cells.astype("datetime64[D]").astype("datetime64[s]")
        elif column.kind == "text":
            series[column.name] = pd.Series(cells, dtype=object)
        else:
            series[column.name] = cells
    return pd.DataFrame(series, index=pd.RangeIndex(rows))


def numbers_of(returned: Any, names: tuple[str, ...]) -> list[float]:
    """Return the numbers in the declared order.

    Raises:
        TypeError, ValueError, KeyError: it is not as many numbers as were declared.
    """
    if isinstance(returned, dict):
        if len(returned) != len(names):
            raise ValueError("other outputs than were declared")
        returned = [returned[name] for name in names]
    elif isinstance(returned, (int, float, np.number)):
        returned = [returned]
    numbers = [float(number) for number in returned]
    if len(numbers) != len(names):
        raise ValueError("another number of outputs than were declared")
    return numbers
