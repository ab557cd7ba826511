"""Where a row goes: to which partition, at which place in it, and with which rank among the rows of its unit.

All three are drawn under keys or from fresh entropy, so that the order of sealed rows tells nothing of the order in
which they came, and nothing of who they are about.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sandbox.crypto.suites import Suite

Hashes = npt.NDArray[np.uint64]
Units = npt.NDArray[np.int64]


class UnitHash:
    """A keyed hash of units: simple tabulation, with tables derived from the partition key of the unit's kind.

    Why it is fine that this is not a pseudo-random function.  It is a load balancer under a key and not a barrier: its
    input is already a keyed token of the unit, and its output never leaves the vault; what an onlooker sees of it is
    the sizes of sealed objects.  For that, tables of random words are enough and come with a proof: the hash is
    3-independent, so the load of a partition has the mean and variance of a truly random placement.  The key is there
    so that somebody who does know tokens cannot tell which partition a unit is in, nor pick units that crowd into one.

    Source: Patrascu and Thorup 2012, "The power of simple tabulation hashing", section 1.

    Args:
        key: the partition key of the unit's kind.
        suite: the suite whose HKDF-Expand fills the tables.
    """

    def __init__(self, key: bytes, suite: Suite) -> None:
        tables = b"".join(suite.expand(key, b"saggar/partition-table/1/" + bytes([byte]), 2048) for byte in range(8))
        self._tables = np.frombuffer(tables, dtype=">u8").reshape(8, 256).astype(np.uint64)

    def of(self, units: Units) -> Hashes:
        """Return a 64-bit hash for each unit, shape (n,).  Cost: eight look-ups a row."""
        octets = np.ascontiguousarray(units, dtype="<i8").view(np.uint8).reshape(-1, 8)
        hashes: Hashes = self._tables[0][octets[:, 0]]
        for byte in range(1, 8):
            hashes ^= self._tables[byte][octets[:, byte]]
        return hashes


def bucket_of(hashes: Hashes, count: int) -> npt.NDArray[np.uint16]:
    """Return a bucket from 0 to `count` - 1 for each hash, by its leading bits.

    A count that divides another gives unions of whole buckets, so that rows spread over many buckets can be gathered
    into fewer partitions later.
    """
    return (((hashes >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.uint16)


def order_and_rank(units: Units, hashes: Hashes, seed: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the order in which rows are stored, and each stored row's rank within its unit.

    Rows are shuffled uniformly and then sorted by the hash of their unit alone, so that the rows of a unit come
    together in an order that is uniform among all orders of them: whatever the sort does with equal hashes depends on
    the hashes and not on which row is which.  The rank counts 1, 2, ... in that order.

    Args:
        units: shape (n,).
        hashes: the keyed hash of each unit, shape (n,).
        seed: 32 bytes of fresh entropy.  They seed a statistical generator (PCG64-DXSM): a rank has to be
            independent of what rows say, which it is; it need not be hard to guess, since it is sealed like the rows.

    Returns:
        order: shape (n,), such that `values[order]` is the stored column.
        rank: shape (n,), for the stored rows.
    """
    generator = np.random.Generator(np.random.PCG64DXSM(int.from_bytes(seed, "big")))
    shuffled = generator.permutation(len(units))
    order = shuffled[np.argsort(hashes[shuffled])]
    stored_hashes, stored_units = hashes[order], units[order]
    same_hash = stored_hashes[1:] == stored_hashes[:-1]
    same_unit = stored_units[1:] == stored_units[:-1]
    if bool(np.any(same_hash & ~same_unit)):
        # Two units share a hash: part them by the unit, keeping the shuffle (lexsort is stable).
        order = shuffled[np.lexsort((units[shuffled], hashes[shuffled]))]
        stored_units = units[order]
        same_unit = stored_units[1:] == stored_units[:-1]
    return order, _ranks(same_unit, len(units))


def _ranks(same_unit: npt.NDArray[np.bool_], rows: int) -> npt.NDArray[np.int32]:
    places = np.arange(rows, dtype=np.int64)
    begins = np.ones(rows, dtype=np.bool_)
    begins[1:] = ~same_unit
    run_starts = np.maximum.accumulate(np.where(begins, places, 0))
    return (places - run_starts + 1).astype(np.int32)
