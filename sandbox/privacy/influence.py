"""Influence: how far one protected unit can move what is counted, in rows and in counts of units.

Statistics take their sensitivity from here (`statistics.py`), so that a row that one change may add, take away or
exchange is paid for whatever the reason: `docs/proofs/bounding.md` for the unit of a table, `docs/proofs/join.md` for a
join of two datasets, `docs/proofs/two-units.md` for further units of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy.query import Bounding, CheckedQuery, KeyMode


@dataclass(frozen=True, slots=True)
class Influence:
    """The most that any one change moves.

    Attributes:
        rows: rows that count before or after the change and not both times, over all groups.
        units: the L1 distance between the counts of units by group.
        units_squared: the square of the L2 distance between the counts of units by group.
        groups: groups in which the count of units changes.
        most: how far the count of units of one group moves.  The threshold of private keys rests on these three.
    """

    rows: int
    units: int
    units_squared: int
    groups: int
    most: int = 1


def plain_influence(bound: ContributionBound, mode: KeyMode) -> Influence:
    """Return the influence of a table's one unit: all of its bounded rows come or go."""
    # A count of units moves by 1 in each group that the unit is in, so its distance is its own square.
    cells = 1 if mode is KeyMode.NONE else bound.groups
    return Influence(bound.rows, cells, cells, bound.groups)


def influence_of(query: CheckedQuery) -> Influence:
    """Return the influence of every unit that a question must protect, the largest of all.

    In a LEFT JOIN of datasets a unit may leave the right one alone, or several right ones.  Then its joined rows are
    exchanged for others, and rows count on both sides of the change: twice the bound, however many tables are joined.
    A further unit of a kind that several tables protect may leave all of them.
    """
    plain = plain_influence(query.bound, query.key_mode)
    if query.joined is not None and query.joined.exchanges:
        plain = Influence(2 * plain.rows, 2 * plain.units, 2 * plain.units_squared, 2 * plain.groups)
    found = [plain, *(_other_influence(query, limit) for limit in limits_of(query.others).values())]
    return Influence(
        max(one.rows for one in found),
        max(one.units for one in found),
        max(one.units_squared for one in found),
        max(one.groups for one in found),
        max(one.most for one in found),
    )


def limits_of(others: Sequence[OtherUnit]) -> dict[str, int]:
    """Return the most rows of one further unit of each kind, over all tables that are read."""
    limits: dict[str, int] = {}
    for other in others:
        limits[other.kind] = limits.get(other.kind, 0) + other.rows
    return limits


def _other_influence(query: CheckedQuery, limit: int) -> Influence:
    """Return the influence of a further unit, which has at most `limit` rows in all tables that are read.

    Each row that leaves is replaced by at most one of its primary unit's next rank: two rows differ.  Where groups are
    capped, rows are weighed, or a first step or a join makes them, one row that leaves may exchange all that its
    primary unit brings.
    """
    grouped = query.key_mode is not KeyMode.NONE and query.bound.groups < query.bound.rows
    weighed = query.settings.bounding is Bounding.RESCALE
    if not grouped and not weighed and query.source is None:
        rows = cells = 2 * limit
    else:
        rows, cells = 2 * limit * query.bound.rows, 2 * limit * query.bound.groups
    return Influence(rows, cells, cells**2, cells, limit)
