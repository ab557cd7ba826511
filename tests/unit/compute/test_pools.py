"""The same integers from every pool, whoever adds them and whoever dies on the way."""

import os
from fractions import Fraction
from pathlib import Path

import pytest

from sandbox.compute.noise_pool import PIECE, ThreadedNoise
from sandbox.compute.order import WorkOrder, part_bytes, read_part, run_order
from sandbox.compute.pool import HeldPartitions, ProcessPool, ThreadPool
from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import CanonicalError, PrivacyError, UnavailableError, VaultError
from sandbox.privacy.mechanism import threshold_release
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

QUESTIONS = (
    "SELECT COUNT(*) AS n, SUM(cost) AS total FROM visits",
    "SELECT district, AVG(age) AS mean, COUNT(DISTINCT patient) AS units FROM visits WHERE age < 90 GROUP BY district",
    "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag",
)
DYING = "SAGGAR_TEST_DYING"


def units(first: int, count: int):
    return {
        unit: [
            {"age": (unit * 7) % 120, "cost": unit * 100 + visit, "diag": f"D{unit % 5}", "district": None}
            for visit in range(1 + unit % 6)
        ]
        for unit in range(first, first + count)
    }


def partitions(parts: int, each: int = 20):
    return HeldPartitions(world.table(world.visits(units(part * each, each))) for part in range(parts))


def die_once(order: bytes, table: bytes) -> bytes:
    """A worker that dies over the first partition it meets, as one that the kernel killed does."""
    marker = Path(os.environ[DYING])
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return run_order(order, table)
    os._exit(9)


def die_always(order: bytes, table: bytes) -> bytes:
    os._exit(9)


@pytest.mark.parametrize("sql", QUESTIONS)
def test_threads_and_one_engine_give_one_digest(sql):
    plan = world.plan(sql)
    whole = run_plan(plan, [world.table(world.visits(units(0, 120)))])
    with ThreadPool(1) as one, ThreadPool(4) as four:
        found = {
            pool.map_partitions(plan, partitions(parts, 120 // parts)).digest()
            for pool in (one, four)
            for parts in (1, 3, 6)
        }
    assert found == {whole.digest()}


@pytest.mark.parametrize("sql", QUESTIONS)
def test_texts_as_dictionaries_give_the_same_digest(sql):
    plan = world.plan(sql)
    tables = [world.table(world.visits(units(part * 20, 20))) for part in range(2)]
    with ThreadPool(2) as pool:
        plain, encoded = (pool.map_partitions(plan, HeldPartitions(tables, encode=encode)) for encode in (False, True))
    assert plain.digest() == encoded.digest()


def test_processes_give_the_same_digest_and_a_worker_that_dies_changes_nothing(tmp_path, monkeypatch):
    plan = world.plan(QUESTIONS[1])
    expected = run_plan(plan, [world.table(world.visits(units(0, 80)))]).digest()
    monkeypatch.setenv(DYING, str(tmp_path / "died"))
    with ProcessPool(2, run=die_once) as pool:
        assert pool.map_partitions(plan, partitions(4)).digest() == expected
        assert (tmp_path / "died").exists()
        assert pool.map_partitions(plan, partitions(4)).digest() == expected


def test_workers_that_always_die_end_the_job_after_three_tries():
    with (
        ProcessPool(1, run=die_always) as pool,
        pytest.raises(UnavailableError, match="workers died 3 times") as raised,
    ):
        pool.map_partitions(world.plan(QUESTIONS[0]), partitions(1))
    assert raised.value.code == "service.unavailable.worker"


def test_no_partition_gives_no_cells():
    with ThreadPool(2) as pool:
        assert pool.map_partitions(world.plan(QUESTIONS[0]), HeldPartitions([])).cells == {}


def test_an_order_and_a_reply_survive_the_wire():
    order = WorkOrder.of(world.plan(QUESTIONS[2]))
    assert WorkOrder.parse(order.to_bytes()) == order
    table = world.table(world.visits(units(0, 9)))
    assert read_part(part_bytes(table)).equals(table)
    engine = open_engine(1)
    assert order.parse_reply(run_order(order.to_bytes(), part_bytes(table), engine)) == order.run(engine, table)
    engine.close()


@pytest.mark.parametrize("raw", [b"{}", b'{"v":2}', b"[]", b"not json"])
def test_a_malformed_order_is_refused(raw):
    with pytest.raises(CanonicalError):
        WorkOrder.parse(raw)


@pytest.mark.parametrize(
    "change",
    [lambda r: b"{}", lambda r: r[:-1], lambda r: r.replace(b'"exact":["', b'"exact":["1","', 1), lambda r: b"1"],
)
def test_a_reply_that_is_not_the_plans_is_refused(change):
    order = WorkOrder.of(world.plan(QUESTIONS[2]))
    reply = run_order(order.to_bytes(), part_bytes(world.table(world.visits(units(0, 9)))))
    with pytest.raises(VaultError, match="malformed or of another plan") as raised:
        order.parse_reply(change(reply))
    assert raised.value.code == "vault.partials"


def test_the_reply_of_another_plan_is_refused():
    one, other = (
        WorkOrder.of(world.plan(sql)) for sql in (QUESTIONS[0], "SELECT COUNT(*) AS n, SUM(age) AS t FROM visits")
    )
    reply = run_order(other.to_bytes(), part_bytes(world.table(world.visits(units(0, 3)))))
    with pytest.raises(VaultError, match="of another plan"):
        one.parse_reply(reply)


def test_a_workers_error_arrives_with_its_code_and_without_its_words():
    order = WorkOrder.of(world.plan(QUESTIONS[0]))
    table = world.table(world.visits(units(0, 3))).drop_columns(["cost"])
    with pytest.raises(VaultError, match="not what the plan reads") as raised:
        order.parse_reply(run_order(order.to_bytes(), part_bytes(table)))
    assert raised.value.code == "vault.partition"


class Recording(OpenDpNoise):
    """Counts the pieces."""

    def __init__(self):
        self.pieces = []

    def gaussian(self, values, **kept):
        self.pieces.append(len(values))
        return super().gaussian(values, **kept)


@pytest.mark.parametrize("length", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_threaded_noise_keeps_order_and_length_and_every_value_gets_its_own_draw(length):
    source = Recording()
    values = [10**6 * place for place in range(length)]
    noisy = ThreadedNoise(2, source).gaussian(values, sigma=Fraction(3), sensitivity_squared=9, rho=Fraction(1, 2))
    assert len(noisy) == length == sum(source.pieces)
    # A draw beyond 40 standard deviations has a chance below 1e-300.
    assert all(abs(n - v) <= 120 for n, v in zip(noisy, values, strict=True))
    assert (len(source.pieces) > 1) == (length > PIECE)


def test_a_threaded_threshold_keeps_large_keys_and_no_small_ones():
    sigma, threshold = threshold_release(1, Fraction(1, 2), Fraction(1, 10**12))
    counts = {f"k{index}": 1000 if index % 2 else 1 for index in range(PIECE + 100)}
    released = ThreadedNoise(2).thresholded(counts, sigma=sigma, threshold=threshold, rho=Fraction(1, 2))
    assert set(released) == {key for key, count in counts.items() if count == 1000}


def test_a_piece_still_asserts_the_sensitivity_of_the_whole():
    with pytest.raises(PrivacyError, match="too little"):
        ThreadedNoise(2).gaussian([0] * (PIECE + 1), sigma=Fraction(1), sensitivity_squared=100, rho=Fraction(1, 2))
