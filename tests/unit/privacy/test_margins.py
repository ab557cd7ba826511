"""Totals beside their cells: measured at each level, and made to add up by least squares with the errors that then hold."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import ReplayMismatchError
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import ColumnRole
from sandbox.privacy.keys import TOTAL
from sandbox.privacy.margins import consistent, total_keys, with_totals
from sandbox.privacy.measure import measure, public_keys, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quote import quote_plan
from tests.support import privacy_world as world
from tests.support.privacy_strategies import tables

ENGINE = open_engine(1)

SQL = (
    "SELECT district, age > 40 AS old, COUNT(*) AS n, SUM(cost) AS cost, AVG(age) AS age FROM visits "
    "WHERE district IS NOT NULL GROUP BY ROLLUP (district, old)"
)
ROWS = world.visits(
    {
        u: [
            {"district": world.DISTRICTS[u % 3], "age": (u * 37 + r) % 121, "cost": u * 13 % 5000}
            for r in range(1 + u % 2)
        ]
        for u in range(900)
    }
)
TABLE = world.table(ROWS)


def answered(sql, noise=None, loss=world.LOSS):
    plan = world.plan(sql, loss=loss)
    return plan, measure(plan, run_plan(plan, [TABLE]), noise or OpenDpNoise())


def test_every_level_stands_in_the_answer_and_its_values_are_those_of_questions_of_their_own():
    _, found = answered(SQL, world.NoNoise())
    rows = found.answer.rows
    assert len(rows) == 3 * 2 + 3 + 1
    assert [row[:2] for row in rows[:4]] == [("east", "false"), ("east", "true"), ("east", TOTAL), ("west", "false")]
    assert rows[-1][:2] == (TOTAL, TOTAL)
    apart = "SELECT district, COUNT(*) AS n, SUM(cost) AS cost, AVG(age) AS age FROM visits WHERE district IS NOT NULL GROUP BY 1"
    _, by_district = answered(apart, world.NoNoise())
    assert [row[2:] for row in rows if row[1] == TOTAL][:3] == [row[1:] for row in by_district.answer.rows]
    _, whole = answered(
        "SELECT COUNT(*) AS n, SUM(cost) AS cost, AVG(age) AS age FROM visits WHERE district IS NOT NULL",
        world.NoNoise(),
    )
    assert rows[-1][2:] == whole.answer.rows[0]


def test_each_level_pays_its_part_so_that_all_cost_what_one_question_costs():
    rolled, flat = world.plan(SQL), world.plan(SQL.replace("ROLLUP (district, old)", "district, age > 40"))
    assert rolled.loss == flat.loss
    assert sum(p.rho for p in rolled.statistics) <= rolled.loss.rho
    for one, other in zip(rolled.statistics, flat.statistics, strict=True):
        assert one.statistic.sensitivity_squared == 3 * other.statistic.sensitivity_squared
        assert float(one.sigma / other.sigma) == pytest.approx(math.sqrt(3))


def test_no_unit_moves_all_levels_together_by_more_than_the_sensitivity():
    """All rows of one unit taken away, at every bound: the squares over all cells and totals stay within the claim."""
    plan = world.plan(SQL)
    without = [row for row in ROWS if row["_unit"] != 7]
    extra = world.visits({7: [{"district": "east", "age": 120, "cost": 100_000}] * 6})
    one, other = (run_plan(plan, [world.table(rows)]).cells for rows in (without + extra, without))
    one, other = with_totals(one), with_totals(other)
    keys = public_keys(plan)
    for index, planned in enumerate(plan.statistics):
        moved = sum((one.get(k, (0,) * 9)[index] - other.get(k, (0,) * 9)[index]) ** 2 for k in keys)
        assert 0 < moved <= planned.statistic.sensitivity_squared
        if planned.statistic.kind.value == "rows":
            assert moved == planned.statistic.sensitivity_squared, "and the claim is attained"


def test_consistent_cells_add_up_and_the_answer_says_so():
    _, found = answered(f"{SQL} SETTINGS consistent = TRUE")
    values = {row[:2]: row[2:] for row in found.answer.rows}
    for place in range(2):
        for district in world.DISTRICTS:
            cells = sum(values[district, old][place] for old in ("false", "true"))
            assert cells == pytest.approx(values[district, TOTAL][place], rel=1e-9)
        districts = sum(values[district, TOTAL][place] for district in world.DISTRICTS)
        assert districts == pytest.approx(values[TOTAL, TOTAL][place], rel=1e-9)
    assert any("weighted least squares" in note for note in found.answer.notes)
    assert any("(total)" in note for note in found.answer.notes)
    _, plain = answered(SQL)
    assert not any("least squares" in note for note in plain.answer.notes)


@pytest.mark.parametrize("by", ["CUBE (district, old)", "GROUPING SETS ((district, old), (district), (old))"])
def test_the_margins_of_a_cube_add_up_each_way(by):
    sql = f"{SQL.replace('ROLLUP (district, old)', by)} SETTINGS consistent = TRUE"
    plan, found = answered(sql)
    values = {row[:2]: row[2:] for row in found.answer.rows}
    for place in range(2):
        for old in ("false", "true"):
            cells = sum(values[district, old][place] for district in world.DISTRICTS)
            assert cells == pytest.approx(values[TOTAL, old][place], rel=1e-9)
        for district in world.DISTRICTS:
            cells = sum(values[district, old][place] for old in ("false", "true"))
            assert cells == pytest.approx(values[district, TOTAL][place], rel=1e-9)
    verify_measured(plan, found.answer.to_record(), found.sealed)
    errors = dict(zip(values, (row[2] for row in found.answer.standard_errors), strict=True))
    _, plain = answered(sql.replace(" SETTINGS consistent = TRUE", ""))
    for row, error in zip(plain.answer.rows, plain.answer.standard_errors, strict=True):
        assert errors[row[:2]] < error[2]


def test_no_standard_error_grows_by_it_and_counts_are_no_longer_whole():
    _, plain = answered(SQL)
    _, better = answered(f"{SQL} SETTINGS consistent = TRUE")
    for one, other in zip(plain.answer.standard_errors, better.answer.standard_errors, strict=True):
        assert other[2] < one[2]
        assert other[3] < one[3]
    assert [column.kind.value for column in better.answer.columns] == ["text", "text", "number", "number", "number"]


CELLS = (0, 1, 2)
LEVELS = {
    "rollup": (CELLS, (0, 1), (0,), ()),
    "cube": (CELLS, (0, 1), (0, 2), (1, 2), (0,), (1,), (2,), ()),
    "margins that share no key": (CELLS, (0,), (1,), (2,)),
    "margins that overlap": (CELLS, (0, 2), (1, 2)),
    "the cells alone": (CELLS,),
    "all rows": (CELLS, ()),
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_it_is_the_least_squares_fit_with_the_covariance_that_belongs_to_it(levels):
    branches = [3, 2, 4]
    domains = [[str(place) for place in range(branch)] for branch in branches]
    leaves = list(itertools.product(*domains))
    keys = [*leaves, *total_keys(domains, levels)]
    design = np.array(
        [[all(k in (part, TOTAL) for k, part in zip(key, leaf, strict=True)) for leaf in leaves] for key in keys], float
    )
    noisy = np.random.default_rng(2).integers(-50, 50, len(keys))
    fitted = design @ np.linalg.solve(design.T @ design, design.T @ noisy)
    errors = np.sqrt(np.diag(design @ np.linalg.inv(design.T @ design) @ design.T))
    found = consistent([(key, [int(value)], [Fraction(1)]) for key, value in zip(keys, noisy, strict=True)], branches)
    assert [key for key, _, _ in found] == keys
    assert [float(values[0]) for _, values, _ in found] == pytest.approx(fitted.tolist(), abs=1e-9)
    assert [float(scales[0]) for _, _, scales in found] == pytest.approx(errors.tolist(), rel=1e-12)


@given(st.data())
def test_what_any_levels_are_fitted_to_adds_up_and_no_scale_grows(data):
    branches = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    places = tuple(range(len(branches)))
    some = st.lists(st.sets(st.sampled_from(places)).map(lambda one: tuple(sorted(one))), max_size=5)
    levels = tuple(dict.fromkeys([places, *data.draw(some)]))
    domains = [[str(place) for place in range(branch)] for branch in branches]
    keys = [*itertools.product(*domains), *total_keys(domains, levels)]
    amounts = data.draw(st.lists(st.integers(-(2**62), 2**62), min_size=len(keys), max_size=len(keys)))
    found = consistent([(key, [each], [Fraction(7)]) for key, each in zip(keys, amounts, strict=True)], branches)
    values = {key: tuple(amount) for key, amount, _ in found}
    assert with_totals({key: values[key] for key in keys if TOTAL not in key}, levels) == values
    assert all(scale[0] <= Fraction(7) * (1 + Fraction(1, 10**12)) for _, _, scale in found)
    if len(levels) == 1:
        assert [values[key][0] for key in keys] == amounts


def test_what_already_adds_up_stays_exactly_as_it_is():
    cells = {("a", "x"): (1, 5), ("a", "y"): (2, 6), ("b", "x"): (3, 7), ("b", "y"): (4, 8)}
    whole = with_totals(cells)
    found = consistent([(key, amounts, [Fraction(1), Fraction(2)]) for key, amounts in whole.items()], [2, 2])
    assert {key: tuple(values) for key, values, _ in found} == whole


@pytest.mark.parametrize("setting", ["", " SETTINGS consistent = TRUE", " SETTINGS consistent = TRUE, suppress = 0.5"])
def test_an_auditor_finds_the_same_answer_and_sees_totals_that_do_not_add_up(setting):
    plan, found = answered(SQL + setting)
    verify_measured(plan, found.answer.to_record(), found.sealed)
    bent = [dict(cell) for cell in found.sealed["cells"]]
    bent[-1] = {**bent[-1], "exact": [str(int(bent[-1]["exact"][0]) + 1), *bent[-1]["exact"][1:]]}
    with pytest.raises(ReplayMismatchError, match="totals are not the sums of their cells"):
        verify_measured(plan, found.answer.to_record(), {**found.sealed, "cells": bent})
    cells = [[*row] for row in found.answer.rows]
    cells[0][2] = 1.5
    with pytest.raises(ReplayMismatchError):
        verify_measured(plan, replace(found.answer, rows=tuple(map(tuple, cells))).to_record(), found.sealed)


def test_numbers_as_keys_having_order_and_limit_go_with_totals():
    sql = (
        "SELECT FLOOR(age / 40) AS band, COUNT(*) AS n FROM visits GROUP BY ROLLUP (FLOOR(age / 40)) "
        "HAVING COUNT(*) > 100 ORDER BY n DESC LIMIT 2"
    )
    _, found = answered(sql, world.NoNoise())
    assert found.answer.rows[0][0] == TOTAL
    assert found.answer.rows[1][0] in {"0", "1", "2"}
    assert found.answer.columns[0].kind.value == "text"
    _, few = answered(sql.replace("COUNT(*) > 100", "band >= 1"), world.NoNoise())
    assert all(row[0] != TOTAL for row in few.answer.rows), "a total has no number to compare"


CUBE = SQL.replace("ROLLUP (district, old)", "CUBE (district, old)")
SETS = SQL.replace("ROLLUP (district, old)", "GROUPING SETS ((district, old), (old), (old))")


@pytest.mark.parametrize(
    ("sql", "levels"), [(CUBE, ((0, 1), (0,), (1,), ())), (SETS, ((0, 1), (1,))), (SQL, ((0, 1), (0,), ()))]
)
def test_every_set_of_keys_is_a_level_with_the_values_of_a_question_of_its_own(sql, levels):
    plan, found = answered(sql, world.NoNoise())
    assert plan.levels == levels
    keys = ("district", "age > 40")
    for level in levels:
        kept = [f"{keys[place]} AS k{place}" for place in level]
        shown = ", ".join([*kept, "COUNT(*) AS n, SUM(cost) AS cost, AVG(age) AS age"])
        apart = f"SELECT {shown} FROM visits WHERE district IS NOT NULL"
        apart += f" GROUP BY {', '.join(str(i + 1) for i in range(len(level)))}" if level else ""
        _, alone = answered(apart, world.NoNoise())
        own = [
            row
            for row in found.answer.rows
            if [row[place] == TOTAL for place in (0, 1)] == [place not in level for place in (0, 1)]
        ]
        assert [tuple(row[place] for place in level) + row[2:] for row in own] == list(alone.answer.rows)
    flat = world.plan(sql[: sql.index("GROUP BY")] + "GROUP BY 1, 2")
    for one, other in zip(plan.statistics, flat.statistics, strict=True):
        assert one.statistic.sensitivity_squared == len(levels) * other.statistic.sensitivity_squared
    _, noisy = answered(sql)
    verify_measured(plan, noisy.answer.to_record(), noisy.sealed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables(), st.sampled_from(["CUBE (u, d)", "GROUPING SETS ((d), (d, u), ())", "CUBE (d, u, o)"]), st.integers(1, 4)
)
def test_no_unit_moves_all_levels_together_further_than_claimed(rows, grouping, most):
    sql = (
        "SELECT COALESCE(urgent, FALSE) AS u, COALESCE(district, 'none') AS d, age > 40 AS o, COUNT(*) AS n, "
        f"SUM(delta) AS s FROM visits GROUP BY {grouping}"
    )
    if " o" not in grouping:
        sql = sql.replace("age > 40 AS o, ", "")
    plan = world.plan(sql, world.describe(rows=most, groups=most))

    def levels(kept):
        return with_totals(run_plan(plan, [world.table(kept)], engine=ENGINE).cells, plan.levels)

    whole = levels(rows)
    assert set(whole) <= set(public_keys(plan))
    for unit in {row["_unit"] for row in rows}:
        rest = levels([row for row in rows if row["_unit"] != unit])
        for index, planned in enumerate(plan.statistics):
            moved = sum((whole[key][index] - rest.get(key, (0, 0))[index]) ** 2 for key in whole)
            assert moved <= planned.statistic.sensitivity_squared


def test_suppression_hides_cells_and_leaves_the_others():
    _, found = answered(f"{SQL} SETTINGS consistent = TRUE, suppress = 0.2", loss=PrivacyLoss(Fraction(1, 20)))
    hidden = [row for row in found.answer.rows if row[2] is None]
    assert found.answer.rows[-1][2] is not None
    assert all(row[0] != TOTAL for row in hidden)


def test_a_quote_knows_of_the_levels():
    rolled, flat = (
        quote_plan(world.plan(sql)) for sql in (SQL, SQL.replace("ROLLUP (district, old)", "district, age > 40"))
    )
    assert rolled.statistics[0].standard_error > flat.statistics[0].standard_error * 1.7
    assert [column.role for column in answered(SQL, world.NoNoise())[1].answer.columns[:2]] == [ColumnRole.KEY] * 2
