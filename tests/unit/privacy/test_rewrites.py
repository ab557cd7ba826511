"""What a refusal says to write instead is in the language itself, and it names things as the question does."""

from dataclasses import replace

import pytest

from sandbox.errors import QueryError
from sandbox.privacy.parse import with_weights
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
