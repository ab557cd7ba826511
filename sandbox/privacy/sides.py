"""How a question names the columns of a join: bare where one side has them, with the side's name where several do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from sandbox.errors import QueryError
from sandbox.privacy.hints import names_hint, wide_hint
from sandbox.privacy.parse import Text


@dataclass(frozen=True, slots=True)
class Side:
    """How a question names one side of a join.

    Attributes:
        name: what qualifies its columns.
        unit: the column that names the unit.
        columns: its columns to their names in the joined table.
        counts: whether every joined row has a row of this side, so that counting its unit counts all units.
    """

    name: str
    unit: str
    columns: Mapping[str, str]
    counts: bool = True


def unknown_column(text: Text, node: exp.Expr, name: str, known: Sequence[str]) -> QueryError:
    """Return the refusal of a column that is not there; it names the nearest that is."""
    hint = wide_hint(node.name, names_hint(name, known, "the columns are"))
    return text.refusal(node, "unknown_column", f"there is no column `{name[:64]}`", hint)


def name_in_join(text: Text, sides: Sequence[Side], node: exp.Expr, named: tuple[str | None, str], unit: str) -> str:
    """Return the name in the joined table of a column that a question names; `unit` for any side's unit.

    Raises:
        QueryError: no side has the column (`unknown_column`), or several have it and the question does not say which
            (`ambiguous_column`).
    """
    table, name = named
    meant = [side for side in sides if table in {None, side.name}]
    if any(name == side.unit for side in meant):
        lone = meant[0] if len(meant) == 1 and not meant[0].counts else None
        if lone is not None:
            raise text.refusal(
                node,
                "unit_column",
                f"`{lone.name}.{name[:64]}` names a unit, where it has a row at all, and cannot be asked",
                f"for units without a row there write {lone.name}.{next(iter(lone.columns), 'x')} IS NULL, "
                "or so of another column that has no NULLs of its own",
            )
        return unit
    found = {side.columns[name] for side in meant if name in side.columns}
    if len(found) > 1:
        raise text.refusal(
            node,
            "ambiguous_column",
            f"`{name[:64]}` stands on {'both' if len(sides) == 2 else 'several'} sides of the join",
            f"write {' or '.join(f'{side.name}.{name}' for side in meant if name in side.columns)}",
        )
    if not found:
        known = [f"{side.name}.{column}" for side in meant for column in side.columns]
        raise unknown_column(text, node, name if table is None else f"{table}.{name}", known)
    return found.pop()


def counts_unit(sides: Sequence[Side], name: str, table: str | None) -> bool:
    """Return whether a column of a join names the unit of every joined row."""
    return any(name == side.unit and side.counts and table in {None, side.name} for side in sides)
