"""Reading every key file again: does each still open in its place?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sandbox.errors import SaggarError, SealBrokenError
from sandbox.model.keys import Role
from sandbox.vault.escrow import ESCROW, open_escrow
from sandbox.vault.key_errors import broken_key_file
from sandbox.vault.keyring import DATASET_VERSION, Keyring, dataset_name
from sandbox.vault.mark import read_mark
from sandbox.vault.outstanding import ceremonies
from sandbox.vault.unit_keys import UNIT_FIELDS, unit_keys, unit_name


def broken_key_files(keyring: Keyring) -> Iterator[tuple[str, SaggarError]]:
    """Yield the name of each key file that is not what was written, and what is wrong with it.

    Halves of snapshot keys are not read here: whose they are stands in the manifests.  The master file opened already.
    """
    for name in keyring.store.names("datasets/"):
        yield from _tried(name, partial(_read_dataset, keyring, name))
    for name in keyring.store.names("units/"):
        yield from _tried(name, partial(_read_unit_kind, keyring, name))
    for name in keyring.store.names("escrow/"):
        yield from _tried(name, partial(open_escrow, keyring, name))
    yield from _tried("custody", partial(_read_ceremonies, keyring))


def _tried(name: str, read: Callable[[], object]) -> Iterator[tuple[str, SaggarError]]:
    try:
        read()
    except SaggarError as error:
        yield str(error.details.get("object", f"keys/{name}")), error


def _read_dataset(keyring: Keyring, name: str) -> None:
    """Open a dataset's key file and its mark."""
    record = keyring.read_record(name, {"v", "dataset", "keys"}, None, version=DATASET_VERSION)
    dataset = record["dataset"]
    if not isinstance(dataset, str) or dataset_name(dataset) != name:
        raise broken_key_file(name)
    read_mark(keyring, keyring.dataset(dataset), dataset)


def _read_ceremonies(keyring: Keyring) -> None:
    """Read the record of the ceremonies; where shares are out, the sandbox's key is in escrow."""
    name = f"{ESCROW}{Role.SANDBOX.value}"
    if ceremonies(keyring) and not keyring.store.exists(name):
        raise SealBrokenError(
            f"the key file `keys/{name}` is missing, so the shares do not bring the sandbox's key back",
            hint="restore it from a backup, or split the master key again",
            code="vault.seal_broken.missing",
            object=f"keys/{name}",
        )


def _read_unit_kind(keyring: Keyring, name: str) -> None:
    kind = keyring.read_record(name, UNIT_FIELDS, None)["unit_kind"]
    if not isinstance(kind, str) or unit_name(kind) != name:
        raise broken_key_file(name)
    unit_keys(keyring, kind)
