"""Signed notes: text, a blank line, and signature lines, as in C2SP signed-note and tlog-cosignature.

A signature line is an em dash, a space, the key's name, a space, and base64 of a 4-byte key id and the signature.

| who | suite | type | what is signed |
|---|---|---|---|
| sandbox | intl | `0x01` | the text, by plain Ed25519 |
| sandbox | gm | `0xff` and `saggar/sm2-note/1` | the text, by SM2 in the context of that name |
| witness | intl | `0x04` | `cosignature/v1`, `time <seconds>`, the text, by plain Ed25519 |
| witness | gm | `0xff` and `saggar/sm2-cosignature/1` | the same three, by SM2 in the context of that name |

A signature is 64 bytes; a witness's has the 8 bytes of its time in front.

So every tool that knows C2SP can check the Ed25519 lines, and skips the SM2 lines as those of keys it does not know.
The Ed25519 lines carry no frame of ours; they cannot be taken for any other signature of the same key, since a frame
begins with bytes that hold a control character and a note holds none but newlines.  A line by an unknown key is
ignored; a line that names a known key must hold, or the whole note is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.errors import CheckpointError, SignatureError
from sandbox.ledger.bodies import check_time
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 64
COSIGNATURE_HEADER = "cosignature/v1"
SM2_NOTE = "saggar/sm2-note/1"
SM2_COSIGNATURE = "saggar/sm2-cosignature/1"
_DASH = "\u2014"
_KEY_ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES = 4, 8, 64
_MAX_SECONDS = 2**63 - 1
_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not yet believed."""

    name: str
    key_id: bytes
    payload: bytes

    def to_line(self) -> str:
        """Return the line with its newline."""
        return f"{_DASH} {self.name} {base64.b64encode(self.key_id + self.payload).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note, not yet believed; `text` ends in a newline."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_text(self) -> str:
        """Return the note as it is written."""
        return self.text + "\n" + "".join(signature.to_line() for signature in self.signatures)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A cosignature that holds: whose it is, and when the witness says it made it (POSIX seconds)."""

    key: PublicKey
    time_s: int


def parse_note(note: str) -> Note:
    """Return the parts of a note; strict, so that `parse_note(note).to_text() == note`.

    Raises:
        CheckpointError: `ledger.checkpoint.malformed`.
    """
    if len(note.encode("utf-8", "surrogatepass")) > MAX_NOTE_BYTES:
        raise _malformed("it is too large")
    if _FORBIDDEN.search(note):
        raise _malformed("it holds a control character")
    text, blank, rest = note.rpartition("\n\n")
    if not blank or not text or not rest.endswith("\n"):
        raise _malformed("it has no signatures after a blank line")
    lines = rest[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed("it has too many signatures")
    return Note(text + "\n", tuple(parse_signature_line(line + "\n") for line in lines))


def parse_signature_line(line: str) -> NoteSignature:
    """Return one signature line's parts, or raise `CheckpointError`."""
    parts = line.removesuffix("\n").split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not line.endswith("\n") or not _is_key_name(parts[1]):
        raise _malformed("a signature line is not `\u2014 name base64`")
    try:
        raw = base64.b64decode(parts[2], validate=True)
    except ValueError as error:
        raise _malformed("a signature is not base64") from error
    if base64.b64encode(raw).decode() != parts[2] or len(raw) <= _KEY_ID_BYTES:
        raise _malformed("a signature is not canonical base64 of more than 4 bytes")
    return NoteSignature(parts[1], raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def sign_text(text: str, name: str, key: PrivateKey) -> NoteSignature:
    """Return the sandbox's signature over a note's text, under the key name `name`."""
    _check_role(key.public, Role.SANDBOX)
    _check_key_name(name)
    if key.public.suite is SuiteName.INTL:
        value = Ed25519PrivateKey.from_private_bytes(key.signing).sign(text.encode())
    else:
        value = sign(key, SM2_NOTE, text.encode()).value
    return NoteSignature(name, signer_key_id(name, key.public), value)


def cosign_text(text: str, key: PrivateKey, at: str) -> NoteSignature:
    """Return a witness's cosignature over a note's text, made at `at` (UTC, `YYYY-MM-DDTHH:MM:SSZ`)."""
    _check_role(key.public, Role.WITNESS)
    name = key.public.name
    _check_key_name(name)
    time_s = posix_seconds(at)
    message = _cosigned_message(text, time_s)
    if key.public.suite is SuiteName.INTL:
        value = Ed25519PrivateKey.from_private_bytes(key.signing).sign(message)
    else:
        value = sign(key, SM2_COSIGNATURE, message).value
    return NoteSignature(name, cosigner_key_id(key.public), time_s.to_bytes(_TIME_BYTES) + value)


def verify_signers(note: Note, name: str, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """Return which of the sandbox's `keys` signed the note under the key name `name`; maybe none.

    Raises:
        CheckpointError: a line names a known key and does not hold, or one key signed twice.
    """
    found: list[PublicKey] = []
    for key in keys:
        _check_role(key, Role.SANDBOX)
        payload = _payload_of(note, name, signer_key_id(name, key))
        if payload is not None:
            _verify(key, SM2_NOTE, note.text.encode(), payload)
            found.append(key)
    return tuple(found)


def verify_cosigners(note: Note, keys: Sequence[PublicKey]) -> tuple[Cosigned, ...]:
    """Return which of the witness `keys` cosigned the note, and when; maybe none.

    Raises:
        CheckpointError: a line names a known key and does not hold, or one key signed twice.
    """
    found: list[Cosigned] = []
    for key in keys:
        _check_role(key, Role.WITNESS)
        payload = _payload_of(note, key.name, cosigner_key_id(key))
        if payload is not None:
            time_s = int.from_bytes(payload[:_TIME_BYTES])
            if time_s > _MAX_SECONDS:
                raise _broken(key.name)
            _verify(key, SM2_COSIGNATURE, _cosigned_message(note.text, time_s), payload[_TIME_BYTES:])
            found.append(Cosigned(key, time_s))
    return tuple(found)


def signer_key_id(name: str, key: PublicKey) -> bytes:
    """Return the 4-byte id of a key that signs notes under `name`."""
    kind = b"\x01" if key.suite is SuiteName.INTL else b"\xff" + SM2_NOTE.encode()
    return _key_id(name, kind, key)


def cosigner_key_id(key: PublicKey) -> bytes:
    """Return the 4-byte id of a witness's key."""
    kind = b"\x04" if key.suite is SuiteName.INTL else b"\xff" + SM2_COSIGNATURE.encode()
    return _key_id(key.name, kind, key)


def posix_seconds(at: str) -> int:
    """Return a time `YYYY-MM-DDTHH:MM:SSZ` as POSIX seconds, or raise `LedgerError`."""
    check_time(at)
    return int(datetime.fromisoformat(at).timestamp())


def _key_id(name: str, kind: bytes, key: PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + key.signing).digest()[:_KEY_ID_BYTES]


def _cosigned_message(text: str, time_s: int) -> bytes:
    return f"{COSIGNATURE_HEADER}\ntime {time_s}\n{text}".encode()


def _payload_of(note: Note, name: str, key_id: bytes) -> bytes | None:
    lines = [signature for signature in note.signatures if signature.name == name and signature.key_id == key_id]
    if len(lines) > 1:
        raise _malformed(f"key `{name}` signed it twice")
    return lines[0].payload if lines else None


def _verify(key: PublicKey, context: str, message: bytes, value: bytes) -> None:
    try:
        if len(value) != _SIGNATURE_BYTES:
            raise _broken(key.name)
        if key.suite is SuiteName.INTL:
            Ed25519PublicKey.from_public_bytes(key.signing).verify(value, message)
        else:
            verify_signature(key, context, message, Signature(key.key_id, value))
    except (SignatureError, InvalidSignature, ValueError) as error:
        raise _broken(key.name) from error


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(ch.isspace() for ch in name)


def _check_key_name(name: str) -> None:
    if not _is_key_name(name):
        raise _malformed(f"`{name}` cannot be a key name, since it is empty or has a space or `+`")


def _check_role(key: PublicKey, role: Role) -> None:
    if key.role is not role:
        raise CheckpointError(
            f"key `{key.name}` has the role `{key.role}` and not `{role}`",
            hint="one key has one role; hand over the right key",
            code="ledger.checkpoint.wrong_role",
        )


def _malformed(why: str) -> CheckpointError:
    return CheckpointError(
        f"a note is malformed: {why}", hint="copy the note whole", code="ledger.checkpoint.malformed"
    )


def _broken(name: str) -> CheckpointError:
    return CheckpointError(
        f"the signature of `{name}` on the checkpoint does not hold",
        hint="keep the note as evidence and ask its holder for the original",
        code="ledger.checkpoint.signature",
        signer=name,
    )
