"""Assemble the system-call filter from the table in `syscalls.py` and install it.

The program is classic BPF (`man 2 seccomp`): check the architecture, refuse the second table of x86, then one compare a
call.  A call in no group ends the process at once (`SECCOMP_RET_KILL_PROCESS`).
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from typing import Final

from sandbox.runtime.guest import kernel
from sandbox.runtime.guest.syscalls import (
    ADVICE,
    FUTEX_WAKE,
    GROUPS,
    WIRE_FD,
    WRITABLE_FDS,
    Architecture,
    Rule,
)

_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_EPERM: Final = 0x00050000 | 1
_EACCES: Final = 0x00050000 | 13


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _only(argument: int, allowed: tuple[int, ...], mask: int | None = None) -> list[bytes]:
    """Allow when an argument, counted from 0, is one of a few values after masking, else EPERM."""
    steps = [_step(_LOAD, _ARGUMENTS + 8 * argument)]
    steps += [] if mask is None else [_step(_AND, mask)]
    steps += [_step(_JUMP_EQUAL, value, len(allowed) - place, 0) for place, value in enumerate(allowed)]
    return [*steps, _step(_RETURN, _EPERM), _step(_RETURN, _ALLOW)]


def _unless_executable() -> list[bytes]:
    """Allow when the third argument, the protection, has no execute bit, else EACCES."""
    return [
        _step(_LOAD, _ARGUMENTS + 2 * 8),
        _step(_JUMP_BITS, kernel.PROT_EXEC, 0, 1),
        _step(_RETURN, _EACCES),
        _step(_RETURN, _ALLOW),
    ]


def _answer(rule: Rule) -> list[bytes]:
    match rule:
        case Rule.ALLOW:
            return [_step(_RETURN, _ALLOW)]
        case Rule.ALLOW_READ:
            return _only(0, (WIRE_FD,))
        case Rule.ALLOW_WRITE:
            return _only(0, WRITABLE_FDS)
        case Rule.ALLOW_WAKE:
            # The bits above the command only say whose memory it is and which clock a wait would use.
            return _only(1, (FUTEX_WAKE,), mask=0x7F)
        case Rule.ALLOW_ADVICE:
            return _only(2, ADVICE)
        case Rule.ALLOW_UNLESS_EXEC:
            return _unless_executable()
        case Rule.REFUSE:
            return [_step(_RETURN, _EPERM)]


def assemble_filter(architecture: Architecture) -> bytes:
    """Return the BPF program for a processor."""
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture.audit, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if architecture.second_table is not None:
        steps += [_step(_JUMP_AT_LEAST, architecture.second_table, 0, 1), _step(_RETURN, _KILL)]
    for group in GROUPS:
        answer = _answer(group.rule)
        for name in group.names:
            number = architecture.numbers.get(name)
            if number is not None:
                steps += [_step(_JUMP_EQUAL, number, 0, len(answer)), *answer]
    return b"".join([*steps, _step(_RETURN, _KILL)])


def filter_digest(program: bytes) -> str:
    """Return the name of a filter, for reports and log entries."""
    return "sha256:" + hashlib.sha256(program).hexdigest()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install_filter(program: bytes) -> None:
    """Put the filter on this process for good; needs `no_new_privs`.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    described = _Program(len(program) // 8, program)
    kernel.prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, ctypes.addressof(described))
