"""The keys of a kind of unit: identifiers to tokens, tokens to partitions.

All datasets whose unit is of one kind share them.  So the same person has the same token in each of them, and stands in
partitions that lie within each other: datasets of one kind join unit by unit, one partition at a time
(`docs/adr/0012-one-token-key-a-unit-kind.md`).  They hang under the master key and under no dataset, so that a dataset
can be destroyed without a neighbour's tokens losing their key; they go when the last dataset of their kind goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import hash_bytes
from sandbox.vault.key_errors import broken_key_file
from sandbox.vault.keyring import Keyring
from sandbox.vault.wrapping import WrappedKey

_SECRET_BYTES = 32
UNIT_FIELDS = {"v", "unit_kind", "tokens", "partition"}


@dataclass(frozen=True, slots=True)
class UnitKeys:
    """The secrets of one kind of unit.

    Attributes:
        tokens: the key of `crypto.tokens.Tokeniser`.
        partition: the key of the map from units to partitions.
    """

    tokens: bytes = field(repr=False)
    partition: bytes = field(repr=False)


def ensure_unit_keys(keyring: Keyring, kind: str) -> UnitKeys:
    """Return the keys of a kind of unit, made at the first call for it."""
    if not keyring.store.exists(unit_name(kind)):
        _write(keyring, kind, UnitKeys(random_bytes(_SECRET_BYTES), random_bytes(_SECRET_BYTES)))
    return unit_keys(keyring, kind)


def unit_keys(keyring: Keyring, kind: str) -> UnitKeys:
    """Return the keys of a kind of unit.

    Raises:
        KeyUnavailableError: there are none (`vault.key_unavailable.unit_kind`).
        SealBrokenError: the key file was changed.
    """
    name = unit_name(kind)
    missing = KeyUnavailableError(
        f"there are no keys for units of the kind `{kind}`",
        hint="the vault's custodian must restore them from a backup",
        code="vault.key_unavailable.unit_kind",
    )
    record = keyring.read_record(name, UNIT_FIELDS, missing)
    try:
        tokens, partition = (WrappedKey.parse(record[what]) for what in ("tokens", "partition"))
    except SaggarError as error:
        raise broken_key_file(name) from error
    return UnitKeys(
        keyring.unwrap_top(tokens, f"tokens/{kind}", f"keys/{name}"),
        keyring.unwrap_top(partition, f"partition/{kind}", f"keys/{name}"),
    )


def unit_kinds(keyring: Keyring) -> tuple[str, ...]:
    """Return the kinds of units that have keys here."""
    names = keyring.store.names("units/")
    return tuple(sorted(keyring.read_record(name, UNIT_FIELDS, None)["unit_kind"] for name in names))


def rewrap_units(keyring: Keyring) -> None:
    """Hang the keys of every kind under the master key in force; the keys themselves stay, and so do all tokens."""
    for kind in unit_kinds(keyring):
        _write(keyring, kind, unit_keys(keyring, kind))


def forget_unit_keys(keyring: Keyring, kind: str) -> None:
    """Remove the keys of a kind, when the last dataset of it is destroyed.  Doing it twice does nothing more."""
    if keyring.store.exists(unit_name(kind)):
        keyring.store.delete(unit_name(kind))


def unit_name(kind: str) -> str:
    """Return the name of the file with the keys of a kind of unit."""
    return f"units/{hash_bytes(b'saggar/unit-file/1' + kind.encode()).hex()[:32]}"


def _write(keyring: Keyring, kind: str, keys: UnitKeys) -> None:
    wrapped = {
        what: keyring.wrap_top(secret, key_id=random_bytes(16).hex(), purpose=f"{what}/{kind}").to_record()
        for what, secret in (("tokens", keys.tokens), ("partition", keys.partition))
    }
    keyring.store.put(unit_name(kind), canonical_bytes({"v": 2, "unit_kind": kind, **wrapped}))
