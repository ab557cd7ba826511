"""The token key that a vault lends to a department, so that identifiers become tokens before anything travels.

The key of the tokens of one kind of unit is drawn in the vault.  A department that keeps such identifiers gets it
sealed to its own key and signed by the sandbox.  Nobody on the way learns it, and the vault never sees an identifier.
Departments that hold the key of one kind replace equal identifiers by equal tokens, which is what joins their datasets;
what that lets them do with each other's tokens is in `docs/adr/0012-one-token-key-a-unit-kind.md`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.crypto.envelope import open_sealed, seal_to
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.crypto.suites import suite
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName, decode_base64

SIGNING_CONTEXT = "saggar/token-key/1"
_CHECK_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A token key in its department's hands.

    Attributes:
        unit_kind: whose identifiers it is for (`patient`).
        check: its check value, which batches carry.
        secret: the key.
    """

    unit_kind: str
    check: str
    secret: bytes = field(repr=False)

    def tokeniser(self) -> Tokeniser:
        """Return what turns identifiers into tokens."""
        return Tokeniser(self.secret)


def issue_token_key(secret: bytes, unit_kind: str, department: PublicKey, *, signer: PrivateKey, at: str) -> bytes:
    """Return the file that carries the token key of a kind of unit to a department."""
    words = {
        "v": 1,
        "kind": "saggar.token_key",
        "unit_kind": unit_kind,
        "department": department.key_id,
        "check": token_check(secret),
        "at": at,
        "sealed": base64.b64encode(seal_to(department, secret, _context(unit_kind))).decode(),
    }
    signature = sign(signer, SIGNING_CONTEXT, canonical_bytes(words))
    return canonical_bytes({"token_key": words, "signature": signature.to_record()})


def open_token_key(raw: bytes, unit_kind: str, key: PrivateKey, vault: PublicKey) -> TokenKey:
    """Return the token key of a file, as its department opens it.

    Raises:
        KeyUnavailableError: it is another kind's or department's, or is not signed by this vault
            (`vault.key_unavailable.token_key`).
    """
    try:
        stored = parse_canonical(raw)
        words: dict[str, Any] = stored["token_key"]
        sealed, signature = decode_base64(words["sealed"]), Signature.parse(stored["signature"])
        kind, of, to, check = words["kind"], words["unit_kind"], words["department"], words["check"]
    except (SaggarError, KeyError, TypeError) as error:
        raise _refused("is damaged or no token key") from error
    if kind != "saggar.token_key" or of != unit_kind:
        raise _refused(f"is not for units of the kind `{unit_kind}`")
    if to != key.public.key_id:
        raise _refused(f"was issued to another key than `{key.public.name}`")
    if vault.role is not Role.SANDBOX:
        raise _refused("cannot be checked: the key named as the vault's is not a sandbox's")
    try:
        verify_signature(vault, SIGNING_CONTEXT, canonical_bytes(words), signature)
        secret = open_sealed(key, sealed, _context(unit_kind))
    except SaggarError as error:
        raise _refused("is not signed by this vault, or was altered") from error
    if not hmac.compare_digest(token_check(secret), str(check)):
        raise _refused("does not hold the key that it names")
    return TokenKey(unit_kind, token_check(secret), secret)


def token_check(secret: bytes) -> str:
    """Return the check value of a token key: the first 16 bytes of HMAC-SM3(key, "saggar/token-check/1"), in hex."""
    return suite(SuiteName.GM).mac(secret, b"saggar/token-check/1")[:_CHECK_BYTES].hex()


def batch_check(checks: Sequence[str]) -> str:
    """Return what a batch carries of the token keys of its kinds of units, the one that bounds rows first."""
    return "+".join(checks)


def _context(unit_kind: str) -> str:
    return f"saggar/token-key/{unit_kind}"


def _refused(why: str) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"the token key {why}",
        hint="ask the vault's operator for one: `saggar keys issue-token-key KIND --to NAME`",
        code="vault.key_unavailable.token_key",
    )
