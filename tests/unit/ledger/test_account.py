"""The fold: what each kind of entry does to the state, and everything that it refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from sandbox.errors import BudgetExhaustedError
from sandbox.ledger.account import EMPTY, Account, apply, state_digest
from sandbox.ledger.table import Table
from sandbox.model.entry import EntryKind
from sandbox.model.job import JobState
from sandbox.model.keys import Role
from sandbox.model.loss import PrivacyLoss
from tests.support import ledger_world as city

K = EntryKind
JOB, OTHER = city.digest("job 1"), city.digest("job 2")


def test_a_whole_line_moves_the_budget_from_free_to_pending_to_posted(founded, stages):
    for account in city.ACCOUNTS:
        assert city.rho(founded, account) == (0, 0)
        assert city.rho(stages[K.BUDGET_RESERVED], account) == (1, 0)
        assert city.rho(stages[K.JOB_GATED], account) == (1, 0)
        assert city.rho(stages[K.JOB_SETTLED], account) == (0, Fraction(1, 2))
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
        apply(before, city.entry_in(before, K.QUESTION_ANSWERED, city.answering(JOB, 0, city.loss("3/2"))))
    assert state_digest(before) == digest


def test_two_folds_of_one_log_have_one_digest_and_another_log_another(stages):
    again = city.after([*city.founding(), *city.line_of(JOB)])
    assert state_digest(again) == state_digest(stages[K.JOB_SETTLED])
    assert state_digest(again) != state_digest(city.after([*city.founding(), *city.line_of(OTHER)]))


# --- order, time, actors, form ---


def test_the_first_entry_opens_the_log_and_no_other_does(founded):
    assert city.refusal(EMPTY, K.POLICY_ADOPTED, {"policy": city.POLICY}).code == "ledger.entry.not_opened"
    error = city.refusal(founded, K.LOG_OPENED, city.opening())
    assert error.message == "a log is opened by its first entry and no other"


def test_only_the_sandbox_opens_a_log():
    for body, actor in ((city.opening(city.OPERATOR), city.OPERATOR.key_id), (city.opening(), city.OPERATOR.key_id)):
        assert city.refusal(EMPTY, K.LOG_OPENED, body, actor=actor).code == "ledger.entry.wrong_role"


def test_entries_come_in_order_and_time_never_goes_back(founded):
    error = city.refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, seq=7)
    assert (error.code, error.message) == ("ledger.entry.out_of_order", "entry 7 came where entry 6 belongs")
    error = city.refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at="2026-03-01T08:00:04Z")
    assert (error.code, error.message) == (
        "ledger.entry.time_backwards",
        "entry 6 is earlier than the entry before it",
    )
    apply(founded, city.entry_in(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at=founded.at))


@pytest.mark.parametrize(
    "at", ["2026-02-30T00:00:00Z", "2026-03-01 08:00:00Z", "2026-03-01T08:00:00+00:00", "", "２026-03-01T08:00:00Z"]
)
def test_a_time_that_does_not_exist_is_refused(founded, at):
    error = city.refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, at=at)
    assert (error.code, error.details["place"]) == ("ledger.entry.malformed", "at")


def test_an_actor_must_be_a_registered_key(founded):
    error = city.refusal(founded, K.POLICY_ADOPTED, {"policy": city.POLICY}, actor="0" * 32)
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
        error = city.refusal(state, kind, body | {"rows": 12_345})
        assert (error.code, error.details["place"]) == ("ledger.entry.malformed", "rows")
        for name in body:
            error = city.refusal(state, kind, {other: value for other, value in body.items() if other != name})
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
    error = city.refusal(founded, kind, body)
    assert (error.code, error.details["place"]) == ("ledger.entry.malformed", place)
    assert error.message.startswith(f"field `{place}` of a `{kind.value}` entry is malformed: ")


# --- keys, datasets, agreements ---


def test_a_key_is_registered_once_and_in_one_role(founded):
    for key in (city.OPERATOR, replace(city.OPERATOR, name="other", role=Role.WITNESS)):
        error = city.refusal(founded, K.KEY_REGISTERED, {"key": key.to_record()})
        assert (error.code, error.message) == (
            "ledger.entry.duplicate",
            f"the key of `{key.name}` is already registered",
        )


def test_a_later_seal_may_lower_the_budget_and_never_raise_it(founded):
    newer = city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT)
    lowered = city.after([(K.DATASET_SEALED, newer | {"budget": city.loss("1")})], founded)
    assert lowered.accounts[city.ACCOUNTS[1]].limit == PrivacyLoss(Fraction(1))
    assert [snapshot for snapshot, _ in lowered.datasets[city.DATASET].snapshots] == [city.SNAPSHOT, city.digest("s2")]
    for raised in (city.loss("11", "1/1000000"), city.loss("1", "1/1000")):
        error = city.refusal(founded, K.DATASET_SEALED, newer | {"budget": raised})
        assert (error.code, error.message) == ("ledger.entry.budget_raised", "the budget of `hospital` would rise")
    back = city.sealing(snapshot=city.digest("s3"), parent=city.digest("s2"), budget=city.loss("2"))
    assert city.refusal(lowered, K.DATASET_SEALED, back).code == "ledger.entry.budget_raised"


def test_a_limit_lowered_below_what_is_spent_leaves_nothing_and_breaks_nothing(stages):
    newer = city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT, budget=city.loss("1/4"))
    state = city.after([(K.DATASET_SEALED, newer)], stages[K.JOB_GATED])
    assert state.accounts[city.ACCOUNTS[1]].remaining == PrivacyLoss(Fraction(0))
    state = city.after([(K.JOB_SETTLED, city.settling(JOB))], state)
    assert city.rho(state, city.ACCOUNTS[1]) == (0, Fraction(1, 2))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"snapshot": "sm3:" + "77" * 32, "parent": None}, "wrong_parent"),
        ({"snapshot": "sm3:" + "77" * 32, "parent": "sm3:" + "66" * 32}, "wrong_parent"),
        ({"parent": city.SNAPSHOT}, "duplicate"),
        ({"snapshot": "sm3:" + "77" * 32, "parent": city.SNAPSHOT, "unit_kind": "ward"}, "unit_changed"),
        ({"snapshot": "sm3:" + "77" * 32, "parent": city.SNAPSHOT, "also_protects": ["ward"]}, "unit_changed"),
        ({"dataset": "new", "also_protects": [city.UNIT]}, "duplicate"),
        ({"dataset": "new", "also_protects": ["b", "a"]}, "malformed"),
        ({"dataset": "new", "parent": city.SNAPSHOT}, "wrong_parent"),
    ],
)
def test_a_seal_that_does_not_fit_its_lineage_is_refused(founded, changes, code):
    assert city.refusal(founded, K.DATASET_SEALED, city.sealing(**changes)).code == f"ledger.entry.{code}"


def test_a_dataset_of_two_kinds_has_two_accounts_that_are_lowered_and_charged_together(founded):
    two = {"dataset": "new", "table": "more", "also_protects": ["ward"], "snapshot": city.digest("n1")}
    state = city.after([(K.DATASET_SEALED, city.sealing(**two))], founded)
    names = (f"dataset:new/{city.UNIT}", "dataset:new/ward")
    assert state.datasets["new"].accounts == names
    assert state.datasets["new"].to_record()["also_protects"] == ["ward"]
    assert "also_protects" not in state.datasets[city.DATASET].to_record(), "logs from before fold to the same state"
    assert len({state.accounts[name].limit for name in names}) == 1
    lower = two | {"snapshot": city.digest("n2"), "parent": city.digest("n1"), "budget": city.loss("1/4")}
    state = city.after([(K.DATASET_SEALED, city.sealing(**lower))], state)
    assert [state.accounts[name].limit.rho for name in names] == [Fraction(1, 4)] * 2
    profile = {"dataset": "new", "snapshot": city.digest("n2"), "loss": city.loss("1/8"), "profile": city.digest("p")}
    state = city.after([(K.DATASET_PROFILED, profile)], state)
    assert [city.rho(state, name) for name in names] == [(0, Fraction(1, 8))] * 2


def test_a_profile_is_paid_from_the_datasets_account(founded):
    body = {"dataset": city.DATASET, "snapshot": city.SNAPSHOT, "loss": city.loss("3"), "profile": city.digest("p")}
    state = city.after([(K.DATASET_PROFILED, body)], founded)
    assert city.rho(state, city.ACCOUNTS[1]) == (0, 3)
    assert state.datasets[city.DATASET].profile == city.digest("p")
    with pytest.raises(BudgetExhaustedError):
        apply(state, city.entry_in(state, K.DATASET_PROFILED, body | {"loss": city.loss("8")}))
    assert city.refusal(state, K.DATASET_PROFILED, body | {"dataset": "no"}).code == "ledger.entry.unknown_dataset"
    assert city.refusal(state, K.DATASET_PROFILED, body | {"snapshot": JOB}).code == "ledger.entry.unknown_snapshot"


def test_a_profile_of_an_old_snapshot_is_not_that_of_the_current(founded):
    state = city.after([(K.DATASET_SEALED, city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT))], founded)
    body = {"dataset": city.DATASET, "snapshot": city.SNAPSHOT, "loss": city.loss("1"), "profile": city.digest("p")}
    assert city.after([(K.DATASET_PROFILED, body)], state).datasets[city.DATASET].profile is None


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
    assert city.refusal(founded, K.AGREEMENT_REGISTERED, city.agreeing(**changes)).code == f"ledger.entry.{code}"


def test_an_export_is_counted_and_its_maker_must_be_known(founded):
    body = {"bundle": city.digest("bundle"), "by": city.AGENCY.key_id}
    assert city.after([(K.EXPORT_MADE, body)] * 2, founded).exports == 2
    assert city.refusal(founded, K.EXPORT_MADE, body | {"by": "0" * 32}).code == "ledger.entry.unknown_key"


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
