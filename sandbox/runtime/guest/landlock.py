"""Landlock: a second refusal of all files, TCP ports, abstract sockets and foreign signals, made by the process itself.

A ruleset that handles every access right and holds no rule denies all of them (`Documentation/userspace-api/landlock`).
"""

from __future__ import annotations

import ctypes
import os
import struct

from sandbox.runtime.guest import kernel

_VERSION_FLAG = 1
# Access rights to files by ABI: 13 bits at first, then refer, truncate and device ioctl.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_BITS_NEWEST = 16
_TCP_ABI, _TCP_BITS = 4, 0b11
_SCOPE_ABI, _SCOPE_BITS = 6, 0b11


def landlock_abi() -> int:
    """Return the kernel's Landlock version; 0 where there is none."""
    try:
        return kernel.system_call("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def deny_all(abi: int) -> None:
    """Deny this process everything that its Landlock version can deny; needs `no_new_privs`.

    Raises:
        OSError: the kernel refused.
    """
    files = (1 << _FILE_BITS.get(abi, _FILE_BITS_NEWEST)) - 1
    fields = [files]
    if abi >= _TCP_ABI:
        fields.append(_TCP_BITS)
    if abi >= _SCOPE_ABI:
        fields.append(_SCOPE_BITS)
    attributes = ctypes.create_string_buffer(struct.pack(f"={len(fields)}Q", *fields), len(fields) * 8)
    ruleset = kernel.system_call(
        "landlock_create_ruleset", ctypes.cast(attributes, ctypes.c_void_p), len(fields) * 8, 0
    )
    try:
        kernel.system_call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
