"""The log on disk: append, read, prove, refuse, survive."""

from __future__ import annotations

import pytest

from sandbox.errors import (
    BudgetExhaustedError,
    InclusionError,
    LedgerError,
    StateUnsafeError,
)
from sandbox.ledger import merkle
from sandbox.ledger.account import state_digest
from sandbox.ledger.merkle import HASH_NAMES
from sandbox.ledger.store import Draft, Ledger
from sandbox.model.entry import Entry, EntryKind
from tests.support import ledger_world as city

K = EntryKind
JOB = city.digest("job 1")
ME = city.SANDBOX.key_id


def test_a_new_ledger_holds_its_opening_and_opens_again(tmp_path):
    with city.create(tmp_path / "state") as ledger:
        assert [entry.kind for entry in ledger.entries()] == [K.LOG_OPENED]
        digest = state_digest(ledger.state())
    with Ledger.open(tmp_path / "state") as again:
        assert state_digest(again.state()) == digest
        assert again.state().origin == city.ORIGIN


def test_an_entry_reads_back_as_it_was_appended(ledger):
    entry = ledger.append(K.JOB_SUBMITTED, ME, city.submitting(JOB), "2026-03-01T08:00:05Z")
    assert entry == Entry(6, "2026-03-01T08:00:05Z", K.JOB_SUBMITTED, ME, city.submitting(JOB))
    assert list(ledger.entries(6)) == [entry]
    assert ledger.leaf(6) == entry.to_bytes()
    assert ledger.size == 7


def test_what_the_caller_does_to_the_body_later_changes_nothing(ledger):
    body = city.submitting(JOB)
    entry = ledger.append(K.JOB_SUBMITTED, ME, body, city.START)
    body["name"] = "changed"
    assert entry.body["name"] != "changed"
    assert ledger.state().jobs[JOB].name != "changed"


def test_tuples_in_a_body_are_written_as_lists(ledger):
    ledger.append_all([Draft(kind, ME, body, city.START) for kind, body in city.line_of(JOB)[:3]])
    body = {"job": JOB, "reads": ((city.DATASET, city.SNAPSHOT, ("age",)),)}
    assert ledger.append(K.VAULT_OPENED, ME, body, city.START).body["reads"] == [[city.DATASET, city.SNAPSHOT, ["age"]]]


def test_the_roots_and_proofs_are_those_of_the_entries(ledger):
    city.run_line(ledger, JOB)
    leaves = list(ledger.leaves())
    assert len(leaves) == 13
    for name in HASH_NAMES:
        hashes = [merkle.leaf_hash(leaf, name) for leaf in leaves]
        for size in range(1, 14):
            root = merkle.root_of_leaves(hashes[:size], name)
            assert ledger.roots(size).of(name) == root
            for index in range(size):
                merkle.verify_inclusion(hashes[index], index, size, ledger.inclusion(index, size).of(name), root, name)
            for old in range(1, size):
                old_root = merkle.root_of_leaves(hashes[:old], name)
                merkle.verify_consistency(old, size, old_root, root, ledger.consistency(old, size).of(name), name)
    assert ledger.roots() == ledger.roots(13)
    assert ledger.inclusion(3) == ledger.inclusion(3, 13)
    assert ledger.consistency(3) == ledger.consistency(3, 13)
    assert ledger.checkpoint().roots == ledger.roots()
    assert ledger.roots(0).sha256 == merkle.empty_root("sha256")
    ledger.check_tree()


def test_sizes_and_entries_that_do_not_exist_are_refused(ledger):
    for call in (
        ledger.roots,
        ledger.checkpoint,
        lambda size: ledger.inclusion(0, size),
        lambda size: ledger.consistency(1, size),
    ):
        for size in (-1, 7):
            with pytest.raises(LedgerError, match=f"the log has 6 entries and not {size}"):
                call(size)
    for seq in (-1, 6):
        with pytest.raises(InclusionError, match="is not among the 6 entries"):
            ledger.leaf(seq)
    assert list(ledger.leaves(4, 99)) == [ledger.leaf(4), ledger.leaf(5)]


def test_a_refused_entry_writes_nothing(ledger):
    with pytest.raises(LedgerError, match="no agreement is called `nobody`"):
        ledger.append(K.JOB_SUBMITTED, ME, city.submitting(JOB, agreement="nobody"), city.START)
    assert ledger.size == 6
    ledger.check_tree()


def test_a_group_is_appended_whole_or_not_at_all(ledger):
    drafts = [Draft(kind, ME, body, city.START) for kind, body in city.line_of(JOB)]
    with pytest.raises(BudgetExhaustedError):
        ledger.append_all(
            [*drafts[:5], Draft(K.QUESTION_ANSWERED, ME, city.answering(JOB, 1, city.loss("2")), city.START)]
        )
    assert ledger.size == 6
    assert len(ledger.append_all(drafts)) == 7
    assert ledger.append_all([]) == ()


def test_a_clock_a_little_behind_is_lifted_and_one_far_behind_is_refused(ledger):
    late = ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, "2026-03-01T09:00:00Z")
    lifted = ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, "2026-03-01T08:58:00Z")
    assert lifted.at == late.at
    with pytest.raises(LedgerError, match="earlier than the entry before it"):
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, "2026-03-01T08:57:59Z")
    with pytest.raises(LedgerError, match="the time of an entry is malformed"):
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, "now")


def test_an_open_ledger_sees_what_another_one_appends(tmp_path, ledger):
    with Ledger.open(tmp_path / "state") as other, Ledger.open(tmp_path / "state", read_only=True) as reader:
        city.run_line(other, JOB)
        assert ledger.size == reader.size == 13
        assert state_digest(ledger.state()) == state_digest(reader.state())
        ledger.append(K.JOB_SUBMITTED, ME, city.submitting(city.digest("job 2")), city.START)
        assert other.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START).seq == 14
        reader.check_tree()


def test_a_state_that_was_handed_out_never_moves(ledger):
    before = ledger.state()
    digest = state_digest(before)
    city.run_line(ledger, JOB)
    assert state_digest(before) == digest
    assert JOB not in before.jobs


def test_an_iteration_ends_where_the_log_ended_when_it_began(ledger):
    seen = []
    for entry in ledger.entries():
        seen.append(entry.seq)
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START)
    assert seen == list(range(6))


def test_a_ledger_for_reading_takes_nothing(tmp_path, ledger):
    with Ledger.open(tmp_path / "state", read_only=True) as reader:
        for call in (
            lambda: reader.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START),
            lambda: reader.keep_checkpoint(city.cosigned(ledger)),
        ):
            with pytest.raises(StateUnsafeError, match="open for reading only") as caught:
                call()
            assert caught.value.code == "ledger.state.read_only"


def test_checkpoints_are_kept_once_a_size_and_found_for_an_entry(ledger):
    first = city.cosigned(ledger, 3)
    ledger.keep_checkpoint(city.cosigned(ledger, 6))
    ledger.keep_checkpoint(first)
    ledger.keep_checkpoint(city.cosigned(ledger, 3))
    assert list(ledger.checkpoints()) == [first, *ledger.checkpoints(least_size=4)]
    assert next(ledger.checkpoints(least_size=3)) == first
    assert list(ledger.checkpoints(least_size=7)) == []


def test_a_checkpoint_of_another_log_is_not_kept(tmp_path, ledger):
    with city.create(tmp_path / "other") as other:
        city.found(other)
        city.run_line(other, JOB)
        foreign = [city.cosigned(other, 13)]
        other.append(K.POLICY_ADOPTED, ME, {"policy": city.digest("p2")}, city.START)
        city.run_line(ledger, JOB)
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.digest("p3")}, city.START)
        foreign = [city.cosigned(other, 14)]
    for note in foreign:
        with pytest.raises(LedgerError, match="is not one of this log") as caught:
            ledger.keep_checkpoint(note)
        assert caught.value.code == "ledger.checkpoint_foreign"
