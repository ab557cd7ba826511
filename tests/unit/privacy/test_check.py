"""The language: what is accepted, and that every refusal names the place, the reason and what to write instead."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from sandbox.errors import BoundError, QueryError
from sandbox.privacy.algebra import NumberType, Op
from sandbox.privacy.query import AggregateKind, KeyMode
from tests.support import privacy_world as world

SIX_TRUTHS = ", ".join(f"age > {i} AS a{i}" for i in range(6))
MANY_TRUTHS = ", ".join(f"age > {i} AS a{i}" for i in range(11))
REFUSALS = [
    ("SELECT * FROM visits", "raw_rows", 1, 8, "*"),
    ("SELECT age FROM visits", "raw_rows", 1, 8, "age"),
    ("SELECT age, COUNT(*)\nFROM visits\nGROUP BY district", "raw_rows", 1, 8, "age"),
    ("SELECT district FROM visits GROUP BY 1", "raw_rows", 1, 8, "district"),
    ("SELECT DISTINCT district FROM visits", "distinct", 1, 17, "district"),
    ("SELECT MIN(age) FROM visits", "minmax", 1, 8, "MIN"),
    ("SELECT COUNT(*), MAX(age) FROM visits", "minmax", 1, 18, "MAX"),
    ("SELECT ANY_VALUE(age) FROM visits", "minmax", 1, 8, "ANY_VALUE"),
    ("SELECT QUANTILE_DISC(age, 0.5) FROM visits", "unknown_function", 1, 8, "QUANTILE_DISC"),
    ("SELECT QUANTILE_CONT(age, 1.5) FROM visits", "literal", 1, 27, "1.5"),
    ("SELECT QUANTILE_CONT(age, cost) FROM visits", "literal", 1, 27, "cost"),
    ("SELECT QUANTILE_CONT(age, []) FROM visits", "literal", 1, None, None),
    ("SELECT MEDIAN(district) FROM visits", "type", 1, 8, "MEDIAN"),
    ("SELECT MEDIAN(age) - MEDIAN(cost) FROM visits", "aggregate_place", 1, 8, "MEDIAN"),
    ("SELECT 1 / MEDIAN(age) FROM visits", "aggregate_place", 1, None, None),
    ("SELECT COUNT(DISTINCT cost) FROM visits", "distinct", 1, 8, "COUNT"),
    ("SELECT COUNT(*) FROM nowhere", "unknown_table", 1, 22, "nowhere"),
    ("SELECT COUNT(*) FROM 'a.csv'", "unknown_table", 1, 22, "'a.csv'"),
    ("SELECT COUNT(*) FROM read_csv('/etc/passwd')", "unknown_table", 1, 22, "read_csv"),
    ("SELECT COUNT(*)", "unknown_table", 1, 8, "COUNT"),
    ("SELECT COUNT(*)\n  FROM visits\n WHERE agee > 3", "unknown_column", 3, 8, "agee"),
    ("SELECT COUNT(*) FROM visits WHERE v.age > 3", "unknown_table", 1, 35, "v"),
    ("SELECT COUNT(*) FROM visits WHERE _rank = 1", "unknown_column", 1, 35, "_rank"),
    ("SELECT COUNT(*) FROM visits WHERE patient = 'x'", "unit_column", 1, 35, "patient"),
    ("SELECT patient, COUNT(*) FROM visits GROUP BY 1", "unit_column", 1, 8, "patient"),
    ("SELECT COUNT(DISTINCT diag) FROM visits", "distinct", 1, 8, "COUNT"),
    ("SELECT SUM(DISTINCT age) FROM visits", "distinct", 1, 8, "SUM"),
    ("SELECT ABS(SUM(age)) FROM visits", "aggregate_place", 1, 12, "SUM"),
    ("SELECT SUM(age) + age FROM visits", "aggregate_place", 1, 19, "age"),
    ("SELECT district, SUM(age) / district FROM visits GROUP BY 1", "aggregate_place", 1, 29, "district"),
    ("SELECT SUM(age) / 0 FROM visits", "division", 1, 8, "SUM"),
    ("SELECT SUM(age) / (3 - 3) FROM visits", "division", 1, 8, "SUM"),
    ("SELECT n + COUNT(*) AS n FROM visits", "too_deep", 1, None, None),
    ("SELECT CORR(age, district) FROM visits", "type", 1, 8, "CORR"),
    ("SELECT VARIANCE(urgent) FROM visits", "type", 1, 8, "VARIANCE"),
    ("SELECT SKEWNESS(age) FROM visits", "unknown_function", 1, 8, "SKEWNESS"),
    ("SELECT COUNT(*) FROM visits WHERE SUM(age) > 3", "aggregate_place", 1, 35, "SUM"),
    ("SELECT AVG(SUM(age)) FROM visits", "aggregate_place", 1, 12, "SUM"),
    ("SELECT COUNT(*) FROM visits JOIN visits v ON TRUE", "join", 1, 34, "visits"),
    ("SELECT COUNT(*) FROM visits, visits w", "join", 1, 30, "visits"),
    ("SELECT COUNT(*) FROM (SELECT * FROM visits)", "subquery", 1, 30, "*"),
    ("SELECT COUNT(*) FROM (SELECT COUNT(*) AS n FROM visits GROUP BY district)", "subquery", 1, None, None),
    (
        "WITH p AS (SELECT patient, MEDIAN(age) AS m FROM visits GROUP BY 1) SELECT AVG(m) FROM p",
        "subquery",
        1,
        None,
        None,
    ),
    (
        "WITH p AS (SELECT MEDIAN(age) AS m FROM visits GROUP BY patient) SELECT AVG(m) FROM p",
        "unknown_function",
        1,
        19,
        "MEDIAN",
    ),
    ("WITH p AS (SELECT COUNT(*) FROM visits GROUP BY patient) SELECT COUNT(*) FROM p", "name", 1, None, None),
    ("WITH p AS (SELECT patient FROM visits GROUP BY patient) SELECT COUNT(*) FROM p", "raw_rows", 1, None, None),
    ("WITH p AS (SELECT age FROM visits GROUP BY patient) SELECT COUNT(*) FROM p", "raw_rows", 1, 19, "age"),
    (
        "WITH p AS (SELECT COUNT(*) AS n FROM visits GROUP BY patient, age) SELECT COUNT(*) FROM p",
        "group_key",
        1,
        None,
        None,
    ),
    (
        "WITH p AS (SELECT COUNT(*) AS n FROM visits GROUP BY patient HAVING n > 1) SELECT COUNT(*) FROM p",
        "feature",
        1,
        None,
        None,
    ),
    (
        "WITH p AS (SELECT COUNT(*) AS n FROM visits GROUP BY patient) SELECT AVG(age) FROM p",
        "unknown_column",
        1,
        74,
        "age",
    ),
    ("WITH p AS (SELECT 1), p AS (SELECT 2) SELECT COUNT(*) FROM visits", "name", 1, None, None),
    ("WITH d(a, b) AS (VALUES (1, 2), (1, 3)) SELECT SUM(b) FROM visits JOIN d ON age = d.a", "join", 1, None, None),
    ("WITH d(a, b) AS (VALUES (1, 2)) SELECT SUM(b) FROM visits JOIN d ON age > d.a", "join", 1, None, None),
    ("WITH d(a, b) AS (VALUES (1, 2)) SELECT SUM(b) FROM visits RIGHT JOIN d ON age = d.a", "join", 1, None, None),
    ("WITH d(a, b) AS (VALUES (1, 2)) SELECT SUM(b) FROM visits CROSS JOIN d", "join", 1, None, None),
    ("WITH d(a, b) AS (VALUES (1, age)) SELECT SUM(b) FROM visits JOIN d ON age = d.a", "join", 1, None, None),
    ("WITH d(a) AS (VALUES (1)) SELECT COUNT(*) FROM visits JOIN d ON age = d.a", "join", 1, None, None),
    (
        "WITH d(district, b) AS (VALUES ('East', 2)) SELECT SUM(b) FROM visits JOIN d USING (district)",
        "unknown_value",
        1,
        None,
        None,
    ),
    ("SELECT COUNT(*) FROM visits WHERE age > (SELECT 1)", "subquery", 1, 49, "1"),
    ("SELECT COUNT(*) FROM visits WHERE age IN (SELECT 1)", "subquery", 1, 35, "age"),
    ("WITH RECURSIVE x AS (SELECT 1) SELECT COUNT(*) FROM visits", "feature", 1, None, None),
    ("SELECT COUNT(*) OVER () FROM visits", "window", 1, 8, "COUNT"),
    ("SELECT COUNT(*) FROM visits QUALIFY TRUE", "window", 1, 8, "COUNT"),
    ("SELECT COUNT(*) FROM visits TABLESAMPLE 3 ROWS", "feature", 1, None, None),
    ("SELECT COUNT(*) FROM visits USING SAMPLE 3", "feature", 1, None, None),
    ("SELECT COUNT(*) FROM visits WHERE random() < 0.5", "unknown_function", 1, 35, None),
    ("SELECT COUNT(*) FROM visits WHERE error('x')", "unknown_function", 1, 35, "error"),
    ("SELECT SUM(age::DOUBLE) FROM visits", "unknown_function", 1, 12, "age"),
    ("SELECT SUM(ROUND(age)) FROM visits", "unknown_function", 1, 12, "ROUND"),
    ("SELECT SUM(age / cost) FROM visits", "division", 1, 12, "age"),
    ("SELECT SUM(age / 0) FROM visits", "division", 1, 12, "age"),
    ("SELECT SUM(age // 2) FROM visits", "division", 1, 12, "age"),
    ("SELECT SUM(age % 2) FROM visits", "division", 1, 12, "age"),
    ("SELECT SUM(district) FROM visits", "type", 1, 8, "SUM"),
    ("SELECT AVG(urgent) FROM visits", "type", 1, 8, "AVG"),
    ("SELECT COUNT(*) FROM visits WHERE age", "type", 1, 35, "age"),
    ("SELECT COUNT(*) FROM visits WHERE age = 'x'", "type", 1, 35, "age"),
    ("SELECT COUNT(*) FROM visits WHERE diag < 'x'", "type", 1, 35, "diag"),
    ("SELECT COUNT(*) FROM visits WHERE age = NULL", "type", 1, None, None),
    ("SELECT COUNT(*) FROM visits WHERE district = 'East'", "unknown_value", 1, 46, "'East'"),
    ("SELECT COUNT(*) FROM visits WHERE day > 'May'", "literal", 1, 41, "'May'"),
    ("SELECT COUNT(*) FROM visits WHERE day > '2020-02-30'", "literal", 1, 41, "'2020-02-30'"),
    ("SELECT COUNT(*) FROM visits WHERE diag LIKE '%D'", "like", 1, 45, "'%D'"),
    ("SELECT COUNT(*) FROM visits WHERE diag ILIKE 'D%'", "like", 1, 35, "diag"),
    ("SELECT COUNT(*) FROM visits WHERE age IN (free)", "literal", 1, 43, "free"),
    ("SELECT COUNT(*) FROM visits WHERE age = $1", "literal", 1, None, None),
    ("SELECT COUNT(*) FROM visits GROUP BY 7", "group_key", 1, 38, "7"),
    ("SELECT COUNT(*) FROM visits GROUP BY 'x'", "group_key", 1, 38, "'x'"),
    ("SELECT COUNT(*) FROM visits GROUP BY ROLLUP (district)", "rollup", 1, None, None),
    ("SELECT COUNT(*) FROM visits GROUP BY CUBE (district)", "rollup", 1, None, None),
    ("SELECT COUNT(*) FROM visits GROUP BY GROUPING SETS ((district), ())", "rollup", 1, None, None),
    ("SELECT urgent IS NULL AS a, COUNT(*) FROM visits GROUP BY GROUPING SETS ((a), (age))", "rollup", 1, None, None),
    ("SELECT urgent IS NULL AS a, COUNT(*) FROM visits GROUP BY GROUPING SETS (ROLLUP (a))", "rollup", 1, None, None),
    (
        "SELECT urgent IS NULL AS a, COUNT(*) FROM visits GROUP BY GROUPING SETS ((a, (age, a)))",
        "rollup",
        1,
        None,
        None,
    ),
    ("SELECT COUNT(*) FROM visits GROUP BY GROUPING SETS (())", "rollup", 1, None, None),
    ("SELECT age > 3 AS a, COUNT(*) FROM visits GROUP BY CUBE (a), age > 5", "rollup", 1, None, None),
    (f"SELECT {SIX_TRUTHS}, COUNT(*) FROM visits GROUP BY CUBE (a0, a1, a2, a3, a4, a5)", "rollup", 1, None, None),
    (
        f"SELECT {MANY_TRUTHS}, COUNT(*) FROM visits GROUP BY CUBE ({', '.join(f'a{i}' for i in range(11))})",
        "group_key",
        1,
        None,
        None,
    ),
    ("SELECT age + 1 AS a, COUNT(*) FROM visits GROUP BY CUBE (age, a)", "rollup", 1, None, None),
    ("SELECT age > 5 AS a, COUNT(*) FROM visits GROUP BY age > 3, ROLLUP (a)", "rollup", 1, None, None),
    ("SELECT COUNT(*) FROM visits GROUP BY age > 3 WITH ROLLUP", "rollup", 1, None, None),
    ("SELECT COUNT(*) FROM visits WHERE diag IS NOT NULL GROUP BY ROLLUP (diag)", "rollup", 1, None, None),
    ("SELECT age > 3 AS a, COUNT(DISTINCT patient) FROM visits GROUP BY ROLLUP (a)", "rollup", 1, None, None),
    ("SELECT age > 3 AS a, MEDIAN(age) FROM visits GROUP BY ROLLUP (a)", "rollup", 1, None, None),
    (
        "SELECT age > 3 AS a, COUNT(*) FROM visits GROUP BY ROLLUP (a) SETTINGS bounding = 'rescale'",
        "rollup",
        1,
        None,
        None,
    ),
    ("SELECT COUNT(*) FROM visits GROUP BY age > 3 SETTINGS consistent = TRUE", "setting", 1, None, None),
    (
        "SELECT age > 3 AS a, COUNT(*) FROM visits GROUP BY ROLLUP (a) SETTINGS consistent = TRUE, round = TRUE",
        "setting",
        1,
        None,
        None,
    ),
    (
        "SELECT age > 3 AS a, COUNT(*) FROM visits GROUP BY ROLLUP (a) SETTINGS consistent = TRUE, nonnegative = TRUE",
        "setting",
        1,
        None,
        None,
    ),
    ("SELECT COUNT(*) n FROM visits HAVING n > age", "having", 1, 42, "age"),
    ("SELECT COUNT(*) n FROM visits HAVING n > 'x'", "type", 1, 42, "'x'"),
    ("SELECT COUNT(*) n FROM visits ORDER BY 2", "order", 1, 40, "2"),
    ("SELECT COUNT(*) n FROM visits ORDER BY age", "order", 1, 40, "age"),
    ("SELECT COUNT(*) n FROM visits LIMIT -1", "limit", 1, None, None),
    ("SELECT COUNT(*) n FROM visits LIMIT 5 + 5", "limit", 1, None, None),
    ("SELECT COUNT(*) n, SUM(age) N FROM visits", "name", 1, None, None),
    ("SELECT COUNT(*); SELECT COUNT(*)", "several_statements", 1, 1, None),
    ("SELECT COUNT(*) FROM visits UNION ALL SELECT COUNT(*) FROM visits", "not_select", 1, 1, None),
    ("DROP TABLE visits", "not_select", 1, 1, None),
    ("COPY visits TO 'x'", "not_select", 1, 1, None),
    ("PRAGMA database_list", "not_select", 1, 1, None),
    ("FROM visits", "not_select", 1, 1, None),
    ("", "syntax", 1, 1, None),
    ("SELECT (", "syntax", 1, None, None),
    ("SELECT 'x", "syntax", 1, 1, None),
    ("SELECT COUNT(*) INTO x FROM visits", "feature", 1, None, None),
]


@pytest.mark.parametrize(("sql", "code", "line", "at", "found"), REFUSALS, ids=[row[0][:40] for row in REFUSALS])
def test_a_refusal_names_the_place_the_reason_and_what_to_write_instead(sql, code, line, at, found):
    with pytest.raises(QueryError) as raised:
        world.check(sql)
    error = raised.value
    assert error.code == f"input.query.{code}", error.message
    assert error.details["line"] == line
    assert at is None or error.details["column"] == at
    assert found is None or error.details["found"] == found
    assert error.hint
    assert error.message[0] == "`" or error.message[0].islower() or error.message.split()[0].rstrip(",").isupper()
    assert not error.message.endswith(".")


def test_a_question_beyond_64_kb_is_refused():
    with pytest.raises(QueryError, match="longer than 64 kB") as raised:
        world.check("SELECT COUNT(*) FROM visits WHERE diag = '" + "陶" * 30_000 + "'")
    assert raised.value.code == "input.query.too_long"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 2500 + "1" + ")" * 2500,
        "SELECT COUNT(*) FROM visits WHERE " + "NOT " * 2500 + "urgent",
        "SELECT SUM(" + "- " * 2500 + "age) FROM visits",
        "SELECT SUM(age" + " + age" * 2500 + ") FROM visits",
        "SELECT SUM(" + "CASE WHEN urgent THEN " * 100 + "1" + " END" * 100 + ") FROM visits",
        "SELECT COUNT(*) n FROM visits HAVING " + "n > 1 AND " * 1000 + "n > 1",
        "SELECT COUNT(*)" + " + COUNT(*)" * 1000 + " FROM visits",
        "SELECT COUNT(*) a0, " + ", ".join(f"a{i} + a{i} AS a{i + 1}" for i in range(30)) + " FROM visits",
    ],
    ids=["brackets", "not", "minus", "plus", "case", "having", "sums", "names"],
)
def test_depth_is_refused_and_never_overflows_the_stack(sql):
    with pytest.raises(QueryError) as raised:
        world.check(sql)
    assert raised.value.code == "input.query.too_deep"


def test_sql_that_would_grow_without_end_is_refused():
    nested = "COALESCE(cost, 1)"
    for _ in range(14):
        nested = f"COALESCE(LEAST({nested}, CASE WHEN urgent THEN cost END), cost)"
    with pytest.raises(QueryError, match=r"too large|nested deeper") as raised:
        world.check(f"SELECT SUM({nested}) FROM visits")
    assert raised.value.code == "input.query.too_deep"


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("SELECT SUM(free) FROM visits", "privacy.bound.overflow", "beyond 62 bits"),
        ("SELECT SUM(free * free * free) FROM visits", "privacy.bound.overflow", "beyond 126 bits"),
        ("SELECT SUM(age * 1e-100) FROM visits", "privacy.bound.resolution", "resolution"),
        ("SELECT SUM(age + 1e-59 * age) FROM visits", "privacy.bound.resolution", "62 bits"),
    ],
)
def test_a_total_without_a_finite_sensitivity_is_refused(sql, code, says):
    with pytest.raises(BoundError, match=says) as raised:
        world.check(sql)
    assert raised.value.code == code
    assert raised.value.details["line"] == 1


def test_narrowing_makes_an_unbounded_column_summable():
    query = world.check("SELECT SUM(LEAST(GREATEST(free, 0), 100)) FROM visits")
    assert query.aggregates[0].argument.type == NumberType(0, 100, Fraction(1))


def test_a_bound_above_the_datasets_is_refused_and_a_lower_one_holds():
    assert world.check("SELECT COUNT(*) FROM visits", rows=3).bound.rows == 3
    with pytest.raises(BoundError, match="above the dataset's 4 rows"):
        world.check("SELECT COUNT(*) FROM visits", rows=5)


def test_columns_read_are_sorted_and_complete():
    query = world.check(
        "SELECT district, AVG(cost) FROM visits WHERE urgent AND day > '2020-05-01' GROUP BY 1 HAVING SUM(age) > 3"
    )
    assert query.columns == ("age", "cost", "day", "district", "urgent")
    assert query.dataset == "clinic"


@pytest.mark.parametrize(
    ("key", "mode", "size"),
    [
        ("district", KeyMode.PUBLIC, 4),
        ("urgent", KeyMode.PUBLIC, 3),
        ("age", KeyMode.PUBLIC, 121),
        ("FLOOR(age / 10)", KeyMode.PUBLIC, 13),
        ("FLOOR(delta)", KeyMode.PUBLIC, 71),
        ("age >= 18", KeyMode.PUBLIC, 2),
        ("YEAR(day)", KeyMode.PUBLIC, 2),
        ("date_trunc('month', day)", KeyMode.PUBLIC, 24),
        ("day", KeyMode.PUBLIC, 731),
        ("CASE WHEN age < 18 THEN 'child' WHEN age < 65 THEN 'adult' ELSE 'old' END", KeyMode.PUBLIC, 3),
        ("COALESCE(district, 'unknown')", KeyMode.PUBLIC, 4),
        ("diag", KeyMode.PRIVATE, None),
        ("cost", KeyMode.PRIVATE, None),
        ("free", KeyMode.PRIVATE, None),
        ("seen", KeyMode.PRIVATE, None),
    ],
)
def test_public_domains_follow_from_the_types(key, mode, size):
    query = world.check(f"SELECT {key} AS k, COUNT(*) FROM visits GROUP BY 1")
    assert query.key_mode is mode
    domain = query.keys[0].domain
    assert (None if domain is None else len(domain)) == size


def test_one_private_key_makes_all_keys_private():
    query = world.check("SELECT district, diag, COUNT(*) FROM visits GROUP BY ALL")
    assert query.key_mode is KeyMode.PRIVATE
    assert [key.domain for key in query.keys] == [None, None]


def test_a_where_that_drops_nulls_makes_a_key_not_null():
    query = world.check("SELECT district, COUNT(*) FROM visits WHERE district IS NOT NULL GROUP BY 1")
    assert query.keys[0].domain == world.DISTRICTS
    either = world.check("SELECT district, COUNT(*) FROM visits WHERE district = 'east' OR urgent GROUP BY 1")
    assert either.keys[0].domain == (*world.DISTRICTS, None)


def test_group_by_takes_numbers_names_and_all():
    sql = "SELECT FLOOR(age / 10) AS decade, COUNT(*) AS n FROM visits GROUP BY "
    plain = world.check(sql + "FLOOR(age / 10)")
    assert {world.check(sql + form) for form in ("1", "decade", "ALL", "(FLOOR(visits.age/10.0))")} == {plain}


def test_an_aggregate_only_in_having_is_computed_but_not_shown():
    query = world.check("SELECT AVG(age) FROM visits HAVING COUNT(*) > 10")
    assert [a.kind for a in query.aggregates] == [AggregateKind.MEAN, AggregateKind.COUNT]
    assert [output.label.name for output in query.outputs] == ["avg_age"]


def test_a_filter_on_an_aggregate_is_a_case():
    query = world.check("SELECT SUM(age) FILTER (WHERE urgent) FROM visits")
    assert query.aggregates[0].argument.op is Op.CASE
    assert query.aggregates[0].argument.nullable


def test_literals_are_exact():
    argument = world.check("SELECT SUM(age * 0.1) FROM visits").aggregates[0].argument
    assert argument.type == NumberType(0, 120, Fraction(1, 10))


def test_every_refusal_code_is_on_the_page_of_the_language():
    root = Path(__file__).parents[3]
    page = (root / "docs/reference/sql.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (root / "sandbox/privacy").glob("*.py")]
    places = r'refusal\(\s*[\w.\[\]"]+,\s*"([a-z_]+)"'
    hints = r'(?:exp\.\w+|"\w+"): \(\s*"([a-z_]+)",'
    codes = {f"input.query.{code}" for text in sources for code in re.findall(places, text) + re.findall(hints, text)}
    codes |= {code for text in sources for code in re.findall(r'"((?:privacy\.bound|input\.query)\.[a-z_]+)"', text)}
    assert len(codes) > 25
    assert sorted(code for code in codes if f"`{code}`" not in page) == []
