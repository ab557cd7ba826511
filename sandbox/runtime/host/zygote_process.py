"""Launch the zygote, ask it for workers, and learn how they ended."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import sandbox
from sandbox.errors import GuestFailedError
from sandbox.runtime.host.report import IsolationReport, parse_report

_START_S: Final = 120.0
_REPLY_S: Final = 60.0
_END_S: Final = 5.0
_REPLY_BYTES_MAX: Final = 1 << 16

# Set before Python starts, because libraries read them while they load: one thread each, a fixed hash seed, nothing
# taken over from the engine's own environment.
_ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
_OPTIONAL: Final = ("sklearn", "statsmodels", "scipy", "joblib", "cloudpickle", "threadpoolctl", "narwhals", "patsy")
GUEST_COMMAND: Final = ("-m", "sandbox.runtime.guest.zygote")


def _import_path() -> str:
    """Return the folders of the packages that a guest imports, found as this process finds them."""
    folders = [str(Path(sandbox.__file__).parents[1])]
    for name in ("numpy", "pandas", "RestrictedPython", *_OPTIONAL):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            folders.append(str(Path(found.origin).parents[1]))
    return os.pathsep.join(dict.fromkeys(folders))


@dataclass(slots=True)
class Worker:
    """One forked worker: our end of its socket, a handle on its process, its number with the zygote."""

    wire: socket.socket
    handle: int
    serial: int

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process; one that has ended already is left alone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)

    def has_ended(self, wait_s: float) -> bool:
        """Return whether the process has ended, waiting at most so long."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(int(wait_s * 1000)))


@dataclass(slots=True)
class BlockProcess:
    """The worker of one block: the end of its pipe that we read, a handle on its process, its number."""

    pipe: int
    handle: int
    serial: int

    def kill(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)


class ZygoteProcess:
    """A running zygote.  Requests are answered one at a time, so callers in several threads take turns.

    Args:
        command: what Python runs; the test suite starts a zygote without the language layer this way, from its own
            folder, and nothing in the package does.

    Raises:
        GuestFailedError: it did not start.
    """

    def __init__(self, command: tuple[str, ...] = GUEST_COMMAND) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**_ENVIRONMENT, "PYTHONPATH": _import_path()}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-P", "-s", *command, str(theirs.fileno())],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.alive = True
        self.report = self._read_report()
        # The first fork leaves the zygote's heap a little different from all later ones, and with it the order of sets
        # of functions in programs; so the first one does nothing.
        self.reap(self.spawn(cpu_s=1, memory_bytes=1 << 28))

    def _read_report(self) -> IsolationReport:
        try:
            self._control.settimeout(_START_S)
            message = self._control.recv(_REPLY_BYTES_MAX)
            record = json.loads(message) if message else {"failed": self._last_words()}
        except (OSError, ValueError) as error:
            record = {"failed": f"no report: {error}"}
        if "failed" in record:
            self.close()
            raise GuestFailedError(
                "the process that programs are started from did not come up",
                hint="run `saggar doctor` to see which layer is missing on this machine",
                code="isolation.guest_failed.start",
                reason=str(record["failed"])[:1000],
            )
        self._control.settimeout(_REPLY_S)
        return parse_report(record)

    def _last_words(self) -> str:
        stream = self._process.stderr
        if stream is None:
            return ""
        readable, _, _ = select.select([stream], [], [], _END_S)
        return stream.read1(4000).decode("utf-8", "replace")[-1000:] if readable else ""  # type: ignore[attr-defined]

    def spawn(self, *, cpu_s: float, memory_bytes: int) -> Worker:
        """Return a fresh worker behind all layers.

        Raises:
            GuestFailedError: the zygote does not answer; it is ended, and the caller starts another.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        request = {"op": "spawn", "cpu_s": cpu_s, "memory_bytes": memory_bytes}
        try:
            with theirs, self._lock:
                reply, descriptors = self._ask(request, theirs.fileno())
        except GuestFailedError:
            ours.close()
            raise
        ours.setblocking(False)
        return Worker(ours, descriptors[0], reply["id"])

    def reap(self, worker: Worker) -> int:
        """End a worker, take it off the process table, release its descriptors; return its wait status."""
        worker.send_signal(signal.SIGKILL)
        try:
            if not worker.has_ended(_END_S):
                self._fail("a worker does not end")
            with self._lock:
                reply, _ = self._ask({"op": "reap", "id": worker.serial})
            return int(reply["status"])
        finally:
            worker.wire.close()
            os.close(worker.handle)

    def spawn_block(self, image: int, *, cpu_s: float, memory_bytes: int) -> BlockProcess:
        """Return a fresh worker that has been handed one block: a memory file to read, a pipe to write, no socket.

        Raises:
            GuestFailedError: the zygote does not answer.
        """
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(theirs, True)
        request = {"op": "block", "cpu_s": cpu_s, "memory_bytes": memory_bytes}
        try:
            with self._lock:
                reply, descriptors = self._ask(request, theirs, image)
        except GuestFailedError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return BlockProcess(ours, descriptors[0], reply["id"])

    def bury(self, block: BlockProcess) -> None:
        """End a block's worker and take it off the process table, without asking how it ended."""
        block.kill()
        try:
            with self._lock:
                self._ask({"op": "bury", "id": block.serial})
        finally:
            os.close(block.pipe)
            os.close(block.handle)

    def _ask(self, request: dict[str, Any], *sent: int) -> tuple[dict[str, Any], list[int]]:
        try:
            message = json.dumps(request).encode()
            if sent:
                socket.send_fds(self._control, [message], list(sent))
            else:
                self._control.send(message)
            reply, descriptors, _, _ = socket.recv_fds(self._control, _REPLY_BYTES_MAX, 1)
            return json.loads(reply), descriptors
        except (OSError, ValueError):
            self._fail("the process that programs are started from does not answer")
            raise AssertionError("unreachable") from None

    def _fail(self, message: str) -> None:
        self.alive = False
        self._process.kill()
        raise GuestFailedError(
            message, hint="try again; a new one is started for the next job", code="isolation.guest_failed.zygote"
        )

    def close(self) -> None:
        """Hang up; the zygote and every worker end."""
        self.alive = False
        self._control.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
