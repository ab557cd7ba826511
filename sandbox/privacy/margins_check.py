"""What a question may ask that wants totals beside its groups: ROLLUP, CUBE, GROUPING SETS."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from sandbox.privacy.keys import MAX_PUBLIC_CELLS, TOTAL
from sandbox.privacy.margins import Levels, rollup_levels
from sandbox.privacy.parse import Text
from sandbox.privacy.query import Aggregate, AggregateKind, Bounding, GroupKey, Settings
from sandbox.privacy.step import MAX_KEYS

MOST_LEVELS = 32
MOST_ROWS = 2 * MAX_PUBLIC_CELLS
_SETS = "write GROUPING SETS ((a, b), (a), ()), with one set of all keys, or ask the sets apart"

_ADDS_UP = {
    AggregateKind.COUNT,
    AggregateKind.SUM,
    AggregateKind.MEAN,
    AggregateKind.VARIANCE,
    AggregateKind.DEVIATION,
    AggregateKind.COVARIANCE,
    AggregateKind.CORRELATION,
}


def check_margins(
    text: Text,
    select: exp.Select,
    keys: Sequence[GroupKey],
    aggregates: Sequence[Aggregate],
    settings: Settings,
    levels: Levels,
) -> None:
    """Refuse totals that cannot be measured, and settings that do not go with it.

    Raises:
        QueryError: a key without a public domain, or that may be NULL; an aggregate that does not add up over groups
            (`input.query.rollup`); a setting that would undo consistency, or without a ROLLUP (`input.query.setting`).
    """
    rolled = bool(levels)
    if settings.consistent and not rolled:
        raise text.refusal(
            select, "setting", "`consistent` is for cells with totals", "write GROUP BY ROLLUP (a, b), or CUBE (a, b)"
        )
    if not rolled:
        return
    if settings.consistent and (settings.nonnegative or settings.rounded):
        raise text.refusal(
            select,
            "setting",
            "values that were cut off or rounded do not add up",
            "leave `nonnegative` and `round` out, or `consistent`",
        )
    if settings.bounding is Bounding.RESCALE:
        raise text.refusal(
            select, "rollup", "totals do not go with rescaling", "leave SETTINGS bounding out, or ask for one level"
        )
    for key in keys:
        if key.domain is None or None in key.domain or TOTAL in key.domain:
            raise text.refusal(
                select,
                "rollup",
                "totals take keys with a public domain that are never NULL",
                "add a filter `… IS NOT NULL`, write COALESCE, group by fewer or narrower keys, or name the values: "
                "CASE WHEN diag = 'A' THEN 'A' ELSE 'other' END",
            )
    if any(aggregate.kind not in _ADDS_UP for aggregate in aggregates):
        raise text.refusal(
            select,
            "rollup",
            "totals take counts of rows, sums, and what is made of them",
            "ask for units, quantiles and distinct values at each level apart",
        )
    rows = sum(math.prod(len(keys[place].domain or ()) for place in level) for level in levels)
    if rows > MOST_ROWS or len(levels) > MOST_LEVELS:
        raise text.refusal(
            select,
            "rollup",
            f"these levels are more than {MOST_LEVELS}, or have more than {MOST_ROWS} groups in all",
            "write ROLLUP, or GROUPING SETS with the levels that are needed",
        )


@dataclass(frozen=True, slots=True)
class Grouping:
    """The keys that ROLLUP, CUBE or GROUPING SETS name, and for each level the places of those that it keeps."""

    nodes: tuple[exp.Expr, ...]
    sets: Levels

    def levels(self, places: Sequence[int]) -> Levels:
        """Return the levels by the places of distinct keys, of which two nodes may name one."""
        return tuple(dict.fromkeys(tuple(sorted({places[node] for node in one})) for one in self.sets))


def read_grouping(text: Text, nodes: Sequence[exp.Expr]) -> Grouping | None:
    """Return what the one element of a GROUP BY says of levels, or None where it names plain keys.

    Raises:
        QueryError: a set of GROUPING SETS is no list of keys, or none of them names all (`input.query.rollup`).
    """
    node = nodes[0] if len(nodes) == 1 else None
    if isinstance(node, exp.Rollup):
        return Grouping(tuple(node.expressions), rollup_levels(len(node.expressions)))
    if isinstance(node, exp.Cube):
        named = tuple(node.expressions)
        sizes = range(len(named), -1, -1) if len(named) <= MAX_KEYS else ()
        return Grouping(named, tuple(one for size in sizes for one in itertools.combinations(range(len(named)), size)))
    if not isinstance(node, exp.GroupingSets):
        return None
    found: list[exp.Expr] = []
    sets = []
    for one in node.expressions:
        items = (
            list(one.expressions) if isinstance(one, exp.Tuple) else [one.this if isinstance(one, exp.Paren) else one]
        )
        if any(isinstance(item, (exp.Rollup, exp.Cube, exp.GroupingSets, exp.Tuple)) for item in items):
            raise text.refusal(one, "rollup", "a set of GROUPING SETS lists keys", _SETS)
        found += [item for item in items if item not in found]
        sets.append(tuple(sorted(found.index(item) for item in items)))
    whole = tuple(range(len(found)))
    if not found or whole not in sets:
        raise text.refusal(node, "rollup", "no set of GROUPING SETS names all keys", _SETS)
    return Grouping(tuple(found), tuple(dict.fromkeys([whole, *sets])))
