"""An insider with the database and all the time in the world, against a cosigned checkpoint that someone held.

The table of attacks is the room's threat model: whatever is done to entries that a witness has cosigned is found, even
if every hash is computed again; what came after the last cosigned head can still be rewritten, and is said to be.
"""

from __future__ import annotations

import sqlite3

import pytest

from sandbox.errors import ConsistencyError, InclusionError, LedgerError
from sandbox.ledger import merkle
from sandbox.ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, with_cosignature
from sandbox.ledger.database import FILE_NAME
from sandbox.ledger.merkle import HASH_NAMES, Proofs, Roots
from sandbox.ledger.note import cosign_text
from sandbox.ledger.receipt import build_receipt
from sandbox.ledger.store import Draft, Ledger
from sandbox.ledger.verify import Trusted, fold_log, verify_log, verify_receipt
from sandbox.ledger.witness import SeenHead, Witness
from sandbox.model.entry import Entry
from sandbox.model.keys import SuiteName
from tests.support import ledger_world as city

HELD, KEPT = 48, 30  # the size of the checkpoint that the auditor holds; the entry that an operator has a receipt for
TRUSTED = Trusted(city.ORIGIN, (city.sandbox_key().public,), (city.witness_key().public,))


def renumbered(leaves):
    """Return the leaves with their numbers made to fit their places: what a careful forger does."""
    entries = [Entry.parse(leaf) for leaf in leaves]
    return [Entry(seq, e.at, e.kind, e.actor, e.body).to_bytes() for seq, e in enumerate(entries)]


def edited(leaves, place):
    entry = Entry.parse(leaves[place])
    changed = Entry(entry.seq, entry.at, entry.kind, entry.actor, entry.body | {"forged": True}).to_bytes()
    return [*leaves[:place], changed, *leaves[place + 1 :]]


def one_byte(leaves, place):
    return [*leaves[:place], leaves[place].replace(b"2026", b"2025", 1), *leaves[place + 1 :]]


ATTACKS = {
    "edit an entry": lambda leaves: edited(leaves, KEPT),
    "edit one byte of the first entry": lambda leaves: one_byte(leaves, 0),
    "edit the last entry that was cosigned": lambda leaves: edited(leaves, HELD - 1),
    "delete an entry": lambda leaves: renumbered([*leaves[:20], *leaves[21:]]),
    "insert an entry": lambda leaves: renumbered([*leaves[:10], leaves[12], *leaves[10:]]),
    "swap two entries": lambda leaves: renumbered([*leaves[:14], leaves[15], leaves[14], *leaves[16:]]),
    "cut off the end": lambda leaves: leaves[: HELD - 8],
    "cut off the end and write another": lambda leaves: renumbered([*leaves[: HELD - 8], *leaves[6 : 6 + 30]]),
    "keep nothing": lambda leaves: leaves[:0],
    "repeat the beginning": lambda leaves: renumbered([*leaves[:6], *leaves]),
}


class Case:
    def __init__(self, directory):
        self.directory = directory
        with Ledger.create(
            directory, origin=city.ORIGIN, suite=SuiteName.GM, key=city.SANDBOX, versions={}, at=city.START
        ) as ledger:
            city.found(ledger)
            for number in range(7):
                job = city.digest(f"job {number}")
                ledger.append_all(
                    [Draft(kind, city.SANDBOX.key_id, body, city.START) for kind, body in city.line_of(job)]
                )
            self.leaves = list(ledger.leaves())
            self.held = city.cosigned(ledger, HELD)
            self.last = city.cosigned(ledger)
            self.receipt = build_receipt(self.leaves[KEPT], KEPT, ledger.inclusion(KEPT, HELD), self.held)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr("sandbox.ledger.store.read_mounts", lambda: "")
    with patch.context():
        yield Case(tmp_path_factory.mktemp("state"))
    patch.undo()


def head_of(leaves):
    """Return the checkpoint that an insider computes anew over forged entries."""
    roots = {
        name: merkle.root_of_leaves([merkle.leaf_hash(leaf, name) for leaf in leaves], name) for name in HASH_NAMES
    }
    return Checkpoint(city.ORIGIN, len(leaves), Roots(**roots))


def signed_by_all(checkpoint):
    """The worst case: the insider has the sandbox's key and got a cosignature from a witness without a memory."""
    note = sign_checkpoint(checkpoint, city.sandbox_key())
    return with_cosignature(note, cosign_text(checkpoint.to_text(), city.witness_key(), city.START).to_line())


def test_the_honest_log_passes_every_check(case):
    facts = verify_log(case.leaves, [case.last], TRUSTED, case.held)
    assert (facts.size, facts.covered, facts.held_size) == (55, 55, HELD)
    fold_log(case.leaves)
    assert verify_receipt(case.receipt, None, TRUSTED).entry.seq == KEPT


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_cosigned_entries_contradicts_the_log_s_own_checkpoints(case, attack):
    with pytest.raises((ConsistencyError, LedgerError)):
        verify_log(ATTACKS[attack](case.leaves), [case.held, case.last], TRUSTED)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_with_everything_computed_and_signed_again_contradicts_the_held_checkpoint(case, attack):
    forged = ATTACKS[attack](case.leaves)
    if not forged:
        with pytest.raises(ConsistencyError, match="were cosigned"):
            verify_log(forged, [case.held], TRUSTED)
        return
    anew = signed_by_all(head_of(forged))
    assert verify_log(forged, [anew], TRUSTED).covered == len(forged), "alone, the forged export looks whole"
    with pytest.raises(ConsistencyError) as caught:
        verify_log(forged, [anew], TRUSTED, case.held)
    assert caught.value.details["checkpoint"] == case.held


def test_entries_after_the_last_cosigned_head_are_not_covered_and_this_is_said(case):
    forged = edited(case.leaves, HELD + 1)
    facts = verify_log(forged, [case.held], TRUSTED, case.held)
    assert (facts.size, facts.covered) == (55, HELD)


def test_a_receipt_finds_a_forged_entry_even_without_a_held_checkpoint(case):
    forged = edited(case.leaves, KEPT)
    with pytest.raises(ConsistencyError):
        verify_log(forged, [signed_by_all(head_of(forged))], TRUSTED, held_checkpoint=case.held)
    with pytest.raises(InclusionError):
        # A receipt for the forged entry against the checkpoint that everyone else holds cannot be made.
        verify_receipt(build_receipt(forged[KEPT], KEPT, proofs_of(forged[:HELD], KEPT), case.held), None, TRUSTED)


def proofs_of(leaves, index):
    found = {}
    for name in HASH_NAMES:
        nodes = {}
        for place, leaf in enumerate(leaves):
            for node in merkle.new_nodes(place, merkle.leaf_hash(leaf, name), lambda *at, nodes=nodes: nodes[at], name):
                nodes[node.level, node.index] = node.value
        found[name] = merkle.prove_inclusion(index, len(leaves), lambda *at, nodes=nodes: nodes[at], name)
    return Proofs(**found)


def test_a_forger_in_the_database_is_refused_by_the_witness(case, tmp_path, monkeypatch):
    class Memory:
        head = SeenHead.from_note(case.held)

        def latest(self, _origin):
            return self.head

        def advance(self, *_):
            raise AssertionError("the witness moved on to a fork")

    monkeypatch.setattr("sandbox.ledger.store.read_mounts", lambda: "")
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    source, target = sqlite3.connect(case.directory / FILE_NAME), sqlite3.connect(copy / FILE_NAME)
    source.backup(target)
    source.close()
    # The insider drops the triggers, raises the agreement's budget in the log itself and computes both trees again.
    for (trigger,) in target.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        target.execute(f"DROP TRIGGER {trigger}")
    raised = case.leaves[5].replace(
        b'"budget":{"delta":"1/1000000","rho":"4"}', b'"budget":{"delta":"1/1000000","rho":"9"}'
    )
    assert raised != case.leaves[5]
    target.execute("UPDATE entries SET raw = ? WHERE seq = 5", (raised,))
    target.execute("DELETE FROM nodes")
    leaves = [raw for (raw,) in target.execute("SELECT raw FROM entries ORDER BY seq").fetchall()]
    trees = {name: {} for name in HASH_NAMES}
    for index, leaf in enumerate(leaves):
        for name in HASH_NAMES:
            tree = trees[name]
            for node in merkle.new_nodes(index, merkle.leaf_hash(leaf, name), lambda *at, tree=tree: tree[at], name):
                tree[node.level, node.index] = node.value
    target.executemany(
        "INSERT INTO nodes VALUES (?, ?, ?, ?)", [(*at, trees["sm3"][at], trees["sha256"][at]) for at in trees["sm3"]]
    )
    target.commit()
    target.close()
    with Ledger.open(copy) as forged:
        forged.check_tree()
        note = sign_checkpoint(forged.checkpoint(), city.sandbox_key())
        witness = Witness(city.witness_key(), {city.ORIGIN: TRUSTED.sandbox_keys}, Memory())
        with pytest.raises(ConsistencyError, match="does not extend what this witness cosigned") as caught:
            witness.cosign(HELD, forged.consistency(HELD), note, city.START)
    assert parse_checkpoint(caught.value.details["held"]) == parse_checkpoint(case.held)
    assert caught.value.details["offered"] == note
