"""Durable files: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from sandbox.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
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


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
