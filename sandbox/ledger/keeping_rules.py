"""The rules of `account.apply` for sealed data: batches received, snapshots destroyed, epochs closed."""

from __future__ import annotations

from typing import Any

from sandbox.ledger.bodies import refused_entry
from sandbox.ledger.founding_rules import sealed_dataset
from sandbox.ledger.state import State, changed
from sandbox.model.entry import Entry
from sandbox.model.job import JobState
from sandbox.model.keys import Role

UNDER_WAY = (JobState.RESERVED, JobState.OPENED, JobState.GATED)


def batch_received(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record which snapshot a batch became; a batch is received once."""
    department = state.keys.get(body["department"])
    if department is None or department.role is not Role.DEPARTMENT:
        raise refused_entry(
            "unknown_key", "the batch is not by a registered department", "register the department's key first"
        )
    if body["batch"] in state.batches:
        raise refused_entry("duplicate", "this batch was received before", "seal the rows again if they are new")
    return changed(state, batches=state.batches.with_item(body["batch"], body["snapshot"]))


def dataset_destroyed(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record that snapshots no longer open; from here no job may name them."""
    if body["certificate"] in state.certificates:
        raise refused_entry("duplicate", "this certificate is already in the log", "there is nothing to do")
    dataset = None
    for snapshot in body["snapshots"]:
        dataset = sealed_dataset(state, body["dataset"], snapshot)
    assert dataset is not None  # a set of one at least
    running = [job for job in state.jobs.values() if job.state in UNDER_WAY and dataset.account in job.accounts]
    if running:
        raise refused_entry("job_running", f"a job on `{dataset.dataset}` is under way", "wait until it ends")
    destroyed = tuple((snapshot, body["certificate"]) for snapshot in body["snapshots"])
    return changed(
        state,
        datasets=state.datasets.with_item(
            dataset.dataset, changed(dataset, destroyed=(*dataset.destroyed, *destroyed))
        ),
        certificates=state.certificates.with_item(body["certificate"], 0),
    )


def epoch_closed(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record that the master key was replaced, and which certificates are complete by that."""
    if body["epoch"] != state.epoch + 1:
        raise refused_entry("out_of_order", f"epoch {body['epoch']} follows epoch {state.epoch}", "number from 1")
    certificates = state.certificates
    for certificate in body["certificates"]:
        if certificates.get(certificate) != 0:
            raise refused_entry(
                "unknown_certificate",
                "the epoch names a certificate that the log does not have open",
                "name each certificate once",
            )
        certificates = certificates.with_item(certificate, body["epoch"])
    return changed(state, certificates=certificates, epoch=body["epoch"])
