"""Joins of three and four sides drawn at random, and what they mean, counted unit by unit in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.support import privacy_world as world

UNITS = {"visits": "patient", "claims": "insured", "drugs": "holder"}
KEYS = {"visits": "district", "claims": "kind", "drugs": "form"}
TEXTS = {"visits": ["east", "west", None], "claims": ["a", "b"], "drugs": ["pill", "salve"]}
ALIASES = "abcd"

Row = Mapping[str, object]
Joined = tuple[Row | None, ...]


@dataclass(frozen=True)
class Condition:
    """`age` of one or two sides: `a.age > n`, `a.age >= b.age`, `a.age IS NULL`."""

    left: int
    right: int
    least: int

    @property
    def sides(self) -> set[int]:
        return {self.left} if self.right < 0 else {self.left, self.right}

    @property
    def sql(self) -> str:
        one = f"{ALIASES[self.left]}.age"
        if self.right >= 0:
            return f"{one} >= {ALIASES[self.right]}.age"
        return f"{one} IS NULL" if self.least < 0 else f"{one} > {self.least}"

    def passes(self, row: Joined) -> bool:
        one = _age(row[self.left])
        if self.right >= 0:
            other = _age(row[self.right])
            return one is not None and other is not None and one >= other
        return one is None if self.least < 0 else one is not None and one > self.least


@dataclass(frozen=True)
class Shape:
    """A join: its tables, which of its joins are LEFT, whose unit each names, and the WHERE."""

    tables: tuple[str, ...]
    lefts: tuple[bool, ...]
    beside: tuple[int, ...]
    conditions: tuple[Condition, ...]

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def source(self) -> str:
        words = f"{self.tables[0]} a"
        for place in range(1, len(self)):
            one, other = ALIASES[place], ALIASES[self.beside[place]]
            unit, beside = UNITS[self.tables[place]], UNITS[self.tables[self.beside[place]]]
            kind = "LEFT JOIN" if self.lefts[place] else "JOIN"
            words += f" {kind} {self.tables[place]} {one} ON {other}.{beside} = {one}.{unit}"
        where = " AND ".join(condition.sql for condition in self.conditions)
        return words + (f" WHERE {where}" if where else "")

    @property
    def needed(self) -> set[int]:
        """The sides without whose rows no joined row stays."""
        found = {0, *(place for place in range(len(self)) if not self.lefts[place])}
        while True:
            more = found | {self.beside[place] for place in found}
            if more == found:
                return found
            found = more

    def key(self, place: int) -> str:
        return KEYS[self.tables[place]]


def joined_rows(shape: Shape, sides: Sequence[Sequence[Row]], rows: int, *, capped: bool) -> list[Joined]:
    """Return the joined rows of one unit in the order of their ranks, before the bound of the question.

    Args:
        shape: the join.
        sides: of each side, the unit's rows by rank.
        rows: how many rows of a side may meet others.
        capped: whether groups are told apart before rows are capped.
    """
    met: list[Joined] = [(row,) for row in _own(shape, 0, sides[0], rows)]
    most = rows
    for place in range(1, len(shape)):
        right = _own(shape, place, sides[place], rows)
        pairs = []
        for i, left in enumerate(met):
            partners = [] if left[shape.beside[place]] is None else list(enumerate(right))
            if not partners and shape.lefts[place]:
                partners = [(-1, None)]
            pairs += [(i, j, (*left, row)) for j, row in partners]
        last, most = place == len(shape) - 1, most + rows
        diagonal = capped or not last
        if diagonal:
            pairs.sort(key=lambda pair: (min(pair[:2]), max(pair[:2]), pair[0] > pair[1]) if pair[1] >= 0 else pair[:1])
        now = [c for c in shape.conditions if not _is_own(shape, c) and max(c.sides) == place]
        met = [row for _, _, row in pairs if all(condition.passes(_padded(shape, row)) for condition in now)]
        met = met[:most] if diagonal else met
    return met


def _own(shape: Shape, place: int, rows: Sequence[Row], most: int) -> list[Row]:
    own = [c for c in shape.conditions if _is_own(shape, c) and c.sides == {place}]
    alone = [(*[None] * place, row, *[None] * (len(shape) - place - 1)) for row in rows]
    return [row[place] for row in alone if all(c.passes(row) for c in own)][:most]  # type: ignore[misc]


def _is_own(shape: Shape, condition: Condition) -> bool:
    return len(condition.sides) == 1 and condition.sides <= shape.needed


def _padded(shape: Shape, row: Joined) -> Joined:
    return (*row, *[None] * (len(shape) - len(row)))


def _age(row: Row | None) -> int | None:
    return None if row is None else row["age"]  # type: ignore[return-value]


@st.composite
def shapes(draw: st.DrawFn, least: int = 3) -> Shape:
    """Joins of three or four sides: chains, stars, LEFT and plain, tables joined with themselves, any conditions."""
    count = draw(st.integers(least, 4))
    tables = draw(st.lists(st.sampled_from(sorted(UNITS)), min_size=count, max_size=count))
    lefts = [False, *(draw(st.booleans()) for _ in range(count - 1))]
    beside = [0, *(draw(st.integers(0, place - 1)) for place in range(1, count))]
    places = st.integers(0, count - 1)
    one = st.builds(Condition, places, st.just(-1), st.integers(-1, 6))
    two = st.builds(Condition, places, places, st.just(0)).filter(lambda c: c.left != c.right)
    conditions = draw(st.lists(st.one_of(one, two), max_size=2))
    return Shape(tuple(tables), tuple(lefts), tuple(beside), tuple(conditions))


@st.composite
def people(draw: st.DrawFn, max_units: int = 4, max_rows: int = 4) -> dict[str, list[dict[str, object]]]:
    """Rows of a few units in all three tables: some stand in one only, some rows are the same twice."""
    numbers = range(draw(st.integers(1, max_units)))
    found = {}
    for name, texts in TEXTS.items():
        row = st.fixed_dictionaries({"age": st.integers(0, 9), KEYS[name]: st.sampled_from(texts)})
        units = {7 + 1_000_003 * number: draw(st.lists(row, max_size=max_rows)) for number in numbers}
        found[name] = draw(st.permutations(world.visits(units)))
    return found


def by_unit(rows: Sequence[Row]) -> dict[object, list[Row]]:
    """Return the rows of each unit by rank."""
    found: dict[object, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["_rank"]):  # type: ignore[arg-type, return-value]
        found.setdefault(row["_unit"], []).append(row)
    return found
