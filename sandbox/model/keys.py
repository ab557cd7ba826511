"""Public keys and signatures, as records; the arithmetic is in `sandbox.crypto`."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sandbox.errors import SignatureError
from sandbox.model.digest import digest_of_record


class SuiteName(StrEnum):
    """`gm`: SM2, SM3, SM4-GCM (the default).  `intl`: Ed25519 and X25519, SHA-256, AES-256-GCM."""

    GM = "gm"
    INTL = "intl"


class Role(StrEnum):
    """What a key may do; one key, one role."""

    SANDBOX = "sandbox"
    WITNESS = "witness"
    OPERATOR = "operator"
    AGENCY = "agency"
    DEPARTMENT = "department"
    AUDITOR = "auditor"
    CUSTODIAN = "custodian"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who someone is: a name, a role, a key to verify with and a key to seal to.

    Attributes:
        name: the holder, as people call it; no spaces.
        role: what the key may do.
        suite: which algorithms.
        signing: the public signing key (gm: 65 bytes, 04 || x || y on SM2's curve; intl: 32 bytes, Ed25519).
        sealing: the public key for sealing to the holder (gm: 65 bytes on SM2's curve; intl: 32 bytes, X25519).
    """

    name: str
    role: Role
    suite: SuiteName
    signing: bytes
    sealing: bytes

    def to_record(self) -> dict[str, Any]:
        """Return the key as a canonical record."""
        return {
            "name": self.name,
            "role": self.role.value,
            "suite": self.suite.value,
            "signing": base64.b64encode(self.signing).decode(),
            "sealing": base64.b64encode(self.sealing).decode(),
        }

    @property
    def key_id(self) -> str:
        """The first 32 hex digits of the SM3 digest of the record."""
        return _key_id_of(self)

    @classmethod
    def parse(cls, record: object) -> PublicKey:
        """Return the key that a record writes; strict about its fields."""
        fields = {"name", "role", "suite", "signing", "sealing"}
        if not isinstance(record, dict) or set(record) != fields:
            raise SignatureError("a public key record is malformed", hint=f"it has exactly {sorted(fields)}")
        try:
            return cls(
                name=str(record["name"]),
                role=Role(record["role"]),
                suite=SuiteName(record["suite"]),
                signing=decode_base64(record["signing"]),
                sealing=decode_base64(record["sealing"]),
            )
        except ValueError as error:
            raise SignatureError(
                "a public key record has an unknown role or suite", hint="see `saggar keys`"
            ) from error


@lru_cache(maxsize=1024)
def _key_id_of(key: PublicKey) -> str:
    """Return a key's id; it is asked for dozens of times in a job."""
    return digest_of_record(key.to_record()).partition(":")[2][:32]


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and whose it is.

    Attributes:
        key_id: the signer's `PublicKey.key_id`.
        value: 64 bytes (gm: r || s; intl: Ed25519).
    """

    key_id: str
    value: bytes

    def to_record(self) -> dict[str, str]:
        """Return `{"key": id, "value": base64}`."""
        return {"key": self.key_id, "value": base64.b64encode(self.value).decode()}

    @classmethod
    def parse(cls, record: object) -> Signature:
        """Return the signature that a record writes."""
        if not isinstance(record, dict) or set(record) != {"key", "value"} or not isinstance(record["key"], str):
            raise SignatureError("a signature record is malformed", hint="it has exactly `key` and `value`")
        return cls(record["key"], decode_base64(record["value"]))


def decode_base64(text: object) -> bytes:
    """Return the bytes that strict base64 text writes."""
    if not isinstance(text, str):
        raise SignatureError("expected base64 text", hint="see docs/reference")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("text is not base64", hint="copy the record whole") from error
    if base64.b64encode(raw).decode() != text:
        raise SignatureError("text is not canonical base64", hint="copy the record whole")
    return raw
