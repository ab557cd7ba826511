"""Whom the promise protects, and how much one of them may contribute."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.errors import BoundError


@dataclass(frozen=True, slots=True)
class PrivacyUnit:
    """Whom one change protects: two datasets are neighbours when they differ in all rows of one such unit.

    Attributes:
        kind: the kind in the singular, lower case (`patient`, `enterprise`, `vehicle-day`).
        column: the column whose value names the unit; it is sealed as a keyed token, never in clear.
        label_zh: the kind in Chinese, for people.
    """

    kind: str
    column: str
    label_zh: str

    @property
    def sql_name(self) -> str:
        """What a question calls the column: names have no case there, and a source's header may have."""
        return self.column.lower()


@dataclass(frozen=True, slots=True)
class OtherUnit:
    """A further kind of unit that a table protects, beside the one that its rows are bounded by.

    Attributes:
        kind: the kind in the singular, lower case (`person`).
        column: the header of its key in the source file; it is sealed as a keyed token, never in clear, and no question
            reads it.
        label_zh: the kind in Chinese, for people.
        rows: the most rows of one such unit in a sealed table, 1 or more; a batch that has more is refused.
    """

    kind: str
    column: str
    label_zh: str
    rows: int

    @property
    def token_column(self) -> str:
        """The name under which its tokens are sealed."""
        return f"_unit_{self.kind.replace('-', '_')}"

    def to_record(self) -> dict[str, int | str]:
        """Return it as a canonical record."""
        return {"kind": self.kind, "column": self.column, "zh": self.label_zh, "rows": self.rows}


@dataclass(frozen=True, slots=True)
class ContributionBound:
    """How many rows and groups one privacy unit may touch in one answer.

    Attributes:
        rows: rows of one unit that may count in one answer, 1 or more.
        groups: groups that one unit may touch, 1 to `rows`.
    """

    rows: int
    groups: int

    def __post_init__(self) -> None:
        if self.rows < 1 or not 1 <= self.groups <= self.rows:
            raise BoundError(
                f"contribution bound of {self.rows} rows and {self.groups} groups is out of range",
                hint="rows is 1 or more, groups lies between 1 and rows",
            )

    def lowered(self, *, rows: int | None = None, groups: int | None = None) -> ContributionBound:
        """Return the bound a query asks for; it may lower the dataset's bound and never raise it."""
        new_rows = self.rows if rows is None else rows
        new_groups = min(self.groups if groups is None else groups, new_rows)
        if new_rows > self.rows or (groups is not None and groups > self.groups):
            raise BoundError(
                f"contribution bound asked for is above the dataset's {self.rows} rows and {self.groups} groups",
                hint="ask for fewer rows or groups a unit, or leave the bound out",
            )
        return ContributionBound(new_rows, new_groups)

    def to_record(self) -> dict[str, int]:
        """Return `{"rows": n, "groups": n}`."""
        return {"rows": self.rows, "groups": self.groups}
