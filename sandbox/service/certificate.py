"""Self-signed certificates for the service: SM2 (GB/T 20518 profile of X.509) and ECDSA P-256.

No kept library writes SM2 certificates, so the SM2 one is put together here from pycryptodome's DER and our own SM2.
Peers pin the certificate, they do not build chains, so that no authority stands between a client and its sandbox.
"""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass, field
from datetime import UTC, datetime

from Crypto.Util.asn1 import DerBitString, DerBoolean, DerInteger, DerObjectId, DerOctetString, DerSequence, DerSetOf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.providers import sm2
from sandbox.errors import InputError
from sandbox.model.keys import SuiteName

_SM2_SIGN_SM3, _EC_KEY, _SM2_CURVE = "1.2.156.10197.1.501", "1.2.840.10045.2.1", "1.2.156.10197.1.301"
_COMMON_NAME, _ALTERNATIVE, _CONSTRAINTS = "2.5.4.3", "2.5.29.17", "2.5.29.19"
_VERSION_3, _EXTENSIONS = 2, 3
_UTF8_TAG, _TIME_TAG, _DNS_TAG, _EXPLICIT_TAG = 0x0C, 0x18, 0x82, 0xA0  # the time is GeneralizedTime


@dataclass(frozen=True)
class TlsIdentity:
    """A certificate and its private key, both PEM.

    Attributes:
        suite: `gm` for SM2, `intl` for P-256.
        certificate: public; peers pin it.
        key: secret; shown in no representation.
    """

    suite: SuiteName
    certificate: bytes
    key: bytes = field(repr=False)


def make_identity(name: str, suite: SuiteName, *, not_before: str, not_after: str) -> TlsIdentity:
    """Return a fresh key pair with a self-signed certificate.

    Args:
        name: the host's name, printable ASCII; it is both common and alternative name.
        suite: which algorithms.
        not_before: UTC, `YYYY-MM-DDTHH:MM:SSZ`.
        not_after: likewise.

    Raises:
        InputError: the name or a time will not do (`input.certificate`).
    """
    if not name.isascii() or not name.isprintable() or not 1 <= len(name) <= 64:
        raise InputError(
            f"`{name}` cannot name a certificate", hint="use 1 to 64 printable letters", code="input.certificate"
        )
    try:
        begin, end = (
            datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for text in (not_before, not_after)
        )
    except ValueError as error:
        raise InputError(
            "a certificate's time is not UTC", hint="write `2027-01-31T08:00:00Z`", code="input.certificate"
        ) from error
    if begin >= end:
        raise InputError("a certificate ends before it begins", hint="swap the times", code="input.certificate")
    match suite:
        case SuiteName.GM:
            return _sm2_identity(name, begin, end)
        case SuiteName.INTL:
            return _p256_identity(name, begin, end)


def certificate_der(pem: bytes) -> bytes:
    """Return the DER bytes of one PEM certificate, to compare with what a peer shows."""
    lines = [line for line in pem.decode("ascii").splitlines() if line and not line.startswith("-")]
    return base64.b64decode("".join(lines), validate=True)


def _p256_identity(name: str, begin: datetime, end: datetime) -> TlsIdentity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TlsIdentity(SuiteName.INTL, certificate.public_bytes(serialization.Encoding.PEM), secret)


def _sm2_identity(name: str, begin: datetime, end: datetime) -> TlsIdentity:
    scheme = sm2().require()
    private = scheme.generate_private()
    public = scheme.public_of(private)
    algorithm = DerSequence([DerObjectId(_SM2_SIGN_SM3).encode()])
    curve = DerSequence([DerObjectId(_EC_KEY).encode(), DerObjectId(_SM2_CURVE).encode()])
    attribute = DerSequence([DerObjectId(_COMMON_NAME).encode(), _tagged(_UTF8_TAG, name.encode())])
    subject = DerSequence([DerSetOf([attribute.encode()])])
    alternative = DerSequence([_tagged(_DNS_TAG, name.encode())]).encode()
    extensions = DerSequence(
        [
            DerSequence([DerObjectId(_ALTERNATIVE).encode(), DerOctetString(alternative).encode()]).encode(),
            _critical(_CONSTRAINTS, DerSequence().encode()),
        ]
    )
    body = DerSequence(
        [
            DerInteger(_VERSION_3, explicit=0).encode(),
            DerInteger(int.from_bytes(b"\x01" + random_bytes(15))).encode(),
            algorithm.encode(),
            subject.encode(),
            DerSequence([_time(begin), _time(end)]).encode(),
            subject.encode(),
            DerSequence([curve.encode(), DerBitString(public).encode()]).encode(),
            _explicit(_EXTENSIONS, extensions.encode()),
        ]
    ).encode()
    value = scheme.sign(private, public, body)
    signature = DerSequence([int.from_bytes(value[:32]), int.from_bytes(value[32:])]).encode()
    certificate = DerSequence([body, algorithm.encode(), DerBitString(signature).encode()]).encode()
    inner = DerSequence([1, DerOctetString(private).encode(), _explicit(1, DerBitString(public).encode())]).encode()
    secret = DerSequence([0, curve.encode(), DerOctetString(inner).encode()]).encode()  # PKCS#8
    return TlsIdentity(SuiteName.GM, _pem("CERTIFICATE", certificate), _pem("PRIVATE KEY", secret))


def _tagged(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + DerOctetString(payload).encode()[1:]  # only the tag differs from an octet string


def _critical(name: str, value: bytes) -> bytes:
    parts = [DerObjectId(name).encode(), DerBoolean(value=True).encode(), DerOctetString(value).encode()]
    return DerSequence(parts).encode()


def _explicit(number: int, inner: bytes) -> bytes:
    return _tagged(_EXPLICIT_TAG + number, inner)


def _time(moment: datetime) -> bytes:
    return _tagged(_TIME_TAG, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _pem(label: str, der: bytes) -> bytes:
    lines = textwrap.fill(base64.b64encode(der).decode(), 64)
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()
