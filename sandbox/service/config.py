"""The state directory: what lies where, and what was chosen when it was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from sandbox.errors import CanonicalError, StateUnsafeError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import SuiteName
from sandbox.runtime.host.report import Level
from sandbox.service.files import write_durably

WORKERS_MAX = 256


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


class PoolName(StrEnum):
    """Who opens sealed columns and sums them."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Where questions are computed.

    Attributes:
        pool: readers on this machine, or workers on a Ray cluster.
        workers: threads of a reader, or workers on the cluster; 1 to 256.
        address: of the cluster, `HOST:PORT`; None starts one on this machine.
    """

    pool: PoolName = PoolName.LOCAL
    workers: int = 2
    address: str | None = None

    def __post_init__(self) -> None:
        if type(self.workers) is not int or not 1 <= self.workers <= WORKERS_MAX:
            raise _not_understood("its number of workers")
        if self.address is not None and (self.pool is not PoolName.RAY or not self.address):
            raise _not_understood("its address, which only a Ray cluster has")

    def to_record(self) -> dict[str, Any]:
        """Return the choices as `saggar.json` holds them."""
        return {"pool": self.pool.value, "workers": self.workers, "address": self.address}

    @classmethod
    def parse(cls, record: Any) -> ComputeConfig:
        """Return the choices that a record writes.

        Raises:
            StateUnsafeError: it writes none (`ledger.state.compute`).
        """
        if not isinstance(record, dict) or not set(record) <= {"pool", "workers", "address"}:
            raise _not_understood("its fields")
        if record.get("pool", PoolName.LOCAL) not in list(PoolName):
            raise _not_understood("its pool")
        address = record.get("address")
        if address is not None and not isinstance(address, str):
            raise _not_understood("its address")
        return cls(PoolName(record.get("pool", PoolName.LOCAL)), record.get("workers", 2), address)


def _not_understood(what: str) -> StateUnsafeError:
    return StateUnsafeError(
        f"where to compute is not understood: {what}",
        hint=f"`pool` is `local` or `ray`, `workers` 1 to {WORKERS_MAX}, `address` HOST:PORT of a Ray cluster or null",
        code="ledger.state.compute",
    )


def parse_level(name: object) -> Level:
    """Return the least level of isolation that a configuration names; it may ask for more than the standard, not less.

    Raises:
        StateUnsafeError: it names another one (`ledger.state.isolation`).
    """
    named = {level.name.lower(): level for level in (Level.STANDARD, Level.FULL)}
    if not isinstance(name, str) or name not in named:
        raise StateUnsafeError(
            "the least level of isolation is not understood",
            hint=f"`least_isolation` is {', '.join(f'`{known}`' for known in named)}",
            code="ledger.state.isolation",
        )
    return named[name]


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
        compute: where questions are computed.
        least: the level of isolation below which no program runs.
    """

    origin: str
    suite: SuiteName
    demo: bool
    second_factor: str | None = None
    objects: ObjectsConfig | None = None
    compute: ComputeConfig = ComputeConfig()
    least: Level = Level.STANDARD

    def write(self, layout: Layout) -> None:
        """Write the choices durably."""
        record: dict[str, Any] = {
            "v": 1,
            "origin": self.origin,
            "suite": self.suite.value,
            "demo": self.demo,
            "compute": self.compute.to_record(),
            "least_isolation": self.least.name.lower(),
        }
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
            compute = ComputeConfig.parse(record.get("compute", {}))
            least = parse_level(record.get("least_isolation", Level.STANDARD.name.lower()))
            base = cls(record["origin"], SuiteName(record["suite"]), record["demo"], compute=compute, least=least)
            if record["v"] == 1:
                return base
            objects = None if record["objects"] is None else ObjectsConfig(**record["objects"])
            return replace(base, second_factor=record["second_factor"], objects=objects)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StateUnsafeError(
                f"`{layout.root}` is not a saggar state directory",
                hint="make one with `saggar --state DIR init`, or name yours with `--state` or SAGGAR_STATE",
                code="ledger.state.not_initialised",
            ) from error
        except PermissionError as error:
            raise StateUnsafeError(
                f"`{layout.root}` may not be read by you",
                hint="run saggar as the account that made it, or have its owner let you in",
                code="ledger.state.permissions",
            ) from error
        except (CanonicalError, KeyError, ValueError, TypeError) as error:
            raise StateUnsafeError(
                "the state directory's `saggar.json` is damaged", hint="restore it from a backup"
            ) from error
