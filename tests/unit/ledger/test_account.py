"""The fold: what each kind of entry does to the state, and everything that it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.errors import BudgetExhaustedError, ExpiredError, LedgerError, TransitionError
from sandbox.ledger.account import EMPTY, Account, State, apply, state_digest
from sandbox.ledger.table import Table
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role
from sandbox.model.loss import PrivacyLoss
from tests.support import ledger_world as city

K = EntryKind
JOB, OTHER = city.digest("job 1"), city.digest("job 2")


def after(steps, state=EMPTY) -> State:
    """Return the state after applying (kind, body) steps one second apart."""
    for kind, body in steps:
        state = apply(state, entry_in(state, kind, body))
    return state


def entry_in(state, kind, body, **changes) -> Entry:
    seq = state.size
    at = f"2026-03-01T{8 + seq // 3600:02d}:{seq // 60 % 60:02d}:{seq % 60:02d}Z"
    return replace(Entry(seq, at, kind, city.SANDBOX.key_id, json.loads(json.dumps(body))), **changes)


def refusal(state, kind, body, **changes):
    with pytest.raises(LedgerError) as caught:
        apply(state, entry_in(state, kind, body, **changes))
    return caught.value


@pytest.fixture(scope="module")
def founded():
    return after(city.founding())


@pytest.fixture(scope="module")
def stages(founded):
    """The state after each step of the line of one job, by the kind of the step."""
    states, state = {}, founded
    for kind, body in city.line_of(JOB):
        state = after([(kind, body)], state)
        states[kind] = state
    return states


def rho(state, account=city.ACCOUNTS[0]):
    facts = state.accounts[account]
    return facts.pending.rho, facts.posted.rho


def test_a_whole_line_moves_the_budget_from_free_to_pending_to_posted(founded, stages):
    for account in city.ACCOUNTS:
        assert rho(founded, account) == (0, 0)
        assert rho(stages[K.BUDGET_RESERVED], account) == (1, 0)
        assert rho(stages[K.JOB_GATED], account) == (1, 0)
        assert rho(stages[K.JOB_SETTLED], account) == (0, Fraction(1, 2))
    job = stages[K.JOB_SETTLED].jobs[JOB]
    assert job.state is JobState.RELEASED
    assert (job.release, job.output, job.questions) == (city.digest("release"), city.digest("output"), 1)
    assert (job.submitted_seq, job.ended_seq) == (6, 12)
    assert stages[K.JOB_SETTLED].accounts[city.ACCOUNTS[0]].remaining == PrivacyLoss(Fraction(7, 2), Fraction(1, 10**6))


def test_the_founding_entries_stand_in_the_state(founded):
    assert (founded.origin, founded.policy, founded.size) == (city.ORIGIN, city.POLICY, 6)
    assert set(founded.keys) == {city.SANDBOX.key_id, city.OPERATOR.key_id, city.AGENCY.key_id}
    dataset = founded.datasets[city.DATASET]
    assert (dataset.snapshot, dataset.profile, dataset.account) == (city.SNAPSHOT, None, city.ACCOUNTS[1])
    assert founded.agreements[city.AGREEMENT].grants[city.DATASET].columns == {"age", "ward"}


def test_a_refused_entry_leaves_the_state_as_it_was(stages):
    before = stages[K.VAULT_OPENED]
    digest = state_digest(before)
    with pytest.raises(BudgetExhaustedError):
        apply(before, entry_in(before, K.QUESTION_ANSWERED, city.answering(JOB, 0, city.loss("3/2"))))
    assert state_digest(before) == digest


def test_two_folds_of_one_log_have_one_digest_and_another_log_another(stages):
    again = after([*city.founding(), *city.line_of(JOB)])
    assert state_digest(again) == state_digest(stages[K.JOB_SETTLED])
    assert state_digest(again) != state_digest(after([*city.founding(), *city.line_of(OTHER)]))


# --- order, time, actors, form ---


def test_the_first_entry_opens_the_log_and_no_other_does(founded):
    assert refusal(EMPTY, K.POLICY_ADOPTED, {"policy": city.POLICY}).code == "ledger.entry.not_opened"
    error = refusal(founded, K.LOG_OPENED, city.opening())
    assert error.message == "a log is opened by its first entry and no other"


def test_only_the_sandbox_opens_a_log():
    for body, actor in ((city.opening(city.OPERATOR), city.OPERATOR.key_id), (city.opening(), city.OPERATOR.key_id)):
        assert refusal(EMPTY, K.LOG_OPENED, body, actor=actor).code == "ledger.entry.wrong_role"


def test_entries_come_in_order_and_time_never_goes_back(founded):
    error = refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, seq=7)
    assert (error.code, error.message) == ("ledger.entry.out_of_order", "entry 7 came where entry 6 belongs")
    error = refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at="2026-03-01T08:00:04Z")
    assert (error.code, error.message) == (
        "ledger.entry.time_backwards",
        "entry 6 is earlier than the entry before it",
    )
    apply(founded, entry_in(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at=founded.at))


@pytest.mark.parametrize(
    "at", ["2026-02-30T00:00:00Z", "2026-03-01 08:00:00Z", "2026-03-01T08:00:00+00:00", "", "２026-03-01T08:00:00Z"]
)
def test_a_time_that_does_not_exist_is_refused(founded, at):
    error = refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at=at)
    assert (error.code, error.details["place"]) == ("ledger.entry.malformed", "at")


def test_an_actor_must_be_a_registered_key(founded):
    error = refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, actor="0" * 32)
    assert (error.code, error.message) == ("ledger.entry.unknown_key", f"actor `{'0' * 32}` is not a registered key")


def test_every_kind_refuses_a_missing_and_an_extra_field(founded):
    bodies = dict([*city.founding(), *city.line_of(JOB)]) | {
        K.DATASET_PROFILED: {
            "dataset": city.DATASET,
            "snapshot": city.SNAPSHOT,
            "loss": city.loss("1"),
            "profile": city.digest("p"),
        },
        K.JOB_REFUSED: city.refusing(JOB),
        K.JOB_RECOVERED: city.recovering(JOB),
        K.EXPORT_MADE: {"bundle": city.digest("bundle"), "by": city.AGENCY.key_id},
        K.DATASET_DESTROYED: {
            "dataset": city.DATASET,
            "snapshots": [city.SNAPSHOT],
            "certificate": city.digest("certificate"),
        },
        K.BATCH_RECEIVED: {
            "dataset": city.DATASET,
            "batch": city.digest("batch"),
            "department": city.AGENCY.key_id,
            "snapshot": city.SNAPSHOT,
        },
        K.EPOCH_CLOSED: {"epoch": 1, "certificates": [], "record": city.digest("epoch")},
    }
    assert set(bodies) == set(EntryKind)
    for kind, body in bodies.items():
        state = EMPTY if kind is K.LOG_OPENED else founded
        error = refusal(state, kind, body | {"rows": 12_345})
        assert (error.code, error.details["place"]) == ("ledger.entry.malformed", "rows")
        for name in body:
            error = refusal(state, kind, {other: value for other, value in body.items() if other != name})
            assert (error.code, error.details["place"]) == ("ledger.entry.malformed", name)


@pytest.mark.parametrize(
    ("kind", "body", "place"),
    [
        (K.POLICY_ADOPTED, {"policy": "md5:00"}, "policy"),
        (K.KEY_REGISTERED, {"key": {"name": "x"}}, "key"),
        (K.KEY_REGISTERED, {"key": city.OPERATOR.to_record() | {"name": "two words"}}, "key"),
        (K.KEY_REGISTERED, {"key": city.OPERATOR.to_record() | {"name": 7}}, "key"),
        (K.DATASET_SEALED, city.sealing(dataset="a/b"), "dataset"),
        (K.DATASET_SEALED, city.sealing(suite="rsa"), "suite"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": "0.5", "delta": "0"}), "budget"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": "2/4", "delta": "0"}), "budget"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": "1"}), "budget"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": "1", "delta": "1"}), "budget"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": "-1", "delta": "0"}), "budget"),
        (K.DATASET_SEALED, city.sealing(budget={"rho": 1, "delta": "0"}), "budget"),
        (K.AGREEMENT_REGISTERED, city.agreeing(grants=[]), "grants"),
        (K.AGREEMENT_REGISTERED, city.agreeing(grants=[city.granting(columns=["ward", "age"])]), "grants"),
        (K.AGREEMENT_REGISTERED, city.agreeing(grants=[city.granting(rows=1)]), "grants"),
        (K.AGREEMENT_REGISTERED, city.agreeing(not_after="soon"), "not_after"),
        (K.JOB_SUBMITTED, city.submitting(JOB, name="two\nlines"), "name"),
        (K.JOB_SUBMITTED, city.submitting(JOB, name="x" * 201), "name"),
        (K.JOB_SUBMITTED, city.submitting(JOB, kind="java"), "kind"),
        (K.JOB_SUBMITTED, city.submitting(JOB, signature="AAAA"), "signature"),
        (K.JOB_SUBMITTED, city.submitting(JOB, signature="not base64"), "signature"),
        (K.JOB_DECIDED, city.deciding(JOB, allowed=1), "allowed"),
        (K.JOB_DECIDED, city.deciding(JOB, clauses=["b", "a"]), "clauses"),
        (K.JOB_REFUSED, city.refusing(JOB, code="Patient 4711 was not found"), "code"),
        (K.BUDGET_RESERVED, {"job": JOB, "reservations": []}, "reservations"),
        (K.BUDGET_RESERVED, city.reserving(JOB, accounts=("hospital",)), "reservations"),
        (K.VAULT_OPENED, {"job": JOB, "reads": [["hospital", city.SNAPSHOT]]}, "reads"),
        (K.QUESTION_ANSWERED, city.answering(JOB, -1), "index"),
        (K.QUESTION_ANSWERED, city.answering(JOB, True), "index"),
        (K.JOB_SETTLED, city.settling(JOB, duration_bucket_s="16"), "duration_bucket_s"),
        (K.JOB_SETTLED, city.settling(JOB, isolation={"landlock": 4}), "isolation"),
        (K.JOB_SETTLED, city.settling(JOB, isolation=[]), "isolation"),
        (K.JOB_SETTLED, city.settling(JOB, isolation={"level": "FULL", "note": "a\u2028b"}), "isolation"),
        (K.JOB_RECOVERED, city.recovering(JOB) | {"reason": "Traceback (most recent call last)"}, "reason"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_form_is_refused_and_named(founded, kind, body, place):
    error = refusal(founded, kind, body)
    assert (error.code, error.details["place"]) == ("ledger.entry.malformed", place)
    assert error.message.startswith(f"field `{place}` of a `{kind.value}` entry is malformed: ")


# --- keys, datasets, agreements ---


def test_a_key_is_registered_once_and_in_one_role(founded):
    for key in (city.OPERATOR, replace(city.OPERATOR, name="other", role=Role.WITNESS)):
        error = refusal(founded, K.KEY_REGISTERED, {"key": key.to_record()})
        assert (error.code, error.message) == (
            "ledger.entry.duplicate",
            f"the key of `{key.name}` is already registered",
        )


def test_a_later_seal_may_lower_the_budget_and_never_raise_it(founded):
    newer = city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT)
    lowered = after([(K.DATASET_SEALED, newer | {"budget": city.loss("1")})], founded)
    assert lowered.accounts[city.ACCOUNTS[1]].limit == PrivacyLoss(Fraction(1))
    assert [snapshot for snapshot, _ in lowered.datasets[city.DATASET].snapshots] == [city.SNAPSHOT, city.digest("s2")]
    for raised in (city.loss("11", "1/1000000"), city.loss("1", "1/1000")):
        error = refusal(founded, K.DATASET_SEALED, newer | {"budget": raised})
        assert (error.code, error.message) == ("ledger.entry.budget_raised", "the budget of `hospital` would rise")
    back = city.sealing(snapshot=city.digest("s3"), parent=city.digest("s2"), budget=city.loss("2"))
    assert refusal(lowered, K.DATASET_SEALED, back).code == "ledger.entry.budget_raised"


def test_a_limit_lowered_below_what_is_spent_leaves_nothing_and_breaks_nothing(stages):
    newer = city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT, budget=city.loss("1/4"))
    state = after([(K.DATASET_SEALED, newer)], stages[K.JOB_GATED])
    assert state.accounts[city.ACCOUNTS[1]].remaining == PrivacyLoss(Fraction(0))
    state = after([(K.JOB_SETTLED, city.settling(JOB))], state)
    assert rho(state, city.ACCOUNTS[1]) == (0, Fraction(1, 2))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"snapshot": "sm3:" + "77" * 32, "parent": None}, "wrong_parent"),
        ({"snapshot": "sm3:" + "77" * 32, "parent": "sm3:" + "66" * 32}, "wrong_parent"),
        ({"parent": city.SNAPSHOT}, "duplicate"),
        ({"snapshot": "sm3:" + "77" * 32, "parent": city.SNAPSHOT, "unit_kind": "ward"}, "unit_changed"),
        ({"dataset": "new", "parent": city.SNAPSHOT}, "wrong_parent"),
    ],
)
def test_a_seal_that_does_not_fit_its_lineage_is_refused(founded, changes, code):
    assert refusal(founded, K.DATASET_SEALED, city.sealing(**changes)).code == f"ledger.entry.{code}"


def test_a_profile_is_paid_from_the_datasets_account(founded):
    body = {"dataset": city.DATASET, "snapshot": city.SNAPSHOT, "loss": city.loss("3"), "profile": city.digest("p")}
    state = after([(K.DATASET_PROFILED, body)], founded)
    assert rho(state, city.ACCOUNTS[1]) == (0, 3)
    assert state.datasets[city.DATASET].profile == city.digest("p")
    with pytest.raises(BudgetExhaustedError):
        apply(state, entry_in(state, K.DATASET_PROFILED, body | {"loss": city.loss("8")}))
    assert refusal(state, K.DATASET_PROFILED, body | {"dataset": "no"}).code == "ledger.entry.unknown_dataset"
    assert refusal(state, K.DATASET_PROFILED, body | {"snapshot": JOB}).code == "ledger.entry.unknown_snapshot"


def test_a_profile_of_an_old_snapshot_is_not_that_of_the_current(founded):
    state = after([(K.DATASET_SEALED, city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT))], founded)
    body = {"dataset": city.DATASET, "snapshot": city.SNAPSHOT, "loss": city.loss("1"), "profile": city.digest("p")}
    assert after([(K.DATASET_PROFILED, body)], state).datasets[city.DATASET].profile is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "duplicate"),
        ({"name": "again"}, "duplicate"),
        ({"agreement": "sm3:" + "22" * 32}, "duplicate"),
        ({"name": "new", "agreement": "sm3:" + "22" * 32, "grants": [city.granting(), city.granting()]}, "duplicate"),
        ({"name": "new", "agreement": "sm3:" + "22" * 32, "not_after": "2026-01-01T00:00:00Z"}, "empty_term"),
        ({"name": "new", "agreement": "sm3:" + "22" * 32, "operator": "0" * 32}, "unknown_key"),
        ({"name": "new", "agreement": "sm3:" + "22" * 32, "agency": city.OPERATOR.key_id}, "unknown_key"),
    ],
)
def test_an_agreement_that_does_not_stand_is_refused(founded, changes, code):
    assert refusal(founded, K.AGREEMENT_REGISTERED, city.agreeing(**changes)).code == f"ledger.entry.{code}"


def test_an_export_is_counted_and_its_maker_must_be_known(founded):
    body = {"bundle": city.digest("bundle"), "by": city.AGENCY.key_id}
    assert after([(K.EXPORT_MADE, body)] * 2, founded).exports == 2
    assert refusal(founded, K.EXPORT_MADE, body | {"by": "0" * 32}).code == "ledger.entry.unknown_key"


# --- the line of a job ---


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"agreement": "nobody-2026"}, "unknown_agreement"), ({"submitter": "0" * 32}, "unknown_key")],
)
def test_a_job_needs_a_known_agreement_and_submitter(founded, changes, code):
    assert refusal(founded, K.JOB_SUBMITTED, city.submitting(JOB, **changes)).code == f"ledger.entry.{code}"


def test_the_same_job_is_never_submitted_twice_whatever_became_of_it(stages):
    refused = after([(K.JOB_REFUSED, city.refusing(JOB))], stages[K.JOB_SUBMITTED])
    for state in (stages[K.JOB_SUBMITTED], stages[K.JOB_SETTLED], refused):
        assert refusal(state, K.JOB_SUBMITTED, city.submitting(JOB)).code == "ledger.entry.duplicate"
    after([(K.JOB_SUBMITTED, city.submitting(OTHER))], refused)


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
    assert refusal(founded, kind, body).code == "ledger.entry.unknown_job"


def test_a_decision_is_made_once_and_under_the_policy_in_force(stages):
    state = stages[K.JOB_SUBMITTED]
    other_policy = city.deciding(JOB, policy=city.digest("older policy"))
    assert refusal(state, K.JOB_DECIDED, other_policy).code == "ledger.entry.wrong_policy"
    denied = after([(K.JOB_DECIDED, city.deciding(JOB, allowed=False))], state)
    assert (denied.jobs[JOB].state, denied.jobs[JOB].allowed) == (JobState.SUBMITTED, False)
    assert refusal(denied, K.JOB_DECIDED, city.deciding(JOB)).code == "ledger.entry.duplicate"
    with pytest.raises(TransitionError):
        apply(denied, entry_in(denied, K.BUDGET_RESERVED, city.reserving(JOB)))
    refused = after([(K.JOB_REFUSED, city.refusing(JOB))], denied)
    assert refused.jobs[JOB].ending == "policy.denied"


def test_an_undecided_refused_job_cannot_be_admitted(stages):
    state = after([(K.JOB_REFUSED, city.refusing(JOB))], stages[K.JOB_SUBMITTED])
    with pytest.raises(TransitionError, match="cannot go from `refused` to `admitted`"):
        apply(state, entry_in(state, K.JOB_DECIDED, city.deciding(JOB)))


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
            apply(state, entry_in(state, kind, body))
        else:
            with pytest.raises((TransitionError, LedgerError)):
                apply(state, entry_in(state, kind, body))


def test_a_refusal_before_the_vault_opens_gives_the_reservation_back(stages):
    state = after([(K.JOB_REFUSED, city.refusing(JOB, stage="open"))], stages[K.BUDGET_RESERVED])
    assert all(rho(state, account) == (0, 0) for account in city.ACCOUNTS)
    assert state.jobs[JOB].ended_seq == 9


def test_after_the_vault_opened_a_job_cannot_be_refused_out_of_its_cost(stages):
    with pytest.raises(TransitionError, match="cannot go from `opened` to `refused`"):
        apply(stages[K.VAULT_OPENED], entry_in(stages[K.VAULT_OPENED], K.JOB_REFUSED, city.refusing(JOB)))


@pytest.mark.parametrize("reached", [K.BUDGET_RESERVED, K.VAULT_OPENED, K.QUESTION_ANSWERED, K.JOB_GATED])
def test_a_recovery_posts_everything_that_was_reserved(stages, reached):
    state = after([(K.JOB_RECOVERED, city.recovering(JOB))], stages[reached])
    assert all(rho(state, account) == (0, 1) for account in city.ACCOUNTS)
    assert (state.jobs[JOB].state, state.jobs[JOB].ending) == (JobState.RECOVERED, "restart")
    for less in ("1/2", "2"):
        error = refusal(stages[reached], K.JOB_RECOVERED, city.recovering(JOB, city.loss(less)))
        assert error.code == "ledger.entry.recovered_not_all"


def test_a_reservation_above_the_budget_is_refused_with_what_remains(founded):
    state = founded
    for number in range(2):
        job = city.digest(f"big {number}")
        state = after(
            [
                (K.JOB_SUBMITTED, city.submitting(job)),
                (K.JOB_DECIDED, city.deciding(job, loss=city.loss("3/2"))),
                (K.BUDGET_RESERVED, city.reserving(job, city.loss("3/2"))),
            ],
            state,
        )
    state = after(
        [(K.JOB_SUBMITTED, city.submitting(JOB)), (K.JOB_DECIDED, city.deciding(JOB, loss=city.loss("2")))], state
    )
    with pytest.raises(BudgetExhaustedError, match="does not cover the loss asked for") as caught:
        apply(state, entry_in(state, K.BUDGET_RESERVED, city.reserving(JOB, city.loss("1000001/1000000"))))
    assert caught.value.code == "privacy.budget"
    assert caught.value.details == {
        "account": city.ACCOUNTS[0],
        "requested": city.loss("1000001/1000000"),
        "remaining": city.loss("1", "1/1000000"),
    }
    exact = after([(K.BUDGET_RESERVED, city.reserving(JOB, city.loss("1")))], state)
    assert exact.accounts[city.ACCOUNTS[0]].remaining.rho == 0


def test_delta_is_a_budget_too(founded):
    asked = city.loss("0", "1/1000000")
    steps = [
        (K.JOB_SUBMITTED, city.submitting(JOB)),
        (K.JOB_DECIDED, city.deciding(JOB, loss=asked)),
        (K.BUDGET_RESERVED, city.reserving(JOB, asked)),
    ]
    state = after(
        [*steps, (K.JOB_SUBMITTED, city.submitting(OTHER)), (K.JOB_DECIDED, city.deciding(OTHER, loss=asked))], founded
    )
    with pytest.raises(BudgetExhaustedError):
        apply(state, entry_in(state, K.BUDGET_RESERVED, city.reserving(OTHER, asked)))


def test_one_job_may_not_ask_for_more_than_the_agreements_job_limit(stages):
    admitted = after([(K.JOB_DECIDED, city.deciding(JOB, loss=city.loss("3")))], stages[K.JOB_SUBMITTED])
    with pytest.raises(BudgetExhaustedError, match="one job may not ask for this much of `hospital`") as caught:
        apply(admitted, entry_in(admitted, K.BUDGET_RESERVED, city.reserving(JOB, city.loss("5/2"))))
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
    assert refusal(stages[K.JOB_DECIDED], K.BUDGET_RESERVED, body).code == f"ledger.entry.{code}"


def test_only_the_agreements_operator_can_spend_its_budget(founded):
    steps = [(K.JOB_SUBMITTED, city.submitting(JOB, submitter=city.AGENCY.key_id)), (K.JOB_DECIDED, city.deciding(JOB))]
    assert refusal(after(steps, founded), K.BUDGET_RESERVED, city.reserving(JOB)).code == "ledger.entry.wrong_operator"


@pytest.mark.parametrize(("reached", "kind"), [(K.JOB_DECIDED, K.BUDGET_RESERVED), (K.BUDGET_RESERVED, K.VAULT_OPENED)])
def test_after_the_term_nothing_is_reserved_or_opened(stages, reached, kind):
    state = stages[reached]
    body = dict(city.line_of(JOB))[kind]
    apply(state, entry_in(state, kind, body, at="2026-12-31T23:59:59Z"))
    with pytest.raises(ExpiredError, match="agreement `hospital-2026` is outside its term") as caught:
        apply(state, entry_in(state, kind, body, at="2027-01-01T00:00:00Z"))
    assert caught.value.details["not_after"] == "2027-01-01T00:00:00Z"


def test_a_job_that_ran_over_the_end_of_the_term_is_still_settled(stages):
    state = stages[K.JOB_GATED]
    apply(state, entry_in(state, K.JOB_SETTLED, city.settling(JOB), at="2027-01-01T00:00:01Z"))


def test_the_vault_opens_only_what_was_reserved_and_granted(founded, stages):
    state = stages[K.BUDGET_RESERVED]
    for reads, code in (
        ([["census", city.SNAPSHOT, ["age"]]], "unknown_dataset"),
        ([["hospital", JOB, ["age"]]], "unknown_snapshot"),
        ([["hospital", city.SNAPSHOT, ["age", "name"]]], "column_not_granted"),
    ):
        assert refusal(state, K.VAULT_OPENED, {"job": JOB, "reads": reads}).code == f"ledger.entry.{code}"
    census = (K.DATASET_SEALED, city.sealing(dataset="census", snapshot=city.digest("c1")))
    state = after([census, *city.line_of(JOB)[:3]], founded)
    reads = [["census", city.digest("c1"), ["age"]]]
    assert refusal(state, K.VAULT_OPENED, {"job": JOB, "reads": reads}).code == "ledger.entry.not_reserved"


def test_a_job_over_two_datasets_is_charged_on_four_accounts(founded):
    two = city.agreeing(
        name="both",
        agreement=city.digest("both"),
        grants=[city.granting(), city.granting(dataset="census", columns=["age"])],
    )
    accounts = ("agreement:both/hospital", "dataset:hospital/patient", "agreement:both/census", "dataset:census/person")
    state = after(
        [
            (K.DATASET_SEALED, city.sealing(dataset="census", unit_kind="person", snapshot=city.digest("c1"))),
            (K.AGREEMENT_REGISTERED, two),
            (K.JOB_SUBMITTED, city.submitting(JOB, agreement="both")),
            (K.JOB_DECIDED, city.deciding(JOB)),
        ],
        founded,
    )
    assert (
        refusal(state, K.BUDGET_RESERVED, city.reserving(JOB, accounts=accounts[:3])).code
        == "ledger.entry.wrong_accounts"
    )
    reads = [["census", city.digest("c1"), ["age"]], ["hospital", city.SNAPSHOT, ["ward"]]]
    state = after(
        [
            (K.BUDGET_RESERVED, city.reserving(JOB, accounts=accounts)),
            (K.VAULT_OPENED, {"job": JOB, "reads": reads}),
            (K.QUESTION_ANSWERED, city.answering(JOB)),
            (K.JOB_SETTLED, city.settling(JOB, outcome="failed", code="isolation.limit", release=None)),
        ],
        state,
    )
    assert all(rho(state, account) == (0, Fraction(1, 2)) for account in accounts)
    assert state.jobs[JOB].ending == "isolation.limit"


def test_answers_are_numbered_and_stay_within_the_reservation(stages):
    state = stages[K.QUESTION_ANSWERED]
    assert refusal(state, K.QUESTION_ANSWERED, city.answering(JOB, 0)).code == "ledger.entry.out_of_order"
    assert refusal(state, K.QUESTION_ANSWERED, city.answering(JOB, 2)).code == "ledger.entry.out_of_order"
    with pytest.raises(BudgetExhaustedError, match="would cost more than it reserved") as caught:
        apply(state, entry_in(state, K.QUESTION_ANSWERED, city.answering(JOB, 1, city.loss("501/1000"))))
    assert caught.value.code == "privacy.budget.job"
    assert caught.value.details["remaining"] == city.loss("1/2")
    assert after([(K.QUESTION_ANSWERED, city.answering(JOB, 1))], state).jobs[JOB].answered == PrivacyLoss(Fraction(1))
    assert refusal(stages[K.JOB_GATED], K.QUESTION_ANSWERED, city.answering(JOB, 1)).code == "ledger.entry.not_open"


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
    assert refusal(stages[K.JOB_GATED], K.JOB_SETTLED, city.settling(JOB, **changes)).code == f"ledger.entry.{code}"


def test_an_account_never_takes_more_than_its_limit():
    account = Account("dataset:a/b", PrivacyLoss(Fraction(1), Fraction(1, 2)))
    held = account.reserve(PrivacyLoss(Fraction(1), Fraction(1, 4)))
    for call in (held.reserve, held.post):
        with pytest.raises(BudgetExhaustedError):
            call(PrivacyLoss(Fraction(1, 10**30)))
    assert held.settle(PrivacyLoss(Fraction(1), Fraction(1, 4)), PrivacyLoss(Fraction(0))) == account


def test_a_table_never_changes_and_counts_its_keys():
    tables = [Table({"a": 0})]
    for number in range(300):
        tables.append(tables[-1].with_item(f"k{number % 150}", number))
    assert len(tables[0]) == 1
    assert "k0" not in tables[0]
    assert len(tables[-1]) == 151 == len(list(tables[-1]))
    assert dict(tables[-1]) == {"a": 0} | {f"k{number}": number + 150 for number in range(150)}
    assert dict(tables[150])["k0"] == 0
    assert repr(tables[0]) == "Table({'a': 0})"
    with pytest.raises(KeyError):
        tables[0]["k0"]
