"""The log on disk under stress: damage, full disks, busy neighbours, forks, and where it may live."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import PurePosixPath

import pytest

from sandbox.errors import (
    BudgetExhaustedError,
    StateBusyError,
    StateUnsafeError,
    StorageError,
)
from sandbox.ledger import database, filesystem
from sandbox.ledger.database import FILE_NAME
from sandbox.ledger.filesystem import check_file_system, file_system_of
from sandbox.ledger.store import Draft, Ledger
from sandbox.ledger.verify import fold_log
from sandbox.model.entry import EntryKind
from sandbox.model.loss import PrivacyLoss
from tests.support import ledger_world as city

K = EntryKind
JOB = city.digest("job 1")
ME = city.SANDBOX.key_id


def test_every_connection_is_durable(tmp_path, ledger):
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for weaker in ("synchronous = NORMAL", "synchronous = OFF"):
        ledger._connection.execute(f"PRAGMA {weaker}")
        with pytest.raises(StateUnsafeError, match="would not be durable") as caught:
            database.check_durable(ledger._connection)
        assert caught.value.code == "ledger.state.not_durable"


def test_rows_can_be_neither_changed_nor_deleted_nor_replaced(tmp_path, ledger):
    ledger.keep_checkpoint(city.cosigned(ledger))
    for statement in (
        "UPDATE entries SET raw = x'00' WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 5",
        "INSERT OR REPLACE INTO entries VALUES (3, x'00')",
        "INSERT INTO entries VALUES (9, x'00')",
        "UPDATE nodes SET sm3 = x'00'",
        "DELETE FROM nodes",
        "UPDATE checkpoints SET note = ''",
        "DELETE FROM checkpoints",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="are append-only"):
            ledger._connection.execute(statement)
    assert ledger.size == 6
    assert os.stat(tmp_path / "state" / FILE_NAME).st_mode & 0o077 == 0


def tampered(directory, *statements):
    connection = sqlite3.connect(directory / FILE_NAME)
    for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET raw = CAST(replace(CAST(raw AS TEXT), 'hospital', 'hospitaI') AS BLOB) WHERE seq = 4",
        "UPDATE nodes SET sm3 = zeroblob(32) WHERE level = 2 AND idx = 0",
        "UPDATE nodes SET sha256 = zeroblob(32) WHERE level = 1 AND idx = 2",
        "DELETE FROM nodes WHERE level = 2 AND idx = 0",
    ],
)
def test_a_changed_row_is_found_by_rebuilding_the_tree(tmp_path, statement):
    city.create(tmp_path).close()
    with Ledger.open(tmp_path) as ledger:
        city.found(ledger)
    tampered(tmp_path, statement)
    with pytest.raises(StateUnsafeError, match="the ledger is damaged") as caught, Ledger.open(tmp_path) as ledger:
        ledger.check_tree()
    assert caught.value.code == "ledger.state.damaged"


def test_an_entry_that_was_never_allowed_stops_the_opening(tmp_path, ledger):
    city.run_line(ledger, JOB)
    ledger.close()
    tampered(tmp_path / "state", "DELETE FROM entries WHERE seq = 8")
    with pytest.raises(StateUnsafeError, match="entry 8 is not one that this ledger could have appended"):
        Ledger.open(tmp_path / "state")


def test_a_file_that_is_no_database_is_damaged_and_none_is_not_initialised(tmp_path):
    with pytest.raises(StateUnsafeError, match="there is no ledger here") as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "ledger.state.not_initialised"
    (tmp_path / FILE_NAME).write_bytes(b"")
    with pytest.raises(StateUnsafeError, match="was never initialised") as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "ledger.state.not_initialised"
    city.create(tmp_path).close()  # a creation that was cut short is taken up again
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 500)
    for rest in ("-wal", "-shm"):
        (tmp_path / (FILE_NAME + rest)).unlink(missing_ok=True)
    with pytest.raises(StateUnsafeError, match="database is damaged") as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "ledger.state.damaged"


def test_a_ledger_is_never_created_over_another(tmp_path, ledger):
    with pytest.raises(StateUnsafeError, match="there is a ledger here already") as caught:
        city.create(tmp_path / "state")
    assert caught.value.code == "ledger.state.exists"
    assert ledger.size == 6


def test_a_full_database_refuses_and_keeps_what_was_there(ledger):
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    drafts = [Draft(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START)] * 200
    with pytest.raises(StorageError, match="the disk refused to write the ledger") as caught:
        ledger.append_all(drafts)
    assert caught.value.code == "vault.storage.ledger"
    assert ledger.size == 6
    ledger.check_tree()
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    assert len(ledger.append_all(drafts)) == 200


def test_a_file_size_limit_stops_appends_and_a_later_opening_finds_a_valid_log(tmp_path, ledger):
    ledger.close()
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from sandbox.errors import StorageError\n"
        "import sandbox.ledger.store as store\n"
        "store.read_mounts = lambda: ''\n"
        "from sandbox.model.entry import EntryKind\n"
        "ledger = store.Ledger.open(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "count = 0\n"
        "try:\n"
        "    for count in range(1, 2000):\n"
        "        ledger.append(EntryKind.POLICY_ADOPTED, sys.argv[2], {'policy': sys.argv[3]}, sys.argv[4])\n"
        "except StorageError as error:\n"
        "    print(error.code, count)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state"), ME, city.POLICY, city.START],
        capture_output=True,
        text=True,
        check=True,
    )
    code, count = done.stdout.split()
    assert code == "vault.storage.ledger"
    with Ledger.open(tmp_path / "state") as again:
        assert again.size >= 6 + int(count) - 1
        again.check_tree()
        fold_log(again.leaves())


def test_a_directory_that_may_not_be_written_is_a_storage_error(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="the disk refused"):
        city.create(tmp_path / "state")


def test_a_busy_ledger_says_so(tmp_path, ledger):
    ledger._connection.execute("PRAGMA busy_timeout = 1")
    blocker = sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateBusyError, match="another process holds the ledger"):
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START).seq == 6


def test_a_commit_that_fails_leaves_the_state_where_the_disk_is(ledger, monkeypatch):
    monkeypatch.setattr("sandbox.ledger.store.apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START)
    monkeypatch.undo()
    assert ledger.size == 6
    assert ledger.append(K.POLICY_ADOPTED, ME, {"policy": city.POLICY}, city.START).seq == 6


def test_threads_share_one_ledger_and_never_overspend(ledger):
    refused = []

    def spend(name):
        for number in range(5):
            job = city.digest(f"{name} {number}")
            try:
                for kind, body in city.line_of(job)[:3]:
                    ledger.append(kind, ME, body, city.START)
            except BudgetExhaustedError:
                refused.append(job)

    threads = [threading.Thread(target=spend, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 11
    assert ledger.state().accounts[city.ACCOUNTS[0]].pending == PrivacyLoss(Fraction(4))
    ledger.check_tree()


def test_a_ledger_carried_into_a_fork_is_refused(ledger, monkeypatch):
    monkeypatch.setattr(ledger, "_process", os.getpid() + 1)
    with pytest.raises(StateUnsafeError, match="carried into a forked process") as caught:
        ledger.state()
    assert caught.value.code == "ledger.state.forked"
    ledger.close()
    monkeypatch.undo()
    assert ledger.size == 6


# --- where a state directory may be ---

MOUNTS = (
    "/dev/vda / ext4 rw,relatime 0 0\n"
    "tmpfs /run tmpfs rw 0 0\n"
    "tmpfs /with\\040space tmpfs rw 0 0\n"
    "/dev/vdb /run/disk xfs rw 0 0\n"
    "server:/x /home nfs4 rw 0 0\n"
    "ramfs /stacked ramfs rw 0 0\n"
    "/dev/vdc /stacked ext4 rw 0 0\n"
    "broken\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/saggar", "ext4"),
        ("/run/saggar", "tmpfs"),
        ("/runner", "ext4"),
        ("/run/disk/saggar", "xfs"),
        ("/with space/state", "tmpfs"),
        ("/stacked/state", "ext4"),
        ("/home/me", "nfs4"),
    ],
)
def test_the_nearest_and_last_mount_decides(path, kind):
    assert file_system_of(PurePosixPath(path), MOUNTS) == kind
    assert file_system_of(PurePosixPath(path), "") == ""


@pytest.mark.parametrize(
    ("kind", "code"), [("tmpfs", "memory"), ("ramfs", "memory"), ("nfs4", "network"), ("cifs", "network")]
)
def test_a_state_directory_in_memory_or_on_a_network_is_refused(tmp_path, monkeypatch, kind, code):
    mounts = f"/dev/vda / ext4 rw 0 0\nx {tmp_path} {kind} rw 0 0\n"
    with pytest.raises(StateUnsafeError, match=f"is on a {code} file system \\(`{kind}`\\)") as caught:
        check_file_system(tmp_path / "state", mounts)
    assert caught.value.code == f"ledger.state.{code}_file_system"
    monkeypatch.setattr("sandbox.ledger.store.read_mounts", lambda: mounts)
    for call in (city.create, Ledger.open):
        with pytest.raises(StateUnsafeError):
            call(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_kernels_list_of_mounts_is_read_where_there_is_one(monkeypatch, tmp_path):
    (tmp_path / "mounts").write_text("tmpfs / tmpfs rw 0 0\n")
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "mounts")
    assert filesystem.read_mounts() == "tmpfs / tmpfs rw 0 0\n"
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "none")
    assert filesystem.read_mounts() == ""


def test_a_directory_that_others_may_write_is_refused(tmp_path, ledger):
    (tmp_path / "state").chmod(0o770)
    for call in (Ledger.open, city.create):
        with pytest.raises(StateUnsafeError, match="may be written by others") as caught:
            call(tmp_path / "state")
        assert caught.value.code == "ledger.state.permissions"
    (tmp_path / "state").chmod(0o700)


def test_a_closed_ledger_says_so(ledger):
    ledger.close()
    ledger.close()
    with pytest.raises(StateUnsafeError, match="the ledger is closed") as caught:
        ledger.state()
    assert caught.value.code == "ledger.state.closed"
