"""Scatter units: a keyed pseudorandom number for each unit's token, for millions of them at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 32
_BLOCK_BYTES = 16
_TOKENS_AT_ONCE = 1 << 14  # half a mebibyte of blocks, in and out, stays in a processor's cache


def scatter(key: bytes, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return 64 pseudorandom bits for each token, the same for equal tokens under one key.

    AES-256 as a pseudorandom permutation of one 16-byte block a token: eight bytes of token, eight of zero.  Each block
    is an input of its own and no text is encrypted, so the mode that is wrong for texts is the right one here.

    Args:
        key: 32 bytes from `random_bytes`; nobody who chooses tokens knows it.
        tokens: keyed tokens of privacy units.
    """
    if len(key) != KEY_BYTES:
        raise AssertionError("a scatter key has 32 bytes")
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a permutation of distinct blocks
    width = max(1, min(len(tokens), _TOKENS_AT_ONCE))
    inputs = np.zeros((width, 2), dtype="<i8")
    outputs = bytearray(width * _BLOCK_BYTES + _BLOCK_BYTES - 1)  # the library asks for a block's room to spare
    words = np.frombuffer(outputs, dtype="<u8", count=2 * width).reshape(width, 2)
    scattered = np.empty(len(tokens), dtype=np.uint64)
    for start in range(0, len(tokens), width):
        count = min(width, len(tokens) - start)
        inputs[:count, 0] = tokens[start : start + count]
        encryptor.update_into(inputs[:count].data.cast("B"), outputs)
        scattered[start : start + count] = words[:count, 0]
    return scattered
