"""The Merkle tree of RFC 6962 and RFC 9162, over SM3 and over SHA-256: small pure functions.

A leaf hashes as `H(0x00 || data)`, an inner node as `H(0x01 || left || right)`, and a tree of n leaves splits at the
largest power of two below n.  A *perfect* node `(level, index)` covers the leaves `index << level` up to
`(index + 1) << level`; it never changes once it is full, so a store keeps perfect nodes and nothing else, and every
root and every proof is folded from at most `2 * log2(n)` of them.

Proving functions read perfect nodes through a `ReadNode`.  Verifying functions raise and return nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sandbox.errors import ConsistencyError, InclusionError
from sandbox.model.digest import HashName, hash_bytes

HASH_BYTES = 32
MAX_PROOF_HASHES = 63
HASH_NAMES: tuple[HashName, HashName] = ("sm3", "sha256")

ReadNode = Callable[[int, int], bytes]
_SM3_ABC = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"  # GB/T 32905-2016, example 1


@dataclass(frozen=True, slots=True)
class Node:
    """A perfect node and its hash."""

    level: int
    index: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Roots:
    """The roots of both trees at one size: SM3 is of record, SHA-256 its twin."""

    sm3: bytes
    sha256: bytes

    def of(self, hash_name: HashName) -> bytes:
        """Return the root of one tree."""
        return self.sm3 if hash_name == "sm3" else self.sha256


@dataclass(frozen=True, slots=True)
class Proofs:
    """The same proof in both trees; 32-byte hashes, from the leaf's side upwards."""

    sm3: tuple[bytes, ...]
    sha256: tuple[bytes, ...]

    def of(self, hash_name: HashName) -> tuple[bytes, ...]:
        """Return the proof in one tree."""
        return self.sm3 if hash_name == "sm3" else self.sha256


def _sm3_of_openssl() -> Callable[[bytes], bytes] | None:
    # hashlib's SM3 is twice as fast as the other binding, but not every OpenSSL has it: tried once, on its vector.
    try:
        started = hashlib.new("sm3")
    except ValueError:
        return None

    def sm3(data: bytes) -> bytes:
        hasher = started.copy()
        hasher.update(data)
        return hasher.digest()

    return sm3 if sm3(b"abc").hex() == _SM3_ABC else None


_SM3 = _sm3_of_openssl()


def _hash(data: bytes, hash_name: HashName) -> bytes:
    if hash_name == "sha256":
        return hashlib.sha256(data).digest()
    return _SM3(data) if _SM3 is not None else hash_bytes(data, hash_name="sm3")


def leaf_hash(data: bytes, hash_name: HashName) -> bytes:
    """Return the hash of a leaf. Source: RFC 9162, section 2.1.1."""
    return _hash(b"\x00" + data, hash_name)


def node_hash(left: bytes, right: bytes, hash_name: HashName) -> bytes:
    """Return the hash of an inner node. Source: RFC 9162, section 2.1.1."""
    return _hash(b"\x01" + left + right, hash_name)


def empty_root(hash_name: HashName) -> bytes:
    """Return the root of the tree without leaves."""
    return _hash(b"", hash_name)


def root_of_leaves(leaf_hashes: Sequence[bytes], hash_name: HashName) -> bytes:
    """Return the root over hashes of leaves, by the definition; the reference for everything else."""
    if not leaf_hashes:
        return empty_root(hash_name)
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    split = _split(len(leaf_hashes))
    return node_hash(
        root_of_leaves(leaf_hashes[:split], hash_name), root_of_leaves(leaf_hashes[split:], hash_name), hash_name
    )


def new_nodes(size: int, leaf: bytes, read: ReadNode, hash_name: HashName) -> Iterator[Node]:
    """Yield the perfect nodes that come to be when `leaf` joins a tree of `size` leaves: the leaf, then upwards."""
    level, index, value = 0, size, leaf
    yield Node(level, index, value)
    while index & 1:
        value = node_hash(read(level, index - 1), value, hash_name)
        level, index = level + 1, index >> 1
        yield Node(level, index, value)


def root_at(size: int, read: ReadNode, hash_name: HashName) -> bytes:
    """Return the root of the first `size` leaves. Cost: at most log2(size) reads."""
    return empty_root(hash_name) if size == 0 else _subtree(0, size, read, hash_name)


def prove_inclusion(index: int, size: int, read: ReadNode, hash_name: HashName) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` is in the tree of `size` leaves.

    Raises:
        InclusionError: there is no such leaf.

    Source: RFC 9162, section 2.1.3.1.
    """
    _check_index(index, size)
    proof: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_subtree(middle, stop, read, hash_name))
            stop = middle
        else:
            proof.append(_subtree(start, middle, read, hash_name))
            start = middle
    return tuple(reversed(proof))


def prove_consistency(old_size: int, new_size: int, read: ReadNode, hash_name: HashName) -> tuple[bytes, ...]:
    """Return the proof that the tree of `new_size` extends the tree of `old_size`; empty from size 0.

    Raises:
        ConsistencyError: the sizes are out of order.

    Source: RFC 9162, section 2.1.4.1.
    """
    if not 0 <= old_size <= new_size:
        raise ConsistencyError(
            f"no tree of {new_size} entries extends one of {old_size}", hint="give the smaller size first"
        )
    proof: list[bytes] = []
    start, stop, whole = 0, new_size, True
    while old_size not in (0, stop):
        middle = start + _split(stop - start)
        if old_size <= middle:
            proof.append(_subtree(middle, stop, read, hash_name))
            stop = middle
        else:
            proof.append(_subtree(start, middle, read, hash_name))
            start, whole = middle, False
    if not whole:
        proof.append(_subtree(start, stop, read, hash_name))
    return tuple(reversed(proof))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes, hash_name: HashName
) -> None:
    """Raise `InclusionError` unless `proof` shows the hash `leaf` at `index` under `root`.

    Source: RFC 9162, section 2.1.3.2.
    """
    _check_index(index, size)
    if not _well_formed((leaf, root, *proof)) or len(proof) > MAX_PROOF_HASHES:
        raise InclusionError("an inclusion proof holds a hash of the wrong length", hint="ask for the receipt again")
    node, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _not_included(index, size)
        if node & 1 or node == last:
            value = node_hash(sibling, value, hash_name)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling, hash_name)
        node, last = node >> 1, last >> 1
    if last != 0 or value != root:
        raise _not_included(index, size)


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes], hash_name: HashName
) -> None:
    """Raise `ConsistencyError` unless `proof` shows that the new tree extends the old one, which may not be empty.

    Source: RFC 9162, section 2.1.4.2; a claim from size 0 proves nothing and is refused (see `verify_growth`).
    """
    if not 1 <= old_size <= new_size:
        raise ConsistencyError(
            f"a consistency claim from {old_size} to {new_size} entries is malformed",
            hint="the smaller tree has at least one entry and comes first",
        )
    if not _well_formed((old_root, new_root, *proof)) or len(proof) > MAX_PROOF_HASHES:
        raise ConsistencyError("a consistency proof holds a hash of the wrong length", hint="ask for the proof again")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise _not_consistent(old_size, new_size)
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # the old tree is itself a node of the new one
        path.insert(0, old_root)
    if not path:
        raise _not_consistent(old_size, new_size)
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_value = new_value = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _not_consistent(old_size, new_size)
        if node & 1 or node == last:
            old_value = node_hash(sibling, old_value, hash_name)
            new_value = node_hash(sibling, new_value, hash_name)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_value = node_hash(new_value, sibling, hash_name)
        node, last = node >> 1, last >> 1
    if last != 0 or old_value != old_root or new_value != new_root:
        raise _not_consistent(old_size, new_size)


def verify_growth(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes], hash_name: HashName
) -> None:
    """Raise `ConsistencyError` unless the tree grew by appending only; a witness's first sight may be from size 0.

    From size 0 the proof must be empty and the old root that of the empty tree: every tree extends it.
    """
    if old_size != 0:
        verify_consistency(old_size, new_size, old_root, new_root, proof, hash_name)
        return
    empty = empty_root(hash_name)
    sound = not proof and old_root == empty and len(new_root) == HASH_BYTES and new_size >= 0
    if not sound or (new_size == 0 and new_root != empty):
        raise _not_consistent(old_size, new_size)


def not_in_tree(index: int, size: int) -> InclusionError:
    """Return the error for an entry that a tree of `size` entries is too small to hold."""
    return InclusionError(
        f"entry {index} is not among the {size} entries of the tree",
        hint="wait for a checkpoint that covers the entry",
        index=index,
        size=size,
    )


class Frontier:
    """The roots of a growing tree in constant memory: the perfect nodes on its right edge, largest first."""

    def __init__(self, hash_name: HashName) -> None:
        self.hash_name: HashName = hash_name
        self.size = 0
        self._peaks: list[bytes] = []

    def push(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        value, index = leaf, self.size
        while index & 1:
            value = node_hash(self._peaks.pop(), value, self.hash_name)
            index >>= 1
        self._peaks.append(value)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of what was pushed so far."""
        return _fold(self._peaks, self.hash_name) if self._peaks else empty_root(self.hash_name)


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(start: int, stop: int, read: ReadNode, hash_name: HashName) -> bytes:
    # `start` is a multiple of every perfect node's width below, since it is a split point of the whole tree.
    return _fold([read(level, index) for level, index in _perfect(start, stop)], hash_name)


def _perfect(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        level = (stop - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _fold(peaks: Sequence[bytes], hash_name: HashName) -> bytes:
    value = peaks[-1]
    for peak in reversed(peaks[:-1]):
        value = node_hash(peak, value, hash_name)
    return value


def _well_formed(hashes: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in hashes)


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise not_in_tree(index, size)


def _not_included(index: int, size: int) -> InclusionError:
    return InclusionError(
        f"entry {index} is not in the tree of {size} entries that the checkpoint names",
        hint="the entry or the proof was changed, or it belongs to another log",
        index=index,
        size=size,
    )


def _not_consistent(old_size: int, new_size: int) -> ConsistencyError:
    return ConsistencyError(
        f"the tree of {new_size} entries does not extend the tree of {old_size} entries",
        hint="keep both checkpoints: together they prove that the log was rewritten",
        old_size=old_size,
        new_size=new_size,
    )
