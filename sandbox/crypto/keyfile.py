"""Keys at rest: canonical JSON whose secret part opens with a passphrase.

```
{"v": 1, "kind": "saggar.key",    "public": {...},  "kdf": {"name": "scrypt", "n", "r", "p", "salt"}, "sealed": base64}
{"v": 1, "kind": "saggar.secret", "purpose": "...", "kdf": ...,                                       "sealed": base64}
{"v": 2, "kind": "saggar.secret", "purpose": "...", "factor": id,         "kdf": ...,                 "sealed": base64}

sealed = nonce 12 | AEAD(secret), associated data = the record without `sealed`
       | passphrase check 16, derived like the key
       | checksum 8 = start of SM3(record without `sealed`, all of `sealed` before it)
```

Version 2 needs a second factor beside the passphrase (`factor.py`): what scrypt makes of the passphrase and the
factor's secret go through HKDF together, so that neither tells anything without the other.

The checksum tells decay from a wrong passphrase before any work is done; it protects against nothing else.  Whoever
alters a file on purpose and mends the checksum meets the AEAD, under which the public part and the parameters stand.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata
from collections.abc import Sequence
from typing import Any

from sandbox.crypto import providers
from sandbox.crypto.aead import NONCE_BYTES, TAG_BYTES
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.keys import PrivateKey, check_pair
from sandbox.crypto.suites import Suite, suite
from sandbox.errors import CanonicalError, InputError, KeyUnavailableError, SealBrokenError, SignatureError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import hash_bytes
from sandbox.model.keys import PublicKey, SuiteName, decode_base64

_KEY_KIND, _SECRET_KIND = "saggar.key", "saggar.secret"
_VERSION, _FACTOR_VERSION = 1, 2
_SECRET_HALF_BYTES = 32
_CHECK_BYTES, _CHECKSUM_BYTES = 16, 8
_SALT_BYTES = 16
_COST_N, _COST_R, _COST_P = 2**15, 8, 1  # 32 MiB, about a tenth of a second
# What a file may ask for: never less work than an attacker should meet, never a memory or time bomb.
_N_RANGE, _R_RANGE, _P_RANGE = (2**14, 2**18), (8, 16), (1, 4)
_MEMORY_BYTES_MAX = 256 * 2**20
_SALT_RANGE = (16, 64)
_FILE_BYTES_MAX = 2**20


def lock_key(key: PrivateKey, passphrase: str, factor: SecondFactor | None = None) -> bytes:
    """Return a key as the text of a key file.

    Args:
        key: what to keep.
        passphrase: not empty; its Unicode spelling is normalised (NFC).
        factor: what is needed beside the passphrase, or None.
    """
    open_part = {**_version(factor), "kind": _KEY_KIND, "public": key.public.to_record(), "kdf": _fresh_kdf()}
    return _lock(open_part, suite(key.public.suite), key.signing + key.sealing, passphrase, factor)


def unlock_key(raw: bytes, passphrase: str, factors: Sequence[SecondFactor] = ()) -> PrivateKey:
    """Return the key of a key file.

    Args:
        raw: the file.
        passphrase: what it was locked under.
        factors: the second factors at hand; the file says which one it needs, if any.

    Raises:
        KeyUnavailableError: the passphrase is wrong (`…wrong_passphrase`), the second factor is none of these
            (`…second_factor`) or the file is damaged (`…damaged`).
    """
    record, public = _parse_key(raw)
    secret = _unlock(record, suite(public.suite), passphrase, _wanted(record, factors))
    if len(secret) != 2 * _SECRET_HALF_BYTES:
        raise _damaged("its secret part has the wrong length")
    key = PrivateKey(public, secret[:_SECRET_HALF_BYTES], secret[_SECRET_HALF_BYTES:])
    check_pair(key)
    return key


def read_public(raw: bytes) -> PublicKey:
    """Return the public record of a key file, for which no passphrase is needed.

    Until the file is unlocked, the record is only as trustworthy as the place it was read from.

    Raises:
        KeyUnavailableError: the file is damaged.
    """
    return _parse_key(raw)[1]


def lock_secret(secret: bytes, passphrase: str, purpose: str, factor: SecondFactor | None = None) -> bytes:
    """Return a secret, such as a custodian's share, as the text of a secret file (suite gm).

    Args:
        secret: 1 byte or more.
        passphrase: not empty.
        purpose: what the secret is for; it must be named again to unlock.
        factor: what is needed beside the passphrase, or None.
    """
    if not secret or not purpose:
        raise AssertionError("a secret file needs a secret and a purpose")
    open_part = {**_version(factor), "kind": _SECRET_KIND, "purpose": purpose, "kdf": _fresh_kdf()}
    return _lock(open_part, suite(SuiteName.GM), secret, passphrase, factor)


def unlock_secret(raw: bytes, passphrase: str, purpose: str, factors: Sequence[SecondFactor] = ()) -> bytes:
    """Return the secret of a secret file.

    Args:
        raw: the file.
        passphrase: what it was locked under.
        purpose: what it is for.
        factors: the second factors at hand; the file says which one it needs, if any.

    Raises:
        KeyUnavailableError: the file is for another purpose (`…wrong_purpose`), needs a second factor that is none of
            these (`…second_factor`), the passphrase is wrong (`…wrong_passphrase`), or the file is damaged
            (`…damaged`).
    """
    record = _parse(raw, _SECRET_KIND, "purpose")
    if record["purpose"] != purpose:
        raise KeyUnavailableError(
            f"expected a secret for `{purpose}`, got one for `{record['purpose']}`",
            hint="choose the secret file made for this purpose",
            code="vault.key_unavailable.wrong_purpose",
        )
    return _unlock(record, suite(SuiteName.GM), passphrase, _wanted(record, factors))


def factor_needed(raw: bytes) -> str | None:
    """Return the id of the second factor that a secret file needs beside its passphrase, or None.

    Raises:
        KeyUnavailableError: the file is damaged.
    """
    factor: str | None = _parse(raw, _SECRET_KIND, "purpose").get("factor")
    return factor


def _version(factor: SecondFactor | None) -> dict[str, object]:
    return {"v": _VERSION} if factor is None else {"v": _FACTOR_VERSION, "factor": factor.factor_id}


def _wanted(record: dict[str, Any], factors: Sequence[SecondFactor]) -> SecondFactor | None:
    if "factor" not in record:
        return None
    for factor in factors:
        if factor.factor_id == record["factor"]:
            return factor
    raise KeyUnavailableError(
        "the second factor that this key file was locked with is not here",
        hint="bring the medium that holds it; if it was replaced at the close of an epoch, the file opens for nobody",
        code="vault.key_unavailable.second_factor",
        factor=record["factor"],
    )


def _fresh_kdf() -> dict[str, object]:
    salt = base64.b64encode(random_bytes(_SALT_BYTES)).decode()
    return {"name": "scrypt", "n": _COST_N, "r": _COST_R, "p": _COST_P, "salt": salt}


def _lock(
    open_part: dict[str, Any], seals: Suite, secret: bytes, passphrase: str, factor: SecondFactor | None = None
) -> bytes:
    bound = canonical_bytes(open_part)
    key, check = _derive(open_part["kdf"], seals, passphrase, factor)
    nonce = random_bytes(NONCE_BYTES)
    body = nonce + seals.seal(key, nonce, secret, bound) + check
    sealed = body + _checksum(bound, body)
    return canonical_bytes({**open_part, "sealed": base64.b64encode(sealed).decode()})


def _unlock(record: dict[str, Any], seals: Suite, passphrase: str, factor: SecondFactor | None = None) -> bytes:
    bound, sealed = canonical_bytes(_open_part(record)), decode_base64(record["sealed"])
    body = sealed[: -_CHECKSUM_BYTES - _CHECK_BYTES]
    stored_check = sealed[len(body) : len(body) + _CHECK_BYTES]
    key, check = _derive(record["kdf"], seals, passphrase, factor)
    if not hmac.compare_digest(check, stored_check):
        raise KeyUnavailableError(
            "the passphrase does not open this key file",
            hint="type it again; if it is lost, restore the key from its custodian",
            code="vault.key_unavailable.wrong_passphrase",
        )
    try:
        return seals.unseal(key, body[:NONCE_BYTES], body[NONCE_BYTES:], bound)
    except SealBrokenError as error:
        raise _damaged("its parts do not belong together") from error


def _derive(kdf: dict[str, Any], seals: Suite, passphrase: str, factor: SecondFactor | None) -> tuple[bytes, bytes]:
    """Return the sealing key and the passphrase check."""
    if not passphrase:
        raise InputError("the passphrase is empty", hint="choose one that nobody can guess", code="input.passphrase")
    try:
        text = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "the passphrase cannot be written in UTF-8", hint="type it again", code="input.passphrase"
        ) from error
    stretched = providers.scrypt().require()(
        text, decode_base64(kdf["salt"]), kdf["n"], kdf["r"], kdf["p"], _SECRET_HALF_BYTES
    )
    if factor is None:
        label = b"saggar.keyfile.v1"
    else:
        # HKDF-Extract (RFC 5869): the factor is the salt, what scrypt gave the keying material.
        stretched, label = seals.mac(factor.secret, stretched), b"saggar.keyfile.v2"
    key = seals.expand(stretched, label + b" key", seals.key_bytes)
    return key, seals.expand(stretched, label + b" check", _CHECK_BYTES)


def _parse_key(raw: bytes) -> tuple[dict[str, Any], PublicKey]:
    record = _parse(raw, _KEY_KIND, "public")
    try:
        return record, PublicKey.parse(record["public"])
    except SignatureError as error:
        raise _damaged("its public part is malformed") from error


def _parse(raw: bytes, kind: str, subject: str) -> dict[str, Any]:
    """Return the record of a file of this kind with its checksum and parameters checked."""
    if len(raw) > _FILE_BYTES_MAX:
        raise _damaged("it is too large")
    try:
        record = parse_canonical(raw)
    except CanonicalError as error:
        raise _damaged("it is not canonical JSON") from error
    fields = {"v", "kind", subject, "kdf", "sealed"}
    with_factor = isinstance(record, dict) and "factor" in record
    if not isinstance(record, dict) or set(record) != (fields | {"factor"} if with_factor else fields):
        raise _damaged(f"it is not a `{kind}` file")
    version = _FACTOR_VERSION if with_factor else _VERSION
    if record["v"] != version or isinstance(record["v"], bool) or record["kind"] != kind:
        raise _damaged(f"it is not a `{kind}` file of version {_VERSION}")
    try:
        sealed = decode_base64(record["sealed"])
        _check_kdf(record["kdf"])
    except SignatureError as error:  # not base64
        raise _damaged("it holds text that is not base64") from error
    body, checksum = sealed[:-_CHECKSUM_BYTES], sealed[-_CHECKSUM_BYTES:]
    if len(sealed) <= NONCE_BYTES + TAG_BYTES + _CHECK_BYTES + _CHECKSUM_BYTES:
        raise _damaged("its sealed part is too short")
    if _checksum(canonical_bytes(_open_part(record)), body) != checksum:
        raise _damaged("its checksum does not agree")
    return record


def _check_kdf(kdf: object) -> None:
    """Refuse parameters that would make the file cheap to attack or dear to open."""
    if not isinstance(kdf, dict) or set(kdf) != {"name", "n", "r", "p", "salt"} or kdf["name"] != "scrypt":
        raise _damaged("its key derivation is unknown")
    numbers = ((kdf["n"], _N_RANGE), (kdf["r"], _R_RANGE), (kdf["p"], _P_RANGE))
    for number, (least, most) in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise _damaged("its key derivation parameters are out of range")
    if kdf["n"] & (kdf["n"] - 1) or 128 * kdf["n"] * kdf["r"] > _MEMORY_BYTES_MAX:
        raise _damaged("its key derivation parameters are out of range")
    if not _SALT_RANGE[0] <= len(decode_base64(kdf["salt"])) <= _SALT_RANGE[1]:
        raise _damaged("its salt has the wrong length")


def _open_part(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "sealed"}


def _checksum(bound: bytes, body: bytes) -> bytes:
    return hash_bytes(bound + body)[:_CHECKSUM_BYTES]


def _damaged(why: str) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"the key file is damaged: {why}",
        hint="restore it from a copy",
        code="vault.key_unavailable.damaged",
    )
