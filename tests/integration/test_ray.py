"""Ray: refused without its walls, and with them the same integers, whoever dies."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox.compute import ray_pool
from sandbox.compute.order import WorkOrder
from sandbox.compute.pool import needed_bytes
from sandbox.compute.ray_pool import (
    KEY_CONTEXT,
    Cluster,
    RayPool,
    SealedWorker,
    check_security,
    open_message,
    place_of,
    seal_message,
)
from sandbox.compute.run import run_plan
from sandbox.compute.sealed import SealedTables
from sandbox.crypto.envelope import seal_to
from sandbox.errors import CancelledError, IsolationError, SealBrokenError, UnavailableError
from sandbox.model.canonical import parse_canonical
from sandbox.model.entry import EntryKind
from sandbox.model.keys import PublicKey, SuiteName
from sandbox.service import compose
from tests.support import join_world as joins
from tests.support import privacy_world
from tests.support.line_world import kinds, last, size
from tests.support.ray_driver import settings, write_certificates
from tests.support.reader_world import Sealed, plan

ROOT = Path(__file__).parents[2]
ORDER = WorkOrder.of(privacy_world.plan("SELECT COUNT(*) AS n FROM visits"))


@pytest.fixture
def secured(tmp_path):
    write_certificates(tmp_path)
    return settings(tmp_path)


def test_a_secured_environment_passes(secured):
    check_security(secured)


@pytest.mark.parametrize(
    "name", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_CA_CERT"]
)
def test_a_start_without_one_of_the_walls_is_refused_by_name(secured, name):
    del secured[name]
    with pytest.raises(IsolationError, match="without its token or TLS") as raised:
        check_security(secured)
    assert raised.value.code == "isolation.cluster"
    assert [missing.split("=")[0] for missing in raised.value.details["missing"]] == [name]
    assert name in raised.value.hint


def test_a_pool_and_a_worker_refuse_to_start_in_the_open(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    with pytest.raises(IsolationError, match="in this process"):
        RayPool(2)
    with pytest.raises(IsolationError, match="in a worker"):
        SealedWorker("gm")


def test_without_the_extra_the_hint_says_what_to_install(secured, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnavailableError, match="Ray is not installed") as raised:
        RayPool(2)
    assert raised.value.code == "service.unavailable.ray"


def test_a_job_on_a_cluster_without_walls_is_refused_before_anything_is_reserved(world, monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    before = size(world)

    @contextmanager
    def cluster(*_):
        yield Cluster(2, None, SuiteName.GM)

    monkeypatch.setattr(compose, "open_pool", cluster)
    with pytest.raises(IsolationError, match="without its token or TLS") as raised:
        world.run()
    assert raised.value.code == "isolation.cluster"
    assert kinds(world, before) == ["job.submitted", "job.refused"]
    assert last(world, EntryKind.JOB_REFUSED)["stage"] == "pool"


class Straight:
    """Ray's handle on a worker, without Ray: a call is made at once, by a worker that may die over it."""

    def __init__(self, worker, dying=0):
        self.worker, self.dying = worker, dying

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *given: self._call(name, given))

    def _call(self, name, given):
        if name == "open" and self.dying:
            self.dying -= 1
            return FakeRay.DiedError()
        return getattr(self.worker, name)(*given)


class FakeRay:
    """As much of Ray as the pool speaks to."""

    class DiedError(Exception):
        pass

    exceptions = SimpleNamespace(RayActorError=DiedError)

    def __init__(self, dying=0):
        self.dying, self.killed = dying, []

    def init(self, **_):
        pass

    def shutdown(self):
        pass

    def kill(self, worker):
        self.killed.append(worker)

    def remote(self, **_):
        def hired(suite_name):
            dying, self.dying = self.dying, 0
            return Straight(SealedWorker(suite_name), dying)

        return lambda _: SimpleNamespace(remote=hired)

    def wait(self, references, num_returns, timeout):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        if isinstance(reference, self.DiedError):
            raise reference
        return reference


@pytest.fixture
def cluster(secured, monkeypatch):
    for name, value in secured.items():
        monkeypatch.setenv(name, value)

    def made(dying=0):
        monkeypatch.setattr(ray_pool, "_import_ray", lambda: FakeRay(dying))
        return RayPool(2)

    return made


@pytest.mark.parametrize("dying", [0, 1, 2])
def test_sealed_partitions_on_workers_give_the_integers_of_this_process_whoever_dies(cluster, tmp_path, dying):
    sealed = Sealed(tmp_path)
    with sealed.open("one", "two") as opened, cluster(dying) as pool:
        found = pool.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}))
        assert found.digest() == run_plan(plan(), opened.partitions()).digest()


def test_a_changed_object_is_named_by_a_worker_too(cluster, tmp_path):
    sealed = Sealed(tmp_path)
    victim = next(each for each in sealed.manifest.objects if (each.partition, each.column) == (2, "one"))
    path = tmp_path / "vault" / "blobs" / victim.name
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with sealed.open("one", "two") as opened, cluster() as pool, pytest.raises(SealBrokenError) as raised:
        pool.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}))
    assert (raised.value.code, raised.value.details["object"]) == ("vault.seal_broken.block", victim.name)


def test_a_cancelled_question_lets_busy_workers_go_and_the_next_one_hires_others(cluster, tmp_path):
    sealed, cancel = Sealed(tmp_path), threading.Event()
    with sealed.open("one", "two") as opened, cluster() as pool:
        parts, before = SealedTables.of(plan(), {plan().dataset: opened}), set(pool.workers)
        cancel.set()
        with pytest.raises(CancelledError):
            pool.map_partitions(plan(), parts, cancel=cancel)
        assert set(pool._ray.killed) == before
        assert pool.map_partitions(plan(), parts).cells
        assert not set(pool.workers) & before


@pytest.mark.parametrize("name", list(SuiteName))
def test_a_message_opens_only_in_its_place_and_under_its_key(name):
    key, place = b"k" * 32, place_of(ORDER, 3, "there")
    sealed = seal_message(name, key, b"rows", place)
    assert b"rows" not in sealed
    assert open_message(name, key, sealed, place) == b"rows"
    assert seal_message(name, key, b"rows", place) != sealed
    for wrong_key, wrong_place, raw in (
        (b"x" * 32, place, sealed),
        (key, place_of(ORDER, 4, "there"), sealed),
        (key, place_of(ORDER, 3, "back"), sealed),
        (key, place, sealed[:-1]),
        (key, place, b""),
    ):
        with pytest.raises(SealBrokenError):
            open_message(name, wrong_key, raw, wrong_place)


def test_a_worker_takes_both_tables_of_a_join_sealed_and_gives_the_same_integers(secured, monkeypatch):
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    plan = joins.plan("SELECT kind, SUM(v.age) AS s FROM visits v JOIN claims c ON v.patient = c.insured GROUP BY kind")
    visits, claims = ({u: [{"age": u % 9}] * (u % 3 + 1) for u in range(40)} for _ in range(2))
    pair = joins.pair(plan, privacy_world.visits(visits), privacy_world.visits(claims))
    order, key, worker = WorkOrder.of(plan), b"k" * 32, SealedWorker("gm")
    worker.take_key(seal_to(PublicKey.parse(parse_canonical(worker.public())), key, KEY_CONTEXT))
    payload = needed_bytes(order, HeldPairs(pair), 0)
    sealed = seal_message(SuiteName.GM, key, payload, place_of(order, 0, "there"))
    reply = open_message(SuiteName.GM, key, worker.run(order.to_bytes(), 0, sealed), place_of(order, 0, "back"))
    assert order.parse_reply(reply).digest() == run_plan(plan, [pair]).digest()


class HeldPairs:
    """One pair, as a source of partitions."""

    partition_count = 1

    def __init__(self, pair):
        self.pair = pair

    def partition(self, number):
        return self.pair


def test_two_real_workers_give_the_same_digest_even_when_one_is_killed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.ray_driver", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["workers"] == 2
    assert seen["calm"] == seen["killed"] == seen["expected"]
    assert seen["joined"] == seen["joined_expected"]
    assert seen["replaced"]
    assert seen["line_local"] == seen["line_ray"]
