"""Hostile questions: whatever the text, an answer's plan or a refusal, never a crash and never the text itself."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.joint import Joint
from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError, SaggarError
from sandbox.privacy.algebra import Expr, Op
from sandbox.privacy.plan import plan_query
from tests.support import privacy_world as world
from tests.support.privacy_strategies import any_questions, self_joins, tables

ENGINE = open_engine(1)
QUIET = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = st.sampled_from(
    [
        "SELECT",
        "WITH",
        "p",
        "d(district, k) AS (VALUES ('east', 1))",
        "VALUES",
        "LEFT",
        "USING (district)",
        "SETTINGS round = TRUE",
        "SETTINGS quantile = 'noisy_max'",
        "SETTINGS noise = 'laplace'",
        ", pure_loss = 0.1",
        "SETTINGS",
        "weights = (1, 2)",
        "FROM",
        "visits",
        "WHERE",
        "GROUP",
        "BY",
        "HAVING",
        "ORDER",
        "LIMIT",
        "COUNT",
        "(",
        ")",
        "*",
        ",",
        "AND",
        "OR",
        "NOT",
        "IN",
        "LIKE",
        "'D%'",
        "age",
        "cost",
        "district",
        "day",
        "patient",
        "_unit",
        "_rank",
        "t",
        "1",
        "-1",
        "1e9",
        "NULL",
        "TRUE",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "SUM",
        "AVG",
        "STDDEV",
        "CORR",
        "MIN",
        "AS",
        "n",
        "DISTINCT",
        "OVER",
        "JOIN",
        "JOIN visits v USING (patient)",
        "LEFT JOIN visits w ON w.patient = visits.patient",
        "JOIN d USING (district)",
        "UNION",
        ";",
        "--",
        "/*",
        "*/",
        "::",
        "INT",
        "[",
        "]",
        "{",
        "}",
        "$1",
        "?",
        "@",
        "||",
        "//",
        "%",
        "random()",
        "now()",
        "error('x')",
        "getenv('HOME')",
        "read_csv('x')",
        "pragma",
        "'é'",
        '"age"',
        "DATE",
        "'2020-01-01'",
        "BETWEEN",
        "IS",
        "FILTER",
        "QUALIFY",
        "EXISTS",
        "INTERVAL",
        "ALL",
        "ROLLUP",
        "CUBE",
        "VALUES",
        "lambda",
        "x",
        ":",
        "x",
        "+",
        "->",
    ]
)


QUESTIONS = st.one_of(any_questions(), any_questions(), self_joins())


def parts_of(plan, rows):
    """Return one partition as a plan reads it: the same rows on each side of a join."""
    table = world.table(rows)
    return [table if plan.joined is None else Joint((table,) * len(plan.datasets))]


def expressions(expr: Expr):
    yield expr
    for argument in expr.args:
        yield from expressions(argument)


def ask(sql: str):
    try:
        return world.check(sql)
    except (QueryError, BoundError) as error:
        refused = error
    assert refused.code.startswith(("input.query.", "privacy.bound"))
    assert refused.hint
    assert {"line", "column", "found"} <= set(refused.details)
    return None


@QUIET
@given(st.lists(WORDS, max_size=40).map(" ".join))
def test_word_salad_is_refused_or_planned(sql):
    query = ask(sql)
    if query is not None:
        plan_query(query, world.LOSS)


@QUIET
@given(st.text(max_size=200))
def test_any_text_is_refused(sql):
    assert ask(sql) is None


@QUIET
@given(QUESTIONS, st.lists(st.tuples(st.integers(0, 400), WORDS), min_size=1, max_size=4))
def test_a_question_with_words_thrown_in_is_refused_or_stays_in_the_algebra(sql, thrown):
    for place, word in thrown:
        sql = f"{sql[:place]} {word} {sql[place:]}"
    query = ask(sql)
    if query is None:
        return
    parts = [key.expr for key in query.keys] + [a.argument for a in query.aggregates if a.argument is not None]
    parts += [moment for aggregate in query.aggregates for moment in aggregate.moments]
    parts += [] if query.filter is None else [query.filter]
    described = {column.name for column in world.COLUMNS}
    for part in parts:
        for expr in expressions(part):
            assert expr.op in set(Op)
            assert expr.op is not Op.COLUMN or query.source is not None or expr.value in described
    assert all(output.slot.is_key or query.aggregates for output in query.outputs)


@QUIET
@given(QUESTIONS, tables(max_units=3, max_rows=3))
def test_no_accepted_question_can_fail_on_any_data(sql, rows):
    query = ask(sql)
    if query is None:
        return
    plan = plan_query(query, world.LOSS)
    run_plan(plan, parts_of(plan, rows), engine=ENGINE)


@QUIET
@given(QUESTIONS)
def test_the_sql_for_the_engine_is_ours(sql):
    query = ask(sql)
    if query is None:
        return
    text = re.sub(r"'(?:[^']|'')*'", "''", plan_query(query, world.LOSS).sql)
    assert ";" not in text
    assert "--" not in text.replace("(-(-", "")
    called = set(re.findall(r"([A-Za-z_]+)\s*\(", text))
    assert called <= {
        *(
            "SELECT",
            "FROM",
            "WHERE",
            "AND",
            "OR",
            "NOT",
            "THEN",
            "WHEN",
            "ELSE",
            "IN",
            "AS",
            "OVER",
            "EXCLUDE",
            "RENAME",
            "JOIN",
            "CASE",
            "FILTER",
        ),
        *(
            "CAST",
            "abs",
            "least",
            "greatest",
            "coalesce",
            "starts_with",
            "date_trunc",
            "year",
            "quarter",
            "month",
            "day",
        ),
        *(
            "isodow",
            "count",
            "sum",
            "min",
            "row_number",
            "dense_rank",
            "chr",
            "max",
            "sqrt",
            "ceil",
            "USING",
            "MATERIALIZED",
            "BY",
            "ALL",
            "UNION",
        ),
    }


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) FROM visits WHERE diag = 'a' /* ' OR 1=1 */",
        "SELECT COUNT(*) FROM visits -- comment",
        'SELECT COUNT(*) AS "x"" FROM t; --" FROM visits',
    ],
)
def test_comments_and_odd_names_change_nothing(sql):
    plan = plan_query(world.check(sql), world.LOSS)
    assert "OR 1=1" not in plan.sql
    assert "comment" not in plan.sql
    assert "; --" not in plan.sql


def test_a_surrogate_or_nul_is_refused_and_not_crashed_on():
    for sql in ("SELECT COUNT(*) FROM visits WHERE diag = '\ud800'", "SELECT COUNT(*)\0 FROM visits"):
        with pytest.raises(SaggarError, match="not valid Unicode"):
            world.check(sql)
