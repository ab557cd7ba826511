"""The file of the second factor: where it lies, and in which order it changes.

A change of the factor goes like this; after a crash at any moment the master file opens with what the file holds:

1. the file gets the new secret beside the old one;
2. the master file is locked anew with the new secret (`rekey.py`, all key files or none);
3. the file keeps the new secret alone, and the blocks of the old file are overwritten.

Step 3 is done, or done again, whenever the state directory is opened: a secret that the master file does not name goes.
Overwriting reaches the file's own blocks; what a file system, a disk or somebody's copy keeps besides is theirs to
destroy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sandbox.crypto.factor import SecondFactor, parse_factors, write_factors
from sandbox.crypto.keyfile import factor_needed
from sandbox.errors import InputError, KeyUnavailableError
from sandbox.service.config import Layout, StateConfig
from sandbox.service.files import sync_directory, write_durably
from sandbox.vault.masters import MASTER_FILE


def factors_at_hand(layout: Layout) -> tuple[SecondFactor, ...]:
    """Return the second factors in the file that the state directory names; none if it names none or it is away.

    Raises:
        KeyUnavailableError: the file is there and damaged, or may not be read (`vault.key_unavailable.second_factor`).
    """
    path = factor_path(layout)
    return () if path is None else _read(path)


def factor_path(layout: Layout) -> Path | None:
    """Return where the second factor lies, or None for a state directory without one."""
    named = StateConfig.read(layout).second_factor
    return None if named is None else Path(named)


def check_place(layout: Layout, path: Path) -> Path:
    """Return the whole path of a new second factor.

    Raises:
        InputError: it lies inside the state directory, or something is there already (`input.second_factor`).
    """
    whole, root = path.expanduser().resolve(), layout.root.resolve()
    if whole.is_relative_to(root):
        raise InputError(
            "the second factor would lie inside the state directory, and in every backup of it",
            hint="name a file on another medium, which is never backed up together with the state directory",
            code="input.second_factor",
        )
    _check_medium(whole)
    if whole.exists():
        raise InputError(
            f"there is a file at `{whole}` already",
            hint="name a new file; a second factor is never written over anything",
            code="input.second_factor",
        )
    return whole


def put_beside(path: Path, new: SecondFactor, old: SecondFactor | None) -> None:
    """Step 1: write the new secret, and the one in use beside it.

    Raises:
        KeyUnavailableError: the medium is not here (`vault.key_unavailable.second_factor`).
        StorageError: it refuses; what was there stays.
    """
    _check_medium(path)
    write_durably(path, write_factors([new] if old is None else [new, old]))


def drop_unneeded(layout: Layout) -> None:
    """Step 3: keep the secret that the master file needs, and destroy any other."""
    path, master = factor_path(layout) if layout.config.exists() else None, layout.vault / "keys" / MASTER_FILE
    if path is None or not path.exists() or not master.exists():
        return
    needed = factor_needed(master.read_bytes())
    try:
        factors = _read(path)
    except KeyUnavailableError:  # said when it is needed; a recovery writes a new one
        return
    kept = [each for each in factors if each.factor_id == needed]
    if kept and len(kept) < len(factors):
        _replace_for_good(path, kept)


def destroy_file(path: Path) -> None:
    """Overwrite and remove a file of second factors."""
    if path.exists():
        _overwrite(path)
        path.unlink()
        sync_directory(path.parent)


def _check_medium(path: Path) -> None:
    if not path.parent.is_dir():
        raise KeyUnavailableError(
            f"there is no directory `{path.parent}` for the second factor",
            hint="bring its medium, or an empty one to the same place",
            code="vault.key_unavailable.second_factor",
        )


def _replace_for_good(path: Path, factors: Sequence[SecondFactor]) -> None:
    old = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_durably(path, write_factors(factors))
        _fill(old)
    finally:
        os.close(old)


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _fill(descriptor)
    finally:
        os.close(descriptor)


def _fill(descriptor: int) -> None:
    os.write(descriptor, bytes(os.fstat(descriptor).st_size))
    os.fsync(descriptor)


def _read(path: Path) -> tuple[SecondFactor, ...]:
    try:
        return parse_factors(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeyUnavailableError(
            f"the second factor at `{path}` cannot be read",
            hint="bring its medium and check its permissions",
            code="vault.key_unavailable.second_factor",
        ) from error
