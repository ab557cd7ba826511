"""The vault check looks at the log's own files too: documents that it names, checkpoints that it keeps."""

from pathlib import Path

import pytest

from sandbox.jobs.keeping import broken_checkpoints, missing_documents
from tests.conftest import World
from tests.support.line_world import Told, saggar

pytestmark = pytest.mark.slow


def check(world: World, files: Path, code: int) -> Told:
    told = saggar("--state", world.state, "vault", "check", cwd=files)
    assert told.code == code, told.err + told.out
    return told


def test_a_document_of_the_log_that_is_gone_is_a_fault(world: World, tmp_path: Path) -> None:
    world.run()
    documents = sorted((world.state / "documents" / "objects").iterdir())
    named = [path for path in documents if is_named(world, path.name)]
    assert len(named) > 6
    with world.engine() as engine:
        assert list(missing_documents(engine)) == []
        for path in named:
            held = path.read_bytes()
            path.unlink()
            assert f"documents/objects/{path.name}" in {fault.object for fault in missing_documents(engine)}
            path.write_bytes(held)
    first = named[0]
    first.unlink()
    told = check(world, tmp_path, 6)
    assert "vault.seal_broken.missing" in told.err
    assert f"the document `documents/objects/{first.name}`, which entry " in told.err


def test_a_kept_checkpoint_that_changed_is_a_fault(world: World, tmp_path: Path) -> None:
    world.run()
    with world.engine() as engine:
        notes = list(engine.ledger.checkpoints())
        assert len(notes) > 2
        assert list(broken_checkpoints(engine)) == []
    ledger = next(world.state.rglob("ledger.sqlite"))
    held = ledger.read_bytes()
    for place in (notes[1].index("\n") + 1, notes[1].rindex("=") - 9):
        # Another size, and another cosignature.
        word = notes[1][place : place + 8].encode()
        assert held.count(word) >= 1
        ledger.write_bytes(held.replace(word, bytes([word[0] ^ 1]) + word[1:]))
        with world.engine() as engine:
            assert {fault.code for fault in broken_checkpoints(engine)} == {"ledger.checkpoint.kept"}
        assert "checkpoint 2 that the log keeps is not what was signed" in check(world, tmp_path, 6).err
    ledger.write_bytes(held)
    check(world, tmp_path, 0)


def is_named(world: World, name: str) -> bool:
    """Whether an entry of the log, or a transcript that one names, has a document's digest in it."""
    with world.records() as records:
        entries = b"".join(entry.to_bytes() for entry in records.ledger.entries(0, records.ledger.size))
    there = (world.state / "documents" / "objects").iterdir()
    return name.encode() in entries + b"".join(path.read_bytes() for path in there)
