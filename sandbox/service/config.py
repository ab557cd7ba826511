"""The state directory: what lies where, and what was chosen when it was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
class ObjectsConfig:
    """An object store.  It names no credentials: those come from the environment or from a file outside of the state.

    Attributes:
        url: `s3://bucket/prefix`.
        endpoint: the address of a store that is not Amazon's, such as `https://store.city.example`; or None.
        region: the store's region, or None.
        credentials: a file with `[default]` credentials, as the AWS tools write it; or None for the environment.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    credentials: str | None = None

    def to_record(self) -> dict[str, str | None]:
        """Return the choice as a canonical record."""
        return {name: getattr(self, name) for name in ("url", "endpoint", "region", "credentials")}


@dataclass(frozen=True, slots=True)
class StateConfig:
    """What `saggar init` chose.

    Attributes:
        origin: the log's name in checkpoints.
        suite: the default suite.
        demo: whether `saggar demo` made it (and may remake it).
        second_factor: the file, outside of the state directory, whose secret is needed beside the passphrase; or None.
        objects: the object store of sealed bytes, or None for the state directory itself.
    """

    origin: str
    suite: SuiteName
    demo: bool
    second_factor: str | None = None
    objects: ObjectsConfig | None = None

    def write(self, layout: Layout) -> None:
        """Write the choices durably."""
        record: dict[str, Any] = {"v": 1, "origin": self.origin, "suite": self.suite.value, "demo": self.demo}
        if self.second_factor is not None or self.objects is not None:
            objects = None if self.objects is None else self.objects.to_record()
            record |= {"v": 2, "second_factor": self.second_factor, "objects": objects}
        write_durably(layout.config, canonical_bytes(record))

    @classmethod
    def read(cls, layout: Layout) -> StateConfig:
        """Return the choices of an initialised state directory.

        Raises:
            StateUnsafeError: there is none, or it is damaged.
        """
        try:
            record = parse_canonical(layout.config.read_bytes())
            base = cls(record["origin"], SuiteName(record["suite"]), record["demo"])
            if record["v"] == 1:
                return base
            objects = None if record["objects"] is None else ObjectsConfig(**record["objects"])
            return replace(base, second_factor=record["second_factor"], objects=objects)
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
