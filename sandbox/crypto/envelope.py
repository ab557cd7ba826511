"""Seal to a person: only the holder of the private key opens it, and only in the context it was sealed for.

```
SGEV | version 1 | suite 1 or 2 | key id 16
gm:    SM2(content key) 113 | nonce 12 | SM4-GCM(plaintext), associated data = all bytes before it, and the context
intl:  HPKE base mode (RFC 9180): encapsulated key 32 | AES-256-GCM, info = all bytes before it, and the context
```

An envelope says nothing about who sealed it; sign what matters.
"""

from __future__ import annotations

from sandbox.crypto import providers
from sandbox.crypto.aead import NONCE_BYTES, TAG_BYTES
from sandbox.crypto.curve25519 import HPKE_OVERHEAD_BYTES
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.sm2 import OVERHEAD_BYTES as SM2_OVERHEAD_BYTES
from sandbox.crypto.suites import suite
from sandbox.errors import SaggarError, SealBrokenError
from sandbox.model.keys import PublicKey, SuiteName

_MAGIC = b"SGEV\x01"
_SUITE_NUMBERS = {SuiteName.GM: b"\x01", SuiteName.INTL: b"\x02"}
_KEY_ID_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + 1 + _KEY_ID_BYTES
_CONTENT_KEY_BYTES = 16
_WRAPPED_BYTES = SM2_OVERHEAD_BYTES + _CONTENT_KEY_BYTES
_GM_BODY_START = _HEADER_BYTES + _WRAPPED_BYTES + NONCE_BYTES
OVERHEAD_BYTES = {SuiteName.GM: _GM_BODY_START + TAG_BYTES, SuiteName.INTL: _HEADER_BYTES + HPKE_OVERHEAD_BYTES}


def seal_to(recipient: PublicKey, plaintext: bytes, context: str) -> bytes:
    """Return an envelope that only the recipient opens.

    Args:
        recipient: whose key; its suite decides the algorithms.
        plaintext: any length, 0 to 2 GiB; its length shows.
        context: the purpose; the recipient must name the same one.

    Raises:
        KeyUnavailableError: the recipient's record holds no key of its suite.
    """
    header = _header_to(recipient)
    match recipient.suite:
        case SuiteName.GM:
            content_key = random_bytes(_CONTENT_KEY_BYTES)
            nonce = random_bytes(NONCE_BYTES)
            head = header + providers.sm2().require().encrypt(recipient.sealing, content_key) + nonce
            return head + suite(SuiteName.GM).seal(content_key, nonce, plaintext, _bound(head, context))
        case SuiteName.INTL:
            return header + providers.hpke().require().encrypt(recipient.sealing, plaintext, _bound(header, context))


def open_sealed(key: PrivateKey, sealed: bytes, context: str) -> bytes:
    """Return what was sealed to this key in this context.

    Raises:
        SealBrokenError: sealed to another key, in another context, altered, cut or lengthened.
    """
    header = _header_to(key.public)
    if sealed[:_HEADER_BYTES] != header or len(sealed) < OVERHEAD_BYTES[key.public.suite]:
        raise _refused(key, context)
    try:
        match key.public.suite:
            case SuiteName.GM:
                head = sealed[:_GM_BODY_START]
                wrapped, nonce = head[_HEADER_BYTES:-NONCE_BYTES], head[-NONCE_BYTES:]
                content_key = providers.sm2().require().decrypt(key.sealing, wrapped)
                body = memoryview(sealed)[_GM_BODY_START:]
                return suite(SuiteName.GM).unseal(content_key, nonce, body, _bound(head, context))
            case SuiteName.INTL:
                return providers.hpke().require().decrypt(key.sealing, sealed[_HEADER_BYTES:], _bound(header, context))
    except SealBrokenError as error:
        raise _refused(key, context) from error


def _header_to(recipient: PublicKey) -> bytes:
    return _MAGIC + _SUITE_NUMBERS[recipient.suite] + bytes.fromhex(recipient.key_id)


def _bound(head: bytes, context: str) -> bytes:
    """Return what the seal is bound to: every byte before it, and the context with its length in front."""
    if not context:
        raise AssertionError("an envelope needs a context")
    text = context.encode()
    return b"saggar.envelope.v1\x00" + len(text).to_bytes(4) + text + head


def _refused(key: PrivateKey, context: str) -> SaggarError:
    return SealBrokenError(
        f"the envelope does not open with the key of `{key.public.name}` in the context `{context}`",
        hint="it was altered, or sealed to another key or for another purpose; ask the sender again",
        object=context,
    )
