"""What a reader gives up before it sees a key: files, the network, other processes, core dumps, new privileges.

A reader needs its socket and the descriptors that come over it, and nothing else: a hole in the libraries that decode
and query sealed columns then reaches the columns of one job.  What the kernel lacks is left out; what it offers is not
optional.  These walls stand around our own code.  Those around an operator's program are others, and more
(`sandbox/runtime/guest`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from typing import Final

from sandbox.crypto.hardening import forbid_core_dumps

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SECCOMP_MODE_FILTER: Final = 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
# All access rights to files of the first Landlock version: a ruleset denies what it handles and no rule allows.
_LANDLOCK_FILES: Final = (1 << 13) - 1
_BENEATH, _READ_FILE = 1, 1 << 2
# DuckDB counts processors and memory when it opens, and ends the process if it may not look.
_READABLE: Final = ("/proc/self/cgroup", "/proc/stat", "/sys/devices/system/cpu", "/sys/fs/cgroup")
_CAPABILITIES_V3: Final = 0x20080522

# Classic BPF: load a word, jump if equal, jump if not less, return.  Offsets into `struct seccomp_data`.
_LOAD, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06
_OTHER_ABI = 0x40000000  # calls of x32 carry this bit and would pass by any other number
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM

# By processor: how the kernel names it, and the numbers of what is refused.
_REFUSED: Final = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 42, 49, 50),  # socket, connect, bind, listen
            *(59, 322),  # execve, execveat
            *(101, 310, 311),  # ptrace, process_vm_readv, process_vm_writev
            *(62, 200, 234, 424),  # kill, tkill, tgkill, pidfd_send_signal
            *(165, 272, 308),  # mount, unshare, setns
            *(321, 323, 425, 248, 249, 250, 298),  # bpf, userfaultfd, io_uring_setup, keys, perf_event_open
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(198, 203, 200, 201),
            *(221, 281),
            *(117, 270, 271),
            *(129, 130, 131, 424),
            *(40, 97, 268),
            *(280, 282, 425, 217, 218, 219, 241),
        ),
    ),
}


def confine_parent() -> None:
    """Give up what neither a reader nor the process that forks it needs: capabilities, programs, sockets, dumps.

    Raises:
        StateUnsafeError: core dumps cannot be forbidden.
        OSError: the kernel refused.
    """
    forbid_core_dumps()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _checked(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    _deny_calls()


def confine_reader(parent: int) -> None:
    """Give up files as well, and have the kernel kill this process when its parent ends; before any thread is started.

    Args:
        parent: the process that forked this one; it must have one thread, for whose end the kernel looks.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(0)
    _deny_files()


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_V3, 0))
    _checked(_LIBC.capset(header, ctypes.create_string_buffer(24)))


def _deny_files() -> None:
    attributes = ctypes.create_string_buffer(struct.pack("=Q", _LANDLOCK_FILES), 8)
    ruleset = _LIBC.syscall(ctypes.c_long(_LANDLOCK_CREATE_RULESET), attributes, ctypes.c_size_t(8), ctypes.c_uint(0))
    if ruleset < 0:  # a kernel without Landlock
        return
    try:
        for path in _READABLE:
            _allow_reading(ruleset, path)
        _checked(_LIBC.syscall(ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)))
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", _READ_FILE, place))
        numbers = (ctypes.c_long(_LANDLOCK_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(_BENEATH))
        _checked(_LIBC.syscall(*numbers, rule, ctypes.c_uint(0)))
    finally:
        os.close(place)


def _deny_calls() -> None:
    if platform.machine() not in _REFUSED:
        return
    architecture, refused = _REFUSED[platform.machine()]
    code = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE)]
    code += [(_LOAD, 0, 0, _NUMBER_AT), (_JUMP_NOT_LESS, 0, 1, _OTHER_ABI), (_RETURN, 0, 0, _REFUSE)]
    for number in refused:
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    code.append((_RETURN, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
