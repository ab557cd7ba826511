"""SM2: signatures (GB/T 32918.2) and public-key encryption (GB/T 32918.4) on the recommended curve.

Composed here because no kept library offers SM2 whole.  The curve arithmetic is pycryptodome's, the hash is
`cryptography`'s SM3; this file holds the two schemes and every check around them.  Reach it through
`sandbox.crypto.providers.sm2`, which hands it out only after the standard's own example values came out right.
"""

from __future__ import annotations

import hmac

from Crypto.Math.Numbers import Integer

from sandbox.crypto import curve
from sandbox.crypto.curve import FIELD_BYTES, ORDER, POINT_BYTES, NotAPointError
from sandbox.errors import KeyUnavailableError, SealBrokenError, SignatureError, VaultError
from sandbox.model.digest import hash_bytes

DEFAULT_IDENTITY = b"1234567812345678"
SIGNATURE_BYTES = 2 * FIELD_BYTES
HASH_BYTES = 32
OVERHEAD_BYTES = POINT_BYTES + HASH_BYTES
_CURVE_CONSTANTS = b"".join(value.to_bytes(FIELD_BYTES) for value in (curve.A, curve.B, curve.GX, curve.GY))


class Sm2:
    """The two schemes.  Private keys are 32 bytes, public keys 65 bytes (04 || x || y).

    Raises:
        VaultError: pycryptodome runs on its pure Python integers, whose timing tells about secrets.
    """

    algorithm = "SM2"
    provider = "pycryptodome"

    def __init__(self) -> None:
        if Integer.__name__ != "IntegerNat":
            raise VaultError(
                "pycryptodome lacks its constant-time integers",
                hint="install a wheel with the compiled library and unset `PYCRYPTODOME_INTEGER`",
                code="vault.provider",
            )
        curve.base_point()

    def generate_private(self) -> bytes:
        """Return a fresh private key, uniform in [1, n - 2]."""
        return curve.scalar_bytes(curve.random_scalar(curve.N - 2))

    def public_of(self, private: bytes) -> bytes:
        """Return the public key of a private key."""
        return curve.point_bytes(curve.base_point() * _load_private(private))

    def check_public(self, public: bytes) -> None:
        """Refuse bytes that are not a public key on the curve, with `KeyUnavailableError`."""
        _load_public(public)

    def sign(self, private: bytes, public: bytes, message: bytes, identity: bytes = DEFAULT_IDENTITY) -> bytes:
        """Return r || s, with a fresh random nonce (GB/T 32918.2, 6.1).

        Args:
            private: the key to sign with.
            public: its public key, which goes under the signature through Z.
            message: what is signed.
            identity: the signer's distinguishing identity.
        """
        scalar, digest = _load_private(private), _message_digest(public, message, identity)
        while True:
            value = unsafe_sign_with_nonce(scalar, digest, curve.random_scalar(curve.N - 1))
            if value is not None:
                return value

    def verify(self, public: bytes, message: bytes, value: bytes, identity: bytes = DEFAULT_IDENTITY) -> None:
        """Refuse a signature that does not hold, with `SignatureError` (GB/T 32918.2, 7.1)."""
        if len(value) != SIGNATURE_BYTES:
            raise _refused_signature()
        try:
            point = curve.load_point(public)
        except NotAPointError as error:
            raise SignatureError(
                "the signer's public key is not a point of the SM2 curve", hint="get the key again from its holder"
            ) from error
        r, s = (Integer.from_bytes(half, public=True) for half in (value[:FIELD_BYTES], value[FIELD_BYTES:]))
        if not (1 <= r < ORDER and 1 <= s < ORDER):
            raise _refused_signature()
        t = (r + s) % ORDER
        if t == 0:
            raise _refused_signature()
        total = curve.base_point() * s + point * t
        if total.is_point_at_infinity():
            raise _refused_signature()
        e = Integer.from_bytes(_message_digest(public, message, identity), public=True)
        x = Integer.from_bytes(curve.coordinates(total)[0], public=True)
        if (e + x) % ORDER != r:
            raise _refused_signature()

    def encrypt(self, public: bytes, plaintext: bytes) -> bytes:
        """Return C1 || C3 || C2: point (65 bytes), SM3 check (32 bytes), masked text (GB/T 32918.4, 6.1).

        Args:
            public: the recipient's key.
            plaintext: 1 byte or more.
        """
        if not plaintext:
            raise AssertionError("SM2 does not encrypt an empty message")
        point = _load_public(public)
        while True:
            sealed = unsafe_encrypt_with_nonce(point, plaintext, curve.random_scalar(curve.N - 1))
            if sealed is not None:
                return sealed

    def decrypt(self, private: bytes, sealed: bytes) -> bytes:
        """Return the plaintext of C1 || C3 || C2, or raise `SealBrokenError` (GB/T 32918.4, 7.1)."""
        scalar = _load_private(private)
        if len(sealed) <= OVERHEAD_BYTES:
            raise _refused_sealed()
        try:
            point = curve.load_point(sealed[:POINT_BYTES])
        except NotAPointError as error:
            raise _refused_sealed() from error
        check, masked = sealed[POINT_BYTES:OVERHEAD_BYTES], sealed[OVERHEAD_BYTES:]
        x, y = curve.coordinates(point * scalar)
        mask = _derive_mask(x + y, len(masked))
        plaintext = _xor(masked, mask)
        if not hmac.compare_digest(hash_bytes(x + plaintext + y), check) or not any(mask):
            raise _refused_sealed()
        return plaintext


def unsafe_sign_with_nonce(private: Integer, digest: bytes, nonce: Integer) -> bytes | None:
    """Return r || s, or `None` if this nonce will not do.

    Unsafe: a nonce that is used twice, or is known, gives the private key away.  Only `Sm2.sign` and the known
    answers call it.
    """
    x, _ = curve.coordinates(curve.base_point() * nonce)
    r = (Integer.from_bytes(digest) + Integer.from_bytes(x)) % ORDER
    if r == 0 or r + nonce == ORDER:
        return None
    # The standard's (k - r d) / (1 + d) is (k + r) / (1 + d) - r; in this form nothing turns negative.
    quotient = ((nonce + r) % ORDER) * (private + 1).inverse(ORDER) % ORDER
    s = (quotient + (ORDER - r)) % ORDER
    if s == 0:
        return None
    return curve.scalar_bytes(r) + curve.scalar_bytes(s)


def unsafe_encrypt_with_nonce(recipient: object, plaintext: bytes, nonce: Integer) -> bytes | None:
    """Return C1 || C3 || C2, or `None` if this nonce will not do.

    Unsafe: whoever knows the nonce reads the message.  Only `Sm2.encrypt` and the known answers call it.
    """
    x, y = curve.coordinates(recipient * nonce)  # type: ignore[operator]  # an EccPoint, which has no types
    mask = _derive_mask(x + y, len(plaintext))
    if not any(mask):
        return None
    first = curve.point_bytes(curve.base_point() * nonce)
    return first + hash_bytes(x + plaintext + y) + _xor(plaintext, mask)


def identity_digest(public: bytes, identity: bytes) -> bytes:
    """Return Z, which binds identity, curve and public key (GB/T 32918.2, 5.5)."""
    return hash_bytes((8 * len(identity)).to_bytes(2) + identity + _CURVE_CONSTANTS + public[1:])


def _message_digest(public: bytes, message: bytes, identity: bytes) -> bytes:
    return hash_bytes(identity_digest(public, identity) + message)


def _derive_mask(secret: bytes, size: int) -> bytes:
    """Return `size` bytes of the key derivation function of GB/T 32918.4, 5.4.3."""
    blocks = (hash_bytes(secret + counter.to_bytes(4)) for counter in range(1, -(-size // HASH_BYTES) + 1))
    return b"".join(blocks)[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def _load_private(raw: bytes) -> Integer:
    scalar = curve.load_scalar(raw)
    if len(raw) != FIELD_BYTES or not 1 <= scalar <= curve.N - 2:
        raise KeyUnavailableError(
            "a private key is not a number of the SM2 curve",
            hint="the key file is damaged, or the key is of another suite",
            code="vault.key_unavailable.malformed",
        )
    return scalar


def _load_public(raw: bytes) -> object:
    try:
        return curve.load_point(raw)
    except NotAPointError as error:
        raise KeyUnavailableError(
            "a public key is not a point of the SM2 curve",
            hint="get the key again from its holder",
            code="vault.key_unavailable.malformed",
        ) from error


def _refused_signature() -> SignatureError:
    return SignatureError(
        "the signature does not hold for this message and key",
        hint="the message, the context or the key is not the one that was signed",
    )


def _refused_sealed() -> SealBrokenError:
    return SealBrokenError(
        "sealed bytes do not open with this private key",
        hint="they were altered, or sealed to another key",
    )
