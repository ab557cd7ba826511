"""Joins by the unit: every joined row belongs to one unit and depends on that unit's own rows.

`FROM visits v JOIN claims c USING (person)`: all sides are tables of one unit kind, or first steps over such tables,
and the one condition is that the unit is the same.  The joined rows are then a table like any other, in which a unit
has rows of its own alone, ranked 1, 2, … by the ranks of all sides; what counts of them is bounded as usual, after the
join and after the WHERE (`docs/proofs/join.md`).  How the rows are made says `join_rows.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from sandbox.model.description import Column, DatasetDescription
from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy.aggregates import bare
from sandbox.privacy.algebra import Expr
from sandbox.privacy.join_rows import JoinSide, Meet, Meeting
from sandbox.privacy.joined import TABLES, Joined, JoinedTable
from sandbox.privacy.parse import Text, known_arguments
from sandbox.privacy.query import Aggregate, AggregateKind, GroupKey, KeyMode
from sandbox.privacy.sides import Side

NO_JOIN = (
    "join",
    "this is no table that can be joined",
    "write … JOIN b USING (person), or JOIN a public table: WITH d(district, kind) AS (VALUES ('east', 'urban'))",
)
BRACKETS = (
    "join",
    "tables in brackets are not in the language",
    "write the joins one after the other: FROM a JOIN b USING (person) JOIN c USING (person)",
)
TOO_MANY_JOINS = (
    "join",
    f"more than {len(TABLES)} datasets in one question are not in the language",
    f"ask about {len(TABLES)} of them together and about the others apart; public tables do not count",
)


@dataclass(frozen=True, slots=True)
class JoinSource:
    """A join made ready: its rows as SQL over the partitions `t`, `u` and so on, and what remains of the WHERE."""

    sql: str
    columns: tuple[str, ...]
    joined: Joined
    filter: Expr | None


@dataclass(frozen=True, slots=True)
class Join:
    """A checked join.

    Attributes:
        meetings: its sides, in order.
        bound: the contribution bound that holds for its rows.
        table: what it gives, described as a table is.
    """

    meetings: tuple[Meeting, ...]
    bound: ContributionBound
    table: DatasetDescription

    @property
    def sides(self) -> tuple[Side, ...]:
        """How the question may name its columns."""
        return tuple(each.names for each in self.meetings)

    @property
    def first(self) -> JoinSide:
        """What stands in FROM."""
        return self.meetings[0].side

    def source(self, used: frozenset[str], condition: Expr | None, *, capped: bool) -> JoinSource:
        """Return the rows of the join with the columns that are used.

        Args:
            used: names of columns of the joined table.
            condition: the WHERE.
            capped: whether a unit's rows that pass the WHERE are capped before they are bounded.
        """
        meet = Meet(self.meetings, self.bound.rows, used, condition, capped)
        steps, (columns, *others) = meet.steps(), meet.reads()
        right = [each.side for each in self.meetings[1:]]
        tables = [
            JoinedTable(side.base.dataset, side.base.table, read) for side, read in zip(right, others, strict=True)
        ]
        whole = all(each.side.is_single for each in self.meetings)
        joined = Joined(tuple(tables), self._words([step.cap for step in steps]), not whole, self._exchanges)
        return JoinSource(steps[-1].sql, columns, joined, meet.rest(steps[-1]))

    @property
    def _exchanges(self) -> bool:
        """Whether a unit that leaves some of the datasets may keep joined rows: each needs none of those datasets."""
        needed = {each.side.base.dataset for each in self.meetings if not each.is_left}
        return any(each.side.base.dataset not in needed for each in self.meetings)

    def _words(self, caps: Sequence[int | None]) -> str:
        kind, names = self.table.unit.kind, [each.side.name for each in self.meetings]
        words = f"rows of {_listed(names)} that belong to one {kind}"
        several = [each.side.name for each in self.meetings if not each.side.is_single]
        if not several:
            return words
        words = f"{words}, from the {self.bound.rows} lowest ranks of the {kind} in {_listed(several)}"
        for place, cap in enumerate(caps[:-1], start=2):
            if cap is not None:
                words = f"{words}, of {_listed(names[:place])} at most {cap} rows that meet `{names[place]}`"
        if caps[-1] is None:
            return words
        return f"{words}, at most {caps[-1]} {'pairs' if len(names) == 2 else 'rows'} after the filter"


def _listed(names: Sequence[str]) -> str:
    """Return names as people list them: `a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def tells_groups_apart(
    bound: ContributionBound, keys: Sequence[GroupKey], mode: KeyMode, aggregates: Sequence[Aggregate]
) -> bool:
    """Return whether a unit's groups are told apart before its rows are capped.

    Counting units by group looks at all groups of a unit, and so held every joined row.  As many as all sides bring
    are enough for each row of a side to be in one.
    """
    units = [mode is KeyMode.PRIVATE, *(aggregate.kind is AggregateKind.UNITS for aggregate in aggregates)]
    return bool(keys) and any(units) and (all(units[1:]) or bound.groups < bound.rows)


def read_join(text: Text, joins: Sequence[exp.Join], sides: Sequence[JoinSide], bound: ContributionBound) -> Join:
    """Return the join of several sides.

    Args:
        text: the question.
        joins: the nodes.
        sides: what stands in FROM, and what each node joins.
        bound: the contribution bound that holds: the smallest one of all datasets, or a lower one.

    Raises:
        QueryError: it is no JOIN or LEFT JOIN by the unit alone, or the sides have units of different kinds.
    """
    beside, is_left = [0], [False]
    for place, join in enumerate(joins, start=1):
        is_left.append(_keeps_left(text, join, sides[: place + 1]))
        beside.append(_beside(text, join, sides[:place], sides[place]))
    _settle(beside, is_left)
    if all(side.is_single for side in sides):
        bound = ContributionBound(1, 1)
    named = _named(sides)
    meetings = tuple(
        Meeting(side, Side(side.name, side.base.unit.sql_name, names, counts=not left), at, left)
        for side, names, at, left in zip(sides, named, beside, is_left, strict=True)
    )
    base = sides[0].base
    table = replace(
        base,
        table=sides[0].name,
        columns=tuple(column for each in meetings for column in _columns(each)),
        bound=bound,
        also_protects=_others(sides),
        max_rows=_most_rows(meetings, bound.rows),
    )
    return Join(meetings, bound, table)


def _keeps_left(text: Text, join: exp.Join, sides: Sequence[JoinSide]) -> bool:
    """Return whether a node is a LEFT JOIN; refuse what is no join of the last side with those before it."""
    *before, right = sides
    if join.args.get("method"):
        told = f"a {str(join.args['method']).upper()} JOIN is not in the language"
        raise text.refusal(join, "feature", told, _example(before[0], right))
    known_arguments(text, join, "this", "on", "using", "side", "kind")
    side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
    if side not in {"", "LEFT"} or kind not in {"", "INNER", "OUTER"}:
        example = _example(before[0], right)
        if kind == "ANTI":
            example = (
                f"{example.replace('JOIN', 'LEFT JOIN', 1)} WHERE {right.name}.x IS NULL, x a column without NULLs"
            )
        elif kind == "SEMI":
            example = f"{example} and count units: COUNT(DISTINCT {before[0].base.unit.sql_name})"
        raise text.refusal(join, "join", "two datasets are joined by JOIN or LEFT JOIN", example)
    if before[0].base.unit.kind != right.base.unit.kind:
        raise text.refusal(
            join,
            "join_kind",
            f"`{before[0].name}` protects the {before[0].base.unit.kind} and `{right.name}` the {right.base.unit.kind}",
            "join datasets of one unit kind; ask the others apart",
        )
    if right.name in {one.name for one in before}:
        raise text.refusal(join, "join", "two sides of a join have one name", "give each a name with AS")
    return side == "LEFT"


def _beside(text: Text, join: exp.Join, before: Sequence[JoinSide], right: JoinSide) -> int:
    """Return the first side whose unit a node's condition makes equal to that of the side it joins."""
    units = {side.name: side.base.unit.sql_name for side in before}
    own = right.base.unit.sql_name
    using, on = join.args.get("using") or (), join.args.get("on")
    found: list[str] = []
    if using and on is None and [str(node.name).lower() for node in using] == [own]:
        found = [name for name, unit in units.items() if unit == own]
    node = None if using or on is None else bare(on)
    if isinstance(node, exp.EQ):
        pair = [bare(one) for one in (node.this, node.expression)]
        named = {(one.table.lower(), one.name.lower()) for one in pair if isinstance(one, exp.Column)}
        found = [name for name, unit in units.items() if named == {(name, unit), (right.name, own)}]
    if not found:
        hint = f"{_example(before[0], right)}; other conditions stand in WHERE"
        raise text.refusal(join, "join", "two datasets are joined by the unit and nothing else", hint)
    return list(units).index(found[0])


def _settle(beside: list[int], is_left: list[bool]) -> None:
    """Make a LEFT JOIN plain where a later JOIN asks for its rows: what met nothing is dropped there."""
    for place in range(len(is_left)):
        at = 0 if is_left[place] else place
        while at:
            is_left[at] = False
            at = beside[at]


def _others(sides: Sequence[JoinSide]) -> tuple[OtherUnit, ...]:
    """Return the further units of all sides; a table that stands on several has each once."""
    bases = {side.base.dataset: side.base for side in sides}
    return tuple(other for base in bases.values() for other in base.also_protects)


def joint_bound(bounds: Sequence[ContributionBound]) -> ContributionBound:
    """Return the smallest one of bounds, in rows and in groups."""
    rows = min(bound.rows for bound in bounds)
    return ContributionBound(rows, min(rows, *(bound.groups for bound in bounds)))


def _named(sides: Sequence[JoinSide]) -> list[dict[str, str]]:
    """Return the names of all sides' columns: a name that stands on several is told apart by the side's own."""
    counts = Counter(column.name for side in sides for column in side.table.columns)
    shared = {name for name, count in counts.items() if count > 1} | {side.base.unit.sql_name for side in sides}
    return [
        {c.name: f"{side.name}.{c.name}" if c.name in shared else c.name for c in side.table.columns} for side in sides
    ]


def _columns(meeting: Meeting) -> list[Column]:
    return [
        replace(column, name=meeting.names.columns[column.name], nullable=column.nullable or meeting.is_left)
        for column in meeting.side.table.columns
    ]


def _most_rows(meetings: Sequence[Meeting], rows: int) -> int:
    """Return a public ceiling on the joined rows that count: as many units as there can be, with `rows` each."""
    first, *others = (each.side for each in meetings)
    most = rows * min(each.side.base.max_rows for each in meetings if not each.is_left)
    return min(most, first.base.max_rows) if all(side.is_single for side in others) else most


def _example(left: JoinSide, right: JoinSide) -> str:
    one, other = left.base.unit.sql_name, right.base.unit.sql_name
    table = right.base.table.lower()
    named = right.name if right.step is not None or right.name == table else f"{table} {right.name}"
    if one == other:
        return f"write … JOIN {named} USING ({one})"
    return f"write … JOIN {named} ON {left.name}.{one} = {right.name}.{other}"
