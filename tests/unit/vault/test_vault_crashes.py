"""The power fails, the disk fills up, the source breaks off: the old state stays, and what is left over is found."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import StorageError
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest
from sandbox.model.keys import SuiteName
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.store import Vault
from sandbox.vault.writer import SealRequest, SnapshotWriter

ROWS = 60
WRITES = 2 + 2 * 8 + 1  # two halves, two partitions of eight columns, the manifest
Sealer = Callable[..., SnapshotManifest]


class Crash(BaseException):
    """The power is gone: nothing after it runs, not even a clean-up."""


class MortalStore:
    """A blob store that dies before or after its n-th write, and stays dead."""

    def __init__(self, inner: object, *, deaths: list[int], after: bool, error: BaseException) -> None:
        self._inner = inner
        self._deaths = deaths
        self._after = after
        self._error = error

    def _live(self) -> None:
        if self._deaths[0] < 0:
            raise self._error

    def put(self, name: str, data: bytes) -> None:
        self._live()
        self._deaths[0] -= 1
        if self._deaths[0] < 0 and not self._after:
            raise self._error
        self._inner.put(name, data)
        if self._deaths[0] < 0:
            raise self._error

    def get(self, name: str) -> bytes:
        self._live()
        return self._inner.get(name)

    def delete(self, name: str) -> None:
        self._live()
        self._inner.delete(name)

    def names(self, prefix: str) -> Iterator[str]:
        self._live()
        return self._inner.names(prefix)

    def exists(self, name: str) -> bool:
        self._live()
        return self._inner.exists(name)


@pytest.fixture
def old(vault: Vault, seal: Sealer, tools: SimpleNamespace) -> Digest:
    """A vault with one snapshot in it."""
    return seal(tools.make_batches(ROWS), partitions=2).digest()


def _files(vault: Vault) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in vault._directory.rglob("*") if path.is_file()}


def _rows(vault: Vault, snapshot: Digest, trusted: list) -> int:
    with vault.open_snapshot(snapshot, ["note"], trusted) as opened:
        return sum(table.num_rows for table in opened.partitions())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_write_leaves_the_old_state_or_garbage_that_is_found(
    vault: Vault,
    old: Digest,
    description: DatasetDescription,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
    trusted: list,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: bool,
) -> None:
    request = SealRequest(description, SuiteName.INTL, signers[SuiteName.INTL], "health", tools.at, partitions=2)
    for writes in range(WRITES):
        deaths = [writes]
        blobs = MortalStore(vault._blobs, deaths=deaths, after=after, error=Crash())
        keys = MortalStore(vault._keyring._store, deaths=deaths, after=after, error=Crash())
        writer = SnapshotWriter(vault._keyring, blobs, vault._directory)
        with monkeypatch.context() as patch:
            patch.setattr(vault._keyring, "_store", keys)
            with pytest.raises(Crash):
                writer.seal(request, tools.make_batches(ROWS), None)
        finished = after and writes == WRITES - 1
        assert (vault.snapshots() == (old,)) != finished, "a snapshot exists only when its manifest does"
        report = vault.check(trusted)
        assert report.faults == ()
        assert len(report.garbage) == (0 if finished else writes + after)
        assert vault.collect(trusted) == report.garbage
        assert vault.check(trusted).garbage == ()
        assert _rows(vault, old, trusted) == ROWS


def test_a_disk_that_fills_up_at_any_write_leaves_exactly_the_old_state(
    vault: Vault, old: Digest, seal: Sealer, tools: SimpleNamespace, trusted: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, flush = _files(vault), os.fsync
    for writes in range(WRITES):
        left = [writes]

        def filling(descriptor: int, left: list[int] = left) -> None:
            if Path(f"/proc/self/fd/{descriptor}").is_file():
                left[0] -= 1
                if left[0] == -1:
                    raise OSError(errno.ENOSPC, "No space left on device")
            flush(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", filling)
            with pytest.raises(StorageError, match="the disk has no room for") as caught:
                seal(tools.make_batches(ROWS), partitions=2)
        assert caught.value.code == "vault.storage.full"
        assert _files(vault) == before
    assert _rows(vault, old, trusted) == ROWS


def test_a_source_that_breaks_off_leaves_exactly_the_old_state(
    vault: Vault, old: Digest, seal: Sealer, tools: SimpleNamespace
) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield from tools.make_batches(ROWS)
        raise ConnectionError("the source went away")

    before = _files(vault)
    with pytest.raises(ConnectionError, match="the source went away"):
        seal(breaking())
    assert _files(vault) == before
    assert vault.snapshots() == (old,)
