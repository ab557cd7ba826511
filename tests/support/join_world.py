"""Tables of one unit kind: the clinic's visits, claims of the same patients under another bound, and their drugs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from hypothesis import strategies as st

from sandbox.compute.joint import Joint
from sandbox.model.description import ColumnKind
from sandbox.model.question import Question
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.privacy.check import check_question
from sandbox.privacy.plan import Plan, plan_query
from sandbox.privacy.query import CheckedQuery
from tests.support import privacy_world as world

CLAIMS = (
    world.column("paid", ColumnKind.INTEGER, 0, 50, 1, nullable=True),
    world.column("kind", ColumnKind.CATEGORY, domain=("a", "b")),
    world.column("age", ColumnKind.INTEGER, 0, 9, 1),
    world.column("note", ColumnKind.TEXT, nullable=True),
)
CLAIM_TYPES = {
    "_unit": pa.int64(),
    "_rank": pa.int32(),
    "paid": pa.int64(),
    "kind": pa.string(),
    "age": pa.int64(),
    "note": pa.string(),
}
DRUGS = (
    world.column("age", ColumnKind.INTEGER, 0, 9, 1),
    world.column("price", ColumnKind.INTEGER, 0, 20, 1, nullable=True),
    world.column("form", ColumnKind.CATEGORY, domain=("pill", "salve")),
)
DRUG_TYPES = {
    "_unit": pa.int64(),
    "_rank": pa.int32(),
    "age": pa.int64(),
    "price": pa.int64(),
    "form": pa.string(),
}
PLAIN_DRUG = {"age": 3, "price": 2, "form": "pill"}
PLAIN_CLAIM = {"paid": 5, "kind": "a", "age": 3, "note": None}


def claims(rows: int = 3, groups: int = 2, *, kind: str = "patient", max_rows: int = 50_000):
    """Return the description of the claims, whose unit's column has another name."""
    base = world.describe(rows=rows, groups=groups, max_rows=max_rows, columns=CLAIMS)
    return replace(base, dataset="insurance", table="claims", unit=PrivacyUnit(kind, "insured", "患者"))


def drugs(rows: int = 3, groups: int = 2, *, max_rows: int = 40_000):
    """Return the description of what the pharmacy sold, a third dataset of the same patients."""
    base = world.describe(rows=rows, groups=groups, max_rows=max_rows, columns=DRUGS)
    return replace(base, dataset="pharmacy", table="drugs", unit=PrivacyUnit("patient", "holder", "患者"))


def tables(visits=None, other=None):
    """Return the descriptions by their tables."""
    first, second = world.describe() if visits is None else visits, claims() if other is None else other
    return {"visits": first, "claims": second, "drugs": drugs()}


def check(sql: str, described=None, **asked) -> CheckedQuery:
    """Check a question over the tables."""
    return check_question(Question(sql, world.LOSS, **asked), tables() if described is None else described)


def plan(sql: str, described=None, **asked) -> Plan:
    """Plan a question over the tables."""
    return plan_query(check(sql, described, **asked), world.LOSS)


def claim_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a partition of claims; what a row leaves out is taken from `PLAIN_CLAIM`."""
    whole = [{**PLAIN_CLAIM, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in whole], kind) for name, kind in CLAIM_TYPES.items()})


def drug_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a partition of drugs; what a row leaves out is taken from `PLAIN_DRUG`."""
    whole = [{**PLAIN_DRUG, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in whole], kind) for name, kind in DRUG_TYPES.items()})


def pair(planned: Plan, visits, other, sold=()) -> Joint:
    """Return a partition of a join; which table is on which side, the plan says."""
    made = {"visits": world.table(visits), "claims": claim_table(other), "drugs": drug_table(sold)}
    return Joint((made[planned.table], *(made[joined.table] for joined in planned.joined.tables)))


def bounded(**limits: int):
    """Return the descriptions under bounds of their own: `rows`, `groups`, `other_rows`, `other_groups`."""
    one = ContributionBound(limits["rows"], limits["groups"])
    other = ContributionBound(limits["other_rows"], limits["other_groups"])
    described = {"visits": world.describe(), "claims": claims(), "drugs": drugs()}
    return {name: replace(table, bound=one if name == "visits" else other) for name, table in described.items()}


CLAIM_ROWS = st.fixed_dictionaries(
    {
        "paid": st.one_of(st.none(), st.integers(-9, 90), st.sampled_from([2**62, -(2**62)])),
        "kind": st.sampled_from(["a", "b"]),
        "age": st.integers(-3, 20),
        "note": st.sampled_from([None, "x", "y"]),
    }
)


@st.composite
def claim_tables(draw, max_units: int = 6, max_rows: int = 6):
    """Rows of a few units, some of which visit and some of which do not."""
    units = draw(st.lists(st.lists(CLAIM_ROWS, max_size=max_rows), max_size=max_units))
    ranked = world.visits({i * 1_000_003 - 7: draw(st.permutations(list(unit))) for i, unit in enumerate(units)})
    return draw(st.permutations(ranked))


P = "p AS (SELECT patient, COUNT(*) AS n, SUM(cost) AS spent FROM visits WHERE age > 20 GROUP BY patient)"
Q = "q AS (SELECT insured, MAX(paid) AS most, COUNT(DISTINCT kind) AS kinds FROM claims GROUP BY insured)"
R = "r AS (SELECT insured, kind, SUM(paid) AS paid FROM claims WHERE age < 8 GROUP BY insured, kind)"
D = "d(district, zone) AS (VALUES ('east', 'urban'), ('west', 'rural'))"
# What stands before SELECT, FROM and its joins, conditions, keys and aggregates that fit them.
FORMS = {
    "tables": (
        "",
        "visits v {join} claims c ON v.patient = c.insured",
        ["v.age > 30", "c.paid > 3", "v.cost > c.paid", "kind = 'a'", "c.note IS NOT NULL OR v.urgent"],
        ["district", "kind", "diag", "c.note", "FLOOR(c.age / 3)"],
        ["SUM(paid)", "AVG(cost)", "SUM(c.age)", "SUM(cost - 2 * paid)", "MEDIAN(paid)", "COUNT(DISTINCT kind)"],
    ),
    "turned": (
        "",
        "claims c {join} visits v ON v.patient = c.insured",
        ["v.age > 30", "paid BETWEEN 1 AND 40"],
        ["district", "kind", "v.urgent"],
        ["SUM(paid)", "CORR(LEAST(paid, 9), v.age)", "SUM(v.age)", "COUNT(cost)"],
    ),
    "step and table": (
        f"WITH {P}",
        "p {join} claims ON p.patient = claims.insured",
        ["n >= 2", "paid IS NULL", "spent > 10 AND kind = 'b'"],
        ["kind", "n", "note"],
        ["SUM(n)", "AVG(spent)", "SUM(paid)", "COUNT(paid)"],
    ),
    "table and step": (
        f"WITH {Q}",
        "visits {join} q ON visits.patient = q.insured",
        ["most > 5", "kinds = 2 OR urgent", "cost < 100"],
        ["kinds", "district"],
        ["SUM(most)", "AVG(cost)", "SUM(age * kinds)"],
    ),
    "steps": (
        f"WITH {P}, {Q}",
        "p {join} q ON q.insured = p.patient",
        ["most > 5", "n < 3"],
        ["kinds", "n"],
        ["SUM(most)", "SUM(spent)", "COUNT(most)"],
    ),
    "keyed step": (
        f"WITH {R}",
        "visits v {join} r ON v.patient = r.insured",
        ["r.paid > 5", "kind = 'a'", "urgent"],
        ["kind", "district", "diag"],
        ["SUM(paid)", "SUM(age)"],
    ),
    "with itself": (
        "",
        "visits v {join} visits w USING (patient)",
        ["v.age > w.age", "w.urgent", "v.day < w.day"],
        ["v.district", "w.diag"],
        ["SUM(v.cost)", "SUM(w.age)"],
    ),
    "three sides": (
        "",
        "visits v {join} claims c ON v.patient = c.insured {join} claims d ON d.insured = c.insured",
        ["v.age > 30", "c.paid > d.paid", "c.kind = 'a'", "d.note IS NOT NULL OR v.urgent", "d.paid IS NULL"],
        ["district", "c.kind", "diag", "d.note"],
        ["SUM(c.paid)", "SUM(d.paid - v.age)", "AVG(cost)", "COUNT(c.note)"],
    ),
    "three sides, one of them first steps": (
        f"WITH {P}, {Q}",
        "visits v {join} q ON v.patient = q.insured JOIN p USING (patient) LEFT JOIN claims c ON c.insured = q.insured",
        ["most > 5", "n < 3 OR c.paid > most", "v.urgent"],
        ["kinds", "district", "kind"],
        ["SUM(most)", "SUM(spent)", "SUM(c.paid)"],
    ),
    "four sides": (
        "",
        (
            "claims c {join} visits v ON v.patient = c.insured LEFT JOIN visits w ON w.patient = v.patient "
            "{join} claims d ON d.insured = w.patient"
        ),
        ["v.age > w.age", "d.paid BETWEEN 1 AND 40", "w.day IS NULL"],
        ["v.district", "w.urgent", "d.kind"],
        ["SUM(c.paid)", "SUM(w.age)", "COUNT(d.note)"],
    ),
    "three sides and two public tables": (
        f"WITH {D}, f(kind, size) AS (VALUES ('a', 3), ('b', -4))",
        (
            "visits v LEFT JOIN d USING (district) {join} claims c ON v.patient = c.insured "
            "LEFT JOIN f ON f.kind = c.kind JOIN visits w ON w.patient = v.patient"
        ),
        ["zone = 'urban'", "paid > 1", "size < 0", "v.cost < w.cost"],
        ["zone", "c.kind", "w.district"],
        ["SUM(paid)", "SUM(size)", "SUM(CASE WHEN zone = 'rural' THEN w.cost END)"],
    ),
    "with a public table": (
        f"WITH {D}",
        "visits v {join} claims c ON v.patient = c.insured JOIN d USING (district)",
        ["zone = 'urban'", "paid > 1"],
        ["zone", "kind"],
        ["SUM(paid)", "SUM(CASE WHEN zone = 'rural' THEN cost END)"],
    ),
}


@st.composite
def join_questions(draw):
    """Questions over joins of every form."""
    first, source, conditions, keys, aggregates = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    source = source.format(join=draw(st.sampled_from(["JOIN", "LEFT JOIN"])))
    group = draw(st.lists(st.sampled_from(keys), max_size=2, unique=True))
    unit = "c.insured" if source.startswith("claims") else "patient"
    shown = draw(
        st.lists(st.sampled_from([*aggregates, "COUNT(*)", f"COUNT(DISTINCT {unit})"]), min_size=1, max_size=3)
    )
    columns = [f"{key} AS k{i}" for i, key in enumerate(group)] + [f"{a} AS a{i}" for i, a in enumerate(shown)]
    where = draw(st.lists(st.sampled_from(conditions), max_size=2))
    sql = f"{first} SELECT {', '.join(columns)} FROM {source}"
    sql += f" WHERE {' AND '.join(f'({one})' for one in where)}" if where else ""
    return sql + (f" GROUP BY {', '.join(group)}" if group else "")
