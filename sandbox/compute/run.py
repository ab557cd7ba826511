"""Run a plan over partitions: DuckDB per partition, exact integers out, added up.

The engine is closed: no files, no network, no extensions, no spill to disk, no access to Python's variables, and the
configuration is locked before any data arrives.  Integer sums do not depend on order, so threads and partitions change
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from sandbox.compute.arrange import RANK_COLUMN, UNIT_COLUMN, Groups, batches, clustered, few_rows, numbered, placed
from sandbox.compute.joint import Joint, tables_of
from sandbox.compute.tally import MOST_COUNTED, tallied
from sandbox.errors import VaultError
from sandbox.privacy.joined import TABLES
from sandbox.privacy.keys import Key
from sandbox.privacy.layout import PLACE_COLUMN, PLAIN, Layout
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan

BATCH_ROWS = 1 << 23
"""Partitions are put together up to about this many rows: a statement costs a few milliseconds wherever it runs."""

_CLOSED = {
    "enable_external_access": "false",
    "temp_directory": "",
    # Threads that read files; there are none, and to start them took longer than a small question.
    "async_threads": "0",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "python_scan_all_frames": "false",
    # Groups of up to two bytes are counted in an array.
    "perfect_ht_threshold": "20",
    "preserve_insertion_order": "true",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What runs over partitions.

    Attributes:
        sql: a plan's statement over a partition called `t`, for a join over `t`, `u` and so on.
        columns: what it reads of each of them besides `_unit` and `_rank`.
        width: how many keys a row of its result begins with, once numbers of groups are texts again.
        layout: what else it asks of the partition.
    """

    sql: str
    columns: tuple[tuple[str, ...], ...]
    width: int
    layout: Layout = PLAIN

    @classmethod
    def of(cls, plan: Plan) -> Statement:
        """Return the statement of a plan."""
        return cls(plan.sql, plan.columns_by_table, plan.key_width, plan.layout)

    @property
    def joins(self) -> bool:
        """Whether it reads several tables."""
        return len(self.columns) > 1


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


def run_plan(plan: Plan, partitions: Iterable[pa.Table | Joint], *, threads: int = 2, engine: Any = None) -> Partials:
    """Return the exact integers of a plan, summed over partitions.

    Args:
        plan: what to compute.
        partitions: tables with `_unit` (int64, no nulls), `_rank` (int32, no nulls) and the plan's columns in storage
            types, texts plain or as dictionaries; all rows of a unit stand in one of them, with ranks 1..n.  For a
            join, such tables side by side.
        threads: for DuckDB; the result is the same for any number.
        engine: a connection of `open_engine` to use again (opening one takes some 25 ms); by default one is opened and
            closed.

    Raises:
        VaultError: a partition lacks a column or has one of another type, or the engine failed.  The text is constant:
            whatever the engine says might speak of values.
    """
    connection = open_engine(threads) if engine is None else engine
    try:
        return add_partials(plan.digest(), run_partitions(connection, Statement.of(plan), partitions))
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


def run_partitions(
    connection: Any, statement: Statement, parts: Iterable[pa.Table | Joint]
) -> Iterator[Iterator[tuple[Key, tuple[int, ...]]]]:
    """Yield the keys and exact integers of partitions, some of them together.

    Raises:
        VaultError: as `run_plan` does.
    """
    if statement.joins:
        for part in parts:
            yield run_partition(connection, statement, part)
        return
    for table in batches((_read(statement, part)[0] for part in parts), BATCH_ROWS):
        yield _run(connection, statement, {"t": table})


def run_partition(
    connection: Any, statement: Statement, part: pa.Table | Joint
) -> Iterator[tuple[Key, tuple[int, ...]]]:
    """Yield the keys and exact integers of one partition.

    Args:
        connection: of `open_engine`; used by one thread at a time.
        statement: what runs.
        part: the partition, in storage types; for a join its tables side by side.

    Raises:
        VaultError: as `run_plan` does.
    """
    return _run(connection, statement, dict(zip(TABLES, _read(statement, part), strict=False)))


def _read(statement: Statement, part: pa.Table | Joint) -> list[pa.Table]:
    """Return the columns that a statement reads of each of its tables."""
    tables = tables_of(part)
    if len(tables) != len(statement.columns):
        raise VaultError(
            "a statement was given more or fewer tables than it joins",
            hint="report it: a plan says how many it reads",
            code="vault.partition",
        )
    return [_needed(table, columns) for table, columns in zip(tables, statement.columns, strict=True)]


def _needed(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the columns that a statement reads of a table, in storage types."""
    wanted = [UNIT_COLUMN, RANK_COLUMN, *columns]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise VaultError(
            "a partition lacks columns that the plan reads",
            hint="open the snapshot that the plan was made for",
            code="vault.partition",
            missing=missing,
        )
    chosen = table.select(wanted)
    if not _is_stored(chosen):
        raise VaultError("a partition is not in storage types", hint="seal the dataset again", code="vault.partition")
    return chosen


def _run(
    connection: Any, statement: Statement, tables: Mapping[str, pa.Table]
) -> Iterator[tuple[Key, tuple[int, ...]]]:
    table, groups = _arranged(connection, tables["t"], statement.layout)
    if groups is not None and statement.layout.tallies and groups.size <= MOST_COUNTED:
        return _tallied(table, groups, statement.layout)
    rows = _executed(connection, statement.sql, {**tables, "t": table}, "fetchall")
    width = statement.width
    if groups is None:
        return ((row[:width], _amounts(row[width:])) for row in rows)
    # One number stands for several texts; a place in a histogram may follow.
    width -= groups.width - 1
    keys = groups.keys([row[0] for row in rows])
    return ((key + row[1:width], _amounts(row[width:])) for key, row in zip(keys, rows, strict=True))


def _amounts(found: tuple[Any, ...]) -> tuple[int, ...]:
    return (int(found[0]),) if len(found) == 1 else tuple(map(int, found))


def _arranged(connection: Any, table: pa.Table, layout: Layout) -> tuple[pa.Table, Groups | None]:
    """Return a partition as a layout asks, and what its numbers stand for."""
    if layout.clustered:
        table = clustered(table)
    places = _passing(connection, table, layout.filter) if layout.filter else None
    try:
        return numbered(few_rows(table, layout, places) if layout.few else table, layout)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        # A column of another type than the plan's; the words of the error may hold values.
        raise engine_failed() from None


def _tallied(table: pa.Table, groups: Groups, layout: Layout) -> Iterator[tuple[Key, tuple[int, ...]]]:
    try:
        return tallied(table, groups, layout)
    except TypeError:
        # A column of another type than the plan's; the engine says no more of one.
        raise engine_failed() from None


def _passing(connection: Any, table: pa.Table, condition: str) -> Any:
    """Return where the rows stand that pass a filter, in any order.

    Which rows pass is a set: the engine may give them in any order, and does after a list behind IN.
    """
    passing = f"SELECT {PLACE_COLUMN} FROM t WHERE {condition}"  # noqa: S608 (our own SQL)
    return _executed(connection, passing, {"t": placed(table)}, "fetchnumpy")[PLACE_COLUMN]


def _executed(connection: Any, sql: str, tables: Mapping[str, pa.Table], fetch: str) -> Any:
    """Return what a statement over some tables gives."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        return getattr(connection.execute(sql), fetch)()
    except duckdb.Error:
        # The engine's own words may hold values, so nothing of them is passed on, not even as a cause.
        raise engine_failed() from None
    finally:
        for name in tables:
            connection.unregister(name)
