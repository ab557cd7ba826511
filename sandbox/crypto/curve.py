"""SM2's recommended curve (GB/T 32918.5) on pycryptodome's constant-time Weierstrass engine.

pycryptodome has the arithmetic (C, blinded scalars) but not this curve, so it is registered here under the name
`sm2p256v1`.  The registration uses private names of pycryptodome; `pyproject.toml` pins the range, and the known
answers close everything built on this file when the arithmetic is not what it should be.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from Crypto.Math.Numbers import Integer
from Crypto.PublicKey import _nist_ecc, _point

from sandbox.crypto.entropy import random_bytes

NAME = "sm2p256v1"
FIELD_BYTES = 32
POINT_BYTES = 65

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
GX = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
GY = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0

ORDER = Integer(N, public=True)
_OID = "1.2.156.10197.1.301"


class NotAPointError(ValueError):
    """Bytes are not an uncompressed point of the curve; callers turn it into their own refusal."""


@cache
def base_point() -> Any:
    """Return the generator; the first call registers the curve with pycryptodome."""
    registry = _point._curves  # noqa: SLF001 - pycryptodome has no public way to add a curve
    with registry.curves_lock:
        if NAME not in registry.curves:
            make: Any = _nist_ecc._new_curve  # noqa: SLF001 - likewise
            curve = make(P, B, N, GX, GY, 8 * FIELD_BYTES, _OID, NAME, None)
            curve.id = NAME  # not one of pycryptodome's numbers, so that no special case for its own curves applies
            curve.is_edwards = curve.is_montgomery = False
            curve.is_weierstrass = True
            registry.curves[NAME] = curve
            curve.G = _point.EccPoint(GX, GY, NAME)
    return registry.curves[NAME].G


def load_point(raw: bytes) -> Any:
    """Return the point that 04 || x || y writes.

    Raises:
        NotAPointError: another form, a coordinate not below the modulus, or a point that is not on the curve.
    """
    base_point()
    if len(raw) != POINT_BYTES or raw[0] != 4:
        raise NotAPointError("not an uncompressed point")
    x, y = int.from_bytes(raw[1:33]), int.from_bytes(raw[33:])
    if x >= P or y >= P or (x, y) == (0, 0):  # (0, 0) is how pycryptodome writes infinity
        raise NotAPointError("a coordinate is out of range")
    try:
        return _point.EccPoint(x, y, NAME)
    except ValueError as error:
        raise NotAPointError("not on the curve") from error


def coordinates(point: Any) -> tuple[bytes, bytes]:
    """Return x and y, 32 bytes each; a secret point's coordinates do not pass through Python integers."""
    x, y = point._get_xy_bytes()  # noqa: SLF001 - the public `xy` converts to integers of secret-dependent size
    return bytes(x), bytes(y)


def point_bytes(point: Any) -> bytes:
    """Return 04 || x || y."""
    return b"\x04" + b"".join(coordinates(point))


def load_scalar(raw: bytes) -> Integer:
    """Return 32 bytes as a secret integer."""
    return Integer.from_bytes(raw)


def random_scalar(largest: int) -> Integer:
    """Return a uniform secret integer in [1, largest] by rejection, largest close below 2**256."""
    while True:
        candidate = load_scalar(random_bytes(FIELD_BYTES))
        if 1 <= candidate <= largest:
            return candidate


def scalar_bytes(scalar: Integer) -> bytes:
    """Return 32 bytes, big endian."""
    return scalar.to_bytes(FIELD_BYTES)
