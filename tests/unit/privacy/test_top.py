"""The first groups by report-noisy-max: what is asked, what it costs, what is released, and what an auditor finds."""

import copy
from fractions import Fraction

import pytest

from sandbox.compute.noise_pool import ThreadedNoise
from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, PrivacyError, QueryError, ReplayMismatchError
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.fit import check_choice
from sandbox.privacy.measure import measure, verify_measured
from sandbox.privacy.mechanism import top_measurement, top_scale
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.quote import quote_plan
from tests.support import privacy_world as world

ENGINE = open_engine(1)
RHO = PrivacyLoss(Fraction(1, 2))
SQL = "SELECT age, COUNT(DISTINCT patient) AS n FROM visits GROUP BY age ORDER BY n DESC LIMIT 3"
TOP = SQL + " SETTINGS top = 'noisy_max'"
# Patient u has been here at each of the ages 10 .. 10 + u: more groups than the bound on groups, or on rows.
UNITS = {u: [{"age": 10 + visit} for visit in range(u + 1)] for u in range(60)}
TABLE = world.table(world.visits(UNITS))


def measured(sql=TOP, noise=None, loss=RHO):
    plan = world.plan(sql, world.describe(rows=4, groups=2), loss=loss)
    return plan, measure(plan, run_plan(plan, [TABLE], engine=ENGINE), world.NoNoise() if noise is None else noise)


def test_the_first_groups_come_in_order_with_their_counts_and_every_group_of_a_unit_counts():
    _, found = measured()
    assert found.answer.rows == ((10, 60), (11, 59), (12, 58))
    _, sampled = measured(SQL)
    assert sampled.answer.rows[2][1] == 0, "with the bound of two groups most of a unit's groups are left out"


def test_what_it_costs_rests_on_how_many_are_chosen_and_on_nothing_else():
    plans = [
        world.plan(sql + " SETTINGS top = 'noisy_max'", world.describe(rows=rows, groups=rows), loss=RHO)
        for rows in (1, 50)
        for sql in (SQL, SQL.replace("age", "day").replace("day, COUNT", "day, COUNT"))
    ]
    for plan in plans:
        assert plan.choice.count == 3
        assert plan.statistics[0].statistic.sensitivity_squared == 3
        assert plan.choice.rho + plan.statistics[0].rho <= plan.loss.rho == RHO.rho
    assert len({(plan.choice.scale, plan.statistics[0].sigma) for plan in plans}) == 1
    assert {plan.choice.candidates for plan in plans} == {121, 731}


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("rho", [Fraction(1, 2), Fraction(1, 3), Fraction(7, 1000)])
def test_the_scale_is_rounded_against_us_and_fits_the_map_of_opendp(count, rho):
    scale = top_scale(count, rho)
    assert 8 * scale**2 * rho >= count
    assert Fraction(top_measurement(float(scale), count).map(1)) <= rho
    assert 8 * scale**2 * rho <= count * (1 + Fraction(1, 10**9)), "no more noise than the loss asks for"


def test_a_choice_without_loss_is_refused():
    with pytest.raises(BoundError, match="beyond 58 bits") as raised:
        top_scale(3, Fraction(0))
    assert raised.value.code == "privacy.bound.loss"


def test_noise_for_less_than_the_claim_does_not_pass_the_map():
    with pytest.raises(PrivacyError, match="too little for its share") as raised:
        OpenDpNoise().top([1, 2], count=1, scale=top_scale(1, Fraction(1)) / 2, rho=Fraction(1))
    assert raised.value.code == "privacy.guard"


@pytest.mark.parametrize(
    "sql",
    [
        SQL.replace("DESC", "ASC"),
        SQL.replace(" LIMIT 3", ""),
        SQL.replace("LIMIT 3", "LIMIT 3 OFFSET 1"),
        SQL.replace("LIMIT 3", "LIMIT 5000"),
        SQL.replace("ORDER", "HAVING n > 3 ORDER"),
        SQL.replace("n DESC", "age DESC"),
        SQL.replace("n DESC", "n DESC, age"),
        SQL.replace("COUNT(DISTINCT patient)", "COUNT(*)"),
        SQL.replace("AS n", "AS n, AVG(cost) AS m"),
        SQL.replace("COUNT(DISTINCT patient)", "2 * COUNT(DISTINCT patient)"),
        SQL.replace("age", "diag"),
        "SELECT COUNT(DISTINCT patient) AS n FROM visits ORDER BY n DESC LIMIT 3",
    ],
)
def test_any_other_shape_is_refused_with_the_one_that_works(sql):
    with pytest.raises(QueryError, match="chooses the first groups of one count of units") as raised:
        world.plan(sql + " SETTINGS top = 'noisy_max'")
    assert raised.value.code == "input.query.top"
    assert "ORDER BY n DESC LIMIT 5" in raised.value.hint


@pytest.mark.parametrize("value", ["'best'", "TRUE", "3"])
def test_the_setting_has_one_value(value):
    with pytest.raises(QueryError) as raised:
        world.plan(f"{SQL} SETTINGS top = {value}")
    assert raised.value.code == "input.query.setting"


def test_a_limit_beyond_the_domain_chooses_all_of_it():
    sql = "SELECT district, COUNT(DISTINCT patient) AS n FROM visits GROUP BY 1 ORDER BY 2 DESC LIMIT 9"
    plan, found = measured(sql + " SETTINGS top = 'noisy_max'")
    assert plan.choice.count == len(found.answer.rows) == 4


def test_quote_and_answer_say_how_the_groups_were_chosen():
    plan, found = measured()
    for notes in (quote_plan(plan).notes, found.answer.notes):
        said = " ".join(notes)
        assert "the first 3 of 121 groups are chosen by report-noisy-max" in said
        assert "noise of their own" in said
        assert "all 121 groups" not in said
    quoted = quote_plan(plan).statistics[0].standard_error
    assert [errors[1] for errors in found.answer.standard_errors] == [pytest.approx(quoted, rel=1e-6)] * 3
    assert [low[1] <= row[1] <= high[1] for low, row, high in zip(*_intervals(found), strict=True)] == [True] * 3


def _intervals(found):
    return found.answer.lower, found.answer.rows, found.answer.upper


@pytest.mark.parametrize("noise", [OpenDpNoise(), ThreadedNoise(2)])
def test_an_auditor_finds_the_record_of_a_true_answer_true(noise):
    plan, found = measured(noise=noise)
    verify_measured(plan, found.answer.to_record(), found.sealed)


def swap(sealed):
    sealed["cells"][0], sealed["cells"][1] = sealed["cells"][1], sealed["cells"][0]


def far_behind(sealed):
    # Nobody is 120: it is 60 units behind, at a scale of about 1.2.
    sealed["cells"][0] = {"key": ["120"], "exact": ["0"], "noise": sealed["cells"][0]["noise"]}


def lie_about_scores(sealed):
    sealed["scores"][0] = "7"


CHANGES = {
    "order": (swap, "answer is not the replay's"),
    "far behind": (far_behind, "too far behind"),
    "scores": (lie_about_scores, "not those that their digest names"),
    "fewer scores": (lambda sealed: sealed["scores"].pop(), "not one for each public key"),
    "no number": (lambda sealed: sealed["scores"].__setitem__(0, "x"), "malformed"),
    "no scores": (lambda sealed: sealed.pop("scores"), "unknown or missing fields"),
    "twice": (lambda sealed: sealed["cells"].__setitem__(1, sealed["cells"][0]), "distinct public keys"),
    "a cell less": (lambda sealed: sealed["cells"].pop(), "distinct public keys"),
    "another count": (lambda sealed: sealed["cells"][0].__setitem__("exact", ["59"]), "does not have its sealed score"),
    "noise": (lambda sealed: sealed["cells"][0].__setitem__("noise", ["99"]), "beyond its mechanism"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_auditor_finds_what_was_changed(name):
    plan, found = measured()
    change, says = CHANGES[name]
    sealed = copy.deepcopy(found.sealed)
    change(sealed)
    with pytest.raises(ReplayMismatchError, match=says):
        verify_measured(plan, found.answer.to_record(), sealed)


def test_the_limit_of_a_choice_is_that_of_the_proof():
    scores, scale = [100, 0], Fraction(4)
    check_choice(scores, [0, 1], scale)
    with pytest.raises(ReplayMismatchError, match="too far behind") as raised:
        check_choice(scores, [1, 0], scale)
    assert raised.value.details["place"] == "choice 0"
    check_choice(scores, [1, 0], Fraction(5))  # 5 ln(2 * 2 * 2 / 1e-9) is above 100
