"""The second factor: a secret that lies apart from what it helps to open, so that no backup holds both.

```
{"v": 1, "kind": "saggar.second_factor", "secrets": [{"id": 32 hex, "secret": base64 of 32 bytes}, ...]}
```

A secret file that was locked with a factor names its id in clear; the file of factors may hold two for the moment in
which one takes the place of another.  A factor by itself opens nothing, and neither does a passphrase without it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import KeyUnavailableError, SaggarError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import decode_base64

SECRET_BYTES = 32
_KIND = "saggar.second_factor"
_ID = re.compile(r"[0-9a-f]{32}")
_MOST = 2


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """One secret.

    Attributes:
        factor_id: 32 random hexadecimal digits.
        secret: 32 random bytes.
    """

    factor_id: str
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> SecondFactor:
        """Return a fresh one."""
        return cls(random_bytes(16).hex(), random_bytes(SECRET_BYTES))


def write_factors(factors: Sequence[SecondFactor]) -> bytes:
    """Return factors as the text of their file, newest first."""
    secrets = [{"id": each.factor_id, "secret": base64.b64encode(each.secret).decode()} for each in factors]
    return canonical_bytes({"v": 1, "kind": _KIND, "secrets": secrets})


def parse_factors(raw: bytes) -> tuple[SecondFactor, ...]:
    """Return the factors that a file holds.

    Raises:
        KeyUnavailableError: the file is damaged (`vault.key_unavailable.second_factor`).
    """
    try:
        record = parse_canonical(raw)
        factors = tuple(SecondFactor(each["id"], decode_base64(each["secret"])) for each in record["secrets"])
        well_formed = write_factors(factors) == raw and 1 <= len(factors) <= _MOST
        if well_formed and all(_ID.fullmatch(f.factor_id) and len(f.secret) == SECRET_BYTES for f in factors):
            return factors
    except (SaggarError, KeyError, TypeError) as error:
        raise _damaged() from error
    raise _damaged()


def _damaged() -> KeyUnavailableError:
    return KeyUnavailableError(
        "the file of the second factor is damaged",
        hint="restore it from its own copy, or recover the master key from the custodians' shares",
        code="vault.key_unavailable.second_factor",
    )
