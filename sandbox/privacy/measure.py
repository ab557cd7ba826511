"""Measure: exact partials in, noise added once, an answer out; and the auditor's check of one that was released."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add, itemgetter, sub
from typing import Any

from sandbox.errors import CanonicalError, ReplayMismatchError
from sandbox.model.canonical import canonical_release_bytes
from sandbox.model.question import Answer
from sandbox.privacy.chosen_quantile import LeafChoice, choose_leaves, leaf_scores
from sandbox.privacy.fit import check_choice, check_fit, check_laplace_fit, check_leaves
from sandbox.privacy.guard import broken_guard
from sandbox.privacy.keys import TOTAL, Key, join_key, join_keys, parse_key
from sandbox.privacy.margins import total_keys, with_totals
from sandbox.privacy.noise import NoiseSource
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan, PlannedStatistic
from sandbox.privacy.profile import Profile
from sandbox.privacy.query import KeyMode
from sandbox.privacy.release import NoisyCell, release_answer
from sandbox.privacy.vectors import Vector, entries, gather, scatter, vector_width

SEALED_VERSION = 1
_LARGEST = 2**62
_GROUP_OF = itemgetter(slice(-1))


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer that may leave, and the record under seal that explains it to an auditor."""

    answer: Answer
    sealed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Cell:
    """One group: its exact vector, the entries that it makes (`vectors.py`), and the noise of each of them."""

    key: Key
    exact: Vector
    entries: Vector
    noise: Vector

    def noisy(self) -> NoisyCell:
        return NoisyCell(self.key, tuple(map(add, self.entries, self.noise)))


def measure(plan: Plan, partials: Partials, noise: NoiseSource, *, profile: Profile | None = None) -> Measured:
    """Return the noisy answer of a plan, and its sealed record.

    Args:
        plan: what to measure.
        partials: its exact integers, summed over all partitions of one snapshot.
        noise: draws the noise.
        profile: a released profile of the dataset, for the notes on bias.

    Privacy: if two tables differ in all rows of one unit, the answers are `plan.loss`-close, whatever was released
    before.  The sealed record is not private: it stays under seal.
    """
    digest = plan.digest()
    if partials.plan != digest:
        raise AssertionError("partials belong to another plan")
    scores: list[int] = []
    if plan.choice is not None:
        cells, scores = _noisy_chosen(plan, partials, noise)
    elif plan.key_mode is KeyMode.PRIVATE:
        cells = _noisy_private(plan, partials, noise)
    else:
        cells = _noisy_public(plan, partials, noise)
    leaves: list[int] = []
    if plan.leaf_choice is not None:
        leaves = choose_leaves(plan.leaf_choice, [cell.exact for cell in cells], noise)
    answer = release_answer(plan, _released(plan, cells, leaves), profile)
    sealed = {
        "v": SEALED_VERSION,
        "plan": digest,
        "partials": partials.digest(),
        "candidates": str(_candidates(plan, partials)),
        "profile": None if profile is None else profile.to_record(),
        "cells": [
            {"key": list(c.key), "exact": list(map(str, c.exact)), "noise": list(map(str, c.noise))} for c in cells
        ],
    }
    if plan.choice is not None:
        sealed["scores"] = [str(score) for score in scores]
    if plan.leaf_choice is not None:
        sealed["leaves"] = [str(leaf) for leaf in leaves]
    return Measured(answer, sealed)


def _candidates(plan: Plan, partials: Partials) -> int:
    """Return how many groups have rows."""
    if not plan.histograms:
        return len(partials.cells)
    # The bins of a group mostly stand together, so few groups come here twice.
    return len({group for group, _ in itertools.groupby(partials.cells, _GROUP_OF)})


def _released(plan: Plan, cells: Sequence[_Cell], leaves: Sequence[int]) -> list[NoisyCell]:
    """Return the noisy integers of every cell, with the chosen leaf of a quantile behind them where there is one."""
    noisy = [cell.noisy() for cell in cells]
    if plan.leaf_choice is None:
        return noisy
    return [replace(cell, noisy=(*cell.noisy, leaf)) for cell, leaf in zip(noisy, leaves, strict=True)]


def public_keys(plan: Plan) -> list[Key]:
    """Return every key that a plan without private keys releases, in order."""
    domains = []
    for key in plan.keys:
        assert key.domain is not None
        domains.append(key.domain)
    keys: list[Key] = list(itertools.product(*domains))
    if plan.rolled:
        keys += total_keys(domains, plan.levels)
    return keys


def _held(amount: int) -> int:
    # Holding a value within fixed ends never moves two values further apart, so it costs no privacy.
    return max(-_LARGEST, min(_LARGEST, amount))


def _all_held(amounts: Vector) -> Vector:
    if not amounts or (max(amounts) <= _LARGEST and min(amounts) >= -_LARGEST):
        return amounts
    return tuple(_held(amount) for amount in amounts)


def _noisy_public(plan: Plan, partials: Partials, noise: NoiseSource) -> list[_Cell]:
    keys = public_keys(plan)
    zeros = (0,) * vector_width(plan)
    found = gather(plan, partials)
    if plan.rolled:
        found = with_totals(found, plan.levels)
    exact = [_all_held(found.get(key, zeros)) for key in keys]
    return _with_noise(plan, keys, exact, noise, first=0)


def _noisy_chosen(plan: Plan, partials: Partials, noise: NoiseSource) -> tuple[list[_Cell], list[int]]:
    """Choose groups by report-noisy-max, then count those with noise of their own; return the scores for the seal."""
    assert plan.choice is not None
    keys = public_keys(plan)
    found = gather(plan, partials)
    scores = [_held(found.get(key, (0,))[0]) for key in keys]
    choice = plan.choice
    places = noise.top(scores, count=choice.count, scale=choice.scale, rho=choice.rho)
    cells = _with_noise(plan, [keys[p] for p in places], [(scores[p],) for p in places], noise, first=0)
    return cells, scores


def _noisy_private(plan: Plan, partials: Partials, noise: NoiseSource) -> list[_Cell]:
    assert plan.threshold is not None
    first = plan.statistics[0]
    found = gather(plan, partials)
    key_of = dict(zip(join_keys(found), found, strict=True))
    counts = {text: _held(found[key][0]) for text, key in key_of.items() if found[key][0] > 0}
    released = noise.thresholded(counts, sigma=first.sigma, threshold=plan.threshold, rho=first.rho)
    texts = sorted(released)
    keys = [key_of[text] for text in texts]
    exact = [_all_held(found[key]) for key in keys]
    cells = _with_noise(plan, keys, exact, noise, first=1)
    return [
        _Cell(cell.key, cell.exact, cell.entries, (released[text] - cell.exact[0], *cell.noise))
        for text, cell in zip(texts, cells, strict=True)
    ]


def _with_noise(
    plan: Plan, keys: Sequence[Key], exact: Sequence[Vector], noise: NoiseSource, *, first: int
) -> list[_Cell]:
    """Draw the noise of the statistics from `first` on: one call for each, over all cells."""
    whole = [_all_held(entries(plan, vector)) for vector in exact]
    drawn: list[list[int]] = [[] for _ in keys]
    start = sum(planned.statistic.width for planned in plan.statistics[:first])
    for planned in plan.statistics[first:]:
        width = planned.statistic.width
        values = [amount for row in whole for amount in row[start : start + width]]
        noisy = values if planned.sigma == 0 else _drawn(planned, values, noise)
        if len(noisy) != len(values):
            raise broken_guard("some statistics were given no noise")
        changes = list(map(sub, noisy, values))
        for index in range(len(keys)):
            drawn[index] += changes[index * width : (index + 1) * width]
        start += width
    return [_Cell(k, vector, row, tuple(d)) for k, vector, row, d in zip(keys, exact, whole, drawn, strict=True)]


def _drawn(planned: PlannedStatistic, values: Sequence[int], noise: NoiseSource) -> list[int]:
    """Return the integers of one statistic, in all cells, with the noise of its kind."""
    if planned.laplace is not None:
        return noise.laplace(values, noise=planned.laplace, rho=planned.rho)
    squared = planned.statistic.sensitivity_squared
    return noise.gaussian(values, sigma=planned.sigma, sensitivity_squared=squared, rho=planned.rho)


def verify_measured(plan: Plan, answer_record: dict[str, Any], sealed: dict[str, Any]) -> None:
    """Check that a released answer is the post-processing of sealed integers and noise, and that the noise fits.

    The checks of the noise raise a false alarm with probability at most 1e-9 for one answer (`fit.py`).

    Raises:
        ReplayMismatchError: something differs; `details["place"]` names the cell, the statistic or the field.
    """
    cells, candidates, profile = _parse_sealed(plan, sealed)
    if plan.choice is None:
        _check_keys(plan, cells)
    else:
        _check_chosen(plan, cells, sealed)
    start = 0
    for index, planned in enumerate(plan.statistics):
        chosen = plan.key_mode is KeyMode.PRIVATE and index == 0
        stop = start + planned.statistic.width
        drawn = [amount for cell in cells for amount in cell.noise[start:stop]]
        start = stop
        if planned.laplace is not None:
            check_laplace_fit(drawn, planned.laplace.scale, place=f"statistic {index}", share=_checks(plan))
            continue
        check_fit(
            drawn,
            planned.sigma,
            drawn=candidates if chosen else len(drawn),
            selected=chosen,
            place=f"statistic {index}",
            share=_checks(plan),
        )
    if plan.key_mode is not KeyMode.PRIVATE and plan.choice is None:
        found = {cell.key: cell.exact for cell in cells if TOTAL not in cell.key}
        exact = scatter(plan, found)
        if plan.rolled and with_totals(found, plan.levels) != {cell.key: cell.exact for cell in cells}:
            raise _mismatch("the sealed totals are not the sums of their cells", "totals")
        if exact.digest() != sealed["partials"]:
            raise _mismatch("the sealed integers are not those that their digest names", "partials")
    leaves = [] if plan.leaf_choice is None else _checked_leaves(plan, plan.leaf_choice, cells, sealed)
    expected = release_answer(plan, _released(plan, cells, leaves), profile).to_record()
    _compare(plan, expected, answer_record)


def _checks(plan: Plan) -> int:
    """Return how many checks share the rate of false alarms: one a statistic, and one of what was chosen."""
    return len(plan.statistics) + (plan.choice is not None) + (plan.leaf_choice is not None)


def _check_keys(plan: Plan, cells: Sequence[_Cell]) -> None:
    keys = [cell.key for cell in cells]
    if plan.key_mode is not KeyMode.PRIVATE:
        if keys != public_keys(plan):
            raise _mismatch("the sealed cells are not the plan's public keys", "keys")
        return
    texts = [join_key(key) for key in keys]
    if texts != sorted(set(texts)):
        raise _mismatch("the sealed keys are not sorted or not unique", "keys")
    assert plan.threshold is not None
    for index, cell in enumerate(cells):
        if cell.exact[0] + cell.noise[0] < plan.threshold.value or cell.exact[0] < 1:
            raise _mismatch("a private key below the threshold was released", f"cell {index}")


def _check_chosen(plan: Plan, cells: Sequence[_Cell], sealed: dict[str, Any]) -> None:
    """Check that the chosen groups are distinct, have the sealed scores, and are ones that the mechanism may choose."""
    assert plan.choice is not None
    keys = public_keys(plan)
    try:
        scores = [_integer(score) for score in sealed["scores"]]
    except (TypeError, ValueError) as error:
        raise _mismatch("the sealed record is malformed", "scores") from error
    if len(scores) != len(keys):
        raise _mismatch("the sealed scores are not one for each public key", "scores")
    if scatter(plan, {key: (score,) for key, score in zip(keys, scores, strict=True)}).digest() != sealed["partials"]:
        raise _mismatch("the sealed integers are not those that their digest names", "partials")
    place_of = {key: place for place, key in enumerate(keys)}
    places = [place_of.get(cell.key, -1) for cell in cells]
    if len(cells) != plan.choice.count or -1 in places or len(set(places)) != len(places):
        raise _mismatch("the chosen groups are not so many distinct public keys", "keys")
    if any(cell.exact != (scores[place],) for cell, place in zip(cells, places, strict=True)):
        raise _mismatch("a chosen group does not have its sealed score", "scores")
    check_choice(scores, places, plan.choice.scale)


def _checked_leaves(plan: Plan, choice: LeafChoice, cells: Sequence[_Cell], sealed: dict[str, Any]) -> list[int]:
    """Return the chosen leaf of every cell, each one that the mechanism may choose among the sealed rows."""
    try:
        leaves = [_integer(leaf) for leaf in sealed["leaves"]]
    except (TypeError, ValueError) as error:
        raise _mismatch("the sealed record is malformed", "leaves") from error
    if len(leaves) != len(cells) or any(not 0 <= leaf < choice.leaves for leaf in leaves):
        raise _mismatch("the sealed leaves are not one public bin for each cell", "leaves")
    scores = [leaf_scores(cell.exact, choice.fraction) for cell in cells]
    check_leaves(scores, leaves, choice.scale, share=_checks(plan))
    return leaves


def _parse_sealed(plan: Plan, sealed: dict[str, Any]) -> tuple[list[_Cell], int, Profile | None]:
    fields = {"v", "plan", "partials", "candidates", "profile", "cells"}
    if plan.choice is not None:
        fields.add("scores")
    if plan.leaf_choice is not None:
        fields.add("leaves")
    if set(sealed) != fields or sealed["v"] != SEALED_VERSION:
        raise _mismatch("the sealed record has unknown or missing fields", "sealed")
    if sealed["plan"] != plan.digest():
        raise _mismatch("the sealed record belongs to another plan", "plan")
    types = [key.type for key in plan.keys]
    try:
        parts = [
            (
                tuple(cell["key"]) if plan.rolled else parse_key(cell["key"], types),
                tuple(_integer(amount) for amount in cell["exact"]),
                tuple(_integer(amount) for amount in cell["noise"]),
            )
            for cell in sealed["cells"]
        ]
        candidates = _integer(sealed["candidates"])
        profile = None if sealed["profile"] is None else Profile.parse(sealed["profile"])
    except (CanonicalError, KeyError, TypeError, ValueError) as error:
        raise _mismatch("the sealed record is malformed", "sealed") from error
    width, drawn = vector_width(plan), len(plan.entry_sigmas())
    if any(len(exact) != width or len(noise) != drawn for _, exact, noise in parts):
        raise _mismatch("the sealed cells have the wrong width", "sealed")
    cells = [_Cell(key, exact, _all_held(entries(plan, exact)), noise) for key, exact, noise in parts]
    if candidates < len(cells) and plan.key_mode is KeyMode.PRIVATE:
        raise _mismatch("more keys were released than there were", "candidates")
    return cells, candidates, profile


def _integer(text: object) -> int:
    if not isinstance(text, str) or len(text) > 40 or str(int(text)) != text:
        raise ValueError("not a canonical integer")
    return int(text)


def _compare(plan: Plan, expected: dict[str, Any], found: dict[str, Any]) -> None:
    if set(found) != set(expected):
        raise _mismatch("the answer has unknown or missing fields", "answer")
    for name in ("columns", "loss", "pure_loss", "notes"):
        if found.get(name) != expected.get(name):
            raise _mismatch(f"the answer's {name} are not the replay's", name)
    for part in ("rows", "standard_errors", "lower", "upper"):
        if not isinstance(found[part], list) or len(found[part]) != len(expected[part]):
            raise _mismatch(f"the answer's {part} are not as many as the replay's", part)
        for row, (wanted, given) in enumerate(zip(expected[part], found[part], strict=True)):
            if not isinstance(given, list) or len(given) != len(wanted):
                raise _mismatch("a row of the answer has the wrong width", f"{part}, row {row}")
            for column, (one, other) in enumerate(zip(wanted, given, strict=True)):
                # As canonical bytes, where 3.0 and 3 are one number: a record comes from the disk.
                if canonical_release_bytes(one) != canonical_release_bytes(other):
                    name = plan.outputs[column].label.name
                    raise _mismatch("a cell of the answer is not the replay's", f"{part}, row {row}, column `{name}`")


def _mismatch(message: str, place: str) -> ReplayMismatchError:
    return ReplayMismatchError(message, hint="keep both records as evidence and look at who wrote them", place=place)
