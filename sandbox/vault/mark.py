"""The mark: the newest snapshot of a dataset that a reader of this vault has seen.

A manifest that is older than the mark is refused, whoever signed it and however well: an old manifest put back in the
place of a new one is the attack.  The mark is sealed under the dataset key, moves forward only, and is written before
the rows of the newer snapshot are read.  Somebody who puts a whole old directory back puts the mark back with it;
against that stands the log, from which the engine takes the snapshot's digest, and the log's witness.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import SaggarError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import Digest, parse_digest, short
from sandbox.vault.key_errors import broken_key_file
from sandbox.vault.keyring import DatasetKeys, Keyring, dataset_name
from sandbox.vault.manifest import SnapshotManifest
from sandbox.vault.wrapping import wrap_secret


@dataclass(frozen=True, slots=True)
class Mark:
    """What was seen last.

    Attributes:
        generation: the snapshot's place in the chain of the dataset's snapshots, from 0.
        snapshot: its digest.
    """

    generation: int
    snapshot: Digest


def read_mark(keyring: Keyring, keys: DatasetKeys, dataset: str) -> Mark | None:
    """Return a dataset's mark, or None before the first reading.

    Raises:
        SealBrokenError: the mark was changed or is another dataset's (`vault.seal_broken.key`).
    """
    name = mark_name(dataset)
    if not keyring.store.exists(name):
        return None
    record = keyring.read_record(name, {"v", "key"}, None)
    raw = keyring.unwrap_below(keys, record["key"], _purpose(dataset), name)
    try:
        words = parse_canonical(raw)
        return Mark(words["generation"], parse_digest(words["snapshot"]))
    except (SaggarError, KeyError, TypeError) as error:
        raise broken_key_file(name) from error


def keep_mark(keyring: Keyring, keys: DatasetKeys, dataset: str, mark: Mark) -> None:
    """Write a dataset's mark durably, under the dataset key in force."""
    secret = canonical_bytes({"generation": mark.generation, "snapshot": mark.snapshot})
    wrapped = wrap_secret(
        keyring.suite,
        keys.wrapping,
        secret,
        key_id=random_bytes(16).hex(),
        purpose=_purpose(dataset),
        parent=keys.key_id,
    )
    keyring.store.put(mark_name(dataset), canonical_bytes({"v": 2, "key": wrapped.to_record()}))


def advance_mark(keyring: Keyring, manifest: SnapshotManifest) -> None:
    """Refuse a manifest that is older than the mark; move the mark forward to a newer one.

    Raises:
        VaultError: `vault.rolled_back`: a newer snapshot of this dataset was read before, or another one in its place.
        StorageError: the mark cannot be written; then nothing may be read.
    """
    keys = keyring.dataset(manifest.dataset)
    mark, snapshot = read_mark(keyring, keys, manifest.dataset), manifest.digest()
    if mark is None or manifest.generation > mark.generation:
        keep_mark(keyring, keys, manifest.dataset, Mark(manifest.generation, snapshot))
        return
    # Snapshots without a parent are no chain: two of them are told apart by the log alone.
    forked = manifest.generation == mark.generation > 0 and mark.snapshot != snapshot
    if manifest.generation < mark.generation or forked:
        raise VaultError(
            f"snapshot `{short(snapshot)}` of `{manifest.dataset}` is older than the last one seen, "
            f"`{short(mark.snapshot)}`",
            hint="an old manifest was put back; restore the newest backup, and find out who put it there",
            code="vault.rolled_back",
            snapshot=snapshot,
            seen=mark.snapshot,
        )


def forget_mark(keyring: Keyring, dataset: str) -> None:
    """Remove a dataset's mark with the dataset."""
    name = mark_name(dataset)
    if keyring.store.exists(name):
        keyring.store.delete(name)


def mark_name(dataset: str) -> str:
    """Return the name of the file with a dataset's mark."""
    return f"marks/{dataset_name(dataset).partition('/')[2]}"


def _purpose(dataset: str) -> str:
    return f"mark/{dataset}"
