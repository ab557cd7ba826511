"""The state directory: made once, held by one, written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.crypto.keys import generate_key
from sandbox.errors import (
    InputError,
    KeyUnavailableError,
    LayerMissingError,
    SealBrokenError,
    StateBusyError,
    StateUnsafeError,
    StorageError,
)
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import digest_of
from sandbox.model.keys import Role, SuiteName
from sandbox.runtime.host.report import Level
from sandbox.service import compose
from sandbox.service.clock import SystemClock
from sandbox.service.compose import initialise, open_engine, open_records, register_key, trust_record, unlock_named
from sandbox.service.config import Layout, StateConfig
from sandbox.service.documents import DocumentDirectory
from sandbox.service.files import write_durably
from sandbox.service.state_lock import hold_state
from tests.conftest import PASSPHRASE
from tests.support.line_world import ROOT, files_below


def make(directory):
    initialise(directory, suite=SuiteName.INTL, passphrase=PASSPHRASE, origin="unit.example/log")


def test_a_new_state_directory_is_its_owners_alone_and_already_cosigned(tmp_path):
    make(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    with open_records(tmp_path / "state") as records:
        assert [entry.kind.value for entry in records.ledger.entries()] == [
            "log.opened",
            "key.registered",
            "policy.adopted",
        ]
        assert len(list(records.ledger.checkpoints())) == 1
        record = trust_record(records)
    assert record["origin"] == "unit.example/log"
    assert sorted(key["role"] for key in record["keys"]) == ["sandbox", "witness"]


def test_a_state_directory_is_never_made_over(tmp_path):
    (tmp_path / "precious").write_text("keep me")
    with pytest.raises(StateUnsafeError, match="is not empty") as refused:
        make(tmp_path)
    assert refused.value.code == "ledger.state.exists"
    assert (tmp_path / "precious").read_text() == "keep me"


def test_a_state_directory_in_memory_is_refused():
    if not Path("/dev/shm").is_dir():
        pytest.skip("this machine has no /dev/shm")
    target = Path("/dev/shm") / f"saggar-test-{os.getpid()}"
    try:
        with pytest.raises(StateUnsafeError, match="is on a memory file system") as refused:
            make(target)
        assert refused.value.code == "ledger.state.memory_file_system"
        assert not files_below(target)
    finally:
        if target.exists():
            target.rmdir()


def test_a_directory_that_is_no_state_directory_is_told_with_what_to_do(tmp_path):
    with pytest.raises(StateUnsafeError, match="is not a saggar state directory") as refused, open_records(tmp_path):
        pass
    assert refused.value.code == "ledger.state.not_initialised"
    assert "saggar --state DIR init" in refused.value.hint


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b'{"v":1}', b'{"demo":false,"origin":"x","suite":"rot13","v":1}'])
def test_damaged_choices_are_told(tmp_path, damage):
    (tmp_path / "saggar.json").write_bytes(damage)
    with pytest.raises(StateUnsafeError, match=r"`saggar\.json` is damaged"):
        StateConfig.read(Layout(tmp_path))


def test_choices_come_back_as_they_were_written(tmp_path):
    chosen = StateConfig("some.example/log", SuiteName.INTL, demo=True)
    chosen.write(Layout(tmp_path))
    assert StateConfig.read(Layout(tmp_path)) == chosen


def test_a_wrong_passphrase_opens_nothing(world):
    with (
        pytest.raises(KeyUnavailableError) as refused,
        open_engine(world.state, passphrase="wrong", purpose="test", wait_s=0),
    ):
        pass
    assert refused.value.code == "vault.key_unavailable.wrong_passphrase"
    with world.engine():
        pass  # and the lock was let go


def test_a_key_that_is_not_here_is_told_with_who_must_act(world):
    with pytest.raises(KeyUnavailableError, match="there is no key file for `nobody` here") as refused:
        unlock_named(world.state, "nobody", PASSPHRASE)
    assert refused.value.code == "vault.key_unavailable.no_file"


def test_a_name_or_a_key_is_registered_once(world):
    with world.engine() as engine:
        size = engine.ledger.size
        for key in (
            generate_key("auditor", Role.AUDITOR, SuiteName.GM).public,
            unlock_named(world.state, "health", PASSPHRASE).public,
        ):
            with pytest.raises(InputError, match="is registered already") as refused:
                register_key(engine, key)
            assert refused.value.code == "input.key_known"
        assert engine.ledger.size == size


def test_one_process_holds_the_state_and_another_is_told_who(tmp_path):
    with (
        hold_state(tmp_path, purpose="ingest", wait_s=0),
        pytest.raises(StateBusyError, match=rf"process {os.getpid()}, `ingest`") as refused,
        hold_state(tmp_path, purpose="submit", wait_s=0),
    ):
        pass
    assert refused.value.code == "service.state_busy"
    with hold_state(tmp_path, purpose="submit", wait_s=0):
        pass


def test_the_kernel_lets_the_state_go_when_its_holder_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from sandbox.service.state_lock import hold_state\n"
        "with hold_state(Path(sys.argv[1]), purpose='held', wait_s=0):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateBusyError, match="`held`"), hold_state(tmp_path, purpose="x", wait_s=0):
            pass
        holder.kill()
        holder.wait()
    with hold_state(tmp_path, purpose="x", wait_s=0):
        pass


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_durably(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "broken disk")))
        with pytest.raises(StorageError, match="`file` cannot be written: input/output error") as refused:
            write_durably(path, b"new")
    assert refused.value.code == "vault.storage"
    assert files_below(tmp_path) == {"file": b"old"}
    write_durably(path, b"new")
    assert files_below(tmp_path) == {"file": b"new"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_where_a_directory_should_be_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_durably(tmp_path / "file" / "below", b"x")


def test_documents_are_found_by_digest_and_a_changed_one_is_refused(tmp_path):
    documents = DocumentDirectory(tmp_path)
    digest = documents.put("一份文件".encode())
    assert digest == digest_of("一份文件".encode())
    assert documents.put("一份文件".encode()) == digest
    assert documents.get(digest) == "一份文件".encode()
    (path,) = (tmp_path / "objects").iterdir()
    path.write_bytes(b"something else")
    with pytest.raises(SealBrokenError, match="was changed on disk") as refused:
        documents.get(digest)
    assert refused.value.details["object"] == digest
    with pytest.raises(StorageError, match="is not in the store"):
        documents.get(digest_of(b"never put"))


@pytest.mark.parametrize("name", ["../../saggar.json", "sm3:../../../etc/passwd", "sm3:" + "G" * 64, "", "sm3:"])
def test_a_document_has_no_other_name_than_a_digest(tmp_path, name):
    from sandbox.errors import SaggarError

    with pytest.raises(SaggarError):
        DocumentDirectory(tmp_path).get(name)


def test_the_clock_says_utc_in_whole_seconds_and_waits(monkeypatch):
    import re

    clock = SystemClock()
    assert re.fullmatch(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z", clock.now())
    goal = clock.monotonic_s() + 0.02
    clock.sleep_until_s(goal)
    assert clock.monotonic_s() >= goal
    clock.sleep_until_s(goal - 10)


class Thin:
    """Walls that only say which level they were asked for."""

    asked: list

    def __init__(self, *, least):
        self.asked.append(least)

    def start(self):
        raise LayerMissingError("this machine isolates programs at level standard, below full", hint="use another one")

    def close(self):
        pass


def test_the_least_level_that_was_chosen_is_asked_of_the_walls_and_a_thinner_machine_refused(tmp_path, monkeypatch):
    initialise(
        tmp_path / "state", suite=SuiteName.INTL, passphrase=PASSPHRASE, origin="unit.example/log", least=Level.FULL
    )
    Thin.asked = []
    monkeypatch.setattr(compose, "GuestHost", Thin)
    with open_records(tmp_path / "state") as records, pytest.raises(LayerMissingError, match="below full"):
        records.guests()
    opened = open_engine(tmp_path / "state", passphrase=PASSPHRASE, purpose="test", wait_s=0)
    with opened as engine, pytest.raises(LayerMissingError, match="below full"):
        engine.guests()
    assert Thin.asked == [Level.FULL, Level.FULL]


@pytest.mark.parametrize("name", ["floor", "none", "FULL", "", 3, None])
def test_a_least_level_that_is_none_is_refused(tmp_path, name):
    make(tmp_path / "state")
    layout = Layout(tmp_path / "state")
    record = parse_canonical(layout.config.read_bytes())
    layout.config.write_bytes(canonical_bytes({**record, "least_isolation": name}))
    with pytest.raises(StateUnsafeError, match="the least level of isolation is not understood") as refused:
        StateConfig.read(layout)
    assert refused.value.code == "ledger.state.isolation"
    assert "`standard`, `full`" in refused.value.hint
