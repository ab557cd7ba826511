"""The rows of a join as SQL: one side after the other meets those before it, and a unit's rows are capped in between.

Each side of more than one row a unit brings a unit's rows of lowest rank, as many as the bound has rows.  Where several
such rows meet several others, at most as many as both are together go on to the next side, ranked anew from 1: so what
a unit takes grows with the number of tables and never with the product of its rows (`docs/proofs/join.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandbox.model.description import DatasetDescription
from sandbox.privacy import build
from sandbox.privacy.algebra import Expr, Op, column_names
from sandbox.privacy.joined import TABLES
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
        """Return the statement of its rows that may meet the other sides': renamed, filtered, capped, ranked from 1."""
        source = partition if self.step is None else f"({self.step.sql(frozenset(used), partition)})"
        columns = [f"{quote_name(raw)} AS {quote_name(name)}" for raw, name in used.items()]
        sql = f"SELECT {', '.join(['_unit', '_rank', *columns])} FROM {source}"  # noqa: S608 (our own SQL)
        if condition is None:
            return sql if self.is_single else f"{sql} WHERE _rank <= {rows}"
        if self.is_single:
            return f"SELECT * FROM ({sql}) WHERE {render(condition)}"  # noqa: S608 (our own SQL)
        return _lowest(sql, [quote_name(name) for name in used.values()], condition, rows)


@dataclass(frozen=True, slots=True)
class Meeting:
    """How a side meets those before it.

    Attributes:
        side: whose rows.
        names: how the question names its columns.
        beside: which earlier side's unit is the same; 0 for the first side itself.
        is_left: whether rows that meet none of it stay.
    """

    side: JoinSide
    names: Side
    beside: int
    is_left: bool


@dataclass(frozen=True, slots=True)
class MetRows:
    """The rows of a join as far as its sides have met.

    Attributes:
        sql: their statement, over the partitions `t`, `u` and so on.
        single: whether a unit has one of them at most.
        most: how many of a unit's rows are ranked apart at most.
        cap: how many of them are left at most, once they have passed the WHERE; None where nothing is cut.
    """

    sql: str
    single: bool
    most: int
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Meet:
    """The making of a join's rows.

    Attributes:
        meetings: its sides, in order.
        rows: of a unit, how many come from a side.
        used: the columns of the joined table that are read of its rows, but for the WHERE.
        condition: the WHERE.
        capped: whether the rows of the whole join are capped too, after the WHERE.
    """

    meetings: tuple[Meeting, ...]
    rows: int
    used: frozenset[str]
    condition: Expr | None
    capped: bool

    def steps(self) -> list[MetRows]:
        """Return the rows of the first two sides, of the first three and so on, up to those of the whole join."""
        own, later = self.divided()
        found = [self._side(place, own[place]) for place in range(len(self.meetings))]
        left, steps = found[0], []
        for place, right in enumerate(found[1:], start=1):
            left = self._joined(place, left, right, later)
            steps.append(left)
        return steps

    def rest(self, whole: MetRows) -> Expr | None:
        """Return what remains of the WHERE for whoever bounds the rows of the whole join, the last of the steps."""
        return self.divided()[1][-1] if whole.cap is None else None

    def reads(self) -> tuple[tuple[str, ...], ...]:
        """Return the columns of its base table that each side reads."""
        return tuple(each.side.reads(frozenset(self._picked(place))) for place, each in enumerate(self.meetings))

    def divided(self) -> tuple[list[Expr | None], list[Expr | None]]:
        """Return the WHERE by sides: what each one's rows must pass before they meet, and what all must pass after."""
        own: list[list[Expr]] = [[] for _ in self.meetings]
        later: list[list[Expr]] = [[] for _ in self.meetings]
        for one in [] if self.condition is None else _conjuncts(self.condition):
            names = column_names(one)
            of = [place for place, each in enumerate(self.meetings) if names & frozenset(each.names.columns.values())]
            last = of[-1] if of else len(self.meetings) - 1
            # A condition on the right side of a LEFT JOIN also sees rows that met nothing: it comes after.
            early = len(of) == 1 and not self.meetings[last].is_left
            (own if early else later)[last].append(one)
        return [_all(part) for part in own], [_all(part) for part in later]

    def _picked(self, place: int) -> dict[str, str]:
        """Return the columns that are read of a side, to their names in the joined table."""
        read = self.used if self.condition is None else self.used | column_names(self.condition)
        return {raw: name for raw, name in self.meetings[place].names.columns.items() if name in read}

    def _side(self, place: int, condition: Expr | None) -> MetRows:
        side = self.meetings[place].side
        sql = side.rows_sql(self._picked(place), condition, TABLES[place], self.rows)
        return MetRows(sql, side.is_single, 1 if side.is_single else self.rows)

    def _joined(self, place: int, left: MetRows, right: MetRows, later: Sequence[Expr | None]) -> MetRows:
        """Return the rows of the sides before a place once those of that place have met them."""
        meeting, condition, whole = self.meetings[place], later[place], place == len(self.meetings) - 1
        multiplies = not left.single and not right.single
        cap = left.most + right.most if multiplies and (self.capped or not whole) else None
        most = cap or max(left.most, right.most)
        shown = self._shown(place, later)
        second = right.sql
        if multiplies and cap is None:
            second = f"SELECT *, CAST(max(_rank) OVER (PARTITION BY _unit) AS BIGINT) AS _most FROM ({second})"  # noqa: S608 (our own SQL)
        kind = "LEFT JOIN" if meeting.is_left else "JOIN"
        unit = f"_met{meeting.beside}" if self._is_marked(meeting) else "_unit"
        sql = (
            f"SELECT {', '.join(['l._unit AS _unit', f'{_rank(left, right, cap)} AS _rank', *shown.values()])} "  # noqa: S608 (our own SQL)
            f"FROM ({left.sql}) AS l {kind} ({second}) AS r ON l.{unit} = r._unit"
        )
        if not whole:
            if cap is not None or condition is not None:
                sql = _lowest(sql, shown, condition, most)
        elif cap is not None:
            where = "" if condition is None else f" WHERE {render(condition)}"
            sql = (
                f"SELECT * FROM ({sql}){where} "  # noqa: S608 (our own SQL)
                f"QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _rank) <= {cap}"
            )
        return MetRows(sql, left.single and right.single, most, cap)

    def _shown(self, place: int, later: Sequence[Expr | None]) -> dict[str, str]:
        """Return the columns that are read from a place on, each with what it is made of there."""
        wanted = self.used.union(*(column_names(one) for one in later[place:] if one is not None))
        marks = sorted({each.beside for each in self.meetings[place + 1 :] if self._is_marked(each)})
        shown = {f"_met{at}": f"r._unit AS _met{at}" if at == place else f"l._met{at}" for at in marks if at <= place}
        for at in range(place + 1):
            letter = "r" if at == place else "l"
            names = [quote_name(name) for name in self._picked(at).values() if name in wanted]
            shown |= {name: f"{letter}.{name}" for name in names}
        return shown

    def _is_marked(self, meeting: Meeting) -> bool:
        """Return whether a side meets rows of one that may be missing, so that its unit must be known apart."""
        return self.meetings[meeting.beside].is_left


def _rank(left: MetRows, right: MetRows, cap: int | None) -> str:
    """Return a rank that counts a unit's joined rows from 1; with one row on a side, the other side's does.

    Of rows that are capped it says the order alone: those of a side's first row with all of the other's come first, so
    that the groups of either side's rows are led by some.
    """
    if right.single:
        return "l._rank"
    if left.single:
        return "coalesce(r._rank, 1)"
    if cap is not None:
        one, other = "CAST(l._rank AS BIGINT)", "CAST(r._rank AS BIGINT)"
        ordered = f"least({one}, {other}) * {max(left.most, right.most) + 1} + greatest({one}, {other})"
        return f"coalesce(({ordered}) * 2 + CAST({one} > {other} AS BIGINT), {one})"
    # In the order of (l._rank, r._rank), from each pair alone: pairs that the bound drops need no room.
    return "coalesce((l._rank - 1) * r._most + r._rank, l._rank)"


def _lowest(sql: str, columns: Iterable[str], condition: Expr | None, rows: int) -> str:
    """Return the rows of lowest rank of each unit among those that pass a condition, ranked anew from 1."""
    rank = "row_number() OVER (PARTITION BY _unit ORDER BY _rank)"
    where = "" if condition is None else f" WHERE {render(condition)}"
    ranked = f"SELECT {', '.join(['_unit', f'{rank} AS _place', *columns])} FROM ({sql}){where}"  # noqa: S608 (our own SQL)
    return f"SELECT * RENAME (_place AS _rank) FROM ({ranked}) WHERE _place <= {rows}"  # noqa: S608 (our own SQL)


def _conjuncts(condition: Expr) -> list[Expr]:
    if condition.op is not Op.AND:
        return [condition]
    return [one for argument in condition.args for one in _conjuncts(argument)]


def _all(conditions: Sequence[Expr]) -> Expr | None:
    return build.both(Op.AND, conditions) if conditions else None
