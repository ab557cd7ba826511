"""The signed head of the log: origin, size, both roots, as in C2SP tlog-checkpoint.

```
example.org/saggar                              origin: the log's name
1832                                            size: how many entries
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    root of the SHA-256 tree, base64
sm3 3lmZ0lmvmFEqyN3dFYgMYvIZ4rE2r7OzlkqQZ1eOPc0=  extension line: root of the SM3 tree, the one of record

— example.org/saggar Az3grl...                  the sandbox signs under the origin
— witness.example.org jWbPPw...                 a witness cosigns, with its time
```

A public C2SP witness says nothing about extension lines.  Our witness does: it checks the growth of both trees before
it cosigns (`witness.py`), and only such witnesses belong in `witness_keys`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import CheckpointError
from sandbox.ledger.merkle import HASH_BYTES, Roots
from sandbox.ledger.note import (
    COSIGNATURE_HEADER,
    Cosigned,
    Note,
    parse_note,
    parse_signature_line,
    sign_text,
    verify_cosigners,
    verify_signers,
)
from sandbox.model.keys import PublicKey

MAX_SIZE = 2**53 - 1
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_ORIGIN = re.compile(r"[^\s+\x00-\x20\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says about itself at one size; not yet believed.

    Attributes:
        origin: the log's name, no spaces.
        size: how many entries.
        roots: the roots of both trees over them.
    """

    origin: str
    size: int
    roots: Roots

    def to_text(self) -> str:
        """Return the note text, which ends in a newline."""
        return (
            f"{self.origin}\n{self.size}\n{base64.b64encode(self.roots.sha256).decode()}\n"
            f"sm3 {base64.b64encode(self.roots.sm3).decode()}\n"
        )


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint whose signatures hold.

    Attributes:
        checkpoint: what it says.
        note: the note as it was handed in, for evidence.
        signers: the trusted keys of the sandbox that signed; one or more.
        cosigners: the trusted witnesses that cosigned; empty only from `verify_uncosigned_checkpoint`.
    """

    checkpoint: Checkpoint
    note: str
    signers: tuple[PublicKey, ...]
    cosigners: tuple[Cosigned, ...]


def parse_checkpoint(note: str) -> Checkpoint:
    """Return what a checkpoint note says, believing nothing.

    Raises:
        CheckpointError: `ledger.checkpoint.malformed`.
    """
    return _parse_text(parse_note(note).text)


def sign_checkpoint(checkpoint: Checkpoint, key: PrivateKey) -> str:
    """Return the checkpoint as a note signed by the sandbox."""
    text = checkpoint.to_text()
    if _parse_text(text) != checkpoint:
        raise AssertionError("a checkpoint does not read back")
    return Note(text, (sign_text(text, checkpoint.origin, key),)).to_text()


def with_cosignature(note: str, line: str) -> str:
    """Return the note with one more signature line; whether it holds is for `verify_checkpoint` to say."""
    parsed, signature = parse_note(note), parse_signature_line(line)
    if signature in parsed.signatures:
        return note
    return Note(parsed.text, (*parsed.signatures, signature)).to_text()


def verify_checkpoint(
    note: str, sandbox_keys: Sequence[PublicKey], witness_keys: Sequence[PublicKey]
) -> VerifiedCheckpoint:
    """Return the checkpoint if the sandbox signed it and at least one trusted witness cosigned it.

    Raises:
        CheckpointError: malformed, not signed by a trusted key, not cosigned, or a known key's line does not hold.
    """
    verified = verify_uncosigned_checkpoint(note, sandbox_keys)
    return replace(verified, cosigners=verify_cosigned(note, sandbox_keys, witness_keys))


def verify_cosigned(
    note: str, sandbox_keys: Sequence[PublicKey], witness_keys: Sequence[PublicKey]
) -> tuple[Cosigned, ...]:
    """Return the trusted witnesses that cosigned; for the sandbox, which has just signed the note itself.

    Raises:
        CheckpointError: malformed, not cosigned, or a known witness's line does not hold.
    """
    # A sandbox that is its own witness vouches for nothing.
    if {key.signing for key in sandbox_keys} & {key.signing for key in witness_keys}:
        raise CheckpointError(
            "a key is trusted both as the sandbox's and as a witness's",
            hint="a witness is another party with a key of its own",
            code="ledger.checkpoint.wrong_role",
        )
    cosigners = verify_cosigners(parse_note(note), witness_keys)
    if not cosigners:
        raise CheckpointError(
            "the checkpoint is not cosigned by a trusted witness",
            hint="wait for the witness, or trust the witness that cosigned",
            code="ledger.checkpoint.not_cosigned",
        )
    return cosigners


def verify_uncosigned_checkpoint(note: str, sandbox_keys: Sequence[PublicKey]) -> VerifiedCheckpoint:
    """Return the checkpoint if the sandbox signed it: what a witness checks, and no ground to release anything.

    Raises:
        CheckpointError: malformed, not signed by a trusted key, or a known key's line does not hold.
    """
    parsed = parse_note(note)
    checkpoint = _parse_text(parsed.text)
    signers = verify_signers(parsed, checkpoint.origin, sandbox_keys)
    if not signers:
        raise CheckpointError(
            "the checkpoint is not signed by a trusted key of the sandbox",
            hint="check the origin and the keys you trust",
            code="ledger.checkpoint.not_signed",
            origin=checkpoint.origin,
        )
    return VerifiedCheckpoint(checkpoint, note, signers, ())


def check_origin(origin: str) -> None:
    """Raise `CheckpointError` unless `origin` can name a log."""
    if not _ORIGIN.fullmatch(origin) or origin == COSIGNATURE_HEADER:
        raise _malformed("the origin is not a name without spaces")


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 5 or lines[4]:
        raise _malformed("its text is not origin, size, root and SM3 root")
    origin, size, sha256, extension, _ = lines
    check_origin(origin)
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise _malformed("the size is not a plain number")
    if not extension.startswith("sm3 "):
        raise _malformed("the SM3 root is missing")
    return Checkpoint(origin, int(size), Roots(sm3=_root(extension[4:]), sha256=_root(sha256)))


def _root(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _malformed("a root is not base64") from error
    if len(raw) != HASH_BYTES or base64.b64encode(raw).decode() != text:
        raise _malformed("a root is not 32 bytes in base64")
    return raw


def _malformed(why: str) -> CheckpointError:
    return CheckpointError(
        f"a checkpoint is malformed: {why}", hint="copy the checkpoint whole", code="ledger.checkpoint.malformed"
    )
