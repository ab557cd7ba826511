"""Public tables: rows that the question itself writes, joined to a table by a key.

`WITH kinds(district, kind) AS (VALUES ('east', 'urban'), ('west', 'rural')) … JOIN kinds USING (district)`.  The table
is part of the question's text, so it is public, signed by whoever asks, and replayed with the rest.  A key may stand
in it once only, so a row meets one row of it at most, and a joined column is an expression of one row: a CASE on the
key.  Nothing about sensitivity changes (`docs/proofs/lookup.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from sandbox.privacy import build
from sandbox.privacy.aggregates import bare
from sandbox.privacy.algebra import Expr, Op
from sandbox.privacy.expression import Translator
from sandbox.privacy.parse import Text, known_arguments

MAX_ROWS = 500
_EXAMPLE = "write WITH d(district, kind) AS (VALUES ('east', 'urban')) … JOIN d USING (district)"


@dataclass(frozen=True, slots=True)
class PublicTable:
    """A table of literals: column names, and rows of nodes as they stand in the question."""

    columns: tuple[str, ...]
    rows: tuple[tuple[exp.Expr, ...], ...]


def read_public_table(text: Text, cte: exp.CTE) -> PublicTable | None:
    """Return the public table that a CTE of VALUES writes, or None where it is another kind of CTE."""
    inner = cte.this
    source = inner.args.get("from_") if isinstance(inner, exp.Select) else None
    values = inner if isinstance(inner, exp.Values) else None if source is None else source.this
    if not isinstance(values, exp.Values):
        return None
    alias = cte.args["alias"]
    names = tuple(str(column.this).lower() for column in alias.args.get("columns") or ())
    rows = tuple(tuple(row.expressions) for row in values.expressions if isinstance(row, exp.Tuple))
    if len(rows) != len(values.expressions) or not 1 <= len(rows) <= MAX_ROWS:
        raise text.refusal(cte, "join", f"a public table has 1 to {MAX_ROWS} rows of literals", _EXAMPLE)
    if len(set(names)) < max(2, len(names)) or any(len(row) != len(names) for row in rows):
        raise text.refusal(cte, "join", "a public table names its columns, as many as each row has", _EXAMPLE)
    return PublicTable(names, rows)


def join_public(
    text: Text, join: exp.Join, name: str, table: PublicTable, translator: Translator
) -> tuple[dict[str, Expr], Expr | None]:
    """Return the joined columns as expressions of a row, and for an inner join which rows stay.

    Raises:
        QueryError: the join is on anything but equality of the table's columns with what stands before it, a key stands
            in it twice, or its name is another table's.
    """
    known_arguments(text, join, "this", "on", "using", "side", "kind")
    side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
    if side not in {"", "LEFT"} or kind not in {"", "INNER", "OUTER"}:
        raise text.refusal(join, "join", "a public table is joined by JOIN or LEFT JOIN", _EXAMPLE)
    if name in translator.names or name in translator.joined:
        raise text.refusal(join, "join", "two sides of a join have one name", "give each a name with AS")
    pairs = _pairs(text, join, name, table, translator)
    seen: set[tuple[object, ...]] = set()
    conditions: list[Expr] = []
    for row in table.rows:
        literals = [_literal(text, row[place], translator, beside) for place, beside in pairs]
        key = tuple((literal.value, literal.type) for literal in literals)
        if key in seen:
            raise text.refusal(row[pairs[0][0]], "join", "a key stands twice in a public table", "keep one row for it")
        seen.add(key)
        equal = [build.compare(Op.EQUAL, beside, one) for (_, beside), one in zip(pairs, literals, strict=True)]
        conditions.append(build.both(Op.AND, equal))
    inner = side != "LEFT"
    columns = {name: beside for place, beside in pairs for name in [table.columns[place]]}
    for place, column in enumerate(table.columns):
        if column not in columns:
            values = [_literal(text, row[place], translator, None) for row in table.rows]
            branches = list(zip(conditions, values, strict=True))
            # Rows of an inner join meet one of the keys, so the last one needs no test.
            last = values[-1] if inner else build.nothing()
            columns[column] = build.case(branches[:-1] if inner and len(branches) > 1 else branches, last)
    return columns, build.both(Op.OR, conditions) if inner else None


def joined_table(join: exp.Join, tables: Mapping[str, PublicTable]) -> PublicTable | None:
    """Return the public table that a node joins, or None where it is another one."""
    return tables.get(str(join.this.name).lower()) if type(join.this) is exp.Table else None


def join_public_tables(
    text: Text, joins: Iterable[exp.Join], tables: Mapping[str, PublicTable], translator: Translator
) -> list[Expr]:
    """Add the columns of the public tables among joins to what a translator knows; return which rows stay.

    Raises:
        QueryError: as `join_public`; the sides of a join that come later cannot be named yet.
    """
    sides, met, kept = translator.sides, 1, []
    for join in joins:
        table = joined_table(join, tables)
        if table is None:
            met += 1
            continue
        translator.sides = sides[:met]
        name = str(join.this.alias or join.this.name).lower()
        translator.joined[name], condition = join_public(text, join, name, table, translator)
        kept += [] if condition is None else [condition]
    translator.sides = sides
    return kept


def _literal(text: Text, node: exp.Expr, translator: Translator, beside: Expr | None) -> Expr:
    expr = translator.translate(node)
    if beside is not None:
        expr = translator.meeting(expr, node, beside)
    if expr.op is not Op.LITERAL:
        raise text.refusal(node, "join", "a public table holds literals", _EXAMPLE)
    return expr


def _pairs(text: Text, join: exp.Join, name: str, table: PublicTable, translator: Translator) -> list[tuple[int, Expr]]:
    """Return `(column of the public table, expression beside it)` for each equality of the join."""
    using = join.args.get("using") or ()
    nodes = [(str(node.name).lower(), exp.column(str(node.name))) for node in using]
    on = join.args.get("on")
    rest = [] if on is None else [on]
    while rest:
        node = bare(rest.pop())
        if isinstance(node, exp.And):
            rest += [node.this, node.expression]
            continue
        sides = [node.this, node.expression] if isinstance(node, exp.EQ) else []
        own = [side for side in sides if isinstance(side, exp.Column) and side.table.lower() == name]
        if len(own) != 1:
            hint = f"{_EXAMPLE}; for ranges write CASE WHEN age < 10 THEN 'child' ELSE 'adult' END"
            raise text.refusal(node, "join", "a public table is joined by equality of its columns", hint)
        nodes.append((own[0].name.lower(), next(side for side in sides if side is not own[0])))
    if not nodes or any(column not in table.columns for column, _ in nodes):
        raise text.refusal(join, "join", "the join names no column of the public table", _EXAMPLE)
    return [(table.columns.index(column), translator.translate(node)) for column, node in nodes]


def public_tables(text: Text, ctes: Sequence[exp.CTE]) -> dict[str, PublicTable]:
    """Return the public tables among CTEs, by name."""
    found = {}
    for cte in ctes:
        table = read_public_table(text, cte)
        if table is not None:
            found[str(cte.alias).lower()] = table
    return found
