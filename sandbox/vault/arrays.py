"""Between numpy and Arrow without a copy.

`pyarrow.array` and `Array.to_numpy` import pandas at their first call, which costs a process a third of a second of CPU
time; these do not, and take in nothing but plain numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[Any]

_ARROW = {
    np.dtype(code): pa.type_for_alias(code)
    for code in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
}
_NUMPY = {arrow_type: dtype for dtype, arrow_type in _ARROW.items()}


def arrow_of(values: Numbers, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return whole numbers as an Arrow array over the same memory, which the caller leaves alone from now on.

    Args:
        values: contiguous, shape (n,).
        missing: which of them are missing; None for none.
    """
    if not values.flags.c_contiguous or values.ndim != 1:
        raise AssertionError("only contiguous numbers are an Arrow array")
    valid = None if missing is None else _bits(~missing)
    return pa.Array.from_buffers(_ARROW[values.dtype], len(values), [valid, pa.py_buffer(values)])


def truths_of(values: npt.NDArray[np.bool_], missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return truth values as an Arrow array."""
    bits = [None if each is None else _bits(each) for each in (None if missing is None else ~missing, values)]
    return pa.Array.from_buffers(pa.bool_(), len(values), bits)


def numpy_of(values: pa.Array) -> Numbers:
    """Return an Arrow array of whole numbers, none of them missing, as a read-only view."""
    if values.null_count:
        raise AssertionError("missing values have no number")
    dtype, (_, data) = _NUMPY[values.type], values.buffers()
    if data is None or not len(values):
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(values), values.offset * dtype.itemsize)


def _bits(values: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))
