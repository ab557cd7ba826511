"""The system calls that an orchestrator worker may make, as data: each group with its reason.

The list was found by tracing forked, warmed workers over numpy, pandas and RestrictedPython workloads, and is kept
small on purpose.  Whatever stands in no group ends the process.  Numbers are those of the kernel's tables for x86_64
(`arch/x86/entry/syscalls/syscall_64.tbl`) and of the generic table that aarch64 uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Rule(Enum):
    """What the filter does with a call."""

    ALLOW = "allow"
    ALLOW_READ = "allow on the wire only"
    ALLOW_WRITE = "allow on the wire and the two null streams only"
    ALLOW_UNLESS_EXEC = "allow without execute permission"
    ALLOW_WAKE = "allow waking, never waiting"
    ALLOW_ADVICE = "allow advice on the process's own memory that no one else can notice"
    REFUSE = "answer EPERM"


@dataclass(frozen=True, slots=True)
class Group:
    """System calls that share a rule and a reason."""

    rule: Rule
    reason: str
    names: tuple[str, ...]


GROUPS: Final = (
    Group(
        Rule.ALLOW,
        "memory of the process itself: the allocators of Python, numpy and libc grow and shrink the heap",
        ("brk", "munmap", "mremap"),
    ),
    Group(
        Rule.ALLOW_ADVICE,
        "allocators give pages back; merging and paging out are refused, since other processes can feel them",
        ("madvise",),
    ),
    Group(
        Rule.ALLOW_WAKE,
        "locks of libc are released; one thread never waits for another, and a wait until a moment is a clock",
        ("futex",),
    ),
    Group(Rule.ALLOW, "ending, and going on after a stop", ("exit", "exit_group", "restart_syscall")),
    Group(Rule.ALLOW_READ, "answers come in on the wire, descriptor 3", ("read",)),
    Group(Rule.ALLOW_WRITE, "questions and outputs leave on the wire; 1 and 2 lead to /dev/null", ("write",)),
    Group(Rule.ALLOW_UNLESS_EXEC, "memory, but never executable memory", ("mmap", "mprotect")),
    Group(
        Rule.REFUSE,
        "libraries try files and go on without them; to see none is enough",
        (
            "openat",
            "open",
            "stat",
            "lstat",
            "newfstatat",
            "statx",
            "access",
            "faccessat",
            "faccessat2",
            "readlink",
            "readlinkat",
            "getcwd",
            "ioctl",
            "lseek",
            "fstat",
            "pread64",
            "close",
            "getdents64",
            "fcntl",
            "dup",
            "poll",
        ),
    ),
    Group(
        Rule.REFUSE,
        "facts about the process and the machine, which could carry a signal from a neighbour",
        (
            "uname",
            "sysinfo",
            "sched_getaffinity",
            "getpid",
            "getppid",
            "gettid",
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "getrusage",
            "times",
            "getcpu",
            "membarrier",
            "prctl",
            "prlimit64",
            "getrlimit",
            "mbind",
            "get_mempolicy",
            "set_mempolicy",
        ),
    ),
    Group(
        Rule.REFUSE,
        "no clock: without one a program cannot time its questions, and it is the same function when it is replayed",
        ("clock_gettime", "clock_getres", "gettimeofday", "time", "clock_nanosleep", "nanosleep"),
    ),
    Group(Rule.REFUSE, "no entropy: all chance in a program comes from the job's seed", ("getrandom",)),
    Group(
        Rule.REFUSE,
        "handlers and masks stay as they are, so a deadline can be neither caught nor put off",
        ("rt_sigaction", "rt_sigprocmask", "sigaltstack"),
    ),
    Group(Rule.REFUSE, "the turn is not handed to a neighbour", ("sched_yield",)),
)

WIRE_FD: Final = 3
WRITABLE_FDS: Final = (1, 2, WIRE_FD)
FUTEX_WAKE: Final = 1
# MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE
ADVICE: Final = (4, 8, 14, 15)

_X86_64: Final = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "ioctl": 16,
    "pread64": 17, "access": 21, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "nanosleep": 35,
    "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89, "gettimeofday": 96,
    "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "sigaltstack": 131, "prctl": 157, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "openat": 257,
    "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "prlimit64": 302, "getcpu": 309, "getrandom": 318,
    "membarrier": 324, "statx": 332, "faccessat2": 439,
}  # fmt: skip
_AARCH64: Final = {
    "getcwd": 17, "dup": 23, "fcntl": 25, "ioctl": 29, "faccessat": 48, "openat": 56, "close": 57, "getdents64": 61,
    "lseek": 62, "read": 63, "write": 64, "pread64": 67, "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93,
    "exit_group": 94, "futex": 98, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "times": 153, "uname": 160, "getrlimit": 163, "getrusage": 165,
    "prctl": 167, "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175,
    "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216,
    "mmap": 222, "mprotect": 226, "madvise": 233, "mbind": 235, "get_mempolicy": 236, "set_mempolicy": 237,
    "prlimit64": 261, "getrandom": 278, "membarrier": 283, "statx": 291, "faccessat2": 439,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """What differs between processors.

    Attributes:
        audit: the kernel's AUDIT_ARCH value, checked first by the filter.
        numbers: name to number of the calls in `GROUPS`; a call that the processor's table lacks is left out.
        own: numbers of the calls that the walls themselves are built with.
        second_table: numbers at and above this belong to a second table (x32) and end the process; None if there is
        none. tested: whether the suite has run on it.
    """

    audit: int
    numbers: dict[str, int]
    own: dict[str, int]
    second_table: int | None
    tested: bool


_LANDLOCK: Final = {"landlock_create_ruleset": 444, "landlock_restrict_self": 446}
ARCHITECTURES: Final = {
    "x86_64": Architecture(
        0xC000003E,
        _X86_64,
        {"pivot_root": 155, "capset": 126, "seccomp": 317, "personality": 135, **_LANDLOCK},
        0x40000000,
        tested=True,
    ),
    "aarch64": Architecture(
        0xC00000B7,
        _AARCH64,
        {"pivot_root": 41, "capset": 91, "seccomp": 277, "personality": 92, **_LANDLOCK},
        None,
        tested=False,
    ),
}
