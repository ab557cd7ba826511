"""The offline verifier: receipts, level 0 (integrity) and level 1 (state).

It needs the log's text, the keys that the reader trusts, and nothing of the service: no network, no clock, no disk, no
database.  What it is given may come from the very party it checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sandbox.errors import CanonicalError, CheckpointError, ConsistencyError, InclusionError, LedgerError, SaggarError
from sandbox.ledger.account import EMPTY, State, apply
from sandbox.ledger.bodies import parse_body
from sandbox.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from sandbox.ledger.merkle import HASH_NAMES, Frontier, Roots, leaf_hash, verify_inclusion
from sandbox.ledger.note import Cosigned
from sandbox.ledger.receipt import parse_receipt
from sandbox.model.digest import Digest, HashName, digest_of
from sandbox.model.entry import MAX_ENTRY_BYTES, Entry, EntryKind
from sandbox.model.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the reader trusts beforehand, from another source than the one being checked.

    Attributes:
        origin: the log's name.
        sandbox_keys: keys that may sign its checkpoints.
        witness_keys: keys of witnesses that check both trees; one of them must have cosigned.
    """

    origin: str
    sandbox_keys: tuple[PublicKey, ...]
    witness_keys: tuple[PublicKey, ...]


@dataclass(frozen=True, slots=True)
class ReceiptFacts:
    """What a receipt proves.

    Attributes:
        entry: the entry.
        size: the size of the cosigned log that includes it.
        cosigners: the trusted witnesses, and when they saw that log.
        release: the digest of the release that the entry settles, or None if it is another kind of entry.
        release_checked: whether bytes were handed in and are that release.
    """

    entry: Entry
    size: int
    cosigners: tuple[Cosigned, ...]
    release: Digest | None
    release_checked: bool


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What an exported log proves.

    Attributes:
        size: how many entries were handed in.
        covered: how many of them a cosigned checkpoint vouches for; the rest could still be rewritten.
        roots: the roots over all that were handed in.
        checkpoints: how many checkpoints were checked.
        held_size: the size of the checkpoint that the auditor held, or None.
        cosigners: the witnesses of the largest checkpoint.
    """

    size: int
    covered: int
    roots: Roots
    checkpoints: int
    held_size: int | None
    cosigners: tuple[Cosigned, ...]


def verify_receipt(text: str, release_bytes: bytes | None, trusted: Trusted) -> ReceiptFacts:
    """Return what a receipt proves, or raise.

    1. The text is a receipt, spelt in the one way there is.
    2. Its checkpoint is of the trusted log, signed by the sandbox and cosigned by a trusted witness.
    3. The entry's hash is in the SM3 tree of that checkpoint, at the index.
    4. And in the SHA-256 tree.
    5. The entry is a canonical entry of this project, and its own number is the index.
    6. If bytes were handed in: the entry settles a job as released, and their digest is the one it names.

    Still the caller's: that `release_bytes` came from where it thinks, and that the witness's time is late enough.

    Raises:
        CheckpointError: 2.
        InclusionError: 1, 3, 4, 5, and 6 as `ledger.inclusion.release`.
    """
    receipt = parse_receipt(text)  # 1
    head = _trusted_checkpoint(receipt.note, trusted)  # 2
    for name in HASH_NAMES:  # 3, 4
        verify_inclusion(
            leaf_hash(receipt.entry, name),
            receipt.index,
            head.checkpoint.size,
            receipt.proofs.of(name),
            head.checkpoint.roots.of(name),
            name,
        )
    entry = _entry_at(receipt.entry, receipt.index)  # 5
    release: Digest | None = None
    if entry.kind is EntryKind.JOB_SETTLED:
        release = parse_body(entry.kind, entry.body)["release"]
    if release_bytes is not None:  # 6
        _check_release(release, release_bytes)
    return ReceiptFacts(entry, head.checkpoint.size, head.cosigners, release, release_bytes is not None)


def verify_log(
    entries: Iterable[bytes], checkpoints: Iterable[str], trusted: Trusted, held_checkpoint: str | None = None
) -> LogFacts:
    """Return what an exported log proves about its integrity (level 0), in constant memory.

    1. Every checkpoint is of the trusted log, signed and cosigned; there is one at least; their sizes rise.
    2. The bytes of the entries, hashed anew, give both roots of each checkpoint at its size.
    3. No checkpoint is larger than the log: nothing was cut off its end.
    4. The checkpoint that the auditor held from before, if any, is met in the same way: nothing was rewritten since.

    Args:
        entries: the bytes of the entries from number 0, in order; read once.
        checkpoints: cosigned checkpoints in the order of their sizes; read once, as they are needed.
        trusted: the keys and origin to believe.
        held_checkpoint: a cosigned checkpoint kept by the auditor, or by anyone with a receipt.

    Raises:
        CheckpointError: 1.
        ConsistencyError: 2, 3, 4; `details` has `checkpoint`, the note that the entries contradict.
    """
    held = None if held_checkpoint is None else _trusted_checkpoint(held_checkpoint, trusted)
    frontiers = {name: Frontier(name) for name in HASH_NAMES}
    count, last = 0, None
    heads = _rising(checkpoints, trusted)
    head = next(heads, None)
    if head is None:
        raise CheckpointError(
            "there is no cosigned checkpoint to hold the log to",
            hint="hand over the checkpoints of the export",
            code="ledger.checkpoint.none",
        )
    leaves = iter(entries)
    while True:
        size = frontiers["sm3"].size
        while head is not None and head.checkpoint.size == size:  # 2
            _check_roots(head, frontiers)
            count, last, head = count + 1, head, next(heads, None)
        if held is not None and held.checkpoint.size == size:  # 4
            _check_roots(held, frontiers)
        raw = next(leaves, None)
        if raw is None:
            break
        if len(raw) > MAX_ENTRY_BYTES:
            raise _not_an_entry(size)
        for name in HASH_NAMES:
            frontiers[name].push(leaf_hash(raw, name))
    for missing in (head, held):  # 3
        if missing is not None and missing.checkpoint.size > size:
            raise _cut_off(missing, size)
    assert last is not None
    roots = Roots(sm3=frontiers["sm3"].root(), sha256=frontiers["sha256"].root())
    held_size = None if held is None else held.checkpoint.size
    covered = max(last.checkpoint.size, held_size or 0)
    return LogFacts(size, covered, roots, count, held_size, last.cosigners)


def fold_log(entries: Iterable[bytes]) -> State:
    """Return the state that an exported log folds to (level 1): each entry was allowed when it was appended.

    Run it over the same bytes that `verify_log` passed, and compare `state_digest` with what was published.

    Raises:
        LedgerError: `ledger.replay`: an entry is malformed or was not allowed; `details` has `place` and the `cause`.
    """
    state = EMPTY
    for index, raw in enumerate(entries):
        try:
            state = apply(state, Entry.parse(raw))
        except SaggarError as error:
            raise LedgerError(
                f"entry {index} of the log was not allowed: {error.message}",
                hint="the sandbox broke its own rules, or the export is not its log; run level 0 first",
                code="ledger.replay",
                place=f"entry {index}",
                cause=error.to_dict(),
            ) from error
    return state


def _trusted_checkpoint(note: str, trusted: Trusted) -> VerifiedCheckpoint:
    verified = verify_checkpoint(note, trusted.sandbox_keys, trusted.witness_keys)
    if verified.checkpoint.origin != trusted.origin:
        raise CheckpointError(
            f"the checkpoint is of the log `{verified.checkpoint.origin}` and not of `{trusted.origin}`",
            hint="compare the origins",
            code="ledger.checkpoint.origin",
            checkpoint=note,
        )
    return verified


def _rising(checkpoints: Iterable[str], trusted: Trusted) -> Iterator[VerifiedCheckpoint]:
    size = 0
    for note in checkpoints:
        verified = _trusted_checkpoint(note, trusted)
        if verified.checkpoint.size < size:
            raise CheckpointError(
                "the checkpoints are not in the order of their sizes",
                hint="sort them by size",
                code="ledger.checkpoint.order",
                checkpoint=note,
            )
        size = verified.checkpoint.size
        yield verified


def _check_roots(head: VerifiedCheckpoint, frontiers: dict[HashName, Frontier]) -> None:
    for name in HASH_NAMES:
        if frontiers[name].root() != head.checkpoint.roots.of(name):
            raise ConsistencyError(
                f"the first {head.checkpoint.size} entries are not those that were cosigned, by the {name} tree",
                hint="an entry was edited, dropped, added or moved; keep the export and the checkpoint as evidence",
                code="ledger.consistency.rewritten",
                checkpoint=head.note,
                size=head.checkpoint.size,
                tree=name,
            )


def _cut_off(head: VerifiedCheckpoint, size: int) -> ConsistencyError:
    return ConsistencyError(
        f"the log has {size} entries, and {head.checkpoint.size} were cosigned",
        hint="entries were cut off, or the export is not whole; keep the checkpoint as evidence",
        code="ledger.consistency.cut_off",
        checkpoint=head.note,
        size=size,
    )


def _entry_at(raw: bytes, index: int) -> Entry:
    try:
        entry = Entry.parse(raw)
    except CanonicalError as error:
        raise _not_an_entry(index) from error
    if entry.seq != index:
        raise _not_an_entry(index)
    return entry


def _not_an_entry(index: int) -> InclusionError:
    return InclusionError(
        f"what stands at {index} in the log is not an entry of that number",
        hint="keep it as evidence: the sandbox logged something that it may not",
        code="ledger.inclusion.not_an_entry",
        index=index,
    )


def _check_release(release: Digest | None, release_bytes: bytes) -> None:
    hash_name: HashName = "sha256" if release is not None and release.startswith("sha256:") else "sm3"
    if release is None or digest_of(release_bytes, hash_name=hash_name) != release:
        raise InclusionError(
            "the bytes are not the release that the entry names",
            hint="compare the file with the one that was delivered",
            code="ledger.inclusion.release",
            release=release,
        )
