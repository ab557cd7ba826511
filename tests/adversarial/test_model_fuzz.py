"""Hostile models: whatever their parts, questions within the loss and an outcome, or a refusal; never a crash."""

from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.compute.run import open_engine, run_plan
from sandbox.errors import BoundError, QueryError
from sandbox.model.loss import NO_LOSS, PrivacyLoss
from sandbox.model.model_document import ModelDocument, ModelInput, ModelKind
from sandbox.privacy.measure import measure
from sandbox.privacy.models.planning import plan_model
from sandbox.privacy.models.running import run_model
from sandbox.privacy.noise import OpenDpNoise
from tests.adversarial.test_query_fuzz import WORDS
from tests.support import privacy_world as world
from tests.support.privacy_strategies import CONDITIONS, KEYS, NUMBERS, tables

ENGINE = open_engine(1)
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
ENOUGH = PrivacyLoss(Fraction(10**8))
LOSSES = st.sampled_from([PrivacyLoss(Fraction(1, 10**6)), PrivacyLoss(Fraction(2)), ENOUGH, ENOUGH])
SALAD = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
WHOLE = st.sampled_from(
    ["age", "age / 7", "delta", "COALESCE(cost, 0)", "ABS(delta) * age", "CASE WHEN urgent THEN 1 ELSE 0 END"]
)
STRANGE = st.one_of(NUMBERS, KEYS, CONDITIONS, SALAD)
KEYED = st.sampled_from(["district", "urgent"])
ENDS = (
    st.none() | st.fractions(-1000, 1000, max_denominator=9) | st.sampled_from([Fraction(10**30), Fraction(1, 10**30)])
)
CUTS = st.lists(st.fractions(-100, 200, max_denominator=4), max_size=4).map(tuple)


def mostly(usual, strange):
    """Seven times in eight what is usual."""
    return st.integers(1, 8).flatmap(lambda place: strange if place == 5 else usual)


@st.composite
def inputs(draw, parts, cuts=CUTS):
    name = draw(st.sampled_from(["x", "年龄", "a b", ""]))
    end = mostly(st.none(), ENDS)
    ends = sorted((draw(end), draw(end)), key=lambda end: (end is None, end or 0))
    return ModelInput(name, draw(parts), *draw(st.permutations(ends)), draw(cuts))


@st.composite
def documents(draw):
    kind = draw(st.sampled_from(ModelKind))
    condition = st.sampled_from(["urgent", "age > 40", "district = 'east'", "cost IS NULL"])
    target = inputs(mostly(WHOLE if kind is ModelKind.LINEAR else condition, STRANGE), st.just(()))
    read = inputs(mostly(WHOLE, STRANGE), st.just(()))
    match kind:
        case ModelKind.SCORECARD:
            read = mostly(inputs(WHOLE), inputs(mostly(KEYED, STRANGE), st.just(()) | CUTS))
        case ModelKind.SYNTHETIC:
            read = inputs(mostly(KEYED, st.sampled_from(["diag", "cost"]) | STRANGE), st.just(()))
    right = kind is not ModelKind.SYNTHETIC
    return ModelDocument(
        kind=kind,
        table=draw(mostly(st.just("visits"), st.sampled_from(["visits", "claims", 'v"; --']))),
        filter=draw(mostly(st.just("") | condition, CONDITIONS | SALAD)),
        target=draw(target) if right == draw(mostly(st.just(True), st.booleans())) else None,
        inputs=tuple(draw(mostly(st.lists(read, min_size=2, max_size=3), st.lists(read, max_size=4)))),
        max_rows=draw(st.sampled_from([1, 50])),
    )


def planned(document, loss):
    try:
        return plan_model(document, loss, {"visits": world.describe()}, rows=None, groups=None)
    except (QueryError, BoundError) as error:
        refused = error
    assert refused.code.startswith(("input.query.", "privacy.bound"))
    assert refused.hint
    return None


@QUIET
@given(documents(), LOSSES)
def test_a_model_is_refused_or_all_its_questions_fit_its_loss(document, loss):
    plan = planned(document, loss)
    if plan is None:
        return
    assert ModelDocument.parse(document.to_text()) == document
    spent = sum((asked.loss for _, asked in plan.questions), NO_LOSS)
    assert spent.rho <= loss.rho
    assert spent.delta <= loss.delta
    assert all(asked.table == "visits" and asked.joined is None for _, asked in plan.questions)


@QUIET
@given(documents(), LOSSES, tables(max_units=3, max_rows=3))
def test_a_planned_model_asks_its_questions_and_ends_with_an_outcome_or_too_little_to_learn_from(document, loss, rows):
    plan = planned(document, loss)
    if plan is None:
        return
    table, asked = world.table(rows), []

    def ask(question):
        expected, chosen = plan.questions[len(asked)]
        assert question == expected
        asked.append(question)
        return measure(chosen, run_plan(chosen, [table], engine=ENGINE), OpenDpNoise()).answer

    try:
        outputs = run_model(plan, ask, loss, seed=b"seed")
    except BoundError as error:
        if error.code != "privacy.bound.rows_needed":
            raise
        return
    assert set(outputs) == {declared.name for declared in plan.outputs}
