"""Receipts and the offline verifier."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from sandbox.errors import CheckpointError, ConsistencyError, InclusionError, LedgerError
from sandbox.ledger.account import state_digest
from sandbox.ledger.merkle import HASH_NAMES, Proofs, leaf_hash, verify_inclusion
from sandbox.ledger.receipt import MAX_RECEIPT_BYTES, build_receipt, parse_receipt
from sandbox.ledger.store import Draft, Ledger
from sandbox.ledger.verify import Trusted, fold_log, verify_log, verify_receipt
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import digest_of
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.keys import Role, SuiteName
from tests.support import ledger_world as city

K = EntryKind
JOB = city.digest("job 1")
RELEASE = "答案: 42 ± 3".encode()


class Export:
    """What an auditor gets: bytes of entries, checkpoints, and receipts."""

    def __init__(self, directory):
        settled = city.settling(JOB, release=digest_of(RELEASE))
        other = city.settling(city.digest("job 2"), release=digest_of(RELEASE, hash_name="sha256"))
        with Ledger.create(
            directory, origin=city.ORIGIN, suite=SuiteName.GM, key=city.SANDBOX, versions={}, at=city.START
        ) as ledger:
            city.found(ledger)
            for job, end in ((JOB, settled), (city.digest("job 2"), other)):
                for kind, body in [*city.line_of(job)[:-1], (K.JOB_SETTLED, end)]:
                    ledger.append(kind, city.SANDBOX.key_id, body, city.START)
            self.leaves = list(ledger.leaves())
            self.checkpoints = [city.cosigned(ledger, size) for size in (5, 13, 20)]
            self.receipts = {
                seq: build_receipt(self.leaves[seq], seq, ledger.inclusion(seq, 20), self.checkpoints[2])
                for seq in range(20)
            }
            self.state = ledger.state()
            self.ledger_roots = ledger.roots()
            self.proofs = [ledger.inclusion(seq, 20) for seq in range(20)]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr("sandbox.ledger.store.read_mounts", lambda: "")
    with patch.context():
        return Export(tmp_path_factory.mktemp("state"))


def trusted(**changes):
    return replace(Trusted(city.ORIGIN, (city.sandbox_key().public,), (city.witness_key().public,)), **changes)


# --- receipts ---


def test_a_receipt_reads_back_and_proves_its_entry(export):
    for seq, text in export.receipts.items():
        receipt = parse_receipt(text)
        assert receipt.to_text() == text
        assert (receipt.entry, receipt.index, receipt.note) == (export.leaves[seq], seq, export.checkpoints[2])
        facts = verify_receipt(text, None, trusted())
        assert (facts.entry.to_bytes(), facts.size, facts.release_checked) == (export.leaves[seq], 20, False)
        assert facts.cosigners[0].key == city.witness_key().public


def test_a_receipt_of_a_settlement_proves_the_released_bytes(export):
    for seq, hash_name in ((12, "sm3"), (19, "sha256")):
        facts = verify_receipt(export.receipts[seq], RELEASE, trusted())
        assert (facts.release, facts.release_checked) == (digest_of(RELEASE, hash_name=hash_name), True)
    for seq, other in ((12, RELEASE + b"."), (12, b""), (11, RELEASE)):
        with pytest.raises(InclusionError, match="the bytes are not the release that the entry names") as caught:
            verify_receipt(export.receipts[seq], other, trusted())
        assert caught.value.code == "ledger.inclusion.release"


def test_the_receipt_is_a_c2sp_tlog_proof(export):
    lines = export.receipts[6].split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[2] == "index 6"
    blank = lines.index("")
    proof = [base64.b64decode(line) for line in lines[3:blank]]
    root = base64.b64decode(lines[blank + 3])
    verify_inclusion(leaf_hash(export.leaves[6], "sha256"), 6, int(lines[blank + 2]), proof, root, "sha256")
    extra = json.loads(base64.b64decode(lines[1].removeprefix("extra ")))
    assert extra["entry"].encode() == export.leaves[6]


def test_a_receipt_against_another_trust_is_refused(export):
    text = export.receipts[12]
    for trust, code in (
        (trusted(origin="other.example/log"), "ledger.checkpoint.origin"),
        (trusted(sandbox_keys=()), "ledger.checkpoint.not_signed"),
        (trusted(witness_keys=()), "ledger.checkpoint.not_cosigned"),
        (trusted(witness_keys=(city.key("other.example", Role.WITNESS).public,)), "ledger.checkpoint.not_cosigned"),
    ):
        with pytest.raises(CheckpointError) as caught:
            verify_receipt(text, None, trust)
        assert caught.value.code == code


def test_a_receipt_with_parts_of_another_entry_is_refused(export):
    good = parse_receipt(export.receipts[12])
    for changes in (
        {"entry": export.leaves[11]},
        {"index": 11},
        {"index": 20},
        {"proofs": export.proofs[11]},
        {"proofs": replace(good.proofs, sm3=export.proofs[11].sm3)},
        {"proofs": replace(good.proofs, sha256=export.proofs[11].sha256)},
        {"proofs": Proofs(sm3=(), sha256=())},
        {"note": export.checkpoints[1]},
    ):
        with pytest.raises(InclusionError):
            verify_receipt(replace(good, **changes).to_text(), None, trusted())


@pytest.mark.parametrize(
    "leaf",
    [
        b'{"not":"an entry"}',
        b"not json",
        Entry(5, city.START, K.POLICY_ADOPTED, city.SANDBOX.key_id, {"policy": city.POLICY}).to_bytes(),
    ],
)
def test_a_leaf_that_is_no_entry_of_its_number_is_refused(leaf):
    note, proofs = forged_log([leaf])
    with pytest.raises(InclusionError, match="what stands at 0 in the log is not an entry of that number") as caught:
        verify_receipt(build_receipt(leaf, 0, proofs, note), None, trusted())
    assert caught.value.code == "ledger.inclusion.not_an_entry"


def forged_log(leaves):
    """Return a checkpoint that sandbox and witness signed over one leaf of any bytes, and its (empty) proofs."""
    from sandbox.ledger.checkpoint import Checkpoint, sign_checkpoint, with_cosignature
    from sandbox.ledger.merkle import Roots, root_of_leaves
    from sandbox.ledger.note import cosign_text

    roots = Roots(**{name: root_of_leaves([leaf_hash(leaf, name) for leaf in leaves], name) for name in HASH_NAMES})
    head = Checkpoint(city.ORIGIN, len(leaves), roots)
    line = cosign_text(head.to_text(), city.witness_key(), city.START).to_line()
    return with_cosignature(sign_checkpoint(head, city.sandbox_key()), line), Proofs(sm3=(), sha256=())


def extra_of(**changes):
    record = {"v": 1, "entry": "{}", "sm3": []} | changes
    return base64.b64encode(canonical_bytes(record)).decode()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: "", "first lines"),
        (lambda text: "x" * (MAX_RECEIPT_BYTES + 1), "too large"),
        (lambda text: text.replace("tlog-proof@v1", "tlog-proof@v2"), "first lines"),
        (lambda text: text.replace("extra ", "other "), "first lines"),
        (lambda text: text.replace("index 12", "index 012"), "index is not a plain number"),
        (lambda text: text.replace("index 12", "index -1"), "index is not a plain number"),
        (lambda text: text.replace("index 12\n", "index 12\nAAAA\n"), "32-byte hashes"),
        (lambda text: text.replace("index 12\n", "index 12\n!\n"), "should be base64"),
        (lambda text: text.replace("index 12\n", "index 12\n" + "A" * 43 + "=\n" * 1 + ("A" * 43 + "=\n") * 63), "32-byte hashes"),
        (lambda text: text.replace("index 12\n", "index 12\n" + "A" * 42 + "B=\n"), "canonical base64"),
        (lambda text: text[: text.index("\n\n")], "first lines"),
        (lambda text: text + "more", "checkpoint is malformed"),
        (lambda text: with_extra(text, "!"), "should be base64"),
        (lambda text: with_extra(text, ""), "should be base64"),
        (lambda text: with_extra(text, base64.b64encode(b"{} ").decode()), "not a canonical record"),
        (lambda text: with_extra(text, base64.b64encode(b"[]").decode()), "other fields"),
        (lambda text: with_extra(text, extra_of(v=2)), "other fields"),
        (lambda text: with_extra(text, extra_of(v=True)), "other fields"),
        (lambda text: with_extra(text, extra_of(entry=7)), "other fields"),
        (lambda text: with_extra(text, extra_of(entry="x" * 65_536)), "other fields"),
        (lambda text: with_extra(text, extra_of(more=1)), "other fields"),
        (lambda text: with_extra(text, extra_of(sm3={})), "other fields"),
        (lambda text: with_extra(text, extra_of(sm3=[7])), "should be base64"),
    ],
)  # fmt: skip
def test_a_malformed_receipt_is_refused_and_told_why(export, change, why):
    with pytest.raises(InclusionError, match=why) as caught:
        parse_receipt(change(export.receipts[12]))
    assert caught.value.code == "ledger.inclusion.malformed"


def with_extra(text, extra):
    lines = text.split("\n")
    lines[1] = f"extra {extra}"
    return "\n".join(lines)


def test_bytes_that_are_no_text_make_no_receipt(export):
    with pytest.raises(InclusionError, match="its entry is not text"):
        build_receipt(b"\xff", 0, export.proofs[0], export.checkpoints[0])


# --- level 0 ---


def test_an_honest_log_passes_and_says_how_far_it_is_covered(export):
    facts = verify_log(iter(export.leaves), iter(export.checkpoints), trusted())
    assert (facts.size, facts.covered, facts.checkpoints, facts.held_size) == (20, 20, 3, None)
    assert facts.roots == export.ledger_roots
    facts = verify_log(export.leaves, export.checkpoints[:2], trusted(), export.checkpoints[0])
    assert (facts.size, facts.covered, facts.checkpoints, facts.held_size) == (20, 13, 2, 5)
    facts = verify_log(export.leaves, export.checkpoints[:1], trusted(), export.checkpoints[2])
    assert facts.covered == 20
    twice = verify_log(export.leaves, [export.checkpoints[1], *export.checkpoints[1:]], trusted())
    assert twice.checkpoints == 3


def test_a_log_without_a_cosigned_checkpoint_proves_nothing(export):
    with pytest.raises(CheckpointError, match="there is no cosigned checkpoint") as caught:
        verify_log(export.leaves, [], trusted())
    assert caught.value.code == "ledger.checkpoint.none"
    with pytest.raises(CheckpointError, match="is not cosigned"):
        verify_log(export.leaves, export.checkpoints, trusted(witness_keys=()))
    with pytest.raises(CheckpointError, match="is of the log"):
        verify_log(export.leaves, export.checkpoints, trusted(origin="x"))


def test_checkpoints_come_in_the_order_of_their_sizes(export):
    with pytest.raises(CheckpointError, match="not in the order of their sizes"):
        verify_log(export.leaves, [export.checkpoints[1], export.checkpoints[0]], trusted())


def test_a_log_shorter_than_a_checkpoint_was_cut_off(export):
    for size in (19, 13, 0):
        with pytest.raises(ConsistencyError, match=f"the log has {size} entries, and 20 were cosigned") as caught:
            verify_log(export.leaves[:size], export.checkpoints[2:], trusted())
        assert caught.value.code == "ledger.consistency.cut_off"
        assert caught.value.details["checkpoint"] == export.checkpoints[2]
    with pytest.raises(ConsistencyError, match="the log has 15 entries, and 20 were cosigned"):
        verify_log(export.leaves[:15], export.checkpoints[:2], trusted(), export.checkpoints[2])


def test_a_leaf_too_large_to_be_an_entry_is_refused(export):
    with pytest.raises(InclusionError, match="is not an entry"):
        verify_log([b"x" * 65_536], export.checkpoints, trusted())


# --- level 1 ---


def test_an_auditor_folds_the_same_state(export):
    assert state_digest(fold_log(export.leaves)) == state_digest(export.state)


def test_an_entry_that_was_not_allowed_is_named(export):
    for leaves, place, message in (
        ([*export.leaves[:7], *export.leaves[8:]], "entry 7", "entry 8 came where entry 7 belongs"),
        ([*export.leaves[:3], b"{}"], "entry 3", "unknown or missing fields"),
        ([*export.leaves, overspending(20)], "entry 20", "does not cover|this job was submitted before"),
    ):
        with pytest.raises(LedgerError, match=message) as caught:
            fold_log(leaves)
        assert (caught.value.code, caught.value.details["place"]) == ("ledger.replay", place)
        assert caught.value.details["cause"]["code"]


def overspending(seq):
    return Entry(seq, city.START, K.JOB_SUBMITTED, city.SANDBOX.key_id, city.submitting(JOB)).to_bytes()


def test_drafts_are_plain_values():
    assert Draft(K.POLICY_ADOPTED, "a", {}, city.START) == Draft(K.POLICY_ADOPTED, "a", {}, city.START)
