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
from sandbox.privacy.mechanism import threshold_loss
from sandbox.privacy.notes import unit_notes
from tests.support import join_world as joins
from tests.support import privacy_world as world
from tests.support.blocks_world import question as blocks_question


def describe(limit=5, rows=4, groups=2):
    return replace(
        world.describe(rows=rows, groups=groups), also_protects=(OtherUnit("person", "person_id", "自然人", limit),)
    )


@pytest.mark.parametrize(
    ("sql", "described", "expected"),
    [
        ("SELECT COUNT(*) FROM visits", describe(), Influence(10, 10, 100, 10, 5)),
        ("SELECT COUNT(*) FROM visits", describe(rows=40, groups=20), Influence(40, 10, 100, 20, 5)),
        ("SELECT COUNT(*) FROM visits GROUP BY district", describe(groups=4), Influence(10, 10, 100, 10, 5)),
        ("SELECT COUNT(*) FROM visits GROUP BY district", describe(), Influence(40, 20, 400, 20, 5)),
        (
            "SELECT AVG(n) FROM (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient) p",
            describe(),
            Influence(10, 10, 100, 10, 5),
        ),
        (
            "SELECT SUM(n) FROM (SELECT patient, district, COUNT(*) AS n FROM visits GROUP BY 1, 2) p".replace(
                "1, 2", "patient, district"
            ),
            describe(),
            Influence(40, 20, 400, 20, 5),
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


def test_private_keys_cover_a_person_who_is_the_only_reason_for_several_keys():
    """Neither one group of K enterprises that are all one person's, nor 2K groups of one, is shown too often."""
    loss = PrivacyLoss(Fraction(1), Fraction(1, 10**6))
    sql = "SELECT diag, COUNT(*) AS n FROM visits GROUP BY diag"
    one = world.plan(sql, world.describe(rows=4, groups=4), loss).threshold
    two = world.plan(sql, describe(groups=4), loss).threshold
    assert (one.distances, two.distances) == ((4, 2, 1), (10, 10, 5))
    assert world.plan(sql, describe(groups=2), loss).threshold.distances == (20, 20, 5)
    assert two.value > one.value + 4
    planned = world.plan(sql, describe(groups=4), loss).statistics[0]
    spent = threshold_loss(planned.sigma, two)
    assert spent[0] <= planned.rho
    assert spent[1] <= loss.delta


def test_rescaled_rows_of_all_enterprises_that_a_person_reaches_are_paid_for():
    sql = "SELECT COUNT(*) AS n, SUM(delta) AS s FROM visits SETTINGS bounding = 'rescale'"
    one, two = world.plan(sql, world.describe(rows=4)), world.plan(sql, describe(limit=3))
    for a, b in zip(one.statistics, two.statistics, strict=True):
        steps = Fraction(b.statistic.fine, a.statistic.fine) ** 2
        assert b.statistic.sensitivity_squared == a.statistic.sensitivity_squared * steps * (2 * 3) ** 2
    # A unit is held to what its own rows may bring, as before.
    assert two.sql == one.sql


THREE = "visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = v.patient"


@pytest.mark.parametrize(
    ("sql", "limits", "expected"),
    [
        (
            "SELECT COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured",
            (5, None, None),
            (30, 30, 100 * 9, 30, 5),
        ),
        (
            "SELECT COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured",
            (5, 2, None),
            (42, 42, 196 * 9, 42, 7),
        ),
        (
            "SELECT COUNT(*) AS n FROM visits v LEFT JOIN claims c ON v.patient = c.insured",
            (None, 1, None),
            (6, 6, 36, 6, 1),
        ),
        ("SELECT COUNT(*) AS n FROM visits v JOIN visits w USING (patient)", (5, None, None), (30, 30, 100 * 9, 30, 5)),
        (f"SELECT COUNT(*) AS n FROM {THREE}", (5, 2, 1), (48, 48, 48**2, 48, 8)),
        (
            f"SELECT COUNT(*) AS n FROM {THREE} JOIN visits w ON w.patient = c.insured",
            (5, None, 1),
            (36, 36, 36**2, 36, 6),
        ),
        (f"SELECT COUNT(*) AS n FROM {THREE.replace('JOIN', 'LEFT JOIN')}", (None, 1, 2), (18, 18, 18**2, 18, 3)),
        (
            (
                "WITH p AS (SELECT patient, COUNT(*) AS n FROM visits GROUP BY patient), "
                "q AS (SELECT insured, COUNT(*) AS m FROM claims GROUP BY insured) "
                "SELECT SUM(n + m) AS s FROM p JOIN q ON p.patient = q.insured"
            ),
            (5, 2, None),
            (14, 14, 14**2, 14, 7),
        ),
    ],
)
def test_a_join_reaches_all_that_the_touched_units_bring(sql, limits, expected):
    described = joins.bounded(rows=3, groups=3, other_rows=3, other_groups=3)
    for name, limit in zip(described, limits, strict=True):
        if limit is not None:
            other = OtherUnit("person", f"{name}_person", "自然人", limit)
            described[name] = replace(described[name], also_protects=(other,))
    query = joins.check(sql, described)
    assert influence_of(query) == Influence(*expected)
    plan = joins.plan(sql, described)
    total = expected[4]
    assert f"the noise covers one person with at most {total} rows too" in unit_notes(plan)


@pytest.mark.parametrize("column", ["visits_person", "claims_person", "v.visits_person", "c.claims_person"])
def test_no_further_unit_of_either_side_is_read(column):
    described = joins.bounded(rows=3, groups=3, other_rows=3, other_groups=3)
    for name in described:
        other = OtherUnit("person", f"{name}_person", "自然人", 2)
        described[name] = replace(described[name], also_protects=(other,))
    with pytest.raises(QueryError) as caught:
        joins.check(
            f"SELECT COUNT(*) AS n FROM visits v JOIN claims c ON v.patient = c.insured WHERE {column} = 'x'", described
        )
    assert caught.value.code == "input.query.unit_column"
