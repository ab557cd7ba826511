"""Key files as people know them: whose key, in which file, when one does not open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keyfile import read_public, unlock_key
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.canonical import parse_canonical
from sandbox.model.keys import PublicKey


def unlock_file(raw: bytes, passphrase: str, file: str, factors: Sequence[SecondFactor] = ()) -> PrivateKey:
    """Return the key of a key file; errors name the file, and whose passphrase is wrong.

    Args:
        raw: what the file holds.
        passphrase: what it was locked under.
        file: its name, for people.
        factors: the second factors at hand.

    Raises:
        KeyUnavailableError: as `unlock_key` raises it.
    """
    holder = public_of(raw, file).name
    with speaking_of(file, holder):
        return unlock_key(raw, passphrase, factors)


def public_of(raw: bytes, file: str) -> PublicKey:
    """Return the public record of a key file; errors name the file.

    Raises:
        KeyUnavailableError: it is damaged, or no key file (`vault.key_unavailable.damaged`).
    """
    with speaking_of(file):
        try:
            return read_public(raw)
        except KeyUnavailableError as error:
            if _is_public_record(raw):
                raise KeyUnavailableError(
                    f"`{file}` is a public key and opens nothing",
                    hint="name the file that ends in `.key`, which the key's holder keeps",
                    code="vault.key_unavailable.damaged",
                ) from error
            raise


@contextmanager
def speaking_of(file: str, holder: str | None = None) -> Iterator[None]:
    """Let errors about a key file in this block say which file it is, and whose passphrase does not open it."""
    try:
        yield
    except KeyUnavailableError as error:
        message, hint = error.message, error.hint
        if error.code == "vault.key_unavailable.wrong_passphrase":
            message += f" of `{holder}`" if holder else f", `{file}`"
            hint = "type it again; if it is lost, bring the key back: `saggar keys recover`"
            if holder not in {None, "sandbox", "witness"}:
                hint = f"type it again; if `{holder}` has lost it, `{holder}` needs a new key"
        elif "this key file" in message:
            message = message.replace("this key file", f"the key file `{file}`")
        elif "the key file" in message:
            message = message.replace("the key file", f"the key file `{file}`")
        raise KeyUnavailableError(message, hint=hint, code=error.code, **error.details) from error


def _is_public_record(raw: bytes) -> bool:
    try:
        PublicKey.parse(parse_canonical(raw))
    except SaggarError:
        return False
    return True
