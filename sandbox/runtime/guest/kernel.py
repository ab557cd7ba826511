"""The few kernel calls that the walls are made of, through ctypes; each raises `OSError` when the kernel says no."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

from sandbox.runtime.guest.syscalls import ARCHITECTURES

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

MACHINE: Final = platform.machine()
ARCHITECTURE: Final = ARCHITECTURES.get(MACHINE)

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 3, 4
PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
ADDR_NO_RANDOMIZE = 0x0040000

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE, MAP_ANONYMOUS = 2, 0x20


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def system_call(name: str, *arguments: int | ctypes.c_void_p | bytes | None) -> int:
    """Make a raw call by the name it has in `Architecture.own`.

    Raises:
        OSError: the kernel refused, or the processor is not known (ENOSYS).
    """
    if ARCHITECTURE is None:
        raise OSError(38, f"the processor {MACHINE} has no table of system calls here")
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(_LIBC.syscall(ctypes.c_long(ARCHITECTURE.own[name]), *words))


def prctl(option: int, *arguments: int) -> int:
    """Call `prctl` with up to four unsigned words."""
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *words))


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones."""
    _checked(_LIBC.unshare(ctypes.c_int(flags)))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount, or change a mount."""

    def text(value: str | None) -> bytes | None:
        return None if value is None else value.encode()

    _checked(_LIBC.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(options)))


def unmount(target: str, flags: int) -> None:
    """Take a mount away."""
    _checked(_LIBC.umount2(target.encode(), ctypes.c_int(flags)))


def drop_capabilities() -> None:
    """Give up every capability: ambient, bounding, effective, permitted, inheritable."""
    try:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        for capability in range(64):
            prctl(PR_CAPBSET_DROP, capability)
    except OSError:
        # EINVAL ends the list of known capabilities; EPERM means that there was none to drop with.  The sets that
        # count are emptied below, and that call is allowed to everyone.
        pass
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    system_call("capset", ctypes.cast(header, ctypes.c_void_p), ctypes.cast((ctypes.c_uint32 * 6)(), ctypes.c_void_p))


def map_memory(size: int, protection: int) -> int:
    """Map private anonymous memory and return its address (used by the self-test only)."""
    address = _LIBC.mmap(None, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if address in {None, ctypes.c_void_p(-1).value}:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address)


def unmap_memory(address: int, size: int) -> None:
    """Unmap memory."""
    _checked(_LIBC.munmap(address, size))


def protect_memory(address: int, size: int, protection: int) -> None:
    """Change the protection of memory."""
    _checked(_LIBC.mprotect(address, size, protection))


def wait_blindly(child: int) -> None:
    """Wait until a child has ended, without learning how."""
    _checked(_LIBC.waitpid(child, None, 0))
