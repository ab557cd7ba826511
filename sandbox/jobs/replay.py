"""Replay: an auditor runs the record again, from a bundle alone, on another machine.

| level | shows |
|---|---|
| 0 integrity | nothing in the bundle or the log was edited, dropped or forked |
| 1 state | budgets, agreements and job states fold to the recorded state, entry by entry |
| 2 decision | every decision comes out the same under the policy set of its day |
| 3 transcript | every answer is exact integers plus noise that fits, and the program gives the released bytes again |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import ReplayMismatchError
from sandbox.jobs.replay_bundle import Bundle, Finding, mismatch, open_bundle, trusted_for
from sandbox.jobs.replay_decision import replay_decision
from sandbox.jobs.replay_transcript import replay_transcript
from sandbox.ledger.verify import fold_log, verify_log, verify_receipt
from sandbox.model.digest import short
from sandbox.model.entry import EntryKind
from sandbox.model.keys import PublicKey
from sandbox.runtime.host.guests import GuestHost

Progress = Callable[[str], None]


def replay_bundle(
    files: Mapping[str, bytes],
    *,
    level: int,
    trusted: tuple[PublicKey, ...] | None = None,
    origin: str | None = None,
    held_checkpoint: str | None = None,
    auditor: PrivateKey | None = None,
    guests: Callable[[], GuestHost] | None = None,
    progress: Progress = lambda _: None,
) -> list[Finding]:
    """Check a bundle up to `level` and return what held.

    Args:
        files: the bundle, path -> bytes.
        level: 0 to 3; each includes those below.
        trusted: keys the auditor got another way; None takes the bundle's own and the findings say so.
        origin: the log's name as the auditor knows it; None takes the bundle's own.
        held_checkpoint: a checkpoint the auditor kept from before; the log must extend it.
        auditor: the auditor's private key; level 3 needs it.
        guests: starts the walls in which programs run again; level 3 needs it for Python jobs.
        progress: called with what is being checked.

    Raises:
        SaggarError: something does not hold; `details["place"]` names where.
    """
    progress("every byte of the bundle")
    bundle, findings = open_bundle(files, trusted, origin)
    progress("the log, its roots and its signatures")
    findings += _level_0(bundle, held_checkpoint)
    if level >= 1:
        progress("the state, entry by entry")
        findings += _level_1(bundle)
    if level >= 2:
        progress("every decision under the policy of its day")
        findings += _level_2(bundle)
    if level >= 3:
        if auditor is None:
            raise ReplayMismatchError(
                "level 3 opens sealed transcripts and needs the auditor's key",
                hint="name it with `--key FILE`",
                code="job.replay_mismatch.no_key",
            )
        for entry in bundle.entries:
            if entry.kind is EntryKind.JOB_SETTLED:
                progress(f"job {short(entry.body['job'])}")
                findings += [
                    Finding(3, subject, verdict)
                    for subject, verdict in replay_transcript(bundle, entry, auditor, guests)
                ]
    return findings


def _level_0(bundle: Bundle, held_checkpoint: str | None) -> list[Finding]:
    notes = [bundle.files[path].decode() for path in sorted(bundle.files) if path.startswith("log/checkpoints/")]
    trusted = trusted_for(bundle.origin, bundle.keys)
    facts = verify_log((entry.to_bytes() for entry in bundle.entries), notes, trusted, held_checkpoint)
    findings = [Finding(0, "log", f"{facts.size} entries give both roots of {len(notes)} cosigned checkpoints")]
    if facts.covered != facts.size:
        raise mismatch("log/entries.jsonl", "the log goes on after its last cosigned checkpoint")
    if held_checkpoint is not None:
        findings.append(Finding(0, "log", "extends the checkpoint you held"))
    for path in sorted(bundle.files):
        if path.startswith("receipts/"):
            verify_receipt(bundle.files[path].decode(), None, trusted)
    return findings


def _level_1(bundle: Bundle) -> list[Finding]:
    state = fold_log(entry.to_bytes() for entry in bundle.entries)
    over = [
        name for name, account in state.accounts.items() if not (account.posted + account.pending).fits(account.limit)
    ]
    if over:
        raise mismatch("log/entries.jsonl", f"account `{over[0]}` is over its limit")
    return [Finding(1, "state", f"{len(state.accounts)} accounts and {len(state.jobs)} jobs fold without a fault")]


def _level_2(bundle: Bundle) -> list[Finding]:
    count = 0
    for entry in bundle.entries:
        if entry.kind is not EntryKind.JOB_DECIDED:
            continue
        replay_decision(bundle, entry)
        count += 1
    return [Finding(2, "decisions", f"{count} decisions come out the same, clause by clause")]
