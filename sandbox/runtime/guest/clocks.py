"""Take the clocks away.

A filter cannot stop the clock that the kernel maps into every process (the vDSO): it is read without a system call.  So
its entry points are overwritten by plain system calls, which the filter then refuses, and the pages that hold the time
are unmapped.  What remains is the processor's own counter, for someone who already runs native code.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Final

from sandbox.runtime.guest import kernel

_CALLS: Final = {
    "clock_gettime": 228,
    "gettimeofday": 96,
    "time": 201,
    "getcpu": 309,
    "clock_getres": 229,
    "getrandom": None,
}


def remove_clocks() -> tuple[bool, str]:
    """Overwrite the vDSO and unmap its time pages; return whether it held and how.

    Must run while `/proc` is readable, before other layers, in the process whose children shall have no clock.
    """
    if kernel.MACHINE != "x86_64":
        return False, f"the vDSO of {kernel.MACHINE} is not patched"
    try:
        areas = _areas()
        if "[vdso]" not in areas:
            return True, "the process has no vDSO"
        start, end = areas["[vdso]"]
        patched = _patch(start, end)
        for name, (low, high) in areas.items():
            if name.startswith("[vvar"):
                kernel.unmap_memory(low, high - low)
    except (OSError, ValueError, struct.error) as error:
        return False, f"the vDSO could not be patched: {error}"
    return patched > 0, f"{patched} entry points of the vDSO are plain system calls"


def _areas() -> dict[str, tuple[int, int]]:
    areas: dict[str, tuple[int, int]] = {}
    for line in Path("/proc/self/maps").read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if len(words) > 5 and words[5].startswith("[v"):
            low, high = words[0].split("-")
            areas[words[5]] = (int(low, 16), int(high, 16))
    areas.pop("[vsyscall]", None)
    return areas


def _stub(name: str) -> bytes:
    number = _CALLS[name]
    if number is None:
        return b"\x48\xc7\xc0\xda\xff\xff\xff\xc3"  # mov rax, -ENOSYS; ret
    return b"\xb8" + struct.pack("<I", number) + b"\x0f\x05\xc3"  # mov eax, number; syscall; ret


def _patch(start: int, end: int) -> int:
    image = ctypes.string_at(start, end - start)
    places = {
        offset: name.removeprefix("__vdso_")
        for name, offset in _symbols(image)
        if name.removeprefix("__vdso_") in _CALLS
    }
    kernel.protect_memory(start, end - start, kernel.PROT_READ | kernel.PROT_WRITE)
    try:
        for offset, name in places.items():
            stub = _stub(name)
            ctypes.memmove(start + offset, stub, len(stub))
    finally:
        kernel.protect_memory(start, end - start, kernel.PROT_READ | kernel.PROT_EXEC)
    return len(places)


def _symbols(image: bytes) -> list[tuple[str, int]]:
    """Return the dynamic symbols of a 64-bit ELF image by its section headers: name and offset."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    width, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + width * index) for index in range(count)]
    found: list[tuple[str, int]] = []
    for section in sections:
        if section[1] != 11:  # SHT_DYNSYM
            continue
        names = sections[section[6]][4]
        for place in range(section[4], section[4] + section[5], 24):
            name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, place)
            text = image[names + name : image.index(b"\0", names + name)].decode("ascii")
            if value:
                found.append((text, value))
    return found
