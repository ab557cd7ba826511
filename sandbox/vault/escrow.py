"""Escrow: the sandbox's own key files once more, locked under the master key instead of a passphrase.

Whoever brings the master key back from the custodians' shares gets the sandbox's signing key back with it; otherwise a
forgotten passphrase would leave data that opens and a log that nobody can go on with.
"""

from __future__ import annotations

from sandbox.crypto.keyfile import lock_key, unlock_key
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import KeyUnavailableError
from sandbox.vault.key_errors import broken_key_file
from sandbox.vault.keyring import Keyring
from sandbox.vault.masters import MasterKey

ESCROW = "escrow/"


def keep_in_escrow(keyring: Keyring, key: PrivateKey) -> None:
    """Store a key under the master key in force."""
    keyring.store.put(ESCROW + key.public.name, lock_key(key, _phrase(keyring, keyring.ring.primary)))


def keys_in_escrow(keyring: Keyring) -> tuple[PrivateKey, ...]:
    """Return the keys in escrow.

    Raises:
        KeyUnavailableError: one hangs under a master key that is not in the ring (`vault.key_unavailable.escrow`).
    """
    return tuple(open_escrow(keyring, name) for name in keyring.store.names(ESCROW))


def open_escrow(keyring: Keyring, name: str) -> PrivateKey:
    """Return the key in one file of the escrow; raise as `keys_in_escrow` does, or that the file is damaged."""
    key = _unlock(keyring, name)[0]
    if ESCROW + key.public.name != name:
        raise broken_key_file(name)
    return key


def rewrap_escrow(keyring: Keyring) -> None:
    """Hang what is in escrow under the master key in force."""
    for name in keyring.store.names(ESCROW):
        key, master = _unlock(keyring, name)
        if master != keyring.ring.primary:
            keep_in_escrow(keyring, key)


def _unlock(keyring: Keyring, name: str) -> tuple[PrivateKey, MasterKey]:
    raw = keyring.store.get(name)
    for master in keyring.ring.keys:
        try:
            return unlock_key(raw, _phrase(keyring, master)), master
        except KeyUnavailableError as error:
            if error.code != "vault.key_unavailable.wrong_passphrase":
                raise broken_key_file(name) from error
    raise KeyUnavailableError(
        f"the key in `keys/{name}` hangs under another master key",
        hint="use the shares of the newest ceremony, or restore the newest backup of the vault's keys",
        code="vault.key_unavailable.escrow",
    )


def _phrase(keyring: Keyring, master: MasterKey) -> str:
    return keyring.suite.expand(master.secret, b"saggar/escrow/1", 32).hex()
