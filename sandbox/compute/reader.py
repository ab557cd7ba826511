"""Readers: the engine's side of the processes that open sealed columns and sum them.

The engine holds every key.  What decodes Parquet and runs DuckDB on a department's rows should not, so it runs in a
reader: a process for one job, which gets work orders, sealed objects as open descriptors, and the object keys of the
columns that the job was admitted to.  It returns canonical partials; nothing that it says is believed beyond being
integers of the plan's form.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import sandbox
from sandbox.compute.frames import Channel, HungUpError
from sandbox.compute.order import WorkOrder, request_bytes
from sandbox.compute.pool import MAX_TRIES, Partitions, worker_lost
from sandbox.compute.reader_process import DONE, NEXT, READER, READY
from sandbox.compute.sealed import SealedTables
from sandbox.errors import CancelledError, UnavailableError
from sandbox.model.canonical import canonical_bytes
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan

REPLY_BYTES_MAX: Final = 1 << 29
_START_S: Final = 120.0
_FORK_S: Final = 60.0
_END_S: Final = 5.0

# Set before Python starts, because libraries read them while they load: a process that forks must have one thread.
_ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONUTF8": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MIMALLOC_VERBOSE": "0",
}


class Reader:
    """One reader, for one job; used by one thread at a time.

    Args:
        wire: our end of its socket.
        handle: a handle on its process; the reader owns both.
    """

    def __init__(self, wire: socket.socket, handle: int) -> None:
        self._channel = Channel(wire)
        self._handle = handle

    @property
    def handle(self) -> int:
        """The handle on its process."""
        return self._handle

    def run(self, order: WorkOrder, parts: SealedTables, *, workers: int, cancel: threading.Event | None) -> Partials:
        """Return the exact integers of an order, summed over all partitions.

        Raises:
            HungUpError: the reader died, or said what it may not.
            CancelledError: `cancel` was set.
            VaultError: an object is not what was sealed, or the engine failed.
        """
        self._channel.check = lambda: check_cancelled(cancel)
        self._channel.send(canonical_bytes({"v": 1, "order": order.to_record()}))
        objects: set[str] = set()
        for number in range(parts.partition_count):
            if number >= 2 * workers:
                self._expect_done()
            handed = parts.hand(number)
            objects |= {column.name for found in handed for part in found for column in part.columns}
            with parts.descriptors(handed) as descriptors:
                self._channel.send(request_bytes(number, handed), descriptors)
        for _ in range(min(2 * workers, parts.partition_count)):
            self._expect_done()
        self._channel.send(canonical_bytes({"v": 1, "sum": True}))
        reply, _ = self._channel.receive(REPLY_BYTES_MAX)
        return order.parse_reply(reply, objects)

    def close(self) -> None:
        """Hang up and end the process, whatever it does."""
        self._channel.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        os.close(self._handle)

    def _expect_done(self) -> None:
        if self._channel.receive(len(DONE))[0] != DONE:
            raise HungUpError("a reader said something else than that it is done")


class ReaderHost:
    """The process that readers are forked from, started when it is first needed.

    Args:
        workers: how many threads a reader has.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready = self._asked = False

    def prepare(self) -> None:
        """See to it that a reader will be there soon; return at once."""
        with self._lock, suppress(OSError):
            self._ask()

    def take(self) -> Reader:
        """Return a fresh reader.

        Raises:
            UnavailableError: none could be started (`service.unavailable.reader`).
        """
        with self._lock:
            for _ in range(2):  # the process may have been killed since it was last used
                try:
                    return self._take()
                except OSError:
                    self._stop()
        raise UnavailableError(
            "the process that reads for jobs does not come up",
            hint="look whether memory or the number of processes is limited on this machine",
            code="service.unavailable.reader",
        )

    def close(self) -> None:
        """End the process and every reader."""
        with self._lock:
            self._stop()

    def _take(self) -> Reader:
        control = self._ask()
        if not self._ready:
            control.settimeout(_START_S)
            if control.recv(len(READY)) != READY:
                raise OSError("it did not start")
            control.settimeout(_FORK_S)
            self._ready = True
        said, descriptors, _, _ = socket.recv_fds(control, len(READER), 2)
        self._asked = False
        if said != READER or len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            raise OSError("it gave no reader")
        wire, handle = descriptors
        os.set_inheritable(wire, False)
        os.set_inheritable(handle, False)
        return Reader(socket.socket(fileno=wire), handle)

    def _ask(self) -> socket.socket:
        """Return the line to the process, on which one reader is asked for."""
        control = self._control if self._control is not None else self._start()
        if not self._asked:
            control.send(NEXT)
            self._asked = True
        return control

    def _start(self) -> socket.socket:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = [str(Path(sandbox.__file__).parents[1]), *(folder for folder in sys.path if folder)]
        command = ["-m", "sandbox.compute.reader_process", str(theirs.fileno()), str(self._workers)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-P", "-s", *command],
                env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control, self._ready, self._asked = control, False, False
        return control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control, self._process, self._ready, self._asked = None, None, False, False


class ReaderPool:
    """Readers on this machine.

    Args:
        workers: how many threads a reader has, with an engine of one thread each.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = max(1, workers)
        self.host = ReaderHost(self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Begin to start a reader, so that a job need not wait for it."""
        self.host.prepare()

    def close(self) -> None:
        """End all readers."""
        self.host.close()

    @contextmanager
    def job(self) -> Iterator[JobReaders]:
        """Yield what computes for one job; its reader ends with it."""
        with closing(JobReaders(self.host, self._workers)) as readers:
            yield readers


class JobReaders:
    """The reader of one job, and the one that takes its place if it dies.

    Args:
        host: where readers come from.
        workers: how many threads a reader has.
    """

    def __init__(self, host: ReaderHost, workers: int) -> None:
        self._host = host
        self._workers = workers
        self.reader: Reader | None = None

    def map_partitions(self, plan: Plan, parts: Partitions, *, cancel: threading.Event | None = None) -> Partials:
        """Return the exact integers of a plan, summed over all partitions.

        A reader that dies is replaced, and the whole question is asked again: the integers are the same.

        Raises:
            VaultError: an object is not what was sealed, the engine failed, or the reader returned what is no partials.
            CancelledError: `cancel` was set.
            UnavailableError: readers died `MAX_TRIES` times (`service.unavailable.worker`), or cannot be started.
        """
        if not isinstance(parts, SealedTables):
            raise TypeError("a reader takes sealed tables")
        order = WorkOrder.of(plan)
        for _ in range(MAX_TRIES):
            reader = self.reader = self._host.take() if self.reader is None else self.reader
            try:
                return reader.run(order, parts, workers=self._workers, cancel=cancel)
            except HungUpError:
                self.close()
            except BaseException:
                self.close()  # it may still be at work on what nobody waits for
                raise
        raise worker_lost()

    def close(self) -> None:
        """End the reader."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


def check_cancelled(cancel: threading.Event | None) -> None:
    """Raise `CancelledError` once `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("the job was cancelled", hint="what it had been answered is spent")
