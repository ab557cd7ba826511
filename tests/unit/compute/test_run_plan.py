"""The engine: closed, exact, and silent about what it saw."""

import duckdb
import pyarrow as pa
import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import VaultError
from tests.support import privacy_world as world

TABLE = world.table(world.visits({1: [{"diag": "secret-value"}]}))
PLAN = world.plan("SELECT COUNT(*) FROM visits WHERE age > 3")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 1",
        "SET temp_directory = '/tmp'",
        "RESET lock_configuration",
    ],
)
def test_the_engine_reaches_nothing_and_its_configuration_is_locked(sql):
    engine = open_engine()
    with pytest.raises(duckdb.Error):
        engine.execute(sql)
    engine.close()


def test_the_engine_does_not_see_pythons_variables():
    outside = TABLE  # noqa: F841 (DuckDB would find it by name)
    engine = open_engine()
    with pytest.raises(duckdb.Error, match="does not exist"):
        engine.execute("SELECT * FROM outside")
    engine.close()


def test_the_engine_never_spills_to_disk():
    engine = open_engine()
    assert engine.execute("SELECT current_setting('temp_directory')").fetchone() == ("",)
    engine.close()


def test_no_partition_and_empty_partitions_give_no_cells_or_zeros():
    assert run_plan(PLAN, []).cells == {}
    assert run_plan(PLAN, [TABLE.slice(0, 0)]).cells == {(): (0,)}
    assert run_plan(PLAN, []).digest() == run_plan(PLAN, [TABLE.slice(0, 0)]).digest()


def test_a_partition_without_a_column_is_refused_by_name():
    with pytest.raises(VaultError, match="lacks columns") as raised:
        run_plan(PLAN, [TABLE.drop_columns(["age"])])
    assert raised.value.details["missing"] == ["age"]
    assert raised.value.code == "vault.partition"


@pytest.mark.parametrize("change", ["unit", "rank", "float", "null"])
def test_a_partition_in_other_types_is_refused(change):
    columns = {name: TABLE.column(name) for name in TABLE.column_names}
    if change == "unit":
        columns["_unit"] = pa.array([1], pa.int32())
    if change == "rank":
        columns["_rank"] = pa.array([1], pa.int64())
    if change == "float":
        columns["age"] = pa.array([float("nan")])
    if change == "null":
        columns["_unit"] = pa.array([None], pa.int64())
    with pytest.raises(VaultError, match="not in storage types") as raised:
        run_plan(PLAN, [pa.table(columns)])
    assert raised.value.code == "vault.partition"


def test_what_the_engine_says_never_leaves():
    import dataclasses

    broken = dataclasses.replace(PLAN, sql="SELECT CAST(diag AS INTEGER) FROM t", columns=("diag",))
    with pytest.raises(VaultError, match="the engine failed on a partition") as raised:
        run_plan(broken, [TABLE])
    assert raised.value.code == "vault.engine"
    assert "secret-value" not in str(raised.value.to_dict())
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT MEDIAN(age) AS m FROM visits",
        "SELECT MEDIAN(age) AS m FROM visits WHERE age > 3",
        "SELECT SUM(age) AS s FROM visits WHERE age > 3",
        "SELECT district, SUM(age) AS s FROM visits GROUP BY district",
    ],
)
def test_a_column_of_another_type_than_the_plans_says_nothing_of_its_values(sql):
    place = TABLE.schema.get_field_index("age")
    table = TABLE.set_column(place, "age", pa.array(["secret-value"]))
    with pytest.raises(VaultError, match="the engine failed on a partition") as raised:
        run_plan(world.plan(sql), [table])
    assert raised.value.code == "vault.engine"
    assert "secret-value" not in str(raised.value.to_dict())
    assert raised.value.__suppress_context__


def test_one_engine_serves_many_plans():
    engine = open_engine()
    other = world.plan("SELECT SUM(age) FROM visits")
    assert run_plan(PLAN, [TABLE], engine=engine).cells == {(): (1,)}
    assert run_plan(other, [TABLE], engine=engine).cells == {(): (40,)}
    engine.close()


def test_texts_with_a_dictionary_give_the_same_integers():
    plan = world.plan("SELECT diag, district, COUNT(*), COUNT(DISTINCT patient) FROM visits GROUP BY 1, 2")
    rows = world.visits(
        {unit: [{"diag": f"D{unit % 3}", "district": None if unit % 4 else "east"}] for unit in range(50)}
    )
    table = world.table(rows)
    coded = table
    for name in ("diag", "district"):
        coded = coded.set_column(coded.schema.get_field_index(name), name, coded.column(name).dictionary_encode())
    assert run_plan(plan, [coded]).digest() == run_plan(plan, [table]).digest()
