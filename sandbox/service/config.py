"""The state directory: what lies where, and what was chosen when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import CanonicalError, StateUnsafeError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import SuiteName
from sandbox.service.files import write_durably


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one state directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The choices made at `init`."""
        return self.root / "saggar.json"

    @property
    def keys(self) -> Path:
        """Locked key files, one a name."""
        return self.root / "keys"

    @property
    def ledger(self) -> Path:
        """The log's database."""
        return self.root / "ledger"

    @property
    def vault(self) -> Path:
        """Sealed objects and wrapped keys."""
        return self.root / "vault"

    @property
    def documents(self) -> Path:
        """Documents by digest and cosigned checkpoints."""
        return self.root / "documents"

    @property
    def witness(self) -> Path:
        """The local witness's own memory; an agency keeps it on its own machine."""
        return self.root / "witness"


@dataclass(frozen=True, slots=True)
class StateConfig:
    """What `saggar init` chose.

    Attributes:
        origin: the log's name in checkpoints.
        suite: the default suite.
        demo: whether `saggar demo` made it (and may remake it).
    """

    origin: str
    suite: SuiteName
    demo: bool

    def write(self, layout: Layout) -> None:
        """Write the choices durably."""
        record = {"v": 1, "origin": self.origin, "suite": self.suite.value, "demo": self.demo}
        write_durably(layout.config, canonical_bytes(record))

    @classmethod
    def read(cls, layout: Layout) -> StateConfig:
        """Return the choices of an initialised state directory.

        Raises:
            StateUnsafeError: there is none, or it is damaged.
        """
        try:
            record = parse_canonical(layout.config.read_bytes())
            return cls(record["origin"], SuiteName(record["suite"]), record["demo"])
        except FileNotFoundError as error:
            raise StateUnsafeError(
                f"`{layout.root}` is not a saggar state directory",
                hint="make one with `saggar --state DIR init`, or name yours with `--state` or SAGGAR_STATE",
                code="ledger.state.not_initialised",
            ) from error
        except (CanonicalError, KeyError, ValueError, TypeError) as error:
            raise StateUnsafeError(
                "the state directory's `saggar.json` is damaged", hint="restore it from a backup"
            ) from error
