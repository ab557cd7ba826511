"""Run a plan over partitions: DuckDB per partition, exact integers out, added up.

The engine is closed: no files, no network, no extensions, no spill to disk, no access to Python's variables, and the
configuration is locked before any data arrives.  Integer sums do not depend on order, so threads and partitions change
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from sandbox.errors import VaultError
from sandbox.privacy.keys import Key
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan

UNIT_COLUMN = "_unit"
RANK_COLUMN = "_rank"

_CLOSED = {
    "enable_external_access": "false",
    "temp_directory": "",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "python_scan_all_frames": "false",
}


def open_engine(threads: int = 2, *, memory_mib: int | None = None) -> Any:
    """Return a DuckDB connection in memory that reaches nothing outside, with its configuration locked.

    Args:
        threads: how many it may use.
        memory_mib: the most memory that it may use; by default DuckDB's own share of what the machine has.
    """
    limit = {} if memory_mib is None else {"memory_limit": f"{memory_mib}MiB"}
    connection = duckdb.connect(":memory:", config={**_CLOSED, "threads": str(max(1, threads)), **limit})
    connection.execute("SET lock_configuration = true")
    return connection


def run_plan(plan: Plan, partitions: Iterable[pa.Table], *, threads: int = 2, engine: Any = None) -> Partials:
    """Return the exact integers of a plan, summed over partitions.

    Args:
        plan: what to compute.
        partitions: tables with `_unit` (int64, no nulls), `_rank` (int32, no nulls) and the plan's columns in storage
            types, texts plain or as dictionaries; all rows of a unit stand in one of them, with ranks 1..n.
        threads: for DuckDB; the result is the same for any number.
        engine: a connection of `open_engine` to use again (opening one takes some 25 ms); by default one is opened and
            closed.

    Raises:
        VaultError: a partition lacks a column or has one of another type, or the engine failed.  The text is constant:
            whatever the engine says might speak of values.
    """
    connection = open_engine(threads) if engine is None else engine
    try:
        width = plan.key_width
        rows = (run_partition(connection, plan.sql, plan.columns, width, table) for table in partitions)
        return add_partials(plan.digest(), rows)
    finally:
        if engine is None:
            connection.close()


def engine_failed() -> VaultError:
    """Return the error of an engine that failed, whatever it said."""
    return VaultError(
        "the engine failed on a partition", hint="report it: a plan cannot fail on data", code="vault.engine"
    )


def _is_stored(table: pa.Table) -> bool:
    """Return whether a partition has storage types and every row a unit and a rank."""
    schema = table.schema
    keys_fit = schema.field(UNIT_COLUMN).type == pa.int64() and schema.field(RANK_COLUMN).type == pa.int32()
    no_nulls = table.column(UNIT_COLUMN).null_count == 0 and table.column(RANK_COLUMN).null_count == 0
    stored = {pa.int64(), pa.int32(), pa.date32(), pa.bool_(), pa.string(), pa.large_string()}
    return keys_fit and no_nulls and all(_plain(field.type) in stored for field in schema)


def _plain(of: pa.DataType) -> pa.DataType:
    """Return the type of a column's values: texts may come with a dictionary, which groups twice as fast."""
    return of.value_type if pa.types.is_dictionary(of) else of


def run_partition(
    connection: Any, sql: str, columns: Sequence[str], width: int, table: pa.Table
) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Yield the keys and exact integers of one partition.

    Args:
        connection: of `open_engine`; used by one thread at a time.
        sql: a plan's statement over a partition called `t`.
        columns: what it reads besides `_unit` and `_rank`.
        width: how many keys a row of its result begins with.
        table: the partition, in storage types.

    Raises:
        VaultError: as `run_plan` does.
    """
    wanted = [UNIT_COLUMN, RANK_COLUMN, *columns]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise VaultError(
            "a partition lacks columns that the plan reads",
            hint="open the snapshot that the plan was made for",
            code="vault.partition",
            missing=missing,
        )
    if not _is_stored(table.select(wanted)):
        raise VaultError("a partition is not in storage types", hint="seal the dataset again", code="vault.partition")
    connection.register("t", table.select(wanted))
    try:
        rows = connection.execute(sql).fetchall()
    except duckdb.Error:
        # The engine's own words may hold values, so nothing of them is passed on, not even as a cause.
        raise engine_failed() from None
    finally:
        connection.unregister("t")
    for row in rows:
        yield tuple(row[:width]), tuple(int(amount) for amount in row[width:])
