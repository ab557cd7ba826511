"""Hypothesis strategies: questions in the language, rows of every extreme, tables of a few units."""

import datetime as dt

from hypothesis import strategies as st

from tests.support.privacy_world import visits

BIG = 2**63 - 1
INTEGERS = st.one_of(st.integers(-5, 130), st.integers(-200_000, 200_000), st.sampled_from([BIG, -BIG - 1, 0, 1]))
DATES = st.one_of(
    st.dates(dt.date(2019, 6, 1), dt.date(2023, 6, 1)), st.sampled_from([dt.date(1, 1, 1), dt.date(9999, 12, 31)])
)
TEXTS = st.sampled_from(["D1", "D2", "", "%", "a'b", "陶瓷", "D'); --", "null", "\n"])


def maybe(strategy):
    return st.one_of(st.none(), strategy)


def rows(*, described=False):
    """Rows of every extreme, or only such as the description allows."""
    integers = {"age": (0, 120), "cost": (0, 100_000), "delta": (-150, 60)}
    days = st.dates(dt.date(2020, 1, 1), dt.date(2021, 12, 31)) if described else DATES
    return st.fixed_dictionaries(
        {
            **{name: st.integers(*ends) if described else INTEGERS for name, ends in integers.items()},
            "cost": maybe(st.integers(*integers["cost"]) if described else INTEGERS),
            "free": INTEGERS,
            "district": maybe(st.sampled_from(["east", "west", "north"])),
            "diag": maybe(TEXTS),
            "day": days,
            "seen": maybe(DATES),
            "urgent": maybe(st.booleans()),
        }
    )


@st.composite
def tables(draw, max_units=5, max_rows=7, *, described=False):
    """Rows of a few units, ranked at random within each, in any order."""
    units = draw(
        st.lists(st.lists(rows(described=described), min_size=1, max_size=max_rows), min_size=1, max_size=max_units)
    )
    ranked = visits({index * 1_000_003 - 7: draw(st.permutations(list(unit))) for index, unit in enumerate(units)})
    return draw(st.permutations(ranked))


LITERALS = st.sampled_from(["0", "1", "2.5", "0.01", "-3", "1e3", "100", "1/3", "7"]).map(lambda t: f"({t})")
NUMBER_LEAVES = st.sampled_from(["age", "cost", "delta", "free", "visits.age", '"cost"'])
DATE_EXPRS = st.sampled_from(
    ["day", "seen", "date_trunc('month', day)", "date_trunc('week', seen)", "date_trunc('year', seen)"]
)
TEXT_EXPRS = st.sampled_from(["district", "diag", "COALESCE(district, 'none')", "CASE WHEN age > 60 THEN 'old' END"])


def _numbers(inner):
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"({p[0]} + {p[1]})"),
        pair.map(lambda p: f"({p[0]} - {p[1]})"),
        pair.map(lambda p: f"{p[0]} * {p[1]}"),
        st.tuples(inner, st.sampled_from(["3", "-0.5", "10", "7"])).map(lambda p: f"({p[0]} / {p[1]})"),
        inner.map(lambda n: f"FLOOR({n} / 10)"),
        inner.map(lambda n: f"CEIL({n} * 0.3)"),
        inner.map(lambda n: f"ABS({n})"),
        inner.map(lambda n: f"(- {n})"),
        pair.map(lambda p: f"LEAST({p[0]}, {p[1]}, 50)"),
        pair.map(lambda p: f"GREATEST({p[0]}, {p[1]})"),
        pair.map(lambda p: f"COALESCE({p[0]}, {p[1]}, 0)"),
        st.tuples(CONDITIONS, inner, inner).map(lambda p: f"CASE WHEN {p[0]} THEN {p[1]} ELSE {p[2]} END"),
        st.tuples(CONDITIONS, inner).map(lambda p: f"CASE WHEN {p[0]} THEN {p[1]} END"),
        st.tuples(st.sampled_from(["YEAR", "MONTH", "QUARTER", "DAY", "ISODOW"]), DATE_EXPRS).map(
            lambda p: f"{p[0]}({p[1]})"
        ),
    )


SIMPLE = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
CONDITIONS = st.deferred(
    lambda: st.one_of(
        st.tuples(NUMBER_LEAVES, SIMPLE, LITERALS).map(" ".join),
        st.tuples(NUMBER_LEAVES, SIMPLE, NUMBER_LEAVES).map(" ".join),
        st.tuples(DATE_EXPRS, SIMPLE, st.sampled_from(["'2020-07-01'", "DATE '2021-01-01'"])).map(" ".join),
        st.tuples(st.sampled_from(["diag", "district"]), st.sampled_from(["IS NULL", "IS NOT NULL"])).map(" ".join),
        st.sampled_from(
            [
                "urgent",
                "NOT urgent",
                "urgent IS TRUE",
                "district IN ('east', 'west')",
                "diag NOT IN ('D1', 'a''b')",
                "diag LIKE 'D%'",
                "diag NOT LIKE '陶%'",
                "cost BETWEEN 1.5 AND 90.25",
                "age NOT BETWEEN 20 AND 30",
                "day BETWEEN '2020-03-01' AND DATE '2021-03-01'",
                "cost + delta > age",
                "district = 'north'",
                "age IN (1, 2, 3, 40)",
                "(age > 20) = urgent",
            ]
        ),
        st.tuples(CONDITIONS, st.sampled_from(["AND", "OR"]), CONDITIONS).map(lambda p: f"({' '.join(p)})"),
        CONDITIONS.map(lambda c: f"NOT ({c})"),
    )
)
NUMBERS = st.recursive(st.one_of(NUMBER_LEAVES, LITERALS), _numbers, max_leaves=4)
KEYS = st.one_of(
    st.sampled_from(
        ["district", "diag", "urgent", "date_trunc('quarter', day)", "FLOOR(age / 30)", "YEAR(seen)", "day"]
    ),
    TEXT_EXPRS,
    CONDITIONS.map(lambda c: f"({c})"),
    NUMBERS.map(lambda n: f"FLOOR({n} / 100)"),
)
AGGREGATES = st.one_of(
    st.sampled_from(
        ["COUNT(*)", "COUNT(DISTINCT patient)", "COUNT(cost)", "AVG(cost)", "SUM(cost)", "SUM(age)", "AVG(age)"]
    ),
    NUMBERS.map(lambda n: f"SUM({n})"),
    NUMBERS.map(lambda n: f"AVG({n})"),
    NUMBERS.map(lambda n: f"SUM(LEAST(GREATEST({n}, -10), 25.5))"),
    NUMBERS.map(lambda n: f"AVG(LEAST(GREATEST({n}, 3), 25))"),
    st.sampled_from(
        [
            "VARIANCE(cost)",
            "STDDEV(age)",
            "VAR_POP(delta)",
            "STDDEV_POP(cost)",
            "COVAR_SAMP(cost, age)",
            "CORR(delta, cost)",
            "100 * SUM(cost) / COUNT(*)",
            "AVG(age) - AVG(cost) / 2",
            "STDDEV(age) / AVG(age)",
            "SUM(age) / SUM(cost) * COUNT(*)",
            "MEDIAN(age)",
            "QUANTILE_CONT(cost, 0.9)",
            "PERCENTILE_CONT(0.1) WITHIN GROUP (ORDER BY delta)",
            "MEDIAN(CASE WHEN urgent THEN cost END) * 2",
            "COUNT(DISTINCT district)",
            "COUNT(DISTINCT FLOOR(age / 10))",
            "COUNT(DISTINCT age) / COUNT(*)",
        ]
    ),
    NUMBERS.map(lambda n: f"VARIANCE(LEAST(GREATEST({n}, -10), 25.5))"),
    st.tuples(NUMBERS, NUMBERS).map(lambda p: f"CORR(LEAST(GREATEST({p[0]}, -9), 9), LEAST(GREATEST({p[1]}, 0), 7))"),
    CONDITIONS.map(lambda c: f"VAR_SAMP(cost) FILTER (WHERE {c})"),
    CONDITIONS.map(lambda c: f"COUNT(*) FILTER (WHERE {c})"),
    CONDITIONS.map(lambda c: f"COUNT(CASE WHEN {c} THEN 1 END)"),
)


STEPS = st.sampled_from(
    [
        "COUNT(*)",
        "COUNT(cost)",
        "SUM(cost)",
        "AVG(cost)",
        "MIN(delta)",
        "MAX(age)",
        "COUNT(DISTINCT diag)",
        "SUM(age) FILTER (WHERE urgent)",
        "AVG(LEAST(GREATEST(free, -3), 7))",
    ]
)
OUTER = st.sampled_from(
    ["COUNT(*)", "AVG(s0)", "SUM(LEAST(s0, 3))", "COUNT(DISTINCT patient)", "STDDEV(s0)", "COUNT(s0)", "MEDIAN(s0)"]
)


@st.composite
def two_steps(draw):
    """A question that first makes one row (or a few) for each unit."""
    key = draw(st.sampled_from(["", "district", "diag", "FLOOR(age / 30)", "date_trunc('month', day)"]))
    where = f" WHERE {draw(CONDITIONS)}" if draw(st.booleans()) else ""
    keyed = f", {key} AS k" if key else ""
    grouped = f", {key}" if key else ""
    inner = (
        f"SELECT patient, {draw(STEPS)} AS s0, {draw(STEPS)} AS s1{keyed} FROM visits{where} GROUP BY patient{grouped}"
    )
    values = ", ".join(f"{value} AS v{i}" for i, value in enumerate(draw(st.lists(OUTER, min_size=1, max_size=3))))
    by = draw(st.sampled_from(["", "k", "s1"] if key else ["", "s1"]))
    outer = f" WHERE {draw(st.sampled_from(['s1 > 1', 's0 IS NOT NULL', 's1 <= s0']))}" if draw(st.booleans()) else ""
    if not by:
        return f"WITH p AS ({inner}) SELECT {values} FROM p{outer}"
    return f"SELECT {by}, {values} FROM ({inner}) p{outer} GROUP BY {by}"


@st.composite
def joined(draw):
    """A question with a public table."""
    side = draw(st.sampled_from(["", "LEFT "]))
    value = draw(st.sampled_from(["COUNT(*)", "SUM(size)", "AVG(size * age)", "COUNT(size)"]))
    by = draw(st.sampled_from([" GROUP BY kind", ""]))
    key = "kind, " if by else ""
    rows = "('east', 'urban', 3), ('west', 'rural', 5), ('north', 'rural', -1)"
    return (
        f"WITH d(district, kind, size) AS (VALUES {rows}) SELECT {key}{value} AS v FROM visits "
        f"{side}JOIN d USING (district){by}"
    )


@st.composite
def rescaled(draw):
    """A question whose units are weighed down instead of sampled."""
    values = draw(
        st.lists(
            st.sampled_from(["COUNT(*)", "SUM(cost)", "AVG(delta)", "VARIANCE(age)", "COUNT(cost)", "SUM(age - 30)"]),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    key = draw(st.sampled_from(["", "district", "urgent", "FLOOR(age / 30)"]))
    shown = ", ".join(f"{value} AS v{i}" for i, value in enumerate(values))
    where = f" WHERE {draw(CONDITIONS)}" if draw(st.booleans()) else ""
    by = f" GROUP BY {key}" if key else ""
    return f"SELECT {key + ', ' if key else ''}{shown} FROM visits{where}{by} SETTINGS bounding = 'rescale'"


@st.composite
def margined(draw):
    """A question with totals: ROLLUP, CUBE or GROUPING SETS over keys with public domains."""
    keys = draw(
        st.lists(
            st.sampled_from(
                ["district", "urgent", "FLOOR(age / 30)", "date_trunc('year', day)", "COALESCE(urgent, FALSE)"]
            ),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    values = draw(
        st.lists(
            st.sampled_from(
                ["COUNT(*)", "SUM(age)", "AVG(delta)", "STDDEV(age)", "CORR(age, delta)", "COUNT(cost)", "MEDIAN(age)"]
            ),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    names = [f"k{index}" for index in range(len(keys))]
    sets = st.lists(st.lists(st.sampled_from(names), unique=True).map(", ".join), min_size=1, max_size=3)
    listed = sets.map(lambda found: f"GROUPING SETS ({', '.join(f'({each})' for each in found)})")
    by = draw(st.sampled_from([f"ROLLUP ({', '.join(names)})", f"CUBE ({', '.join(names)})"]) | listed)
    shown = [f"{key} AS {name}" for key, name in zip(keys, names, strict=True)]
    shown += [f"{value} AS v{index}" for index, value in enumerate(values)]
    where = draw(st.sampled_from(["district IS NOT NULL AND urgent IS NOT NULL", "age > 3"]))
    settings = draw(
        st.sampled_from(["", " SETTINGS consistent = TRUE", " SETTINGS consistent = FALSE", " SETTINGS round = TRUE"])
    )
    return f"SELECT {', '.join(shown)} FROM visits WHERE {where} GROUP BY {by}{settings}"


@st.composite
def self_joins(draw):
    """A question over the table joined with itself two to four times, with public tables between."""
    sides = draw(st.integers(2, 4))
    joins = ""
    for place in range(1, sides):
        one, other = "abcd"[place], "abcd"[draw(st.integers(0, place - 1))]
        kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "INNER JOIN", "LEFT OUTER JOIN"]))
        by = draw(st.sampled_from(["USING (patient)", f"ON {other}.patient = {one}.patient"]))
        joins += f" {kind} visits {one} {by}"
        if draw(st.integers(0, 3)) == 0:
            joins += f" {draw(st.sampled_from(['', 'LEFT ']))}JOIN z z{place} ON z{place}.district = {other}.district"
    some = st.sampled_from("abcd"[:sides])
    number = st.tuples(some, st.sampled_from(["age", "cost", "delta", "free"])).map(".".join)
    compared = st.tuples(number, SIMPLE, st.one_of(number, LITERALS)).map(" ".join)
    text = st.tuples(some, st.sampled_from(["district", "diag"])).map(".".join)
    conditions = st.one_of(compared, text.map(lambda t: f"{t} IS NULL"), some.map(lambda s: f"{s}.urgent"))
    keys = st.one_of(text, some.map(lambda s: f"FLOOR({s}.age / 30)"), some.map(lambda s: f"{s}.urgent"))
    values = st.one_of(
        st.sampled_from(["COUNT(*)", "COUNT(DISTINCT patient)", "COUNT(DISTINCT a.patient)"]),
        st.tuples(st.sampled_from(["SUM", "AVG", "VARIANCE", "MEDIAN", "COUNT"]), number).map(
            lambda p: f"{p[0]}(LEAST(GREATEST({p[1]}, -9), 30))"
        ),
        st.tuples(number, number).map(lambda p: f"SUM({p[0]} - {p[1]})"),
        conditions.map(lambda c: f"COUNT(*) FILTER (WHERE {c})"),
    )
    group = draw(st.lists(keys, max_size=2, unique=True))
    shown = [*group, *draw(st.lists(values, min_size=1, max_size=3, unique=True))]
    sql = "WITH z(district, zone) AS (VALUES ('east', 1), ('west', 2)) SELECT "
    sql += ", ".join(f"{item} AS c{place}" for place, item in enumerate(shown)) + f" FROM visits a{joins}"
    where = draw(st.lists(conditions, max_size=3))
    sql += f" WHERE {' AND '.join(where)}" if where else ""
    return sql + (f" GROUP BY {', '.join(str(place + 1) for place in range(len(group)))}" if group else "")


def pure():
    """A question whose answer has Laplace noise and a pure loss, or that cannot have it."""
    return st.one_of(questions(), two_steps(), joined(), rescaled()).map(
        lambda sql: sql + (", " if "SETTINGS" in sql else " SETTINGS ") + "noise = 'laplace'"
    )


def any_questions():
    """Questions of every form."""
    return st.one_of(questions(), questions(), two_steps(), joined(), rescaled(), margined(), pure())


@st.composite
def questions(draw):
    """SQL that is mostly in the language."""
    keys = draw(st.lists(KEYS, max_size=2, unique=True))
    aggregates = draw(st.lists(AGGREGATES, min_size=1, max_size=3, unique=True))
    named = [f"{item} AS c{index}" for index, item in enumerate([*keys, *aggregates])]
    sql = f"SELECT {', '.join(named)} FROM visits"
    if draw(st.booleans()):
        sql += f" WHERE {draw(CONDITIONS)}"
    if keys:
        sql += " GROUP BY " + ", ".join(str(index + 1) for index in range(len(keys)))
    return sql
