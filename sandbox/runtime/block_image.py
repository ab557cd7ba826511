"""The image of one block: everything that its worker gets, as bytes in a sealed memory file.

Magic, the length of a JSON header, the header, then raw buffers at multiples of eight.  The header names the program,
its parameters, the outputs wanted and each column's kind and buffers.  Both ends use this module; it goes from the
trusted side into a worker only, and nothing in this form ever comes back.

Why not Arrow: the guest would need pyarrow, which starts a thread and doubles the image of every fork; and columns cut
from a larger table carry its whole buffers along.  Here nothing is written but the block's own values.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

MAGIC: Final = b"SGRBLK01"
_LENGTH: Final = struct.Struct("<Q")
_ALIGN: Final = 8
_BUFFERS: Final = {"number": 1, "date": 1, "text": 2}


class ImageError(ValueError):
    """Bytes are not the image of a block."""


@dataclass(frozen=True, slots=True)
class BlockJob:
    """What a block's worker is to do.

    Attributes:
        source: the function's text.
        parameters: its parameters.
        outputs: the names of the numbers that it returns, in order.
        seed: 64 hex digits; every draw of chance follows from them.
    """

    source: str
    parameters: dict[str, Any]
    outputs: tuple[str, ...]
    seed: str


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """One column: its name, its kind (`number`, `date`, `text`) and its cells."""

    name: str
    kind: str
    cells: Any


def encode_image(job: BlockJob, rows: int, columns: Sequence[ImageColumn]) -> bytes:
    """Return the image of a block.

    Args:
        job: what to do.
        rows: how many rows.
        columns: numbers as float64, dates as int64 days, texts as a list with None.
    """
    buffers: list[bytes] = []
    described = []
    for column in columns:
        described.append([column.name, column.kind])
        buffers += _write(column, rows)
    header = {
        "rows": rows,
        "source": job.source,
        "parameters": job.parameters,
        "outputs": list(job.outputs),
        "seed": job.seed,
        "columns": described,
        "lengths": [len(buffer) for buffer in buffers],
    }
    text = json.dumps(header, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    parts = [MAGIC, _LENGTH.pack(len(text)), _padded(text), *(_padded(buffer) for buffer in buffers)]
    return b"".join(parts)


def decode_image(raw: bytes) -> tuple[BlockJob, int, list[ImageColumn]]:
    """Return what an image holds; every length must agree with every other.

    Raises:
        ImageError: one does not.
    """
    if raw[: len(MAGIC)] != MAGIC or len(raw) < len(MAGIC) + _LENGTH.size:
        raise ImageError("no image of a block")
    place = len(MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(raw, len(MAGIC))
    if place + length > len(raw):
        raise ImageError("the header is cut off")
    header = json.loads(raw[place : place + length])
    place += _aligned(length)
    buffers = []
    for size in header["lengths"]:
        if place + size > len(raw):
            raise ImageError("a buffer is cut off")
        buffers.append(raw[place : place + size])
        place += _aligned(size)
    if place != len(raw) or len(buffers) != sum(_BUFFERS[kind] for _, kind in header["columns"]):
        raise ImageError("the buffers are not those of the columns")
    rows = header["rows"]
    rest = iter(buffers)
    columns = [
        ImageColumn(name, kind, _read(kind, rows, [next(rest) for _ in range(_BUFFERS[kind])]))
        for name, kind in header["columns"]
    ]
    job = BlockJob(header["source"], header["parameters"], tuple(header["outputs"]), header["seed"])
    return job, rows, columns


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _padded(buffer: bytes) -> bytes:
    return buffer + bytes(_aligned(len(buffer)) - len(buffer))


def _write(column: ImageColumn, rows: int) -> list[bytes]:
    if len(column.cells) != rows:
        raise ImageError("a column has another number of rows")
    if column.kind == "text":
        encoded = [None if text is None else text.encode("utf-8", "replace") for text in column.cells]
        lengths = np.asarray([-1 if text is None else len(text) for text in encoded], dtype="<i8")
        return [lengths.tobytes(), b"".join(text for text in encoded if text is not None)]
    return [np.asarray(column.cells, dtype="<f8" if column.kind == "number" else "<i8").tobytes()]


def _read(kind: str, rows: int, buffers: list[bytes]) -> Any:
    if len(buffers[0]) != rows * 8:
        raise ImageError("a column has another number of rows")
    if kind == "number":
        return np.frombuffer(buffers[0], dtype="<f8").copy()
    whole = np.frombuffer(buffers[0], dtype="<i8").copy()
    if kind == "date":
        return whole
    texts: list[str | None] = []
    place = 0
    for length in whole.tolist():
        texts.append(None if length < 0 else buffers[1][place : place + length].decode("utf-8"))
        place += max(0, length)
    if place != len(buffers[1]):
        raise ImageError("texts have other lengths than their column says")
    return texts
