"""Audit a measurement: search for its worst neighbours, and draw what an attacker sees from the deployed path.

The claim is on the joint release, so both are joint.  The search judges a unit by the distance that it moves the whole
vector of exact statistics, each in units of its noise.  The attacker sees the whole noisy vector (more than the values
that are released, which are made of it) and scores it with the log-likelihood ratio, which by Neyman and Pearson tells
the two tables apart as well as anything can.  What the scores prove is in `proving.py`.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sandbox.compute.run import open_engine, run_plan
from sandbox.privacy.keys import Key
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan, PlannedStatistic
from sandbox.privacy.tallies import Sum
from sandbox.privacy.vectors import entries, gather
from tests.support import privacy_world as world
from tests.support import proving

MOST_PRODUCTS = 48
"""Up to so many rows of extremes are all tried; of more, a coordinate is moved at a time."""
CANDIDATES = 32
_ENGINES: list[object] = []
Row = dict[str, object]


def engine():
    if not _ENGINES:
        _ENGINES.append(open_engine(1))
    return _ENGINES[0]


@dataclass(frozen=True)
class Neighbours:
    """Exact integers with and without one unit, and what the plan's noise makes of their distance: exact rho."""

    without: Partials
    with_unit: Partials
    cost: Fraction
    rows: tuple[Mapping[str, object], ...]


def exact(plan: Plan, units: Mapping[int, Sequence[Mapping[str, object]]]) -> Partials:
    return run_plan(plan, [world.table(world.visits(units))], engine=engine())


def unclamped(plan: Plan, upper: str) -> Plan:
    """Return a plan without a clamp: what was held below a number is held below a thousand of it, wherever that is."""
    sql = plan.sql.replace(f"CAST({upper} AS BIGINT)", f"CAST({upper}000 AS BIGINT)")
    tallies = [_loose(tally, int(upper)) if isinstance(tally, Sum) else tally for tally in plan.layout.tallies]
    assert sql != plan.sql
    assert not tallies or tuple(tallies) != plan.layout.tallies
    return dataclasses.replace(plan, sql=sql, layout=dataclasses.replace(plan.layout, tallies=tuple(tallies)))


def _loose(tally: Sum, upper: int) -> Sum:
    factors = [f if f.upper != upper else dataclasses.replace(f, upper=1000 * upper) for f in tally.factors]
    return dataclasses.replace(tally, factors=tuple(factors), upper=1000 * upper)


def measured(plan: Plan, partials: Partials) -> dict[Key, tuple[int, ...]]:
    """Return what gets noise: for every group the counts, sums, nodes of trees and numbers of values."""
    return {key: entries(plan, vector) for key, vector in gather(plan, partials).items()}


def cost_of(plan: Plan, one: Partials, other: Partials) -> Fraction:
    """Return what noise of these scales costs: of Gaussian noise rho, of Laplace noise epsilon.

    It is the sum over all entries of distance**2 / (2 sigma**2), or of distance / scale.
    """
    noises = [p for p in plan.statistics for _ in range(p.statistic.width)]
    zeros = (0,) * len(noises)
    first, second = measured(plan, one), measured(plan, other)
    total = Fraction(0)
    for key in set(first) | set(second):
        pairs = zip(first.get(key, zeros), second.get(key, zeros), noises, strict=True)
        total += sum((_entry_cost(abs(a - b), noise) for a, b, noise in pairs if a != b), Fraction(0))
    return total


def _entry_cost(distance: int, noise: PlannedStatistic) -> Fraction:
    return Fraction(distance**2) / (2 * noise.sigma**2) if noise.laplace is None else distance / noise.laplace.scale


class _Search:
    """Keeps the worst unit seen so far."""

    def __init__(self, plan: Plan, others: Mapping[int, Sequence[Mapping[str, object]]]) -> None:
        self.plan, self.others = plan, others
        self.without = exact(plan, others)
        self.best = Neighbours(self.without, self.without, Fraction(0), ())

    def tries(self, rows: Sequence[Mapping[str, object]], *, level: bool = False) -> bool:
        """Judge a unit; keep it where it is worse, or with `level` no better."""
        found = exact(self.plan, {**self.others, 999: rows})
        cost = cost_of(self.plan, self.without, found)
        if cost > self.best.cost or (level and cost == self.best.cost):
            self.best = Neighbours(self.without, found, cost, tuple(dict(row) for row in rows))
            return True
        return False


def _rows_of_extremes(extremes: Mapping[str, Sequence[object]], draw: random.Random) -> Iterator[Row]:
    names = sorted(extremes)
    products = list(itertools.product(*(extremes[name] for name in names)))
    chosen = products if len(products) <= MOST_PRODUCTS else draw.sample(products, MOST_PRODUCTS // 3)
    for values in chosen:
        yield dict(zip(names, values, strict=True))


def _sweep(search: _Search, extremes: Mapping[str, Sequence[object]], most_rows: int, draw: random.Random) -> None:
    """Try units of one row many times over, then units whose rows differ in one column."""
    for row in _rows_of_extremes(extremes, draw):
        search.tries([row] * most_rows)
    for name, values in sorted(extremes.items()):
        for value in values:
            search.tries([{**row, name: value} for row in search.best.rows])
    for name, values in sorted(extremes.items()):
        base = search.best.rows[0] if search.best.rows else {}
        rows: list[Row] = [{**base, name: value} for value in values]
        search.tries(rows)
        search.tries(rows[::-1])


def _climb(search: _Search, row: Callable[[random.Random], Row], most_rows: int, draw: random.Random) -> None:
    """Change one row, or one column of all rows, and keep what is no better."""
    tried: list[Row] = [dict(kept) for kept in copy.deepcopy(search.best.rows)] or [row(draw)]
    act = draw.random()
    if act < 0.25 and len(tried) < most_rows:
        tried.append(row(draw) if draw.random() < 0.5 else dict(draw.choice(tried)))
    elif act < 0.35 and len(tried) > 1:
        tried.pop(draw.randrange(len(tried)))
    else:
        place = draw.randrange(len(tried))
        fields = row(draw)
        name = draw.choice(sorted(fields))
        for index in range(len(tried)) if draw.random() < 0.5 else [place]:
            tried[index][name] = fields[name]
    search.tries(tried, level=True)


def worst_neighbours(
    plan: Plan,
    others: Mapping[int, Sequence[Mapping[str, object]]],
    extremes: Mapping[str, Sequence[object]],
    row: Callable[[random.Random], Row],
    *,
    most_rows: int,
    rounds: int = 12,
    seed: int = 1,
    starts: Sequence[Sequence[Mapping[str, object]]] = (),
) -> Neighbours:
    """Return the worst unit that a search finds.

    Args:
        plan: what is measured.
        others: the units that both tables hold.
        extremes: for each column some values, the ends of its range and what lies beyond them among them.
        row: draws a row at random, for the climb.
        most_rows: the most rows that the unit may have; give more than the bound.
        rounds: how many steps the climb has.
        seed: of the search, which is the same every time.
        starts: units to begin with; where there are some, extremes are not tried over.
    """
    draw = random.Random(seed)
    search = _Search(plan, others)
    for rows in starts:
        search.tries(rows)
    if not starts:
        read = {name: extremes[name] for name in plan.columns if name in extremes} or {"age": extremes["age"]}
        _sweep(search, read, most_rows, draw)
    for _ in range(rounds):
        _climb(search, row, most_rows, draw)
    return search.best


class _Recorder:
    """Notes how `measure` calls a source of noise."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, dict[str, object]]] = []

    def gaussian(self, values, **how):
        self.calls.append(("gaussian", list(values), how))
        return list(values)

    def laplace(self, values, **how):
        self.calls.append(("laplace", list(values), how))
        return list(values)

    def thresholded(self, counts, **how):
        # Every key passes, so that the statistics of every key are noised as well.
        self.calls.append(("thresholded", dict(counts), how))
        return {key: max(count, how["threshold"].value) for key, count in counts.items()}


@dataclass(frozen=True)
class _Call:
    """One draw that `measure` asks for: how, and the exact integers that the unit changes, without the others."""

    kind: str
    how: Mapping[str, object]
    with_unit: tuple[int, ...]
    without: tuple[int, ...]

    @property
    def sigma(self) -> float:
        return float(self.how["sigma"])  # type: ignore[arg-type]

    @property
    def weights(self) -> np.ndarray:
        """What the log-likelihood ratio weighs each integer by."""
        return np.array([a - b for a, b in zip(self.with_unit, self.without, strict=True)], dtype=float) / self.sigma**2


def _calls(plan: Plan, pair: Neighbours) -> list[_Call]:
    """Ask `measure` once how it calls its source.

    Of private keys those are scored that both tables have and that are sure to pass; whether a key passes that only
    one unit has is audited by its share (`test_audit_releases.py`).
    """
    noted = [_Recorder(), _Recorder()]
    for recorder, partials in zip(noted, _shared(plan, pair), strict=True):
        measure(plan, partials, recorder)
    calls = []
    for one, other in zip(noted[0].calls, noted[1].calls, strict=True):
        (kind, values, how), (_, rest, again) = one, other
        assert how == again, "how noise is drawn depends on the data"
        sides = [list(side.values()) if isinstance(side, dict) else list(side) for side in (values, rest)]
        places = [place for place, value in enumerate(sides[0]) if value != sides[1][place]]
        if places:
            calls.append(_Call(kind, how, *(tuple(side[place] for place in places) for side in sides)))
    return calls


def draws(plan: Plan, pair: Neighbours, trials: int, source: object | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of `trials` releases with the unit and without it: noisy integers weighed by their distance.

    The source is given what differs `trials` times over, in one vector, which is the same law
    (`docs/proofs/pieces.md`).  What does not differ is noise without a message.
    """
    source = OpenDpNoise() if source is None else source
    scores = [np.zeros(trials), np.zeros(trials)]
    for call in _calls(plan, pair):
        for side, amounts in enumerate((call.with_unit, call.without)):
            noisy = _noisy(source, call.kind, list(amounts) * trials, call.how)
            scores[side] += noisy.reshape(trials, len(amounts)) @ call.weights
    return scores[0], scores[1]


def _shared(plan: Plan, pair: Neighbours) -> tuple[Partials, Partials]:
    if plan.threshold is None:
        return pair.with_unit, pair.without
    keys = sorted(set(pair.with_unit.cells) & set(pair.without.cells), key=str)
    return tuple(  # type: ignore[return-value]
        Partials(side.plan, {key: side.cells[key] for key in keys}) for side in (pair.with_unit, pair.without)
    )


def _noisy(source, kind: str, amounts: list[int], how) -> np.ndarray:
    if kind == "gaussian":
        return np.array(source.gaussian(amounts, **how), dtype=float)
    # High enough to pass, whatever the noise: 40 standard deviations.
    lift = how["threshold"].value + int(40 * how["sigma"]) + 1
    released = source.thresholded({str(i): amount + lift for i, amount in enumerate(amounts)}, **how)
    return np.array([released[str(i)] - lift for i in range(len(amounts))], dtype=float)


@dataclass(frozen=True)
class Attack:
    """Cuts that were chosen before any draw, and what draws of the law that they were chosen for prove at least.

    Attributes:
        cuts: rising.
        sure: the rho that is shown but for a chance of `proving.ALARM`.
        trials: releases with the unit, and as many without it.
    """

    cuts: tuple[float, ...]
    sure: float
    trials: int


def attack(plan: Plan, pair: Neighbours, trials: int, *, noise: float = 1) -> Attack:
    """Choose the cuts for discrete Gaussians of `noise` times the planned scales, whose law is computed."""
    calls = _calls(plan, pair)
    parts = [(weight, call.sigma * noise) for call in calls for weight in call.weights]
    law = proving.SumLaw(parts)
    with_unit, without = (
        sum(float(call.weights @ np.array(side, dtype=float)) for call, side in zip(calls, sides, strict=True))
        for sides in ([call.with_unit for call in calls], [call.without for call in calls])
    )
    cuts = np.linspace(without - 2 * law.spread, with_unit + 3 * law.spread, CANDIDATES)
    chances = [(law.passes(cut - with_unit)[0], law.passes(cut - without)[1]) for cut in cuts]
    places, sure = proving.best_cuts(chances, trials)
    return Attack(tuple(float(cuts[place]) for place in places), sure, trials)


def audit(plan: Plan, pair: Neighbours, attack: Attack, source: object | None = None) -> float:
    """Return the rho that an attacker proves against a plan, who knows the plan and both tables."""
    return proving.shown_at(attack.cuts, *draws(plan, pair, attack.trials, source))


@dataclass(frozen=True)
class PureAttack:
    """Which of the integers that the unit moves are looked at, chosen before any draw.

    Attributes:
        places: of the looked-at integers, in the order of the calls.
        sure: the epsilon that is shown but for a chance of `proving.ALARM`.
        trials: releases with the unit, and as many without it.
    """

    places: frozenset[int]
    sure: float
    trials: int


def pure_attack(plan: Plan, pair: Neighbours, trials: int, *, noise: float = 1) -> PureAttack:
    """Choose what an attacker on a pure loss looks at: whether noisy integers lie at the exact ones with the unit or beyond.

    There the ratio of the chances is exp(distance / scale) in each, the most that Laplace noise allows; with the unit it
    has the chance 1 / (1 + q) in each, without it q**distance / (1 + q), for q = exp(-1 / scale).  More integers prove
    more, by fewer releases: those that move furthest are taken, as many as are best.

    Args:
        plan: what is measured, with Laplace noise.
        pair: the neighbours.
        trials: releases with the unit, and as many without it.
        noise: the scale, in planned ones.
    """
    losses: list[tuple[float, float]] = []
    for call in _calls(plan, pair):
        unit = float(call.how["noise"].scale) * noise  # type: ignore[attr-defined]
        losses += [(abs(a - b) / unit, unit) for a, b in zip(call.with_unit, call.without, strict=True)]
    order = sorted(range(len(losses)), key=lambda place: -losses[place][0])
    best = PureAttack(frozenset(), -math.inf, trials)
    with_unit = without = 1.0
    for count, place in enumerate(order, start=1):
        epsilon, unit = losses[place]
        with_unit /= 1 + math.exp(-1 / unit)
        without *= math.exp(-epsilon) / (1 + math.exp(-1 / unit))
        few = int(proving.fewest(with_unit, trials, proving.ALARM / 2))
        sure = _epsilon(few, int(proving.most(without, trials, proving.ALARM / 2)), trials)
        if sure > best.sure:
            best = PureAttack(frozenset(order[:count]), sure, trials)
    return best


def pure_audit(plan: Plan, pair: Neighbours, attack: PureAttack, source: object | None = None) -> float:
    """Return the epsilon that such an attacker proves from draws of the deployed path, but for a chance of 2 * ALARM."""
    source, trials, start = OpenDpNoise() if source is None else source, attack.trials, 0
    passing = [np.ones(trials, dtype=bool), np.ones(trials, dtype=bool)]
    for call in _calls(plan, pair):
        places = [place for place in range(len(call.with_unit)) if start + place in attack.places]
        start += len(call.with_unit)
        exact, rest = (np.array([side[place] for place in places]) for side in (call.with_unit, call.without))
        for side, amounts in enumerate((exact, rest)):
            noisy = np.array(source.laplace(list(amounts) * trials, **call.how)).reshape(trials, len(amounts))
            passing[side] &= np.all((noisy - exact) * np.sign(exact - rest) >= 0, axis=1)
    return _epsilon(int(passing[0].sum()), int(passing[1].sum()), trials)


def _epsilon(with_unit: int, without: int, trials: int) -> float:
    low, high = proving.limits(with_unit, trials)[0], proving.limits(without, trials)[1]
    return math.log(max(low, 1e-300) / high)
