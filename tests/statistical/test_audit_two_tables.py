"""Joins of two datasets and tables that protect two kinds of units, audited as single tables are: worst neighbours, draws.

Neighbours of a join are without one unit in a table or in both; of a table with two kinds, without one unit of either
kind.  Both ends of what draws show are exact (`proving.py`): 3 * ALARM for each question and ALARM for each canary.
"""

import itertools
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest

from sandbox.compute.run import run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import OtherUnit
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from tests.support import audit
from tests.support import join_world as joins
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
LOSS = PrivacyLoss(Fraction(1, 2))
TRIALS, MORE_TRIALS, CANARY_TRIALS = 11_000, 25_000, 3000
LIMIT = 3
WHOLE = Fraction(99, 100)

# The question, and the share of the claim that the worst neighbours must reach.  A left join is charged for rows that
# come and go at once, in two groups; a person who leaves makes place for as many rows of others, anywhere: where these
# are one sum, the claim has no pair.
JOINED = "visits v JOIN claims c ON v.patient = c.insured"
JOINS = {
    "count": (f"SELECT COUNT(*) AS n FROM {JOINED}", WHOLE),
    "sum": (f"SELECT SUM(paid) AS s FROM {JOINED} WHERE v.age > 20", WHOLE),
    "by group": (f"SELECT kind, COUNT(*) AS n, SUM(paid) AS s FROM {JOINED} GROUP BY kind", WHOLE),
    "units": (f"SELECT kind, COUNT(DISTINCT patient) AS u FROM {JOINED} GROUP BY kind", WHOLE),
    "left": (
        "SELECT COUNT(*) AS n, SUM(paid) AS s FROM visits v LEFT JOIN claims c ON v.patient = c.insured",
        WHOLE / 4,
    ),
}
TWO_KINDS = {
    "count": ("SELECT COUNT(*) AS n FROM visits", WHOLE / 4),
    "sum": ("SELECT SUM(delta) AS s FROM visits", WHOLE * 49 / 100),
    "by group": ("SELECT district, COUNT(*) AS n FROM visits GROUP BY district", WHOLE / 2),
    "mean": ("SELECT AVG(age) AS m FROM visits", WHOLE / 2),
    "units": ("SELECT COUNT(DISTINCT patient) AS u FROM visits", WHOLE / 4),
}


def pair_of(plan, whole, rest):
    return audit.Neighbours(rest, whole, audit.cost_of(plan, rest, whole), ())


def joined(plan, visits, claims):
    return run_plan(plan, [joins.pair(plan, world.visits(visits), world.visits(claims))], engine=audit.engine())


def worst_of_join(plan):
    """Return the worst of units that visit and claim up to six times, with values at an end of their ranges."""
    others = {unit: [{"age": 30}] for unit in range(3)}, {unit: [{"paid": 3}] for unit in range(3)}
    found = []
    for visits, claims, paid, kinds in itertools.product((1, 2, 6), (1, 2, 6), (0, 50), (("a",), ("a", "b"))):
        own = [{"age": 120}] * visits, [{"paid": paid, "kind": kinds[i % len(kinds)]} for i in range(claims)]
        whole, *rests = (
            joined(
                plan,
                *(
                    {**other, **({999: rows} if there else {})}
                    for other, rows, there in zip(others, own, kept, strict=True)
                ),
            )
            for kept in ((True, True), (False, True), (True, False), (False, False))
        )
        found += [pair_of(plan, whole, rest) for rest in rests]
    return max(found, key=lambda pair: pair.cost)


def ranked(rows):
    """Return rows ranked anew within their units, in the order that they have."""
    ranks = defaultdict(int)
    made = []
    for row in rows:
        ranks[row["_unit"]] += 1
        made.append({**row, "_rank": ranks[row["_unit"]]})
    return made


def worst_of_two_kinds(plan, held=LIMIT):
    """Return the worst of one primary unit, or of one person whose rows stand first in several units or in one.

    Where the person leaves, rows of others that the bound had left out take the places; so others hold other values.
    """
    ends = [{"age": 120, "delta": -150, "district": "east"}, {"age": 0, "delta": 60, "district": "west"}]
    found = []
    for mine, others, spread, full in itertools.product(ends, ends, (1, held), (0, 1, 5)):
        own = [{"_unit": place % spread, "person": 1, **mine} for place in range(held)]
        rest = [{"_unit": unit, "person": 100 + 10 * unit + i, **others} for unit in range(spread) for i in range(full)]
        rest += [{"_unit": 50, "person": 999, **others}]
        one = [{"_unit": 77, "person": 200 + i, **mine} for i in range(5)]
        base = exact(plan, rest)
        found += [pair_of(plan, exact(plan, [*extra, *rest]), base) for extra in (own, one)]
    return max(found, key=lambda pair: pair.cost)


def exact(plan, rows):
    plain = [{**world.visits({0: [{}]})[0], **row} for row in rows]
    return run_plan(plan, [world.table(ranked(plain))], engine=audit.engine())


@cache
def worst(kind, name):
    """Return the plan of a question and its worst neighbours."""
    if kind == "join":
        described = joins.bounded(rows=2, groups=2, other_rows=2, other_groups=2)
        plan = plan_query(joins.check(JOINS[name][0], described), LOSS)
        return plan, worst_of_join(plan), JOINS[name][1]
    described = replace(
        world.describe(rows=2, groups=2), also_protects=(OtherUnit("person", "person_id", "自然人", LIMIT),)
    )
    plan = world.plan(TWO_KINDS[name][0], described, loss=LOSS)
    return plan, worst_of_two_kinds(plan), TWO_KINDS[name][1]


CASES = [*itertools.product(["join"], JOINS), *itertools.product(["two kinds"], TWO_KINDS)]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_worst_neighbours_cost_at_most_the_claim_and_nothing_more_is_shown(kind, name):
    plan, pair, share = worst(kind, name)
    assert share * plan.loss.rho <= pair.cost <= plan.loss.rho
    attack = audit.attack(plan, pair, TRIALS if share == WHOLE else MORE_TRIALS)
    assert attack.sure > float(pair.cost) / 6, "the attacker of this audit is too weak to mean anything"
    assert attack.sure <= audit.audit(plan, pair, attack) <= float(plan.loss.rho)


class LessNoise(OpenDpNoise):
    """A canary: a share of the noise that was planned."""

    def __init__(self, share):
        self.share = share

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        less = sigma * self.share
        return super().gaussian(values, sigma=less, sensitivity_squared=sensitivity_squared, rho=rho / self.share**2)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_too_little_noise_is_caught_by_its_draws(kind, name):
    """Half the noise; and a quarter, where the neighbours are far from the claim."""
    plan, pair, share = worst(kind, name)
    less = Fraction(1, 2 if share == WHOLE else 4)
    attack = audit.attack(plan, pair, CANARY_TRIALS, noise=float(less))
    assert attack.sure > float(plan.loss.rho)
    assert audit.audit(plan, pair, attack, LessNoise(less)) > float(plan.loss.rho)


@pytest.mark.parametrize("name", [name for name in JOINS if name != "left"])
def test_a_bound_that_is_dropped_after_a_join_is_caught(name):
    plan, _, _ = worst("join", name)
    described = joins.bounded(rows=8, groups=8, other_rows=8, other_groups=8)
    wide = plan_query(joins.check(JOINS[name][0], described), LOSS)
    loose = replace(plan, sql=wide.sql, layout=wide.layout)
    assert (loose.sql, loose.layout) != (plan.sql, plan.layout)
    moved = worst_of_join(loose).cost
    # Each patient counts once in each of two groups, whatever the bound on rows.
    assert moved > plan.loss.rho or (name == "units" and moved == worst("join", name)[1].cost)


@pytest.mark.parametrize("name", TWO_KINDS)
def test_a_person_with_more_rows_than_the_limit_is_caught(name):
    plan, _, _ = worst("two kinds", name)
    found = worst_of_two_kinds(plan, held=3 * LIMIT)
    assert found.cost > plan.loss.rho
