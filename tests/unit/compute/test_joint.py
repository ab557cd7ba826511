"""Joined partitions: ranges of units that all tables' partitions fill, on every kind of pool with the same digest."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sandbox.compute.joint import Joint
from sandbox.compute.order import WorkOrder, part_bytes, read_part, run_order
from sandbox.compute.pool import HeldPartitions, ProcessPool, ThreadPool
from sandbox.compute.run import open_engine, run_plan
from sandbox.compute.sealed import SealedTables
from sandbox.crypto.suites import suite
from sandbox.errors import CanonicalError, VaultError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import SuiteName
from sandbox.vault.placing import UnitHash, bucket_of
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.reader_world import Sealed

SQL = (
    "SELECT v.district, kind, COUNT(*) AS n, SUM(paid) AS paid, MEDIAN(v.age) AS m FROM visits v "
    "JOIN claims c ON v.patient = c.insured GROUP BY 1, 2"
)
UNITS = range(-300, 300)
VISITS = world.visits({u: [{"age": u % 90, "district": ("east", "west")[u % 2]}] * (u % 4 + 1) for u in UNITS})
CLAIMS = world.visits({u: [{"paid": u % 50, "kind": "ab"[u % 2]}] * (u % 5 + 1) for u in UNITS if u % 3})
HASH = UnitHash(b"k" * 32, suite(SuiteName.GM))
COLUMNS = (("_unit", "_rank", "age", "district"), ("_unit", "_rank", "kind", "paid"))


class Placed:
    """A table whose rows are in the partitions where the vault would put them."""

    def __init__(self, table: pa.Table, count: int) -> None:
        places = bucket_of(HASH.of(table.column("_unit").to_numpy()), count)
        self.partition_count = count
        self._parts = [table.filter(pa.array(places == number)) for number in range(count)]

    def partition(self, number, columns=None, *, dictionaries=False):
        part = self._parts[number].select(columns)
        if dictionaries:
            for place, field in enumerate(part.schema):
                if field.type == pa.string():
                    part = part.set_column(place, field.name, part.column(place).dictionary_encode())
        return part


def placed(left: int, right: int) -> SealedTables:
    tables = Placed(world.table(VISITS), left), Placed(joins.claim_table(CLAIMS), right)
    return SealedTables(tuple(zip(tables, COLUMNS, strict=True)))


@pytest.mark.parametrize(
    ("left", "right", "count"), [(4, 4, 4), (8, 4, 4), (4, 64, 4), (6, 4, 2), (1, 16, 1), (5, 3, 1)]
)
def test_any_two_numbers_of_partitions_give_the_same_integers(left, right, count):
    plan = joins.plan(SQL)
    parts = placed(left, right)
    assert parts.partition_count == count
    whole = run_plan(plan, [joins.pair(plan, VISITS, CLAIMS)])
    apart = run_plan(plan, (parts.partition(number) for number in range(count)))
    assert apart.digest() == whole.digest()
    units = [set(np.unique(parts.partition(number).tables[0].column("_unit"))) for number in range(count)]
    assert sum(map(len, units)) == len(UNITS), "each unit stands in one range"


def test_threads_and_processes_give_the_same_digest():
    plan, parts = joins.plan(SQL), placed(8, 4)
    alone = run_plan(plan, (parts.partition(number) for number in range(4))).digest()
    with ThreadPool(2) as threads, ProcessPool(2) as processes:
        assert threads.map_partitions(plan, parts).digest() == alone
        assert processes.map_partitions(plan, parts).digest() == alone


def test_an_order_and_its_pair_travel_as_bytes():
    plan = joins.plan(SQL)
    order, pair = WorkOrder.of(plan), placed(4, 4).partition(1)
    assert WorkOrder.parse(order.to_bytes()) == order
    again = read_part(part_bytes(pair))
    assert isinstance(again, Joint)
    assert [one.equals(other) for one, other in zip(again.tables, pair.tables, strict=True)] == [True, True]
    engine = open_engine(1)
    assert order.parse_reply(run_order(order.to_bytes(), part_bytes(pair), engine)) == order.run(engine, pair)


def test_a_join_over_one_table_and_a_table_over_a_pair_are_refused(tmp_path: Path):
    pair = placed(4, 4).partition(0)
    for plan, part in ((joins.plan(SQL), pair.tables[0]), (world.plan("SELECT COUNT(*) FROM visits"), pair)):
        with pytest.raises(VaultError, match="a statement was given more or fewer tables than it joins") as caught:
            run_plan(plan, [part])
        assert caught.value.code == "vault.partition"
    with pytest.raises(VaultError) as caught:
        run_plan(joins.plan(SQL), [Joint((pair.tables[0], pair.tables[1].drop_columns(["paid"])))])
    assert caught.value.code == "vault.partition"
    assert HeldPartitions([world.table(VISITS)]).partition_count == 1


def test_snapshots_of_different_partitions_are_handed_over_in_ranges_that_fit_both(tmp_path: Path):
    fine, coarse = Sealed(tmp_path / "fine", partitions=8), Sealed(tmp_path / "coarse", partitions=2)
    with fine.open("one") as first, coarse.open("one") as second:
        parts = SealedTables([(first, ("_unit", "one")), (second, ("_unit", "one"))])
        handed = [[len(part) for part in parts.hand(number)] for number in range(parts.partition_count)]
        assert handed == [[4, 1], [4, 1]]
        read = [parts.partition(number) for number in range(2)]
        assert sum(len(pair.tables[0]) for pair in read) == len(pa.concat_tables(first.partitions()))
        assert [len(pair.tables[1]) for pair in read] == [len(second.partition(number)) for number in range(2)]


THREE = (
    "SELECT v.district, kind, COUNT(*) AS n, SUM(price) AS s, COUNT(DISTINCT patient) AS u FROM visits v "
    "JOIN claims c ON v.patient = c.insured LEFT JOIN drugs d ON d.holder = v.patient GROUP BY 1, 2"
)
DRUGS = world.visits({u: [{"price": u % 20}] * (u % 3 + 1) for u in UNITS if u % 4})


def three_placed(*counts: int) -> SealedTables:
    tables = world.table(VISITS), joins.claim_table(CLAIMS), joins.drug_table(DRUGS)
    columns = (("_unit", "_rank", "district"), ("_unit", "_rank", "kind"), ("_unit", "_rank", "price"))
    return SealedTables(
        [(Placed(*each), read) for each, read in zip(zip(tables, counts, strict=True), columns, strict=True)]
    )


@pytest.mark.parametrize(
    ("counts", "ranges"),
    [((4, 4, 4), 4), ((8, 4, 2), 2), ((4, 64, 12), 4), ((6, 10, 15), 1), ((12, 6, 4), 2), ((1, 7, 9), 1)],
)
def test_any_three_numbers_of_partitions_give_the_same_integers(counts, ranges):
    plan, parts = joins.plan(THREE), three_placed(*counts)
    assert parts.partition_count == ranges
    whole = run_plan(plan, [joins.pair(plan, VISITS, CLAIMS, DRUGS)])
    assert any(any(amounts) for amounts in whole.cells.values())
    apart = run_plan(plan, (parts.partition(number) for number in range(ranges)))
    assert apart.digest() == whole.digest()


def test_three_tables_give_the_same_digest_on_threads_processes_and_as_bytes():
    plan, parts = joins.plan(THREE), three_placed(8, 4, 4)
    alone = run_plan(plan, (parts.partition(number) for number in range(4))).digest()
    with ThreadPool(2) as threads, ProcessPool(2) as processes:
        assert threads.map_partitions(plan, parts).digest() == alone
        assert processes.map_partitions(plan, parts).digest() == alone
    order, part, engine = WorkOrder.of(plan), parts.partition(1), open_engine(1)
    assert WorkOrder.parse(order.to_bytes()) == order
    assert [table.name for table in order.tables] == ["t", "u", "v"]
    again = read_part(part_bytes(part))
    assert isinstance(again, Joint)
    assert [one.equals(other) for one, other in zip(again.tables, part.tables, strict=True)] == [True] * 3
    assert order.parse_reply(run_order(order.to_bytes(), part_bytes(part), engine)) == order.run(engine, part)


def test_a_join_of_three_over_two_tables_and_a_pair_over_three_are_refused():
    part = three_placed(4, 4, 4).partition(0)
    for plan, tables in ((joins.plan(THREE), part.tables[:2]), (joins.plan(SQL), part.tables)):
        with pytest.raises(VaultError, match="more or fewer tables than it joins") as caught:
            run_plan(plan, [Joint(tables)])
        assert caught.value.code == "vault.partition"


@pytest.mark.parametrize("names", [(), ("u",), ("t", "v"), ("t", "u", "u"), ("t", "u", "v", "w", "x")])
def test_an_order_names_its_tables_in_order_and_at_most_four(names):
    record = WorkOrder.of(joins.plan(THREE)).to_record()
    tables = [{"name": name, "columns": []} for name in names]
    with pytest.raises(CanonicalError, match="a work order is malformed"):
        WorkOrder.parse(canonical_bytes({**record, "tables": tables}))
