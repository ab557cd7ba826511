"""The process that reads for a job: `python -m sandbox.compute.reader_process SOCKET WORKERS`.

It is executed afresh, imports what it needs, gives up what it does not, and then only forks: one child for each job.
No key and no row was ever in its memory, so a child begins with neither, and gets the keys of the admitted columns of
its own job and no others.  A child ends when its job hangs up; it is killed when this process ends, which ends when the
engine hangs up, however the engine died.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sandbox.compute.confine import confine_parent, confine_reader
from sandbox.compute.frames import Channel, HungUpError
from sandbox.compute.order import WorkOrder, failure_bytes, open_part, reply_bytes, sealed_lengths
from sandbox.compute.run import engine_failed, open_engine
from sandbox.crypto.suites import suite
from sandbox.errors import VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import SuiteName
from sandbox.privacy.keys import Key
from sandbox.privacy.partials import Partials

REQUEST_BYTES_MAX: Final = 1 << 26
DESCRIPTORS_MAX: Final = 1 << 14
READY, NEXT, READER, DONE = b"ready", b"next", b"reader", b"done"


class Question:
    """One order, and the sum of what its partitions gave so far.  Shared by the threads that add to it."""

    def __init__(self, order: WorkOrder) -> None:
        self.order = order
        self._lock = threading.Lock()
        self._cells: dict[Key, tuple[int, ...]] = {}
        self._failure: tuple[int, bytes] | None = None

    def add(self, part: Partials) -> None:
        """Add the integers of one partition."""
        with self._lock:
            for key, amounts in part.cells.items():
                before = self._cells.get(key)
                added = amounts if before is None else tuple(a + b for a, b in zip(before, amounts, strict=True))
                self._cells[key] = added

    def fail(self, number: int, reply: bytes) -> None:
        """Remember the failure of a partition; that of the first one is told, whichever thread was faster."""
        with self._lock:
            if self._failure is None or number < self._failure[0]:
                self._failure = (number, reply)

    def reply(self) -> bytes:
        """Return the reply to the whole question."""
        with self._lock:
            return reply_bytes(Partials(self.order.plan, self._cells)) if self._failure is None else self._failure[1]


class Reading:
    """One job: the engine's frames come in on the main thread, partitions are opened and summed by the others.

    Args:
        wire: the job's socket.
        engines: one of one thread for each thread.
    """

    def __init__(self, wire: socket.socket, engines: Sequence[Any]) -> None:
        self._channel = Channel(wire)
        self._sending = threading.Lock()
        self._waiting: queue.Queue[tuple[Question, dict[str, Any], list[int]]] = queue.Queue()
        for engine in engines:
            threading.Thread(target=self._work, args=(engine,), daemon=True).start()

    def serve(self) -> None:
        """Answer until the engine hangs up."""
        question: Question | None = None
        while True:
            payload, descriptors = self._channel.receive(REQUEST_BYTES_MAX, DESCRIPTORS_MAX)
            request = parse_canonical(payload)
            if "order" in request:
                question = Question(WorkOrder.parse(canonical_bytes(request["order"])))
            elif question is None:
                raise HungUpError("a partition came before its order")
            elif "tables" in request:
                self._waiting.put((question, request, descriptors))
            else:
                self._waiting.join()
                self._send(question.reply())

    def _send(self, payload: bytes) -> None:
        with self._sending:
            self._channel.send(payload)

    def _work(self, engine: Any) -> None:
        while True:
            question, request, descriptors = self._waiting.get()
            try:
                question.add(_run(engine, question.order, request, descriptors))
            except VaultError as error:
                question.fail(request["partition"], failure_bytes(error))
            except Exception:  # noqa: BLE001 - whatever else happens is told by a constant, and never by its words
                question.fail(request["partition"], failure_bytes(engine_failed()))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            del question, request, descriptors
            self._send(DONE)
            self._waiting.task_done()


def _run(engine: Any, order: WorkOrder, request: dict[str, Any], descriptors: list[int]) -> Partials:
    lengths = sealed_lengths(request["tables"])
    sealed = (_read(descriptor, length) for descriptor, length in zip(descriptors, lengths, strict=True))
    return order.run(engine, open_part(request["tables"], sealed))


def _read(descriptor: int, length: int) -> bytes:
    """Return all bytes of a sealed object; one byte more than expected is enough to tell that it is too long."""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(length + 1)


def serve_job(wire: socket.socket, parent: int, engines: Sequence[Any]) -> None:
    """Serve one job and end this process, whatever happens."""
    try:
        confine_reader(parent)
        Reading(wire, engines).serve()
    finally:
        os._exit(0)


def warm_up() -> None:
    """Import what the first question would import, and let the ciphers pass their known answers."""
    for module in ("pandas", "pyarrow.dataset", "pyarrow.parquet"):
        importlib.import_module(module)
    for name in SuiteName:
        suite(name)


def _memory_mib() -> int:
    """Return what DuckDB would give one engine; it reads files to find out, so a confined process cannot ask it."""
    engine = open_engine(threads=1)
    amount, unit = engine.execute("SELECT current_setting('memory_limit')").fetchone()[0].split()
    engine.close()
    return int(float(amount) * {"MiB": 1, "GiB": 1 << 10, "TiB": 1 << 20}[unit])


def main(control: socket.socket, workers: int) -> None:
    """Fork one reader for each request, until the engine hangs up.

    The engines that readers compute with are opened here, once: empty, without threads, and before any key or row is
    near.  A reader gets copies of them by its fork, in place of some 30 ms for each.
    """
    warm_up()
    memory_mib = max(64, _memory_mib() // workers)
    engines = [open_engine(threads=1, memory_mib=memory_mib) for _ in range(workers)]
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        raise RuntimeError(f"libraries started {threads} threads, so this process cannot fork")
    confine_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries readers; the engine holds handles on them
    control.send(READY)
    parent = os.getpid()
    while control.recv(len(NEXT)) == NEXT:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = os.fork()
        if child == 0:
            control.close()
            ours.close()
            serve_job(theirs, parent, engines)
        handle = os.pidfd_open(child)
        socket.send_fds(control, [READER], [ours.fileno(), handle])
        os.close(handle)
        ours.close()
        theirs.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with socket.socket(fileno=int(sys.argv[1])) as line:
        main(line, int(sys.argv[2]))
