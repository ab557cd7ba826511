"""Two tables of one unit kind: the clinic's visits, and claims of the same patients under another bound."""

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
PLAIN_CLAIM = {"paid": 5, "kind": "a", "age": 3, "note": None}


def claims(rows: int = 3, groups: int = 2, *, kind: str = "patient", max_rows: int = 50_000):
    """Return the description of the claims, whose unit's column has another name."""
    base = world.describe(rows=rows, groups=groups, max_rows=max_rows, columns=CLAIMS)
    return replace(base, dataset="insurance", table="claims", unit=PrivacyUnit(kind, "insured", "患者"))


def tables(visits=None, other=None):
    """Return both descriptions by their tables."""
    return {"visits": world.describe() if visits is None else visits, "claims": claims() if other is None else other}


def check(sql: str, described=None, **asked) -> CheckedQuery:
    """Check a question over both tables."""
    return check_question(Question(sql, world.LOSS, **asked), tables() if described is None else described)


def plan(sql: str, described=None, **asked) -> Plan:
    """Plan a question over both tables."""
    return plan_query(check(sql, described, **asked), world.LOSS)


def claim_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a partition of claims; what a row leaves out is taken from `PLAIN_CLAIM`."""
    whole = [{**PLAIN_CLAIM, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in whole], kind) for name, kind in CLAIM_TYPES.items()})


def pair(planned: Plan, visits, other) -> Joint:
    """Return a partition of a join; which table is on which side, the plan says."""
    made = {"visits": world.table(visits), "claims": claim_table(other)}
    return Joint((made[planned.table], *(made[joined.table] for joined in planned.joined.tables)))


def bounded(**limits: int):
    """Return both descriptions under bounds of their own: `rows`, `groups`, `other_rows`, `other_groups`."""
    one = ContributionBound(limits["rows"], limits["groups"])
    other = ContributionBound(limits["other_rows"], limits["other_groups"])
    return {"visits": replace(world.describe(), bound=one), "claims": replace(claims(), bound=other)}


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
