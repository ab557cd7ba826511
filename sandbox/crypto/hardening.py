"""The process that holds keys leaves nothing behind: no core dump, no tracer, no memory image for others."""

from __future__ import annotations

import ctypes
import os
import resource
import sys

from sandbox.errors import StateUnsafeError

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and its children, and other processes of the same user to read its memory.

    The limit is for what dumps to files; the flag is also for what the kernel pipes to a crash handler, which ignores
    the limit.  A child that executes another program starts with the flag set again, but keeps the limit.

    Raises:
        StateUnsafeError: the system refused (`ledger.state.core_dumps`).
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError) as error:
        raise _refused() from error
    if sys.platform.startswith("linux"):
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or library.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise _refused()


def core_dump_report() -> str:
    """Return in words whether this process may leave a core dump, for `saggar doctor`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_CORE)
    return "off" if limit == 0 else f"on before a state is opened, off from then on (user {os.getuid()})"


def _refused() -> StateUnsafeError:
    return StateUnsafeError(
        "the system does not let this process forbid core dumps",
        hint="keys could end in a dump; run where `ulimit -c 0` and PR_SET_DUMPABLE work",
        code="ledger.state.core_dumps",
    )
