from dataclasses import replace
from fractions import Fraction

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import decide as module
from policies import texts
from policies.decide import Decision, DecisionRequest, check_decision, decide, described_columns
from policies.policy_set import PolicySet, compile_policies, current_policies
from sandbox.errors import CanonicalError, DeniedError, ExpiredError
from sandbox.model.agreement import Agreement, DatasetGrant
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.load_agreement import latest_end
from sandbox.model.loss import PrivacyLoss

OPERATOR = "ab" * 16


def loss(rho, delta=0):
    return PrivacyLoss(Fraction(rho), Fraction(delta))


AGREEMENT = Agreement(
    agreement="clinic-2026",
    title_en="Supervision",
    title_zh="监管",
    operator=OPERATOR,
    agency="cd" * 16,
    not_before="2026-06-30T16:00:00Z",
    not_after="2027-06-30T16:00:00Z",
    purposes=("public-governance",),
    products=("P08",),
    grants=(
        DatasetGrant("aid", ("kind",), loss(1), loss("1/10", "1/1000000")),
        DatasetGrant("clinic", ("days", "fee", "name"), loss(1), loss("1/25", "1/10000000")),
    ),
)
GOOD = DecisionRequest(
    operator=OPERATOR,
    agreement=AGREEMENT,
    product="P08",
    purpose="public-governance",
    reads=(("clinic", ("days", "fee")),),
    description_columns=(
        ("aid", (("kind", "L2"),)),
        ("clinic", (("days", "L2"), ("fee", "L3"), ("name", "L4"), ("ward", "L1"))),
    ),
    loss=loss("1/25", "1/10000000"),
    raw_rows=False,
    at="2026-11-23T08:00:00Z",
    isolation="standard",
)


def with_terms(**changes):
    return replace(GOOD, agreement=replace(AGREEMENT, **changes))


def test_a_use_as_agreed_is_allowed_and_says_by_what():
    decision = decide(GOOD)
    assert decision == Decision(True, ("agreed-use",), current_policies().digest, GOOD.digest())
    check_decision(decision)


@pytest.mark.parametrize(
    ("request_", "clauses"),
    [
        (replace(GOOD, operator="ef" * 16), ("operator-is-party",)),
        (replace(GOOD, operator=AGREEMENT.agency), ("operator-is-party",)),
        (replace(GOOD, at="2026-06-30T15:59:59Z"), ("agreement-window",)),
        (replace(GOOD, at="2027-06-30T16:00:00Z"), ("agreement-window",)),
        (with_terms(not_after="2031-06-30T16:00:01Z"), ("agreement-max-5-years",)),
        (with_terms(not_after="2026-06-30T16:00:00Z"), ("agreement-window", "agreement-max-5-years")),
        (replace(GOOD, purpose="advertising"), ("purpose-agreed",)),
        (replace(GOOD, product="P01"), ("product-agreed",)),
        (replace(GOOD, reads=(("clinic", ("ward",)),)), ("columns-agreed",)),
        (replace(GOOD, reads=(("clinic", ("name",)),)), ("no-forbidden-columns",)),
        (replace(GOOD, description_columns=()), ("no-forbidden-columns",)),
        (replace(GOOD, reads=(("clinic", ("days",)), ("aid", ("fee",)))), ("columns-agreed", "no-forbidden-columns")),
        (replace(GOOD, reads=(("other", ()),)), ("dataset-agreed", "job-loss-limit")),
        (replace(GOOD, reads=()), ("dataset-agreed",)),
        (replace(GOOD, loss=loss("40001/1000000")), ("job-loss-limit",)),
        (replace(GOOD, loss=PrivacyLoss(Fraction(1, 25) + Fraction(1, 10**30))), ("job-loss-limit",)),
        (replace(GOOD, loss=loss("1/25", "2/10000000")), ("job-loss-limit",)),
        (replace(GOOD, loss=loss(10**40)), ("job-loss-limit",)),
        (replace(GOOD, raw_rows=True), ("no-raw-rows",)),
        (replace(GOOD, isolation="floor"), ("isolation-least",)),
        (replace(GOOD, isolation=""), ("isolation-least",)),
    ],
)
def test_each_clause_denies_by_its_own_name(request_, clauses):
    decision = decide(request_)
    assert (decision.allowed, decision.clauses) == (False, clauses)


@pytest.mark.parametrize(
    "request_",
    [
        replace(GOOD, at="2026-06-30T16:00:00Z"),
        replace(GOOD, at="2027-06-30T15:59:59Z"),
        with_terms(not_after="2031-06-30T16:00:00Z"),
        replace(GOOD, reads=(("clinic", ()),)),
        replace(GOOD, reads=(("clinic", ("days",)), ("aid", ("kind",)))),
        replace(GOOD, loss=loss(0)),
        replace(GOOD, isolation="full"),
        replace(GOOD, isolation="no-program"),
    ],
)
def test_the_edges_of_what_was_agreed_are_allowed(request_):
    assert decide(request_).allowed is True


def test_the_smallest_limit_of_all_datasets_holds():
    both = replace(GOOD, reads=(("clinic", ("days",)), ("aid", ("kind",))), loss=loss("1/20"))
    assert decide(both).clauses == ("job-loss-limit",)
    assert decide(replace(both, reads=(("aid", ("kind",)),))).allowed is True


def test_a_limit_finer_than_the_steps_is_rounded_against_the_one_who_asks():
    grants = (DatasetGrant("clinic", ("days", "fee"), loss(1), loss("1/3")),)
    assert decide(replace(with_terms(grants=grants), loss=loss("1/3"))).clauses == ("job-loss-limit",)
    assert decide(replace(with_terms(grants=grants), loss=loss("333333/1000000"))).allowed is True


@pytest.mark.parametrize(
    "request_",
    [
        replace(GOOD, at="yesterday"),
        replace(GOOD, at="2026-11-23"),
        replace(GOOD, at="2026-11-23T08:00:00+08:00"),
        replace(GOOD, isolation=2),
        replace(GOOD, raw_rows=None),
        replace(GOOD, raw_rows=0),
        replace(GOOD, operator=None),
        with_terms(not_before="soon"),
        with_terms(purposes=(1,)),
    ],
)
def test_what_does_not_fit_the_form_is_denied(request_):
    decision = decide(request_)
    assert (decision.allowed, decision.clauses) == (False, ("engine-error",))


class Panic(BaseException):
    """What a panic of the engine looks like."""


@pytest.mark.parametrize("error", [RuntimeError("x"), ValueError("x"), Panic("x")])
def test_a_failing_engine_is_a_denial(monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(cedarpy, "is_authorized", fail)
    assert decide(GOOD).clauses == ("engine-error",)


@pytest.mark.parametrize(
    "response",
    [
        {"decision": "Allow", "diagnostics": {"errors": ["overflow"], "id_annotations_by_reason": {"p": "agreed-use"}}},
        {"decision": "NoDecision", "diagnostics": {"errors": [], "id_annotations_by_reason": {"p": "agreed-use"}}},
        {"decision": "Allow", "diagnostics": {"errors": [], "id_annotations_by_reason": {}}},
        {"decision": "Allow", "diagnostics": {"errors": [], "id_annotations_by_reason": {"p": "unheard-of"}}},
        {"decision": "Perhaps", "diagnostics": {"errors": [], "id_annotations_by_reason": {"p": "agreed-use"}}},
        {},
    ],
)
def test_anything_but_a_plain_answer_is_a_denial(monkeypatch, response):
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_a, **_k: cedarpy.AuthzResult(response))
    assert decide(GOOD).clauses == ("engine-error",)


def test_a_forbid_that_overflows_is_not_skipped():
    old = "context.rho >= 0 && context.rho <= context.agreement.rho_limit"
    new = "context.rho * 9223372036854775807 <= context.agreement.rho_limit"
    assert old in current_policies().text(texts.CLAUSES)
    overflowing = PolicySet(tuple((name, text.replace(old, new)) for name, text in current_policies().texts))
    compile_policies(overflowing)  # the validator has nothing against it
    assert decide(GOOD, overflowing).clauses == ("engine-error",)


def test_a_set_that_does_not_hold_together_denies():
    broken = PolicySet(tuple((name, text.replace("forbid", "forbids")) for name, text in current_policies().texts))
    assert decide(GOOD, broken) == Decision(False, ("engine-error",), broken.digest, GOOD.digest())


def test_a_replay_decides_under_the_policy_of_its_day():
    stricter = PolicySet(
        tuple(
            (name, text.replace('"no-program", "standard", "full"', '"full"'))
            for name, text in current_policies().texts
        )
    )
    assert decide(GOOD, stricter).clauses == ("isolation-least",)
    assert decide(GOOD, stricter).policy == stricter.digest != current_policies().digest


def test_a_denial_names_the_clause_its_sentence_and_what_to_do():
    decision = decide(replace(GOOD, raw_rows=True, product="P01"))
    with pytest.raises(DeniedError) as caught:
        check_decision(decision)
    error = caught.value
    assert error.message == (
        "denied by clause `product-agreed`: a job serves one of the products that were agreed (and by `no-raw-rows`)"
    )
    assert error.hint == "name a product of the agreement, or agree on a new one"
    assert error.code == "policy.denied"
    assert error.details["clauses"] == ["product-agreed", "no-raw-rows"]
    assert error.details["policy"] == decision.policy


def test_a_closed_window_is_an_expiry_whatever_else_denied():
    with pytest.raises(ExpiredError) as caught:
        check_decision(decide(replace(GOOD, at="2030-01-01T00:00:00Z", operator="x")))
    assert caught.value.code == "policy.expired"
    assert caught.value.message == (
        "denied by clause `agreement-window`: jobs run only within the term of the agreement (and by `operator-is-party`)"
    )


@pytest.mark.parametrize("allowed", [True, False, None, 1, "yes"])
def test_only_a_true_decision_with_a_reason_passes(allowed):
    decision = Decision(allowed, (), current_policies().digest, GOOD.digest())
    with pytest.raises(DeniedError, match="denied by clause `engine-error`"):
        check_decision(decision)
    if allowed is not True:
        with pytest.raises(DeniedError, match="denied by clause `agreed-use`"):
            check_decision(replace(decision, clauses=("agreed-use",)))


def test_a_clause_of_an_earlier_set_is_still_a_denial():
    decision = Decision(False, ("bygone",), current_policies().digest, GOOD.digest())
    with pytest.raises(DeniedError, match="denied by clause `bygone`: a clause of an earlier policy set"):
        check_decision(decision)


def test_request_and_decision_survive_their_records():
    raw = canonical_bytes(GOOD.to_record())
    assert DecisionRequest.parse(parse_canonical(raw)) == GOOD
    for decision in (decide(GOOD), decide(replace(GOOD, raw_rows=True))):
        assert Decision.parse(parse_canonical(canonical_bytes(decision.to_record()))) == decision


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"extra": 1}, {"raw_rows": 0}, {"reads": 3}, {"reads": [["clinic", "days", "x"]]}, {"at": None, "x": 1}],
)
def test_a_malformed_request_record_is_refused(change):
    with pytest.raises(CanonicalError, match="a decision request is"):
        DecisionRequest.parse({**GOOD.to_record(), **change})


@pytest.mark.parametrize("record", [None, {}, {"allowed": 1, "clauses": [], "policy": "", "request": ""}])
def test_a_malformed_decision_record_is_refused(record):
    with pytest.raises(CanonicalError, match="a decision record is malformed"):
        Decision.parse(record)


def oracle(request):
    """Return the clauses that deny, in plain Python over exact rationals."""
    terms, denied = request.agreement, set()
    if not request.reads:
        return {"dataset-agreed"}
    if request.operator != terms.operator:
        denied.add("operator-is-party")
    if not terms.not_before <= request.at < terms.not_after:
        denied.add("agreement-window")
    if not terms.not_before < terms.not_after <= latest_end(terms.not_before):
        denied.add("agreement-max-5-years")
    if request.purpose not in terms.purposes:
        denied.add("purpose-agreed")
    if request.product not in terms.products:
        denied.add("product-agreed")
    if request.raw_rows:
        denied.add("no-raw-rows")
    if request.isolation not in {"standard", "full", "no-program"}:
        denied.add("isolation-least")
    for dataset, columns in request.reads:
        grant = terms.grant(dataset)
        levels = dict(dict(request.description_columns).get(dataset, ()))
        if grant is None:
            denied.add("dataset-agreed")
        if not set(columns) <= set(() if grant is None else grant.columns):
            denied.add("columns-agreed")
        if grant is None or not request.loss.fits(grant.job_limit):
            denied.add("job-loss-limit")
        if any(levels.get(column, "L4") == "L4" for column in columns):
            denied.add("no-forbidden-columns")
    return denied


NAMES = st.sampled_from(["days", "fee", "name", "ward", "病区", 'a"b', "a\\"])
TIMES = st.sampled_from(
    ["2024-02-29T00:00:00Z", "2026-06-30T16:00:00Z", "2027-06-30T15:59:59Z", "2027-06-30T16:00:00Z", "2029-02-28T00:00:00Z",
     "2031-06-30T16:00:00Z", "2031-06-30T16:00:01Z", "2032-01-01T00:00:00Z"]
)  # fmt: skip
RHOS = st.integers(0, 50).map(lambda n: Fraction(n, 1000)) | st.sampled_from([Fraction(1, 3), Fraction(10**30)])
LOSSES = st.builds(PrivacyLoss, RHOS, st.sampled_from([Fraction(0), Fraction(1, 10**7), Fraction(1, 3)]))
LIMITS = st.builds(PrivacyLoss, st.integers(1, 50).map(lambda n: Fraction(n, 1000)), st.just(Fraction(1, 10**7)))
GRANTS = st.lists(
    st.builds(
        DatasetGrant,
        st.sampled_from(["clinic", "aid"]),
        st.lists(NAMES, unique=True).map(tuple),
        st.just(loss(1)),
        LIMITS,
    ),
    unique_by=lambda grant: grant.dataset,
)
REQUESTS = st.builds(
    DecisionRequest,
    operator=st.sampled_from([OPERATOR, "ef" * 16]),
    agreement=st.builds(
        Agreement,
        agreement=st.just("a"),
        title_en=st.just("a"),
        title_zh=st.just("a"),
        operator=st.just(OPERATOR),
        agency=st.just("cd" * 16),
        not_before=TIMES,
        not_after=TIMES,
        purposes=st.sampled_from([(), ("governance",), ("governance", "公益")]),
        products=st.sampled_from([(), ("P08",), ("P07", "P08")]),
        grants=GRANTS.map(tuple),
    ),
    product=st.sampled_from(["P08", "P07"]),
    purpose=st.sampled_from(["governance", "公益"]),
    reads=st.lists(
        st.tuples(st.sampled_from(["clinic", "aid", "other"]), st.lists(NAMES, unique=True, max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    description_columns=st.lists(
        st.tuples(
            st.sampled_from(["clinic", "aid"]),
            st.lists(st.tuples(NAMES, st.sampled_from(["L1", "L2", "L3", "L4"])), unique_by=lambda p: p[0]).map(tuple),
        ),
        unique_by=lambda pair: pair[0],
    ).map(tuple),
    loss=LOSSES,
    raw_rows=st.booleans(),
    at=TIMES,
    isolation=st.sampled_from(["floor", "standard", "full", "no-program", "FULL"]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(REQUESTS)
def test_the_engine_and_a_plain_oracle_agree_clause_by_clause(request_):
    decision, denied = decide(request_), oracle(request_)
    assert decision.allowed is (not denied)
    assert set(decision.clauses) == (denied or {"agreed-use"})


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.sampled_from(["purpose", "product", "operator", "isolation"]))
def test_one_foreign_word_always_denies(request_, field):
    assert decide(replace(request_, **{field: "foreign"})).allowed is False


def test_described_columns_come_from_the_description():
    from sandbox.model.load_description import load_description

    text = (
        "dataset: d\ntable: t\nlabel: {en: a, zh: a}\ndepartment_zh: a\ncatalogue_id: D\nunit: {kind: k, column: u, zh: a}\n"
        "bound: {rows: 1, groups: 1}\nbudget: {rho: 1}\nmax_rows: 1\nmax_broken_share: 0\ncolumns:\n"
        "  - {name: b, kind: text, label: {en: a, zh: a}, classification: L4}\n"
        "  - {name: a, kind: text, label: {en: a, zh: a}, classification: L1}\n"
    )
    assert described_columns(load_description(text, "d.yaml")) == ("d", (("a", "L1"), ("b", "L4")))
    assert module.UNKNOWN_CLASS not in {"L1", "L2", "L3"}
