"""Where a row goes: to which partition, at which place in it, and with which rank among the rows of its unit.

All three are drawn under keys or from fresh entropy, so that the order of sealed rows tells nothing of the order in
which they came, and nothing of who they are about.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sandbox.crypto.scatter import KEY_BYTES, scatter
from sandbox.crypto.suites import Suite

Hashes = npt.NDArray[np.uint64]
HalfHashes = npt.NDArray[np.uint32]
Units = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]

# A sort key is 3 bits that are the same for all, 29 of its unit's hash, then bits drawn at random, then the row's
# number.  Read as floating-point numbers such keys are positive, normal and finite, so they have the same order as
# integers; and a processor that has no instruction for the lesser of two 64-bit integers sorts them in two thirds of
# the time.
_LOWER_BITS = 32
_BYTE = 1 << 8
_HASH_MASK = np.uint32((1 << 29) - 1)
_EXPONENT = np.uint32(1 << 29)


class UnitHash:
    """A keyed hash of units: 64 bits of AES-256 under a key that is derived from the partition key of the unit's kind.

    It is a load balancer under a key and not a barrier: its input is already a keyed token of the unit, and its output
    never leaves the vault; what an onlooker sees of it is the sizes of sealed objects.  The key is there so that
    somebody who does know tokens cannot tell which partition a unit is in, nor pick units that crowd into one.  Since
    no secrecy of data rests on it, both suites use the block cipher that is fastest everywhere.

    Args:
        key: the partition key of the unit's kind.
        suite: the suite whose HKDF-Expand derives the cipher's key.
    """

    def __init__(self, key: bytes, suite: Suite) -> None:
        self._key = suite.expand(key, b"saggar/partition-hash/2", KEY_BYTES)

    def of(self, units: Units) -> Hashes:
        """Return a 64-bit hash for each unit, shape (n,)."""
        return scatter(self._key, units)


def bucket_of(hashes: Hashes, count: int) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return a bucket from 0 to `count` - 1 for each hash, by its leading bits.

    A count that divides another gives unions of whole buckets, so that rows spread over many buckets can be gathered
    into fewer partitions later.
    """
    if count > 1 and not count & (count - 1):
        # A byte where it is enough: a radix sort of it takes one pass.
        return (hashes >> np.uint64(65 - count.bit_length())).astype(np.uint8 if count <= _BYTE else np.uint16)
    return (((hashes >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.uint16)


def ranking_generator(seed: bytes) -> np.random.Generator:
    """Return a statistical generator (PCG64-DXSM) for orders and ranks.

    A rank has to be independent of what rows say, which it is; it need not be hard to guess, since it is sealed like
    the rows.

    Args:
        seed: 32 bytes of fresh entropy.
    """
    return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(seed, "big")))


def order_and_rank(
    hashes: Hashes | HalfHashes, generator: np.random.Generator, units_in: Callable[[Places], Units]
) -> tuple[Places, Ranks]:
    """Return the order in which rows are stored, and each stored row's rank within its unit.

    A row's sort key has 29 bits of its unit's hash, then bits drawn at random, then the row's number: one sort of plain
    numbers brings the rows of a unit together in random order.  Two things are then put right where they happen:
    rows of one hash whose random bits are equal lie in the order of their numbers, so they are shuffled among
    themselves; and units that share the 29 bits may be mixed, so their rows are parted.  The order of a unit's rows is
    uniform among all orders: it is that of random numbers of unlimited length, of which more are drawn only where the
    first few do not decide.

    Args:
        hashes: the keyed hash of each unit or its lower 32 bits, shape (n,); the lower 29 bits count.
        generator: where random bits come from, see `ranking_generator`.
        units_in: returns the unit of each row in an order, shape (n,); what it was asked last is the order that holds.

    Returns:
        order: shape (n,), such that `values[order]` is the stored column.
        rank: shape (n,), for the stored rows.
    """
    rows = len(hashes)
    number_bits = max(1, (rows - 1).bit_length()) if rows else 1
    keys = _sort_keys(hashes, number_bits, generator)
    keys.view(np.float64).sort()
    order = (keys & np.uint64((1 << number_bits) - 1)).view(np.int64)
    differing = keys[1:] ^ keys[:-1]
    tied = np.flatnonzero(differing < np.uint64(1 << number_bits))
    if len(tied):
        _shuffle_ties(order, keys, number_bits, tied, generator)
    stored = units_in(order)
    same_unit = stored[1:] == stored[:-1]
    same_hash = differing < np.uint64(1 << _LOWER_BITS)
    # Rows of one unit have one hash, so both are equally many unless neighbours of one hash are of different units.
    if np.count_nonzero(same_hash) != np.count_nonzero(same_unit):
        _part_units(order, keys >> np.uint64(_LOWER_BITS), np.flatnonzero(same_hash & ~same_unit), stored)
        stored = units_in(order)
        same_unit = stored[1:] == stored[:-1]
    return order, _ranks(same_unit, rows)


def _sort_keys(hashes: Hashes | HalfHashes, number_bits: int, generator: np.random.Generator) -> Hashes:
    """Return the sort key of each row."""
    rows = len(hashes)
    lower: HalfHashes = generator.bit_generator.random_raw(-(-rows // 2)).view(np.uint32)[:rows]
    lower &= np.uint32((1 << 32) - (1 << number_bits))
    lower |= np.arange(rows, dtype=np.uint32)
    keys = np.empty(rows, dtype=np.uint64)
    halves = keys.view(np.uint32)
    halves[::2] = lower
    np.bitwise_and(hashes, _HASH_MASK, out=halves[1::2], casting="unsafe")
    halves[1::2] |= _EXPONENT
    return keys


def _shuffle_ties(order: Places, keys: Hashes, number_bits: int, tied: Places, generator: np.random.Generator) -> None:
    """Shuffle rows among themselves whose hash and random bits are all equal; `tied` are the first of each two."""
    both = np.concatenate((tied, tied + 1))
    both.sort()
    members = both[np.append(True, both[1:] != both[:-1])]
    shuffled = generator.permutation(members)
    # The sort is stable, so it keeps the shuffle within each run of equal keys.
    order[members] = order[shuffled[np.argsort(keys[shuffled] >> np.uint64(number_bits), kind="stable")]]


def _part_units(order: Places, hashes: Hashes, torn: Places, stored: Units) -> None:
    """Part the units that share a hash, keeping the order of each unit's rows; `torn` is a place in each such hash."""
    shared = hashes[torn]
    shared = shared[np.append(True, shared[1:] != shared[:-1])]
    for start, stop in zip(np.searchsorted(hashes, shared), np.searchsorted(hashes, shared, side="right"), strict=True):
        # The sort is stable: within a unit the order stays what it was.
        order[start:stop] = order[start:stop][np.argsort(stored[start:stop], kind="stable")]


def _ranks(same_unit: npt.NDArray[np.bool_], rows: int) -> Ranks:
    """Return a count from 1 that begins anew wherever the unit does."""
    ends = np.append(np.flatnonzero(~same_unit) + 1, rows)
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    ranks: Ranks = np.arange(1, rows + 1, dtype=np.int32)
    ranks -= np.repeat(begins.astype(np.int32), ends - begins)
    return ranks
