"""Bound by rescaling: every row counts, and a unit that would move a statistic too far counts with a smaller weight.

A unit brings a vector over the cells for each statistic: its counts, its centred sums.  All of them are multiplied by
one weight, the largest at most 1 for which each vector's L2 norm is within what the row bound would allow.  So the
sensitivity is that of the row bound, while a unit with many rows of small values loses little or nothing
(`docs/proofs/rescaling.md`).  One weight for all statistics keeps means right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sandbox.errors import BoundError
from sandbox.privacy.render import integer
from sandbox.privacy.statistics import Statistic, StatisticKind

FINEST = 1 << 10
COARSEST = 1 << 4
_HALF = 1 << 20


def rescaled(statistics: Sequence[Statistic], max_rows: int) -> tuple[Statistic, ...]:
    """Return statistics in finer steps, which fractions of rows need.

    Raises:
        BoundError: a statistic cannot be rescaled, or its total would leave 62 bits.
    """
    if any(statistic.kind not in {StatisticKind.ROWS, StatisticKind.SUM} for statistic in statistics):
        raise BoundError(
            "only counts of rows, sums and what is made of them can be rescaled",
            hint="leave SETTINGS bounding out, or group by public keys and ask for medians and units apart",
            code="privacy.bound.rescale",
        )
    largest = max(math.isqrt(statistic.sensitivity_squared) for statistic in statistics)
    fine = FINEST
    while fine >= COARSEST and largest * max(1, max_rows) * fine >= 2**62:
        fine //= 2
    if fine < COARSEST:
        raise BoundError(
            "a rescaled total could grow beyond 62 bits",
            hint="narrow the values first, as in SUM(LEAST(GREATEST(x, 0), 1000))",
            code="privacy.bound.overflow",
        )
    return tuple(replace(s, fine=fine, sensitivity_squared=s.sensitivity_squared * fine**2) for s in statistics)


def rescaling_sql(
    inner: str, keys: Sequence[str], shown: Sequence[str], totals: Sequence[str], limits: Sequence[int], fine: int
) -> str:
    """Return the statement that sums by unit and cell, weighs, and sums over units.

    Args:
        inner: gives `_unit`, the keys and the arguments of every row that counts.
        keys: names of the keys.
        shown: their texts.
        totals: one aggregate for each statistic, over the rows of one unit in one cell.
        limits: the largest L2 norm of one unit's vector, for each statistic.
        fine: how many integer steps make one.
    """
    names = [f"_v{index}" for index in range(len(totals))]
    values = ", ".join(f"{total} AS {name}" for total, name in zip(totals, names, strict=True))
    grouped = ", ".join(["_unit", *keys])
    by_unit = f"SELECT {grouped}, {values} FROM ({inner}) GROUP BY {grouped}"  # noqa: S608 (our own SQL)
    squares = [f"CAST({name} AS HUGEINT) * {name}" for name in names]
    sums = ", ".join([*shown, *(f"coalesce(sum({name} * _w), 0)" for name in names)])
    if not keys:
        weight = _least([_weight(square, limit, fine) for square, limit in zip(squares, limits, strict=True)])
        return f"SELECT {sums} FROM (SELECT {', '.join(names)}, {weight} AS _w FROM ({by_unit})) AS b"  # noqa: S608 (our own SQL)
    # A weight is made once for a unit and joined to its cells: a window over the cells takes twice as long.
    norms = [f"sum({square})" for square in squares]
    weight = _least([_weight(norm, limit, fine) for norm, limit in zip(norms, limits, strict=True)])
    return (
        f"WITH p AS MATERIALIZED ({by_unit}), w AS (SELECT _unit, {weight} AS _w FROM p GROUP BY _unit) "  # noqa: S608 (our own SQL)
        f"SELECT {sums} FROM p JOIN w USING (_unit) GROUP BY {', '.join(keys)}"
    )


def _weight(square: str, limit: int, fine: int) -> str:
    """Return a weight in whole steps that is certainly not above `fine * limit / sqrt(square)`.

    The root is taken in floats, which are correctly rounded, then raised by one part in 1e12 and one step, so it is
    certainly not below the true root; from there on all is integers.
    """
    root = f"CAST(ceil(sqrt(CAST({square} AS DOUBLE)) * {_HALF}.000002) AS HUGEINT) + 1"
    whole = integer(fine)
    return (
        f"(CASE WHEN {square} <= {integer(limit * limit)} THEN {whole} "
        f"ELSE least({whole}, {integer(fine * limit * _HALF)} // ({root})) END)"
    )


def _least(weights: Sequence[str]) -> str:
    least = weights[0] if len(weights) == 1 else f"least({', '.join(weights)})"
    return f"CAST({least} AS BIGINT)"
