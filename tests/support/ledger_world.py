"""A small city for tests of the ledger: keys, a dataset, an agreement, and jobs that go down the line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.errors import LedgerError
from sandbox.ledger.account import EMPTY, State, apply
from sandbox.ledger.checkpoint import sign_checkpoint, with_cosignature
from sandbox.ledger.note import cosign_text, parse_note
from sandbox.ledger.store import Draft, Ledger
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.keys import PublicKey, Role, SuiteName

ORIGIN = "test.example/saggar"
START = "2026-03-01T08:00:00Z"
AGREEMENT, DATASET, UNIT = "hospital-2026", "hospital", "patient"
ACCOUNTS = (f"agreement:{AGREEMENT}/{DATASET}", f"dataset:{DATASET}/{UNIT}")
SNAPSHOT = "sm3:" + "51" * 32
POLICY = "sm3:" + "90" * 32


@cache
def key(name: str, role: Role, suite: SuiteName = SuiteName.GM) -> PrivateKey:
    """Return the one key of that name in this run."""
    return generate_key(name, role, suite)


def sandbox_key(suite: SuiteName = SuiteName.GM) -> PrivateKey:
    return key("sandbox", Role.SANDBOX, suite)


def witness_key(suite: SuiteName = SuiteName.GM) -> PrivateKey:
    return key("witness.example", Role.WITNESS, suite)


def fixed_key(name: str, role: Role) -> PublicKey:
    """Return a public key that costs nothing to make and signs nothing."""
    material = hashlib.sha256(f"{name}/{role}".encode()).digest()
    return PublicKey(name, role, SuiteName.INTL, material, material[::-1])


def digest(text: str) -> str:
    """Return a digest that stands for a document."""
    return "sm3:" + hashlib.sha256(text.encode()).hexdigest()


def loss(rho: str, delta: str = "0") -> dict[str, str]:
    return {"rho": rho, "delta": delta}


SANDBOX = fixed_key("sandbox", Role.SANDBOX)
OPERATOR = fixed_key("operator", Role.OPERATOR)
AGENCY = fixed_key("agency", Role.AGENCY)
SIGNATURE = "A" * 86 + "=="


def opening(by: PublicKey = SANDBOX) -> dict[str, Any]:
    return {"origin": ORIGIN, "suite": "gm", "key": by.to_record(), "versions": {"saggar": "0.1.0"}}


def sealing(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": DATASET,
        "table": "encounters",
        "unit_kind": UNIT,
        "description": digest("description"),
        "snapshot": SNAPSHOT,
        "parent": None,
        "suite": "gm",
        "budget": loss("10", "1/1000000"),
    } | changes


def agreeing(**changes: Any) -> dict[str, Any]:
    return {
        "agreement": digest("agreement"),
        "name": AGREEMENT,
        "operator": OPERATOR.key_id,
        "agency": AGENCY.key_id,
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2027-01-01T00:00:00Z",
        "grants": [granting()],
    } | changes


def granting(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": DATASET,
        "columns": ["age", "ward"],
        "budget": loss("4", "1/1000000"),
        "job_limit": loss("2", "1/1000000"),
    } | changes


def submitting(job: str, **changes: Any) -> dict[str, Any]:
    return {
        "job": job,
        "kind": "sql",
        "name": "beds by ward 床位",
        "agreement": AGREEMENT,
        "product": "P08",
        "purpose": "public-governance",
        "code": digest("code"),
        "submitter": OPERATOR.key_id,
        "signature": SIGNATURE,
    } | changes


def deciding(job: str, **changes: Any) -> dict[str, Any]:
    return {
        "job": job,
        "allowed": True,
        "policy": POLICY,
        "clauses": ["base"],
        "request": digest("request"),
        "loss": loss("1"),
    } | changes


def refusing(job: str, **changes: Any) -> dict[str, Any]:
    return {"job": job, "stage": "admit", "code": "policy.denied", "clauses": ["columns-agreed"]} | changes


def reserving(job: str, amount: dict[str, str] | None = None, accounts: tuple[str, ...] = ACCOUNTS) -> dict[str, Any]:
    return {"job": job, "reservations": [{"account": account, "loss": amount or loss("1")} for account in accounts]}


def opening_vault(job: str, **changes: Any) -> dict[str, Any]:
    return {"job": job, "reads": [[DATASET, SNAPSHOT, ["age", "ward"]]]} | changes


def answering(job: str, index: int = 0, amount: dict[str, str] | None = None) -> dict[str, Any]:
    return {"job": job, "index": index, "question": digest("question"), "loss": amount or loss("1/2")}


def gating(job: str) -> dict[str, Any]:
    return {"job": job, "permit": digest("permit"), "output": digest("output")}


def settling(job: str, **changes: Any) -> dict[str, Any]:
    return {
        "job": job,
        "outcome": "released",
        "code": None,
        "posted": loss("1/2"),
        "release": digest("release"),
        "transcript": digest("transcript"),
        "duration_bucket_s": 16,
        "isolation": {"level": "STANDARD", "landlock": 4},
    } | changes


def recovering(job: str, amount: dict[str, str] | None = None) -> dict[str, Any]:
    return {"job": job, "reason": "restart", "posted": amount or loss("1")}


def founding(by: PublicKey = SANDBOX) -> list[tuple[EntryKind, dict[str, Any]]]:
    """Return what comes before any job: kinds and bodies."""
    return [
        (EntryKind.LOG_OPENED, opening(by)),
        (EntryKind.KEY_REGISTERED, {"key": OPERATOR.to_record()}),
        (EntryKind.KEY_REGISTERED, {"key": AGENCY.to_record()}),
        (EntryKind.POLICY_ADOPTED, {"policy": POLICY}),
        (EntryKind.DATASET_SEALED, sealing()),
        (EntryKind.AGREEMENT_REGISTERED, agreeing()),
    ]


def line_of(job: str) -> list[tuple[EntryKind, dict[str, Any]]]:
    """Return the whole line of one job that is released."""
    return [
        (EntryKind.JOB_SUBMITTED, submitting(job)),
        (EntryKind.JOB_DECIDED, deciding(job)),
        (EntryKind.BUDGET_RESERVED, reserving(job)),
        (EntryKind.VAULT_OPENED, opening_vault(job)),
        (EntryKind.QUESTION_ANSWERED, answering(job)),
        (EntryKind.JOB_GATED, gating(job)),
        (EntryKind.JOB_SETTLED, settling(job)),
    ]


def entry_in(state: State, kind: EntryKind, body: dict[str, Any], **changes: Any) -> Entry:
    """Return the entry that would come next in a state; entries are one second apart."""
    seq = state.size
    at = f"2026-03-01T{8 + seq // 3600:02d}:{seq // 60 % 60:02d}:{seq % 60:02d}Z"
    return replace(Entry(seq, at, kind, SANDBOX.key_id, json.loads(json.dumps(body))), **changes)


def after(steps: list[tuple[EntryKind, dict[str, Any]]], state: State = EMPTY) -> State:
    """Return the state after some kinds and bodies."""
    for kind, body in steps:
        state = apply(state, entry_in(state, kind, body))
    return state


def create(directory: Path) -> Ledger:
    """Create a ledger with nothing but its opening."""
    return Ledger.create(
        directory, origin=ORIGIN, suite=SuiteName.GM, key=SANDBOX, versions={"saggar": "0.1.0"}, at=START
    )


def run_line(ledger: Ledger, job: str) -> tuple[Entry, ...]:
    """Append the whole line of one job in one commit."""
    return ledger.append_all([Draft(kind, SANDBOX.key_id, body, START) for kind, body in line_of(job)])


def found(ledger: Ledger) -> None:
    """Append everything that comes before any job to a ledger that was just created."""
    for kind, body in founding()[1:]:
        ledger.append(kind, next(iter(ledger.state().keys)), body, START)


def cosigned(ledger: Ledger, size: int | None = None, suite: SuiteName = SuiteName.GM) -> str:
    """Return the ledger's checkpoint at a size, signed and cosigned without a witness's checks."""
    note = sign_checkpoint(ledger.checkpoint(size), sandbox_key(suite))
    return with_cosignature(note, cosign_text(parse_note(note).text, witness_key(suite), START).to_line())


def refusal(state: State, kind: EntryKind, body: dict[str, Any], **changes: Any) -> LedgerError:
    """Return the error with which a state refuses an entry."""
    with pytest.raises(LedgerError) as caught:
        apply(state, entry_in(state, kind, body, **changes))
    return caught.value


def rho(state: State, account: str = "") -> tuple[Fraction, Fraction]:
    """Return what is pending and what is posted of an account, the first one unless told."""
    facts = state.accounts[account or ACCOUNTS[0]]
    return facts.pending.rho, facts.posted.rho
