"""The 95 % interval of every kind of value covers the truth, and its standard error is the spread that noise gives it.

The truth is what the plan gives without noise: an interval speaks of the noise, the notes of the bound's bias.  Exact
integers are computed once; each trial draws fresh noise from OpenDP and makes the values again.

False-alarm rate: what lies beyond 95 % less or more 4.5 standard deviations of its trials (2 % at least) is not accused:
it is drawn afresh, AGAIN times as often, and is at fault if it strays again, now from 94.4 % or from 97 % by more than a
share of so many trials does with chance 1e-9 (binomial).  There are some 300 columns and ends: below 1e-6.  In a run of
10,000 trials all columns of little noise covered between 94.5 % and 96.7 % but for those below.  So a coverage of 89 %
is found as before, and one of 94.5 % is not found by chance.  Mean squares are held in the same two steps, to five
standard deviations and 2 % each time: the chances of both multiply.

Some intervals lie above 97 % by construction, and only their lower end is held here:
- counts, and quotients and products of few steps of noise, move in whole steps and are rounded up to them;
- where a divisor, a variance or a factor is not known well, the interval is the whole range, or the factors' box;
- a quantile's interval holds all bins that the noisy counts of its path leave, at each level;
- the points of a scorecard have the draw of people in their error besides the noise.
"""

import itertools
import math
import random
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import pyarrow as pa
import pytest

from sandbox.compute.run import open_engine, run_plan
from sandbox.model.description import ColumnKind
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.check import check_question
from sandbox.privacy.estimate import value_of
from sandbox.privacy.measure import measure
from sandbox.privacy.models.asking import Feature, Source
from sandbox.privacy.models.regression import fit_linear, fit_logistic
from sandbox.privacy.models.scorecard import Characteristic, fit_scorecard
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.plan import plan_query
from sandbox.privacy.vectors import entries
from tests.support import models_world as models
from tests.support import privacy_world as world
from tests.support import proving

pytestmark = pytest.mark.statistical
SOAK = pytest.param(10_000, marks=pytest.mark.soak)
GROUPS = ("east", "west", "north", "south")
DESCRIPTION = world.describe(
    rows=3,
    groups=3,
    columns=(
        world.column("g", ColumnKind.CATEGORY, domain=GROUPS),
        world.column("age", ColumnKind.INTEGER, 0, 120, 1),
        world.column("cost", ColumnKind.DECIMAL, 0, 1000, "1/100"),
        world.column("kind", ColumnKind.CATEGORY, domain=tuple("abcdef")),
    ),
)
SHAPES = {"tiny": (6, False), "large": (3_000, False), "skewed": (3_000, True)}
WEAK, SHARP = {"tiny": "1", "large": "1/200", "skewed": "1/200"}, {"tiny": "50", "large": "2", "skewed": "20"}
QUESTIONS = {
    "totals": "SELECT g, COUNT(*) AS n, COUNT(DISTINCT patient) AS u, SUM(cost) AS s, SUM(age) AS a FROM visits GROUP BY g",
    "means": "SELECT g, AVG(cost) AS mean, AVG(age) AS years FROM visits GROUP BY g",
    "formulas": "SELECT g, SUM(cost) / SUM(age) AS ratio, 100 * SUM(CASE WHEN age < 30 THEN 1 ELSE 0 END) / COUNT(*) AS rate,"
    " SUM(age) - 20 * COUNT(*) AS less, SUM(age) * COUNT(*) AS times FROM visits GROUP BY g",
    "moments": "SELECT g, VARIANCE(age) AS v, STDDEV(age) AS d, COVAR_SAMP(age, cost) AS c, CORR(age, cost) AS r"
    " FROM visits GROUP BY g",
    "values of values": "SELECT g, STDDEV(age) / AVG(age) AS cv, AVG(cost) / AVG(age) AS both, AVG(age) - STDDEV(age) AS gap"
    " FROM visits GROUP BY g",
    "distinct": "SELECT g, COUNT(DISTINCT kind) AS k FROM visits GROUP BY g",
    "steps": "SELECT g, AVG(n) AS per, SUM(c) AS all_cost, COUNT(*) AS people, STDDEV(n) AS d FROM"
    " (SELECT patient, MAX(g) AS g, COUNT(*) AS n, SUM(cost) AS c FROM visits GROUP BY patient) AS t GROUP BY g",
    "rescaled": "SELECT g, COUNT(*) AS n, SUM(cost) AS s, AVG(cost) AS mean FROM visits GROUP BY g SETTINGS bounding = 'rescale'",
}
WHOLE = {"n", "u", "k", "people", "per", "rate", "times", "r"}
"""Columns whose intervals are rounded up to whole steps, or to a box, or to the range: they may lie above."""


def table(shape: str, seed: int = 3) -> pa.Table:
    """Units of one to three rows in one group each; skewed: most values small, few large."""
    size, skewed = SHAPES[shape]
    draw, rows, unit = random.Random(seed), [], 0
    for group in GROUPS:
        left = size
        while left > 0:
            unit += 1
            for rank in range(1, 1 + min(left, draw.choice([1, 1, 1, 2, 3]))):
                age = min(120, int(draw.expovariate(1 / 20))) if skewed else draw.randint(0, 120)
                cost = min(100_000, int(draw.lognormvariate(9, 1.5))) if skewed else draw.randint(0, 100_000)
                rows.append((unit, rank, group, age, cost, draw.choice("aaabbcdef")))
                left -= 1
    kinds = {"_unit": pa.int64(), "_rank": pa.int32(), "g": pa.string(), "age": pa.int64(), "cost": pa.int64()}
    kinds["kind"] = pa.string()
    return pa.table({n: pa.array([row[i] for row in rows], kind) for i, (n, kind) in enumerate(kinds.items())})


TABLES = {shape: table(shape) for shape in SHAPES}


def covered(sql: str, shape: str, rho: str, trials: int):
    """Return, by column: the share of trials covered, the trials without a value, and the mean square of error sizes."""
    plan = world.plan(sql, DESCRIPTION, loss=PrivacyLoss(Fraction(rho)))
    exact = measure(plan, run_plan(plan, [TABLES[shape]]), world.NoNoise()).sealed["cells"]
    sigmas, noise = plan.entry_sigmas(), OpenDpNoise()
    inside, sizes, missing = defaultdict(list), defaultdict(list), defaultdict(int)
    names = {output.slot.index: output.label.name for output in plan.outputs if not output.slot.is_key}
    for cell in exact:
        held = entries(plan, tuple(int(amount) for amount in cell["exact"]))
        truths = {index: value_of(plan.formulas[index], plan.estimates, plan.whole(held), sigmas) for index in names}
        for noisy in draws(plan, held, trials // len(exact), noise):
            for index, name in names.items():
                found, truth = (
                    value_of(plan.formulas[index], plan.estimates, plan.whole(noisy), sigmas),
                    truths[index].amount,
                )
                if found.amount is None or truth is None:
                    missing[name] += 1
                    continue
                inside[name].append(found.lower <= truth <= found.upper)
                if found.standard_error:
                    sizes[name].append(float((found.amount - truth) / found.standard_error) ** 2)
    return {
        name: (sum(hits) / len(hits), missing[name], sum(sizes[name]) / max(1, len(sizes[name])))
        for name, hits in inside.items()
        if len(hits) >= trials / 4
    }


AGAIN = 8


@dataclass(frozen=True)
class Bars:
    """What a share, or a mean square, of so many trials may be."""

    low: float
    high: float
    room: float

    @classmethod
    def first(cls, trials: int):
        slack = max(0.02, 4.5 * math.sqrt(0.95 * 0.05 / trials))
        return cls(0.95 - slack, 0.95 + slack, 0.02 + 5 * math.sqrt(2 / trials))

    @classmethod
    def last(cls, trials: int):
        low, high = (int(bound(p, trials, 1e-9)) for bound, p in ((proving.fewest, 0.944), (proving.most, 0.97)))
        return cls(low / trials, high / trials, 0.02 + 5 * math.sqrt(2 / trials))


def hold(faults, trials: int) -> None:
    """Hold a column to its bars in two steps; `faults(trials, bars)` draws afresh and names what is beyond them."""
    if faults(trials, Bars.first(trials)):
        again = faults(AGAIN * trials, Bars.last(AGAIN * trials))
        assert not again, again


def test_what_strays_is_drawn_again_and_accused_if_it_strays_again():
    asked = []

    def strays_once(trials, bars):
        asked.append((trials, bars.low))
        return ["n"] if len(asked) == 1 else []

    hold(strays_once, 500)
    assert [trials for trials, _ in asked] == [500, AGAIN * 500]
    assert 0.90 < asked[0][1] < asked[1][1] < 0.944
    with pytest.raises(AssertionError, match="n"):
        hold(lambda trials, bars: ["n"], 500)


def draws(plan, held, count, noise):
    """Yield `count` noisy vectors of one cell."""
    columns, start = [], 0
    for planned in plan.statistics:
        width = planned.statistic.width
        wanted = list(held[start : start + width]) * count
        start += width
        if planned.laplace is not None:
            wanted = noise.laplace(wanted, noise=planned.laplace, rho=planned.rho)
        elif planned.sigma:
            wanted = noise.gaussian(
                wanted,
                sigma=planned.sigma,
                sensitivity_squared=planned.statistic.sensitivity_squared,
                rho=planned.rho,
            )
        columns.append([wanted[place * width : (place + 1) * width] for place in range(count)])
    for parts in zip(*columns, strict=True):
        yield list(itertools.chain.from_iterable(parts))


@pytest.mark.parametrize("trials", [500, SOAK])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", QUESTIONS)
def test_values_of_much_noise_are_covered(kind, shape, trials):
    """Noise as large as the values, or near it: nothing may be covered less than it says."""

    def faults(number, bars):
        found = covered(QUESTIONS[kind], shape, WEAK[shape], number)
        return [(name, share) for name, (share, _, _) in found.items() if share < bars.low]

    hold(faults, trials)


@pytest.mark.parametrize("trials", [1_000, SOAK])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", QUESTIONS)
def test_values_of_little_noise_are_covered_as_often_as_they_say(kind, shape, trials):
    # A first step leaves one row a unit: with more loss its noise would be below one step.
    rho = "2" if kind == "steps" and shape == "skewed" else SHARP[shape]

    def faults(number, bars):
        found = covered(QUESTIONS[kind], shape, rho, number)
        assert found
        beyond = []
        for name, (share, missing, square) in found.items():
            low = share < bars.low
            # So many squares of a normal have a mean within five standard deviations of 1, for what is nearly normal;
            # noise of less than a step is smaller than its scale says, never larger.
            wide = name not in WHOLE and (share > bars.high or square < 1 - bars.room)
            if low or (shape != "tiny" and (missing or wide or square > 1 + bars.room)):
                beyond.append((name, share, missing, square))
        return beyond

    hold(faults, trials)


LAPLACE = {
    kind: sql.replace(", SUM(age) * COUNT(*) AS times", "") + " SETTINGS noise = 'laplace'"
    for kind, sql in QUESTIONS.items()
    if kind != "rescaled"
}


@pytest.mark.parametrize("trials", [500, SOAK])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", LAPLACE)
def test_values_of_much_laplace_noise_are_covered(kind, shape, trials):
    def faults(number, bars):
        found = covered(LAPLACE[kind], shape, WEAK[shape], number)
        return [(name, share) for name, (share, _, _) in found.items() if share < bars.low]

    hold(faults, trials)


@pytest.mark.parametrize("trials", [1_000, SOAK])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", LAPLACE)
def test_values_of_little_laplace_noise_are_covered_as_often_as_they_say(kind, shape, trials):
    """Sums of several noises are covered up to 96.6 %; squares of Laplace noise vary by 5, where a normal's do by 2."""
    rho = "2" if kind == "steps" and shape == "skewed" else SHARP[shape]

    def faults(number, bars):
        found = covered(LAPLACE[kind], shape, rho, number)
        assert found
        room = 0.02 + 7 * math.sqrt(5 / number)
        return [
            (name, share, missing, square)
            for name, (share, missing, square) in found.items()
            if share < bars.low
            or (
                shape != "tiny"
                and (missing or square > 1 + room or (name not in WHOLE and (share > bars.high or square < 1 - room)))
            )
        ]

    hold(faults, trials)


@pytest.mark.parametrize("questions", [QUESTIONS, LAPLACE], ids=["gaussian", "laplace"])
def test_what_is_made_of_values_that_are_not_known_well_is_covered(questions):
    """A past fault: by the delta method alone a deviation over a mean was covered in 77 % here, and a difference in 79 %."""

    def faults(number, bars):
        found = covered(questions["values of values"], "skewed", "1/1500", number)
        return [(name, share) for name, (share, _, _) in found.items() if share < bars.low]

    hold(faults, 500)


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_are_covered(shape):
    """200 trials of four quantiles from one tree: they cover more than 98 %; below 93 % they are drawn again."""
    parts = ", ".join(
        f"QUANTILE_CONT(age, {fraction}) AS q{place}" for place, fraction in enumerate((0.1, 0.25, 0.5, 0.9))
    )
    sql = f"SELECT {parts} FROM visits"
    for loss in (WEAK[shape], SHARP[shape]):

        def faults(number, _, loss=loss):
            return [(name, share) for name, (share, _, _) in covered(sql, shape, loss, number).items() if share < 0.93]

        hold(faults, 200)


class Cached:
    """Asks with fresh noise; the exact integers of a question are computed once."""

    def __init__(self, table, description, name):
        self._tables, self._table, self._kept = {name: description}, table, {}
        self._engine, self.noise = open_engine(1), OpenDpNoise()

    def __call__(self, question):
        if question not in self._kept:
            plan = plan_query(check_question(question, self._tables), question.loss)
            self._kept[question] = plan, run_plan(plan, [self._table], engine=self._engine)
        plan, partials = self._kept[question]
        return measure(plan, partials, self.noise).answer


PEOPLE = models.people(4_000)
AGE, INCOME = (
    Feature("age", "age", Fraction(0), Fraction(100)),
    Feature("income", "income", Fraction(0), Fraction(1000)),
)
SPENT = Feature("spent", "spent", Fraction(-500), Fraction(1500))


def fitted(kind: str, ask, loss: PrivacyLoss):
    """Return `(value, standard error)` of the intercept and each coefficient, or of each bin's evidence."""
    source = Source("visits")
    if kind == "scorecard":
        card = fit_scorecard(ask, source, "bad", [Characteristic("age", "age", (Fraction(30), Fraction(60)))], loss)
        return [(found.evidence, found.standard_error) for _, bins in card.characteristics for found in bins]
    if kind == "linear":
        model = fit_linear(ask, source, SPENT, [AGE, INCOME], loss)
    else:
        model = fit_logistic(ask, source, "bad", [AGE, INCOME], loss)
    values = [model.intercept, *model.coefficients]
    return list(zip(values, [model.intercept_error, *model.standard_errors], strict=True))


@pytest.mark.parametrize("fits", [300, SOAK])
@pytest.mark.parametrize("rho", ["1/10", "2"])
@pytest.mark.parametrize("kind", ["linear", "logistic", "scorecard"])
def test_coefficients_are_covered(kind, rho, fits):
    """Fits of one table; with 300 the bars are 89.3 % and all, with the soak's 10,000 they are 93 % and 97 %."""
    loss = PrivacyLoss(Fraction(rho))
    ask = Cached(PEOPLE, models.DESCRIPTION, "visits")
    ask.noise = world.NoNoise()
    truths = [value for value, _ in fitted(kind, ask, loss)]
    ask.noise = OpenDpNoise()

    def faults(number, bars):
        inside, squares = [0] * len(truths), [0.0] * len(truths)
        for _ in range(number):
            for place, ((value, error), truth) in enumerate(zip(fitted(kind, ask, loss), truths, strict=True)):
                inside[place] += abs(value - truth) <= 1.96 * error
                squares[place] += ((value - truth) / error) ** 2 / number
        return [
            (hits / number, square)
            for hits, square in zip(inside, squares, strict=True)
            if hits / number < bars.low
            or (kind != "scorecard" and (hits / number > bars.high or abs(square - 1) > bars.room))
        ]

    hold(faults, fits)
