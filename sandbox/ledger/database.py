"""How the ledger speaks to SQLite: durable connections, one writer at a time, faults turned into our errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import SaggarError, StateBusyError, StateUnsafeError, StorageError

FILE_NAME = "ledger.sqlite"
BUSY_TIMEOUT_MS = 20_000
_FULL = 2  # PRAGMA synchronous

# Entries and nodes are only ever added, in order; the triggers stop mistakes, the witness stops malice.
_SCHEMA = (
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL) STRICT",
    """CREATE TABLE nodes (level INTEGER NOT NULL, idx INTEGER NOT NULL, sm3 BLOB NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID""",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
    *(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        for table in ("entries", "nodes", "checkpoints")
        for verb in ("UPDATE", "DELETE")
    ),
    """CREATE TRIGGER entries_in_order BEFORE INSERT ON entries
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, 0) FROM entries)
    BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
)


def connect(directory: Path, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection whose commits are durable when they return; asserted, not hoped.

    Raises:
        StateUnsafeError: there is no database, or it will not be durable.
    """
    mode = "ro" if read_only else "rw"
    uri = f"{(directory / FILE_NAME).resolve().as_uri()}?mode={mode}"
    with translated():
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        with translated():
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA recursive_triggers = ON")  # so that INSERT OR REPLACE meets the DELETE trigger
            connection.execute("PRAGMA trusted_schema = OFF")
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            check_durable(connection)
    except SaggarError:
        connection.close()
        raise
    return connection


def check_durable(connection: sqlite3.Connection) -> None:
    """Raise `StateUnsafeError` unless the connection writes ahead and syncs before a commit returns."""
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if journal != "wal" or synchronous != _FULL:
        raise StateUnsafeError(
            "the database would not be durable",
            hint="keep the state on a local disk where SQLite can use its write-ahead log",
            code="ledger.state.not_durable",
            journal_mode=str(journal),
            synchronous=str(synchronous),
        )


def create_file(directory: Path) -> None:
    """Make the directory and an empty database file, both for the owner alone; what exists is left as it is."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(directory / FILE_NAME, os.O_CREAT | os.O_RDWR, 0o600))
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _storage() from error


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables inside the caller's transaction."""
    for statement in _SCHEMA:
        connection.execute(statement)


def has_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there."""
    row = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'entries'").fetchone()
    return bool(row[0])


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: everything in the block becomes durable, or nothing of it stays."""
    with translated():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction: everything in the block sees the same log."""
    with translated():
        connection.execute("BEGIN")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's faults into errors that a person can act on."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake of ours, not of the disk
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise StateBusyError(
                "another process holds the ledger", hint="try again; if it lasts, see which process is stuck"
            ) from error
        if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}:
            raise _storage() from error
        if code == sqlite3.SQLITE_CANTOPEN:
            raise StateUnsafeError(
                "there is no ledger here, or it may not be opened",
                hint="run `saggar init`, or check who owns the state directory",
                code="ledger.state.not_initialised",
            ) from error
        raise StateUnsafeError(
            "the ledger's database is damaged",
            hint="stop, keep the files as they are, and restore the last backup beside them",
            code="ledger.state.damaged",
        ) from error


def _storage() -> StorageError:
    return StorageError(
        "the disk refused to write the ledger",
        hint="free space or make the state directory writable; what was recorded before is still there",
        code="vault.storage.ledger",
    )
