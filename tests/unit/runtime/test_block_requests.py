"""Requests for blocks: what a program writes, what the host lets pass, what a quote finds in a text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import SaggarError
from sandbox.jobs.blocks import blocks_question
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.blocks import plan_blocks
from sandbox.runtime.guest.block_calls import block_calls
from sandbox.runtime.guest.block_request import blocks_request
from sandbox.runtime.host.conversation import Ended, parse_request
from tests.support import privacy_world

PLAIN = ("visits", "def block(rows):\n    return 1\n", 9, {"x": (0, 1)}, ["age"], {"a": 1.5}, "mean", 100, "strict")
GOOD = {**blocks_request(*PLAIN, failures=False), "share": "1/2", "index": 0}
TABLES = {"visits": privacy_world.describe()}
READS = (("clinic", ("age",)),)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2_000_000) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def plan_of(request):
    question = blocks_question(request, TABLES, READS, PrivacyLoss(Fraction(1, 8)))
    return plan_blocks(question, TABLES)


def test_what_a_program_writes_is_what_is_planned():
    plan = plan_of(parse_request(GOOD, 3))
    (planned,) = plan.outputs
    assert (planned.output.lower, planned.output.upper, planned.steps) == (0, 1, 2**20)
    assert planned.output.default == Fraction(1, 2)
    assert plan.question.parameters == '{"a":1.5}'


@given(st.sampled_from(sorted(GOOD)), ANYTHING)
def test_a_request_with_any_field_changed_is_cut_off_refused_or_planned_and_never_a_fault(field, value):
    try:
        plan = plan_of(parse_request({**GOOD, field: value, "type": "blocks"}, 0))
    except (Ended, SaggarError):
        return
    assert plan.loss.rho == Fraction(1, 8)


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"k": None}, {"milliseconds": None}, {"output": [["x", "0"]]}, {"failures": 1}]
)
def test_a_malformed_request_ends_the_program(change):
    with pytest.raises(Ended, match="malformed"):
        parse_request({**GOOD, **change}, 0)


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [(0, 1, TypeError), (2, 1.5, TypeError), (2, True, TypeError), (3, {}, TypeError), (3, {"x": 1}, TypeError),
     (3, {"x": (0, float("inf"))}, ValueError), (3, {"x": {"lower": 0}}, TypeError), (4, "age", TypeError),
     (5, {"a": float("nan")}, TypeError), (5, [1], TypeError), (6, "mode", ValueError), (8, "quick", ValueError)],
)  # fmt: skip
def test_an_argument_of_the_wrong_kind_is_the_programs_own_error(place, value, error):
    arguments = list(PLAIN)
    arguments[place] = value
    with pytest.raises(error):
        blocks_request(*arguments, failures=False)


def test_a_quote_finds_what_a_text_spells_out_and_leaves_out_what_it_does_not():
    source = (
        "B = 'def block(rows): return 1'\nK = 50\ndef analyze(data):\n"
        "    a = data.blocks('visits', B, k=K, output={'x': (0, 1)}, parameters=data.parameters, share='1/4')\n"
        "    b = data.blocks('visits', B, k=len(a.notes), output={'x': (0, 1)})\n    return {}\n"
    )
    (found,) = block_calls(source)
    assert (found["k"], found["share"], found["table"]) == (50, "1/4", "visits")
    assert parse_request(found, 0)["output"][0][:3] == ["x", "0", "1"]
