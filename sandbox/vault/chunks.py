"""One chunk of a column, sealed with the key schedule of C2SP chunked encryption.

```
chunk = salt (24) || commitment (32) || block 0 || block 1 || ...
key || base nonce || commitment = HKDF-Expand(object key, label || AEAD name || 0x00 || salt || context)
block i = AEAD(key, base nonce XOR i, up to 1 MiB of payload), empty additional data
```

Every block but the last is full and the last is shorter, so a truncated or extended chunk does not open.  The context
says which chunk of which column, partition, snapshot and dataset this is: a chunk that is moved does not open either.
The commitment makes a wrong key, salt or context fail before anything is decrypted.  The one deviation from the
specification is the block of 1 MiB in place of 16 KiB, which spares SM4 a tenth of its time; the label differs so that
the two can never be taken for each other.

Source: C2SP, chunked-encryption (c2sp.org/chunked-encryption), version 1.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from sandbox.crypto.buffers import new_bytes
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.suites import Suite
from sandbox.errors import SealBrokenError, VaultError
from sandbox.model.keys import SuiteName

BLOCK_BYTES = 1 << 20
SALT_BYTES = 24
COMMITMENT_BYTES = 32
_LABEL = b"saggar/chunked-encryption-1MiB@v1+"
_AEAD_NAMES = {SuiteName.GM: b"AEAD_SM4_GCM", SuiteName.INTL: b"AEAD_AES_256_GCM"}


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """Which chunk it is; bound into its key.

    Attributes:
        dataset: the dataset's identifier.
        snapshot: the snapshot's id.
        partition: the partition's number, from 0.
        column: the column's name.
        number: the chunk's number in its object, from 0.
        count: how many chunks the object has.
        rows: how many rows the chunk has.
    """

    dataset: str
    snapshot: str
    partition: int
    column: str
    number: int
    count: int
    rows: int

    def to_bytes(self) -> bytes:
        """Return the context as the format writes it: texts with a 4-byte length before them, big-endian numbers."""
        dataset, snapshot, column = (
            struct.pack(">I", len(text)) + text
            for text in (self.dataset.encode(), self.snapshot.encode(), self.column.encode())
        )
        partition = struct.pack(">I", self.partition)
        place = struct.pack(">IIQ", self.number, self.count, self.rows)
        return b"saggar.seg.v1" + dataset + snapshot + partition + column + place


def sealed_length(suite: Suite, length: int) -> int:
    """Return how long the chunk of a payload of so many bytes is."""
    return SALT_BYTES + COMMITMENT_BYTES + length + (length // BLOCK_BYTES + 1) * suite.tag_bytes


def seal_chunk(suite: Suite, key: bytes, context: ChunkContext, payload: bytes | memoryview) -> bytes:
    """Return `payload` sealed under an object key."""
    sealed, room = new_bytes(sealed_length(suite, len(payload)))
    seal_chunk_into(suite, key, context, payload, room)
    return sealed


def seal_chunk_into(
    suite: Suite, key: bytes, context: ChunkContext, payload: bytes | memoryview, room: memoryview
) -> None:
    """Write `payload` sealed under an object key into `room`, which has its `sealed_length`.

    The salt is random, so a key may seal many chunks; in Saggar an object key seals the chunks of one object.
    """
    salt = random_bytes(SALT_BYTES)
    block_key, base_nonce, commitment = _schedule(suite, key, salt, context)
    view, head, tag = memoryview(payload), SALT_BYTES + COMMITMENT_BYTES, suite.tag_bytes
    room[:head] = salt + commitment
    for number in range(len(payload) // BLOCK_BYTES + 1):
        block = view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        start = head + number * (BLOCK_BYTES + tag)
        suite.seal_into(block_key, _nonce(base_nonce, number), block, b"", room[start : start + len(block) + tag])


def open_chunk(suite: Suite, key: bytes, context: ChunkContext, sealed: bytes | memoryview, *, name: str) -> bytes:
    """Return the payload of a sealed chunk; nothing is returned before all of it is authenticated.

    Raises:
        SealBrokenError: with the object's `name`.  `vault.seal_broken.commitment`: wrong key, or a chunk of another
            place; `vault.seal_broken.block`: changed bytes; `vault.seal_broken.length`: truncated or extended.
    """
    head = SALT_BYTES + COMMITMENT_BYTES
    step = BLOCK_BYTES + suite.tag_bytes
    body = memoryview(sealed)[head:]
    last = len(body) % step
    if len(sealed) < head or last < suite.tag_bytes:
        raise _broken(name, "length", "is cut short or has bytes after its end")
    block_key, base_nonce, commitment = _schedule(suite, key, bytes(sealed[:SALT_BYTES]), context)
    if not hmac.compare_digest(commitment, bytes(sealed[SALT_BYTES:head])):
        raise _broken(name, "commitment", "was sealed for another place or under another key")
    blocks = -(-len(body) // step)
    size = len(body) - blocks * suite.tag_bytes
    if not size:
        payload, room = b"", memoryview(b"")
    else:
        payload, room = new_bytes(size)
    try:
        for number in range(blocks):
            block = body[number * step : (number + 1) * step]
            start = number * BLOCK_BYTES
            into = room[start : start + len(block) - suite.tag_bytes]
            suite.unseal_into(block_key, _nonce(base_nonce, number), block, b"", into)
    except VaultError as error:
        raise _broken(name, "block", "was changed after it was sealed") from error
    return payload


def _schedule(suite: Suite, key: bytes, salt: bytes, context: ChunkContext) -> tuple[bytes, bytes, bytes]:
    info = _LABEL + _AEAD_NAMES[suite.name] + b"\x00" + salt + context.to_bytes()
    derived = suite.expand(key, info, suite.key_bytes + suite.nonce_bytes + COMMITMENT_BYTES)
    nonce_end = suite.key_bytes + suite.nonce_bytes
    return derived[: suite.key_bytes], derived[suite.key_bytes : nonce_end], derived[nonce_end:]


def _nonce(base: bytes, number: int) -> bytes:
    return (int.from_bytes(base, "big") ^ number).to_bytes(len(base), "big")


def _broken(name: str, what: str, happened: str) -> SealBrokenError:
    return SealBrokenError(
        f"the sealed object `{name}` {happened}",
        hint="restore the object from a backup and run the check again",
        code=f"vault.seal_broken.{what}",
        object=name,
    )
