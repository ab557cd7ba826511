"""Destroy: two people order it, the vault forgets, a second read proves it, and a certificate goes into the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import InputError, PolicyError
from sandbox.jobs.engine import Engine
from sandbox.jobs.publishing import publish, receipt_for
from sandbox.jobs.registry import destroyed_before
from sandbox.ledger.account import DatasetFacts, State
from sandbox.ledger.destruction import (
    CERTIFICATE_CONTEXT,
    EPOCH_CONTEXT,
    ORDERING,
    WITNESSING,
    SignedRecord,
    sign_record,
)
from sandbox.ledger.keeping_rules import UNDER_WAY
from sandbox.model.digest import Digest, digest_of_record, short
from sandbox.model.entry import EntryKind
from sandbox.model.keys import Role
from sandbox.vault.destruction import Destroyed, destroy_snapshot, forget_dataset, forget_manifest
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.unit_keys import forget_unit_keys

BASIS_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Logged:
    """A document that stands in the log.

    Attributes:
        document: the signed record.
        digest: what the log names it by.
        receipt: the cosigned receipt of the entry.
    """

    document: SignedRecord
    digest: Digest
    receipt: str


def destroy(
    engine: Engine,
    what: str,
    parties: Sequence[PrivateKey],
    *,
    basis: str,
    progress: Callable[[str], None] | None = None,
) -> Logged:
    """Destroy a dataset, or one snapshot of it, and log the certificate.

    Args:
        engine: the trusted side.
        what: a dataset's name, or a snapshot's digest or the beginning of it (8 hexadecimal digits or more).
        parties: first who orders, an operator or the agency, then who witnesses: the dataset's owner or a custodian.
        basis: why, in a line of at most 500 characters: the clause or the order.
        progress: told the name of each object that is gone.

    Raises:
        PolicyError: the two people are not two, or may not (`policy.destruction`).
        SnapshotNotFoundError: there is no such dataset or snapshot, or it is destroyed already.
        InputError: the basis is empty or no line (`input.basis`).
        VaultError: a second read still found something; nothing is logged.
    """
    check_basis(basis)
    dataset, snapshots = find_snapshots(engine.state(), what)
    trusted = engine.trusted(Role.SANDBOX)
    manifests = [engine.vault.manifest(snapshot, trusted) for snapshot in snapshots]
    check_parties(engine, parties, {manifest.owner for manifest in manifests})
    _check_idle(engine, dataset)
    destroyed = [destroy_snapshot(engine.vault, manifest, trusted, progress) for manifest in manifests]
    if len(dataset.destroyed) + len(snapshots) == len(dataset.snapshots):
        _forget_dataset(engine, dataset, progress)
    signers = [engine.key, *parties]
    record = _certificate(engine, dataset, destroyed, signers, basis)
    document = sign_record(record, CERTIFICATE_CONTEXT, signers)
    digest = engine.documents.put(document.to_bytes())
    body = {"dataset": dataset.dataset, "snapshots": sorted(snapshots), "certificate": digest}
    entry = engine.append(EntryKind.DATASET_DESTROYED, body)
    finish_destruction(engine)
    publish(engine)
    return Logged(document, digest, receipt_for(engine, entry.seq))


def finish_destruction(engine: Engine) -> None:
    """Remove the manifests that a destruction in the log left behind.

    Called after every destruction and at every opening, so that a crash between the log and the disk heals.
    """
    gone = {snapshot for dataset in engine.state().datasets.values() for snapshot, _ in dataset.destroyed}
    if gone:
        for snapshot in engine.vault.snapshots():
            if snapshot in gone:
                forget_manifest(engine.vault, snapshot)


def close_epoch(engine: Engine, *, old_master: str, new_master: str, receipts: Sequence[dict[str, Any]]) -> Logged:
    """Log that the master key was replaced: the certificates since the last closing are complete by it."""
    state = engine.state()
    waiting = sorted(certificate for certificate, epoch in state.certificates.items() if epoch == 0)
    record = {
        "v": 1,
        "kind": "saggar.epoch_closed",
        "origin": engine.origin,
        "at": engine.clock.now(),
        "epoch": state.epoch + 1,
        "old_master": old_master,
        "new_master": new_master,
        "survivors": list(engine.vault.keyring.datasets()),
        "certificates": waiting,
        "receipts": list(receipts),
    }
    document = sign_record(record, EPOCH_CONTEXT, [engine.key])
    digest = engine.documents.put(document.to_bytes())
    body = {"epoch": state.epoch + 1, "certificates": waiting, "record": digest}
    entry = engine.append(EntryKind.EPOCH_CLOSED, body)
    publish(engine)
    return Logged(document, digest, receipt_for(engine, entry.seq))


def check_parties(engine: Engine, parties: Sequence[PrivateKey], owners: set[str]) -> None:
    """Raise unless two registered people who may destroy together are here: the first orders, another witnesses."""
    known = engine.state().keys
    for key in parties:
        if key.public.key_id not in known:
            raise _may_not(f"the key of `{key.public.name}` is not registered")
        if key.public.role is Role.DEPARTMENT and key.public.name not in owners:
            raise _may_not(f"`{key.public.name}` does not own this data")
    roles = {key.public.role for key in parties}
    if len({key.public.key_id for key in parties}) < 2 or not roles & ORDERING or not roles & WITNESSING:
        raise _may_not("destruction needs two people")
    if parties[0].public.role not in ORDERING:
        raise _may_not(
            f"`{parties[0].public.name}` is registered as {parties[0].public.role.value} and may not order it"
        )


def _check_idle(engine: Engine, dataset: DatasetFacts) -> None:
    jobs = engine.state().jobs.values()
    if any(job.state in UNDER_WAY and dataset.account in job.accounts for job in jobs):
        raise PolicyError(
            f"a job on `{dataset.dataset}` is under way", hint="wait until it ends", code="policy.destruction"
        )


def _forget_dataset(engine: Engine, dataset: DatasetFacts, progress: Callable[[str], None] | None) -> None:
    """Destroy what the log does not know of a dataset whose last snapshot goes: sealed by a process that died."""
    trusted, known = engine.trusted(Role.SANDBOX), {snapshot for snapshot, _ in dataset.snapshots}
    for snapshot in engine.vault.snapshots():
        if snapshot not in known:
            manifest = engine.vault.manifest(snapshot, trusted)
            if manifest.dataset == dataset.dataset:
                destroy_snapshot(engine.vault, manifest, trusted, progress)
                forget_manifest(engine.vault, snapshot)
    forget_dataset(engine.vault.keyring, dataset.dataset)
    others = [other for other in engine.state().datasets.values() if other.dataset != dataset.dataset]
    needed = {kind for other in others if other.is_held for kind in other.unit_kinds}
    for kind in dataset.unit_kinds:
        if kind not in needed:
            forget_unit_keys(engine.vault.keyring, kind)


def check_basis(basis: str) -> None:
    """Refuse a reason that the certificate could not show: nothing, or more than a line."""
    if not basis.strip() or not basis.isprintable() or len(basis) > BASIS_CHARACTERS:
        raise InputError(
            "the basis of a destruction is no line of text",
            hint=f'name the clause or the order in at most {BASIS_CHARACTERS} characters: `--basis "order 2027-17"`',
            code="input.basis",
        )


def find_snapshots(state: State, what: str) -> tuple[DatasetFacts, list[Digest]]:
    """Return the snapshots that a dataset's name, or a digest or its beginning, means to a destruction.

    Raises:
        InputError: it names none, or several (`input.unknown_snapshot`).
        SnapshotNotFoundError: what it names is destroyed already (`vault.snapshot_not_found.destroyed`).
    """
    if what in state.datasets:
        dataset = state.datasets[what]
        left = [snapshot for snapshot, _ in dataset.snapshots if dataset.certificate_of(snapshot) is None]
        if left:
            return dataset, left
        raise destroyed_before(dataset, dataset.snapshot)
    prefix = what.partition(":")[2] or what
    found = [
        (dataset, snapshot)
        for dataset in state.datasets.values()
        for snapshot, _ in dataset.snapshots
        if len(prefix) >= 8 and snapshot.partition(":")[2].startswith(prefix)
    ]
    if len(found) != 1:
        raise InputError(
            f"`{what}` names {len(found) or 'no'} snapshot{'s' if len(found) > 1 else ''}",
            hint=f"name a dataset ({', '.join(sorted(state.datasets)) or 'none is sealed'}) or one snapshot's digest",
            code="input.unknown_snapshot",
        )
    if found[0][0].certificate_of(found[0][1]) is not None:
        raise destroyed_before(*found[0])
    return found[0][0], [found[0][1]]


def _certificate(
    engine: Engine, dataset: DatasetFacts, destroyed: Sequence[Destroyed], signers: Sequence[PrivateKey], basis: str
) -> dict[str, Any]:
    snapshots = {each.manifest.digest() for each in destroyed}
    keys = [key.public for key in signers]
    return {
        "v": 1,
        "kind": "saggar.destruction",
        "id": random_bytes(16).hex(),
        "origin": engine.origin,
        "at": engine.clock.now(),
        "dataset": dataset.dataset,
        "basis": basis,
        "snapshots": [_inventory(each) for each in destroyed],
        "method": "both halves of each snapshot key deleted, then every sealed object unlinked, then a second read",
        "levels": {
            "L1": "done: nothing in this vault opens these snapshots",
            "L2": _second_level(engine),
        },
        "derived_releases": _derived(engine, snapshots),
        "remaining": _remaining(engine, dataset, destroyed),
        "replay": {"left": [0, 1, 2, 3], "lost": [4]},
        "parties": [{"key": key.key_id, "name": key.name, "role": key.role.value} for key in keys],
    }


def _inventory(destroyed: Destroyed) -> dict[str, Any]:
    manifest: SnapshotManifest = destroyed.manifest
    return {
        "snapshot": manifest.digest(),
        "id": manifest.snapshot,
        "description": manifest.description,
        "suite": manifest.suite.value,
        "owner": manifest.owner,
        "sealed_at": manifest.at,
        "halves": destroyed.halves,
        "objects": [
            {"id": o.object_id, "bytes": o.length, "digest": o.digest, "key": digest_of_record(o.to_record()["key"])}
            for o in manifest.objects
        ],
        "second_read": destroyed.second_read,
    }


def _second_level(engine: Engine) -> str:
    """Return, for people, what a backup of the vault's keys still needs, and whether anything ends that for good."""
    opened = "open until the epoch is closed: a backup of the vault's keys, with its passphrase"
    if engine.vault.keyring.factor is None:
        return f"{opened} or shares, opens"
    return f"{opened} and second factor, or with shares, opens; closing the epoch destroys the factor"


def _derived(engine: Engine, snapshots: set[Digest]) -> list[Digest]:
    """Return the releases that were computed from these snapshots; they are not taken back."""
    jobs = {
        entry.body["job"]
        for entry in engine.ledger.entries(0, engine.ledger.size)
        if entry.kind is EntryKind.VAULT_OPENED and any(read[1] in snapshots for read in entry.body["reads"])
    }
    known = engine.state().jobs
    return sorted({release for job in jobs if (release := known[job].release) is not None})


def _remaining(engine: Engine, dataset: DatasetFacts, destroyed: Sequence[Destroyed]) -> list[str]:
    """Return, for people, the copies that this destruction cannot reach."""
    snapshots = {each.manifest.digest() for each in destroyed}
    remaining = ["backups of this vault from before: until the epoch is closed they open with the keys of their day"]
    if engine.vault.keyring.factor is None:
        remaining.append(
            "no second factor: after the epoch is closed an old backup still opens for whoever kept its passphrase"
        )
    batches = [batch for batch, snapshot in engine.state().batches.items() if snapshot in snapshots]
    if batches:
        names = ", ".join(short(batch) for batch in sorted(batches))
        remaining.append(f"batches sealed at the source ({names}): files outside of the vault, under the sandbox's key")
    if any(each.halves["owner"] == "absent" for each in destroyed):
        remaining.append("owner halves kept outside: without the platform's half they open nothing")
    other = [s for s, _ in dataset.snapshots if s not in snapshots and dataset.certificate_of(s) is None]
    if other:
        remaining.append(f"{len(other)} other snapshots of `{dataset.dataset}`, which may hold the same rows")
    remaining.append("the department's own source files")
    return remaining


def _may_not(why: str) -> PolicyError:
    return PolicyError(
        why,
        hint="the operator or the agency orders (`--as`), the owning department or a custodian witnesses (`--with`)",
        code="policy.destruction",
    )
