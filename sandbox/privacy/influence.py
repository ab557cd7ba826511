"""Influence: how far one protected unit can move what is counted, in rows and in counts of units.

Statistics take their sensitivity from here (`statistics.py`), so that a row that one change may add, take away or
exchange is paid for whatever the reason: `docs/proofs/bounding.md` for the unit of a table, `docs/proofs/join.md` for a
join of two datasets, `docs/proofs/two-units.md` for further units of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy.query import CheckedQuery, KeyMode


@dataclass(frozen=True, slots=True)
class Influence:
    """The most that any one change moves.

    Attributes:
        rows: rows that count before or after the change and not both times, over all groups.
        units_squared: the square of the L2 distance between the counts of units by group.
        groups: groups in which the count of units changes; what the threshold of private keys rests on.
    """

    rows: int
    units_squared: int
    groups: int


def plain_influence(bound: ContributionBound, mode: KeyMode) -> Influence:
    """Return the influence of a table's one unit: all of its bounded rows come or go."""
    return Influence(bound.rows, 1 if mode is KeyMode.NONE else bound.groups, bound.groups)


def influence_of(query: CheckedQuery) -> Influence:
    """Return the influence of every unit that a question must protect, the largest of all.

    In a LEFT JOIN of two datasets a unit may leave the right one alone.  Then its joined rows are exchanged for others,
    and rows count on both sides of the change: twice the bound.
    """
    plain = plain_influence(query.bound, query.key_mode)
    if query.second is not None and query.second.exchanges:
        return Influence(2 * plain.rows, 2 * plain.units_squared, 2 * plain.groups)
    found = [plain, *(_other_influence(query, other) for other in query.others)]
    return Influence(
        max(one.rows for one in found), max(one.units_squared for one in found), max(one.groups for one in found)
    )


def _other_influence(query: CheckedQuery, other: OtherUnit) -> Influence:
    """Return the influence of a further unit, which has at most `other.rows` rows in the whole table.

    Each row that leaves is replaced by at most one of its primary unit's next rank: two rows differ.  Where groups are
    capped, or a first step makes the rows, one row that leaves may exchange all that its primary unit brings.
    """
    grouped = query.key_mode is not KeyMode.NONE and query.bound.groups < query.bound.rows
    if not grouped and query.source is None:
        rows = cells = 2 * other.rows
    else:
        rows, cells = 2 * other.rows * query.bound.rows, 2 * other.rows * query.bound.groups
    return Influence(rows, cells**2, cells)
