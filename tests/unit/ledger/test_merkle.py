"""The tree of RFC 6962: known answers, every tree up to 70 leaves in both hashes, and changed proofs."""

from __future__ import annotations

import hashlib

import pytest

from sandbox.errors import ConsistencyError, InclusionError
from sandbox.ledger import merkle
from sandbox.ledger.merkle import HASH_NAMES, Frontier
from sandbox.model.digest import hash_bytes

SMALL = 70
# The eight leaves and roots of the Certificate Transparency test suite for RFC 6962 (SHA-256).
CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): CT_INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


class Tree:
    """A tree in memory that keeps its leaves and, as a store does, its perfect nodes."""

    def __init__(self, hash_name, data):
        self.hash_name = hash_name
        self.leaves = []
        self.nodes = {}
        for item in data:
            leaf = merkle.leaf_hash(item, hash_name)
            for node in merkle.new_nodes(len(self.leaves), leaf, self.read, hash_name):
                self.nodes[node.level, node.index] = node.value
            self.leaves.append(leaf)

    def read(self, level, index):
        return self.nodes[level, index]

    def root(self, size):
        return merkle.root_of_leaves(self.leaves[:size], self.hash_name)

    def include(self, index, size):
        return merkle.prove_inclusion(index, size, self.read, self.hash_name)

    def extend(self, old, new):
        return merkle.prove_consistency(old, new, self.read, self.hash_name)


@pytest.fixture(scope="module")
def ct_tree():
    return Tree("sha256", CT_LEAVES)


@pytest.fixture(scope="module", params=HASH_NAMES)
def tree(request):
    return Tree(request.param, [f"leaf {number} 条目".encode() for number in range(SMALL)])


def test_roots_are_those_of_the_certificate_transparency_suite(ct_tree):
    assert [ct_tree.root(size).hex() for size in range(1, 9)] == CT_ROOTS
    assert merkle.empty_root("sha256") == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("index", "size"), CT_INCLUSION)
def test_inclusion_proofs_are_those_of_the_certificate_transparency_suite(ct_tree, index, size):
    assert [value.hex() for value in ct_tree.include(index, size)] == CT_INCLUSION[index, size]


@pytest.mark.parametrize(("old", "new"), CT_CONSISTENCY)
def test_consistency_proofs_are_those_of_the_certificate_transparency_suite(ct_tree, old, new):
    assert [value.hex() for value in ct_tree.extend(old, new)] == CT_CONSISTENCY[old, new]


def test_sm3_hashes_agree_with_the_other_provider():
    for data in (b"", b"abc", b"x" * 1000):
        assert merkle.leaf_hash(data, "sm3") == hash_bytes(b"\x00" + data, hash_name="sm3")
        assert merkle.empty_root("sm3") == hash_bytes(b"", hash_name="sm3")


def test_without_sm3_in_openssl_the_other_provider_answers(monkeypatch):
    monkeypatch.setattr(merkle, "_SM3", None)
    assert merkle.leaf_hash(b"abc", "sm3") == hash_bytes(b"\x00abc", hash_name="sm3")


def test_a_missing_or_wrong_sm3_in_openssl_is_not_used(monkeypatch):
    def missing(name):
        raise ValueError(name)

    monkeypatch.setattr(hashlib, "new", missing)
    assert merkle._sm3_of_openssl() is None
    monkeypatch.setattr(hashlib, "new", lambda _name: hashlib.sha256())
    assert merkle._sm3_of_openssl() is None


def test_every_inclusion_proof_up_to_70_leaves_verifies(tree):
    for size in range(1, SMALL + 1):
        root = tree.root(size)
        assert merkle.root_at(size, tree.read, tree.hash_name) == root
        for index in range(size):
            proof = tree.include(index, size)
            merkle.verify_inclusion(tree.leaves[index], index, size, proof, root, tree.hash_name)
            with pytest.raises(InclusionError, match="not in the tree"):
                merkle.verify_inclusion(
                    tree.leaves[index - 1] if size > 1 else b"\x00" * 32, index, size, proof, root, tree.hash_name
                )


def test_every_consistency_proof_up_to_70_leaves_verifies_and_none_at_double_the_size(tree):
    for new in range(1, SMALL + 1):
        for old in range(1, new + 1):
            proof = tree.extend(old, new)
            merkle.verify_consistency(old, new, tree.root(old), tree.root(new), proof, tree.hash_name)
            with pytest.raises(ConsistencyError):
                merkle.verify_consistency(old, new * 2, tree.root(old), tree.root(new), proof, tree.hash_name)


def test_the_frontier_has_every_root(tree):
    frontier = Frontier(tree.hash_name)
    assert frontier.root() == merkle.empty_root(tree.hash_name) == merkle.root_at(0, tree.read, tree.hash_name)
    for size, leaf in enumerate(tree.leaves, start=1):
        frontier.push(leaf)
        assert frontier.size == size
        assert frontier.root() == tree.root(size)


def _changed(proof, root):
    """Yield proofs that are one step away from `proof`."""
    yield [*proof, root]
    yield [root, *proof]
    if proof:
        yield proof[:-1]
        yield proof[1:]
    for place in range(len(proof)):
        flipped = bytes([proof[place][0] ^ 8]) + proof[place][1:]
        for wrong in (flipped, proof[place][:-1], b""):
            yield [*proof[:place], wrong, *proof[place + 1 :]]


@pytest.mark.parametrize(("index", "size"), [(0, 8), (5, 8), (2, 3), (1, 5), (0, 1), (69, 70), (63, 65)])
def test_a_changed_inclusion_proof_never_verifies(tree, index, size):
    proof, root, leaf = list(tree.include(index, size)), tree.root(size), tree.leaves[index]
    for wrong in _changed(proof, root):
        with pytest.raises(InclusionError):
            merkle.verify_inclusion(leaf, index, size, wrong, root, tree.hash_name)
    for other_index, other_size in ((index - 1, size), (index + 1, size), (index ^ 2, size), (index, size * 2)):
        with pytest.raises(InclusionError):
            merkle.verify_inclusion(leaf, other_index, other_size, proof, root, tree.hash_name)


@pytest.mark.parametrize(("old", "new"), [(1, 8), (6, 8), (2, 5), (6, 7), (4, 8), (63, 70), (64, 70), (1, 2)])
def test_a_changed_consistency_proof_never_verifies(tree, old, new):
    proof, old_root, new_root = list(tree.extend(old, new)), tree.root(old), tree.root(new)
    for wrong in (*_changed(proof, old_root), *_changed(proof, new_root), []):
        with pytest.raises(ConsistencyError):
            merkle.verify_consistency(old, new, old_root, new_root, wrong, tree.hash_name)
    for args in (
        (old, new, new_root, old_root),
        (old - 1, new, old_root, new_root),
        (old, new * 2, old_root, new_root),
    ):
        with pytest.raises(ConsistencyError):
            merkle.verify_consistency(*args, proof, tree.hash_name)


@pytest.mark.parametrize("hash_name", HASH_NAMES)
def test_a_proof_in_one_tree_says_nothing_in_the_other(hash_name):
    data = [bytes([number]) for number in range(9)]
    here = Tree(hash_name, data)
    other = "sha256" if hash_name == "sm3" else "sm3"
    with pytest.raises(InclusionError):
        merkle.verify_inclusion(here.leaves[3], 3, 9, here.include(3, 9), here.root(9), other)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 0), (2, 1), (-1, 1)])
def test_an_entry_outside_the_tree_has_no_proof(tree, index, size):
    with pytest.raises(InclusionError, match="is not among the") as caught:
        tree.include(index, size)
    assert caught.value.code == "ledger.inclusion"
    with pytest.raises(InclusionError, match="is not among the"):
        merkle.verify_inclusion(b"\x00" * 32, index, size, [], b"\x00" * 32, tree.hash_name)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (2, 1), (-1, 1)])
def test_a_consistency_claim_from_nothing_or_backwards_is_refused(old, new):
    with pytest.raises(ConsistencyError, match="is malformed"):
        merkle.verify_consistency(old, new, merkle.empty_root("sm3"), merkle.empty_root("sm3"), [], "sm3")


def test_a_proof_with_too_many_hashes_is_refused_before_hashing():
    zero = b"\x00" * 32
    with pytest.raises(ConsistencyError, match="wrong length"):
        merkle.verify_consistency(1, 2, zero, zero, [zero] * 64, "sm3")
    with pytest.raises(InclusionError, match="wrong length"):
        merkle.verify_inclusion(zero, 0, 2, [zero] * 64, zero, "sm3")


def test_sizes_out_of_order_have_no_consistency_proof(tree):
    with pytest.raises(ConsistencyError, match="no tree of 3 entries extends one of 4"):
        tree.extend(4, 3)
    assert tree.extend(0, 5) == ()


def test_a_witness_may_start_from_the_empty_tree(tree):
    empty = merkle.empty_root(tree.hash_name)
    merkle.verify_growth(0, 9, empty, tree.root(9), [], tree.hash_name)
    merkle.verify_growth(0, 0, empty, empty, [], tree.hash_name)
    merkle.verify_growth(4, 9, tree.root(4), tree.root(9), tree.extend(4, 9), tree.hash_name)
    for args in (
        (0, 9, empty, tree.root(9), [empty]),
        (0, 9, tree.root(1), tree.root(9), []),
        (0, 0, empty, tree.root(9), []),
        (0, 9, empty, b"short", []),
        (0, -1, empty, empty, []),
    ):
        with pytest.raises(ConsistencyError, match="does not extend"):
            merkle.verify_growth(*args, tree.hash_name)
