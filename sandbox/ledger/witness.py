"""What a witness checks before it cosigns a checkpoint, as in C2SP tlog-witness, for both trees.

A witness belongs to another party than the sandbox (the agency that implements the programme) and is small: a key, the
sandbox's public keys for each origin, and one row a log.  By cosigning it says: as of this time, this is the largest
head of this log that I have seen, and each tree in it extends each head that I cosigned before.

What the service around it must persist *before* the cosignature leaves the machine is in `WitnessMemory.advance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import ConsistencyError, WitnessError
from sandbox.ledger.checkpoint import VerifiedCheckpoint, parse_checkpoint, verify_uncosigned_checkpoint
from sandbox.ledger.merkle import HASH_NAMES, Proofs, Roots, empty_root, verify_growth
from sandbox.ledger.note import cosign_text, parse_note
from sandbox.model.keys import PublicKey, Role


@dataclass(frozen=True, slots=True)
class SeenHead:
    """The largest head of one log that a witness cosigned.

    Attributes:
        size: how many entries.
        roots: the roots of both trees.
        note: the checkpoint as the sandbox signed it: the evidence, should another one turn up.
    """

    size: int
    roots: Roots
    note: str

    @classmethod
    def from_note(cls, note: str) -> SeenHead:
        """Return the head that a stored checkpoint names; the store is the witness's own and is believed."""
        checkpoint = parse_checkpoint(note)
        return cls(checkpoint.size, checkpoint.roots, note)


class WitnessMemory(Protocol):
    """Where a witness keeps its one row a log.

    The row is `origin -> note` (the note holds size and both roots).  It outlives the process and is never rolled back:
    a witness restored from a backup has forgotten what it promised and must be given its latest cosigned checkpoint
    (any receipt carries one) before it cosigns again.
    """

    def latest(self, origin: str) -> SeenHead | None:
        """Return the head last stored for a log, or None if there never was one."""
        ...

    def advance(self, origin: str, expected: SeenHead | None, head: SeenHead) -> bool:
        """Store `head` if the row still is `expected`, durably (synced to disk), and say whether it was stored.

        Compare and store in one atomic step, or two requests at once could make the witness cosign a fork or go back.
        """
        ...


class Witness:
    """The rules of a witness; all it does to the world it does through its memory."""

    def __init__(self, key: PrivateKey, logs: Mapping[str, Sequence[PublicKey]], memory: WitnessMemory) -> None:
        """Make a witness.

        Args:
            key: the witness's own key, with the role `witness`.
            logs: the sandbox keys trusted for each origin.
            memory: where it remembers.
        """
        if key.public.role is not Role.WITNESS:
            raise WitnessError(f"key `{key.public.name}` is not a witness's", hint="make a key with the role `witness`")
        self._key = key
        self._logs = {origin: tuple(keys) for origin, keys in logs.items()}
        self._memory = memory

    def cosign(self, old_size: int, proofs: Proofs, note: str, at: str) -> str:
        """Return the cosignature line for a checkpoint that extends everything cosigned before.

        1. The origin is one that this witness knows.
        2. A trusted key of the sandbox signed the checkpoint.
        3. `old_size` is the size of the head last cosigned (0 for none): the caller and the witness agree on the past.
        4. The new tree extends the old one, in the SM3 tree and in the SHA-256 tree.
        5. The new head is stored durably before the line is returned.

        Args:
            old_size: the size that the proofs start from.
            proofs: the consistency proofs; empty from size 0 and for the same size again.
            note: the checkpoint, signed by the sandbox; other signatures are ignored.
            at: the witness's own time, `YYYY-MM-DDTHH:MM:SSZ`.

        Raises:
            WitnessError: `ledger.witness.unknown_log` or `ledger.witness.stale` (`details["size"]` has the size to
                start from).
            CheckpointError: malformed, or not signed by a key trusted for the origin.
            ConsistencyError: a fork; `details` has `held` and `offered`, two signed notes that prove it.
        """
        origin = parse_checkpoint(note).origin
        keys = self._logs.get(origin)
        if not keys:  # 1
            raise WitnessError(
                f"this witness does not know the log `{origin}`",
                hint="ask the witness's holder to add the log and its keys",
                code="ledger.witness.unknown_log",
                origin=origin,
            )
        offered = verify_uncosigned_checkpoint(note, keys)  # 2
        head = SeenHead(offered.checkpoint.size, offered.checkpoint.roots, note)
        held = self._memory.latest(origin)
        known_size = 0 if held is None else held.size
        if old_size != known_size or head.size < known_size:  # 3
            raise _stale(origin, known_size)
        _check_growth(held, offered, proofs)  # 4
        line = cosign_text(parse_note(note).text, self._key, at).to_line()
        if not self._memory.advance(origin, held, head):  # 5
            latest = self._memory.latest(origin)
            raise _stale(origin, 0 if latest is None else latest.size)
        return line


def _check_growth(held: SeenHead | None, offered: VerifiedCheckpoint, proofs: Proofs) -> None:
    old_size = 0 if held is None else held.size
    for name in HASH_NAMES:
        old_root = empty_root(name) if held is None else held.roots.of(name)
        try:
            verify_growth(
                old_size,
                offered.checkpoint.size,
                old_root,
                offered.checkpoint.roots.of(name),
                proofs.of(name),
                name,
            )
        except ConsistencyError as error:
            raise ConsistencyError(
                f"the checkpoint does not extend what this witness cosigned, in the {name} tree",
                hint="keep both checkpoints: if the proof was whole, the log has been rewritten",
                held=None if held is None else held.note,
                offered=offered.note,
                tree=name,
            ) from error


def _stale(origin: str, size: int) -> WitnessError:
    return WitnessError(
        f"this witness last cosigned `{origin}` at {size} entries",
        hint="send the consistency proofs from that size",
        code="ledger.witness.stale",
        origin=origin,
        size=size,
    )
