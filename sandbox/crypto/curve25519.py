"""The public-key half of the international suite: Ed25519 signatures and HPKE over X25519, from `cryptography`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from Crypto.Math.Numbers import Integer
from Crypto.Signature import eddsa
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import KeyUnavailableError, SealBrokenError, SignatureError

KEY_BYTES = 32
SIGNATURE_BYTES = 64
HPKE_OVERHEAD_BYTES = 32 + 16
_ED25519_ORDER = Integer(2**252 + 27742317777372353535851937790883648493, public=True)


class Ed25519:
    """Signatures of RFC 8032.  Private keys are 32-byte seeds."""

    algorithm = "Ed25519"
    provider = "cryptography"

    def generate_private(self) -> bytes:
        """Return a fresh seed."""
        return random_bytes(KEY_BYTES)

    def public_of(self, private: bytes) -> bytes:
        """Return the public key of a seed."""
        return Ed25519PrivateKey.from_private_bytes(check_key_length(private)).public_key().public_bytes_raw()

    def check_public(self, public: bytes) -> None:
        """Refuse bytes that cannot be a public key, with `KeyUnavailableError`."""
        check_ed25519_point(public)

    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes:  # noqa: ARG002 - SM2 needs the public half
        """Return the 64-byte signature."""
        return Ed25519PrivateKey.from_private_bytes(check_key_length(private)).sign(message)

    def verify(self, public: bytes, message: bytes, value: bytes) -> None:
        """Refuse a signature that does not hold, with `SignatureError`."""
        try:
            check_ed25519_point(public)
        except KeyUnavailableError as error:
            raise SignatureError(
                "the signer's public key is not an Ed25519 key", hint="get the key again from its holder"
            ) from error
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(value, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureError(
                "the signature does not hold for this message and key",
                hint="the message, the context or the key is not the one that was signed",
            ) from error


class HpkeX25519:
    """Sealing to a person by HPKE base mode (RFC 9180): X25519, HKDF-SHA256, AES-256-GCM."""

    algorithm = "HPKE-X25519"
    provider = "cryptography"

    def __init__(self) -> None:
        self._suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

    def generate_private(self) -> bytes:
        """Return a fresh private key."""
        return random_bytes(KEY_BYTES)

    def public_of(self, private: bytes) -> bytes:
        """Return the public key of 32 private bytes."""
        return X25519PrivateKey.from_private_bytes(check_key_length(private)).public_key().public_bytes_raw()

    def check_public(self, public: bytes) -> None:
        """Refuse bytes that cannot be a public key, a point of small order too, with `KeyUnavailableError`."""
        self.encrypt(public, b"", b"")

    def encrypt(self, public: bytes, plaintext: bytes, info: bytes) -> bytes:
        """Return the encapsulated key (32 bytes), ciphertext and tag."""
        try:
            recipient = X25519PublicKey.from_public_bytes(check_key_length(public))
            return self._suite.encrypt(plaintext, recipient, info)
        except ValueError as error:  # a point of small order, which has no secret to agree on
            raise malformed_key() from error

    def decrypt(self, private: bytes, sealed: bytes, info: bytes) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        holder = X25519PrivateKey.from_private_bytes(check_key_length(private))
        try:
            return self._suite.decrypt(sealed, holder, info)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError(
                "sealed bytes do not open with this private key",
                hint="they were altered, or sealed to another key",
            ) from error


@lru_cache(maxsize=1024)
def check_ed25519_point(public: bytes) -> None:
    """Refuse bytes that are not the canonical form of a point of prime order.

    OpenSSL verifies under a public key of small order too, and there one signature holds for many messages, for any
    message under the identity: whoever registered such a key could later deny or claim anything.
    """
    try:
        point: Any = eddsa.import_public_key(check_key_length(public)).pointQ
    except ValueError as error:
        raise malformed_key() from error
    if point.is_point_at_infinity() or not (point * _ED25519_ORDER).is_point_at_infinity():
        raise malformed_key()


def check_key_length(raw: bytes) -> bytes:
    """Return the 32 bytes of a key, or refuse another length."""
    if len(raw) != KEY_BYTES:
        raise malformed_key()
    return raw


def malformed_key() -> KeyUnavailableError:
    """Return the refusal for bytes that are no key of this suite."""
    return KeyUnavailableError(
        "a key is not one of the international suite",
        hint="get the key again from its holder",
        code="vault.key_unavailable.malformed",
    )
