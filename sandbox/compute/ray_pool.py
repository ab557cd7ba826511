"""Ray: the same exact integers from a cluster, whose workers get plan ids, sealed partitions and a wrapped key.

Whoever reaches a Ray cluster may run code on it, so its own walls come first: token and TLS are required here and on
every worker, and a start without them is refused.  A cluster belongs to the sandbox's own network and is never shown to
operators; their programs run elsewhere, behind the walls of the runtime.

What Ray carries is bytes.  Each worker makes a key pair; the driver wraps one job key to it; partitions go sealed under
that key and partials come back sealed, bound to the plan's id and the partition's number.  So Ray's object store, its
spill files and its logs hold nothing in clear, and a reply that belongs elsewhere is refused.  The code of a worker is
this module in the worker's own installation.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from sandbox.compute.order import WorkOrder, failure_bytes, open_part, reply_bytes, request_bytes, run_order
from sandbox.compute.pool import MAX_TRIES, Partitions, needed_bytes, worker_lost
from sandbox.compute.reader import check_cancelled
from sandbox.compute.run import open_engine
from sandbox.compute.sealed import SealedTables
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.envelope import open_sealed, seal_to
from sandbox.crypto.keys import generate_key
from sandbox.crypto.suites import suite
from sandbox.errors import IsolationError, UnavailableError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Role, SuiteName
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan

KEY_CONTEXT = "saggar/ray/job-key/1"
_SALT_BYTES = 16
_SLICE_S = 0.2
_FILES = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")


def missing_security(environ: Mapping[str, str]) -> list[str]:
    """Return the settings of Ray's token and TLS that an environment lacks."""
    missing = []
    if environ.get("RAY_AUTH_MODE") != "token":
        missing.append("RAY_AUTH_MODE=token")
    if not environ.get("RAY_AUTH_TOKEN") and not environ.get("RAY_AUTH_TOKEN_PATH"):
        missing.append("RAY_AUTH_TOKEN_PATH")
    if environ.get("RAY_USE_TLS") != "1":
        missing.append("RAY_USE_TLS=1")
    missing += [name for name in _FILES if not Path(environ.get(name, "")).is_file()]
    return missing


def check_security(environ: Mapping[str, str], *, where: str = "this process") -> None:
    """Raise `IsolationError` (`isolation.cluster`) unless an environment asks Ray for its token and TLS."""
    if missing := missing_security(environ):
        raise IsolationError(
            f"Ray would run without its token or TLS in {where}",
            hint=f"set {', '.join(missing)} as docs/how-to/run-on-a-cluster.md says",
            code="isolation.cluster",
            missing=missing,
        )


def seal_message(name: SuiteName, key: bytes, payload: bytes, place: bytes) -> bytes:
    """Return bytes sealed under a key of their own, drawn from the job key and a fresh salt, bound to a place."""
    chosen, salt = suite(name), random_bytes(_SALT_BYTES)
    own = chosen.expand(key, b"saggar/ray/message/1/" + salt, chosen.key_bytes)
    return salt + chosen.seal(own, bytes(chosen.nonce_bytes), payload, place)


def open_message(name: SuiteName, key: bytes, sealed: bytes, place: bytes) -> bytes:
    """Return what was sealed for a place; raise `SealBrokenError` for any other bytes, key or place."""
    chosen, salt = suite(name), sealed[:_SALT_BYTES]
    own = chosen.expand(key, b"saggar/ray/message/1/" + salt, chosen.key_bytes)
    return chosen.unseal(own, bytes(chosen.nonce_bytes), sealed[_SALT_BYTES:], place)


def place_of(order: WorkOrder, number: int, way: str) -> bytes:
    """Return what a message is bound to: the plan's id, the partition's number and its way, `there` or `back`."""
    return canonical_bytes({"v": 1, "plan": order.plan, "partition": number, "way": way})


class SealedWorker:
    """What runs on a worker: it holds a key pair, one job key and a closed engine.

    Raises:
        IsolationError: the worker's own environment lacks Ray's token or TLS.
    """

    def __init__(self, suite_name: str) -> None:
        check_security(os.environ, where="a worker")
        self._suite = SuiteName(suite_name)
        self._pair = generate_key("worker", Role.SANDBOX, self._suite)
        self._key = b""
        self._engine = open_engine(threads=1)

    def public(self) -> bytes:
        """Return the worker's public key as canonical bytes."""
        return canonical_bytes(self._pair.public.to_record())

    def take_key(self, wrapped: bytes) -> None:
        """Take the job key that was wrapped to this worker."""
        self._key = open_sealed(self._pair, wrapped, KEY_CONTEXT)

    def open(self, order: bytes, number: int, wrapped: bytes, objects: list[bytes]) -> bytes:
        """Return the sealed reply for a partition in the vault's own sealed objects, whose keys come wrapped."""
        parsed = WorkOrder.parse(order)
        request = open_message(self._suite, self._key, wrapped, place_of(parsed, number, "there"))
        try:
            part = open_part(parse_canonical(request)["tables"], objects)
            reply = reply_bytes(parsed.run(self._engine, part))
        except VaultError as error:
            reply = failure_bytes(error)
        return seal_message(self._suite, self._key, reply, place_of(parsed, number, "back"))

    def run(self, order: bytes, number: int, sealed: bytes) -> bytes:
        """Return the sealed reply for a sealed partition."""
        parsed = WorkOrder.parse(order)
        table = open_message(self._suite, self._key, sealed, place_of(parsed, number, "there"))
        reply = run_order(order, table, self._engine)
        return seal_message(self._suite, self._key, reply, place_of(parsed, number, "back"))


class RayPool:
    """Workers on a Ray cluster.

    Args:
        workers: how many, a core each; one partition is on the way to each.
        address: of a running cluster, or None to start one on this machine with `workers` cores.
        suite_name: the suite of keys and messages.

    Raises:
        IsolationError: token or TLS is missing here or on a worker (`isolation.cluster`).
        UnavailableError: Ray is not installed (`service.unavailable.ray`).
    """

    def __init__(self, workers: int = 2, *, address: str | None = None, suite_name: SuiteName = SuiteName.GM) -> None:
        check_security(os.environ)
        self._ray = _import_ray()
        self._suite = suite_name
        self._key = random_bytes(32)
        local = {"num_cpus": workers, "object_store_memory": 200 * 2**20, "include_dashboard": False}
        self._ray.init(address=address, log_to_driver=False, **({} if address else local))
        remote = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
        self._actor = remote(SealedWorker)
        self._wanted = max(1, workers)
        self._workers = [self._hire() for _ in range(self._wanted)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers go, drop the job key and leave the cluster."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers.clear()
        self._key = b""
        self._ray.shutdown()

    @property
    def workers(self) -> tuple[Any, ...]:
        """The workers, as Ray's handles."""
        return tuple(self._workers)

    def map_partitions(self, plan: Plan, parts: Partitions, *, cancel: threading.Event | None = None) -> Partials:
        """Return the exact integers of a plan, summed over all partitions.

        A worker that dies is replaced, and its partition is sent to the next free one.  Partitions of the vault travel
        as the vault sealed them, with their object keys wrapped; others are sealed for the way.

        Raises:
            VaultError: an object is not what was sealed, or the engine failed.
            CancelledError: `cancel` was set.
            UnavailableError: workers died `MAX_TRIES` times over one partition.
        """
        while len(self._workers) < self._wanted:
            self._workers.append(self._hire())
        order = WorkOrder.of(plan)
        raw = order.to_bytes()
        done: dict[int, Partials] = {}
        tries = dict.fromkeys(range(parts.partition_count), 0)
        waiting, idle = list(reversed(range(parts.partition_count))), list(self._workers)
        running: dict[Any, tuple[int, Any]] = {}
        while waiting or running:
            while waiting and idle:
                number, worker = waiting.pop(), idle.pop()
                running[self._send(worker, order, raw, parts, number)] = (number, worker)
            ended, _ = self._ray.wait(list(running), num_returns=1, timeout=_SLICE_S)
            if cancel is not None and cancel.is_set():
                self._dismiss(worker for _, worker in running.values())
                check_cancelled(cancel)
            for reference in ended:
                number, worker = running.pop(reference)
                try:
                    reply = self._ray.get(reference)
                except self._ray.exceptions.RayActorError:
                    tries[number] += 1
                    if tries[number] >= MAX_TRIES:
                        raise worker_lost() from None
                    waiting.append(number)
                    idle.append(self._replace(worker))
                    continue
                idle.append(worker)
                opened = open_message(self._suite, self._key, reply, place_of(order, number, "back"))
                done[number] = order.parse_reply(opened, _objects_of(parts, number))
        return add_partials(order.plan, (done[number].cells.items() for number in sorted(done)))

    def _send(self, worker: Any, order: WorkOrder, raw: bytes, parts: Partitions, number: int) -> Any:
        """Return Ray's reference to the reply for one partition."""
        place = place_of(order, number, "there")
        if not isinstance(parts, SealedTables):
            rows = needed_bytes(order, parts, number)
            return worker.run.remote(raw, number, seal_message(self._suite, self._key, rows, place))
        handed = parts.hand(number)
        wrapped = seal_message(self._suite, self._key, request_bytes(number, handed), place)
        return worker.open.remote(raw, number, wrapped, parts.sealed_bytes(handed))

    def _dismiss(self, workers: Iterable[Any]) -> None:
        """Let workers go that may still be at work; the next question hires others."""
        for worker in workers:
            self._ray.kill(worker)
            self._workers.remove(worker)

    def _hire(self) -> Any:
        worker = self._actor.remote(self._suite.value)
        try:
            public = PublicKey.parse(parse_canonical(self._ray.get(worker.public.remote())))
        except self._ray.exceptions.RayActorError:
            raise IsolationError(
                "a worker did not start; it refuses to without Ray's token and TLS",
                hint="start every node with the same settings, and look at its logs",
                code="isolation.cluster",
            ) from None
        self._ray.get(worker.take_key.remote(seal_to(public, self._key, KEY_CONTEXT)))
        return worker

    def _replace(self, worker: Any) -> Any:
        place = self._workers.index(worker)
        self._workers[place] = self._hire()
        return self._workers[place]


class Cluster:
    """A Ray pool that starts with the first job and lasts as long as the engine.

    Args:
        workers: how many.
        address: of a running cluster, or None to start one on this machine.
        suite_name: the suite of keys and messages.
    """

    def __init__(self, workers: int, address: str | None, suite_name: SuiteName) -> None:
        self._start = partial(RayPool, workers, address=address, suite_name=suite_name)
        self._lock = threading.Lock()
        self._pool: RayPool | None = None

    def prepare(self) -> None:
        """Start the workers, before anything is reserved for a job.

        Raises:
            IsolationError: token or TLS is missing here or on a worker (`isolation.cluster`).
            UnavailableError: Ray is not installed (`service.unavailable.ray`).
        """
        with self._lock:
            if self._pool is None:
                self._pool = self._start()

    @contextmanager
    def job(self) -> Iterator[RayPool]:
        """Yield what computes for one job."""
        self.prepare()
        assert self._pool is not None
        yield self._pool

    def close(self) -> None:
        """Let the workers go."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None


def _objects_of(parts: Partitions, number: int) -> set[str]:
    """Return the sealed objects that a worker was given for a partition, which it may name in an error."""
    handed = parts.hand(number) if isinstance(parts, SealedTables) else ()
    return {column.name for found in handed for part in found for column in part.columns}


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UnavailableError(
            "Ray is not installed",
            hint="install Saggar with the extra `ray`",
            code="service.unavailable.ray",
        ) from None
