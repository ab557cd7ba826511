"""Tables with a further kind of unit: what it reaches, in every form of question, and what it is refused."""

from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.errors import BoundError, QueryError
from sandbox.model.blocks_question import BlockOutput, BlocksQuestion
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import OtherUnit
from sandbox.privacy.blocks import plan_blocks
from sandbox.privacy.influence import Influence, influence_of
from tests.support import privacy_world as world
from tests.support.blocks_world import question as blocks_question


def describe(limit=5, rows=4, groups=2):
    return replace(
        world.describe(rows=rows, groups=groups), also_protects=(OtherUnit("person", "person_id", "自然人", limit),)
    )


@pytest.mark.parametrize(
    ("sql", "described", "expected"),
    [
        ("SELECT COUNT(*) FROM visits", describe(), Influence(10, 100, 10)),
        ("SELECT COUNT(*) FROM visits", describe(rows=40, groups=20), Influence(40, 100, 20)),
        ("SELECT COUNT(*) FROM visits GROUP BY district", describe(groups=4), Influence(10, 100, 10)),
        ("SELECT COUNT(*) FROM visits GROUP BY district", describe(), Influence(40, 400, 20)),
        (
            "SELECT AVG(n) FROM (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) p",
            describe(),
            Influence(10, 100, 10),
        ),
        (
            "SELECT SUM(n) FROM (SELECT patient, district, COUNT(*) AS n FROM visits GROUP BY 1, 2) p".replace(
                "1, 2", "patient, district"
            ),
            describe(),
            Influence(40, 400, 20),
        ),
    ],
)
def test_the_larger_reach_of_both_kinds_decides(sql, described, expected):
    assert influence_of(world.check(sql, described)) == expected


def test_every_statistic_takes_the_reach():
    sql = "SELECT COUNT(*) AS n, SUM(delta) AS s, MEDIAN(age) AS m, COUNT(DISTINCT district) AS d FROM visits"
    one, two = world.plan(sql, world.describe()), world.plan(sql, describe(limit=4))
    ratios = {
        Fraction(b.statistic.sensitivity_squared, a.statistic.sensitivity_squared)
        for a, b in zip(one.statistics, two.statistics, strict=True)
    }
    assert ratios == {Fraction(8**2, 4**2)}
    assert one.digest() != two.digest()


def test_blocks_hold_whole_units_of_one_kind_only():
    question = blocks_question()
    assert isinstance(question, BlocksQuestion)
    assert BlockOutput is not None
    with pytest.raises(BoundError, match="whole units of one kind") as caught:
        plan_blocks(question, {question.table: replace(describe(), table=question.table)})
    assert caught.value.code == "privacy.bound.units"


@pytest.mark.parametrize("bound", [(4, 2), (20, 20), (400, 400)])
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_the_first_groups_are_not_chosen_however_large_the_bound_is(bound, limit):
    """A person with two rows may stand at two enterprises of one group: its score moves by 2, not by 1."""
    sql = "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY 1 ORDER BY n DESC LIMIT 2"
    with pytest.raises(QueryError, match="protects two kinds") as caught:
        world.plan(f"{sql} SETTINGS top = 'noisy_max'", describe(limit, *bound))
    assert caught.value.code == "input.query.top"


def test_private_keys_and_rescaling_name_a_rewrite():
    loss = PrivacyLoss(Fraction(1), Fraction(1, 10**6))
    for sql in (
        "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag",
        "SELECT district, COUNT(*) AS n FROM visits GROUP BY district SETTINGS bounding = 'rescale'",
    ):
        with pytest.raises(BoundError, match="not proven for a table that protects several kinds") as caught:
            world.plan(sql, describe(), loss)
        assert (caught.value.code, bool(caught.value.hint)) == ("privacy.bound.units", True)
