"""Laws of trees, notes and receipts, for any data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.errors import CheckpointError, ConsistencyError, InclusionError, SaggarError
from sandbox.ledger import merkle
from sandbox.ledger.bundle import build_manifest, verify_bundle
from sandbox.ledger.checkpoint import parse_checkpoint
from sandbox.ledger.merkle import HASH_NAMES
from sandbox.ledger.note import parse_note
from sandbox.ledger.receipt import parse_receipt
from sandbox.ledger.table import Table
from tests.support import ledger_world as city

LEAVES = st.lists(st.binary(max_size=20), min_size=1, max_size=40)


def tree_of(leaves, name):
    nodes = {}
    for index, leaf in enumerate(leaves):
        for node in merkle.new_nodes(index, merkle.leaf_hash(leaf, name), lambda *at: nodes[at], name):
            nodes[node.level, node.index] = node.value
    return lambda level, index: nodes[level, index]


@settings(max_examples=60, deadline=None)
@given(LEAVES, st.data(), st.sampled_from(HASH_NAMES))
def test_a_proof_holds_for_its_own_leaf_and_for_no_other_data(leaves, data, name):
    read, size = tree_of(leaves, name), len(leaves)
    index = data.draw(st.integers(0, size - 1))
    root, proof = merkle.root_at(size, read, name), merkle.prove_inclusion(index, size, read, name)
    merkle.verify_inclusion(merkle.leaf_hash(leaves[index], name), index, size, proof, root, name)
    other = data.draw(st.binary(max_size=70).filter(lambda value: value != leaves[index]))
    with pytest.raises(InclusionError):
        merkle.verify_inclusion(merkle.leaf_hash(other, name), index, size, proof, root, name)


@settings(max_examples=60, deadline=None)
@given(LEAVES, st.data(), st.sampled_from(HASH_NAMES))
def test_a_log_with_one_old_leaf_changed_is_never_consistent(leaves, data, name):
    size = len(leaves)
    old = data.draw(st.integers(1, size))
    place = data.draw(st.integers(0, old - 1))
    forged = [*leaves[:place], leaves[place] + b"!", *leaves[place + 1 :]]
    honest, lying = tree_of(leaves, name), tree_of(forged, name)
    old_root = merkle.root_at(old, honest, name)
    merkle.verify_consistency(
        old, size, old_root, merkle.root_at(size, honest, name), merkle.prove_consistency(old, size, honest, name), name
    )
    for proof in (merkle.prove_consistency(old, size, lying, name), merkle.prove_consistency(old, size, honest, name)):
        with pytest.raises(ConsistencyError):
            merkle.verify_consistency(old, size, old_root, merkle.root_at(size, lying, name), proof, name)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_note_that_reads_back_or_is_refused(text):
    for note in (text, f"{text}\n\n— a MTIzNDU=\n"):
        try:
            parsed = parse_note(note)
        except CheckpointError:
            continue
        assert parsed.to_text() == note


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused_as_checkpoint_and_receipt_by_our_own_errors(text):
    for parse in (parse_checkpoint, parse_receipt):
        for form in (text, f"c2sp.org/tlog-proof@v1\nextra {text}\nindex 0\n\n{text}"):
            with pytest.raises(SaggarError):
                parse(form)


PATHS = st.text("abc/é文", min_size=1, max_size=8).filter(lambda path: all(path.split("/")))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(PATHS, st.binary(max_size=30), max_size=5), st.data())
def test_a_bundle_verifies_and_with_any_one_change_names_the_file(files, data):
    whole = files | build_manifest(files, city.sandbox_key(), city.START)
    trusted = (city.sandbox_key().public,)
    assert verify_bundle(whole, trusted).paths == tuple(sorted(files))
    path = data.draw(st.sampled_from(sorted(whole)))
    place = data.draw(st.integers(0, len(whole[path])))
    changed = whole[path][:place] + data.draw(st.binary(min_size=1, max_size=3)) + whole[path][place:]
    for broken in ({name: raw for name, raw in whole.items() if name != path}, whole | {path: changed}):
        with pytest.raises(SaggarError) as caught:
            verify_bundle(broken, trusted)
        assert caught.value.details["place"] == path


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers()), max_size=120))
def test_a_table_is_a_dictionary_at_every_moment(steps):
    table, model, history = Table(), {}, []
    for key, value in steps:
        history.append((table, dict(model)))
        table, model[key] = table.with_item(key, value), value
    for past, expected in [*history, (table, model)]:
        assert dict(past) == expected
        assert len(past) == len(expected)
