"""Attack: make a question fail for one row that may be in the table.  A failed job tells for certain what it names."""

from fractions import Fraction

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes, parse_canonical, parse_canonical_release
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

ENGINE = open_engine(1)
TARGET = "age = 37 AND diag = 'D2'"
UP = 2**60
FAR = f"FLOOR(CASE WHEN {TARGET} THEN {UP} ELSE -{UP} END) * FLOOR(CASE WHEN urgent THEN 16 ELSE 17 END)"
"""Beyond 64 bits on both sides, so that an outer question that trusted 64 bits would overflow for the target alone."""


@pytest.mark.parametrize("key", [FAR, f"-({FAR})", "free + free", "FLOOR((age - 60) * 288230376151711744)"])
def test_a_key_of_the_first_step_stays_within_what_the_outer_question_takes_it_for(key):
    inner = f"SELECT patient, {key} AS k FROM visits GROUP BY patient, {key}"
    with pytest.raises(BoundError) as raised:
        world.plan(f"SELECT SUM(LEAST(GREATEST(k, 0), 1)) AS s FROM ({inner}) AS p")
    assert raised.value.code == "privacy.bound.overflow"
    assert raised.value.details["found"]


@pytest.mark.parametrize("factor", [2**55, 2**56 + 1])
@pytest.mark.parametrize("outer", ["GREATEST(k, 0)", "LEAST(k, 0)", "ABS(k)", "- k", "k - 1", "FLOOR(k / 3)"])
def test_the_widest_key_of_a_first_step_makes_no_row_fail(factor, outer):
    key = f"FLOOR((age - 60) * {factor})"
    inner = f"SELECT patient, {key} AS k FROM visits GROUP BY patient, {key}"
    plan = world.plan(f"SELECT SUM(LEAST(GREATEST({outer}, -1), 1)) AS s FROM ({inner}) AS p")
    for age in (-(2**63), 0, 59, 60, 61, 120, 2**63 - 1):
        assert run_plan(plan, [world.table(world.visits({1: [{"age": age}]}))], engine=ENGINE).cells


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT free, COUNT(*) AS n FROM visits GROUP BY free HAVING free > 5 ORDER BY free LIMIT 3",
        "SELECT free / 7 AS f, COUNT(*) AS n FROM visits GROUP BY f",
        "SELECT diag, seen, urgent, COUNT(*) AS n FROM visits GROUP BY ALL ORDER BY diag, seen, urgent",
    ],
)
@pytest.mark.parametrize(
    "row",
    [
        {"free": 2**53, "diag": '\ufffe\U0010ffff\0\1\u2028"\\', "seen": None, "urgent": None},
        {"free": 2**63 - 1, "diag": "x" * 5000, "seen": world.to_date(-719162), "urgent": False},
    ],
)
def test_whatever_a_key_is_its_release_can_be_written_and_replayed(sql, row):
    plan = world.plan(sql, loss=PrivacyLoss(Fraction(1), Fraction(1, 1000)))
    partials = run_plan(plan, [world.table(world.visits({unit: [row] for unit in range(200)}))], engine=ENGINE)
    check_written(plan, partials)


def test_a_count_under_the_largest_noise_can_be_written_and_replayed():
    plan = world.plan(
        "SELECT COUNT(*) AS n FROM visits", world.describe(rows=10**5), loss=PrivacyLoss(Fraction(1, 10**24))
    )
    assert plan.statistics[0].sigma > 2**55
    for _ in range(5):
        check_written(plan, run_plan(plan, [world.table(world.visits({1: [{}]}))], engine=ENGINE))


def check_written(plan, partials):
    measured = measure(plan, partials, OpenDpNoise())
    assert measured.answer.rows
    answer = parse_canonical_release(canonical_release_bytes(measured.answer.to_record()))
    verify_measured(plan, answer, parse_canonical(canonical_bytes(measured.sealed)))
