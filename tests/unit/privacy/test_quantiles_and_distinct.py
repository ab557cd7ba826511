"""Quantiles from one noisy tree and numbers of distinct values: right without noise, audited with it."""

import copy
import json
from fractions import Fraction

import numpy as np
import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import BoundError, ReplayMismatchError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.histogram import level_counts, levels_of, nodes_of
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.statistics import StatisticKind
from sandbox.privacy.vectors import gather, scatter, vector_width
from tests.support import privacy_world as world

ROWS = world.visits(
    {
        unit: [{"age": (unit * 37) % 100, "cost": (unit * 611) % 90_000, "district": world.DISTRICTS[unit % 2]}]
        for unit in range(2000)
    }
)
TABLE = world.table(ROWS)
MUCH = PrivacyLoss(Fraction(10**6), Fraction(1, 10**6))


def answer(sql, loss=MUCH, noise=None, table=TABLE, **asked):
    plan = world.plan(sql, world.describe(rows=1, groups=1, **asked), loss=loss)
    return plan, measure(plan, run_plan(plan, [table]), world.NoNoise() if noise is None else noise)


def test_quantiles_are_those_of_the_rows_up_to_a_bin():
    plan, measured = answer("SELECT MEDIAN(age) AS m, QUANTILE_CONT(cost, [0.05, 0.5, 0.9]) AS q FROM visits")
    ages, costs = [row["age"] for row in ROWS], [row["cost"] / 100 for row in ROWS]
    bin_width = plan.estimates[1].tree.width / 100
    found = dict(zip([c.name for c in measured.answer.columns], measured.answer.rows[0], strict=True))
    assert abs(found["m"] - np.quantile(ages, 0.5)) <= 1
    for name, fraction in (("q_05", 0.05), ("q_50", 0.5), ("q_90", 0.9)):
        assert abs(found[name] - np.quantile(costs, fraction)) <= bin_width
    for low, value, high in zip(
        measured.answer.lower[0], measured.answer.rows[0], measured.answer.upper[0], strict=True
    ):
        assert low <= value <= high


def test_several_quantiles_share_one_tree_and_its_price():
    one = world.plan("SELECT MEDIAN(cost) AS m FROM visits")
    many = world.plan(
        "SELECT MEDIAN(cost) AS m, QUANTILE_CONT(cost, [0.1, 0.9]) AS q, MEDIAN(cost) * 2 AS d FROM visits"
    )
    assert one.statistics == many.statistics
    assert one.sql == many.sql
    assert {s.statistic.kind for s in one.statistics} == {StatisticKind.NODES}
    assert sum(s.rho for s in one.statistics) == one.loss.rho
    both = world.plan("SELECT MEDIAN(cost) AS m, COUNT(*) AS n FROM visits")
    assert both.statistics[0].rho == both.loss.rho / 2, "a tree is one share, whatever its levels"


def test_every_form_of_a_median_is_the_same_question():
    forms = ["MEDIAN(age)", "QUANTILE_CONT(age, 0.5)", "PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY age)"]
    assert len({world.plan(f"SELECT {form} AS m FROM visits").digest() for form in forms}) == 1


def test_quantiles_by_public_and_by_private_keys():
    _, measured = answer("SELECT district, MEDIAN(age) AS m, COUNT(*) AS n FROM visits GROUP BY 1")
    assert [row[0] for row in measured.answer.rows] == [*world.DISTRICTS, None]
    assert measured.answer.rows[2][1:] == (None, 0)
    _, hidden = answer("SELECT diag, MEDIAN(age) AS m FROM visits GROUP BY 1")
    assert [row[0] for row in hidden.answer.rows] == ["D1"]
    assert 45 <= hidden.answer.rows[0][1] <= 55


def test_a_small_domain_has_exact_leaves_and_a_large_one_equal_bins():
    plan = world.plan("SELECT MEDIAN(age) AS m, MEDIAN(cost) AS c FROM visits")
    ages, costs = (estimate.tree for estimate in plan.estimates)
    assert (ages.width, ages.leaves, len(ages.starts)) == (1, 121, 4)
    assert (costs.width, costs.leaves, len(costs.starts)) == (98, 1021, 5)
    assert (levels_of(1), levels_of(4), levels_of(5), nodes_of(1024)) == (1, 1, 2, 1364)
    assert level_counts([1, 2, 3, 4, 5], 1) == [10, 5, 0, 0]


def test_many_cells_get_fewer_bins_and_too_many_are_refused():
    assert (
        world.plan("SELECT FLOOR(age / 10), MEDIAN(cost) AS m FROM visits GROUP BY 1").estimates[0].tree.leaves == 1021
    )
    assert world.plan("SELECT day, MEDIAN(cost) AS m FROM visits GROUP BY 1").estimates[0].tree.leaves <= 64
    with pytest.raises(BoundError, match="too many cells") as raised:
        world.plan("SELECT day, FLOOR(age / 10), MEDIAN(cost) AS m FROM visits GROUP BY 1, 2")
    assert raised.value.code == "privacy.bound.cells"


def test_distinct_values_of_a_public_domain_are_counted():
    plan, measured = answer(
        "SELECT COUNT(DISTINCT district) AS d, COUNT(DISTINCT age) AS a, COUNT(DISTINCT urgent) AS u FROM visits"
    )
    assert measured.answer.rows == ((2, len({row["age"] for row in ROWS}), 1),)
    assert [s.statistic.kind for s in plan.statistics] == [StatisticKind.DISTINCT] * 3
    assert [s.statistic.sensitivity_squared for s in plan.statistics] == [1, 1, 1]


def test_distinct_values_stand_beside_other_aggregates_in_any_order():
    _, measured = answer(
        "SELECT MEDIAN(age) AS m, COUNT(DISTINCT district) AS d, SUM(age) AS s, COUNT(*) AS n, AVG(cost) AS a FROM visits"
    )
    _, distinct, total, count, mean = measured.answer.rows[0]
    costs = [row["cost"] / 100 for row in ROWS]
    assert (distinct, total, count) == (2, sum(row["age"] for row in ROWS), 2000)
    assert mean == pytest.approx(np.mean(costs))


def test_values_outside_the_domain_count_for_nothing():
    rows = world.visits({1: [{"district": "nowhere"}], 2: [{"district": "east"}], 3: [{"district": None}]})
    _, measured = answer("SELECT COUNT(DISTINCT district) AS d FROM visits", table=world.table(rows))
    assert measured.answer.rows == ((1,),)


def test_vectors_survive_being_scattered_and_gathered():
    plan = world.plan("SELECT district, MEDIAN(age) AS m, COUNT(*) AS n, SUM(age) AS s FROM visits GROUP BY 1")
    partials = run_plan(plan, [TABLE])
    vectors = gather(plan, partials)
    assert {len(vector) for vector in vectors.values()} == {vector_width(plan)}
    assert scatter(plan, vectors).digest() == partials.digest()


@pytest.fixture(scope="module")
def released():
    plan, measured = answer(
        "SELECT district, MEDIAN(age) AS m, COUNT(DISTINCT age) AS d FROM visits GROUP BY 1", world.LOSS, OpenDpNoise()
    )
    return plan, json.loads(json.dumps(measured.answer.to_record())), json.loads(json.dumps(measured.sealed))


def test_an_auditor_accepts_what_is_true(released):
    verify_measured(*released)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r, s: s["cells"][0]["exact"].__setitem__(5, "9999"), "partials"),
        (lambda r, s: s["cells"][0]["noise"].__setitem__(7, "99999999"), "statistic 2, cell 2"),
        (lambda r, s: s["cells"][0]["noise"].pop(), "sealed"),
        (lambda r, s: r["rows"][0].__setitem__(1, 3.0), "rows, row 0, column `m`"),
        (lambda r, s: [c.__setitem__("noise", ["0"] * len(c["noise"])) for c in s["cells"]], None),
    ],
    ids=["bin", "large noise", "width", "value", "no noise"],
)
def test_an_auditor_finds_what_was_changed(released, change, place):
    plan, record, sealed = copy.deepcopy(released)
    change(record, sealed)
    with pytest.raises(ReplayMismatchError) as raised:
        verify_measured(plan, record, sealed)
    assert place is None or raised.value.details["place"] == place
