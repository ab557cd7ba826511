"""New versions of keys.  A rotation wraps keys again and touches no object: sealed bytes are the same before and after.

```
1. the new version is written beside the old one        both open
2. each key under the old version is wrapped anew       some hang under the old one, some under the new one; all open
3. the old version is trimmed                           what still hangs under it (a backup) is refused
```

Every step is one atomic write, so a crash between any two leaves a vault that opens; the rotation is then called again
and goes on where it stopped.
"""

from __future__ import annotations

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import SaggarError
from sandbox.model.canonical import parse_canonical
from sandbox.vault.escrow import rewrap_escrow
from sandbox.vault.keyring import SIDES, DatasetKeys, Keyring, dataset_name, half_name
from sandbox.vault.mark import keep_mark, read_mark
from sandbox.vault.outstanding import ceremonies, rewrap_ceremonies
from sandbox.vault.unit_keys import rewrap_units


def rotate_master(keyring: Keyring, passphrase: str) -> None:
    """Put a new master key in force, hang every dataset under it, and forget the old one.

    Args:
        keyring: the open keyring.
        passphrase: what locks the ring of master keys; it must be the one in use, unless it shall change too.
    """
    begin_master(keyring, passphrase)
    keyring.keep_ring(keyring.ring.trimmed(), passphrase)


def begin_master(keyring: Keyring, passphrase: str) -> None:
    """Put a new master key in force and hang every dataset and kind of unit under it; the old one is still kept.

    A rotation that broke off is finished with the key that it had drawn.

    Raises:
        SealBrokenError: the record of the ceremonies is gone or was changed; nothing was written.
    """
    ceremonies(keyring)
    if len(keyring.ring.keys) == 1:
        keyring.keep_ring(keyring.ring.with_new(), passphrase)
    for dataset in keyring.datasets():
        keys = keyring.dataset(dataset)
        _write_dataset(keyring, dataset, keys)
    rewrap_units(keyring)
    rewrap_escrow(keyring)
    rewrap_ceremonies(keyring)


def rotate_dataset(keyring: Keyring, dataset: str) -> None:
    """Give a dataset's key a new version, hang the halves of its snapshot keys under it, and forget the old one.

    Raises:
        KeyUnavailableError: the dataset has no keys (`vault.key_unavailable.dataset`).
    """
    keys = keyring.dataset(dataset)
    mark = read_mark(keyring, keys, dataset)
    if not keys.older:
        key_id, secret = random_bytes(16).hex(), random_bytes(keyring.suite.key_bytes)
        keys = DatasetKeys(key_id, keys.version + 1, secret, {keys.key_id: keys.wrapping})
        _write_dataset(keyring, dataset, keys)
    for side in SIDES:
        for snapshot in keyring.snapshots(side):
            record = keyring.read_record(half_name(side, snapshot), {"v", "key"}, None)
            purpose = _purpose_of(record["key"])
            if _dataset_of(purpose) == dataset and record["key"]["parent"] != keys.key_id:
                half = keyring.unwrap_below(keys, record["key"], purpose, half_name(side, snapshot))
                keyring.keep_half(keys, side, snapshot, purpose, half)
    if mark is not None:
        keep_mark(keyring, keys, dataset, mark)
    trimmed = DatasetKeys(keys.key_id, keys.version, keys.wrapping)
    _write_dataset(keyring, dataset, trimmed)


def _write_dataset(keyring: Keyring, dataset: str, keys: DatasetKeys) -> None:
    """Write a dataset's keys under the master key in force."""
    tops = [(keys.key_id, keys.version, keys.wrapping)]
    tops += [(key_id, keys.version - 1, secret) for key_id, secret in keys.older.items()]
    keyring.store.put(dataset_name(dataset), keyring.dataset_file(dataset, tops))


def _purpose_of(record: object) -> str:
    purpose = record.get("purpose") if isinstance(record, dict) else None
    return purpose if isinstance(purpose, str) else ""


def _dataset_of(purpose: str) -> str | None:
    """Return the dataset that a half's purpose names, or None."""
    try:
        words = parse_canonical(purpose.encode())
    except SaggarError:
        return None
    return words[1] if isinstance(words, list) and len(words) == 4 else None
