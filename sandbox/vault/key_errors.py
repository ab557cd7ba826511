"""What is wrong with a key file, for people."""

from __future__ import annotations

from sandbox.errors import KeyUnavailableError, SealBrokenError


def missing_half(side: str, dataset: str, snapshot: str, owner: str) -> KeyUnavailableError:
    """Return the error of a snapshot key whose half on one side (`platform` or `owner`) is not here."""
    holder = f"the owner `{owner}`" if side == "owner" else "the platform"
    act = "lend it with `saggar keys import-half`" if side == "owner" else "restore it from a backup"
    return KeyUnavailableError(
        f"the half of a snapshot key of `{dataset}` that {holder} keeps is missing",
        hint=f"{holder} must {act}; if it was destroyed, the snapshot cannot be opened again",
        code=f"vault.key_unavailable.{side}_half",
        dataset=dataset,
        snapshot=snapshot,
        owner=owner,
    )


def trimmed_key(name: str, parent: str) -> SealBrokenError:
    """Return the error of a key under a version that a rotation forgot."""
    return SealBrokenError(
        f"the key in `keys/{name}` hangs under a version that is no longer kept",
        hint="it is from before a rotation, or it was changed; restore the newest backup of this file",
        code="vault.seal_broken.key",
        object=f"keys/{name}",
        parent=parent,
    )


def broken_key_file(name: str) -> SealBrokenError:
    """Return the error of a key file that is not one."""
    return SealBrokenError(
        f"the key file `keys/{name}` is damaged",
        hint="restore it from a backup",
        code="vault.seal_broken.key",
        object=f"keys/{name}",
    )


def older_version(name: str) -> KeyUnavailableError:
    """Return the error of a key file from before unit kinds had keys of their own."""
    return KeyUnavailableError(
        f"the key file `keys/{name}` was written by a version with a token key for each dataset",
        hint="seal the dataset from its source in a new state; its old tokens would join with nothing",
        code="vault.key_unavailable.version",
        object=f"keys/{name}",
    )
