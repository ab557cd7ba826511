"""Where sealed bytes are kept: named blobs that are written whole or not at all.

A blob store knows no keys and no meaning.  `LocalBlobStore` keeps blobs as files: a blob is written to a temporary file
in its own directory, flushed, renamed over its name, and the directory is flushed too.  After a crash at any
moment a name holds either what it held before or all of the new bytes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import StorageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99}){0,3}")
_PREFIX = re.compile(r"([a-z0-9][a-z0-9._-]{0,99}/){0,3}")
_INCOMING = ".incoming-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class BlobStore(Protocol):
    """Named, immutable-by-convention byte strings.

    Every method raises `StorageError` and nothing else of its own: `vault.storage.missing` where a name is not there,
    `.full`, `.read_only`, `.io` or `.failed` where the medium refuses, `.name` for a name that is not allowed.
    """

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Store `data` under `name`, whole and durable when the call returns; what stood there is replaced."""

    def get(self, name: str) -> bytes:
        """Return the bytes under `name`."""

    def delete(self, name: str) -> None:
        """Remove `name`; it must be there."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names in the folder `prefix` (empty, or ending in a slash) and below it, sorted."""

    def exists(self, name: str) -> bool:
        """Return whether `name` holds a blob."""


class LocalBlobStore:
    """Blobs as files below one directory, readable by their owner only.

    Args:
        root: the directory; it is made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Store `data` under `name`, whole or not at all.

        Raises:
            StorageError: the disk is full (`vault.storage.full`), read-only or forbidden (`.read_only`), broken (`.io`)
                or refuses otherwise (`.failed`).  The temporary file is removed and the old bytes stay.  Only a failure
                of the very last step, flushing the directory, may leave the new bytes in place.
        """
        path = self._path(name)
        try:
            _make_directory(path.parent)
            temporary = path.parent / f"{_INCOMING}{random_bytes(8).hex()}"
            try:
                _write_durably(temporary, data)
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _flush_directory(path.parent)
        except OSError as error:
            raise storage_error(error, name) from error

    def get(self, name: str) -> bytes:
        """Return the bytes under `name`; a symbolic link is not followed."""
        try:
            with os.fdopen(self.descriptor(name), "rb") as file:
                return file.read()
        except OSError as error:
            raise storage_error(error, name) from error

    def descriptor(self, name: str) -> int:
        """Return a file descriptor to read `name` from; a symbolic link is not followed.  The caller closes it."""
        try:
            return os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise storage_error(error, name) from error

    def delete(self, name: str) -> None:
        """Remove `name` and flush its directory."""
        path = self._path(name)
        try:
            path.unlink()
            _flush_directory(path.parent)
        except OSError as error:
            raise storage_error(error, name) from error

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names below `prefix`, sorted; unfinished temporary files are not blobs."""
        check_prefix(prefix)
        found = [
            path.relative_to(self._root).as_posix()
            for path in (self._root / prefix).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        ]
        yield from sorted(found)

    def exists(self, name: str) -> bool:
        """Return whether `name` holds a blob."""
        return self._path(name).is_file()

    def sweep(self) -> int:
        """Remove the temporary files that a crash left behind and return how many there were.

        No write may be under way: a write's own temporary file looks the same.
        """
        stale = sorted(self._root.rglob(f"{_INCOMING}*"))
        try:
            for path in stale:
                path.unlink()
        except OSError as error:
            raise storage_error(error, _INCOMING) from error
        return len(stale)

    def _path(self, name: str) -> Path:
        check_name(name)
        return self._root / name


_NAME_HINT = "a name is up to four parts of lower-case letters, digits, dot, dash and underscore, joined by slashes"


def check_name(name: str) -> None:
    """Refuse what is not a blob's name (`vault.storage.name`)."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise StorageError(f"`{name}` is not a blob's name", hint=_NAME_HINT, code="vault.storage.name")


def check_prefix(prefix: str) -> None:
    """Refuse what is not a folder of blobs (`vault.storage.name`)."""
    if not _PREFIX.fullmatch(prefix):
        raise StorageError(f"`{prefix}` is not a folder of blobs", hint=_NAME_HINT, code="vault.storage.name")


def storage_error(error: OSError, name: str) -> StorageError:
    """Return what an operating-system error about the blob `name` means to a person."""
    number = error.errno
    if number == errno.ENOENT:
        return StorageError(
            f"there is no blob `{name}`",
            hint="restore it from a backup, or check that this is the right directory",
            code="vault.storage.missing",
            object=name,
        )
    if number in _FULL:
        return StorageError(
            f"the disk has no room for `{name}`",
            hint="free some space and try again; what was stored before is untouched",
            code="vault.storage.full",
            object=name,
        )
    if number in _READ_ONLY:
        return StorageError(
            f"the disk does not allow `{name}` to be read or changed",
            hint="check that the directory is mounted for writing and belongs to this user",
            code="vault.storage.read_only",
            object=name,
        )
    if number == errno.EIO:
        return StorageError(
            f"the disk failed at `{name}`",
            hint="check the medium before going on; what was stored before is untouched",
            code="vault.storage.io",
            object=name,
        )
    return StorageError(
        f"the disk refused `{name}`: {os.strerror(number) if number else 'unknown reason'}",
        hint="check the directory and the medium",
        code="vault.storage.failed",
        object=name,
    )


def _write_durably(path: Path, data: bytes | memoryview) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_directory(path: Path) -> None:
    """Make `path` and its parents, each entry flushed in the directory above it."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
