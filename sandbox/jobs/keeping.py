"""Keeping a vault: what the log says must be there is what a check looks for and what tidying never touches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sandbox.jobs.engine import Engine
from sandbox.model.digest import Digest, short
from sandbox.model.keys import Role
from sandbox.vault.manifest import manifest_name
from sandbox.vault.scrub import Fault, ScrubReport

OWNER_HALF = "vault.key_unavailable.owner_half"
_KEYS = {
    "vault.key_unavailable.platform_half": "the platform's half of its key",
    "vault.key_unavailable.dataset": "the key file of its dataset",
}


def check_vault(engine: Engine, progress: Callable[[int], None] | None = None) -> ScrubReport:
    """Read every sealed object, manifest and key file again.

    What the log names and what cannot be opened any more, a half in its owner's hands apart, is a fault: a snapshot
    without its manifest, its platform half or its dataset's key.
    """
    held = held_snapshots(engine)
    report = engine.vault.check(engine.trusted(Role.SANDBOX), progress, held)
    faults = [
        Fault(
            manifest_name(snapshot),
            code,
            f"snapshot `{short(snapshot)}` does not open: {_KEYS.get(code, 'a key of it')} is missing",
        )
        for snapshot, code in zip(report.locked, report.locks, strict=True)
        if snapshot in held and code != OWNER_HALF
    ]
    return replace(report, faults=(*report.faults, *faults))


def collect_vault(engine: Engine) -> tuple[str, ...]:
    """Remove what a crash left behind, and return its names.

    Raises:
        VaultError: the manifest of a snapshot that the log names is missing or does not verify
            (`vault.collect_refused`): its objects would be taken for garbage; nothing is removed.
    """
    return engine.vault.collect(engine.trusted(Role.SANDBOX), held_snapshots(engine))


def held_snapshots(engine: Engine) -> tuple[Digest, ...]:
    """Return the snapshots that the log knows and that were not destroyed."""
    return tuple(
        snapshot
        for dataset in engine.state().datasets.values()
        for snapshot, _ in dataset.snapshots
        if dataset.certificate_of(snapshot) is None
    )
