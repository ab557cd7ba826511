"""Whether a directory can keep a promise: on a disk, and nobody else's to write.

A log on a memory file system answers before anything is durable and loses every acknowledged spend with the power.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath

from sandbox.errors import StateUnsafeError

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs"})
_MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")


def read_mounts() -> str:
    """Return the kernel's list of mounts, or nothing where there is none (not Linux)."""
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def file_system_of(directory: PurePosixPath, mounts: str) -> str:
    """Return the type of the file system that holds an absolute path, by a text like `/proc/self/mounts`.

    The longest mount point above the path decides, and of several mounts on it the last; empty if nothing is known.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = PurePosixPath(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        if directory.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def check_file_system(directory: Path, mounts: str) -> None:
    """Raise `StateUnsafeError` if the directory is in memory or on a network file system.

    SQLite's write-ahead log needs shared memory between its readers and writers, which no network file system has.
    """
    kind = file_system_of(PurePosixPath(directory.resolve()), mounts)
    if kind in MEMORY_FILE_SYSTEMS:
        raise StateUnsafeError(
            f"the state directory is on a memory file system (`{kind}`)",
            hint="choose a directory on a disk",
            code="ledger.state.memory_file_system",
            file_system=kind,
        )
    if kind in NETWORK_FILE_SYSTEMS:
        raise StateUnsafeError(
            f"the state directory is on a network file system (`{kind}`)",
            hint="choose a directory on a local disk",
            code="ledger.state.network_file_system",
            file_system=kind,
        )


def check_permissions(directory: Path) -> None:
    """Raise `StateUnsafeError` if others may write into the directory."""
    mode = directory.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateUnsafeError(
            "the state directory may be written by others",
            hint="take the write permission of group and others away (chmod go-w)",
            code="ledger.state.permissions",
            mode=stat.filemode(mode),
        )
