"""Settings at the end of a question, rescaled bounds, and how much loss an error needs."""

import math
from fractions import Fraction

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accuracy import least_loss, proposals, propose_rows, relative_error
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import Bounding
from tests.support import privacy_world as world

MUCH = PrivacyLoss(Fraction(10**8), Fraction(1, 10**6))
ROWS = world.visits(
    {
        unit: [
            {"cost": 100 * (unit % 50), "age": 10 * (i % 5), "district": world.DISTRICTS[i % 2]}
            for i in range(1 + unit % 9)
        ]
        for unit in range(200)
    }
)
TABLE = world.table(ROWS)


def rows_of(sql, rows=2, table=TABLE):
    plan = world.plan(sql, world.describe(rows=rows, groups=rows), loss=MUCH)
    return plan, measure(plan, run_plan(plan, [table]), world.NoNoise()).answer


def test_settings_stand_at_the_end_and_are_a_part_of_the_plan():
    sql = "SELECT COUNT(*) AS n, AVG(age) AS a FROM visits"
    plain, weighed = world.plan(sql), world.plan(f"{sql} SETTINGS weights = (3, 1), round = TRUE")
    assert plain.digest() != weighed.digest()
    assert weighed.settings.weights == (3, 1)
    assert weighed.settings.rounded
    assert world.check(f"{sql} settings bounding = 'Rescale';").settings.bounding is Bounding.RESCALE
    assert [c.label.name for c in world.check("SELECT COUNT(*) AS settings FROM visits").outputs] == ["settings"]


@pytest.mark.parametrize(
    "settings",
    [
        "bounding = 'none'",
        "bounding = 3",
        "weights = (1, 2, 3)",
        "weights = (1, -2)",
        "weights = (0, 1)",
        "weights = 'x'",
        "suppress = 0",
        "suppress = (1, 2)",
        "nonnegative = 1",
        "noise = 0",
        "epsilon = 100",
        "round = TRUE, round = TRUE",
        "round = TRUE nonnegative = TRUE",
        "round = TRUE,",
        "round =",
        "weights = (1 2)",
        "weights = (1, 2",
        "suppress = 1e999",
    ],
)
def test_an_unknown_setting_or_value_is_refused_with_its_place(settings):
    with pytest.raises(QueryError) as raised:
        world.check(f"SELECT COUNT(*) AS n, AVG(age) AS a FROM visits SETTINGS {settings}")
    assert raised.value.code in {"input.query.setting", "input.query.syntax"}
    assert raised.value.details["line"] == 1
    assert raised.value.hint


def test_weights_split_the_loss_and_never_raise_it():
    plan = world.plan("SELECT COUNT(*) AS n, AVG(cost) AS a, MEDIAN(age) AS m FROM visits SETTINGS weights = (8, 1, 1)")
    assert sum(s.rho for s in plan.statistics) <= plan.loss.rho
    count, _, total, *levels = plan.statistics
    assert count.rho == 8 * total.rho
    assert sum(level.rho for level in levels) == total.rho
    private = world.plan("SELECT diag, COUNT(*) AS n, SUM(age) AS s FROM visits GROUP BY 1 SETTINGS weights = (1, 4)")
    assert len({s.rho for s in private.statistics}) == 1, "a total rests on the count beside it"


def test_rescaling_counts_every_row_and_keeps_the_sensitivity():
    sampled, few = rows_of("SELECT SUM(cost) AS s FROM visits")
    rescaled, all_of_it = rows_of("SELECT SUM(cost) AS s FROM visits SETTINGS bounding = 'rescale'")
    assert all_of_it.rows[0][0] == sum(row["cost"] for row in ROWS) / 100, "no unit's total passes 2 * 1000 yuan"
    assert few.rows[0][0] < all_of_it.rows[0][0]
    fine = rescaled.statistics[0].statistic.fine
    assert (
        rescaled.statistics[0].statistic.sensitivity_squared
        == sampled.statistics[0].statistic.sensitivity_squared * fine**2
    )
    assert float(rescaled.entry_sigmas()[0]) == pytest.approx(float(sampled.entry_sigmas()[0]))


def test_one_weight_for_all_statistics_keeps_means_right():
    rows = world.visits({u: [{"age": 30}] * (1 + 9 * (u % 2)) for u in range(100)})
    _, answer = rows_of(
        "SELECT COUNT(*) AS n, AVG(age) AS a FROM visits SETTINGS bounding = 'rescale'", table=world.table(rows)
    )
    assert answer.rows[0] == (pytest.approx(50 + 50 * 2, abs=1), pytest.approx(30))


def test_counts_by_group_lose_less_when_they_are_rescaled():
    rows = world.visits({u: [{"age": age} for age in range(0, 80, 10)] for u in range(50)})
    sql = "SELECT age, COUNT(*) AS n FROM visits GROUP BY 1 HAVING n > 1"
    total = {}
    for settings in ("", " SETTINGS bounding = 'rescale'"):
        total[settings] = sum(row[1] for row in rows_of(sql + settings, table=world.table(rows))[1].rows)
    sampled, rescaled = total.values()
    assert sampled == 100
    assert rescaled == 8 * int(50 * 2 / math.sqrt(8)), "an L2 norm of 2 spread over eight groups"


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_rescaled_integers_do_not_depend_on_threads(threads):
    plan, _ = rows_of(
        "SELECT district, COUNT(*) AS n, STDDEV(cost) AS s FROM visits GROUP BY 1 SETTINGS bounding = 'rescale'"
    )
    engine = open_engine(threads)
    assert run_plan(plan, [TABLE], engine=engine).digest() == run_plan(plan, [world.table(ROWS[::-1])]).digest()
    engine.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT MEDIAN(age) AS m FROM visits",
        "SELECT COUNT(DISTINCT patient) AS u FROM visits",
        "SELECT diag, COUNT(*) AS n FROM visits GROUP BY 1",
    ],
)
def test_what_cannot_be_rescaled_is_refused(sql):
    with pytest.raises(BoundError, match="can be rescaled") as raised:
        world.plan(f"{sql} SETTINGS bounding = 'rescale'")
    assert raised.value.code == "privacy.bound.rescale"


def test_post_processing_is_done_on_choice_and_said():
    sql = "SELECT district, COUNT(*) AS n, SUM(delta) AS d, AVG(age) AS a FROM visits GROUP BY 1"
    plan = world.plan(f"{sql} SETTINGS nonnegative = TRUE, round = TRUE, suppress = 0.5")
    answer = measure(plan, run_plan(plan, [world.table(ROWS)]), OpenDpNoise()).answer
    assert all(row[1] is None or row[1] >= 0 for row in answer.rows)
    assert answer.rows[3][1:] == (None, None, None), "nobody is in the last group"
    assert any("not shown" in note for note in answer.notes)
    assert any("shown as zero" in note for note in answer.notes)
    assert any("rounded" in note for note in answer.notes)
    assert not any("may make small counts" in note for note in answer.notes)


def test_what_just_passes_suppression_is_said_to_lean_away_from_zero():
    """Of cells without rows one in 20 is shown at a share of 1, and no interval of those holds the truth inside."""
    plan = world.plan("SELECT delta, age > 60 AS old, COUNT(*) AS n FROM visits GROUP BY 1, 2 SETTINGS suppress = 1")
    answer = measure(plan, run_plan(plan, [world.table([])]), OpenDpNoise()).answer
    shown = [place for place, row in enumerate(answer.rows) if row[2] is not None]
    # Of 422 draws at 1 in 20 or a little less: 21, and more than 70 with a chance below 1e-15.
    assert len(answer.rows) == 422
    assert len(shown) <= 70
    assert all(answer.lower[place][2] >= 0 or answer.upper[place][2] <= 0 for place in shown)
    assert any("lean away from zero" in note for note in answer.notes)


def test_settings_are_audited_as_the_rest_is():
    plan = world.plan(
        "SELECT district, COUNT(*) AS n, AVG(cost) AS a FROM visits GROUP BY 1 SETTINGS bounding = 'rescale', nonnegative = TRUE"
    )
    measured = measure(plan, run_plan(plan, [TABLE]), OpenDpNoise())
    verify_measured(plan, measured.answer.to_record(), measured.sealed)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n FROM visits",
        "SELECT AVG(age) AS a, STDDEV(cost) AS s FROM visits",
        "SELECT diag, COUNT(*) AS n, MEDIAN(cost) AS m FROM visits GROUP BY 1",
    ],
)
def test_the_least_loss_for_an_error_is_enough_and_hardly_more(sql):
    query = world.check(sql)
    loss = least_loss(query, Fraction(2, 100), 50_000, Fraction(1, 10**6))
    assert relative_error(plan_query(query, loss), 50_000) <= 0.02
    less = PrivacyLoss(loss.rho * Fraction(9, 10), loss.delta)
    assert relative_error(plan_query(query, less), 50_000) > 0.02 * 0.95


def test_an_error_that_no_loss_gives_is_refused():
    with pytest.raises(BoundError, match="no loss gives") as raised:
        least_loss(world.check("SELECT MEDIAN(cost) AS m FROM visits"), Fraction(1, 10**6), 100, Fraction(0))
    assert raised.value.code == "privacy.bound.accuracy"


def test_the_proposed_bound_weighs_bias_against_noise():
    long_tail = Profile("clinic", "patient", (100, 100, 100, 1000, 0), PrivacyLoss(Fraction(1, 100)))
    query = world.check("SELECT COUNT(*) AS n FROM visits")
    assert propose_rows(query, world.LOSS, long_tail, 100_000).rows == 4
    single = Profile("clinic", "patient", (1000, 1, 0, 0, 0), PrivacyLoss(Fraction(1, 100)))
    assert propose_rows(query, world.LOSS, single, 200).rows == 1


@pytest.mark.parametrize(
    ("values", "proposed"),
    [("COUNT(*) AS n", False), ("AVG(cost) AS m", True), ("SUM(age) AS s, COUNT(*) AS n", True)],
)
def test_a_rescaled_question_is_quoted_without_a_proposal_since_it_leaves_no_row_out(values, proposed):
    profile = Profile("clinic", "patient", (100, 100, 100, 1000, 5000), PrivacyLoss(Fraction(1, 100)))
    assert bool(proposals(world.check(f"SELECT {values} FROM visits"), world.LOSS, profile)) is proposed
    assert not proposals(world.check(f"SELECT {values} FROM visits SETTINGS bounding = 'rescale'"), world.LOSS, profile)
