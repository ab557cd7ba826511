"""Memory for ciphers: fresh `bytes` written once in place, and addresses of what callers hand in."""

from __future__ import annotations

import ctypes
from typing import cast

import numpy as np

Data = bytes | bytearray | memoryview

_new = ctypes.pythonapi.PyBytes_FromStringAndSize
_new.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]
_new.restype = ctypes.py_object
_address = ctypes.pythonapi.PyBytes_AsString
_address.argtypes = [ctypes.py_object]
_address.restype = ctypes.c_void_p


def new_bytes(size: int) -> tuple[bytes, memoryview]:
    """Return unwritten `bytes` and the one writable view of it.

    CPython allows writing into a bytes object that nobody else holds yet (C API, `PyBytes_FromStringAndSize` with
    NULL).  It saves one copy of every chunk that is sealed or unsealed.  The caller writes every byte before it hands
    the object out, and lets go of the view.

    Args:
        size: bytes, 1 or more (the empty object is shared by the whole process).
    """
    if size < 1:
        raise AssertionError("an empty bytes object cannot be written")
    fresh = cast("bytes", _new(None, size))
    return fresh, memoryview((ctypes.c_ubyte * size).from_address(_address(fresh))).cast("B")


def flat(data: Data) -> memoryview:
    """Return `data` as contiguous bytes, without a copy."""
    return memoryview(data).cast("B")


def address_of(view: memoryview) -> int | None:
    """Return where a non-empty view starts; `None` for an empty one.

    The caller keeps the view alive for as long as the address is in use.
    """
    return int(np.frombuffer(view, dtype=np.uint8).__array_interface__["data"][0]) if view.nbytes else None
