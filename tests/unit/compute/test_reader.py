"""Readers: the same integers as in this process, whoever dies, and nothing but integers believed."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from sandbox.compute import reader as module
from sandbox.compute.frames import Channel
from sandbox.compute.order import TableOrder, WorkOrder, reply_bytes
from sandbox.compute.pool import ThreadPool
from sandbox.compute.reader import Reader, ReaderPool
from sandbox.compute.run import open_engine, run_plan
from sandbox.compute.sealed import SealedTables
from sandbox.errors import CancelledError, CanonicalError, SealBrokenError, UnavailableError, VaultError
from sandbox.model.canonical import canonical_bytes
from sandbox.privacy.partials import Partials
from sandbox.vault.handed import HandedPartition, seal_broken_from
from tests.support.reader_world import SUMS, Sealed, plan

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return Sealed(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def pool():
    with ReaderPool(2) as pool:
        yield pool


def kill(reader):
    signal.pidfd_send_signal(reader.handle, signal.SIGKILL)


class Killing(SealedTables):
    """Kills the reader while the second partition is on the way, as often as it is told."""

    readers, times = None, 0

    def hand(self, number):
        if number == 1 and self.times:
            self.times -= 1
            kill(self.readers.reader)
        return super().hand(number)


@pytest.mark.parametrize("sql", [SUMS, "SELECT one, COUNT(*) AS n, SUM(two) AS b FROM small GROUP BY one"])
def test_a_reader_a_thread_pool_and_this_process_give_one_digest(sealed, pool, sql):
    asked = plan(sql)
    with sealed.open("one", "two", "three") as opened, ThreadPool(2) as threads, pool.job() as readers:
        parts = SealedTables.of(asked, {asked.dataset: opened})
        digests = {
            run_plan(asked, opened.partitions()).digest(),
            threads.map_partitions(asked, parts).digest(),
            readers.map_partitions(asked, parts).digest(),
            readers.map_partitions(asked, parts).digest(),
        }
    assert len(digests) == 1


@pytest.mark.parametrize("workers", [1, 8])
def test_any_number_of_threads_gives_the_same_integers(sealed, workers):
    with sealed.open("one", "two") as opened, ReaderPool(workers) as pool, pool.job() as readers:
        found = readers.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}))
        assert found.digest() == run_plan(plan(), opened.partitions()).digest()


def test_jobs_have_readers_of_their_own_that_end_with_them(sealed, pool):
    with sealed.open("one", "two") as opened, pool.job() as first, pool.job() as second:
        parts = SealedTables.of(plan(), {plan().dataset: opened})
        assert first.map_partitions(plan(), parts) == second.map_partitions(plan(), parts)
        assert first.reader is not second.reader
        handle = os.dup(first.reader.handle)
        first.close()
        assert ended(handle)
    os.close(handle)


def ended(handle, wait_s=60.0):
    import select

    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def test_a_killed_reader_is_replaced_and_the_integers_are_the_same(sealed, pool):
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = Killing([(opened, ("_unit", "_rank", "one", "two"))])
        calm = readers.map_partitions(plan(), parts)
        before = readers.reader
        parts.readers, parts.times = readers, 1
        assert readers.map_partitions(plan(), parts) == calm
        assert readers.reader is not before


def test_readers_that_always_die_end_the_job_after_three_tries(sealed, pool):
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = Killing([(opened, ("_unit", "_rank", "one", "two"))])
        readers.map_partitions(plan(), parts)
        parts.readers, parts.times = readers, 99
        with pytest.raises(UnavailableError, match="workers died 3 times") as raised:
            readers.map_partitions(plan(), parts)
        assert parts.times == 96
    assert raised.value.code == "service.unavailable.worker"


def test_when_the_process_that_forks_readers_was_killed_another_is_started(sealed):
    with sealed.open("one", "two") as opened, ReaderPool(1) as pool:
        parts = SealedTables.of(plan(), {plan().dataset: opened})
        with pool.job() as readers:
            first = readers.map_partitions(plan(), parts)
            handle = os.dup(readers.reader.handle)
            pool.host._process.kill()
            assert ended(handle), "a reader outlives the process it was forked from"
            os.close(handle)
        with pool.job() as readers:
            assert readers.map_partitions(plan(), parts) == first


def test_readers_that_cannot_be_started_are_told(monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/true")
    with ReaderPool(1) as pool, pytest.raises(UnavailableError, match="does not come up") as raised:
        pool.host.take()
    assert raised.value.code == "service.unavailable.reader"
    assert "memory" in raised.value.hint


def test_a_cancelled_job_ends_at_once_while_a_query_runs(sealed, pool, monkeypatch):
    monkeypatch.setattr(module, "WorkOrder", Rewritten.with_sql(ENDLESS))
    cancel = threading.Event()
    with sealed.open("one", "two") as opened, pool.job() as readers:
        started = threading.Timer(0.5, cancel.set)
        started.start()
        with pytest.raises(CancelledError) as raised:
            readers.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}), cancel=cancel)
        assert raised.value.code == "job.cancelled"
        assert readers.reader is None
        started.join()


class Rewritten(WorkOrder):
    """Orders with another statement than the plan's."""

    @staticmethod
    def with_sql(sql):
        class Other(WorkOrder):
            @classmethod
            def of(cls, plan):
                return replace(WorkOrder.of(plan), sql=sql)

        return Other


@pytest.mark.parametrize("sql", ["SELECT error('a-value') FROM t", "SELECT nosuch FROM t", "SELECT 'x' AS n FROM t"])
def test_an_engine_that_fails_is_told_by_a_constant_and_the_reader_stays_of_use(sealed, pool, monkeypatch, sql):
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = SealedTables.of(plan(), {plan().dataset: opened})
        with monkeypatch.context() as broken:
            broken.setattr(module, "WorkOrder", Rewritten.with_sql(sql))
            with pytest.raises(VaultError, match="the engine failed on a partition") as raised:
                readers.map_partitions(plan(), parts)
        assert raised.value.code == "vault.engine"
        assert "a-value" not in repr(raised.value.to_dict())
        assert readers.map_partitions(plan(), parts).cells


class Liar(Reader):
    """A reader that was taken over: it answers what it likes."""

    def __init__(self, *replies, raw=b""):
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                channel = Channel(theirs)
                while True:
                    request = json.loads(channel.receive(1 << 20, 100)[0])
                    if "tables" in request:
                        channel.send(replies[0])
                    elif "sum" in request:
                        if raw:
                            theirs.setblocking(True)
                            theirs.sendall(raw)
                        channel.send(replies[1])
            finally:
                os._exit(0)
        theirs.close()
        super().__init__(ours, os.pidfd_open(child))
        self.child = child

    def close(self):
        super().close()
        os.waitpid(self.child, 0)


GARBAGE = {
    "nothing": b"",
    "not json": b"\x80\x04.",
    "a list": b"[]",
    "a number": b"1",
    "another plan": b'{"cells":[],"plan":"sm3:00","v":1}',
    "an unknown error": b'{"error":"policy.denied","v":1}',
    "words": b'{"error":"vault.engine","v":1,"words":"a row"}',
    "an object that was not handed over": b'{"error":"vault.seal_broken.block","object":"objects/a-value","v":1}',
    "a made-up fault": b'{"error":"vault.seal_broken.a-value","object":"objects/x","v":1}',
}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE)
def test_a_reader_that_says_garbage_is_a_fault_told_by_a_constant(sealed, pool, reply):
    with sealed.open("one", "two") as opened, pool.job() as readers:
        readers.reader = Liar(module.DONE, reply)
        with pytest.raises(VaultError, match="a worker's partials are malformed or of another plan") as raised:
            readers.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}))
        assert raised.value.code == "vault.partials"
        assert raised.value.details == {}
        assert readers.reader is None


def test_a_reply_is_canonical_and_another_spelling_of_it_is_refused():
    order = WorkOrder(plan().digest(), "", (TableOrder("t", ()),), 2, 2)
    cells = {('东"\\\x00\x1f\u007f', None): (1, -(2**127)), ("a", "😀\n"): (3, 4), ("b", ""): (5, 6)}
    raw = reply_bytes(Partials(order.plan, cells))
    assert raw == canonical_bytes(Partials(order.plan, cells).to_record())
    assert order.parse_reply(raw).cells == cells
    for other in (raw + b" ", raw.replace(b'"v":1', b'"v": 1'), raw.replace("东".encode(), b"\\u4e1c"), b"[" * 100_000):
        with pytest.raises(VaultError) as raised:
            order.parse_reply(other)
        assert raised.value.code == "vault.partials"


@pytest.mark.parametrize("text", ["1.5", "1e3", " 1", "1_0", "٣", "9" * 61, "", "-", "0x1"])
def test_amounts_that_are_no_plain_integers_are_refused(text):
    order = WorkOrder.of(plan())
    amounts = json.dumps([text, "1", "1"], ensure_ascii=False)
    reply = f'{{"cells":[{{"exact":{amounts.replace(" ", "") if text != " 1" else amounts},"key":[]}}],"plan":"{order.plan}","v":1}}'
    with pytest.raises(VaultError) as raised:
        order.parse_reply(reply.encode())
    assert raised.value.code == "vault.partials"


def test_a_reader_that_breaks_the_protocol_is_replaced_like_a_dead_one(sealed, pool):
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = SealedTables.of(plan(), {plan().dataset: opened})
        expected = readers.map_partitions(plan(), parts)
        readers.close()
        readers.reader = Liar(b"DONE", b"")
        assert readers.map_partitions(plan(), parts) == expected
        readers.close()
        readers.reader = Liar(module.DONE, b"", raw=b"\xff" * 6)  # a frame of four gigabytes
        assert readers.map_partitions(plan(), parts) == expected


@pytest.mark.parametrize("damage", ["flip", "swap", "shorter", "longer", "missing"])
def test_a_changed_object_is_named(tmp_path, pool, damage):
    sealed = Sealed(tmp_path)
    objects = {(each.partition, each.column): each for each in sealed.manifest.objects}
    victim, other = objects[2, "one"], objects[1, "one"]
    folder = tmp_path / "vault" / "blobs"
    raw = (folder / victim.name).read_bytes()
    changed = {
        "flip": raw[:-1] + bytes([raw[-1] ^ 1]),
        "swap": (folder / other.name).read_bytes(),
        "shorter": raw[:-1],
        "longer": raw + b"x",
    }
    if damage == "missing":
        (folder / victim.name).unlink()
    else:
        (folder / victim.name).write_bytes(changed[damage])
    with sealed.open("one", "two") as opened, pool.job() as readers:
        with pytest.raises(SealBrokenError, match=victim.name) as raised:
            readers.map_partitions(plan(), SealedTables.of(plan(), {plan().dataset: opened}))
        with pytest.raises(SealBrokenError) as here:
            opened.partition(2)
    assert raised.value.details["object"] == victim.name
    assert raised.value.code == here.value.code


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x"], ids=["shorter", "longer"])
def test_an_object_that_changes_its_length_on_the_way_is_named(sealed, pool, change):
    class Changing(SealedTables):
        @contextmanager
        def descriptors(self, handed):
            with super().descriptors(handed) as honest:
                changed = os.memfd_create("changed")
                os.write(changed, change(os.pread(honest[0], 1 << 20, 0)))
                os.lseek(changed, 0, os.SEEK_SET)
                yield [changed, *honest[1:]]
                os.close(changed)

    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = Changing([(opened, ("_unit", "_rank", "one", "two"))])
        with pytest.raises(SealBrokenError, match=parts.hand(0)[0][0].columns[0].name) as raised:
            readers.map_partitions(plan(), parts)
    assert raised.value.code == "vault.seal_broken.length"


def test_no_error_is_made_of_a_word_that_is_none_of_ours():
    assert seal_broken_from("vault.seal_broken.block", "objects/x").details == {"object": "objects/x"}
    assert seal_broken_from("vault.seal_broken.elsewhere", "objects/x") is None
    assert seal_broken_from("vault.block", "objects/x") is None


def test_a_handed_partition_survives_the_wire_and_is_strict(sealed):
    with sealed.open("one") as opened:
        handed = opened.hand(1, ("_unit", "_rank", "one"))
    assert HandedPartition.parse(json.loads(json.dumps(handed.to_record()))) == handed
    assert handed.columns[2].key.hex() not in repr(handed)
    for change in ({"more": 1}, {"suite": "none"}, {"columns": [{}]}, {"columns": 3}, {"partition": None}):
        with pytest.raises(CanonicalError, match="malformed"):
            HandedPartition.parse({**handed.to_record(), **change})


def test_an_order_over_two_tables_reads_both_of_each_partition(sealed, pool):
    order = WorkOrder(
        plan().digest(),
        "SELECT sum(t.one * u.two) FROM t JOIN u ON t._unit = u._unit AND t._rank = u._rank",
        (TableOrder("t", ("one",)), TableOrder("u", ("two",))),
        0,
        1,
    )
    assert WorkOrder.parse(order.to_bytes()) == order
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = SealedTables([(opened, ("_unit", "_rank", "one")), (opened, ("_unit", "_rank", "two"))])
        found = pool.host.take()
        partials = found.run(order, parts, workers=2, cancel=None)
        found.close()
        assert readers.reader is None
        whole = pa.concat_tables(opened.partitions())
    expected = sum(a * b for a, b in zip(*(whole.column(name).to_pylist() for name in ("one", "two")), strict=True))
    assert partials.cells == {(): (expected,)}


def test_an_engine_of_a_reader_has_its_share_of_memory():
    engine = open_engine(1, memory_mib=100)
    assert engine.execute("SELECT current_setting('memory_limit')").fetchone() == ("100.0 MiB",)
    engine.close()


ENGINE = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from sandbox.compute.reader import ReaderPool
    pool = ReaderPool(1)
    reader = pool.host.take()
    import os
    pid = next(l.split()[1] for l in open(f"/proc/self/fdinfo/{reader.handle}") if l.startswith("Pid:"))
    print(pid, pool.host._process.pid, flush=True)
    time.sleep(600)
"""


def test_when_the_engine_is_killed_its_readers_end():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENGINE), str(ROOT)], stdout=subprocess.PIPE, text=True
    )
    handles = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    assert [ended(handle) for handle in handles] == [True, True]
    for handle in handles:
        os.close(handle)


def test_a_stopped_reader_does_not_hold_up_a_cancellation(sealed, pool):
    cancel = threading.Event()
    with sealed.open("one", "two") as opened, pool.job() as readers:
        parts = SealedTables.of(plan(), {plan().dataset: opened})
        readers.map_partitions(plan(), parts)
        signal.pidfd_send_signal(readers.reader.handle, signal.SIGSTOP)
        threading.Timer(0.2, cancel.set).start()
        with pytest.raises(CancelledError):
            readers.map_partitions(plan(), parts, cancel=cancel)
        assert readers.reader is None
