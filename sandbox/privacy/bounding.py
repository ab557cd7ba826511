"""Bound what one unit brings to an answer, in the SQL that runs over one partition.

All rows of a unit stand in one partition, each with a rank 1..n drawn at random when the table was sealed.  Every rule
here chooses among a unit's rows by those rows alone (their ranks, the filter, their groups), so the rows kept of one
unit never depend on another unit: removing a unit removes its kept rows and changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sandbox.privacy.algebra import NumberType, Op, TextType, column_names
from sandbox.privacy.arrays import tally_of
from sandbox.privacy.guard import broken_guard
from sandbox.privacy.histogram import Histogram
from sandbox.privacy.influence import influence_of
from sandbox.privacy.layout import FIRST_COLUMN, GROUP_COLUMN, PLAIN, Bins, Layout
from sandbox.privacy.query import Bounding, CheckedQuery
from sandbox.privacy.render import as_text, clamp, integer, render, render_is_null
from sandbox.privacy.rescaling import rescaling_sql
from sandbox.privacy.statistics import Statistic, StatisticKind
from sandbox.privacy.tallies import Count, Tally


@dataclass(frozen=True, slots=True)
class Bounded:
    """The SQL of a plan, what it does in words, and whether it may drop rows that the question counts."""

    sql: str
    words: str
    drops_rows: bool
    layout: Layout = PLAIN


@dataclass(frozen=True, slots=True)
class _Keys:
    """The group keys in SQL: what rows select, the names they get, how groups show, and the columns numbered for it."""

    selected: tuple[str, ...]
    names: tuple[str, ...]
    shown: tuple[str, ...]
    numbered: tuple[str, ...] = ()

    @property
    def by(self) -> str:
        return f" GROUP BY {', '.join(self.names)}" if self.names else ""


def _keys_of(query: CheckedQuery, *, worthwhile: bool) -> _Keys:
    """Return the keys; plain text columns of the partition are grouped by one number for all of them where it pays."""
    plain = all(key.expr.op is Op.COLUMN and isinstance(key.expr.type, TextType) for key in query.keys)
    if query.keys and plain and query.source is None and (worthwhile or len(query.keys) > 1):
        numbered = tuple(str(key.expr.value) for key in query.keys)
        return _Keys((GROUP_COLUMN,), (GROUP_COLUMN,), (GROUP_COLUMN,), numbered)
    names = tuple(f"_k{index}" for index in range(len(query.keys)))
    selected = tuple(f"{render(key.expr)} AS {name}" for key, name in zip(query.keys, names, strict=True))
    return _Keys(selected, names, tuple(as_text(key.expr, n) for key, n in zip(query.keys, names, strict=True)))


def bounding_sql(query: CheckedQuery, statistics: Sequence[Statistic], histograms: Sequence[Histogram] = ()) -> Bounded:
    """Return the statement that bounds, groups and sums the rows of a partition called `t`, or of its join with others.

    - Groups are capped first, and only where a statistic's sensitivity rests on them (units over keys): a unit keeps
      the groups of its lowest ranks.  Otherwise the cap on rows bounds the groups as well.
    - Rows are capped to the lowest ranks: over a table by its layout, which hands on no others (`layout.py`), or by
      `_rank <= k`; over rows that a join, a first step or the group cap made, by a window.
    """
    bounded = _bounded(query, statistics, histograms)
    if query.joined is None:
        return bounded
    words = f"{query.joined.words}, then {bounded.words}" if bounded.words else query.joined.words
    return replace(bounded, words=words, drops_rows=bounded.drops_rows or query.joined.drops_rows)


def _bounded(query: CheckedQuery, statistics: Sequence[Statistic], histograms: Sequence[Histogram]) -> Bounded:
    kinds = {statistic.kind for statistic in statistics}
    worthwhile = bool(histograms) or query.filter is None
    keys = _keys_of(query, worthwhile=worthwhile)
    scalars = [statistic for statistic in statistics if statistic.histogram is None]
    values = {f"_a{i}": _value(query, s) for i, s in enumerate(scalars) if s.argument is not None}
    values |= {f"_h{i}": render(histogram.argument) for i, histogram in enumerate(histograms)}
    selected = [*keys.selected, *(f"{sql} AS {name}" for name, sql in values.items())]
    where = "" if query.filter is None else render(query.filter)
    if query.settings.bounding is Bounding.RESCALE:
        return _rescale(query, scalars, selected, keys, where)
    if kinds <= {StatisticKind.UNITS}:
        return _count_units(query, keys, where)
    if query.source is None and not _caps_groups(query, kinds):
        keys = _keys_of(query, worthwhile=True)
        if where or keys.numbered or _bins_of(keys, scalars, histograms) is not None:
            return _of_few_rows(query, scalars, values, keys, histograms)
    rows, groups = query.bound.rows, query.bound.groups
    layout, units = Layout(groups=keys.numbered), "count(DISTINCT _unit)"
    inner = f"SELECT {', '.join(['_unit', '_rank', *selected])} FROM {_source(query)}"  # noqa: S608 (our own SQL)
    inner += f" WHERE {where}" if where else ""
    words = [f"a unit's {rows} lowest ranks after the filter"]
    if _caps_groups(query, kinds):
        words.insert(0, f"the {groups} groups with a unit's lowest ranks")
        inner = _cap_groups(inner, keys.names, groups)
        inner = _lowest_ranks(inner, ", ".join(["_unit", *keys.names, *values]), rows)
    elif where:
        inner = _lowest_ranks(inner, ", ".join(["_unit", *keys.names, *values]), rows)
    else:
        words = [f"rank <= {rows}"]
        inner += f" WHERE _rank <= {rows}"
        if StatisticKind.UNITS in kinds and not keys.names:
            units = "count(*) FILTER (WHERE _rank = 1)"
    sql = _grouped(inner, keys, [_total(s, f"_a{i}", units) for i, s in enumerate(scalars)], histograms)
    if query.source is not None and query.joined is None:
        words.insert(0, f"first one row for each {query.unit_kind}")
    return Bounded(sql, ", then ".join(words), drops_rows=query.source is None or rows > 1, layout=layout)


def _caps_groups(query: CheckedQuery, kinds: Collection[StatisticKind]) -> bool:
    return bool(query.keys) and StatisticKind.UNITS in kinds and query.bound.groups != query.bound.rows


def _of_few_rows(
    query: CheckedQuery,
    scalars: Sequence[Statistic],
    values: Mapping[str, str],
    keys: _Keys,
    histograms: Sequence[Histogram],
) -> Bounded:
    """Return the statement over a unit's first rows alone, which the layout picks before the statement runs."""
    rows, where = query.bound.rows, "" if query.filter is None else render(query.filter)
    words = f"a unit's {rows} lowest ranks after the filter" if where else f"rank <= {rows}"
    bins = _bins_of(keys, scalars, histograms)
    firsts, units, carried = False, "count(DISTINCT _unit)", _carried(query, scalars, histograms, keys)
    if any(statistic.kind is StatisticKind.UNITS for statistic in scalars):
        firsts = bool(keys.numbered)
        units = f"sum({FIRST_COLUMN})" if firsts else units
        carried = carried if firsts else (*carried, "_unit")
    if bins is not None:
        carried = ()
        sql = f"SELECT {GROUP_COLUMN}, count(*) FROM t GROUP BY {GROUP_COLUMN}"  # noqa: S608 (our own SQL)
    else:
        unit = ["_unit"] if "_unit" in carried else []
        marked = [FIRST_COLUMN] if firsts else []
        named = [f"{value} AS {name}" for name, value in values.items()]
        inner = f"SELECT {', '.join([*unit, *marked, *keys.selected, *named]) or '1'} FROM t"  # noqa: S608 (our own SQL)
        sql = _grouped(inner, keys, [_total(s, f"_a{i}", units) for i, s in enumerate(scalars)], histograms)
    if not carried and bins is None and (values or not keys.numbered):
        # Values of literals alone, and rows that have no group, read no column: something must stand for each row.
        carried = ("_rank",)
    tallies = _tallies(scalars, histograms, bins) if keys.numbered or bins is not None else ()
    layout = Layout(keys.numbered, bins, rows, where, firsts, carried, tallies)
    return Bounded(sql, words, drops_rows=True, layout=layout)


def _tallies(scalars: Sequence[Statistic], histograms: Sequence[Histogram], bins: Bins | None) -> tuple[Tally, ...]:
    """Return what the statement counts and sums of each number, or nothing where it does more."""
    if bins is not None:
        return (Count("rows"),)
    tallies = [tally_of(statistic) for statistic in scalars]
    return () if histograms or None in tallies else tuple(tally for tally in tallies if tally is not None)


def _bins_of(keys: _Keys, scalars: Sequence[Statistic], histograms: Sequence[Histogram]) -> Bins | None:
    """Return the bins that one histogram counts, where that is all that is counted and numbers stand for the keys."""
    if scalars or len(histograms) != 1 or (keys.names and not keys.numbered):
        return None
    return histograms[0].bins


def _carried(
    query: CheckedQuery, scalars: Sequence[Statistic], histograms: Sequence[Histogram], keys: _Keys
) -> tuple[str, ...]:
    """Return the columns that values and keys are made of, sorted."""
    exprs = [s.argument for s in scalars if s.argument is not None] + [h.argument for h in histograms]
    exprs += [] if keys.numbered else [key.expr for key in query.keys]
    return tuple(sorted(frozenset[str]().union(*(column_names(expr) for expr in exprs))))


def _rescale(
    query: CheckedQuery, statistics: Sequence[Statistic], selected: Sequence[str], keys: _Keys, where: str
) -> Bounded:
    """Return the statement that counts every row, with a smaller weight for units that bring too much."""
    inner = f"SELECT {', '.join(['_unit', *selected])} FROM {_source(query)}" + (f" WHERE {where}" if where else "")  # noqa: S608 (our own SQL)
    totals = [_total(statistic, f"_a{index}", "") for index, statistic in enumerate(statistics)]
    fine = statistics[0].fine
    # One unit is held to what its rows may bring; a further unit may reach several, and is paid for besides.
    held = fine * influence_of(query).rows // query.bound.rows
    limits = [math.isqrt(statistic.sensitivity_squared) // held for statistic in statistics]
    sql = rescaling_sql(inner, keys.names, keys.shown, totals, limits, fine)
    words = f"all rows, a unit weighed down to what {query.bound.rows} rows bring"
    return Bounded(sql, words, drops_rows=True, layout=Layout(groups=keys.numbered))


def _source(query: CheckedQuery) -> str:
    return "t" if query.source is None else f"({query.source}) AS t"


def _grouped(inner: str, keys: _Keys, totals: Sequence[str], histograms: Sequence[Histogram]) -> str:
    """Return the statement that groups bounded rows: one row a group, and with histograms one more for each bin."""
    if not histograms:
        return f"SELECT {', '.join([*keys.shown, *totals])} FROM ({inner}) AS b{keys.by}"  # noqa: S608 (our own SQL)
    parts = []
    if totals:
        parts.append(f"SELECT {', '.join([*keys.shown, 'CAST(NULL AS VARCHAR)', *totals])} FROM b{keys.by}")  # noqa: S608 (our own SQL)
    zeros = ["CAST(0 AS BIGINT)"] * (len(totals) - 1)
    for index, histogram in enumerate(histograms):
        name = f"_h{index}"
        place = f"'{index}:' || {as_text(histogram.argument, name)}"
        parts.append(
            f"SELECT {', '.join([*keys.shown, place, 'count(*)', *zeros])} FROM b WHERE {name} IS NOT NULL "  # noqa: S608 (our own SQL)
            f"GROUP BY {', '.join([*keys.names, name])}"
        )
    return f"WITH b AS ({inner}) {' UNION ALL '.join(parts)}"


def _count_units(query: CheckedQuery, keys: _Keys, where: str) -> Bounded:
    """Return the statement that only counts units: rows need no cap, since each unit counts once in a group."""
    source = f"{_source(query)} WHERE {where}" if where else _source(query)
    if not keys.names:
        if not where:
            return Bounded(f"SELECT count(*) FROM {source} WHERE _rank = 1", "each unit counts once", drops_rows=False)  # noqa: S608 (our own SQL)
        return Bounded(f"SELECT count(DISTINCT _unit) FROM {source}", "each unit counts once", drops_rows=False)  # noqa: S608 (our own SQL)
    columns = ", ".join(keys.names)
    if query.settings.top:
        return _count_in_every_group(keys, source)
    groups = query.bound.groups
    led = (
        f"SELECT _unit, {columns}, min(_rank) AS _lead FROM (SELECT _unit, _rank, {', '.join(keys.selected)} "  # noqa: S608 (our own SQL)
        f"FROM {source}) GROUP BY _unit, {columns}"
    )
    kept = f"SELECT * FROM ({led}) QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _lead) <= {groups}"  # noqa: S608 (our own SQL)
    return Bounded(
        f"SELECT {', '.join(keys.shown)}, count(*) FROM ({kept}) AS b GROUP BY {columns}",  # noqa: S608 (our own SQL)
        f"the {groups} groups with a unit's lowest ranks",
        drops_rows=True,
        layout=Layout(groups=keys.numbered),
    )


def _count_in_every_group(keys: _Keys, source: str) -> Bounded:
    """Return the statement that counts a unit once in each of its groups, however many they are."""
    return Bounded(
        f"SELECT {', '.join([*keys.shown, 'count(DISTINCT _unit)'])} "  # noqa: S608 (our own SQL)
        f"FROM (SELECT _unit, {', '.join(keys.selected)} FROM {source}) AS b{keys.by}",
        "each unit counts once in every group",
        drops_rows=False,
        layout=Layout(groups=keys.numbered),
    )


def _lowest_ranks(inner: str, columns: str, rows: int) -> str:
    """Keep the `rows` lowest ranks of each unit among the rows that are left.

    The engine keeps so many rows of each unit as they come, so the pairs of a join take no more room than what counts.
    """
    return f"SELECT {columns} FROM ({inner}) QUALIFY row_number() OVER (PARTITION BY _unit ORDER BY _rank) <= {rows}"  # noqa: S608 (our own SQL)


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
    if max(abs(of.lower), abs(of.upper), of.upper - of.lower) * query.max_rows >= 2**62:
        raise broken_guard("a total could grow beyond 62 bits")
    # A plain column is clamped where it is read; anything else once more here, whatever its interval promises.
    clamped = render(argument) if argument.op is Op.COLUMN else clamp(render(argument), of)
    centred = clamped if statistic.centre == 0 else f"({clamped} - {integer(statistic.centre)})"
    return f"CAST({centred} AS BIGINT)"


def _total(statistic: Statistic, name: str, units: str) -> str:
    match statistic.kind:
        case StatisticKind.UNITS:
            return units
        case StatisticKind.ROWS:
            return "count(*)" if statistic.argument is None else f"count(*) FILTER (WHERE {name})"
        case StatisticKind.SUM:
            return f"coalesce(sum({name}), 0)"
        case _:
            raise AssertionError("a histogram's statistics are made of its counts")
