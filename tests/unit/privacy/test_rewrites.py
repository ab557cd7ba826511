"""What a refusal says to write instead is in the language itself, and it names things as the question does."""

from dataclasses import replace

import pytest

from sandbox.errors import BoundError, QueryError
from sandbox.privacy.parse import with_weights
from tests.support import join_world as joins
from tests.support import privacy_world as world

# What is refused, what its hint must say, and the same question written so.
REWRITES = [
    ("SELECT COUNT_IF(age > 1) FROM visits", "COUNT(*) FILTER (WHERE", "SELECT COUNT(*) FILTER (WHERE age > 1) FROM visits"),
    ("SELECT approx_count_distinct(patient) FROM visits", "COUNT(DISTINCT", "SELECT COUNT(DISTINCT patient) FROM visits"),
    ("SELECT AVG(NULLIF(age, 0)) FROM visits", "CASE WHEN x <> 0", "SELECT AVG(CASE WHEN age <> 0 THEN age END) FROM visits"),
    (
        "SELECT AVG(SIGN(delta)) FROM visits",
        "WHEN x < 0 THEN -1",
        "SELECT AVG(CASE WHEN delta > 0 THEN 1 WHEN delta < 0 THEN -1 ELSE 0 END) FROM visits",
    ),
    ("SELECT AVG(POWER(age, 2)) FROM visits", "x * x", "SELECT AVG(age * age) FROM visits"),
    (
        "SELECT WIDTH_BUCKET(age, 0, 120, 12) AS b, COUNT(*) FROM visits GROUP BY b",
        "FLOOR(x / 10)",
        "SELECT FLOOR(age / 10) AS b, COUNT(*) FROM visits GROUP BY b",
    ),
    ("SELECT histogram(age) FROM visits", "GROUP BY bin", "SELECT FLOOR(age / 10) AS bin, COUNT(*) FROM visits GROUP BY bin"),
    ("SELECT COUNT(*) FROM visits WHERE starts_with(diag, 'D')", "LIKE 'ab%'", "SELECT COUNT(*) FROM visits WHERE diag LIKE 'D%'"),
    ("SELECT COUNT(*) FROM visits WHERE UPPER(diag) = 'D1'", "IN ('a', 'b')", "SELECT COUNT(*) FROM visits WHERE diag IN ('D1', 'd1')"),
    ("SELECT mad(age) FROM visits", "[0.25, 0.75]", "SELECT QUANTILE_CONT(age, [0.25, 0.75]) FROM visits"),
    (
        "SELECT regr_slope(cost, age) FROM visits",
        "COVAR_POP(y, x)",
        "SELECT COVAR_POP(cost, age) AS c, VAR_POP(age) AS v FROM visits",
    ),
    ("SELECT regr_r2(cost, age) FROM visits", "CORR(y, x)", "SELECT CORR(cost, age) FROM visits"),
    (
        "SELECT mode(district) FROM visits",
        "LIMIT 1",
        "SELECT district, COUNT(*) AS n FROM visits GROUP BY district ORDER BY COUNT(*) DESC LIMIT 1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "says", "instead"), REWRITES, ids=[row[0][:40] for row in REWRITES])
def test_what_a_refusal_says_to_write_instead_is_accepted(sql, says, instead):
    with pytest.raises(QueryError) as caught:
        world.check(sql)
    assert caught.value.code == "input.query.unknown_function"
    assert says in caught.value.hint
    world.plan(instead)


DATES = [
    ("SELECT AVG(day - seen) FROM visits", "type", "ISODOW(day)", "SELECT ISODOW(day) AS d, COUNT(*) FROM visits GROUP BY d"),
    ("SELECT COUNT(*) FROM visits WHERE day > CURRENT_DATE", "unknown_function", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day > DATE '2020-01-31'"),
    ("SELECT COUNT(*) FROM visits WHERE day > DATE '2020-01-01' + INTERVAL 30 DAY", "feature", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day > DATE '2020-01-31'"),
    ("SELECT COUNT(*) FROM visits WHERE day > now()", "unknown_function", "the value itself", "SELECT COUNT(*) FROM visits WHERE day > '2020-01-31'"),
    ("SELECT dayname(day) AS d, COUNT(*) FROM visits GROUP BY d", "unknown_function", "ISODOW(day)", "SELECT ISODOW(day) AS d, COUNT(*) FROM visits GROUP BY d"),
    ("SELECT week(day) AS w, COUNT(*) FROM visits GROUP BY w", "unknown_function", "DATE_TRUNC('week', day)", "SELECT DATE_TRUNC('week', day) AS w, COUNT(*) FROM visits GROUP BY w"),
    ("SELECT strftime(day, '%m') AS m, COUNT(*) FROM visits GROUP BY m", "unknown_function", "MONTH(day)", "SELECT MONTH(day) AS m, COUNT(*) FROM visits GROUP BY m"),
    ("SELECT date_part('month', day) AS m, COUNT(*) FROM visits GROUP BY m", "unknown_function", "MONTH(day)", "SELECT MONTH(day) AS m, COUNT(*) FROM visits GROUP BY m"),
    ("SELECT datediff('day', seen, day) AS d, COUNT(*) FROM visits GROUP BY d", "unknown_function", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day >= DATE '2020-01-31'"),
    ("SELECT COUNT(*) FROM visits TABLESAMPLE 10%", "feature", "leave it out", "SELECT COUNT(*) FROM visits"),
    ("SELECT COUNT(*) FROM visits WHERE patient IN (SELECT patient FROM visits WHERE age > 60)", "subquery", "WITH p AS", "WITH p AS (SELECT patient, MAX(age) AS m FROM visits GROUP BY patient) SELECT COUNT(*) FROM p WHERE m > 60"),
    ("SELECT COUNT(*) FROM visits WHERE EXISTS (SELECT 1 FROM visits)", "subquery", "WITH p AS", "WITH p AS (SELECT patient, MAX(age) AS m FROM visits GROUP BY patient) SELECT COUNT(*) FROM p WHERE m > 60"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "code", "says", "instead"), DATES, ids=[row[0][:60] for row in DATES])
def test_days_and_rows_of_a_unit_have_ways_of_their_own(sql, code, says, instead):
    with pytest.raises(QueryError) as caught:
        world.check(sql)
    assert caught.value.code == f"input.query.{code}"
    assert says in caught.value.hint
    world.plan(instead)


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("approx_count_distinct", "SELECT approx_count_distinct(patient) FROM visits"),
        ("bool_or", "SELECT bool_or(age > 3) FROM visits"),
        ("Regexp_Matches", "SELECT COUNT(*) FROM visits WHERE Regexp_Matches(diag, 'D')"),
        ("random", "SELECT random(), COUNT(*) FROM visits"),
        ("KURTOSIS", "SELECT KURTOSIS(age) FROM visits"),
    ],
)
def test_a_function_is_named_as_the_question_writes_it(name, sql):
    with pytest.raises(QueryError, match=f"`{name}` is not in the language"):
        world.check(sql)


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT AVG(agee) FROM visits", "is it `age`? the columns are "),
        ("SELECT AVG(x) FROM visits", "the columns are "),
        ("SELECT COUNT(*) FROM visit", "is it `visits`? the tables are visits"),
        ("SELECT COUNT(*) FROM persons", "the tables are visits"),
    ],
)
def test_the_nearest_name_is_offered_for_a_mistaken_one(sql, hint):
    with pytest.raises(QueryError) as caught:
        world.check(sql)
    assert caught.value.hint.startswith(hint)


def test_a_window_is_refused_as_a_window():
    with pytest.raises(QueryError, match="a window function is not in the language") as caught:
        world.check("SELECT district, COUNT(*) OVER (PARTITION BY district) FROM visits GROUP BY district")
    assert caught.value.code == "input.query.window"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits",
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits ; ",
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits SETTINGS round = TRUE",
        "SELECT COUNT(*) AS n, SUM(age) AS s FROM visits WHERE diag <> 'SETTINGS a = 1' SETTINGS noise = 'laplace';",
    ],
)
def test_weights_join_the_settings_that_there_are(sql):
    found, plain = world.check(with_weights(sql, "3, 1")).settings, world.check(sql).settings
    assert found.weights == (3, 1)
    assert replace(found, weights=()) == plain


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'a",
        "SELECT COUNT(*) FROM visits SETTINGS what = 1",
        "SELECT COUNT(*) FROM visits SETTINGS weights = (1)",
    ],
)
def test_weights_hide_no_refusal(sql):
    with pytest.raises(QueryError):
        world.check(with_weights(sql, "3, 1"))


# What a stranger wrote: the code, what the hint must say, and the same question written so.
STRANGERS = [
    ("SELECT district, 100 * COUNT(*) / SUM(COUNT(*)) OVER () AS share FROM visits GROUP BY district", "window", "ROLLUP (x)", "SELECT district, COUNT(*) AS n FROM visits WHERE district IS NOT NULL GROUP BY ROLLUP (district)"),
    ("SELECT district, RANK() OVER (ORDER BY COUNT(*)) FROM visits GROUP BY district", "window", "ORDER BY n DESC LIMIT 5", "SELECT district, COUNT(*) AS n FROM visits GROUP BY district ORDER BY n DESC LIMIT 5"),
    ("SELECT AVG(cost) FROM (SELECT * FROM visits WHERE age > 60) t", "subquery", "FROM visits WHERE", "SELECT AVG(cost) FROM visits WHERE age > 60"),
    ("WITH old AS (SELECT district FROM visits WHERE age > 60) SELECT COUNT(*) FROM old", "subquery", "FROM visits WHERE", "SELECT COUNT(*) FROM visits WHERE age > 60"),
    ("SELECT DISTINCT ON (patient) patient, day FROM visits", "distinct", "WITH p AS", "WITH p AS (SELECT patient, MIN(day) AS day FROM visits GROUP BY patient) SELECT day, COUNT(*) FROM p GROUP BY day"),
    ("SELECT district, COUNT(*) AS n FROM visits GROUP BY district ORDER BY age", "order", "ORDER BY n DESC", "SELECT district, COUNT(*) AS n FROM visits GROUP BY district ORDER BY n DESC"),
    ("SELECT district, COUNT(*) AS n FROM visits GROUP BY district HAVING AVG(cost) > AVG(age)", "having", "HAVING d > 0", "SELECT district, AVG(cost) - AVG(age) AS d FROM visits GROUP BY district HAVING d > 0"),
    ("SELECT COUNT(*) FROM visits WHERE day > TIMESTAMP '2020-05-01 00:00:00'", "unknown_function", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day > DATE '2020-05-01'"),
    ("SELECT COUNT(*) FROM visits WHERE day > 20200501", "type", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day > DATE '2020-05-01'"),
    ("SELECT COUNT(*) FROM visits WHERE day + 30 > '2020-05-01'", "type", "DATE '2026-01-31'", "SELECT COUNT(*) FROM visits WHERE day > DATE '2020-04-01'"),
    ("SELECT day::VARCHAR AS d, COUNT(*) FROM visits GROUP BY d", "unknown_function", "GROUP BY day", "SELECT day, COUNT(*) FROM visits GROUP BY day"),
    ("SELECT AVG(urgent::INT) FROM visits", "unknown_function", "CASE WHEN c THEN 1 ELSE 0 END", "SELECT AVG(CASE WHEN urgent THEN 1 ELSE 0 END) FROM visits"),
    ("SELECT COUNT(*) FROM visits WHERE urgent = 1", "type", "`x` or `NOT x`", "SELECT COUNT(*) FROM visits WHERE urgent"),
    ("SELECT COUNT(*) FROM visits WHERE age = '40'", "type", "without quotes", "SELECT COUNT(*) FROM visits WHERE age = 40"),
    ("SELECT COUNT(*) FROM visits WHERE age IS DISTINCT FROM 5", "feature", "x <> 5 OR x IS NULL", "SELECT COUNT(*) FROM visits WHERE cost <> 5 OR cost IS NULL"),
    ("SELECT COUNT(*) FROM visits WHERE district = ANY(['east', 'west'])", "feature", "IN ('a', 'b')", "SELECT COUNT(*) FROM visits WHERE district IN ('east', 'west')"),
    ("SELECT COUNT(*) FROM visits WHERE (age, cost) IN ((1, 2))", "feature", "x = 1 AND y = 2", "SELECT COUNT(*) FROM visits WHERE age = 1 AND cost = 2"),
    ("SELECT COUNT(*) FROM visits WHERE cost IN (1, NULL)", "literal", "OR x IS NULL", "SELECT COUNT(*) FROM visits WHERE cost IN (1, 2) OR cost IS NULL"),
    ("SELECT COUNT(*) FROM visits WHERE diag SIMILAR TO 'D.*'", "like", "LIKE 'ab%'", "SELECT COUNT(*) FROM visits WHERE diag LIKE 'D%'"),
    ("SELECT COUNT(*) FROM visits WHERE diag ~ '^D'", "unknown_function", "LIKE 'ab%'", "SELECT COUNT(*) FROM visits WHERE diag LIKE 'D%'"),
    ("SELECT district || diag AS k, COUNT(*) FROM visits GROUP BY k", "unknown_function", "GROUP BY both", "SELECT district, diag, COUNT(*) FROM visits GROUP BY district, diag"),
    ("SELECT SUM(cost ^ 2) FROM visits", "unknown_function", "x * x", "SELECT SUM(cost * cost) FROM visits"),
    ("SELECT SQRT(SUM(cost)) FROM visits", "aggregate_place", "compute with the answers", "SELECT SUM(cost) FROM visits"),
    ("SELECT diag, COUNT(*) FROM visits GROUP BY ROLLUP (diag)", "rollup", "CASE WHEN diag = 'A'", "SELECT CASE WHEN diag = 'D1' THEN 'D1' ELSE 'other' END AS d, COUNT(*) FROM visits GROUP BY ROLLUP (d)"),
    ("SELECT age > 5 AS a, urgent, COUNT(*) FROM visits WHERE urgent IS NOT NULL GROUP BY a, ROLLUP (urgent)", "rollup", "GROUPING SETS ((a, b), (a))", "SELECT age > 5 AS a, urgent AS b, COUNT(*) FROM visits WHERE urgent IS NOT NULL GROUP BY GROUPING SETS ((a, b), (a))"),
    ("SELECT COUNT() FROM visits", "feature", "COUNT(*)", "SELECT COUNT(*) FROM visits"),
    ("SELECT COUNT(*) FROM main.visits", "unknown_table", "FROM visits", "SELECT COUNT(*) FROM visits"),
    ("(SELECT COUNT(*) FROM visits)", "not_select", "without brackets", "SELECT COUNT(*) FROM visits"),
    ("SELECT current_user, COUNT(*) FROM visits", "unknown_function", "leave it out", "SELECT COUNT(*) FROM visits"),
    ("SELECT COUNT（*） FROM visits", "unknown_column", "`（` is full-width: write `(`", "SELECT COUNT(*) FROM visits"),
    ("SELECT COUNT(*)，SUM(age) FROM visits", "syntax", "write `,`", "SELECT COUNT(*),SUM(age) FROM visits"),
    ("SELECT COUNT(*) FROM visits WHERE age > ５０", "unknown_column", "write `5`", "SELECT COUNT(*) FROM visits WHERE age > 50"),
    ("WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient HAVING COUNT(*) > 3) SELECT COUNT(*) FROM p", "feature", "WHERE n > 3", "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) SELECT COUNT(*) FROM p WHERE n > 3"),
    ("WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY ALL) SELECT COUNT(*) FROM p", "group_key", "GROUP BY patient", "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) SELECT COUNT(*) FROM p"),
    ("WITH p AS (SELECT patient, SUM(cost) - COUNT(*) AS a FROM visits GROUP BY patient) SELECT AVG(a) FROM p", "aggregate_place", "SUM(s - 2 * n)", "WITH p AS (SELECT patient, SUM(cost) AS s, COUNT(*) AS n FROM visits GROUP BY patient) SELECT AVG(s - n) FROM p"),
    ("WITH p AS (SELECT patient, BOOL_OR(urgent) AS f FROM visits GROUP BY patient) SELECT f, COUNT(*) FROM p GROUP BY f", "unknown_function", "MAX(CASE WHEN c", "WITH p AS (SELECT patient, MAX(CASE WHEN urgent THEN 1 ELSE 0 END) AS f FROM visits GROUP BY patient) SELECT f, COUNT(*) FROM p GROUP BY f"),
    ("WITH p AS (SELECT patient, MAX(urgent) AS f FROM visits GROUP BY patient) SELECT f, COUNT(*) FROM p GROUP BY f", "type", "MAX(CASE WHEN c", "WITH p AS (SELECT patient, MAX(CASE WHEN urgent THEN 1 ELSE 0 END) AS f FROM visits GROUP BY patient) SELECT f, COUNT(*) FROM p GROUP BY f"),
    ("WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient), q AS (SELECT n, COUNT(*) AS m FROM p GROUP BY n) SELECT COUNT(*) FROM q", "subquery", "GROUP BY the unit", "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) SELECT n, COUNT(*) FROM p GROUP BY n"),
    ("WITH d(diag, name) AS (VALUES ('D1', 'flu')) SELECT COUNT(*) FROM d", "join", "JOIN d USING", "WITH d(diag, name) AS (VALUES ('D1', 'flu')) SELECT COUNT(*) FROM visits JOIN d USING (diag)"),
    ("WITH d(lo, hi) AS (VALUES (0, 10)) SELECT COUNT(*) FROM visits JOIN d ON age >= lo AND age < hi", "join", "CASE WHEN age < 10", "SELECT CASE WHEN age < 10 THEN 'child' ELSE 'adult' END AS a, COUNT(*) FROM visits GROUP BY a"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c ON v.patient = c.insured AND c.paid > 5", "join", "stand in WHERE", "SELECT COUNT(*) FROM visits v JOIN claims c ON v.patient = c.insured WHERE c.paid > 5"),
    ("SELECT COUNT(*) FROM visits v SEMI JOIN claims c ON v.patient = c.insured", "join", "COUNT(DISTINCT patient)", "SELECT COUNT(DISTINCT patient) FROM visits v JOIN claims c ON v.patient = c.insured"),
    ("SELECT COUNT(*) FROM visits v ANTI JOIN claims c ON v.patient = c.insured", "join", "LEFT JOIN claims c ON v.patient = c.insured WHERE c.x IS NULL", "SELECT COUNT(*) FROM visits v LEFT JOIN claims c ON v.patient = c.insured WHERE c.kind IS NULL"),
    ("SELECT COUNT(*) FROM visits v LEFT JOIN claims c ON v.patient = c.insured WHERE c.insured IS NULL", "unit_column", "write c.paid IS NULL", "SELECT COUNT(*) FROM visits v LEFT JOIN claims c ON v.patient = c.insured WHERE c.paid IS NULL"),
    ("SELECT COUNT(*) FROM visits v WHERE NOT EXISTS (SELECT 1 FROM claims c WHERE c.insured = v.patient)", "subquery", "LEFT JOIN b", "SELECT COUNT(*) FROM visits v LEFT JOIN claims c ON v.patient = c.insured WHERE c.kind IS NULL"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "code", "says", "instead"), STRANGERS, ids=[row[0][:70] for row in STRANGERS])
def test_what_a_stranger_wrote_is_refused_with_a_way_that_is_accepted(sql, code, says, instead):
    with pytest.raises(QueryError) as caught:
        joins.check(sql)
    assert caught.value.code == f"input.query.{code}"
    assert says in caught.value.hint
    joins.plan(instead)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT NULL, COUNT(*) FROM visits", "NULL"),
        ("SELECT current_user, COUNT(*) FROM visits", "current_user"),
        ("SELECT SUM(cost ** 2) FROM visits", "cost"),
        ("SELECT COUNT(*) FROM visits WHERE diag ~ '^D'", "diag"),
        ("SELECT COUNT(*) FROM visits WHERE cost IN (1, NULL)", "NULL"),
    ],
)
def test_a_refusal_names_its_own_place_and_not_that_of_what_stands_beside_it(sql, found):
    with pytest.raises(QueryError) as caught:
        world.check(sql)
    assert caught.value.details["found"] == found


def test_what_cannot_be_rescaled_is_refused_with_its_place():
    with pytest.raises(BoundError) as caught:
        world.check(
            "SELECT district, COUNT(DISTINCT patient) FROM visits GROUP BY district SETTINGS bounding = 'rescale'"
        )
    assert caught.value.code == "privacy.bound.rescale"
    assert (caught.value.details["line"], caught.value.details["found"]) == (1, "district")


def test_an_empty_statement_behind_the_question_is_no_second_one():
    assert world.check("SELECT COUNT(*) FROM visits;;") == world.check("SELECT COUNT(*) FROM visits")
