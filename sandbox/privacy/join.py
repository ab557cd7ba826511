"""Joins of two tables by the unit: every joined row belongs to one unit and depends on that unit's own rows.

`FROM visits v JOIN claims c USING (person)`: both sides are tables of one unit kind, or first steps over such tables,
and the one condition is that the unit is the same.  The joined rows are then a table like any other, in which a unit
has rows of its own alone, ranked 1, 2, … by the ranks of both sides; what counts of them is bounded as usual, after the
join and after the WHERE (`docs/proofs/join.md`).

Before they meet, each side of more than one row a unit keeps a unit's rows of lowest rank, as many as the bound has
rows: so a unit brings at most the square of the bound into memory, whatever it has.  What the WHERE says of one side
alone is applied to that side before its cap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from sandbox.model.description import Column, DatasetDescription
from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy import build
from sandbox.privacy.aggregates import bare
from sandbox.privacy.algebra import Expr, Op, column_names
from sandbox.privacy.joined import Joined, JoinedTable
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.query import Aggregate, AggregateKind, GroupKey, KeyMode
from sandbox.privacy.render import quote_name, render
from sandbox.privacy.sides import Side
from sandbox.privacy.step import UnitStep


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One side of a join.

    Attributes:
        name: what qualifies its columns in the question.
        base: the table whose rows it reads.
        step: the first step that makes its rows, or None where they are the table's own.
    """

    name: str
    base: DatasetDescription
    step: UnitStep | None

    @property
    def table(self) -> DatasetDescription:
        """Its rows, described as a table is."""
        return self.base if self.step is None else self.step.table

    @property
    def is_single(self) -> bool:
        """Whether a unit has one row at most."""
        return self.step is not None and not self.step.keys

    def reads(self, used: frozenset[str]) -> tuple[str, ...]:
        """Return the columns of the base table behind the used columns, sorted."""
        return tuple(sorted(used if self.step is None else self.step.reads(used)))

    def rows_sql(self, used: Mapping[str, str], condition: Expr | None, partition: str, rows: int) -> str:
        """Return the statement of its rows that may meet the other side's: renamed, filtered, capped, ranked from 1."""
        source = partition if self.step is None else f"({self.step.sql(frozenset(used), partition)})"
        columns = [f"{quote_name(raw)} AS {quote_name(name)}" for raw, name in used.items()]
        sql = f"SELECT {', '.join(['_unit', '_rank', *columns])} FROM {source}"  # noqa: S608 (our own SQL)
        if condition is None:
            return sql if self.is_single else f"{sql} WHERE _rank <= {rows}"
        if self.is_single:
            return f"SELECT * FROM ({sql}) WHERE {render(condition)}"  # noqa: S608 (our own SQL)
        rank = "row_number() OVER (PARTITION BY _unit ORDER BY _rank)"
        kept = ", ".join(["_unit", f"{rank} AS _place", *(quote_name(name) for name in used.values())])
        ranked = f"SELECT {kept} FROM ({sql}) WHERE {render(condition)}"  # noqa: S608 (our own SQL)
        return f"SELECT * RENAME (_place AS _rank) FROM ({ranked}) WHERE _place <= {rows}"  # noqa: S608 (our own SQL)


@dataclass(frozen=True, slots=True)
class JoinSource:
    """A join made ready: its rows as SQL over the partitions `t` and `u`, and what remains of the WHERE."""

    sql: str
    columns: tuple[str, ...]
    joined: Joined
    filter: Expr | None


@dataclass(frozen=True, slots=True)
class Join:
    """A checked join.

    Attributes:
        left, right: its sides.
        keeps_left: whether it is a LEFT JOIN.
        bound: the contribution bound that holds for its rows.
        table: what it gives, described as a table is.
        sides: how the question may name its columns.
    """

    left: JoinSide
    right: JoinSide
    keeps_left: bool
    bound: ContributionBound
    table: DatasetDescription
    sides: tuple[Side, Side]

    def source(self, used: frozenset[str], condition: Expr | None, pairs: int | None) -> JoinSource:
        """Return the rows of the join with the columns that are used.

        Args:
            used: names of columns of the joined table.
            condition: the WHERE.
            pairs: the most pairs of one unit that pass the WHERE, or None for all of them.
        """
        first, second = (frozenset(side.columns.values()) for side in self.sides)
        parts: tuple[list[Expr], list[Expr], list[Expr]] = ([], [], [])
        for one in [] if condition is None else _conjuncts(condition):
            names = column_names(one)
            # A condition on the right side of a LEFT JOIN also sees rows that met nothing: it stays outside.
            at = 0 if names and names <= first else 1 if names and names <= second and not self.keeps_left else 2
            parts[at].append(one)
        filters = [build.both(Op.AND, part) if part else None for part in parts]
        read = used.union(*(column_names(one) for part in parts for one in part))
        shown = used.union(*(column_names(one) for one in parts[2]))
        picked = [{raw: name for raw, name in side.columns.items() if name in read} for side in self.sides]
        rows = self.bound.rows
        left = self.left.rows_sql(picked[0], filters[0], "t", rows)
        right = self.right.rows_sql(picked[1], filters[1], "u", rows)
        capped = pairs if self._multiplies else None
        if self._multiplies and capped is None:
            right = f"SELECT *, CAST(max(_rank) OVER (PARTITION BY _unit) AS BIGINT) AS _most FROM ({right})"  # noqa: S608 (our own SQL)
        columns = [
            f"{letter}.{quote_name(name)}"
            for letter, names in zip("lr", picked, strict=True)
            for name in names.values()
            if name in shown
        ]
        kind = "LEFT JOIN" if self.keeps_left else "JOIN"
        sql = (
            f"SELECT {', '.join(['l._unit AS _unit', f'{self._rank(capped)} AS _rank', *columns])} "  # noqa: S608 (our own SQL)
            f"FROM ({left}) AS l {kind} ({right}) AS r ON l._unit = r._unit"
        )
        rest = filters[2]
        if capped is not None:
            where, rest = "" if rest is None else f" WHERE {render(rest)}", None
            sql = (
                f"SELECT * FROM ({sql}){where} "  # noqa: S608 (our own SQL)
                f"QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _rank) <= {capped}"
            )
        other = Joined(
            (JoinedTable(self.right.base.dataset, self.right.base.table, self.right.reads(frozenset(picked[1]))),),
            self._words(capped),
            not self._is_whole,
            self.keeps_left and self.left.base.dataset != self.right.base.dataset,
        )
        return JoinSource(sql, self.left.reads(frozenset(picked[0])), other, rest)

    def _rank(self, capped: int | None) -> str:
        """Return a rank that counts a unit's joined rows from 1; with one row on a side, the other side's does.

        Of pairs that are capped it says the order alone: those of a side's first row with all of the other's come
        first, so that the groups of either side's rows are led by some.
        """
        if self.right.is_single:
            return "l._rank"
        if self.left.is_single:
            return "coalesce(r._rank, 1)"
        if capped is not None:
            one, other = "CAST(l._rank AS BIGINT)", "CAST(r._rank AS BIGINT)"
            ordered = f"least({one}, {other}) * {self.bound.rows + 1} + greatest({one}, {other})"
            return f"coalesce(({ordered}) * 2 + CAST({one} > {other} AS BIGINT), {one})"
        # In the order of (l._rank, r._rank), from each pair alone: pairs that the bound drops need no room.
        return "coalesce((l._rank - 1) * r._most + r._rank, l._rank)"

    @property
    def _multiplies(self) -> bool:
        return not self.left.is_single and not self.right.is_single

    @property
    def _is_whole(self) -> bool:
        return self.left.is_single and self.right.is_single

    def _words(self, pairs: int | None) -> str:
        kind = self.table.unit.kind
        capped = [side.name for side in (self.left, self.right) if not side.is_single]
        words = f"rows of `{self.left.name}` and `{self.right.name}` that belong to one {kind}"
        if not capped:
            return words
        names = " and ".join(f"`{name}`" for name in capped)
        words = f"{words}, from the {self.bound.rows} lowest ranks of the {kind} in {names}"
        return words if pairs is None else f"{words}, at most {pairs} pairs after the filter"


def most_pairs(
    bound: ContributionBound, keys: Sequence[GroupKey], mode: KeyMode, aggregates: Sequence[Aggregate]
) -> int | None:
    """Return how many pairs of a unit may meet where its groups are told apart before its rows are capped, else None.

    Counting units by group looks at all groups of a unit, and so held every pair.  Twice the rows of the bound are
    enough for each row of either side to meet one of the other.
    """
    units = [mode is KeyMode.PRIVATE, *(aggregate.kind is AggregateKind.UNITS for aggregate in aggregates)]
    told_apart = any(units) and (all(units[1:]) or bound.groups < bound.rows)
    return 2 * bound.rows if keys and told_apart else None


def read_join(text: Text, join: exp.Join, left: JoinSide, right: JoinSide, bound: ContributionBound) -> Join:
    """Return the join of two sides.

    Args:
        text: the question.
        join: the node.
        left: what stands in FROM.
        right: what is joined.
        bound: the contribution bound that holds: the smaller one of both datasets, or a lower one.

    Raises:
        QueryError: it is no JOIN or LEFT JOIN by the unit alone, or the sides have units of different kinds.
    """
    example = _example(left, right)
    known_arguments(text, join, "this", "on", "using", "side", "kind")
    side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
    if side not in {"", "LEFT"} or kind not in {"", "INNER", "OUTER"}:
        raise text.refusal(join, "join", "two datasets are joined by JOIN or LEFT JOIN", example)
    if left.base.unit.kind != right.base.unit.kind:
        raise text.refusal(
            join,
            "join_kind",
            f"`{left.name}` protects the {left.base.unit.kind} and `{right.name}` the {right.base.unit.kind}",
            "join datasets of one unit kind; ask the others apart",
        )
    if left.name == right.name:
        raise text.refusal(join, "join", "both sides of a join have one name", "give each a name with AS")
    if not _is_by_unit(join, left, right):
        raise text.refusal(join, "join", "two datasets are joined by the unit and nothing else", example)
    keeps_left = side == "LEFT"
    sides = _sides(left, right)
    if left.is_single and right.is_single:
        bound = ContributionBound(1, 1)
    table = replace(
        left.base,
        table=left.name,
        columns=tuple(_columns(left, sides[0])) + tuple(_columns(right, sides[1], nullable=keeps_left)),
        bound=bound,
        also_protects=_others(left, right),
        max_rows=_most_rows(left, right, bound.rows, keeps_left=keeps_left),
    )
    return Join(left, right, keeps_left, bound, table, (sides[0], replace(sides[1], counts=not keeps_left)))


def _others(left: JoinSide, right: JoinSide) -> tuple[OtherUnit, ...]:
    """Return the further units of both sides; a table that is joined with itself has each once."""
    own = left.base.also_protects
    return own if left.base.dataset == right.base.dataset else (*own, *right.base.also_protects)


def joint_bound(left: ContributionBound, right: ContributionBound) -> ContributionBound:
    """Return the smaller one of two bounds, in rows and in groups."""
    rows = min(left.rows, right.rows)
    return ContributionBound(rows, min(left.groups, right.groups, rows))


def _sides(left: JoinSide, right: JoinSide) -> tuple[Side, Side]:
    """Return the names of both sides' columns: a name that stands on both sides is told apart by the side's own."""
    names = [{column.name for column in side.table.columns} for side in (left, right)]
    both = (names[0] & names[1]) | {side.base.unit.sql_name for side in (left, right)}
    found = []
    for side in (left, right):
        columns = {c.name: f"{side.name}.{c.name}" if c.name in both else c.name for c in side.table.columns}
        found.append(Side(side.name, side.base.unit.sql_name, columns))
    return found[0], found[1]


def _columns(side: JoinSide, names: Side, *, nullable: bool = False) -> list[Column]:
    return [
        replace(column, name=names.columns[column.name], nullable=column.nullable or nullable)
        for column in side.table.columns
    ]


def _most_rows(left: JoinSide, right: JoinSide, rows: int, *, keeps_left: bool) -> int:
    """Return a public ceiling on the joined rows that count: as many units as there can be, with `rows` each."""
    units = left.base.max_rows if keeps_left else min(left.base.max_rows, right.base.max_rows)
    return min(units * rows, left.base.max_rows) if right.is_single else units * rows


def _is_by_unit(join: exp.Join, left: JoinSide, right: JoinSide) -> bool:
    units = {side.name: side.base.unit.sql_name for side in (left, right)}
    using, on = join.args.get("using") or (), join.args.get("on")
    if using:
        one = left.base.unit.sql_name
        return on is None and set(units.values()) == {one} and [str(node.name).lower() for node in using] == [one]
    node = None if on is None else bare(on)
    if not isinstance(node, exp.EQ):
        return False
    pair = [bare(one) for one in (node.this, node.expression)]
    return {(one.table.lower(), one.name.lower()) for one in pair if isinstance(one, exp.Column)} == set(units.items())


def _conjuncts(condition: Expr) -> list[Expr]:
    if condition.op is not Op.AND:
        return [condition]
    return [one for argument in condition.args for one in _conjuncts(argument)]


def _example(left: JoinSide, right: JoinSide) -> str:
    one, other = left.base.unit.sql_name, right.base.unit.sql_name
    if one == other:
        return f"write … JOIN {right.name} USING ({one})"
    return f"write … JOIN {right.name} ON {left.name}.{one} = {right.name}.{other}"
