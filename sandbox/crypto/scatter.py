"""Scatter units: a keyed pseudorandom number for each unit's token, for millions of them at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 32


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
    inputs = np.zeros((len(tokens), 2), dtype="<i8")
    inputs[:, 0] = tokens
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a permutation of distinct blocks
    outputs = encryptor.update(inputs.tobytes()) + encryptor.finalize()
    return np.frombuffer(outputs, dtype="<u8").reshape(-1, 2)[:, 0].astype(np.uint64)
