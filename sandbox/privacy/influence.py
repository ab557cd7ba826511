"""Influence: how far one protected unit can move what is counted, in rows and in counts of units.

Statistics take their sensitivity from here (`statistics.py`), so that a row that one change may add, take away or
exchange is paid for whatever the reason: `docs/proofs/bounding.md` for the unit of a table, `docs/proofs/join.md` for a
join of two datasets.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.model.unit import ContributionBound
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
    if query.second is None or not query.second.exchanges:
        return plain
    return Influence(2 * plain.rows, 2 * plain.units_squared, 2 * plain.groups)
