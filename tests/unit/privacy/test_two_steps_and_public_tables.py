"""Questions that first ask each unit, and questions that bring a public table."""

import statistics
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quote import quote_plan
from tests.support import privacy_world as world

ROWS = world.visits(
    {
        unit: [
            {
                "age": (unit * 37) % 121,
                "cost": None if unit % 7 == 0 else (unit * 611 + i * 77) % 90_000,
                "district": world.DISTRICTS[(unit + i) % 3],
                "urgent": i % 2 == 0,
            }
            for i in range(1 + unit % 4)
        ]
        for unit in range(300)
    }
)
TABLE = world.table(ROWS)
MUCH = PrivacyLoss(Fraction(10**8), Fraction(1, 10**6))
UNITS = defaultdict(list)
for row in ROWS:
    UNITS[row["_unit"]].append(row)


def rows_of(sql, loss=MUCH, **bound):
    plan = world.plan(sql, world.describe(**bound), loss=loss)
    return measure(plan, run_plan(plan, [TABLE]), world.NoNoise()).answer.rows


def test_units_are_asked_first_and_then_counted_and_averaged():
    found = rows_of(
        "WITH p AS (SELECT patient, COUNT(*) AS visits, SUM(cost) AS spent, AVG(age) AS age, MAX(cost) AS most, "
        "COUNT(*) FILTER (WHERE urgent) AS urgent_visits, COUNT(DISTINCT district) AS places FROM visits GROUP BY patient) "
        "SELECT COUNT(*) AS n, COUNT(DISTINCT patient) AS u, AVG(LEAST(visits, 3)) AS v, AVG(spent) AS s, AVG(age) AS a, "
        "AVG(most) AS m, SUM(urgent_visits) AS uv, SUM(places) AS pl FROM p"
    )[0]
    spent = [sum(r["cost"] for r in rows) / 100 for rows in UNITS.values() if rows[0]["cost"] is not None]
    most = [max(r["cost"] for r in rows) / 100 for rows in UNITS.values() if rows[0]["cost"] is not None]
    wanted = [
        300,
        300,
        statistics.mean(min(3, len(rows)) for rows in UNITS.values()),
        statistics.mean(spent),
        statistics.mean(rows[0]["age"] for rows in UNITS.values()),
        statistics.mean(most),
        sum(r["urgent"] for r in ROWS),
        sum(len({r["district"] for r in rows}) for rows in UNITS.values()),
    ]
    assert found == pytest.approx(wanted)


def test_one_row_a_unit_needs_the_least_noise_and_leaves_no_row_out():
    plan = world.plan("SELECT AVG(n) AS m FROM (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) p")
    assert plan.bound == ContributionBound(1, 1)
    assert plan.statistics[0].statistic.sensitivity_squared == 1
    assert not plan.bounds_rows
    assert plan.columns == ()
    assert "one row for each patient" in plan.bounding
    assert any("no row was left out" in note for note in quote_plan(plan).notes)


def test_a_first_step_filters_rows_and_the_second_filters_units():
    found = rows_of(
        "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits WHERE urgent GROUP BY patient) "
        "SELECT COUNT(*) AS u FROM p WHERE n = 2"
    )
    assert found[0][0] == sum(sum(r["urgent"] for r in rows) == 2 for rows in UNITS.values())


def test_further_keys_give_a_unit_several_rows_which_are_bounded():
    sql = (
        "WITH p AS (SELECT patient, district, COUNT(*) AS n FROM visits GROUP BY patient, district) "
        "SELECT district, COUNT(*) AS u, SUM(n) AS s FROM p GROUP BY district"
    )
    pairs = {(r["_unit"], r["district"]) for r in ROWS}
    assert sum(row[1] for row in rows_of(sql)) == len(pairs)
    assert sum(row[2] for row in rows_of(sql)) == len(ROWS)
    assert sum(row[1] for row in rows_of(sql, rows=1, groups=1)) == 300


def test_only_columns_that_the_answer_uses_are_read():
    plan = world.plan(
        "WITH p AS (SELECT patient, SUM(cost) AS c, SUM(age) AS a FROM visits WHERE urgent GROUP BY patient) SELECT AVG(a) FROM p"
    )
    assert plan.columns == ("age", "urgent")


def test_a_name_of_the_question_never_stands_for_a_column_inside():
    found = rows_of(
        "WITH p AS (SELECT patient, COUNT(*) AS age, SUM(age) AS cost FROM visits WHERE age > 100 GROUP BY patient) "
        "SELECT SUM(age) AS n, SUM(cost) AS s FROM p"
    )
    old = [r["age"] for r in ROWS if r["age"] > 100]
    assert found[0] == (len(old), sum(old))


def test_the_least_text_and_the_last_day_of_a_unit_can_be_keys():
    found = rows_of(
        "WITH p AS (SELECT patient, MIN(district) AS d, MAX(day) AS last FROM visits GROUP BY patient) "
        "SELECT d, COUNT(*) AS n FROM p WHERE last >= '2020-01-01' GROUP BY d"
    )
    firsts = [min(r["district"] for r in rows) for rows in UNITS.values()]
    assert found == tuple((d, firsts.count(d)) for d in (*world.DISTRICTS, None))


def test_a_public_table_adds_columns_by_its_key():
    sql = (
        "WITH d(district, kind, size) AS (VALUES ('east', 'urban', 3), ('west', 'rural', 5)) "
        "SELECT kind, COUNT(*) AS n, SUM(size) AS s FROM visits {} d USING (district) GROUP BY kind"
    )
    east, west, north = (sum(r["district"] == d for r in ROWS) for d in ("east", "west", "north"))
    assert rows_of(sql.format("JOIN")) == (("urban", east, 3 * east), ("rural", west, 5 * west))
    assert rows_of(sql.format("LEFT JOIN")) == (("urban", east, 3 * east), ("rural", west, 5 * west), (None, north, 0))


def test_a_public_table_may_have_a_key_of_two_columns_and_a_name():
    found = rows_of(
        "WITH d(place, u, w) AS (VALUES ('east', TRUE, 2), ('east', FALSE, 7)) "
        "SELECT SUM(x.w) AS s FROM visits v JOIN d x ON v.district = x.place AND x.u = v.urgent"
    )
    assert found[0][0] == sum((2 if r["urgent"] else 7) for r in ROWS if r["district"] == "east")


def test_two_steps_are_audited_as_every_answer_is():
    plan = world.plan(
        "WITH p AS (SELECT patient, SUM(cost) AS s FROM visits GROUP BY patient) SELECT MEDIAN(s) AS m, AVG(s) AS a FROM p"
    )
    measured = measure(plan, run_plan(plan, [TABLE]), OpenDpNoise())
    verify_measured(plan, measured.answer.to_record(), measured.sealed)


@pytest.mark.parametrize("header", ["Patient", "PatientID", "患者编号"])
def test_a_unit_is_counted_and_asked_first_however_its_header_is_spelled(header):
    described = replace(world.describe(), unit=PrivacyUnit("patient", header, "患者"))
    for name in (header, f'"{header}"', header.upper(), f"visits.{header}"):
        assert world.plan(f"SELECT COUNT(DISTINCT {name}) AS n FROM visits", described).sql.endswith("_rank = 1")
        inner = f"SELECT {name}, COUNT(*) AS n FROM visits GROUP BY {name}"
        assert world.plan(f"SELECT AVG(n) AS m FROM ({inner}) AS p", described).bound == ContributionBound(1, 1)
        for leak in (
            f"SELECT {name}, COUNT(*) FROM visits GROUP BY 1",
            f"SELECT COUNT(*) FROM visits WHERE {name} = 'x'",
        ):
            with pytest.raises(QueryError) as raised:
                world.plan(leak, described)
            assert raised.value.code == "input.query.unit_column"
