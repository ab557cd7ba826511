"""The state as a fold over the log: one function that both gates an append and replays it.

`apply` raises when an entry is not allowed in a state, and the state it was given is as before.  The store calls it
inside the transaction that writes the entry; the auditor calls it over an exported log.  So a rule that an append
obeyed is a rule that a replay checks, and there is no second copy of it to drift.

What the rules promise about money that is privacy:
1. Nothing is reserved unless every account it names has room for what is posted, pending and asked for.
2. A job is charged the same loss on each of its accounts: the agreement's, and the dataset's for each kind of unit that
   it protects, of every dataset it reads.
3. Answers never sum to more than was reserved; a settlement never posts less than was answered.
4. Before `vault.opened` a reservation can be voided; after it, only what was never answered can, and a recovery posts
   everything that was reserved.
5. No entry lowers what an account has posted, and no entry raises a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.ledger import founding_rules, job_rules, keeping_rules
from sandbox.ledger.bodies import check_time, parse_body, refused_entry
from sandbox.ledger.state import (
    Account,
    AgreementFacts,
    DatasetFacts,
    GrantFacts,
    JobFacts,
    State,
    agreement_account,
    changed,
    dataset_account,
    state_digest,
)
from sandbox.model.entry import Entry, EntryKind

__all__ = [
    "EMPTY",
    "Account",
    "AgreementFacts",
    "DatasetFacts",
    "GrantFacts",
    "JobFacts",
    "State",
    "agreement_account",
    "apply",
    "dataset_account",
    "state_digest",
]

EMPTY = State()


def apply(state: State, entry: Entry) -> State:
    """Return the state after `entry`, or raise and leave the state as it was.

    Raises:
        BudgetExhaustedError: an account has no room; `details` has `account`, `requested`, `remaining`.
        TransitionError: the job cannot go there from where it stands.
        ExpiredError: the agreement is outside its term.
        LedgerError: `ledger.entry.*`: malformed, out of order, or about something the log does not know.
    """
    check_time(entry.at)
    if entry.seq != state.size:
        raise refused_entry(
            "out_of_order", f"entry {entry.seq} came where entry {state.size} belongs", "append after the last entry"
        )
    if entry.at < state.at:
        raise refused_entry(
            "time_backwards", f"entry {entry.seq} is earlier than the entry before it", "check the machine's clock"
        )
    body = parse_body(entry.kind, entry.body)
    if (entry.kind is EntryKind.LOG_OPENED) != (entry.seq == 0):
        raise refused_entry(
            "not_opened", "a log is opened by its first entry and no other", "see docs/reference/entries.md"
        )
    if entry.seq > 0 and entry.actor not in state.keys:
        raise refused_entry("unknown_key", f"actor `{entry.actor}` is not a registered key", "register the key first")
    return changed(_RULES[entry.kind](state, entry, body), size=entry.seq + 1, at=entry.at)


_RULES: dict[EntryKind, Callable[[State, Entry, dict[str, Any]], State]] = {
    EntryKind.LOG_OPENED: founding_rules.log_opened,
    EntryKind.KEY_REGISTERED: founding_rules.key_registered,
    EntryKind.POLICY_ADOPTED: founding_rules.policy_adopted,
    EntryKind.DATASET_SEALED: founding_rules.dataset_sealed,
    EntryKind.DATASET_PROFILED: founding_rules.dataset_profiled,
    EntryKind.DATASET_DESTROYED: keeping_rules.dataset_destroyed,
    EntryKind.BATCH_RECEIVED: keeping_rules.batch_received,
    EntryKind.EPOCH_CLOSED: keeping_rules.epoch_closed,
    EntryKind.AGREEMENT_REGISTERED: founding_rules.agreement_registered,
    EntryKind.JOB_SUBMITTED: job_rules.job_submitted,
    EntryKind.JOB_DECIDED: job_rules.job_decided,
    EntryKind.JOB_REFUSED: job_rules.job_refused,
    EntryKind.BUDGET_RESERVED: job_rules.budget_reserved,
    EntryKind.VAULT_OPENED: job_rules.vault_opened,
    EntryKind.QUESTION_ANSWERED: job_rules.question_answered,
    EntryKind.JOB_GATED: job_rules.job_gated,
    EntryKind.JOB_SETTLED: job_rules.job_settled,
    EntryKind.JOB_RECOVERED: job_rules.job_recovered,
    EntryKind.EXPORT_MADE: founding_rules.export_made,
}
