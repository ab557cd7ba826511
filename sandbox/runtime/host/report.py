"""What isolation this machine gives, as found by trying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from sandbox.errors import LayerMissingError


class Level(IntEnum):
    """How thick the walls are; ordered.

    Attributes:
        NONE: a layer of the floor is missing; no program runs.
        FLOOR: system-call filter, resource limits, no new privileges, undumpable, four descriptors.
        STANDARD: the floor, and a second barrier to files: Landlock or an empty root.
        FULL: the standard, and own namespaces, and no clock.
    """

    NONE = 0
    FLOOR = 1
    STANDARD = 2
    FULL = 3


_FLOOR: Final = ("seccomp", "rlimits", "processor", "no_new_privs", "undumpable", "capabilities", "together")
_FILES: Final = ("landlock", "root")
_FULL: Final = (
    "landlock", "root", "clocks", "net", "user_namespace", "mnt_namespace", "net_namespace", "ipc_namespace",
    "uts_namespace", "pid_namespace",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer: whether it held when it was tried, and what was tried."""

    name: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """The walls around programs on this machine.

    Attributes:
        level: what the layers add up to.
        layers: one report each.
        kernel: its release.
        landlock_abi: Landlock's version; 0 if there is none.
        filter_digest: names the system-call filter.
        versions: of python, numpy, pandas, RestrictedPython inside the walls.
    """

    level: Level
    layers: tuple[LayerReport, ...]
    kernel: str
    landlock_abi: int
    filter_digest: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def missing_for(self, level: Level) -> tuple[LayerReport, ...]:
        """Return the layers that do not hold and that a level needs."""
        held = {layer.name for layer in self.layers if layer.held}
        wanted = set(_wanted(level))
        if level >= Level.STANDARD and not held & set(_FILES):
            wanted |= set(_FILES)
        return tuple(layer for layer in self.layers if layer.name in wanted and not layer.held)

    def to_record(self) -> dict[str, Any]:
        """Return the report as a canonical record, for the log entry of a release."""
        return {
            "level": self.level.name.lower(),
            "layers": [{"name": x.name, "held": x.held} for x in self.layers],
            "kernel": self.kernel,
            "landlock_abi": self.landlock_abi,
            "filter_digest": self.filter_digest,
            "versions": dict(self.versions),
        }


def _wanted(level: Level) -> tuple[str, ...]:
    if level >= Level.FULL:
        return _FLOOR + _FULL
    return _FLOOR if level >= Level.FLOOR else ()


def level_of(layers: tuple[LayerReport, ...]) -> Level:
    """Return the highest level whose layers all held; a layer that was not reported did not hold."""
    held = {layer.name for layer in layers if layer.held}
    if not held.issuperset(_FLOOR):
        return Level.NONE
    if not held & set(_FILES):
        return Level.FLOOR
    return Level.FULL if held.issuperset(_FULL) else Level.STANDARD


def parse_report(record: Mapping[str, Any]) -> IsolationReport:
    """Return the report that a zygote sent at its start."""
    layers = tuple(LayerReport(str(x["name"]), x["held"] is True, str(x["detail"])) for x in record["layers"])
    return IsolationReport(
        level_of(layers),
        layers,
        str(record["kernel"]),
        int(record["landlock_abi"]),
        str(record["filter_digest"]),
        {str(name): str(version) for name, version in record["versions"].items()},
    )


def too_thin_error(report: IsolationReport, least: Level) -> LayerMissingError:
    """Return the error that says which layers are missing for a level."""
    missing = report.missing_for(least)
    return LayerMissingError(
        f"this machine isolates programs at level {report.level.name.lower()}, below {least.name.lower()}",
        hint="run `saggar doctor` for the layers that are missing, or lower the level in the configuration",
        level=report.level.name.lower(),
        least=least.name.lower(),
        missing=[{"name": layer.name, "detail": layer.detail} for layer in missing],
    )
