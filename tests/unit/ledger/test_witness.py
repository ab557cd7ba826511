"""The witness: it cosigns growth, refuses forks with evidence, and remembers before it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.errors import CheckpointError, ConsistencyError, WitnessError
from sandbox.ledger import merkle
from sandbox.ledger.checkpoint import Checkpoint, sign_checkpoint, verify_checkpoint, with_cosignature
from sandbox.ledger.merkle import HASH_NAMES, Proofs, Roots
from sandbox.ledger.witness import SeenHead, Witness
from sandbox.model.keys import Role, SuiteName
from tests.support import ledger_world as city

NO_PROOF = Proofs(sm3=(), sha256=())


class Memory:
    """A witness's memory in a dictionary; the real one is on a disk."""

    def __init__(self):
        self.heads = {}
        self.advances = 0

    def latest(self, origin):
        return self.heads.get(origin)

    def advance(self, origin, expected, head):
        if self.heads.get(origin) != expected:
            return False
        self.heads[origin] = head
        self.advances += 1
        return True


class Log:
    """A log of any bytes, with checkpoints and consistency proofs in both trees."""

    def __init__(self, leaves):
        self.nodes = {name: {} for name in HASH_NAMES}
        for index, leaf in enumerate(leaves):
            for name in HASH_NAMES:
                for node in merkle.new_nodes(index, merkle.leaf_hash(leaf, name), self.reader(name), name):
                    self.nodes[name][node.level, node.index] = node.value

    def reader(self, name):
        return lambda level, index: self.nodes[name][level, index]

    def note(self, size, suite=SuiteName.GM, **roots):
        found = {name: merkle.root_at(size, self.reader(name), name) for name in HASH_NAMES}
        return sign_checkpoint(Checkpoint(city.ORIGIN, size, Roots(**(found | roots))), city.sandbox_key(suite))

    def proofs(self, old, new):
        return Proofs(**{name: merkle.prove_consistency(old, new, self.reader(name), name) for name in HASH_NAMES})


LOG = Log([f"entry {number}".encode() for number in range(20)])
FORK = Log([f"entry {number if number != 4 else 'edited'}".encode() for number in range(20)])


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def witness(memory):
    return Witness(city.witness_key(), {city.ORIGIN: [city.sandbox_key().public]}, memory)


def trusted():
    return (city.sandbox_key().public,), (city.witness_key().public,)


def test_a_witness_cosigns_from_nothing_and_then_what_grows(witness, memory):
    for old, new in ((0, 5), (5, 5), (5, 9), (9, 20)):
        line = witness.cosign(old, LOG.proofs(old, new), LOG.note(new), city.START)
        verified = verify_checkpoint(with_cosignature(LOG.note(new), line), *trusted())
        assert verified.checkpoint.size == new == memory.latest(city.ORIGIN).size
    assert memory.advances == 4
    assert SeenHead.from_note(memory.latest(city.ORIGIN).note) == memory.latest(city.ORIGIN)


@pytest.mark.parametrize("suite", list(SuiteName))
def test_a_witness_of_either_suite_cosigns_a_log_of_either_suite(memory, suite):
    for log_suite in SuiteName:
        keys = (city.sandbox_key(log_suite).public,)
        witness = Witness(city.witness_key(suite), {city.ORIGIN: keys}, Memory())
        note = LOG.note(7, log_suite)
        line = witness.cosign(0, NO_PROOF, note, city.START)
        verify_checkpoint(with_cosignature(note, line), keys, (city.witness_key(suite).public,))


def test_a_fork_is_refused_with_both_signed_notes(witness, memory):
    witness.cosign(0, NO_PROOF, LOG.note(9), city.START)
    for size in (9, 15):
        with pytest.raises(ConsistencyError, match="does not extend what this witness cosigned") as caught:
            witness.cosign(9, FORK.proofs(9, size), FORK.note(size), city.START)
        assert caught.value.details["held"] == LOG.note(9) or caught.value.details["held"].startswith(city.ORIGIN)
        held, offered = caught.value.details["held"], caught.value.details["offered"]
        assert SeenHead.from_note(held).roots == SeenHead.from_note(LOG.note(9)).roots
        assert SeenHead.from_note(offered).roots == SeenHead.from_note(FORK.note(size)).roots
    assert memory.latest(city.ORIGIN).size == 9


@pytest.mark.parametrize("tree", HASH_NAMES)
def test_a_fork_in_one_tree_alone_is_found(witness, tree):
    witness.cosign(0, NO_PROOF, LOG.note(9), city.START)
    forged = LOG.note(15, **{tree: merkle.root_at(15, FORK.reader(tree), tree)})
    proofs = replace(LOG.proofs(9, 15), **{tree: FORK.proofs(9, 15).of(tree)})
    for offered in (proofs, LOG.proofs(9, 15)):
        with pytest.raises(ConsistencyError) as caught:
            witness.cosign(9, offered, forged, city.START)
        assert caught.value.details["tree"] == tree


def test_a_log_cut_back_and_grown_again_is_a_fork(witness):
    witness.cosign(0, NO_PROOF, LOG.note(9), city.START)
    with pytest.raises(WitnessError, match=r"last cosigned `test\.example/saggar` at 9 entries"):
        witness.cosign(4, LOG.proofs(4, 8), LOG.note(8), city.START)
    with pytest.raises(WitnessError):
        witness.cosign(9, NO_PROOF, LOG.note(8), city.START)
    with pytest.raises(ConsistencyError):
        witness.cosign(9, FORK.proofs(9, 10), FORK.note(10), city.START)


@pytest.mark.parametrize("old", [0, 5, 8, 10])
def test_an_old_size_that_is_not_the_witnesss_is_told_the_right_one(witness, old):
    witness.cosign(0, NO_PROOF, LOG.note(9), city.START)
    with pytest.raises(WitnessError) as caught:
        witness.cosign(old, LOG.proofs(old, 15), LOG.note(15), city.START)
    assert caught.value.code == "ledger.witness.stale"
    assert caught.value.details == {"origin": city.ORIGIN, "size": 9}


def test_a_first_sight_with_a_proof_or_a_wrong_proof_later_is_refused(witness, memory):
    with pytest.raises(ConsistencyError):
        witness.cosign(0, LOG.proofs(3, 9), LOG.note(9), city.START)
    assert memory.latest(city.ORIGIN) is None
    witness.cosign(0, NO_PROOF, LOG.note(5), city.START)
    for proofs in (NO_PROOF, LOG.proofs(4, 9), replace(LOG.proofs(5, 9), sm3=LOG.proofs(5, 9).sha256)):
        with pytest.raises(ConsistencyError):
            witness.cosign(5, proofs, LOG.note(9), city.START)


def test_an_unknown_log_and_an_unsigned_head_are_refused(memory):
    stranger = Witness(city.witness_key(), {"other.example/log": [city.sandbox_key().public]}, memory)
    with pytest.raises(WitnessError, match="does not know the log") as caught:
        stranger.cosign(0, NO_PROOF, LOG.note(5), city.START)
    assert caught.value.code == "ledger.witness.unknown_log"
    other = Witness(city.witness_key(), {city.ORIGIN: [city.sandbox_key(SuiteName.INTL).public]}, memory)
    with pytest.raises(CheckpointError, match="not signed by a trusted key"):
        other.cosign(0, NO_PROOF, LOG.note(5), city.START)
    assert memory.heads == {}


def test_when_another_request_was_faster_nothing_is_answered(memory):
    class Raced(Memory):
        def advance(self, origin, expected, head):
            self.heads[origin] = SeenHead.from_note(LOG.note(12))
            return super().advance(origin, expected, head)

    witness = Witness(city.witness_key(), {city.ORIGIN: [city.sandbox_key().public]}, Raced())
    with pytest.raises(WitnessError) as caught:
        witness.cosign(0, NO_PROOF, LOG.note(9), city.START)
    assert (caught.value.code, caught.value.details["size"]) == ("ledger.witness.stale", 12)


def test_a_memory_that_fails_means_no_cosignature(witness, memory, monkeypatch):
    monkeypatch.setattr(memory, "advance", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        witness.cosign(0, NO_PROOF, LOG.note(9), city.START)


def test_only_a_witnesss_key_makes_a_witness(memory):
    with pytest.raises(WitnessError, match="key `sandbox` is not a witness's"):
        Witness(city.sandbox_key(), {}, memory)
    with pytest.raises(WitnessError, match="key `operator` is not a witness's"):
        Witness(city.key("operator", Role.OPERATOR), {}, memory)
