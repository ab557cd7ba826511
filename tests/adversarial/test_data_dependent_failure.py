"""Attack: make a question fail for one row that may be in the table.  A failed job tells for certain what it names."""

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError
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
