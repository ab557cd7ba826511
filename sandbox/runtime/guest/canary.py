"""Find out what holds by trying what is forbidden, in children made like workers.

Asking the kernel whether it knows a layer is not the same as the layer holding, so each probe commits an act and reads
what became of it: `done`, `refused:<errno>`, or the signal that ended the child.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sandbox.runtime.guest import jail, kernel
from sandbox.runtime.guest.syscalls import WIRE_FD

_MEMORY_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """Whether a layer holds, found by trying."""

    name: str
    held: bool
    detail: str


def _open_root() -> None:
    os.open("/", os.O_RDONLY)


def _open_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _send_datagram() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"canary", ("127.0.0.1", 9))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _execute() -> None:
    os.execv(sys.executable, [sys.executable, "-c", ""])  # noqa: S606 - an act that must be refused


def _map_executable() -> None:
    kernel.map_memory(4096, kernel.PROT_READ | kernel.PROT_WRITE | kernel.PROT_EXEC)


def _map_too_much() -> None:
    kernel.map_memory(_MEMORY_BYTES + (64 << 20), kernel.PROT_READ | kernel.PROT_WRITE)


def _signal_parent() -> None:
    os.kill(1, 0)


def _change_root() -> None:
    os.chroot("/")


def _duplicate() -> None:
    os.dup(WIRE_FD)


def _spin() -> None:
    while True:
        pass


def _read_clock() -> None:
    readers: tuple[Callable[[], float], ...] = (time.time, time.monotonic, time.perf_counter, time.thread_time)
    refusals = 0
    for read in readers:
        try:
            read()
        except (OSError, RuntimeError):
            refusals += 1
    if refusals == len(readers):
        raise OSError(errno.EPERM, "no clock")


def _flag(option: int, wanted: int) -> Callable[[], None]:
    def act() -> None:
        if kernel.prctl(option) == wanted:
            raise OSError(errno.EPERM, "the flag is set")

    return act


def attempt(walls: jail.Walls, act: Callable[[], None], layers: frozenset[str], cpu_s: float = 5.0) -> str:
    """Commit an act in a child behind some layers and return what became of it."""
    read_fd, write_fd = os.pipe()
    high_fd = _lift(write_fd)
    child = os.fork()
    if child == 0:
        verdict = b"unready"
        try:
            jail.lay_out_descriptors(high_fd, walls.null_fd)
            jail.enter(walls, cpu_s=cpu_s, memory_bytes=_MEMORY_BYTES, layers=layers)
            verdict = b"done"
            act()
        except OSError as error:
            verdict = b"refused:%d" % (error.errno or 0) if verdict == b"done" else verdict
        except MemoryError:
            verdict = b"refused:%d" % errno.ENOMEM
        finally:
            os.write(WIRE_FD, verdict)
            os._exit(0)
    os.close(high_fd)
    said = os.read(read_fd, 64).decode("ascii", "replace")
    os.close(read_fd)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended:{signal.Signals(os.WTERMSIG(status)).name}"
    return said or "silent"


def _lift(descriptor: int) -> int:
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100)
    os.close(descriptor)
    return high


_SYS = "ended:SIGSYS"
_EPERM = f"refused:{errno.EPERM}"
_EACCES = f"refused:{errno.EACCES}"

# Name, the layers put on, and acts with what must become of them.
_Act = tuple[str, Callable[[], None], set[str]]
_PROBES: Final[tuple[tuple[str, Iterable[str], tuple[_Act, ...]], ...]] = (
    ("undumpable", {"undumpable"}, (("be read by a debugger", _flag(kernel.PR_GET_DUMPABLE, 0), {_EPERM}),)),
    ("no_new_privs", {"no_new_privs"}, (("gain rights", _flag(kernel.PR_GET_NO_NEW_PRIVS, 1), {_EPERM}),)),
    ("capabilities", {"capabilities"}, (("change its root", _change_root, {_EPERM}),)),
    (
        "rlimits",
        {"rlimits"},
        (
            ("open a descriptor", _duplicate, {f"refused:{errno.EMFILE}"}),
            ("map too much memory", _map_too_much, {f"refused:{errno.ENOMEM}"}),
        ),
    ),
    ("processor", {"processor"}, (("run on", _spin, {"ended:SIGPROF"}),)),
    ("landlock", {"landlock"}, (("open a directory", _open_root, {_EACCES}),)),
    (
        "seccomp",
        {"seccomp"},
        (
            ("open a directory", _open_root, {_EPERM}),
            ("open a socket", _open_socket, {_SYS}),
            ("fork", _fork, {_SYS}),
            ("execute", _execute, {_SYS}),
            ("map executable memory", _map_executable, {_EACCES}),
            ("signal its parent", _signal_parent, {_SYS}),
        ),
    ),
    ("clocks", {"seccomp"}, (("read a clock", _read_clock, {_EPERM}),)),
    ("net", frozenset(), (("send a datagram", _send_datagram, {f"refused:{errno.ENETUNREACH}"}),)),
    (
        "together",
        jail.ALL,
        (
            ("open a directory", _open_root, {_EPERM, _EACCES}),
            ("open a socket", _open_socket, {_SYS}),
            ("fork", _fork, {_SYS}),
            ("map executable memory", _map_executable, {_EACCES}),
        ),
    ),
)


def probe_layers(walls: jail.Walls) -> list[LayerFinding]:
    """Try every forbidden act and return one finding a layer."""
    findings: list[LayerFinding] = []
    for name, layers, acts in _PROBES:
        failures = []
        for what, act, wanted in acts:
            became = attempt(walls, act, frozenset(layers), cpu_s=0.02 if act is _spin else 5.0)
            if became not in wanted:
                failures.append(f"could {what} ({became})" if became == "done" else f"{what}: {became}")
        tried = ", ".join(what for what, _, _ in acts)
        findings.append(LayerFinding(name, not failures, "; ".join(failures) or f"tried to {tried}: refused"))
    return findings
