"""Joins of two datasets: what is accepted, what is read, what the bound is, and what is refused, with its place."""

from dataclasses import replace

import pytest

from sandbox.errors import BoundError, QueryError
from sandbox.privacy.influence import influence_of
from sandbox.privacy.plan import plan_query
from sandbox.privacy.quote import quote_plan
from tests.support import join_world as joins
from tests.support import privacy_world as world

ON = "v.patient = c.insured"
BOTH = f"FROM visits v JOIN claims c ON {ON}"
STEP = "WITH q AS (SELECT insured, SUM(paid) AS paid FROM claims GROUP BY insured)"


def test_a_join_reads_both_and_takes_the_smaller_bound():
    query = joins.check(f"SELECT v.district, kind, SUM(paid) AS s {BOTH} WHERE v.age > 3 GROUP BY 1, 2")
    assert query.reads == (("clinic", ("age", "district")), ("insurance", ("kind", "paid")))
    assert (query.table, *(joined.table for joined in query.joined.tables)) == ("visits", "claims")
    assert query.bound.to_record() == {"rows": 3, "groups": 2}
    assert query.max_rows == 3 * 50_000
    assert [output.label.name for output in query.outputs] == ["district", "kind", "s"]
    assert joins.check(f"SELECT COUNT(*) {BOTH}", rows=2).bound.rows == 2
    with pytest.raises(BoundError, match="above the dataset's 3 rows"):
        joins.check(f"SELECT COUNT(*) {BOTH}", rows=4)


def test_conditions_on_one_side_are_applied_to_that_side_and_not_to_the_right_of_a_left_join():
    query = joins.check(f"SELECT COUNT(*) {BOTH} WHERE v.age > 3 AND paid > 1 AND v.cost > paid")
    assert query.filter is not None
    assert query.source.count("WHERE") == 2 + 2, "each side is filtered and capped"
    left = joins.check(f"SELECT COUNT(*) FROM visits v LEFT JOIN claims c ON {ON} WHERE paid IS NULL")
    assert left.filter is not None
    assert joins.check(f"SELECT COUNT(*) {BOTH} WHERE paid > 1").filter is None


def test_one_row_a_unit_on_each_side_leaves_nothing_out():
    sql = f"{STEP}, p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) SELECT CORR(n, paid) AS r FROM p"
    plan = joins.plan(f"{sql} JOIN q ON p.patient = q.insured")
    assert (plan.bound.rows, plan.bounds_rows) == (1, False)
    assert plan.bounding == "rows of `p` and `q` that belong to one patient, then rank <= 1"
    assert "no row was left out" in quote_plan(plan).notes[0]


def test_a_left_join_of_two_datasets_counts_a_change_of_the_right_one_twice():
    inner, left = (
        joins.check(f"SELECT kind, COUNT(*) FROM visits v {join} claims c ON {ON} GROUP BY 1")
        for join in ("JOIN", "LEFT JOIN")
    )
    own = joins.check("SELECT v.urgent, COUNT(*) FROM visits v LEFT JOIN visits w USING (patient) GROUP BY 1")
    assert (influence_of(inner).rows, influence_of(left).rows) == (3, 6)
    assert (influence_of(inner).groups, influence_of(left).groups) == (2, 4)
    assert influence_of(own).rows == own.bound.rows
    private = joins.plan(f"SELECT note, COUNT(*) AS n FROM visits v LEFT JOIN claims c ON {ON} GROUP BY note")
    assert private.threshold.groups == 4


def test_a_table_joined_with_itself_is_read_once():
    query = joins.check(
        "SELECT SUM(w.cost) AS s FROM visits v JOIN visits w USING (patient) WHERE v.age > 3", joins.tables()
    )
    assert query.reads == (("clinic", ("age", "cost")),)


def test_overflow_is_checked_for_as_many_joined_rows_as_can_count():
    wide = replace(world.describe(max_rows=10**12), bound=replace(world.describe().bound, rows=1000, groups=1))
    other = replace(joins.claims(max_rows=10**12), bound=wide.bound)
    described = {"visits": wide, "claims": other}
    plan_query(joins.check("SELECT SUM(age) FROM visits", described), world.LOSS)
    with pytest.raises(BoundError) as caught:
        joins.check(f"SELECT SUM(v.cost) {BOTH}", described)
    assert caught.value.code == "privacy.bound.overflow"


REFUSED = [
    ("SELECT COUNT(*) FROM visits v JOIN claims c ON v.age = c.age", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c ON v.patient = c.insured AND v.age = c.age", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c ON v.patient < c.insured", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c ON v.patient = v.patient", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c USING (patient)", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN visits w USING (patient, age)", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c USING (patient, insured)", "join"),
    ("SELECT COUNT(*) FROM visits v JOIN claims c", "join"),
    ("SELECT COUNT(*) FROM visits v CROSS JOIN claims c", "join"),
    ("SELECT COUNT(*) FROM visits v RIGHT JOIN claims c ON v.patient = c.insured", "join"),
    ("SELECT COUNT(*) FROM visits v FULL JOIN claims c ON v.patient = c.insured", "join"),
    ("SELECT COUNT(*) FROM visits v SEMI JOIN claims c ON v.patient = c.insured", "join"),
    ("SELECT COUNT(*) FROM visits v NATURAL JOIN claims c", "feature"),
    ("SELECT COUNT(*) FROM visits v JOIN nothing c ON v.patient = c.insured", "unknown_table"),
    ("SELECT COUNT(*) FROM visits v JOIN visits v USING (patient)", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w USING (insured)", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w ON w.patient = x.patient", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w ON w.age = c.age", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w ON w.patient = w.patient", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w ON w.patient = v.patient AND w.patient = c.insured", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits w", "join"),
    (f"SELECT COUNT(*) {BOTH} CROSS JOIN drugs d", "join"),
    (f"SELECT COUNT(*) {BOTH} RIGHT JOIN drugs d ON d.holder = v.patient", "join"),
    (f"SELECT COUNT(*) {BOTH}, drugs d WHERE d.holder = v.patient", "join"),
    (f"SELECT COUNT(*) {BOTH} JOIN visits v ON v.patient = c.insured", "join"),
    (f"SELECT COUNT(*) FROM visits v JOIN drugs d ON d.holder = c.insured JOIN claims c ON {ON}", "join"),
    ("SELECT COUNT(*) FROM (visits v) JOIN claims c ON v.patient = c.insured", "join"),
    (f"SELECT COUNT(*) FROM visits v JOIN (claims c JOIN drugs d ON c.insured = d.holder) ON {ON}", "join"),
    (f"WITH p(kind, k) AS (VALUES ('a', 1)) SELECT COUNT(*) {BOTH} JOIN p c ON c.kind = v.diag", "join"),
    (
        (
            "WITH p(f, k) AS (VALUES ('pill', 1)) SELECT COUNT(*) FROM visits v JOIN p ON p.f = d.form "
            "JOIN drugs d ON d.holder = v.patient"
        ),
        "unknown_column",
    ),
    (f"SELECT SUM(age) AS s {BOTH} JOIN drugs d ON d.holder = v.patient", "ambiguous_column"),
    (
        f"SELECT COUNT(DISTINCT d.holder) AS n {BOTH} LEFT JOIN drugs d ON d.holder = v.patient",
        "unit_column",
    ),
    (f"SELECT SUM(age) AS s {BOTH}", "ambiguous_column"),
    (f"SELECT age, COUNT(*) AS n {BOTH} GROUP BY age", "ambiguous_column"),
    (f"SELECT SUM(c.cost) AS s {BOTH}", "unknown_column"),
    (f"SELECT SUM(x.cost) AS s {BOTH}", "unknown_table"),
    (f"SELECT insured, COUNT(*) AS n {BOTH} GROUP BY insured", "unit_column"),
    (f"SELECT COUNT(*) AS n {BOTH} WHERE c.insured = 3", "unit_column"),
    ("SELECT COUNT(DISTINCT c.insured) AS n FROM visits v LEFT JOIN claims c ON v.patient = c.insured", "unit_column"),
    (f"SELECT v.district, c.age AS district, COUNT(*) AS n {BOTH} GROUP BY ALL", "name"),
    (f"SELECT SUM(paid) AS s {BOTH} SETTINGS bounding = 'rescale'", "setting"),
    (f"SELECT COUNT(*) FROM (SELECT patient, COUNT(*) AS n {BOTH} GROUP BY patient) p", "feature"),
]


@pytest.mark.parametrize(("sql", "code"), REFUSED)
def test_everything_else_is_refused_with_code_place_and_rewrite(sql, code):
    with pytest.raises(QueryError) as caught:
        joins.check(sql)
    assert caught.value.code == f"input.query.{code}"
    assert caught.value.hint
    assert {"line", "column", "found"} <= set(caught.value.details)


def test_tables_of_other_kinds_of_units_do_not_join():
    described = joins.tables(other=joins.claims(kind="enterprise"))
    with pytest.raises(QueryError, match="`v` protects the patient and `c` the enterprise") as caught:
        joins.check(f"SELECT COUNT(*) {BOTH}", described)
    assert caught.value.code == "input.query.join_kind"


def test_inner_joins_count_either_name_of_the_unit():
    for unit in ("patient", "insured", "v.patient", "c.insured"):
        assert joins.check(f"SELECT COUNT(DISTINCT {unit}) AS n {BOTH}").aggregates[0].kind == "units"
