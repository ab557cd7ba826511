"""A cage around the whole test, for runs in which walls of the product are taken down on purpose.

Everything that such a run starts lives in namespaces of its own as an account without rights: every mount is read-only
but one small memory file system, the network is a loopback of its own, and killing "everyone" ends nobody outside.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import socket
import struct
import sys
from pathlib import Path

from sandbox.runtime.guest import kernel

NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
_ALL = (
    kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET
)  # fmt: skip
_MOUNT_SETATTR, _AT_RECURSIVE, _RDONLY, _NOSUID = 442, 0x8000, 1, 2
_SIOCSIFFLAGS, _UP = 0x8914, 1


class NoCageError(RuntimeError):
    """The machine gives no cage, so walls must not be taken down here."""


def enter_cage(folder: Path) -> int | None:
    """Go inside for good; `folder` is the only place where something can be written.

    Returns:
        None in the process that is now inside (process 1 of the cage); the exit status in the one that waited outside.

    Raises:
        NoCageError: the kernel refused a part of it; the caller must stop.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        if user == 0:
            _unshare_as_root()
        else:
            kernel.unshare(_ALL)
            for name, text in (
                ("setgroups", "deny"),
                ("gid_map", f"{group} {group} 1"),
                ("uid_map", f"{user} {user} 1"),
            ):
                Path(f"/proc/self/{name}").write_text(text)
    except OSError as error:
        raise NoCageError(f"no namespaces: {error}") from error
    child = os.fork()
    if child > 0:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        _furnish(folder)
        if user == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        kernel.drop_capabilities()
    except OSError as error:
        raise NoCageError(f"the cage could not be furnished: {error}") from error
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    for which, value in (
        (resource.RLIMIT_NPROC, 400), (resource.RLIMIT_AS, 3 << 30), (resource.RLIMIT_FSIZE, 16 << 20), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(which, (value, value))
    os.environ.update(TMPDIR=str(folder), HOME=str(folder))
    return None


def _unshare_as_root() -> None:
    """Map root, for furnishing, and the account without rights, for everything after."""
    asking, telling = os.pipe()
    parent = os.getpid()
    writer = os.fork()
    if writer == 0:
        status = 1
        with contextlib.suppress(OSError):
            os.close(telling)
            os.read(asking, 1)
            for name in ("gid_map", "uid_map"):
                Path(f"/proc/{parent}/{name}").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1")
            status = 0
        os._exit(status)
    kernel.unshare(_ALL)
    os.write(telling, b"+")
    os.close(telling)
    os.close(asking)
    if os.waitpid(writer, 0)[1] != 0:
        raise OSError(1, "the accounts could not be mapped")


def _furnish(folder: Path) -> None:
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID)
    if os.geteuid() == 0:
        _uncover(Path(sys.executable).resolve(), folder)
    attributes = struct.pack("=QQQQ", _RDONLY | _NOSUID, 0, 0, 0)
    if _LIBC.syscall(_MOUNT_SETATTR, -100, b"/", _AT_RECURSIVE, attributes, len(attributes)):
        raise OSError(ctypes.get_errno(), "the mounts could not be made read-only")
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID)
    kernel.mount("tmpfs", str(folder), "tmpfs", kernel.MS_NOSUID, "size=32m,mode=0777")
    # The loopback starts switched off.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))


def _uncover(interpreter: Path, folder: Path) -> None:
    """Make the interpreter reachable for the account without rights when it lies below a closed folder."""
    closed = [parent for parent in interpreter.parents if not parent.stat().st_mode & 1]
    if not closed:
        return
    outermost = closed[-1]
    needed = outermost / interpreter.relative_to(outermost).parts[0]
    kernel.mount("tmpfs", str(folder), "tmpfs", kernel.MS_NOSUID, "size=4k,mode=0755")
    aside = folder / "aside"
    aside.mkdir()
    kernel.mount(str(needed), str(aside), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("tmpfs", str(outermost), "tmpfs", kernel.MS_NOSUID, "size=4k,mode=0755")
    needed.mkdir()
    kernel.mount(str(aside), str(needed), None, kernel.MS_BIND | kernel.MS_REC)
