"""Keyed tokens: an identifier goes in, 64 bits that mean nothing without the key come out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sandbox.crypto import providers
from sandbox.crypto.hashing import HASH_BYTES, HashFamily, OpensslHashes
from sandbox.errors import InputError, KeyUnavailableError

KEY_BYTES_MIN = 16


class Tokeniser:
    """Replaces identifiers by HMAC-SM3 tokens under one key.

    Equal identifiers get equal tokens, and only under the same key, so tables joined on tokens join as before while
    tables under two keys cannot be joined.  Among 10 million identifiers the chance that any two share a token
    is below 3 in a million.

    Args:
        key: 16 bytes or more, one for each kind of privacy unit.

    Raises:
        KeyUnavailableError: the key is shorter.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES_MIN:
            raise KeyUnavailableError(
                f"a token key has at least {KEY_BYTES_MIN} bytes, got {len(key)}",
                hint="draw it with `random_bytes`",
                code="vault.key_unavailable.malformed",
            )
        self._key = key
        self._family = providers.hash_family("sm3").require()

    def tokens(self, values: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the token of each value, shape (n_values,): the first 8 bytes of HMAC-SM3, big endian, signed.

        Each distinct value is computed once.

        Raises:
            InputError: a value cannot be written in UTF-8.
        """
        distinct: dict[str, int] = {}
        positions = np.fromiter(
            (distinct.setdefault(value, len(distinct)) for value in values), dtype=np.int64, count=len(values)
        )
        try:
            encoded = [value.encode() for value in distinct]
        except UnicodeEncodeError as error:
            raise InputError(
                "an identifier is not text that UTF-8 can write",
                hint="repair the source file's encoding",
                code="input.identifier",
            ) from error
        digests = np.frombuffer(_macs(self._family, self._key, encoded), dtype=">i8")
        return digests[:: HASH_BYTES // 8].astype(np.int64)[positions]


def _macs(family: HashFamily, key: bytes, messages: Sequence[bytes]) -> bytes:
    """Return the HMACs of many messages, joined."""
    if not isinstance(family, OpensslHashes):
        return b"".join(family.mac(key, message) for message in messages)
    keyed = family.keyed(key)  # copying a keyed HMAC saves half of the hashing of a short message
    macs = []
    for message in messages:
        one = keyed.copy()
        one.update(message)
        macs.append(one.finalize())
    return b"".join(macs)
