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


CHAIN = f"{BOTH} JOIN drugs d ON d.holder = c.insured"
ZONES = "WITH z(district, zone) AS (VALUES ('east', 'urban'), ('west', 'rural'))"
KINDS = "k(kind, size) AS (VALUES ('a', 1), ('b', 2))"


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        (
            f"SELECT v.district, COUNT(*) AS n, SUM(price) AS s {CHAIN} WHERE paid > 3 GROUP BY 1",
            (("clinic", ("district",)), ("insurance", ("paid",)), ("pharmacy", ("price",))),
        ),
        (
            f"SELECT COUNT(*) AS n {BOTH} LEFT JOIN drugs d ON d.holder = v.patient WHERE form = 'pill'",
            (("clinic", ()), ("insurance", ()), ("pharmacy", ("form",))),
        ),
        (
            (
                "SELECT SUM(b.age) AS s FROM visits a JOIN visits b USING (patient) JOIN visits c USING (patient) "
                "JOIN visits d USING (patient) WHERE d.urgent"
            ),
            (("clinic", ("age", "urgent")),),
        ),
        (
            (
                f"{ZONES}, {KINDS} SELECT zone, SUM(size) AS s FROM visits v JOIN z USING (district) "
                f"JOIN claims c ON {ON} LEFT JOIN k ON k.kind = c.kind JOIN drugs d ON c.insured = d.holder GROUP BY zone"
            ),
            (("clinic", ("district",)), ("insurance", ("kind",)), ("pharmacy", ())),
        ),
        (
            (
                f"{ZONES}, f(diag, n) AS (VALUES ('D1', 3)) SELECT zone, SUM(n) AS s FROM visits JOIN z USING (district) "
                "LEFT JOIN f USING (diag) GROUP BY zone"
            ),
            (("clinic", ("diag", "district")),),
        ),
        (
            (
                f"{STEP}, p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient), "
                "r AS (SELECT holder, SUM(price) AS price FROM drugs GROUP BY holder) SELECT AVG(n + paid + price) AS m "
                "FROM p JOIN q ON p.patient = q.insured JOIN r ON q.insured = r.holder"
            ),
            (("clinic", ()), ("insurance", ("paid",)), ("pharmacy", ("price",))),
        ),
    ],
)
def test_three_and_four_tables_and_public_ones_are_answered_and_read_what_they_use(sql, reads):
    query = joins.check(sql)
    assert query.reads == reads
    plan = joins.plan(sql)
    assert [name for name, _ in reads] == list(dict.fromkeys(plan.datasets))
    record = plan.to_record()["joined"]
    assert (0 if record is None else len(record["tables"])) == len(plan.datasets) - 1


def test_three_tables_take_the_smallest_bound_and_the_quote_says_how_their_rows_meet():
    described = {**joins.tables(), "drugs": joins.drugs(rows=2, groups=1)}
    query = joins.check(f"SELECT COUNT(*) {CHAIN}", described)
    assert query.bound.to_record() == {"rows": 2, "groups": 1}
    assert query.max_rows == 2 * 40_000, "as many units as the smallest table can have"
    plan = joins.plan(f"SELECT COUNT(*) AS n {CHAIN}", described)
    assert plan.bounding == (
        "rows of `v`, `c` and `d` that belong to one patient, from the 2 lowest ranks of the patient in `v`, `c` and "
        "`d`, of `v` and `c` at most 4 rows that meet `d`, then rank <= 2"
    )
    units = joins.plan(f"SELECT kind, COUNT(DISTINCT patient) AS u {CHAIN} GROUP BY kind", described)
    assert "at most 6 rows after the filter" in units.bounding
    assert "no profile speaks of joined rows" in " ".join(quote_plan(plan).notes)


def test_first_steps_of_three_datasets_leave_nothing_out():
    sql = f"{STEP}, p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient), r AS (SELECT holder, "
    sql += "SUM(price) AS price FROM drugs GROUP BY holder) SELECT SUM(n * paid * price) AS s FROM p "
    plan = joins.plan(f"{sql} LEFT JOIN q ON p.patient = q.insured LEFT JOIN r ON r.holder = q.insured")
    assert (plan.bound.rows, plan.bounds_rows) == (1, False)
    assert plan.bounding == "rows of `p`, `q` and `r` that belong to one patient, then rank <= 1"


LEFT_SHAPES = [
    # Whose rows every joined row needs decides: a unit that leaves another dataset alone exchanges its rows.
    ("visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = v.patient", 1),
    ("visits v JOIN claims c ON v.patient = c.insured LEFT JOIN drugs d ON d.holder = v.patient", 2),
    ("visits v LEFT JOIN claims c ON v.patient = c.insured LEFT JOIN drugs d ON d.holder = v.patient", 2),
    ("visits v LEFT JOIN claims c ON v.patient = c.insured LEFT JOIN drugs d ON d.holder = c.insured", 2),
    ("visits v LEFT JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = v.patient", 2),
    # The last JOIN asks for rows of the claims, so the LEFT JOIN before it keeps nothing.
    ("visits v LEFT JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = c.insured", 1),
    ("visits v LEFT JOIN visits w USING (patient) LEFT JOIN visits x USING (patient)", 1),
    ("visits v JOIN claims c ON v.patient = c.insured LEFT JOIN claims d ON d.insured = v.patient", 1),
    ("claims c LEFT JOIN visits v ON v.patient = c.insured LEFT JOIN claims d ON d.insured = v.patient", 2),
]


@pytest.mark.parametrize(("source", "times"), LEFT_SHAPES)
def test_an_exchange_is_paid_for_twice_where_a_dataset_can_leave_without_all_rows(source, times):
    query = joins.check(f"SELECT {source.split()[1]}.age, COUNT(*) FROM {source} GROUP BY 1")
    found = influence_of(query)
    assert (found.rows, found.groups, found.units_squared) == (times * query.bound.rows, times * 2, times * 2)


def test_the_unit_of_a_side_that_a_later_join_needs_counts_all_units():
    source = "visits v LEFT JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = c.insured"
    for unit in ("v.patient", "c.insured", "d.holder", "holder"):
        assert joins.check(f"SELECT COUNT(DISTINCT {unit}) AS n FROM {source}").aggregates[0].kind == "units"
    kept = source.replace("d.holder = c.insured", "d.holder = v.patient")
    with pytest.raises(QueryError) as caught:
        joins.check(f"SELECT COUNT(DISTINCT c.insured) AS n FROM {kept}")
    assert caught.value.code == "input.query.unit_column"


def test_a_fifth_dataset_is_refused_at_its_join():
    five = "visits a JOIN visits b USING (patient) JOIN visits c USING (patient) JOIN visits d USING (patient)"
    joins.check(f"SELECT COUNT(*) AS n FROM {five}")
    with pytest.raises(QueryError, match="more than 4 datasets") as caught:
        joins.check(f"SELECT COUNT(*) AS n FROM {five} JOIN visits e USING (patient)")
    assert caught.value.code == "input.query.join"
    assert caught.value.hint.startswith("ask about 4 of them together and about the others apart")
    assert {"line", "column", "found"} <= set(caught.value.details)


def test_overflow_is_checked_for_three_tables_as_for_one():
    bound = replace(world.describe().bound, rows=1000, groups=1)
    described = {name: replace(table, bound=bound, max_rows=10**12) for name, table in joins.tables().items()}
    plan_query(joins.check(f"SELECT SUM(price) {CHAIN}", described), world.LOSS)
    with pytest.raises(BoundError) as caught:
        joins.check(f"SELECT SUM(cost) {CHAIN}", described)
    assert caught.value.code == "privacy.bound.overflow"


def test_a_third_table_of_another_kind_of_units_does_not_join():
    described = {**joins.tables(), "claims": joins.claims(kind="enterprise")}
    with pytest.raises(QueryError, match="`v` protects the patient and `c` the enterprise") as caught:
        joins.check(
            f"SELECT COUNT(*) FROM visits v JOIN drugs d ON d.holder = v.patient JOIN claims c ON {ON}", described
        )
    assert caught.value.code == "input.query.join_kind"


# What is refused of joins, what its hint must say, and the same question written so.
REWRITES = [
    (f"{BOTH} JOIN drugs d ON d.price = c.age", "JOIN drugs d ON v.patient = d.holder", f"{BOTH} JOIN drugs d ON v.patient = d.holder"),
    (f"{BOTH} RIGHT JOIN drugs d ON d.holder = v.patient", "JOIN drugs d ON v.patient = d.holder", f"{BOTH} JOIN drugs d ON v.patient = d.holder"),
    (
        "FROM visits v JOIN visits w ON v.age = w.age JOIN visits x USING (patient)",
        "JOIN visits w USING (patient)",
        "FROM visits v JOIN visits w USING (patient) JOIN visits x USING (patient)",
    ),
    (
        f"FROM visits v JOIN (claims c JOIN drugs d ON c.insured = d.holder) ON {ON}",
        "FROM a JOIN b USING (person) JOIN c USING (person)",
        CHAIN,
    ),
    (f"{CHAIN} JOIN drugs d ON d.holder = v.patient", "a name with AS", f"{CHAIN} JOIN drugs AS e ON e.holder = v.patient"),
    (
        f"{CHAIN} JOIN visits w USING (patient) JOIN claims e ON e.insured = v.patient",
        "4 of them together and about the others apart",
        f"{CHAIN} JOIN visits w USING (patient)",
    ),
    (f"{BOTH} ASOF JOIN drugs d ON d.holder = v.patient", "JOIN drugs d ON v.patient = d.holder", f"{BOTH} JOIN drugs d ON v.patient = d.holder"),
    ("FROM visits v NATURAL JOIN visits w", "JOIN visits w USING (patient)", "FROM visits v JOIN visits w USING (patient)"),
    (
        f"FROM (SELECT v.patient, COUNT(*) AS m {BOTH} GROUP BY v.patient) p JOIN drugs d ON d.holder = p.patient",
        "make a step of each table and join those",
        ("FROM (SELECT patient, COUNT(*) AS m FROM visits GROUP BY patient) p JOIN (SELECT insured, COUNT(*) AS k FROM claims "
        "GROUP BY insured) q ON p.patient = q.insured JOIN drugs d ON d.holder = p.patient"),
    ),
    (f"{CHAIN} SETTINGS bounding = 'rescale'", "leave `bounding` out", CHAIN),
    (f"{CHAIN} WHERE v.age > 3 AND age < 9", "write v.age or c.age or d.age", f"{CHAIN} WHERE v.age > 3 AND d.age < 9"),
]  # fmt: skip


@pytest.mark.parametrize(("refused", "says", "instead"), REWRITES, ids=[row[1] for row in REWRITES])
def test_what_a_refusal_of_a_join_says_to_write_instead_is_accepted(refused, says, instead):
    with pytest.raises(QueryError) as caught:
        joins.check(f"SELECT COUNT(*) AS n {refused}")
    assert says in caught.value.hint
    joins.plan(f"SELECT COUNT(*) AS n {instead}")


def test_a_public_key_that_stands_twice_is_refused_and_once_is_answered():
    """A row would meet two rows of the public table, and so count twice: whichever of the tables it is joined to."""
    sql = "WITH f(form, n) AS (VALUES ('pill', 1), ('pill', 2)) SELECT SUM(n) AS s {} JOIN f ON f.form = d.form"
    with pytest.raises(QueryError, match="a key stands twice in a public table") as caught:
        joins.check(sql.format(CHAIN))
    assert (caught.value.code, caught.value.hint) == ("input.query.join", "keep one row for it")
    joins.plan(sql.replace("('pill', 2)", "('salve', 2)").format(CHAIN))


def test_choices_by_report_noisy_max_are_for_joins_that_exchange_no_rows():
    inner = "visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = v.patient"
    left = inner.replace("JOIN drugs", "LEFT JOIN drugs")
    for sql, code in (
        ("SELECT MEDIAN(paid) AS m FROM {} SETTINGS quantile = 'noisy_max'", "quantile"),
        (
            (
                "SELECT kind, COUNT(DISTINCT patient) AS u FROM {} GROUP BY kind ORDER BY u DESC LIMIT 1 "
                "SETTINGS top = 'noisy_max'"
            ),
            "top",
        ),
    ):
        joins.plan(sql.format(inner))
        with pytest.raises(QueryError) as caught:
            joins.check(sql.format(left))
        assert caught.value.code == f"input.query.{code}"
