"""The log's rules for batches received, snapshots destroyed and epochs closed."""

import pytest

from sandbox.errors import LedgerError
from sandbox.ledger.account import EMPTY, State, apply
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.keys import Role
from tests.support import ledger_world as city

K = EntryKind
HEALTH = city.fixed_key("health", Role.DEPARTMENT)
CERTIFICATE = city.digest("certificate")
BATCH = {"dataset": city.DATASET, "batch": city.digest("batch"), "department": HEALTH.key_id, "snapshot": city.SNAPSHOT}
DESTROYED = {"dataset": city.DATASET, "snapshots": [city.SNAPSHOT], "certificate": CERTIFICATE}
JOB = city.digest("job")


def after(entries: list, state: State = EMPTY) -> State:
    for kind, body in entries:
        at = state.at or city.START
        state = apply(state, Entry(state.size, at, kind, city.SANDBOX.key_id, body))
    return state


def refusal(state: State, kind: EntryKind, body: dict) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        after([(kind, body)], state)
    return caught.value


@pytest.fixture(scope="module")
def founded() -> State:
    return after([*city.founding(), (K.KEY_REGISTERED, {"key": HEALTH.to_record()})])


def test_a_batch_is_received_once_and_from_a_department(founded: State) -> None:
    state = after([(K.BATCH_RECEIVED, BATCH)], founded)
    assert state.batches[BATCH["batch"]] == city.SNAPSHOT
    assert refusal(state, K.BATCH_RECEIVED, BATCH).code == "ledger.entry.duplicate"
    for stranger in (city.AGENCY.key_id, "0" * 32):
        error = refusal(founded, K.BATCH_RECEIVED, BATCH | {"department": stranger})
        assert error.code == "ledger.entry.unknown_key"


def test_a_destroyed_snapshot_is_gone_for_every_later_entry(founded: State) -> None:
    state = after([(K.DATASET_DESTROYED, DESTROYED)], founded)
    assert state.datasets[city.DATASET].certificate_of(city.SNAPSHOT) == CERTIFICATE
    assert state.certificates[CERTIFICATE] == 0
    opened = dict(city.line_of(JOB))
    up_to_opening = [(kind, opened[kind]) for kind in (K.JOB_SUBMITTED, K.JOB_DECIDED, K.BUDGET_RESERVED)]
    reserved = after(up_to_opening, state)
    assert refusal(reserved, K.VAULT_OPENED, opened[K.VAULT_OPENED]).code == "ledger.entry.destroyed"
    profile = {
        "dataset": city.DATASET,
        "snapshot": city.SNAPSHOT,
        "loss": city.loss("1/1000"),
        "profile": city.digest("p"),
    }
    assert refusal(state, K.DATASET_PROFILED, profile).code == "ledger.entry.destroyed"
    again = DESTROYED | {"certificate": city.digest("another")}
    assert refusal(state, K.DATASET_DESTROYED, again).code == "ledger.entry.destroyed"
    assert refusal(state, K.DATASET_DESTROYED, DESTROYED).code == "ledger.entry.duplicate"


def test_a_dataset_can_be_sealed_again_on_top_of_a_destroyed_snapshot(founded: State) -> None:
    newer = city.sealing(snapshot=city.digest("s2"), parent=city.SNAPSHOT)
    state = after([(K.DATASET_DESTROYED, DESTROYED), (K.DATASET_SEALED, newer)], founded)
    dataset = state.datasets[city.DATASET]
    assert dataset.certificate_of(dataset.snapshot) is None
    assert dataset.certificate_of(city.SNAPSHOT) == CERTIFICATE


def test_only_what_was_sealed_can_be_destroyed(founded: State) -> None:
    for changes, code in (
        ({"dataset": "census"}, "unknown_dataset"),
        ({"snapshots": [city.digest("s9")]}, "unknown_snapshot"),
        ({"snapshots": []}, "malformed"),
    ):
        assert refusal(founded, K.DATASET_DESTROYED, DESTROYED | changes).code == f"ledger.entry.{code}"


def test_nothing_is_destroyed_under_a_running_job(founded: State) -> None:
    opened = dict(city.line_of(JOB))
    state = after([(kind, opened[kind]) for kind in (K.JOB_SUBMITTED, K.JOB_DECIDED, K.BUDGET_RESERVED)], founded)
    assert refusal(state, K.DATASET_DESTROYED, DESTROYED).code == "ledger.entry.job_running"


def test_an_epoch_completes_the_certificates_that_it_names_once(founded: State) -> None:
    closed = {"epoch": 1, "certificates": [CERTIFICATE], "record": city.digest("epoch")}
    assert refusal(founded, K.EPOCH_CLOSED, closed).code == "ledger.entry.unknown_certificate"
    state = after([(K.DATASET_DESTROYED, DESTROYED), (K.EPOCH_CLOSED, closed)], founded)
    assert state.epoch == 1
    assert state.certificates[CERTIFICATE] == 1
    assert refusal(state, K.EPOCH_CLOSED, closed).code == "ledger.entry.out_of_order"
    assert refusal(state, K.EPOCH_CLOSED, closed | {"epoch": 2}).code == "ledger.entry.unknown_certificate"
    assert after([(K.EPOCH_CLOSED, closed | {"epoch": 2, "certificates": []})], state).epoch == 2


def test_the_state_says_all_of_it(founded: State) -> None:
    state = after([(K.BATCH_RECEIVED, BATCH), (K.DATASET_DESTROYED, DESTROYED)], founded)
    record = state.to_record()
    assert record["batches"] == {BATCH["batch"]: city.SNAPSHOT}
    assert record["certificates"] == {CERTIFICATE: 0}
    assert record["epoch"] == 0
    assert record["datasets"][city.DATASET]["destroyed"] == [[city.SNAPSHOT, CERTIFICATE]]
