"""A work order: the part of a plan that a worker needs, as canonical bytes; nothing of it is code.

A worker is given a plan's id, one SQL statement that our own renderer wrote, the columns it reads and the width of its
keys, and it returns exact integers.  Both travel as canonical JSON: no worker ever unpickles what somebody else made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sandbox.compute.joint import Joint, gathered, tables_of
from sandbox.compute.run import Statement, open_engine, run_partition, run_partitions
from sandbox.errors import CanonicalError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest
from sandbox.privacy.joined import TABLES
from sandbox.privacy.keys import Key
from sandbox.privacy.layout import PLAIN, Layout
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan
from sandbox.vault.handed import HandedPartition, seal_broken_from

_ORDER_FIELDS = {"v", "plan", "sql", "tables", "width", "statistics", "layout"}
_AMOUNT = re.compile(r"-?[0-9]{1,60}")
_PARTIALS_FIELDS = {"v", "plan", "cells"}
_FAILURES = {
    "vault.partition": "a partition is not what the plan reads",
    "vault.engine": "the engine failed on a partition",
}


@dataclass(frozen=True, slots=True)
class TableOrder:
    """One table that a statement reads.

    Attributes:
        name: what the statement calls it.
        columns: what it must carry besides `_unit` and `_rank`.
    """

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What a worker computes over one partition.

    Attributes:
        plan: the plan's digest, its id in every log.
        sql: the plan's statement.
        tables: the tables of a partition that it reads, in the order in which they are handed over; the first is `t`.
        width: how many group keys a row of the result begins with.
        statistics: how many integers follow.
        layout: what else the statement asks of the partition.
    """

    plan: Digest
    sql: str
    tables: tuple[TableOrder, ...]
    width: int
    statistics: int
    layout: Layout = PLAIN

    @classmethod
    def of(cls, plan: Plan) -> WorkOrder:
        """Return the order of a plan."""
        tables = tuple(TableOrder(name, columns) for name, columns in zip(TABLES, plan.columns_by_table, strict=False))
        return cls(plan.digest(), plan.sql, tables, plan.key_width, plan.row_width, plan.layout)

    def to_record(self) -> dict[str, Any]:
        """Return the order as a record."""
        return {
            "v": 4,
            "plan": self.plan,
            "sql": self.sql,
            "tables": [{"name": table.name, "columns": list(table.columns)} for table in self.tables],
            "width": self.width,
            "statistics": self.statistics,
            "layout": self.layout.to_record(),
        }

    def to_bytes(self) -> bytes:
        """Return the order as canonical bytes."""
        return canonical_bytes(self.to_record())

    @classmethod
    def parse(cls, raw: bytes) -> WorkOrder:
        """Return the order that canonical bytes write; strict about its fields."""
        record = parse_canonical(raw)
        if not isinstance(record, dict) or set(record) != _ORDER_FIELDS or record["v"] != 4:
            raise _malformed()
        tables = tuple(TableOrder(str(each["name"]), tuple(map(str, each["columns"]))) for each in record["tables"])
        if not tables or tuple(table.name for table in tables) != TABLES[: len(tables)]:
            raise _malformed()
        width, statistics = int(record["width"]), int(record["statistics"])
        return cls(record["plan"], str(record["sql"]), tables, width, statistics, Layout.parse(record["layout"]))

    def run(self, engine: Any, part: pa.Table | Joint) -> Partials:
        """Return the exact integers of one partition, on a connection of `open_engine`.

        Raises:
            VaultError: as `run_plan` does.
        """
        return Partials(self.plan, dict(run_partition(engine, self._statement, part)))

    def run_all(self, engine: Any, parts: Iterable[pa.Table | Joint]) -> Partials:
        """Return the exact integers of several partitions, on a connection of `open_engine`.

        Raises:
            VaultError: as `run_plan` does.
        """
        return add_partials(self.plan, run_partitions(engine, self._statement, parts))

    @property
    def _statement(self) -> Statement:
        return Statement(self.sql, tuple(table.columns for table in self.tables), self.width, self.layout)

    def parse_reply(self, raw: bytes, objects: Collection[str] = ()) -> Partials:
        """Return the partials that a worker wrote.

        Args:
            raw: the reply.
            objects: the sealed objects that the worker was given, which it may name in an error.

        Raises:
            VaultError: they are malformed or belong to another plan (`vault.partials`), or the worker met an error.
        """
        try:
            record = _read_reply(raw)
            if "error" in record:
                raise _failure_of(record, objects)
            if set(record) != _PARTIALS_FIELDS or record["v"] != 1 or record["plan"] != self.plan:
                raise ValueError
            cells = {self._key(cell["key"]): self._amounts(cell["exact"]) for cell in record["cells"]}
        except (KeyError, TypeError, ValueError, RecursionError):
            raise VaultError(
                "a worker's partials are malformed or of another plan",
                hint="check that every worker runs this version of Saggar",
                code="vault.partials",
            ) from None
        return Partials(self.plan, cells)

    def _key(self, parts: list[str | None]) -> Key:
        if len(parts) != self.width or not all(part is None or isinstance(part, str) for part in parts):
            raise ValueError("not a key")
        return tuple(parts)

    def _amounts(self, texts: list[str]) -> tuple[int, ...]:
        if len(texts) != self.statistics or not all(_AMOUNT.fullmatch(text) for text in texts):
            raise ValueError("not integers of the plan's width")
        return tuple(int(text) for text in texts)


def run_order(order: bytes, part: bytes, engine: Any = None) -> bytes:
    """Return a worker's reply for one partition: bytes in and bytes out, whatever happens in between.

    Args:
        order: of `WorkOrder.to_bytes`.
        part: of `part_bytes`.
        engine: a connection of `open_engine` to use again; by default one is opened and closed.
    """
    connection = open_engine(threads=1) if engine is None else engine
    try:
        return reply_bytes(WorkOrder.parse(order).run(connection, read_part(part)))
    except VaultError as error:
        return failure_bytes(error)
    finally:
        if engine is None:
            connection.close()


def part_bytes(part: pa.Table | Joint) -> bytes:
    """Return a partition as bytes: the number of its tables, and one Arrow IPC stream behind the other."""
    tables = tables_of(part)
    return bytes([len(tables)]) + b"".join(_table_bytes(table) for table in tables)


def read_part(raw: bytes) -> pa.Table | Joint:
    """Return the partition that `part_bytes` wrote."""
    source = pa.BufferReader(raw)
    return part_of([pa.ipc.open_stream(source).read_all() for _ in range(source.read(1)[0])])


def part_of(tables: Sequence[pa.Table]) -> pa.Table | Joint:
    """Return the one table of a partition, or its several side by side."""
    return tables[0] if len(tables) == 1 else Joint(tuple(tables))


def reply_bytes(partials: Partials) -> bytes:
    """Return the reply of a worker: the canonical bytes of its partials."""
    return partials.to_bytes()


def _write_reply(record: Any) -> bytes:
    """Return canonical bytes, without the walk through a value that `canonical_bytes` takes.

    A reply holds text, null, lists and objects with names in ASCII; for those the standard encoder writes the bytes of
    RFC 8785, in two thirds of the time.
    """
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _read_reply(raw: bytes) -> Any:
    """Return what canonical bytes write; its form is the caller's to check.  Raise `ValueError` for other bytes."""
    record = json.loads(raw.decode("utf-8", "strict"))
    if _write_reply(record) != raw:
        raise ValueError("not in canonical form")
    return record


def failure_bytes(error: VaultError) -> bytes:
    """Return the reply of a worker that met an error: its code, the sealed object it is about, none of its words."""
    name = error.details.get("object")
    return canonical_bytes({"v": 1, "error": error.code, **({} if name is None else {"object": str(name)})})


def request_bytes(number: int, handed: Sequence[Sequence[HandedPartition]]) -> bytes:
    """Return what a worker needs to know of one range of the tables; it holds the keys of their columns."""
    tables = [[part.to_record() for part in parts] for parts in handed]
    return canonical_bytes({"v": 1, "partition": number, "tables": tables})


def sealed_lengths(tables: Sequence[Any]) -> list[int]:
    """Return the bytes of each sealed object of a request, by table, partition and column."""
    return [column["bytes"] for parts in tables for part in parts for column in part["columns"]]


def open_part(tables: Sequence[Any], sealed: Iterable[bytes]) -> pa.Table | Joint:
    """Return one range of the tables.

    Args:
        tables: the `tables` of `request_bytes`.
        sealed: the bytes of each column's object, by table, partition and column.

    Raises:
        SealBrokenError: an object is not what was sealed.
    """
    left = iter(sealed)
    opened = []
    for records in tables:
        parts = [HandedPartition.parse(record) for record in records]
        opened.append(gathered([p.open([next(left) for _ in p.columns], dictionaries=True) for p in parts]))
    return part_of(opened)


def _malformed() -> CanonicalError:
    return CanonicalError("a work order is malformed", hint="it is written by `WorkOrder.to_bytes`")


def _failure_of(record: Any, objects: Collection[str]) -> VaultError:
    """Return the error of a failure reply in our own words; raise `ValueError` if it is none that a worker may tell."""
    if set(record) == {"v", "error"} and record["error"] in _FAILURES:
        return VaultError(
            _FAILURES[record["error"]], hint="report it: a plan cannot fail on data", code=record["error"]
        )
    if set(record) == {"v", "error", "object"} and record["object"] in objects:
        broken = seal_broken_from(str(record["error"]), record["object"])
        if broken is not None:
            return broken
    raise ValueError("not a failure that a worker may tell")


def _table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
