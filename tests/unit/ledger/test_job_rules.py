"""The fold over a job's line: each step, each refusal, and what every end costs."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sandbox.errors import BudgetExhaustedError, ExpiredError, LedgerError, TransitionError
from sandbox.ledger.account import apply
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.loss import PrivacyLoss
from tests.support import ledger_world as city

K = EntryKind
JOB, OTHER = city.digest("job 1"), city.digest("job 2")


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"agreement": "nobody-2026"}, "unknown_agreement"), ({"submitter": "0" * 32}, "unknown_key")],
)
def test_a_job_needs_a_known_agreement_and_submitter(founded, changes, code):
    assert city.refusal(founded, K.JOB_SUBMITTED, city.submitting(JOB, **changes)).code == f"ledger.entry.{code}"


def test_the_same_job_is_never_submitted_twice_whatever_became_of_it(stages):
    refused = city.after([(K.JOB_REFUSED, city.refusing(JOB))], stages[K.JOB_SUBMITTED])
    for state in (stages[K.JOB_SUBMITTED], stages[K.JOB_SETTLED], refused):
        assert city.refusal(state, K.JOB_SUBMITTED, city.submitting(JOB)).code == "ledger.entry.duplicate"
    city.after([(K.JOB_SUBMITTED, city.submitting(OTHER))], refused)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (K.JOB_DECIDED, city.deciding(JOB)),
        (K.JOB_REFUSED, city.refusing(JOB)),
        (K.BUDGET_RESERVED, city.reserving(JOB)),
        (K.VAULT_OPENED, city.opening_vault(JOB)),
        (K.QUESTION_ANSWERED, city.answering(JOB)),
        (K.JOB_GATED, city.gating(JOB)),
        (K.JOB_SETTLED, city.settling(JOB)),
        (K.JOB_RECOVERED, city.recovering(JOB)),
    ],
)
def test_nothing_happens_to_a_job_that_nobody_submitted(founded, kind, body):
    assert city.refusal(founded, kind, body).code == "ledger.entry.unknown_job"


def test_a_decision_is_made_once_and_under_the_policy_in_force(stages):
    state = stages[K.JOB_SUBMITTED]
    other_policy = city.deciding(JOB, policy=city.digest("older policy"))
    assert city.refusal(state, K.JOB_DECIDED, other_policy).code == "ledger.entry.wrong_policy"
    denied = city.after([(K.JOB_DECIDED, city.deciding(JOB, allowed=False))], state)
    assert (denied.jobs[JOB].state, denied.jobs[JOB].allowed) == (JobState.SUBMITTED, False)
    assert city.refusal(denied, K.JOB_DECIDED, city.deciding(JOB)).code == "ledger.entry.duplicate"
    with pytest.raises(TransitionError):
        apply(denied, city.entry_in(denied, K.BUDGET_RESERVED, city.reserving(JOB)))
    refused = city.after([(K.JOB_REFUSED, city.refusing(JOB))], denied)
    assert refused.jobs[JOB].ending == "policy.denied"


def test_an_undecided_refused_job_cannot_be_admitted(stages):
    state = city.after([(K.JOB_REFUSED, city.refusing(JOB))], stages[K.JOB_SUBMITTED])
    with pytest.raises(TransitionError, match="cannot go from `refused` to `admitted`"):
        apply(state, city.entry_in(state, K.JOB_DECIDED, city.deciding(JOB)))


STEPS = {kind: body for kind, body in city.line_of(JOB)} | {  # noqa: C416 - pairs, then more
    K.JOB_REFUSED: city.refusing(JOB),
    K.JOB_RECOVERED: city.recovering(JOB),
}
ALLOWED = {
    K.JOB_SUBMITTED: {K.JOB_DECIDED, K.JOB_REFUSED},
    K.JOB_DECIDED: {K.BUDGET_RESERVED, K.JOB_REFUSED},
    K.BUDGET_RESERVED: {K.VAULT_OPENED, K.JOB_REFUSED, K.JOB_RECOVERED},
    K.VAULT_OPENED: {K.QUESTION_ANSWERED, K.JOB_GATED, K.JOB_RECOVERED},
    K.JOB_GATED: {K.JOB_SETTLED, K.JOB_RECOVERED},
    K.JOB_SETTLED: set(),
}


@pytest.mark.parametrize("reached", ALLOWED)
def test_each_stage_allows_its_next_steps_and_no_others(stages, reached):
    state = stages[reached]
    for kind, body in STEPS.items():
        if kind in ALLOWED[reached]:
            apply(state, city.entry_in(state, kind, body))
        else:
            with pytest.raises((TransitionError, LedgerError)):
                apply(state, city.entry_in(state, kind, body))


def test_a_refusal_before_the_vault_opens_gives_the_reservation_back(stages):
    state = city.after([(K.JOB_REFUSED, city.refusing(JOB, stage="open"))], stages[K.BUDGET_RESERVED])
    assert all(city.rho(state, account) == (0, 0) for account in city.ACCOUNTS)
    assert state.jobs[JOB].ended_seq == 9


def test_after_the_vault_opened_a_job_cannot_be_refused_out_of_its_cost(stages):
    with pytest.raises(TransitionError, match="cannot go from `opened` to `refused`"):
        apply(stages[K.VAULT_OPENED], city.entry_in(stages[K.VAULT_OPENED], K.JOB_REFUSED, city.refusing(JOB)))


@pytest.mark.parametrize("reached", [K.BUDGET_RESERVED, K.VAULT_OPENED, K.QUESTION_ANSWERED, K.JOB_GATED])
def test_a_recovery_posts_everything_that_was_reserved(stages, reached):
    state = city.after([(K.JOB_RECOVERED, city.recovering(JOB))], stages[reached])
    assert all(city.rho(state, account) == (0, 1) for account in city.ACCOUNTS)
    assert (state.jobs[JOB].state, state.jobs[JOB].ending) == (JobState.RECOVERED, "restart")
    for less in ("1/2", "2"):
        error = city.refusal(stages[reached], K.JOB_RECOVERED, city.recovering(JOB, city.loss(less)))
        assert error.code == "ledger.entry.recovered_not_all"


def test_a_reservation_above_the_budget_is_refused_with_what_remains(founded):
    state = founded
    for number in range(2):
        job = city.digest(f"big {number}")
        state = city.after(
            [
                (K.JOB_SUBMITTED, city.submitting(job)),
                (K.JOB_DECIDED, city.deciding(job, loss=city.loss("3/2"))),
                (K.BUDGET_RESERVED, city.reserving(job, city.loss("3/2"))),
            ],
            state,
        )
    state = city.after(
        [(K.JOB_SUBMITTED, city.submitting(JOB)), (K.JOB_DECIDED, city.deciding(JOB, loss=city.loss("2")))], state
    )
    with pytest.raises(BudgetExhaustedError, match="does not cover the loss asked for") as caught:
        apply(state, city.entry_in(state, K.BUDGET_RESERVED, city.reserving(JOB, city.loss("1000001/1000000"))))
    assert caught.value.code == "privacy.budget"
    assert caught.value.details == {
        "account": city.ACCOUNTS[0],
        "requested": city.loss("1000001/1000000"),
        "remaining": city.loss("1", "1/1000000"),
    }
    exact = city.after([(K.BUDGET_RESERVED, city.reserving(JOB, city.loss("1")))], state)
    assert exact.accounts[city.ACCOUNTS[0]].remaining.rho == 0


def test_delta_is_a_budget_too(founded):
    asked = city.loss("0", "1/1000000")
    steps = [
        (K.JOB_SUBMITTED, city.submitting(JOB)),
        (K.JOB_DECIDED, city.deciding(JOB, loss=asked)),
        (K.BUDGET_RESERVED, city.reserving(JOB, asked)),
    ]
    state = city.after(
        [*steps, (K.JOB_SUBMITTED, city.submitting(OTHER)), (K.JOB_DECIDED, city.deciding(OTHER, loss=asked))], founded
    )
    with pytest.raises(BudgetExhaustedError):
        apply(state, city.entry_in(state, K.BUDGET_RESERVED, city.reserving(OTHER, asked)))


def test_one_job_may_not_ask_for_more_than_the_agreements_job_limit(stages):
    admitted = city.after([(K.JOB_DECIDED, city.deciding(JOB, loss=city.loss("3")))], stages[K.JOB_SUBMITTED])
    with pytest.raises(BudgetExhaustedError, match="one job may not ask for this much of `hospital`") as caught:
        apply(admitted, city.entry_in(admitted, K.BUDGET_RESERVED, city.reserving(JOB, city.loss("5/2"))))
    assert caught.value.code == "privacy.budget.job_limit"
    assert caught.value.details["remaining"] == city.loss("2", "1/1000000")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (city.reserving(JOB, city.loss("3/2")), "above_admitted"),
        (city.reserving(JOB, accounts=city.ACCOUNTS[:1]), "wrong_accounts"),
        (city.reserving(JOB, accounts=city.ACCOUNTS[1:]), "wrong_accounts"),
        (city.reserving(JOB, accounts=(*city.ACCOUNTS, city.ACCOUNTS[0])), "wrong_accounts"),
        (city.reserving(JOB, accounts=(*city.ACCOUNTS, "dataset:census/person")), "wrong_accounts"),
        (
            {
                "job": JOB,
                "reservations": [
                    {"account": city.ACCOUNTS[0], "loss": city.loss("1")},
                    {"account": city.ACCOUNTS[1], "loss": city.loss("1/2")},
                ],
            },
            "unequal_reservations",
        ),
    ],
)
def test_a_reservation_charges_both_accounts_of_each_dataset_alike(stages, body, code):
    assert city.refusal(stages[K.JOB_DECIDED], K.BUDGET_RESERVED, body).code == f"ledger.entry.{code}"


def test_only_the_agreements_operator_can_spend_its_budget(founded):
    steps = [(K.JOB_SUBMITTED, city.submitting(JOB, submitter=city.AGENCY.key_id)), (K.JOB_DECIDED, city.deciding(JOB))]
    assert (
        city.refusal(city.after(steps, founded), K.BUDGET_RESERVED, city.reserving(JOB)).code
        == "ledger.entry.wrong_operator"
    )


@pytest.mark.parametrize(("reached", "kind"), [(K.JOB_DECIDED, K.BUDGET_RESERVED), (K.BUDGET_RESERVED, K.VAULT_OPENED)])
def test_after_the_term_nothing_is_reserved_or_opened(stages, reached, kind):
    state = stages[reached]
    body = dict(city.line_of(JOB))[kind]
    apply(state, city.entry_in(state, kind, body, at="2026-12-31T23:59:59Z"))
    with pytest.raises(ExpiredError, match="agreement `hospital-2026` is outside its term") as caught:
        apply(state, city.entry_in(state, kind, body, at="2027-01-01T00:00:00Z"))
    assert caught.value.details["not_after"] == "2027-01-01T00:00:00Z"


def test_a_job_that_ran_over_the_end_of_the_term_is_still_settled(stages):
    state = stages[K.JOB_GATED]
    apply(state, city.entry_in(state, K.JOB_SETTLED, city.settling(JOB), at="2027-01-01T00:00:01Z"))


def test_the_vault_opens_only_what_was_reserved_and_granted(founded, stages):
    state = stages[K.BUDGET_RESERVED]
    for reads, code in (
        ([["census", city.SNAPSHOT, ["age"]]], "unknown_dataset"),
        ([["hospital", JOB, ["age"]]], "unknown_snapshot"),
        ([["hospital", city.SNAPSHOT, ["age", "name"]]], "column_not_granted"),
    ):
        assert city.refusal(state, K.VAULT_OPENED, {"job": JOB, "reads": reads}).code == f"ledger.entry.{code}"
    census = (K.DATASET_SEALED, city.sealing(dataset="census", snapshot=city.digest("c1")))
    state = city.after([census, *city.line_of(JOB)[:3]], founded)
    reads = [["census", city.digest("c1"), ["age"]]]
    assert city.refusal(state, K.VAULT_OPENED, {"job": JOB, "reads": reads}).code == "ledger.entry.not_reserved"


def test_a_job_over_two_datasets_is_charged_on_four_accounts(founded):
    two = city.agreeing(
        name="both",
        agreement=city.digest("both"),
        grants=[city.granting(), city.granting(dataset="census", columns=["age"])],
    )
    accounts = ("agreement:both/hospital", "dataset:hospital/patient", "agreement:both/census", "dataset:census/person")
    state = city.after(
        [
            (K.DATASET_SEALED, city.sealing(dataset="census", unit_kind="person", snapshot=city.digest("c1"))),
            (K.AGREEMENT_REGISTERED, two),
            (K.JOB_SUBMITTED, city.submitting(JOB, agreement="both")),
            (K.JOB_DECIDED, city.deciding(JOB)),
        ],
        founded,
    )
    assert (
        city.refusal(state, K.BUDGET_RESERVED, city.reserving(JOB, accounts=accounts[:3])).code
        == "ledger.entry.wrong_accounts"
    )
    reads = [["census", city.digest("c1"), ["age"]], ["hospital", city.SNAPSHOT, ["ward"]]]
    state = city.after(
        [
            (K.BUDGET_RESERVED, city.reserving(JOB, accounts=accounts)),
            (K.VAULT_OPENED, {"job": JOB, "reads": reads}),
            (K.QUESTION_ANSWERED, city.answering(JOB)),
            (K.JOB_SETTLED, city.settling(JOB, outcome="failed", code="isolation.limit", release=None)),
        ],
        state,
    )
    assert all(city.rho(state, account) == (0, Fraction(1, 2)) for account in accounts)
    assert state.jobs[JOB].ending == "isolation.limit"


def test_answers_are_numbered_and_stay_within_the_reservation(stages):
    state = stages[K.QUESTION_ANSWERED]
    assert city.refusal(state, K.QUESTION_ANSWERED, city.answering(JOB, 0)).code == "ledger.entry.out_of_order"
    assert city.refusal(state, K.QUESTION_ANSWERED, city.answering(JOB, 2)).code == "ledger.entry.out_of_order"
    with pytest.raises(BudgetExhaustedError, match="would cost more than it reserved") as caught:
        apply(state, city.entry_in(state, K.QUESTION_ANSWERED, city.answering(JOB, 1, city.loss("501/1000"))))
    assert caught.value.code == "privacy.budget.job"
    assert caught.value.details["remaining"] == city.loss("1/2")
    assert city.after([(K.QUESTION_ANSWERED, city.answering(JOB, 1))], state).jobs[JOB].answered == PrivacyLoss(
        Fraction(1)
    )
    assert (
        city.refusal(stages[K.JOB_GATED], K.QUESTION_ANSWERED, city.answering(JOB, 1)).code == "ledger.entry.not_open"
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"posted": city.loss("499/1000")}, "settled_below_answered"),
        ({"posted": city.loss("1001/1000")}, "settled_above_reserved"),
        ({"posted": city.loss("1/2", "1/1000000")}, "settled_above_reserved"),
        ({"release": None}, "malformed"),
        ({"code": "job.gate"}, "malformed"),
        ({"outcome": "failed"}, "malformed"),
        ({"outcome": "failed", "release": None}, "malformed"),
    ],
)
def test_a_settlement_posts_what_was_answered_at_least_and_what_was_reserved_at_most(stages, changes, code):
    assert (
        city.refusal(stages[K.JOB_GATED], K.JOB_SETTLED, city.settling(JOB, **changes)).code == f"ledger.entry.{code}"
    )
