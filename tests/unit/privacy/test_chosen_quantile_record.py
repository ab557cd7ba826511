"""One quantile by report-noisy-max: what an auditor finds in its record."""

import copy
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from sandbox.compute.noise_pool import ThreadedNoise
from sandbox.errors import ReplayMismatchError
from sandbox.privacy.fit import FALSE_ALARM, check_leaves
from sandbox.privacy.measure import verify_measured
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world
from tests.support.chosen_world import SETTING, SQL, measured


@pytest.mark.parametrize("noise", [OpenDpNoise(), ThreadedNoise(2)])
@pytest.mark.parametrize("sql", [SQL, "SELECT QUANTILE_CONT(cost, 0.9) AS q FROM visits"])
def test_an_auditor_finds_the_record_of_a_true_answer_true(noise, sql):
    plan, found = measured(sql + SETTING, noise=noise)
    verify_measured(plan, found.answer.to_record(), found.sealed)


CHANGES = {
    "far": (lambda sealed: sealed["leaves"].__setitem__(0, "120"), "too far from the wanted rank"),
    "near": (lambda sealed: sealed["leaves"].__setitem__(0, str(int(sealed["leaves"][0]) + 1)), "not the replay's"),
    "fewer": (lambda sealed: sealed["leaves"].pop(), "not one public bin for each cell"),
    "beyond": (lambda sealed: sealed["leaves"].__setitem__(0, "121"), "not one public bin for each cell"),
    "negative": (lambda sealed: sealed["leaves"].__setitem__(0, "-1"), "not one public bin for each cell"),
    "no number": (lambda sealed: sealed["leaves"].__setitem__(0, "x"), "malformed"),
    "no text": (lambda sealed: sealed["leaves"].__setitem__(0, 3), "malformed"),
    "no list": (lambda sealed: sealed.__setitem__("leaves", None), "malformed"),
    "none": (lambda sealed: sealed.pop("leaves"), "unknown or missing fields"),
    "rows": (lambda sealed: sealed["cells"][0]["exact"].__setitem__(0, "5"), "not those that their digest names"),
    "noise": (lambda sealed: sealed["cells"][0]["noise"].__setitem__(0, "999"), "beyond its mechanism"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_auditor_finds_what_was_changed(name):
    plan, found = measured(noise=_Drawn())
    change, says = CHANGES[name]
    sealed = copy.deepcopy(found.sealed)
    change(sealed)
    with pytest.raises(ReplayMismatchError, match=says):
        verify_measured(plan, found.answer.to_record(), sealed)


class _Drawn(world.NoNoise):
    """Draws the noise of the tree, and chooses the best bins."""

    def gaussian(self, values, **how):
        return OpenDpNoise().gaussian(values, **how)


def test_a_plain_answer_has_no_leaves_in_its_seal():
    plan, found = measured(SQL)
    assert "leaves" not in found.sealed
    with pytest.raises(ReplayMismatchError, match="unknown or missing fields"):
        verify_measured(plan, found.answer.to_record(), {**found.sealed, "leaves": ["1"]})


def test_the_limit_of_one_choice_is_that_of_the_proof():
    scores = [[0, -100], [-100, 0]]
    check_leaves(scores, [0, 1], Fraction(4), share=6)
    with pytest.raises(ReplayMismatchError, match="too far from the wanted rank") as raised:
        check_leaves(scores, [0, 0], Fraction(3), share=6)
    assert raised.value.details["place"] == "cell 1"
    limit = math.log(4 * 18 / FALSE_ALARM)
    check_leaves(scores, [0, 0], Fraction(101) / Fraction(limit), share=6)


def law_of_the_sum(scores, scale, groups):
    """Return the law of what all choices together are behind, in scores, by convolution."""
    chances = np.zeros(max(-score for score in scores) + 1)
    for score in scores:
        chances[-score] += math.exp(score / scale)
    chances /= chances.sum()
    law = np.ones(1)
    for _ in range(groups):
        law = np.convolve(law, chances)
    return law


def is_refused(scores, scale, groups, total):
    """Whether `check_leaves` refuses choices that are behind by `total` together, none of them too far by itself."""
    most = len(scores) - 1
    leaves = [min(most, max(0, total - most * group)) for group in range(groups)]
    try:
        check_leaves([scores] * groups, leaves, Fraction(scale), share=1)
    except ReplayMismatchError as error:
        return "size" in str(error)
    return False


def refused_sums(scores, scale, groups):
    """Return which sums of gaps are refused: the lowest and the highest ones."""
    middle = groups * (scale - 1)  # about what is due
    assert not is_refused(scores, scale, groups, middle)
    low = next(total for total in itertools.count(0, 4) if not is_refused(scores, scale, groups, total))
    high = next(total for total in itertools.count(middle, 16) if is_refused(scores, scale, groups, total))
    return [*range(low - 3), *range(high, groups * (len(scores) - 1) + 1)]


def test_choices_of_another_scale_are_found_in_many_groups_and_true_ones_are_not():
    """The exact law of the sum: what is refused of true choices has a chance of the false-alarm rate at most."""
    scores, scale, groups = [-gap for gap in range(64)], 4, 60
    refused = refused_sums(scores, scale, groups)
    assert 0 in refused, "choices without any noise"
    assert law_of_the_sum(scores, scale, groups)[refused].sum() <= 2 * FALSE_ALARM / 3
    assert law_of_the_sum(scores, scale / 4, groups)[refused].sum() > 0.99, "a quarter of the noise"
    assert law_of_the_sum(scores, scale * 4, groups)[refused].sum() > 0.99, "four times the noise"
