"""The planner's proposals beside brute force: every bound is tried on simulated people, and the errors are counted.

From the true profile a proposal is held to the best error and a quarter: nothing in that is of chance.  With fresh noise
in the profile it may besides miss by what that noise says of the rows beyond two bounds: Z standard errors of it.  The
noise is sub-Gaussian, a proposal is one of 32 bounds, and there are 27 cases: below 1e-7 in all.
"""

import math
import random
import re
from fractions import Fraction
from functools import cache

import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.accuracy import proposals, propose_rows
from sandbox.privacy.measure import measure
from sandbox.privacy.mechanism import threshold_release
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.notes import key_notes
from sandbox.privacy.profile import profile_plan, read_profile
from tests.support import privacy_world as world
from tests.support import proving

pytestmark = pytest.mark.statistical
ENGINE = open_engine(1)
BOUND = 32
DESCRIPTION = world.describe(rows=BOUND, groups=BOUND)


def people(count, alpha, seed=3):
    """Units of 1..50 rows, about Zipf; values are spread over half the range, as the planner takes them to be."""
    draw = random.Random(seed)
    sizes = [min(50, int(draw.paretovariate(alpha))) for _ in range(count)]
    place = lambda unit: draw.choice(world.DISTRICTS) if draw.random() < 0.3 else world.DISTRICTS[unit % 3]  # noqa: E731
    return world.table(
        world.visits(
            {u: [{"age": draw.randint(0, 120), "district": place(u)} for _ in range(n)] for u, n in enumerate(sizes)}
        )
    )


Z = math.sqrt(2 * math.log(2 * 32 * 27 / 1e-8))
TABLES = {"heavy tail": people(6000, 0.8), "between": people(6000, 1.3), "light tail": people(9000, 2.5)}


def profile_of(table, noise=None):
    """Return the profile: the true one, or one with noise."""
    plan = profile_plan(DESCRIPTION, PrivacyLoss(Fraction(1, 2)))
    noise = world.NoNoise() if noise is None else noise
    return read_profile(plan, measure(plan, run_plan(plan, [table], engine=ENGINE), noise).answer)


def blur(profile, rows):
    """Return the standard error, as a share of all rows, of how many lie beyond a bound."""
    squares = sum((size - rows) ** 2 for size in range(rows + 1, len(profile.counts) + 1))
    return math.sqrt(squares / float(2 * profile.loss.rho)) / profile.total_rows()


def amounts(plan, table):
    answer = measure(plan, run_plan(plan, [table], engine=ENGINE), world.NoNoise()).answer
    return [row[-1] for row in answer.rows], [errors[-1] for errors in answer.standard_errors]


def error_at(sql, table, rows, loss, truth):
    """Return the root mean squared error over cells, as a share: what is left out, and the noise."""
    plan = world.plan(sql, world.describe(rows=rows, groups=rows), loss=loss)
    found, noise = amounts(plan, table)
    pairs = [(f - t, e, t) for f, e, t in zip(found, noise, truth, strict=True) if t]
    return math.sqrt(sum((bias**2 + e**2) / t**2 for bias, e, t in pairs) / len(pairs))


@cache
def brute_force(sql, name, rho):
    """Return the error at every bound."""
    table, loss = TABLES[name], PrivacyLoss(Fraction(rho))
    truth, _ = amounts(world.plan(sql, world.describe(rows=50, groups=50), loss=loss), table)
    return {rows: error_at(sql, table, rows, loss, truth) for rows in range(1, BOUND + 1)}


def proposed_rows(sql, rho, profile):
    cells = world.plan(sql, DESCRIPTION).cells
    loss = PrivacyLoss(Fraction(rho))
    return propose_rows(world.check(sql, DESCRIPTION), loss, profile, max(1, profile.total_rows() // cells)).rows


@pytest.mark.parametrize("rho", ["1/2", "1/100", "1/2000"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS v FROM visits",
        "SELECT SUM(age) AS v FROM visits",
        "SELECT district, COUNT(*) AS v FROM visits WHERE district IS NOT NULL GROUP BY district",
    ],
)
def test_the_proposed_bound_errs_hardly_more_than_the_best_that_brute_force_finds(sql, name, rho):
    errors = brute_force(sql, name, rho)
    best = min(errors, key=errors.get)
    proposed = proposed_rows(sql, rho, profile_of(TABLES[name]))
    assert errors[proposed] <= 1.25 * errors[best], (proposed, errors)
    noisy = profile_of(TABLES[name], OpenDpNoise())
    proposed = proposed_rows(sql, rho, noisy)
    room = Z * (blur(noisy, proposed) + blur(noisy, best))
    assert errors[proposed] <= 1.25 * errors[best] + room, (proposed, errors)


def test_nothing_is_said_of_bias_where_the_profile_drowns_in_its_noise():
    few = people(60, 1.2)
    profile = profile_of(few)
    assert profile.lost_share(4) is None
    query = world.check("SELECT COUNT(*) AS v FROM visits", DESCRIPTION)
    assert proposals(query, PrivacyLoss(Fraction(1, 2)), profile) == ()


def test_a_sum_in_small_steps_is_not_taken_for_a_count():
    """A past fault: the noise of a sum in hundredths was set beside a number of rows, so one row was proposed."""
    loss, profile = PrivacyLoss(Fraction(1, 2)), profile_of(TABLES["heavy tail"])
    cells = profile.total_rows()
    sums, counts = (
        propose_rows(world.check(f"SELECT {value} AS v FROM visits", DESCRIPTION), loss, profile, cells).rows
        for value in ("SUM(cost)", "COUNT(*)")
    )
    assert counts / 2 <= sums <= counts


def test_nothing_is_proposed_where_a_bound_bends_no_total():
    loss, profile = PrivacyLoss(Fraction(1, 2)), profile_of(TABLES["heavy tail"])
    for value in ("AVG(age)", "MEDIAN(age)"):
        assert propose_rows(world.check(f"SELECT {value} AS v FROM visits", DESCRIPTION), loss, profile, 1000) is None


@pytest.mark.parametrize(
    "sql", ["SELECT SUM(age) AS v FROM visits", "SELECT district, COUNT(*) AS v FROM visits GROUP BY 1"]
)
def test_rescaling_is_proposed_where_brute_force_shows_that_it_loses_less(sql):
    table, loss = TABLES["heavy tail"], PrivacyLoss(Fraction(1, 2))
    description = world.describe(rows=4, groups=4)
    truth, _ = amounts(world.plan(sql, world.describe(rows=50, groups=50), loss=loss), table)
    sampled, weighed = (
        sum(abs(f - t) for f, t in zip(amounts(world.plan(text, description, loss=loss), table)[0], truth, strict=True))
        for text in (sql, sql + " SETTINGS bounding = 'rescale'")
    )
    assert weighed < 0.95 * sampled
    assert "rescale" in " ".join(proposals(world.check(sql, description), loss, profile_of(table)))


def test_rescaling_is_not_proposed_where_it_loses_just_as_much():
    sql, table, loss = "SELECT COUNT(*) AS v FROM visits", TABLES["heavy tail"], PrivacyLoss(Fraction(1, 2))
    description = world.describe(rows=4, groups=4)
    sampled, weighed = (
        amounts(world.plan(text, description, loss=loss), table)[0][0]
        for text in (sql, sql + " SETTINGS bounding = 'rescale'")
    )
    assert weighed <= sampled
    assert "rescale" not in " ".join(proposals(world.check(sql, description), loss, profile_of(table)))


def test_the_share_of_hidden_groups_and_their_lean_are_as_the_notes_say():
    """Computed exactly; and 10 000 groups of each size keep to the range of that law: 6 * ALARM and three 8-sigma means."""
    loss = PrivacyLoss(Fraction(1, 10), Fraction(1, 10**6))
    plan = world.plan("SELECT diag, COUNT(DISTINCT patient) AS n FROM visits GROUP BY diag", loss=loss)
    _, often = key_notes(plan)
    few, value = _numbers(often)
    first = plan.statistics[0]
    assert threshold_release(plan.bound.groups, first.rho, loss.delta)[1] == plan.threshold

    def released(size):
        places, masses = proving.gaussian_masses(float(first.sigma))
        shown = places >= plan.threshold.value - size
        chance = masses[shown].sum()
        lean = places[shown] @ masses[shown] / chance
        spread = math.sqrt((places[shown] - lean) ** 2 @ masses[shown] / chance)
        given = {str(index): size for index in range(10_000)}
        found = OpenDpNoise().thresholded(given, sigma=first.sigma, threshold=plan.threshold, rho=first.rho)
        assert proving.fewest(chance, 10_000) <= len(found) <= proving.most(chance, 10_000)
        assert abs(sum(found.values()) / len(found) - size - lean) < 8 * spread / math.sqrt(len(found))
        return chance, lean

    assert released(few[0])[0] < 0.025 + 0.01
    assert released(few[1])[0] > 0.975 - 0.01
    assert 0.7 * value[1] < released(value[0])[1] < value[1] + 0.2


def _numbers(text):
    found = [int(number) for number in re.findall(r"\d+", text)]
    low, _, _, high, _, _, size, lean = found
    return (low, high), (size, lean)
