"""A running aggregation stops when its job is cancelled."""

import threading

import duckdb
import pytest

from sandbox.compute.interrupt import interrupted_by
from sandbox.compute.run import open_engine

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


def test_a_cancellation_interrupts_what_the_engine_computes():
    cancel = threading.Event()
    engine = open_engine(1)
    threading.Timer(0.3, cancel.set).start()
    with interrupted_by(engine, cancel), pytest.raises(duckdb.InterruptException):
        engine.execute(ENDLESS).fetchall()
    engine.close()


def test_nothing_is_interrupted_without_a_cancellation():
    engine = open_engine(1)
    for cancel in (None, threading.Event()):
        with interrupted_by(engine, cancel):
            assert engine.execute("SELECT 1").fetchall() == [(1,)]
    assert threading.active_count() == 1 or all("watch" not in t.name for t in threading.enumerate())
    engine.close()
