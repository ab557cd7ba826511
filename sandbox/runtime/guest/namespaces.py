"""Leave the machine behind, once, before anything is imported: user, mount, net, ipc, uts and pid namespaces.

Entering needs no privilege where the kernel lets ordinary users make user namespaces.  Started by root, the guest maps
itself to an account without rights (`NOBODY`) and moves to it once its imports are read, so even a process that broke
out of every layer would not be root.  Where the kernel refuses, the caller goes on without and the level says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.runtime.guest import kernel

NOBODY = 65534
_ALL = kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET
# Covered in the private mount namespace only; whichever exists.
_MOUNT_POINTS: Sequence[str] = ("/mnt", "/var", "/usr")


@dataclass(slots=True)
class Entered:
    """What was entered; `detail` is for people.

    Attributes:
        held: whether the new namespaces were entered.
        detail: how, or why not.
        identity: the user and group to become once the imports are read, or None to stay.
    """

    held: bool
    detail: str
    identity: int | None = None


def enter_namespaces() -> Entered:
    """Enter new namespaces; the caller must fork before the pid namespace holds.

    Returns:
        What was entered.  A refusal by the kernel is an answer, not an error.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        if user == 0:
            _unshare_as_root()
            return Entered(held=True, detail="six namespaces, mapped to an account without rights", identity=1)
        kernel.unshare(kernel.CLONE_NEWUSER | _ALL)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/gid_map", f"{group} {group} 1")
        _write("/proc/self/uid_map", f"{user} {user} 1")
    except OSError as error:
        return Entered(held=False, detail=f"the kernel refuses new namespaces: {os.strerror(error.errno or 0)}")
    return Entered(held=True, detail="six namespaces, entered as an ordinary user")


def _unshare_as_root() -> None:
    """Enter with two accounts mapped: 0 for reading the imports, 1 (nobody outside) for everything after."""
    ready_read, ready_write = os.pipe()
    parent = os.getpid()
    writer = os.fork()
    if writer == 0:
        status = 1
        try:
            os.close(ready_write)
            if os.read(ready_read, 1) == b"+":
                for name in ("gid_map", "uid_map"):
                    _write(f"/proc/{parent}/{name}", f"0 0 1\n1 {NOBODY} 1")
                status = 0
        finally:
            os._exit(status)
    os.close(ready_read)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | _ALL)
        os.write(ready_write, b"+")
    finally:
        os.close(ready_write)
        _, status = os.waitpid(writer, 0)
    if status != 0:
        raise OSError(1, "the accounts could not be mapped")


def enter_empty_root() -> tuple[bool, str]:
    """Replace the root of the private mount namespace by an empty, read-only memory file system.

    Call only after `enter_namespaces` held: the mounts are then the guest's own.
    """
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    try:
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        target = next(place for place in _MOUNT_POINTS if Path(place).is_dir())
        kernel.mount("tmpfs", target, "tmpfs", flags, "size=4k,nr_inodes=1,mode=0555")
        os.chdir(target)
        _pivot()
        os.chdir("/")
        kernel.mount(None, "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | flags)
    except (OSError, StopIteration) as error:
        return False, f"the root could not be replaced: {error}"
    return True, "an empty, read-only root"


def _pivot() -> None:
    # pivot_root(".", ".") stacks the old root on the new one, so no directory for the old one is needed.
    kernel.system_call("pivot_root", b".", b".")
    kernel.unmount(".", kernel.MNT_DETACH)


def become(identity: int) -> None:
    """Change to a mapped account for good."""
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
