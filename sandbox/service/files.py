"""Durable files: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from sandbox.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    temporary = write_aside(path, data, mode=mode)
    with _without_rest(temporary):
        put_in_place(temporary, path)


def write_aside(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    """Write `data` durably under a name beside `path`, for `put_in_place`, and return that name.

    Raises:
        StorageError: the disk is full or refuses; nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with _told_as_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with _without_rest(temporary), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    return temporary


def put_in_place(temporary: Path, path: Path) -> None:
    """Give what `write_aside` wrote its name, durably.

    Raises:
        StorageError: the disk refuses; the old file is untouched, and the temporary one is still there.
    """
    with _told_as_refused(path):
        temporary.replace(path)
        sync_directory(path.parent)


@contextlib.contextmanager
def _without_rest(temporary: Path) -> Iterator[None]:
    """Remove a temporary file if the block does not end well."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def _told_as_refused(path: Path) -> Iterator[None]:
    """Let what the system says in the block be told as a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                "the disk is full, so nothing was written",
                hint="free some space and run the command again; what was recorded before is still there",
                code="vault.storage.full",
            ) from error
        raise StorageError(
            f"`{path.name}` cannot be written: {os.strerror(error.errno or 0).lower()}",
            hint="check the directory's owner, permissions and mount",
        ) from error


def check_writable(directory: Path) -> None:
    """Refuse a directory in which no file can be made; it is made first if it is not there.

    Raises:
        StorageError: the disk refuses.
    """
    probe = directory / "saggar"
    write_aside(probe, b"").unlink()


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
