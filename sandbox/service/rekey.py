"""A new passphrase for all key files of a state directory at once.

The new files are written to `rekey/`, then a marker, then each takes its place.  Before the marker a crash leaves the
old files; after it, the next command puts the rest in place: there is never a mixture of two passphrases to open.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import InputError
from sandbox.service.config import Layout
from sandbox.service.files import sync_directory, write_durably
from sandbox.service.second_factor import drop_unneeded
from sandbox.vault.masters import MasterRing

_FOLDER, _MARKER = "rekey", "commit"
SHORTEST = 8
"""A passphrase has this many characters at least."""


def relock(
    layout: Layout,
    *,
    keys: Mapping[str, PrivateKey],
    ring: MasterRing,
    passphrase: str,
    factor: SecondFactor | None = None,
) -> None:
    """Lock key files and the vault's master keys under a new passphrase, all of them or none.

    Args:
        layout: the state directory; the caller holds its lock.
        keys: `sandbox`, and `witness` where it is local, opened.
        ring: the vault's master keys to keep.
        passphrase: the new one.
        factor: the second factor that the master keys and the sandbox's key need from now on, or None; its file holds
            it already.

    Raises:
        InputError: the passphrase is too short (`input.passphrase`).
        StorageError: the disk refused; the old files are as they were.
    """
    check_passphrase(passphrase)
    folder = layout.root / _FOLDER
    _discard(folder)
    for name, key in keys.items():
        # The local witness is a process that knows the passphrase alone.
        write_durably(folder / name, lock_key(key, passphrase, factor if name == "sandbox" else None))
    write_durably(folder / "master", ring.lock(passphrase, factor))
    write_durably(folder / _MARKER, b"")
    finish_relock(layout)


def finish_relock(layout: Layout) -> None:
    """Put in place what a relocking that reached its marker left, or throw away what one that did not left."""
    folder = layout.root / _FOLDER
    if (folder / _MARKER).exists():
        for name, target in _targets(layout).items():
            if (folder / name).exists():
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                (folder / name).replace(target)
                sync_directory(target.parent)
        (folder / _MARKER).unlink()
    _discard(folder)
    drop_unneeded(layout)


def check_passphrase(passphrase: str) -> None:
    """Refuse a passphrase that anybody could try."""
    if len(passphrase) < SHORTEST:
        raise InputError(
            f"the new passphrase is shorter than {SHORTEST} characters",
            hint="four words that do not belong together are easy to keep and hard to guess",
            code="input.passphrase",
        )


def _targets(layout: Layout) -> dict[str, Path]:
    return {
        "sandbox": layout.keys / "sandbox.key",
        "witness": layout.witness / "witness.key",
        "master": layout.vault / "keys" / "master",
    }


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        sync_directory(folder.parent)
