"""Private keys: made here, never shown."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from sandbox.crypto.providers import sealing_scheme, signature_scheme
from sandbox.errors import InputError, KeyUnavailableError
from sandbox.model.keys import PublicKey, Role, SuiteName

NAME_CHARACTERS_MAX = 128


@dataclass(frozen=True)
class PrivateKey:
    """A person's two private keys and the public record that others know them by.

    Attributes:
        public: the record, whose `key_id` stands in every signature.
        signing: 32 secret bytes (gm: an SM2 scalar; intl: an Ed25519 seed).
        sealing: 32 secret bytes (gm: an SM2 scalar; intl: an X25519 scalar).
    """

    public: PublicKey
    signing: bytes = field(repr=False)
    sealing: bytes = field(repr=False)


def generate_key(name: str, role: Role, suite: SuiteName) -> PrivateKey:
    """Return a fresh key: one pair to sign with, another to seal to.

    Args:
        name: the holder as people call it; printable, without spaces or `+`, which separate fields in signed notes.
        role: what the key may do.
        suite: which algorithms.

    Raises:
        InputError: the name will not do (`input.key_name`).
        KeyUnavailableError: the suite's algorithms have no provider that passed its self-test.
    """
    check_key_name(name)
    signing, sealing = signature_scheme(suite).generate_private(), sealing_scheme(suite).generate_private()
    return private_key_from(name, role, suite, signing, sealing)


def private_key_from(name: str, role: Role, suite: SuiteName, signing: bytes, sealing: bytes) -> PrivateKey:
    """Return a key from its secret bytes, with the public halves computed."""
    halves = signature_scheme(suite).public_of(signing), sealing_scheme(suite).public_of(sealing)
    return PrivateKey(PublicKey(name, role, suite, *halves), signing, sealing)


def check_key_name(name: str) -> None:
    """Refuse a name that could not stand in a signed note."""
    if len(name) > NAME_CHARACTERS_MAX or name.split() != [name] or "+" in name or not name.isprintable():
        raise InputError(
            f"`{name}` cannot name a key",
            hint=f"use 1 to {NAME_CHARACTERS_MAX} printable characters without spaces or `+`",
            code="input.key_name",
        )


def check_pair(key: PrivateKey) -> None:
    """Refuse a private key whose public record is not its own."""
    public = key.public
    own = private_key_from(public.name, public.role, public.suite, key.signing, key.sealing).public
    if not hmac.compare_digest(own.signing + own.sealing, public.signing + public.sealing):
        raise KeyUnavailableError(
            "a private key does not belong to its public record",
            hint="restore the key file from a copy",
            code="vault.key_unavailable.damaged",
        )


def check_public_key(key: PublicKey) -> None:
    """Refuse a public record whose keys are not keys of its suite, with `KeyUnavailableError`."""
    signature_scheme(key.suite).check_public(key.signing)
    sealing_scheme(key.suite).check_public(key.sealing)
