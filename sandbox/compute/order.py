"""A work order: the part of a plan that a worker needs, as canonical bytes; nothing of it is code.

A worker is given a plan's id, one SQL statement that our own renderer wrote, the columns it reads and the width of its
keys, and it returns exact integers.  Both travel as canonical JSON: no worker ever unpickles what somebody else made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sandbox.compute.paired import Pair
from sandbox.compute.run import Statement, open_engine, run_partition, run_partitions
from sandbox.errors import CanonicalError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest
from sandbox.privacy.keys import Key
from sandbox.privacy.layout import PLAIN, Layout
from sandbox.privacy.partials import Partials, add_partials
from sandbox.privacy.plan import Plan

_ORDER_FIELDS = {"v", "plan", "sql", "columns", "second", "width", "statistics", "layout"}
_PARTIALS_FIELDS = {"v", "plan", "cells"}
_FAILURES = {
    "vault.partition": "a partition is not what the plan reads",
    "vault.engine": "the engine failed on a partition",
}


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """What a worker computes over one partition.

    Attributes:
        plan: the plan's digest, its id in every log.
        sql: the plan's statement over a partition called `t`.
        columns: what the partition must carry besides `_unit` and `_rank`.
        width: how many group keys a row of the result begins with.
        statistics: how many integers follow.
        second: what the right table of a join must carry besides `_unit` and `_rank`; None where there is no join.
        layout: what else the statement asks of the partition.
    """

    plan: Digest
    sql: str
    columns: tuple[str, ...]
    width: int
    statistics: int
    second: tuple[str, ...] | None = None
    layout: Layout = PLAIN

    @classmethod
    def of(cls, plan: Plan) -> WorkOrder:
        """Return the order of a plan."""
        second = None if plan.second is None else plan.second.columns
        return cls(plan.digest(), plan.sql, plan.columns, plan.key_width, plan.row_width, second, plan.layout)

    def to_bytes(self) -> bytes:
        """Return the order as canonical bytes."""
        return canonical_bytes(
            {
                "v": 2,
                "plan": self.plan,
                "sql": self.sql,
                "columns": list(self.columns),
                "second": None if self.second is None else list(self.second),
                "width": self.width,
                "statistics": self.statistics,
                "layout": self.layout.to_record(),
            }
        )

    @classmethod
    def parse(cls, raw: bytes) -> WorkOrder:
        """Return the order that canonical bytes write; strict about its fields."""
        record = parse_canonical(raw)
        if not isinstance(record, dict) or set(record) != _ORDER_FIELDS or record["v"] != 2:
            raise CanonicalError("a work order is malformed", hint="it is written by `WorkOrder.to_bytes`")
        columns = tuple(str(name) for name in record["columns"])
        second = None if record["second"] is None else tuple(str(name) for name in record["second"])
        width, statistics = int(record["width"]), int(record["statistics"])
        layout = Layout.parse(record["layout"])
        return cls(record["plan"], str(record["sql"]), columns, width, statistics, second, layout)

    def run(self, engine: Any, part: pa.Table | Pair) -> Partials:
        """Return the exact integers of one partition, on a connection of `open_engine`.

        Raises:
            VaultError: as `run_plan` does.
        """
        return Partials(self.plan, dict(run_partition(engine, self._statement, part)))

    def run_all(self, engine: Any, parts: Iterable[pa.Table | Pair]) -> Partials:
        """Return the exact integers of several partitions, on a connection of `open_engine`.

        Raises:
            VaultError: as `run_plan` does.
        """
        return add_partials(self.plan, run_partitions(engine, self._statement, parts))

    @property
    def _statement(self) -> Statement:
        return Statement(self.sql, self.columns, self.width, self.layout, self.second)

    def parse_reply(self, raw: bytes) -> Partials:
        """Return the partials that a worker wrote.

        Raises:
            VaultError: they are malformed or belong to another plan (`vault.partials`), or the worker met an error.
        """
        try:
            record = parse_canonical(raw)
            if set(record) == {"v", "error"} and record["error"] in _FAILURES:
                raise VaultError(
                    _FAILURES[record["error"]], hint="report it: a plan cannot fail on data", code=record["error"]
                )
            if set(record) != _PARTIALS_FIELDS or record["v"] != 1 or record["plan"] != self.plan:
                raise ValueError
            cells = {self._key(cell["key"]): self._amounts(cell["exact"]) for cell in record["cells"]}
        except (CanonicalError, KeyError, TypeError, ValueError):
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
        if len(texts) != self.statistics:
            raise ValueError("not the plan's width")
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
        return canonical_bytes(WorkOrder.parse(order).run(connection, read_part(part)).to_record())
    except VaultError as error:
        return canonical_bytes({"v": 1, "error": error.code})
    finally:
        if engine is None:
            connection.close()


def part_bytes(part: pa.Table | Pair) -> bytes:
    """Return a partition as bytes: the number of its tables, 1 or 2, and one Arrow IPC stream behind the other."""
    tables = [part.t, part.u] if isinstance(part, Pair) else [part]
    return bytes([len(tables)]) + b"".join(_table_bytes(table) for table in tables)


def read_part(raw: bytes) -> pa.Table | Pair:
    """Return the partition that `part_bytes` wrote."""
    source = pa.BufferReader(raw)
    tables = [pa.ipc.open_stream(source).read_all() for _ in range(source.read(1)[0])]
    return tables[0] if len(tables) == 1 else Pair(*tables)


def _table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
