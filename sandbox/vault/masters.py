"""The master keys of a vault: the one in force, and while a rotation is under way the one before it.

The ring is one file, locked under a passphrase.  A rotation writes the ring with both keys, wraps what hangs under the
old one again under the new, and writes the ring with the new key alone: at every moment what is stored opens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keyfile import lock_secret, unlock_secret
from sandbox.crypto.suites import Suite
from sandbox.crypto.suites import suite as suite_of
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import SuiteName, decode_base64

MASTER_FILE = "master"
PURPOSE = "saggar/vault/master/2"
_CHECK_BYTES = 16


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One master key.

    Attributes:
        key_id: 32 hexadecimal digits, drawn at random; every key below it names it.
        version: counts from 1; a rotation adds 1.
        secret: 16 bytes (gm) or 32 bytes (intl).
    """

    key_id: str
    version: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MasterRing:
    """The master keys that are kept.

    Attributes:
        suite: the suite that keys are wrapped in.
        keys: newest first; the first is in force.
    """

    suite: SuiteName
    keys: tuple[MasterKey, ...]

    @classmethod
    def new(cls, suite: SuiteName) -> MasterRing:
        """Return a ring of one fresh key."""
        return cls(suite, (_fresh(suite, 1),))

    @property
    def primary(self) -> MasterKey:
        """The key in force."""
        return self.keys[0]

    def find(self, key_id: str) -> MasterKey | None:
        """Return the kept key of this id, or None."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    def with_new(self) -> MasterRing:
        """Return the ring with a fresh key in force and the others kept."""
        return MasterRing(self.suite, (_fresh(self.suite, self.primary.version + 1), *self.keys))

    def trimmed(self) -> MasterRing:
        """Return the ring with the key in force alone."""
        return MasterRing(self.suite, (self.primary,))

    def lock(self, passphrase: str, factor: SecondFactor | None = None) -> bytes:
        """Return the ring as the text of its file, which needs the factor, if there is one, beside the passphrase."""
        keys = [
            {"id": key.key_id, "version": key.version, "key": base64.b64encode(key.secret).decode()}
            for key in self.keys
        ]
        record = {"v": 2, "suite": self.suite.value, "keys": keys}
        return lock_secret(canonical_bytes(record), passphrase, PURPOSE, factor)

    @classmethod
    def unlock(cls, raw: bytes, passphrase: str, factors: Sequence[SecondFactor] = ()) -> MasterRing:
        """Return the ring of a file.

        Raises:
            KeyUnavailableError: the passphrase is wrong, the second factor is not here, or the file is damaged.
        """
        secret = unlock_secret(raw, passphrase, PURPOSE, factors)
        try:
            record = parse_canonical(secret)
            keys = tuple(MasterKey(each["id"], each["version"], decode_base64(each["key"])) for each in record["keys"])
            ring = cls(SuiteName(record["suite"]), keys)
        except (SaggarError, KeyError, TypeError, ValueError) as error:
            raise _malformed() from error
        length = suite_of(ring.suite).key_bytes
        if not keys or any(len(key.secret) != length for key in keys):
            raise _malformed()
        return ring


def check_value(suite: Suite, secret: bytes) -> str:
    """Return the check value of a master key: 32 hexadecimal digits that tell it from another and reveal nothing of it.

    They are the first 16 bytes of HMAC(master key, "saggar/kcv/1").
    """
    return suite.mac(secret, b"saggar/kcv/1")[:_CHECK_BYTES].hex()


def _fresh(suite: SuiteName, version: int) -> MasterKey:
    return MasterKey(random_bytes(16).hex(), version, random_bytes(suite_of(suite).key_bytes))


def _malformed() -> KeyUnavailableError:
    return KeyUnavailableError(
        "the file of the master key does not hold one",
        hint="restore `keys/master` from a backup, or recover the key from the custodians' shares",
        code="vault.key_unavailable.malformed",
    )
