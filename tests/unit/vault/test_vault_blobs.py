"""Blobs are written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from sandbox.errors import StorageError
from sandbox.vault.blobs import LocalBlobStore, storage_error


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


def test_a_blob_reads_back_and_a_second_put_replaces_it(store: LocalBlobStore) -> None:
    store.put("objects/a", b"one")
    store.put("objects/a", memoryview(b"two"))
    assert store.get("objects/a") == b"two"
    assert store.exists("objects/a")
    assert not store.exists("objects/b")


def test_names_are_sorted_and_leave_out_what_is_unfinished(store: LocalBlobStore, tmp_path: Path) -> None:
    for name in ("objects/b", "objects/a", "manifests/z", "top"):
        store.put(name, b"x")
    (tmp_path / "blobs" / "objects" / ".incoming-0123").write_bytes(b"half")
    assert list(store.names("objects/")) == ["objects/a", "objects/b"]
    assert list(store.names("")) == ["manifests/z", "objects/a", "objects/b", "top"]
    assert list(store.names("nowhere/")) == []


def test_a_sweep_removes_what_a_crash_left_and_nothing_else(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put("objects/a", b"x")
    (tmp_path / "blobs" / "objects" / ".incoming-0123").write_bytes(b"half")
    assert store.sweep() == 1
    assert [path.name for path in (tmp_path / "blobs" / "objects").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/../b", "/etc/passwd", "A", ".hidden", "a//b", "a/", "a/b/c/d/e", "x" * 101, "a\x00b", "a..b", "é"],
)
def test_a_name_outside_the_alphabet_is_refused(store: LocalBlobStore, name: str) -> None:
    for act in (lambda: store.put(name, b""), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(StorageError, match="is not a blob's name") as caught:
            act()
        assert caught.value.code == "vault.storage.name"


def test_a_folder_outside_the_alphabet_is_refused(store: LocalBlobStore) -> None:
    with pytest.raises(StorageError, match="is not a folder of blobs") as caught:
        list(store.names("../"))
    assert caught.value.code == "vault.storage.name"


def test_a_missing_blob_is_named(store: LocalBlobStore) -> None:
    for act in (lambda: store.get("objects/a"), lambda: store.delete("objects/a")):
        with pytest.raises(StorageError, match="there is no blob `objects/a`") as caught:
            act()
        assert caught.value.code == "vault.storage.missing"
        assert caught.value.details == {"object": "objects/a"}


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (errno.ENOSPC, "vault.storage.full", "the disk has no room for `objects/a`"),
        (errno.EDQUOT, "vault.storage.full", "the disk has no room for `objects/a`"),
        (errno.EROFS, "vault.storage.read_only", "the disk does not allow `objects/a` to be read or changed"),
        (errno.EIO, "vault.storage.io", "the disk failed at `objects/a`"),
        (errno.EMFILE, "vault.storage.failed", "the disk refused `objects/a`: Too many open files"),
    ],
)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_blob_and_no_temporary_file(
    store: LocalBlobStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    code: str,
    message: str,
) -> None:
    store.put("objects/a", b"old")

    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "replace", refuse) if step == "replace" else (os, step, refuse)))
        with pytest.raises(StorageError) as caught:
            store.put("objects/a", b"new")
    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.hint
    assert store.get("objects/a") == b"old"
    assert [path.name for path in (tmp_path / "blobs" / "objects").iterdir()] == ["a"]


def test_an_error_without_a_number_still_says_which_blob() -> None:
    error = storage_error(OSError("odd"), "objects/a")
    assert (error.code, error.message) == ("vault.storage.failed", "the disk refused `objects/a`: unknown reason")


def test_only_the_owner_may_read(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put("objects/a", b"x")
    assert stat.S_IMODE((tmp_path / "blobs" / "objects" / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "blobs" / "objects").stat().st_mode) == 0o700


def test_a_symbolic_link_is_not_followed(store: LocalBlobStore, tmp_path: Path) -> None:
    store.put("objects/a", b"x")
    (tmp_path / "blobs" / "objects" / "b").symlink_to("a")
    with pytest.raises(StorageError, match="the disk refused `objects/b`") as caught:
        store.get("objects/b")
    assert caught.value.code == "vault.storage.failed"


def test_a_write_is_flushed_before_its_name_and_the_directory_after(
    store: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("objects/a", b"x")
    steps: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushing(descriptor: int) -> None:
        steps.append("flush directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "flush file")
        flush(descriptor)

    def renaming(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(Path, "replace", renaming)
    store.put("objects/a", b"y")
    assert steps == ["flush file", "rename", "flush directory"]
