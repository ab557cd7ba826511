"""What the line of a job works with: the pillars, and the few edges through which the world enters.

The protocols stand here, beside the code that calls them; `sandbox.service.compose` makes the concrete ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.compute.sealed import SealedTables
from sandbox.crypto.keys import PrivateKey
from sandbox.ledger.account import State
from sandbox.ledger.merkle import Proofs
from sandbox.ledger.store import Draft, Ledger
from sandbox.model.digest import Digest
from sandbox.model.entry import Entry, EntryKind
from sandbox.model.keys import PublicKey, Role
from sandbox.privacy.noise import NoiseSource
from sandbox.privacy.partials import Partials
from sandbox.privacy.plan import Plan
from sandbox.runtime.host.guests import GuestHost
from sandbox.vault.store import Vault


class Clock(Protocol):
    """Where time enters."""

    def now(self) -> str:
        """Return UTC in whole seconds, `YYYY-MM-DDTHH:MM:SSZ`."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def sleep_until_s(self, moment_s: float) -> None:
        """Return when `monotonic_s()` has reached `moment_s`."""
        ...


class Documents(Protocol):
    """Documents by digest; written once, never changed."""

    def put(self, data: bytes) -> Digest:
        """Keep `data` durably and return its digest."""
        ...

    def put_all(self, *documents: bytes) -> tuple[Digest, ...]:
        """Keep several documents durably and return their digests in the same order."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes whose digest this is; a damaged document is refused."""
        ...

    def holds(self, digest: str) -> bool:
        """Return whether a document of this digest is there; what it holds is not looked at."""
        ...


class WitnessClient(Protocol):
    """A line to the witness, a process of its own with keys and memory of its own."""

    def cosign(self, note: str, prove: Callable[[int, int], Proofs]) -> str:
        """Return the witness's cosignature line for a checkpoint note.

        Args:
            note: the checkpoint, signed by the sandbox.
            prove: returns both trees' consistency proofs from an old size to a new one.

        Raises:
            WitnessError: it refused or cannot be reached.
        """
        ...


class Computing(Protocol):
    """Whoever computes for one job."""

    def map_partitions(self, plan: Plan, parts: SealedTables, *, cancel: threading.Event | None = None) -> Partials:
        """Return the exact integers of a plan, summed over all partitions: the same, whoever computes.

        Raises:
            VaultError: an object is not what was sealed, or the engine failed.
            CancelledError: `cancel` was set.
            UnavailableError: workers died again and again, or cannot be started.
        """
        ...


class Pool(Protocol):
    """Whoever computes: readers on this machine, or workers elsewhere."""

    def prepare(self) -> None:
        """Begin to start what takes time; called before anything is reserved for a job.

        Raises:
            SaggarError: it could not compute for a job, as things stand.
        """
        ...

    def job(self) -> AbstractContextManager[Computing]:
        """Return what computes for one job; what it was given is gone at the end."""
        ...


@dataclass(frozen=True)
class Records:
    """What can be read without any key: the log, its documents, the time, and walls to compile a program in.

    Attributes:
        ledger, documents, clock: see their types.
        guests: returns the started guest host (lazily: an SQL job needs none).
    """

    ledger: Ledger
    documents: Documents
    clock: Clock
    guests: Callable[[], GuestHost]

    def state(self) -> State:
        """Return the state that the log folds to now."""
        return self.ledger.state()

    def trusted(self, role: Role) -> tuple[PublicKey, ...]:
        """Return the registered keys of a role."""
        return tuple(key for key in self.state().keys.values() if key.role is role)


@dataclass(frozen=True)
class Engine(Records):
    """The trusted side: it holds data and keys and runs no operator's code.

    Attributes:
        vault, witness: see their types.
        key: the sandbox's own key; signs checkpoints, permits and manifests.
        origin: the log's name in checkpoints.
        noise: the one source of noise.
        pool: whoever opens sealed columns and sums them.
    """

    vault: Vault
    witness: WitnessClient
    key: PrivateKey
    origin: str
    noise: NoiseSource
    pool: Pool

    @property
    def actor(self) -> str:
        """The sandbox's key id."""
        return self.key.public.key_id

    def append(
        self, kind: EntryKind, body: dict[str, Any], *, actor: str | None = None, at: str | None = None
    ) -> Entry:
        """Append one entry durably; time never goes back, whatever the clock says."""
        moment = max(at or self.clock.now(), self.state().at)
        return self.ledger.append(kind, actor or self.actor, body, moment)

    def append_all(self, *entries: tuple[EntryKind, dict[str, Any]], at: str | None = None) -> tuple[Entry, ...]:
        """Append several entries in one commit, all of them or none."""
        moment = max(at or self.clock.now(), self.state().at)
        return self.ledger.append_all([Draft(kind, self.actor, body, moment) for kind, body in entries])
