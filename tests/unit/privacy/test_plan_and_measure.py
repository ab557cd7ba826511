"""Plans, answers and what an auditor finds in them."""

import copy
import dataclasses
import json
from fractions import Fraction

import opendp.prelude as dp
import pytest

from sandbox.compute.run import run_plan
from sandbox.errors import BoundError, ReplayMismatchError
from sandbox.model.canonical import canonical_bytes, canonical_release_bytes
from sandbox.model.job import CellKind
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer, ColumnRole
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.mechanism import gaussian_measurement, sqrt_up, threshold_measurement
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.statistics import StatisticKind
from tests.support import privacy_world as world

ROWS = world.visits(
    {
        unit: [
            {
                "age": 20 + unit % 60,
                "cost": None if unit % 7 == 0 else 1000 * (unit % 50),
                "district": world.DISTRICTS[unit % 3],
            }
            for _ in range(1 + unit % 6)
        ]
        for unit in range(300)
    }
)
TABLE = world.table(ROWS)


def answer(sql, noise=None, **bound):
    plan = world.plan(sql, world.describe(**bound))
    return plan, measure(plan, run_plan(plan, [TABLE]), world.NoNoise() if noise is None else noise)


def test_without_noise_and_with_a_wide_bound_the_answer_is_the_plain_one():
    _, measured = answer(
        "SELECT district, COUNT(*) AS n, COUNT(cost) AS c, AVG(cost) AS mean, SUM(cost) AS total, AVG(age) AS age, "
        "COUNT(DISTINCT patient) AS u FROM visits WHERE age >= 30 GROUP BY district",
        rows=50,
        groups=50,
    )
    kept = [row for row in ROWS if row["age"] >= 30]
    for district, n, c, mean, total, age, units in measured.answer.rows:
        own = [row for row in kept if row["district"] == district]
        costs = [row["cost"] / 100 for row in own if row["cost"] is not None]
        assert (n, c, units) == (len(own), len(costs), len({row["_unit"] for row in own}))
        assert total == pytest.approx(sum(costs))
        assert mean == (pytest.approx(sum(costs) / len(costs)) if costs else None)
        assert age == (pytest.approx(sum(row["age"] for row in own) / len(own)) if own else None)
    assert [row[0] for row in measured.answer.rows] == [*world.DISTRICTS, None]


def test_each_unit_counts_with_at_most_the_rows_of_the_bound():
    _, measured = answer("SELECT COUNT(*) FROM visits", rows=2, groups=1)
    assert measured.answer.rows == ((sum(min(2, 1 + unit % 6) for unit in range(300)),),)


def test_a_where_is_applied_before_the_bound_so_that_no_match_is_lost():
    rows = world.visits({1: [{"age": 90}, {"age": 91}, {"age": 5}]})
    plan = world.plan("SELECT SUM(age) FROM visits WHERE age < 50", world.describe(rows=1, groups=1))
    assert run_plan(plan, [world.table(rows)]).cells == {(): (5,)}


def test_a_group_cap_keeps_the_groups_of_the_lowest_ranks():
    ages = [55, 15, 55, 25, 15, 35]
    rows = world.visits({1: [{"age": age} for age in ages]})
    plan = world.plan(
        "SELECT FLOOR(age / 10) d, COUNT(*), COUNT(DISTINCT patient) FROM visits GROUP BY 1",
        world.describe(rows=4, groups=2),
    )
    assert run_plan(plan, [world.table(rows)]).cells == {("5",): (2, 1), ("1",): (2, 1)}
    units = world.plan(
        "SELECT FLOOR(age / 10) d, COUNT(DISTINCT patient) FROM visits GROUP BY 1", world.describe(rows=4, groups=2)
    )
    assert run_plan(units, [world.table(rows)]).cells == {("5",): (1,), ("1",): (1,)}


def test_statistics_are_shared_where_they_are_the_same_number():
    def kinds(sql, **bound):
        return [s.statistic.kind.value for s in world.plan(sql, world.describe(**bound)).statistics]

    assert kinds("SELECT COUNT(*), AVG(age), SUM(age) FROM visits") == ["rows", "sum"]
    assert kinds("SELECT COUNT(*), AVG(cost) FROM visits") == ["rows", "rows", "sum"]
    assert kinds("SELECT COUNT(*), AVG(cost) FROM visits WHERE cost > 3") == ["rows", "sum"]
    assert kinds("SELECT AVG(cost), AVG(cost * age), COUNT(cost) FROM visits") == ["rows", "sum", "sum"]
    assert kinds("SELECT COUNT(*), COUNT(DISTINCT patient) FROM visits", rows=1, groups=1) == ["units"]
    assert kinds("SELECT diag, COUNT(*) FROM visits GROUP BY 1") == ["units", "rows"]
    assert kinds("SELECT diag, COUNT(*) FROM visits GROUP BY 1", rows=1, groups=1) == ["units"]


def test_sensitivities_are_exact():
    plan = world.plan("SELECT COUNT(*), SUM(delta), AVG(age) FROM visits", world.describe(rows=3, groups=2))
    claimed = {s.statistic.kind: s.statistic.sensitivity_squared for s in plan.statistics}
    assert claimed[StatisticKind.ROWS] == 9
    squares = [s.statistic.sensitivity_squared for s in plan.statistics if s.statistic.kind is StatisticKind.SUM]
    # delta: -150..60 thirds, centred on -45: 105; age: 0..120, centred on 60.
    assert squares == [(3 * 105) ** 2, (3 * 60) ** 2]
    alone = world.plan("SELECT SUM(delta) FROM visits", world.describe(rows=3, groups=2))
    assert alone.statistics[0].statistic.sensitivity_squared == (3 * 150) ** 2
    units = world.plan(
        "SELECT district, COUNT(DISTINCT patient) FROM visits GROUP BY 1", world.describe(rows=3, groups=2)
    )
    assert units.statistics[0].statistic.sensitivity_squared == 2


def test_scales_are_rounded_up_and_the_shares_never_exceed_the_loss():
    plan = world.plan("SELECT diag, COUNT(*), AVG(cost), SUM(age) FROM visits GROUP BY 1")
    assert sum(s.rho for s in plan.statistics) <= plan.loss.rho
    for planned in plan.statistics[1:]:
        square = planned.statistic.sensitivity_squared
        assert planned.sigma**2 * 2 * planned.rho >= square
        assert Fraction(gaussian_measurement(float(planned.sigma)).map(sqrt_up(Fraction(square)))) <= planned.rho
        assert planned.sigma**2 * 2 * planned.rho <= square * Fraction(1_000_001, 1_000_000)
    first, threshold = plan.statistics[0], plan.threshold
    rho, delta = threshold_measurement(float(first.sigma), threshold.value - 1).map((2, 2, 1))
    assert rho <= first.rho
    assert delta <= plan.loss.delta
    _, looser = threshold_measurement(float(first.sigma), threshold.value - 2).map((2, 2, 1))
    assert looser > plan.loss.delta


def test_opendps_own_composition_of_the_plan_is_within_the_loss():
    plan = world.plan("SELECT COUNT(*), AVG(cost), SUM(age) FROM visits")
    total = sum(
        Fraction(gaussian_measurement(float(s.sigma)).map(sqrt_up(Fraction(s.statistic.sensitivity_squared))))
        for s in plan.statistics
    )
    assert total <= plan.loss.rho
    curve = dp.c.make_zCDP_to_approxDP(gaussian_measurement(1.0)).map(float(sqrt_up(2 * total)))
    assert curve.epsilon(5e-7) <= 1.000001


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(BoundError, match="no loss to spend") as raised:
        world.plan("SELECT COUNT(*) FROM visits", loss=PrivacyLoss(Fraction(0)))
    assert raised.value.code == "privacy.bound.loss"
    with pytest.raises(BoundError, match="beyond 58 bits"):
        world.plan("SELECT COUNT(*) FROM visits", loss=PrivacyLoss(Fraction(1, 10**40)))


@pytest.mark.parametrize(
    ("delta", "says"), [(Fraction(0), "need a loss with delta"), (Fraction(1, 10**30), "too small")]
)
def test_private_keys_need_a_delta(delta, says):
    with pytest.raises(BoundError, match=says) as raised:
        world.plan("SELECT diag, COUNT(*) FROM visits GROUP BY 1", loss=PrivacyLoss(Fraction(1, 10), delta))
    assert raised.value.code == "privacy.bound.delta"
    assert "public domain" in raised.value.hint


def test_a_plan_is_canonical_and_its_digest_moves_with_every_part():
    sql = "SELECT district, AVG(cost) AS m FROM visits WHERE age > 3 GROUP BY 1 ORDER BY m LIMIT 2"
    plan = world.plan(sql)
    assert plan.digest() == world.plan(sql.replace("cost", '"COST"').replace("age > 3", "3 < age")).digest()
    canonical_bytes(plan.to_record())
    others = [
        world.plan(sql.replace("> 3", "> 4")),
        world.plan(sql, rows=3),
        world.plan(sql, loss=PrivacyLoss(Fraction(1, 7))),
        world.plan(sql.replace("LIMIT 2", "LIMIT 3")),
        world.plan(sql.replace("AS m", "AS mm").replace("ORDER BY m ", "ORDER BY mm ")),
    ]
    assert len({plan.digest(), *(other.digest() for other in others)}) == 6


def test_hostile_texts_stay_literals():
    plan = world.plan(
        """SELECT COUNT(*) AS "n'; --" FROM visits WHERE diag = 'x''; DROP TABLE t; --' OR diag LIKE '\n%'"""
    )
    rows = world.visits({1: [{"diag": "x'; DROP TABLE t; --"}], 2: [{"diag": "D"}]})
    with pytest.raises(AssertionError, match="another plan"):
        measure(world.plan("SELECT COUNT(*) FROM visits"), run_plan(plan, [world.table(rows)]), world.NoNoise())
    assert run_plan(plan, [world.table(rows)]).cells == {(): (1,)}


def test_having_order_and_limit_work_on_the_noisy_values():
    sql = "SELECT FLOOR(age / 10) AS d, COUNT(*) AS n FROM visits GROUP BY 1 HAVING n > 100 AND NOT d IN (3) ORDER BY n DESC, d LIMIT 2 OFFSET 1"
    _, measured = answer(sql, rows=50, groups=50)
    counts: dict[int, int] = {}
    for row in ROWS:
        counts[row["age"] // 10] = counts.get(row["age"] // 10, 0) + 1
    wanted = sorted((-n, d) for d, n in counts.items() if n > 100 and d != 3)[1:3]
    assert [(-row[1], row[0]) for row in measured.answer.rows] == wanted
    assert any("noisy values" in note for note in measured.answer.notes)


def test_missing_means_sort_last_and_fail_every_comparison():
    _, measured = answer("SELECT FLOOR(age / 10) AS d, AVG(age) AS m FROM visits GROUP BY 1 ORDER BY m DESC")
    assert [row[1] is None for row in measured.answer.rows] == [False] * 6 + [True] * 7
    _, kept = answer("SELECT FLOOR(age / 10) AS d, AVG(age) AS m FROM visits GROUP BY 1 HAVING NOT m > 30")
    assert [row[0] for row in kept.answer.rows] == [2]
    _, none = answer(
        "SELECT FLOOR(age / 10) AS d, AVG(age) AS m FROM visits GROUP BY 1 HAVING m IS NULL ORDER BY d DESC"
    )
    assert [row[0] for row in none.answer.rows] == [12, 11, 10, 9, 8, 1, 0]


def test_the_columns_of_an_answer_say_what_they_are():
    _, measured = answer(
        "SELECT district, YEAR(day) AS y, COUNT(*), AVG(cost) AS mean, COUNT(DISTINCT patient) FROM visits GROUP BY 1, 2"
    )
    columns = measured.answer.columns
    assert [c.name for c in columns] == ["district", "y", "count", "mean", "units"]
    assert [c.role for c in columns] == [ColumnRole.KEY] * 2 + [ColumnRole.VALUE] * 3
    assert [c.kind for c in columns] == [
        CellKind.TEXT,
        CellKind.INTEGER,
        CellKind.INTEGER,
        CellKind.NUMBER,
        CellKind.INTEGER,
    ]
    assert (columns[3].measure_zh, columns[3].label_zh) == ("元", "cost列（平均）")
    assert Answer.parse(measured.answer.to_record()) == measured.answer
    canonical_release_bytes(measured.answer.to_record())


def test_private_keys_below_the_threshold_stay_hidden():
    rows = world.visits({unit: [{"diag": "common" if unit else "rare"}] for unit in range(500)})
    plan = world.plan("SELECT diag, COUNT(*) FROM visits GROUP BY 1", world.describe(rows=1, groups=1))
    measured = measure(plan, run_plan(plan, [world.table(rows)]), OpenDpNoise())
    assert [row[0] for row in measured.answer.rows] == ["common"]
    assert "rare" not in json.dumps(measured.answer.to_record())
    assert "rare" not in json.dumps(measured.sealed)
    verify_measured(plan, measured.answer.to_record(), measured.sealed)


def test_composite_private_keys_survive_odd_texts():
    odd = ['a"b', "[null]", "null", "", "陶瓷", None]
    rows = world.visits({i: [{"diag": odd[i % 6], "seen": None}] for i in range(600)})
    plan = world.plan("SELECT diag, seen, COUNT(*) FROM visits GROUP BY 1, 2", world.describe(rows=1, groups=1))
    measured = measure(plan, run_plan(plan, [world.table(rows)]), OpenDpNoise())
    assert {row[0] for row in measured.answer.rows} == set(odd)
    assert measured.answer.rows[-1][:2] == (None, None)
    verify_measured(plan, measured.answer.to_record(), measured.sealed)


@pytest.fixture(scope="module")
def released():
    plan = world.plan("SELECT district, COUNT(*) AS n, AVG(cost) AS mean FROM visits GROUP BY 1 ORDER BY n")
    measured = measure(plan, run_plan(plan, [TABLE]), OpenDpNoise())
    return plan, json.loads(json.dumps(measured.answer.to_record())), json.loads(json.dumps(measured.sealed))


def test_a_true_answer_passes_the_audit(released):
    plan, record, sealed = released
    verify_measured(plan, record, sealed)
    canonical_bytes(sealed)


def tampered(change):
    def apply(released):
        plan, record, sealed = copy.deepcopy(released[0]), copy.deepcopy(released[1]), copy.deepcopy(released[2])
        change(record, sealed)
        return plan, record, sealed

    return apply


TAMPERINGS = {
    "cell": (lambda r, s: r["rows"][1].__setitem__(1, r["rows"][1][1] + 1), "rows, row 1, column `n`"),
    "mean": (lambda r, s: r["rows"][0].__setitem__(2, 3.0), "rows, row 0, column `mean`"),
    "error": (lambda r, s: r["standard_errors"][0].__setitem__(1, 0.5), "standard_errors, row 0, column `n`"),
    "row": (lambda r, s: r["rows"].pop(), "rows"),
    "note": (lambda r, s: r["notes"].append("x"), "notes"),
    "loss": (lambda r, s: r["loss"].__setitem__("rho", "1"), "loss"),
    "field": (lambda r, s: r.__setitem__("x", 1), "answer"),
    "exact": (lambda r, s: s["cells"][0]["exact"].__setitem__(0, "9"), "partials"),
    "large noise": (lambda r, s: s["cells"][0]["noise"].__setitem__(0, "99999999"), "statistic 0, cell 0"),
    "key": (lambda r, s: s["cells"].pop(), "keys"),
    "plan": (lambda r, s: s.__setitem__("plan", "sm3:" + "0" * 64), "plan"),
    "sealed": (lambda r, s: s["cells"][0]["exact"].__setitem__(0, "009"), "sealed"),
    "width": (lambda r, s: s["cells"][0]["noise"].pop(), "sealed"),
    "version": (lambda r, s: s.__setitem__("v", 2), "sealed"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_an_auditor_finds_what_was_changed_and_where(released, name):
    change, place = TAMPERINGS[name]
    with pytest.raises(ReplayMismatchError) as raised:
        verify_measured(*tampered(change)(released))
    assert raised.value.details["place"] == place
    assert raised.value.code == "job.replay_mismatch"


def test_an_auditor_finds_noise_that_was_left_out_or_drawn_too_large():
    plan = world.plan("SELECT age, COUNT(*) FROM visits GROUP BY 1")
    partials = run_plan(plan, [TABLE])
    quiet = measure(plan, partials, world.NoNoise())
    with pytest.raises(ReplayMismatchError, match="not of its mechanism's size"):
        verify_measured(plan, quiet.answer.to_record(), quiet.sealed)
    loud = dataclasses.replace(
        plan, statistics=tuple(dataclasses.replace(s, sigma=s.sigma * 4) for s in plan.statistics)
    )
    other = measure(loud, dataclasses.replace(partials, plan=loud.digest()), OpenDpNoise())
    sealed = {**other.sealed, "plan": plan.digest(), "partials": partials.digest()}
    with pytest.raises(ReplayMismatchError, match=r"mechanism"):
        verify_measured(plan, other.answer.to_record(), sealed)


def test_an_auditor_finds_a_private_key_below_the_threshold():
    rows = world.visits({unit: [{"diag": "common"}] for unit in range(500)})
    plan = world.plan("SELECT diag, COUNT(*) FROM visits GROUP BY 1", world.describe(rows=1, groups=1))
    measured = measure(plan, run_plan(plan, [world.table(rows)]), OpenDpNoise())
    sealed = copy.deepcopy(measured.sealed)
    sealed["cells"][0]["exact"] = ["1"]
    sealed["cells"][0]["noise"] = ["3"]
    with pytest.raises(ReplayMismatchError, match="below the threshold"):
        verify_measured(plan, measured.answer.to_record(), sealed)
    sealed["candidates"] = "0"
    with pytest.raises(ReplayMismatchError, match="more keys were released"):
        verify_measured(plan, measured.answer.to_record(), sealed)
