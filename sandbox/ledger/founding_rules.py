"""The rules of `account.apply` for what jobs stand on: keys, policies, datasets, agreements; and for exports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.ledger.bodies import refused_entry
from sandbox.ledger.state import (
    Account,
    AgreementFacts,
    DatasetFacts,
    GrantFacts,
    State,
    agreement_account,
    changed,
    dataset_account,
)
from sandbox.ledger.table import Table
from sandbox.model.digest import Digest
from sandbox.model.entry import Entry
from sandbox.model.keys import PublicKey, Role, SuiteName


def log_opened(state: State, entry: Entry, body: dict[str, Any]) -> State:
    """Open the log: its name, suite and the sandbox's key."""
    key: PublicKey = body["key"]
    if key.role is not Role.SANDBOX or entry.actor != key.key_id:
        raise refused_entry(
            "wrong_role", "a log is opened by the sandbox's own key", "hand over the sandbox's public key"
        )
    return changed(
        state, origin=body["origin"], suite=SuiteName(body["suite"]), keys=state.keys.with_item(key.key_id, key)
    )


def key_registered(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Register a public key."""
    key: PublicKey = body["key"]
    # One key, one role: the same key material under another name would let one holder speak as two.
    if any(known.signing == key.signing or known.sealing == key.sealing for known in state.keys.values()):
        raise refused_entry(
            "duplicate", f"the key of `{key.name}` is already registered", "make a new key for a new role"
        )
    return changed(state, keys=state.keys.with_item(key.key_id, key))


def policy_adopted(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Put a policy set in force."""
    return changed(state, policy=body["policy"])


def dataset_sealed(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Seal a snapshot; the first opens the dataset's account for each kind of unit, a later one may lower its limit."""
    name, budget, known = body["dataset"], body["budget"], state.datasets.get(body["dataset"])
    snapshots: tuple[tuple[Digest, Digest], ...] = ()
    others: tuple[str, ...] = body["also_protects"]
    if body["unit_kind"] in others:
        raise refused_entry("duplicate", f"`{name}` protects one kind of unit twice", "name each kind once")
    account_ids = [dataset_account(name, kind) for kind in (body["unit_kind"], *others)]
    if known is None:
        if body["parent"] is not None:
            raise refused_entry(
                "wrong_parent", f"the first snapshot of `{name}` names a parent", "seal it without a parent"
            )
        accounts = [Account(account_id, budget) for account_id in account_ids]
    else:
        # A new unit kind would open a fresh account over the same rows: the budget given back by another name.
        if (body["unit_kind"], others) != (known.unit_kind, known.also_protects):
            raise refused_entry(
                "unit_changed", f"`{name}` protects `{'`, `'.join(known.unit_kinds)}`", "seal it as another dataset"
            )
        if body["parent"] != known.snapshot:
            raise refused_entry(
                "wrong_parent", f"the parent is not the current snapshot of `{name}`", "seal on top of the current one"
            )
        if known.has_snapshot(body["snapshot"]):
            raise refused_entry("duplicate", f"this snapshot of `{name}` is already sealed", "there is nothing to do")
        before = [state.accounts[account_id] for account_id in account_ids]
        if not all(budget.fits(account.limit) for account in before):
            raise refused_entry("budget_raised", f"the budget of `{name}` would rise", "keep the budget or lower it")
        accounts, snapshots = [changed(account, limit=budget) for account in before], known.snapshots
    dataset = DatasetFacts(
        name,
        body["table"],
        body["unit_kind"],
        SuiteName(body["suite"]),
        (*snapshots, (body["snapshot"], body["description"])),
        None,
        () if known is None else known.destroyed,
        others,
    )
    return changed(
        state, datasets=state.datasets.with_item(name, dataset), accounts=_with_accounts(state.accounts, accounts)
    )


def _with_accounts(table: Table[str, Account], accounts: Iterable[Account]) -> Table[str, Account]:
    for account in accounts:
        table = table.with_item(account.account, account)
    return table


def dataset_profiled(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Post the loss of a dataset's own profile, on each account of the dataset."""
    dataset = sealed_dataset(state, body["dataset"], body["snapshot"])
    accounts = [state.accounts[account].post(body["loss"]) for account in dataset.accounts]
    if body["snapshot"] == dataset.snapshot:
        dataset = changed(dataset, profile=body["profile"])
    return changed(
        state,
        datasets=state.datasets.with_item(dataset.dataset, dataset),
        accounts=_with_accounts(state.accounts, accounts),
    )


def agreement_registered(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Register an agreement and open an account for each dataset it grants."""
    name, grants = body["name"], {grant["dataset"]: grant for grant in body["grants"]}
    if name in state.agreements or any(known.digest == body["agreement"] for known in state.agreements.values()):
        raise refused_entry("duplicate", f"agreement `{name}` is already registered", "a change is a new agreement")
    if len(grants) != len(body["grants"]):
        raise refused_entry("duplicate", f"agreement `{name}` grants a dataset twice", "write one grant a dataset")
    if body["not_before"] >= body["not_after"]:
        raise refused_entry("empty_term", f"agreement `{name}` ends before it begins", "correct the term")
    for party, role in (("operator", Role.OPERATOR), ("agency", Role.AGENCY)):
        key = state.keys.get(body[party])
        if key is None or key.role is not role:
            raise refused_entry(
                "unknown_key", f"the {party} of agreement `{name}` has no registered key", f"register the {party}'s key"
            )
    agreement = AgreementFacts(
        name,
        body["agreement"],
        body["operator"],
        body["agency"],
        body["not_before"],
        body["not_after"],
        {
            dataset: GrantFacts(frozenset(grant["columns"]), grant["budget"], grant["job_limit"])
            for dataset, grant in grants.items()
        },
    )
    accounts = state.accounts
    for dataset, grant in grants.items():
        account_id = agreement_account(name, dataset)
        accounts = accounts.with_item(account_id, Account(account_id, grant["budget"]))
    return changed(state, agreements=state.agreements.with_item(name, agreement), accounts=accounts)


def export_made(state: State, _entry: Entry, body: dict[str, Any]) -> State:
    """Record that a bundle was handed out."""
    if body["by"] not in state.keys:
        raise refused_entry("unknown_key", f"`{body['by']}` is not a registered key", "register the key first")
    return changed(state, exports=state.exports + 1)


def sealed_dataset(state: State, name: str, snapshot: str) -> DatasetFacts:
    """Return the dataset if this snapshot of it was sealed and still exists, or raise `LedgerError`."""
    dataset = state.datasets.get(name)
    if dataset is None:
        raise refused_entry("unknown_dataset", f"no dataset is called `{name}`", "seal it first")
    if not dataset.has_snapshot(snapshot):
        raise refused_entry("unknown_snapshot", f"`{name}` has no snapshot `{snapshot}`", "name a sealed snapshot")
    if dataset.certificate_of(snapshot) is not None:
        raise refused_entry("destroyed", f"the snapshot of `{name}` was destroyed", "nothing opens it; seal it anew")
    return dataset
