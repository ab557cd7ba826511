"""Bound what one unit brings to an answer, in the SQL that runs over one partition.

All rows of a unit stand in one partition, each with a rank 1..n drawn at random when the table was sealed.  Every rule
here chooses among a unit's rows by those rows alone (their ranks, the filter, their groups), so the rows kept of one
unit never depend on another unit: removing a unit removes its kept rows and changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.privacy.algebra import NumberType, Op
from sandbox.privacy.histogram import Histogram
from sandbox.privacy.query import Bounding, CheckedQuery, KeyMode
from sandbox.privacy.render import as_text, clamp, integer, render, render_is_null
from sandbox.privacy.rescaling import rescaling_sql
from sandbox.privacy.statistics import Statistic, StatisticKind


@dataclass(frozen=True, slots=True)
class Bounded:
    """The SQL of a plan, what it does in words, and whether it may drop rows that the question counts."""

    sql: str
    words: str
    drops_rows: bool


def bounding_sql(query: CheckedQuery, statistics: Sequence[Statistic], histograms: Sequence[Histogram] = ()) -> Bounded:
    """Return the statement that bounds, groups and sums the rows of a partition called `t`.

    - Groups are capped first, and only where a statistic's sensitivity rests on them (units over keys): a unit keeps
      the groups of its lowest ranks.  Otherwise the cap on rows bounds the groups as well.
    - Rows are capped to the lowest ranks: by `_rank <= k` where neither WHERE nor the group cap has dropped rows
      before, else by a window over the rows that are left.
    """
    keys = [f"_k{index}" for index in range(len(query.keys))]
    selected = [f"{render(key.expr)} AS {name}" for key, name in zip(query.keys, keys, strict=True)]
    scalars = [statistic for statistic in statistics if statistic.histogram is None]
    selected += [f"{_value(query, s)} AS _a{i}" for i, s in enumerate(scalars) if s.argument is not None]
    selected += [f"{render(histogram.argument)} AS _h{i}" for i, histogram in enumerate(histograms)]
    where = "" if query.filter is None else render(query.filter)
    if query.settings.bounding is Bounding.RESCALE:
        return _rescale(query, scalars, selected, keys, where)
    kinds = {statistic.kind for statistic in statistics}
    caps_rows = bool(kinds - {StatisticKind.UNITS})
    caps_groups = query.key_mode is not KeyMode.NONE and StatisticKind.UNITS in kinds
    if not caps_rows:
        return _count_units(query, keys, where)
    rows, groups = query.bound.rows, query.bound.groups
    if groups == rows:
        caps_groups = False
    words: list[str] = []
    conditions = [where] if where else []
    if not where and not caps_groups:
        conditions.append(f"_rank <= {rows}")
        words.append(f"rank <= {rows}")
    inner = f"SELECT _unit, _rank{''.join(', ' + s for s in selected)} FROM {_source(query)}"  # noqa: S608 (our own SQL)
    if conditions:
        inner += f" WHERE {' AND '.join(conditions)}"
    if caps_groups:
        inner = _cap_groups(inner, keys, groups)
        words.append(f"the {groups} groups with a unit's lowest ranks")
    if where or caps_groups:
        columns = ", ".join(["_unit", *keys, *(part.rsplit(" AS ", 1)[1] for part in selected[len(keys) :])])
        inner = _lowest_ranks(inner, columns, rows)
        words.append(f"a unit's {rows} lowest ranks after the filter")
    sql = _grouped(query, inner, keys, scalars, histograms)
    if query.source is not None:
        words.insert(0, f"first one row for each {query.unit_kind}")
    return Bounded(sql, ", then ".join(words), drops_rows=query.source is None or rows > 1)


def _rescale(
    query: CheckedQuery, statistics: Sequence[Statistic], selected: Sequence[str], keys: Sequence[str], where: str
) -> Bounded:
    """Return the statement that counts every row, with a smaller weight for units that bring too much."""
    inner = f"SELECT {', '.join(['_unit', *selected])} FROM {_source(query)}" + (f" WHERE {where}" if where else "")  # noqa: S608 (our own SQL)
    shown = [as_text(key.expr, name) for key, name in zip(query.keys, keys, strict=True)]
    totals = [_total(statistic, f"_a{index}") for index, statistic in enumerate(statistics)]
    fine = statistics[0].fine
    limits = [math.isqrt(statistic.sensitivity_squared) // fine for statistic in statistics]
    sql = rescaling_sql(inner, keys, shown, totals, limits, fine)
    return Bounded(sql, f"all rows, a unit weighed down to what {query.bound.rows} rows bring", drops_rows=True)


def _source(query: CheckedQuery) -> str:
    return "t" if query.source is None else f"({query.source}) AS t"


def _grouped(
    query: CheckedQuery,
    inner: str,
    keys: Sequence[str],
    scalars: Sequence[Statistic],
    histograms: Sequence[Histogram],
) -> str:
    """Return the statement that groups bounded rows: one row a group, and with histograms one more for each bin."""
    totals = [_total(statistic, f"_a{index}") for index, statistic in enumerate(scalars)]
    shown = [as_text(key.expr, name) for key, name in zip(query.keys, keys, strict=True)]
    if not histograms:
        sql = f"SELECT {', '.join([*shown, *totals])} FROM ({inner}) AS b"  # noqa: S608 (our own SQL)
        return sql + (f" GROUP BY {', '.join(keys)}" if keys else "")
    parts = []
    if totals:
        sql = f"SELECT {', '.join([*shown, 'CAST(NULL AS VARCHAR)', *totals])} FROM b"  # noqa: S608 (our own SQL)
        parts.append(sql + (f" GROUP BY {', '.join(keys)}" if keys else ""))
    zeros = ["CAST(0 AS BIGINT)"] * (len(totals) - 1)
    for index, histogram in enumerate(histograms):
        name = f"_h{index}"
        place = f"'{index}:' || {as_text(histogram.argument, name)}"
        parts.append(
            f"SELECT {', '.join([*shown, place, 'count(*)', *zeros])} FROM b WHERE {name} IS NOT NULL "  # noqa: S608 (our own SQL)
            f"GROUP BY {', '.join([*keys, name])}"
        )
    return f"WITH b AS ({inner}) {' UNION ALL '.join(parts)}"


def _count_units(query: CheckedQuery, keys: Sequence[str], where: str) -> Bounded:
    """Return the statement that only counts units: rows need no cap, since each unit counts once in a group."""
    source = f"{_source(query)} WHERE {where}" if where else _source(query)
    if not keys:
        if not where:
            return Bounded(f"SELECT count(*) FROM {source} WHERE _rank = 1", "each unit counts once", drops_rows=False)  # noqa: S608 (our own SQL)
        return Bounded(f"SELECT count(DISTINCT _unit) FROM {source}", "each unit counts once", drops_rows=False)  # noqa: S608 (our own SQL)
    columns = ", ".join(keys)
    if query.settings.top:
        return _count_in_every_group(query, keys, source)
    groups = query.bound.groups
    selected = ", ".join(f"{render(key.expr)} AS {name}" for key, name in zip(query.keys, keys, strict=True))
    led = (
        f"SELECT _unit, {columns}, min(_rank) AS _lead FROM (SELECT _unit, _rank, {selected} FROM {source}) "  # noqa: S608 (our own SQL)
        f"GROUP BY _unit, {columns}"
    )
    kept = f"SELECT * FROM ({led}) QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _lead) <= {groups}"  # noqa: S608 (our own SQL)
    shown = ", ".join(as_text(key.expr, name) for key, name in zip(query.keys, keys, strict=True))
    return Bounded(
        f"SELECT {shown}, count(*) FROM ({kept}) AS b GROUP BY {columns}",  # noqa: S608 (our own SQL)
        f"the {groups} groups with a unit's lowest ranks",
        drops_rows=True,
    )


def _count_in_every_group(query: CheckedQuery, keys: Sequence[str], source: str) -> Bounded:
    """Return the statement that counts a unit once in each of its groups, however many they are."""
    selected = ", ".join(f"{render(key.expr)} AS {name}" for key, name in zip(query.keys, keys, strict=True))
    shown = ", ".join(as_text(key.expr, name) for key, name in zip(query.keys, keys, strict=True))
    return Bounded(
        f"SELECT {shown}, count(DISTINCT _unit) FROM (SELECT _unit, {selected} FROM {source}) AS b "  # noqa: S608 (our own SQL)
        f"GROUP BY {', '.join(keys)}",
        "each unit counts once in every group",
        drops_rows=False,
    )


def _lowest_ranks(inner: str, columns: str, rows: int) -> str:
    """Keep the `rows` lowest ranks of each unit among the rows that are left.

    Rows of rank at most `rows` are always among them, and so are all rows of a unit that has no more than `rows`; only
    the others compete, for the places that are left.  So the window sees few rows.
    """
    return (
        f"WITH f AS MATERIALIZED ({inner}), "  # noqa: S608 (our own SQL)
        f"h AS (SELECT _unit, count(*) FILTER (WHERE _rank <= {rows}) AS _c FROM f GROUP BY _unit "
        f"HAVING count(*) > {rows}) "
        f"SELECT {columns} FROM f WHERE _rank <= {rows} "
        f"UNION ALL SELECT {columns} FROM f ANTI JOIN h USING (_unit) WHERE _rank > {rows} "
        f"UNION ALL SELECT {columns} FROM (SELECT f.*, h._c FROM f JOIN h USING (_unit) "
        f"WHERE f._rank > {rows} AND h._c < {rows} "
        f"QUALIFY row_number() OVER (PARTITION BY f._unit ORDER BY f._rank) <= {rows} - h._c)"
    )


def _cap_groups(inner: str, keys: Sequence[str], groups: int) -> str:
    """Keep the rows of a unit's first groups, ordered by the lowest rank that each group holds."""
    columns = ", ".join(keys)
    led = f"SELECT *, min(_rank) OVER (PARTITION BY _unit, {columns}) AS _lead FROM ({inner})"  # noqa: S608 (our own SQL)
    ranked = f"dense_rank() OVER (PARTITION BY _unit ORDER BY _lead) <= {groups}"
    return f"SELECT * EXCLUDE (_lead) FROM ({led}) QUALIFY {ranked}"  # noqa: S608 (our own SQL)


def _value(query: CheckedQuery, statistic: Statistic) -> str:
    """Return what a row adds: the argument, clamped last of all to the bounds that the sensitivity rests on."""
    argument = statistic.argument
    assert argument is not None
    if statistic.kind is StatisticKind.ROWS:
        return f"(NOT {render_is_null(argument)})"
    of = argument.type
    assert isinstance(of, NumberType)
    assert max(abs(of.lower), abs(of.upper), of.upper - of.lower) * query.max_rows < 2**62
    # A plain column is clamped where it is read; anything else once more here, whatever its interval promises.
    clamped = render(argument) if argument.op is Op.COLUMN else clamp(render(argument), of)
    centred = clamped if statistic.centre == 0 else f"({clamped} - {integer(statistic.centre)})"
    return f"CAST({centred} AS BIGINT)"


def _total(statistic: Statistic, name: str) -> str:
    match statistic.kind:
        case StatisticKind.UNITS:
            return "count(DISTINCT _unit)"
        case StatisticKind.ROWS:
            return "count(*)" if statistic.argument is None else f"count(*) FILTER (WHERE {name})"
        case StatisticKind.SUM:
            return f"coalesce(sum({name}), 0)"
        case _:
            raise AssertionError("a histogram's statistics are made of its counts")
