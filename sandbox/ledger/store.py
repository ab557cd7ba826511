"""The log on disk: one writer at a time over SQLite, durable before it answers, safe with many processes and threads.

An append is one transaction: take the write lock, fold in what others appended since, ask `account.apply` whether the
entry is allowed, write the entry and the perfect nodes that it completes in both trees, commit.  So two processes can
never both spend the last of a budget, and whatever was answered survives the power.

When a commit fails (full disk, torn I/O) the caller gets an error and the state in memory is as before; the next call
reads from the disk what is really there.  An entry that was not acknowledged may then turn out to be in the log:
that can waste budget and never gives it back.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sandbox.errors import LedgerError, StateUnsafeError
from sandbox.ledger import merkle
from sandbox.ledger.account import EMPTY, State, apply
from sandbox.ledger.bodies import check_time
from sandbox.ledger.checkpoint import Checkpoint, check_origin, parse_checkpoint
from sandbox.ledger.database import connect, create_file, create_schema, has_schema, reading, writing
from sandbox.ledger.filesystem import check_file_system, check_permissions, read_mounts
from sandbox.ledger.merkle import HASH_NAMES, Proofs, ReadNode, Roots
from sandbox.model.digest import HashName
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.keys import PublicKey, SuiteName

MAX_SKEW_S = 120
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that has no number yet; `at` is when it happened, as the caller's clock says."""

    kind: EntryKind
    actor: str
    body: dict[str, Any]
    at: str


class Ledger:
    """An open ledger.  Safe to share between threads; a forked child must open its own."""

    def __init__(self, connection: sqlite3.Connection, *, read_only: bool) -> None:
        """Not for callers: use `create` or `open`."""
        self._connection = connection
        self._read_only = read_only
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._closed = False
        self._state = EMPTY
        self._offered: list[str] = []

    @classmethod
    def create(
        cls, directory: Path, *, origin: str, suite: SuiteName, key: PublicKey, versions: dict[str, str], at: str
    ) -> Ledger:
        """Create a ledger and append `log.opened`, in one transaction.

        Args:
            directory: made if missing; on a local disk, not writable by others.
            origin: the log's name on its checkpoints, as `example.org/saggar`.
            suite: the sandbox's suite.
            key: the sandbox's public key.
            versions: names and versions of the software that opens the log.
            at: the time, UTC, `YYYY-MM-DDTHH:MM:SSZ`.

        Raises:
            StateUnsafeError: `ledger.state.exists`, or the directory cannot keep a promise.
        """
        check_origin(origin)
        check_file_system(directory, read_mounts())
        create_file(directory)
        check_permissions(directory)
        ledger = cls(connect(directory, read_only=False), read_only=False)
        try:
            with ledger._lock, writing(ledger._connection):
                if has_schema(ledger._connection):
                    raise StateUnsafeError(
                        "there is a ledger here already",
                        hint="open it, or choose an empty directory",
                        code="ledger.state.exists",
                    )
                create_schema(ledger._connection)
                body = {"origin": origin, "suite": suite.value, "key": key.to_record(), "versions": versions}
                state, _ = ledger._add(EMPTY, Draft(EntryKind.LOG_OPENED, key.key_id, body, at))
            ledger._state = state
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open(cls, directory: Path, *, read_only: bool = False) -> Ledger:
        """Open an existing ledger and fold its entries.

        Raises:
            StateUnsafeError: `ledger.state.*`: none here, damaged, or the directory cannot keep a promise.
        """
        check_file_system(directory, read_mounts())
        ledger = cls(connect(directory, read_only=read_only), read_only=read_only)
        try:
            check_permissions(directory)
            with ledger._reading():
                pass
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        with self._lock:
            if self._process == os.getpid():
                self._closed = True
                self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, kind: EntryKind, actor: str, body: dict[str, Any], at: str) -> Entry:
        """Append one entry, durably, if the state allows it.

        A time up to two minutes earlier than the last entry's is lifted to it: several processes wait for one lock.

        Raises:
            BudgetExhaustedError, TransitionError, ExpiredError, LedgerError: `account.apply` does not allow it.
            StateBusyError: another process held the lock for too long.
            StorageError: the disk refused; nothing was acknowledged.
        """
        return self.append_all([Draft(kind, actor, body, at)])[0]

    def append_all(self, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        """Append several entries in one commit: all of them or none. Raises as `append` does."""
        with self._lock:
            self._check_writable()
            entries: list[Entry] = []
            with writing(self._connection):
                state = self._state = self._caught_up()
                for draft in drafts:
                    state, entry = self._add(state, draft)
                    entries.append(entry)
                for note in self._offered:
                    self._insert_checkpoint(note)
            self._state = state
            self._offered.clear()
        return tuple(entries)

    @property
    def size(self) -> int:
        """How many entries there are now."""
        return self.state().size

    def state(self) -> State:
        """Return the state after every entry that is in the log now; it never changes under your hands."""
        with self._reading():
            return self._state

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Yield the entries from `start` up to `stop`, in order; what is appended meanwhile is left out."""
        for raw in self.leaves(start, stop):
            yield Entry.parse(raw)

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of the entries from `start` up to `stop`, as they were hashed."""
        end = self.size if stop is None else min(stop, self.size)
        for first in range(start, end, _PAGE):
            with self._reading():
                page = self._connection.execute(
                    "SELECT raw FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (first, min(first + _PAGE, end))
                ).fetchall()
            yield from (raw for (raw,) in page)

    def leaf(self, seq: int) -> bytes:
        """Return the bytes of one entry, or raise `InclusionError`."""
        for raw in self.leaves(seq, seq + 1) if seq >= 0 else ():
            return raw
        raise merkle.not_in_tree(seq, self.size)

    def roots(self, size: int | None = None) -> Roots:
        """Return both roots over the first `size` entries (all of them by default)."""
        with self._reading():
            return self._roots(self._checked_size(size))

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Return the unsigned head at `size` (now by default)."""
        with self._reading():
            count = self._checked_size(size)
            return Checkpoint(self._state.origin, count, self._roots(count))

    def inclusion(self, seq: int, size: int | None = None) -> Proofs:
        """Return the proofs, in both trees, that entry `seq` is among the first `size`."""
        with self._reading():
            count = self._checked_size(size)
            sm3, sha256 = (merkle.prove_inclusion(seq, count, self._reader(name), name) for name in HASH_NAMES)
            return Proofs(sm3=sm3, sha256=sha256)

    def consistency(self, old: int, new: int | None = None) -> Proofs:
        """Return the proofs, in both trees, that the log of `new` entries extends the log of `old`."""
        with self._reading():
            count = self._checked_size(new)
            sm3, sha256 = (merkle.prove_consistency(old, count, self._reader(name), name) for name in HASH_NAMES)
            return Proofs(sm3=sm3, sha256=sha256)

    def keep_checkpoint(self, note: str) -> None:
        """Keep a cosigned checkpoint of this log for receipts and audits; the first one of each size stays.

        The caller verifies its signatures; here it must only be of this log.

        Raises:
            LedgerError: `ledger.checkpoint_foreign`: another origin, size or root.
        """
        with self._lock:
            self._check_own(note)
            with writing(self._connection):
                self._insert_checkpoint(note)

    def keep_checkpoint_with_next(self, note: str) -> None:
        """Keep a checkpoint in the commit of the next append; if there is none, it is not kept.  Raises as above."""
        with self._lock:
            self._check_own(note)
            self._offered.append(note)

    def _check_own(self, note: str) -> None:
        """Raise unless the checkpoint is one of this log."""
        self._check_writable()
        offered = parse_checkpoint(note)
        if offered.size > self.size or offered != self.checkpoint(offered.size):
            raise LedgerError(
                "the checkpoint is not one of this log",
                hint="keep it as evidence and compare the origins",
                code="ledger.checkpoint_foreign",
            )

    def _insert_checkpoint(self, note: str) -> None:
        size = parse_checkpoint(note).size
        self._connection.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?)", (size, note))

    def checkpoints(self, *, least_size: int = 0) -> Iterator[str]:
        """Yield the kept checkpoints of `least_size` entries or more, the smallest first.

        The first one with `least_size=seq + 1` is the one for a receipt of entry `seq`.
        """
        size = least_size
        while True:
            with self._reading():
                row = self._connection.execute(
                    "SELECT size, note FROM checkpoints WHERE size >= ? ORDER BY size LIMIT 1", (size,)
                ).fetchone()
            if row is None:
                return
            size = row[0] + 1
            yield row[1]

    def check_tree(self) -> None:
        """Rebuild both trees from the entries and compare the roots; for a doctor, not for an auditor.

        Raises:
            StateUnsafeError: `ledger.state.damaged`.
        """
        with self._reading():
            count = self._state.size
            stored = self._roots(count)
            frontiers = {name: merkle.Frontier(name) for name in HASH_NAMES}
            for (raw,) in self._connection.execute("SELECT raw FROM entries WHERE seq < ? ORDER BY seq", (count,)):
                for name in HASH_NAMES:
                    frontiers[name].push(merkle.leaf_hash(raw, name))
        if any(frontiers[name].size != count or frontiers[name].root() != stored.of(name) for name in HASH_NAMES):
            raise _damaged("the stored trees are not those of the entries")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._check_process()
            with reading(self._connection):
                self._state = self._caught_up()
                yield

    def _caught_up(self) -> State:
        """Return the state with every entry that others appended; runs inside a transaction."""
        state = self._state
        if not state.size and not has_schema(self._connection):
            raise StateUnsafeError(
                "the ledger here was never initialised", hint="run `saggar init`", code="ledger.state.not_initialised"
            )
        rows = self._connection.execute("SELECT raw FROM entries WHERE seq >= ? ORDER BY seq", (state.size,))
        for (raw,) in rows:
            try:
                state = apply(state, _stored(raw))
            except Exception as error:
                raise _damaged(f"entry {state.size} is not one that this ledger could have appended") from error
        return state

    def _add(self, state: State, draft: Draft) -> tuple[State, Entry]:
        raw = Entry(state.size, _lifted(draft.at, state.at), draft.kind, draft.actor, draft.body).to_bytes()
        # From the bytes, so that what is checked is what is written and nothing of the caller's is kept.
        record = json.loads(raw)
        entry = Entry(state.size, record["at"], draft.kind, draft.actor, record["body"])
        after = apply(state, entry)
        self._connection.execute("INSERT INTO entries VALUES (?, ?)", (entry.seq, raw))
        both = [
            merkle.new_nodes(entry.seq, merkle.leaf_hash(raw, name), self._reader(name), name) for name in HASH_NAMES
        ]
        self._connection.executemany(
            "INSERT INTO nodes VALUES (?, ?, ?, ?)",
            [(sm3.level, sm3.index, sm3.value, sha256.value) for sm3, sha256 in zip(*both, strict=True)],
        )
        return after, entry

    def _roots(self, size: int) -> Roots:
        sm3, sha256 = (merkle.root_at(size, self._reader(name), name) for name in HASH_NAMES)
        return Roots(sm3=sm3, sha256=sha256)

    def _reader(self, hash_name: HashName) -> ReadNode:
        query = f"SELECT {hash_name} FROM nodes WHERE level = ? AND idx = ?"  # noqa: S608 - one of two constants

        def read(level: int, index: int) -> bytes:
            row = self._connection.execute(query, (level, index)).fetchone()
            if row is None:
                raise _damaged(f"node {index} of level {level} is missing")
            return bytes(row[0])

        return read

    def _checked_size(self, size: int | None) -> int:
        if size is None:
            return self._state.size
        if not 0 <= size <= self._state.size:
            raise LedgerError(
                f"the log has {self._state.size} entries and not {size}",
                hint="ask for a size that the log has reached",
                code="ledger.no_such_size",
            )
        return size

    def _check_writable(self) -> None:
        self._check_process()
        if self._read_only:
            raise StateUnsafeError(
                "the ledger is open for reading only", hint="open it for writing", code="ledger.state.read_only"
            )

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StateUnsafeError(
                "an open ledger was carried into a forked process",
                hint="open the ledger again in the child",
                code="ledger.state.forked",
            )
        if self._closed:
            raise StateUnsafeError("the ledger is closed", hint="open it again", code="ledger.state.closed")


def _stored(raw: bytes) -> Entry:
    """Return an entry of our own database, without proving again that its bytes are canonical (the trees do)."""
    record = json.loads(raw)
    return Entry(record["seq"], record["at"], EntryKind(record["kind"]), record["actor"], record["body"])


def _lifted(at: str, last: str) -> str:
    check_time(at)
    if not last or at >= last:
        return at
    behind = datetime.fromisoformat(last) - datetime.fromisoformat(at)
    return last if behind.total_seconds() <= MAX_SKEW_S else at


def _damaged(what: str) -> StateUnsafeError:
    return StateUnsafeError(
        f"the ledger is damaged: {what}",
        hint="stop, keep the files as they are, and restore the last backup beside them",
        code="ledger.state.damaged",
    )
