"""Audit a measurement: search for its worst neighbours, draw from the deployed path, and bound from below what it costs.

A claim of rho-zCDP says that the Renyi divergence of order a of what leaves for neighbours is at most a * rho, for every
a > 1, and so for every yes-or-no question that an attacker asks of it (post-processing).  `shown_rho` asks one such
question, which was chosen on other draws, bounds its two chances by Clopper and Pearson, and returns the largest rho
that they prove.  A right implementation is accused with probability at most 2 * ALARM a call.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import stats

from sandbox.compute.run import open_engine, run_plan
from sandbox.privacy.measure import measure
from sandbox.privacy.noise import OpenDpNoise
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan
from tests.support import privacy_world as world

ALARM = 1e-9
ORDERS = np.concatenate([1 + np.geomspace(1e-6, 1, 25), np.geomspace(2, 200, 60)])
_ENGINES: list[object] = []


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


def cost_of(plan: Plan, one: Partials, other: Partials) -> Fraction:
    """Return sum over statistics of distance**2 / (2 sigma**2): what Gaussian noise of these scales costs."""
    zeros = (0,) * len(plan.statistics)
    total = Fraction(0)
    for key in set(one.cells) | set(other.cells):
        pairs = zip(one.cells.get(key, zeros), other.cells.get(key, zeros), plan.statistics, strict=True)
        total += sum((Fraction((a - b) ** 2) / (2 * s.sigma**2) for a, b, s in pairs if a != b), Fraction(0))
    return total


def worst_neighbours(
    plan: Plan,
    others: Mapping[int, Sequence[Mapping[str, object]]],
    row: Callable[[random.Random], dict[str, object]],
    *,
    most_rows: int,
    rounds: int = 120,
    seed: int = 1,
) -> Neighbours:
    """Return the worst unit that a search finds: random starts, then changes of one row that do not make it cheaper.

    Args:
        plan: what is measured.
        others: the units that both tables hold.
        row: draws a row, extremes included.
        most_rows: the most rows that the unit may have; give more than the bound.
        rounds: how many tables are tried.
        seed: of the search, which is the same every time.
    """
    draw = random.Random(seed)
    without = exact(plan, others)

    def judged(rows: list[dict[str, object]]) -> tuple[Fraction, Partials]:
        found = exact(plan, {**others, 999: rows})
        return cost_of(plan, without, found), found

    def fresh() -> list[dict[str, object]]:
        one = row(draw)
        count = draw.randint(1, most_rows)
        return [dict(one) for _ in range(count)] if draw.random() < 0.5 else [row(draw) for _ in range(count)]

    starts = [fresh() for _ in range(rounds // 3)]
    best = max(starts, key=lambda rows: judged(rows)[0])
    value, found = judged(best)
    for _ in range(rounds - len(starts)):
        tried = copy.deepcopy(best)
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
        worse, partials = judged(tried)
        if worse >= value:
            best, value, found = tried, worse, partials
    return Neighbours(without, found, value, tuple(best))


class _Recorder:
    """Notes how `measure` calls a source of noise."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, dict[str, object]]] = []

    def gaussian(self, values, **how):
        self.calls.append(("gaussian", list(values), how))
        return list(values)

    def thresholded(self, counts, **how):
        # Every key passes, so that the statistics of every key are noised as well.
        self.calls.append(("thresholded", dict(counts), how))
        return {key: max(count, how["threshold"].value) for key, count in counts.items()}


def draws(plan: Plan, pair: Neighbours, trials: int, source: object | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of `trials` releases with the unit and without it: noisy integers weighed by their distance.

    `measure` is asked once how it calls its source; the source is then given what differs `trials` times over, in one
    vector, which is the same law (`docs/proofs/pieces.md`).  What does not differ is noise without a message.
    """
    source = OpenDpNoise() if source is None else source
    noted = [_Recorder(), _Recorder()]
    for recorder, partials in zip(noted, (pair.with_unit, pair.without), strict=True):
        measure(plan, partials, recorder)
    scores = [np.zeros(trials), np.zeros(trials)]
    for one, other in zip(noted[0].calls, noted[1].calls, strict=True):
        (kind, values, how), (_, rest, again) = one, other
        assert kind == "gaussian", "thresholds are audited by the share of keys that pass"
        assert how == again, "how noise is drawn depends on the data"
        places = [place for place, value in enumerate(values) if value != rest[place]]
        weights = np.array([values[place] - rest[place] for place in places], dtype=float) / float(how["sigma"]) ** 2
        for side, exact_values in enumerate((values, rest)):
            if places:
                chosen = [exact_values[place] for place in places]
                noisy = np.array(source.gaussian(chosen * trials, **how), dtype=float).reshape(trials, len(places))
                scores[side] += noisy @ weights
    return scores[0], scores[1]


def limits(successes: int, trials: int, alarm: float = ALARM) -> tuple[float, float]:
    """Return Clopper-Pearson limits of a chance, each passed with probability `alarm` at most."""
    low = float(stats.beta.ppf(alarm, successes, trials - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1 - alarm, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def renyi(p: float, q: float, order: float) -> float:
    """Return the Renyi divergence of order `order` of a coin of chance p from one of chance q."""
    terms = []
    for one, other in ((p, q), (1 - p, 1 - q)):
        if one <= 0:
            continue
        if other <= 0:
            return math.inf
        terms.append(order * math.log(one) + (1 - order) * math.log(other))
    return float(np.logaddexp.reduce(terms)) / (order - 1)


def proven_rho(p_low: float, q_high: float) -> float:
    """Return the largest rho that a chance of at least `p_low` against at most `q_high` proves."""
    if p_low <= q_high:
        return 0.0
    return max(max(0.0, renyi(p_low, q_high, float(order))) / float(order) for order in ORDERS)


def shown_rho(with_unit: np.ndarray, without: np.ndarray) -> float:
    """Return a lower bound on rho from scores for neighbours; the cut is found on the first third of them."""
    third = len(with_unit) // 3
    cuts = np.unique(np.quantile(np.concatenate([with_unit[:third], without[:third]]), np.linspace(0.05, 0.95, 31)))

    def proven(cut: float, ones: np.ndarray, others: np.ndarray, alarm: float) -> float:
        p_low, _ = limits(int((ones > cut).sum()), len(ones), alarm)
        _, q_high = limits(int((others > cut).sum()), len(others), alarm)
        return proven_rho(p_low, q_high)

    cut = max(cuts, key=lambda at: proven(at, with_unit[:third], without[:third], 1e-3))
    return proven(cut, with_unit[third:], without[third:], ALARM)


def audit(plan: Plan, pair: Neighbours, trials: int, source: object | None = None) -> float:
    """Return the rho that an attacker proves against a plan, who knows the plan and both tables."""
    return shown_rho(*draws(plan, pair, trials, source))
