"""Which library serves each primitive: the first of a short list that gave every official answer.

A choice is made on first use and kept for the life of the process.  A provider that is absent, fails to start or
gives one wrong answer is passed over, and the report says why; when none is left, use is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sandbox.crypto import known_answers
from sandbox.crypto.aead import Aead, OpensslAesGcm, OpensslSm4Gcm, PycryptodomeAesGcm
from sandbox.crypto.curve25519 import Ed25519, HpkeX25519
from sandbox.crypto.hashing import HashFamily, OpensslHashes, StdlibHashes
from sandbox.crypto.libgcrypt import LibgcryptSm3, LibgcryptSm4Gcm
from sandbox.crypto.sm2 import Sm2
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.digest import HashName
from sandbox.model.keys import SuiteName

T = TypeVar("T")
Scrypter = Callable[[bytes, bytes, int, int, int, int], bytes]
BlockCipher = Callable[[bytes, bytes], bytes]


class KeyScheme(Protocol):
    """What every public-key scheme here has in common: 32 secret bytes and the public key they give."""

    def generate_private(self) -> bytes:
        """Return a fresh private key."""
        ...

    def public_of(self, private: bytes) -> bytes:
        """Return the public key of a private key."""
        ...

    def check_public(self, public: bytes) -> None:
        """Refuse bytes that cannot be a public key, with `KeyUnavailableError`."""
        ...


class SignatureScheme(KeyScheme, Protocol):
    """A key scheme that signs; signatures have 64 bytes."""

    def sign(self, private: bytes, public: bytes, message: bytes) -> bytes:
        """Return the signature."""
        ...

    def verify(self, public: bytes, message: bytes, value: bytes) -> None:
        """Refuse a signature that does not hold, with `SignatureError`."""
        ...


@dataclass(frozen=True)
class ProviderReport:
    """What one provider's self-test said.

    Attributes:
        primitive: the algorithm, such as `SM4-GCM`.
        provider: the library.
        held: whether every official answer came out right.
        detail: `serves`, `stands by`, or why it is not used.
    """

    primitive: str
    provider: str
    held: bool
    detail: str


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """A provider that might serve: how to start it, and the check it must pass."""

    provider: str
    start: Callable[[], T]
    check: Callable[[T], None]


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The provider chosen for a primitive, or none, and the reports on all candidates."""

    primitive: str
    chosen: T | None
    reports: tuple[ProviderReport, ...]

    def require(self) -> T:
        """Return the chosen provider.

        Raises:
            KeyUnavailableError: no candidate passed its self-test, so the primitive is closed.
        """
        if self.chosen is None:
            reasons = "; ".join(f"{report.provider}: {report.detail}" for report in self.reports)
            raise KeyUnavailableError(
                f"no provider of {self.primitive} passed its self-test",
                hint="run `saggar doctor` and repair the installation",
                code="vault.key_unavailable.no_provider",
                reasons=reasons,
            )
        return self.chosen


def choose(primitive: str, candidates: Sequence[Candidate[T]]) -> Choice[T]:
    """Return the first candidate that starts and passes its check; test them all for the report."""
    chosen: T | None = None
    reports: list[ProviderReport] = []
    for candidate in candidates:
        try:
            provider = candidate.start()
            candidate.check(provider)
        except Exception as error:  # noqa: BLE001 - whatever a library throws here, the answer is: do not use it
            detail = error.message if isinstance(error, SaggarError) else f"failed with {type(error).__name__}"
            reports.append(ProviderReport(primitive, candidate.provider, held=False, detail=detail))
            continue
        reports.append(
            ProviderReport(primitive, candidate.provider, held=True, detail="stands by" if chosen else "serves")
        )
        chosen = chosen or provider
    return Choice(primitive, chosen, tuple(reports))


@cache
def sm4_gcm() -> Choice[Aead]:
    """Return the choice for SM4-GCM; libgcrypt first, as it is five times faster on most machines."""
    return choose(
        "SM4-GCM",
        (
            Candidate[Aead]("libgcrypt", LibgcryptSm4Gcm, known_answers.check_aead),
            Candidate[Aead]("cryptography", OpensslSm4Gcm, known_answers.check_aead),
        ),
    )


@cache
def aes_gcm() -> Choice[Aead]:
    """Return the choice for AES-256-GCM; `cryptography` first, as it is two to seven times faster (ADR 0016)."""
    return choose(
        "AES-256-GCM",
        (
            Candidate[Aead]("cryptography", OpensslAesGcm, known_answers.check_aead),
            Candidate[Aead]("pycryptodome", PycryptodomeAesGcm, known_answers.check_aead),
        ),
    )


@cache
def hash_family(hash_name: HashName) -> Choice[HashFamily]:
    """Return the choice for a hash, its HMAC and its HKDF-Expand; libgcrypt first for SM3, as it hashes faster."""

    def check(family: HashFamily) -> None:
        known_answers.check_hash_family(hash_name, family)

    return choose(
        {"sm3": "SM3", "sha256": "SHA-256"}[hash_name],
        (
            *((Candidate[HashFamily]("libgcrypt", LibgcryptSm3, check),) if hash_name == "sm3" else ()),
            Candidate[HashFamily]("cryptography", lambda: OpensslHashes(hash_name), check),
            Candidate[HashFamily]("hashlib", lambda: StdlibHashes(hash_name), check),
        ),
    )


@cache
def sm4_block() -> Choice[BlockCipher]:
    """Return the choice for one block of SM4, which only the report uses."""
    return choose("SM4", (Candidate[BlockCipher]("cryptography", lambda: _sm4_block, known_answers.check_sm4_block),))


@cache
def sm2() -> Choice[Sm2]:
    """Return the choice for SM2."""
    return choose("SM2", (Candidate(Sm2.provider, Sm2, known_answers.check_sm2),))


@cache
def ed25519() -> Choice[Ed25519]:
    """Return the choice for Ed25519."""
    return choose("Ed25519", (Candidate(Ed25519.provider, Ed25519, known_answers.check_ed25519),))


@cache
def hpke() -> Choice[HpkeX25519]:
    """Return the choice for HPKE over X25519."""
    return choose("HPKE-X25519", (Candidate(HpkeX25519.provider, HpkeX25519, known_answers.check_hpke),))


@cache
def scrypt() -> Choice[Scrypter]:
    """Return the choice for scrypt."""
    return choose("scrypt", (Candidate[Scrypter]("cryptography", lambda: _scrypt, known_answers.check_scrypt),))


def signature_scheme(name: SuiteName) -> SignatureScheme:
    """Return the scheme that a suite signs with."""
    match name:
        case SuiteName.GM:
            return sm2().require()
        case SuiteName.INTL:
            return ed25519().require()


def sealing_scheme(name: SuiteName) -> KeyScheme:
    """Return the scheme of the keys that a suite seals to."""
    match name:
        case SuiteName.GM:
            return sm2().require()
        case SuiteName.INTL:
            return hpke().require()


def _sm4_block(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()  # noqa: S305 - one block, for the self-test
    return encryptor.update(block) + encryptor.finalize()


def _scrypt(passphrase: bytes, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
    return Scrypt(salt, length, n, r, p).derive(passphrase)
