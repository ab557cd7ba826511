"""What a question that rolls up its groups may ask."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from sandbox.privacy.keys import TOTAL
from sandbox.privacy.parse import Text
from sandbox.privacy.query import Aggregate, AggregateKind, Bounding, GroupKey, Settings

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
    *,
    rolled: bool,
) -> None:
    """Refuse a ROLLUP that cannot be measured, and settings that do not go with it.

    Raises:
        QueryError: a key without a public domain, or that may be NULL; an aggregate that does not add up over groups
            (`input.query.rollup`); a setting that would undo consistency, or without a ROLLUP (`input.query.setting`).
    """
    if settings.consistent and not rolled:
        raise text.refusal(
            select, "setting", "`consistent` is for totals beside their cells", "write GROUP BY ROLLUP (a, b)"
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
            select, "rollup", "ROLLUP does not go with rescaling", "leave SETTINGS bounding out, or ask for one level"
        )
    for key in keys:
        if key.domain is None or None in key.domain or TOTAL in key.domain:
            raise text.refusal(
                select,
                "rollup",
                "ROLLUP takes keys with a public domain that are never NULL",
                "add a filter `… IS NOT NULL`, write COALESCE, or group by fewer or narrower keys",
            )
    if any(aggregate.kind not in _ADDS_UP for aggregate in aggregates):
        raise text.refusal(
            select,
            "rollup",
            "ROLLUP takes counts of rows, sums, and what is made of them",
            "ask for units, quantiles and distinct values at each level apart",
        )
