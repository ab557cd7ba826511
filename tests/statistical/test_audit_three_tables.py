"""Joins of three tables, audited as those of two are: worst neighbours, draws, canaries.

Neighbours are without one unit in one dataset, in two or in all three.  Both ends of what draws show are exact
(`proving.py`): 3 * ALARM for each question and ALARM for each canary.
"""

import itertools
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest

from sandbox.compute.run import run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from tests.support import audit
from tests.support import join_world as joins
from tests.support import privacy_world as world

pytestmark = pytest.mark.statistical
LOSS = PrivacyLoss(Fraction(1, 2))
TRIALS, MORE_TRIALS, CANARY_TRIALS = 11_000, 25_000, 3000
WHOLE = Fraction(99, 100)
CHAIN = "visits v JOIN claims c ON v.patient = c.insured JOIN drugs d ON d.holder = c.insured"

# The question, and the share of the claim that the worst neighbours must reach; see `test_audit_two_tables.py`.
QUESTIONS = {
    "count": (f"SELECT COUNT(*) AS n FROM {CHAIN}", WHOLE),
    "sum": (f"SELECT SUM(price) AS s FROM {CHAIN} WHERE v.age > c.age", WHOLE),
    "by group": (f"SELECT kind, COUNT(*) AS n, SUM(price) AS s FROM {CHAIN} GROUP BY kind", WHOLE),
    "units": (f"SELECT kind, COUNT(DISTINCT patient) AS u FROM {CHAIN} GROUP BY kind", WHOLE),
    "left": (f"SELECT COUNT(*) AS n, SUM(price) AS s FROM {CHAIN.replace('JOIN', 'LEFT JOIN')}", WHOLE / 4),
}


def joined(plan, *tables):
    return run_plan(plan, [joins.pair(plan, *map(world.visits, tables))], engine=audit.engine())


def worst_of(plan):
    """Return the worst of units with up to four rows in each table, with values at an end of their ranges."""
    others = {1: [{"age": 9}]}, {1: [{"paid": 3}]}, {1: [{"price": 2}]}
    found = []
    for rows, price, kinds in itertools.product(itertools.product((1, 4), repeat=3), (0, 20), (("a",), ("a", "b"))):
        own = (
            [{"age": 120}] * rows[0],
            [{"paid": 50, "kind": kinds[number % len(kinds)]} for number in range(rows[1])],
            [{"price": price}] * rows[2],
        )
        exact = {
            there: joined(plan, *({**o, **({999: r} if t else {})} for o, r, t in zip(others, own, there, strict=True)))
            for there in itertools.product((False, True), repeat=3)
        }
        whole = exact[True, True, True]
        found += [
            audit.Neighbours(rest, whole, audit.cost_of(plan, rest, whole), ())
            for there, rest in exact.items()
            if not all(there)
        ]
    return max(found, key=lambda pair: pair.cost)


def planned(name, rows=2):
    described = joins.bounded(rows=rows, groups=rows, other_rows=rows, other_groups=rows)
    return plan_query(joins.check(QUESTIONS[name][0], described), LOSS)


@cache
def worst(name):
    """Return the plan of a question, its worst neighbours and the share of the claim that they must reach."""
    plan = planned(name)
    return plan, worst_of(plan), QUESTIONS[name][1]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_worst_neighbours_of_three_tables_cost_at_most_the_claim_and_nothing_more_is_shown(name):
    plan, pair, share = worst(name)
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


@pytest.mark.parametrize("name", QUESTIONS)
def test_too_little_noise_over_three_tables_is_caught_by_its_draws(name):
    """Half the noise; and a quarter, where the neighbours are far from the claim."""
    plan, pair, share = worst(name)
    less = Fraction(1, 2 if share == WHOLE else 4)
    attack = audit.attack(plan, pair, CANARY_TRIALS, noise=float(less))
    assert attack.sure > float(plan.loss.rho)
    assert audit.audit(plan, pair, attack, LessNoise(less)) > float(plan.loss.rho)


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in {"left", "units"}])
def test_a_bound_that_is_dropped_after_a_join_of_three_is_caught(name):
    plan, wide = worst(name)[0], planned(name, rows=8)
    loose = replace(plan, sql=wide.sql, layout=wide.layout)
    assert (loose.sql, loose.layout) != (plan.sql, plan.layout)
    assert worst_of(loose).cost > plan.loss.rho
