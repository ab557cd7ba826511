"""The line computes where the configuration says, and the integers are the same wherever that is."""

import signal
import threading
from dataclasses import replace

import pytest

from sandbox.compute import reader
from sandbox.compute.order import WorkOrder
from sandbox.compute.reader import JobReaders, Reader, ReaderPool
from sandbox.errors import CancelledError, StateUnsafeError, UnavailableError
from sandbox.jobs.line import run_job
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.job import JobState
from sandbox.service import compose
from sandbox.service.config import ComputeConfig, Layout, PoolName, StateConfig
from tests.conftest import SQL, SQL_JOB
from tests.support.line_world import check_log, computed_on, posted


@pytest.fixture
def own_pools(monkeypatch):
    """Undo the sharing of readers: each engine gets the pool that its configuration names."""
    monkeypatch.setattr(compose, "open_pool", shared_from())
    return monkeypatch


def shared_from():
    from contextlib import closing, contextmanager

    @contextmanager
    def open_pool(config):
        assert config.compute.pool is PoolName.LOCAL
        with closing(ReaderPool(config.compute.workers)) as pool:
            yield pool

    return open_pool


def test_integers_through_the_line_are_the_same_on_1_2_and_8_threads(world, own_pools):
    digests = {computed_on(world, ComputeConfig(workers=workers), f"on {workers}") for workers in (1, 2, 8)}
    assert len(digests) == 1


def test_a_reader_that_is_killed_in_a_job_changes_nothing_and_costs_nothing_more(world, monkeypatch):
    honest, killed = JobReaders.map_partitions, []

    def dying(readers, plan, parts, **options):
        readers.reader = readers._host.take()
        signal.pidfd_send_signal(readers.reader.handle, signal.SIGKILL)
        killed.append(True)
        return honest(readers, plan, parts, **options)

    monkeypatch.setattr(JobReaders, "map_partitions", dying)
    before = posted(world)
    assert world.run().raw
    assert killed
    with world.engine() as engine:
        (job,) = engine.state().jobs.values()
        assert (job.state, job.posted) == (JobState.RELEASED, job.reserved)
        check_log(engine)
    assert posted(world) == before + job.reserved


def test_readers_that_keep_dying_end_the_job_and_what_was_asked_is_spent(world, monkeypatch):
    honest = Reader.run

    def dying(reader, *given, **options):
        signal.pidfd_send_signal(reader.handle, signal.SIGKILL)
        return honest(reader, *given, **options)

    monkeypatch.setattr(Reader, "run", dying)
    with pytest.raises(UnavailableError, match="workers died 3 times") as raised:
        world.run()
    assert raised.value.code == "service.unavailable.worker"
    with world.engine() as engine:
        (job,) = engine.state().jobs.values()
        assert (job.state, job.ending, job.posted) == (JobState.FAILED, raised.value.code, job.reserved)
        check_log(engine)


def test_a_job_that_is_cancelled_while_a_query_runs_ends_and_what_was_asked_is_spent(world, monkeypatch):
    class Endless(WorkOrder):
        @classmethod
        def of(cls, plan):
            sql = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
            return replace(WorkOrder.of(plan), sql=sql, layout=replace(plan.layout, tallies=()))

    monkeypatch.setattr(reader, "WorkOrder", Endless)
    cancel = threading.Event()
    timer = threading.Timer(1.0, cancel.set)
    with world.engine() as engine:
        signed = world.signed(engine, SQL_JOB, SQL)
        timer.start()
        with pytest.raises(CancelledError) as raised:
            run_job(engine, signed, cancel=cancel)
        (job,) = engine.state().jobs.values()
        assert (job.state, job.ending) == (JobState.FAILED, raised.value.code)
        check_log(engine)
    timer.join()


def test_a_state_from_before_there_was_a_choice_computes_here(world):
    layout = Layout(world.state)
    record = parse_canonical(layout.config.read_bytes())
    del record["compute"]
    layout.config.write_bytes(canonical_bytes(record))
    assert StateConfig.read(layout).compute == ComputeConfig()


def test_choices_are_read_as_they_were_written(world):
    layout = Layout(world.state)
    chosen = StateConfig(
        "a/log", StateConfig.read(layout).suite, demo=False, compute=ComputeConfig(PoolName.RAY, 8, "head:6379")
    )
    chosen.write(layout)
    assert StateConfig.read(layout) == chosen


@pytest.mark.parametrize(
    ("compute", "what"),
    [
        ({"pool": "spark"}, "its pool"),
        ({"pool": 3}, "its pool"),
        ({"pool": []}, "its pool"),
        ({"workers": 0}, "its number of workers"),
        ({"workers": 257}, "its number of workers"),
        ({"workers": True}, "its number of workers"),
        ({"workers": "2"}, "its number of workers"),
        ({"address": "head:6379"}, "its address"),
        ({"pool": "ray", "address": ""}, "its address"),
        ({"pool": "ray", "address": 6379}, "its address"),
        ({"threads": 2}, "its fields"),
        ([], "its fields"),
        (None, "its fields"),
    ],
)
def test_a_choice_that_is_none_is_refused_by_name(world, compute, what):
    layout = Layout(world.state)
    record = parse_canonical(layout.config.read_bytes())
    layout.config.write_bytes(canonical_bytes({**record, "compute": compute}))
    with pytest.raises(StateUnsafeError, match=f"not understood: {what}") as raised:
        StateConfig.read(layout)
    assert raised.value.code == "ledger.state.compute"
    assert "`local` or `ray`" in raised.value.hint
