"""What each worker does to itself after the fork and before it reads a byte of the program."""

from __future__ import annotations

import math
import os
import resource
import signal
from dataclasses import dataclass
from typing import Final

from sandbox.runtime.guest import kernel
from sandbox.runtime.guest.landlock import deny_all
from sandbox.runtime.guest.seccomp import install_filter
from sandbox.runtime.guest.syscalls import WIRE_FD

LAYERS: Final = ("undumpable", "capabilities", "no_new_privs", "landlock", "rlimits", "processor", "seccomp")
ALL: Final = frozenset(LAYERS)


@dataclass(frozen=True, slots=True)
class Walls:
    """What the zygote found once and each worker needs.

    Attributes:
        filter_program: the assembled filter.
        landlock_abi: 0 where the kernel has none.
        image_bytes: address space of the zygote after its imports; a worker's memory is counted on top.
        null_fd: an open descriptor of /dev/null.
    """

    filter_program: bytes
    landlock_abi: int
    image_bytes: int
    null_fd: int


def lay_out_descriptors(wire_fd: int, null_fd: int) -> None:
    """Leave four descriptors: three that lead nowhere, and the wire.

    Both arguments must be above the range that is overwritten here.
    """
    if min(wire_fd, null_fd) <= WIRE_FD:
        raise AssertionError("descriptors to keep must be above the wire's")
    for target in range(WIRE_FD):
        os.dup2(null_fd, target)
    os.dup2(wire_fd, WIRE_FD)
    os.closerange(WIRE_FD + 1, 65536)


def enter(walls: Walls, *, cpu_s: float, memory_bytes: int, layers: frozenset[str] = ALL) -> None:
    """Put the layers on, in the order in which each still can be put on.

    Args:
        walls: from the zygote.
        cpu_s: processor time until the process is ended.
        memory_bytes: address space on top of the zygote's.
        layers: all of them; the self-test asks for single ones.

    Raises:
        OSError: a layer could not be put on; the caller must end the process.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if "undumpable" in layers:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if "capabilities" in layers:
        kernel.drop_capabilities()
    if layers & {"no_new_privs", "landlock", "seccomp"}:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if "landlock" in layers and walls.landlock_abi > 0:
        deny_all(walls.landlock_abi)
    if "rlimits" in layers:
        _limit(walls.image_bytes + memory_bytes)
    if "processor" in layers:
        _limit_processor(cpu_s)
    if "seccomp" in layers:
        install_filter(walls.filter_program)


def _limit(address_space_bytes: int) -> None:
    limits = {
        resource.RLIMIT_NOFILE: WIRE_FD + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_AS: address_space_bytes,
    }
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))


def _limit_processor(cpu_s: float) -> None:
    # The timer is precise and cannot be caught once the filter is on; the limit in whole seconds is the backstop.
    whole = math.ceil(cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
