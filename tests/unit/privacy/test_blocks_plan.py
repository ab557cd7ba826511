"""Planning and measuring over blocks: grids, sensitivities, searches, notes, and the auditor's check."""

import copy
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import BoundError, QueryError, ReplayMismatchError
from sandbox.model.blocks_question import BlockMode, BlocksQuestion, BlockStatistic
from sandbox.privacy.blocks_measure import grid_steps, measure_blocks, verify_blocks
from sandbox.privacy.noise import OpenDpNoise
from tests.support import blocks_world as world
from tests.support.privacy_world import NoNoise

MEDIAN = {"statistic": BlockStatistic.MEDIAN}
ODD = (0.0, -0.0, 1.0, 0.5, float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 1.0000000001)


class Shifted(NoNoise):
    """A source that adds a fixed integer."""

    def __init__(self, by):
        self.by = by

    def gaussian(self, values, *, sigma, sensitivity_squared, rho):
        return [value + self.by for value in values]


@given(st.floats(), st.sampled_from(["1/1024", "1/3", "1"]))
def test_whatever_a_block_gives_its_grid_point_is_in_range(number, resolution):
    (planned,) = world.plan(outputs=(world.output(resolution=resolution),)).outputs
    step = planned.step_of(number)
    assert 0 <= step <= planned.steps
    if 0 <= number <= 1:
        assert abs(Fraction(number) - planned.value_of(Fraction(step))) <= Fraction(resolution) / 2
    else:
        assert step == planned.default_step


@given(
    st.lists(st.sampled_from([*ODD, None]), min_size=8, max_size=8), st.integers(0, 7), st.sampled_from([*ODD, None])
)
def test_one_block_moves_each_sum_by_its_sensitivity_at_most(numbers, place, other):
    for changes in ({}, MEDIAN):
        plan = world.plan(count_failures=True, **changes)
        vectors = [None if number is None else (number,) for number in numbers]
        neighbour = list(vectors)
        neighbour[place] = None if other is None else (other,)
        for index, planned in enumerate(plan.outputs):
            one, two = grid_steps(plan, index, vectors), grid_steps(plan, index, neighbour)
            if planned.rounds == 1:
                assert abs(sum(one) - sum(two)) <= planned.sensitivity
            for point in range(0, planned.steps, 100):
                assert abs(sum(s <= point for s in one) - sum(s <= point for s in two)) <= 1


def test_all_rounds_of_all_outputs_together_cost_what_the_question_may_spend():
    for changes in ({}, MEDIAN, {"count_failures": True}, {**MEDIAN, "count_failures": True}):
        plan = world.plan(outputs=tuple(world.output(name) for name in "abc"), rho="1/7", **changes)
        assert sum(output.rho * output.rounds for output in plan.outputs) == Fraction(1, 7)
        for output in plan.outputs:
            assert Fraction(output.sensitivity) ** 2 / (2 * output.sigma**2) <= output.rho


@pytest.mark.parametrize("number", [0.0, 0.25, 0.501, 1.0])
@pytest.mark.parametrize("changes", [{}, MEDIAN])
def test_without_noise_the_answer_is_the_statistic_over_blocks(number, changes):
    plan = world.plan(**changes)
    answer = measure_blocks(plan, [(number,)] * 8, NoNoise(), split="00").answer
    assert answer.rows[0][0] == pytest.approx(number, abs=1 / 2048)
    assert answer.lower[0][0] <= answer.rows[0][0] <= answer.upper[0][0]
    assert answer.standard_errors[0][0] > 0
    assert answer.loss == plan.question.loss


def test_a_median_lets_a_few_wild_blocks_pass_and_a_mean_does_not():
    vectors = [(0.25,)] * 5 + [(1.0,)] * 3
    median = measure_blocks(world.plan(**MEDIAN), vectors, NoNoise(), split="00").answer
    mean = measure_blocks(world.plan(), vectors, NoNoise(), split="00").answer
    assert median.rows[0][0] == 0.25
    assert mean.rows[0][0] == pytest.approx(0.25 * 5 / 8 + 3 / 8)


def test_failures_count_with_the_default_and_are_told_only_as_a_noisy_share():
    plan = world.plan(count_failures=True)
    vectors = [None, (float("nan"),), (2.0,), (-0.1,)] + [(1.0,)] * 4
    answer = measure_blocks(plan, vectors, NoNoise(), split="00").answer
    assert answer.rows[0] == (0.75, 0.5)
    assert [column.name for column in answer.columns] == ["x", "failures"]
    assert "with its default: `x` 0.5" in " ".join(answer.notes)


def test_values_and_intervals_stay_within_the_public_bounds():
    for by in (-(10**6), 10**6):
        answer = measure_blocks(world.plan(), [(0.5,)] * 8, Shifted(by), split="00").answer
        assert {answer.rows[0][0], answer.lower[0][0], answer.upper[0][0]} <= {0.0, 1.0}


def test_the_mode_and_its_assumption_stand_in_the_notes():
    strict = measure_blocks(world.plan(), [(0.5,)] * 8, NoNoise(), split="00").answer.notes
    fast = measure_blocks(world.plan(mode=BlockMode.FAST), [(0.5,)] * 8, NoNoise(), split="00").answer.notes
    assert "strict mode: one block ran at a time" in strict[-1]
    assert "the guarantee assumes that the operator's code in one cannot signal to the other" in fast[-1]


def test_a_missing_block_is_a_fault_of_ours():
    with pytest.raises(AssertionError, match="failures are None"):
        measure_blocks(world.plan(), [(0.5,)] * 7, NoNoise(), split="00")


@pytest.mark.parametrize("changes", [{}, MEDIAN, {"count_failures": True}])
def test_the_auditor_accepts_what_was_drawn_and_finds_what_was_changed(changes):
    plan = world.plan(**changes)
    measured = measure_blocks(plan, [(number / 8,) for number in range(8)], OpenDpNoise(), split="00")
    record = measured.answer.to_record()
    verify_blocks(plan, record, measured.sealed)

    def refused(match, change_sealed=None, change_answer=None, of=plan):
        sealed, answer = copy.deepcopy(measured.sealed), copy.deepcopy(record)
        if change_sealed:
            change_sealed(sealed)
        if change_answer:
            change_answer(answer)
        with pytest.raises(ReplayMismatchError, match=match):
            verify_blocks(of, answer, sealed)

    def add(name, by):
        def change(sealed):
            draw = sealed["outputs"][0][0]
            draw[name] = str(int(draw[name]) + by)

        return change

    wide = int(plan.outputs[0].sigma * 30)
    refused("beyond its mechanism|asked more often|more sums|not the replay's|not such", add("noise", wide))
    refused("not such as blocks can give|not the replay's|asked more often|more sums", add("exact", 10**9))
    refused("not the replay's", change_answer=lambda answer: answer["rows"][0].__setitem__(0, 0.123))
    refused("not the replay's", change_answer=lambda answer: answer.update(notes=[]))
    for version in (1, 3):
        refused("unknown or missing fields", lambda sealed, version=version: sealed.update(v=version))
    refused("unknown or missing fields", lambda sealed: sealed.pop("pace"))
    refused("not the replay's", lambda sealed: sealed.update(pace=[4, 1]))
    refused("unknown or missing fields", lambda sealed: sealed.pop("split"))
    refused("malformed", lambda sealed: sealed.update(outputs=[[{"exact": "01", "noise": "0"}]]))
    refused("another number of outputs", lambda sealed: sealed.update(outputs=[]))
    refused("another plan", of=world.plan(blocks=9, **changes))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"table": "nosuch"}, QueryError, "no table is called `nosuch`"),
        ({"columns": ("nosuch",)}, QueryError, "has no column `nosuch`"),
        ({"columns": ()}, QueryError, "the columns are none"),
        ({"columns": ("age", "age")}, QueryError, "one is named twice"),
        ({"blocks": 1}, QueryError, "1 blocks are asked for"),
        ({"blocks": 5000}, QueryError, "5000 blocks are asked for"),
        ({"milliseconds": 60}, QueryError, "cannot be given 60 milliseconds"),
        ({"milliseconds": 10_000, "blocks": 1000}, QueryError, "more than an hour"),
        ({"outputs": ()}, QueryError, "the outputs are none"),
        ({"outputs": (world.output(), world.output())}, QueryError, "two of one name"),
        ({"outputs": (world.output("failures"),)}, QueryError, "`failures` is taken|none, too many"),
        ({"outputs": (world.output("a b"),)}, QueryError, "`a b` is not a name"),
        ({"outputs": (world.output(lower=1, upper=1),)}, BoundError, "lower <= default <= upper"),
        ({"outputs": (world.output(default=2),)}, BoundError, "lower <= default <= upper"),
        ({"outputs": (world.output(upper=10**400, resolution=10**400),)}, BoundError, "lower <= default <= upper"),
        ({"outputs": (world.output(resolution="2/3"),)}, BoundError, "does not divide"),
        ({"outputs": (world.output(resolution="1/1000000000000000"),)}, BoundError, "does not divide"),
        ({"outputs": (world.output(resolution="1/10000000"),), **MEDIAN}, BoundError, "is searched on"),
        ({"parameters": "[1]"}, QueryError, "not a JSON object"),
        ({"parameters": "{"}, QueryError, "not a JSON object"),
        ({"parameters": '{"a":NaN}'}, QueryError, "not a JSON object"),
        ({"parameters": '{"a":1e999}'}, QueryError, "not a JSON object"),
        ({"parameters": "[" * 8000}, QueryError, "not a JSON object"),
        ({"program": "#" * 70_000}, QueryError, "longer than 65536 bytes"),
        ({"rho": "0"}, BoundError, "no loss to spend"),
    ],
)
def test_what_is_not_a_question_to_blocks_is_refused_with_its_reason(changes, error, says):
    with pytest.raises(error, match=says) as refused:
        world.plan(**changes)
    assert refused.value.hint


def test_the_standard_error_falls_with_the_number_of_blocks():
    few, many = (
        measure_blocks(world.plan(blocks=k), [(0.5,)] * k, NoNoise(), split="00").answer.standard_errors[0][0]
        for k in (10, 1000)
    )
    assert math.isclose(few, 100 * many, rel_tol=1e-9)


def test_a_question_to_blocks_is_read_back_as_it_was_written_and_nothing_else():
    question = world.question(parameters=world.parameters(a=1.5))
    record = question.to_record()
    assert BlocksQuestion.parse(record) == question
    for change in ({"more": 1}, {"mode": "quick"}, {"outputs": [{"name": "x"}]}):
        with pytest.raises(Exception, match="a blocks question"):
            BlocksQuestion.parse({**record, **change})
