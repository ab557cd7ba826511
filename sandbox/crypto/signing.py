"""Sign and verify: what is signed always says by whom, in which suite and for which purpose.

The bytes under the signature are `saggar.signature.v1`, a zero byte, then suite, key id and context, each with its
length in front, then the message.  So a signature over one kind of record never passes for another kind, nor for
another holder, role or name, even where the inner bytes agree.
"""

from __future__ import annotations

from sandbox.crypto import providers
from sandbox.crypto.keys import PrivateKey
from sandbox.errors import SignatureError
from sandbox.model.keys import PublicKey, Signature

SIGNATURE_BYTES = 64
_MAGIC = b"saggar.signature.v1\x00"


def sign(key: PrivateKey, context: str, message: bytes) -> Signature:
    """Return the holder's signature over a message in a context.

    Args:
        key: whose signature; gm gives SM2, intl gives Ed25519.
        context: the purpose, a constant of the calling room such as `saggar.job.v1`; not empty.
        message: the canonical bytes of what is signed.
    """
    framed = framed_message(key.public, context, message)
    value = providers.signature_scheme(key.public.suite).sign(key.signing, key.public.signing, framed)
    return Signature(key.public.key_id, value)


def verify_signature(key: PublicKey, context: str, message: bytes, signature: Signature) -> None:
    """Refuse a signature that `key` did not make over this message in this context.

    Whether the holder's role may sign such a thing is for the caller to check.

    Raises:
        SignatureError: another key's, of the wrong length, or it does not hold; `details["reason"]` is `wrong_key`,
            `malformed` or `does_not_hold`.
    """
    if signature.key_id != key.key_id:
        raise SignatureError(
            f"expected a signature by `{key.name}`, got one by key `{signature.key_id}`",
            hint="check which key signed",
            reason="wrong_key",
            expected=key.key_id,
            found=signature.key_id,
        )
    if len(signature.value) != SIGNATURE_BYTES:
        raise SignatureError(
            f"expected a signature of {SIGNATURE_BYTES} bytes, got {len(signature.value)}",
            hint="copy the record whole",
            reason="malformed",
        )
    framed = framed_message(key, context, message)
    try:
        providers.signature_scheme(key.suite).verify(key.signing, framed, signature.value)
    except SignatureError as error:
        raise SignatureError(
            f"the signature by `{key.name}` does not hold",
            hint="the message, its context or the key is not the one that was signed",
            reason="does_not_hold",
        ) from error


def framed_message(key: PublicKey, context: str, message: bytes) -> bytes:
    """Return the bytes under a signature."""
    if not context:
        raise AssertionError("a signature needs a context")
    fields = (key.suite.value.encode(), key.key_id.encode(), context.encode())
    return _MAGIC + b"".join(len(text).to_bytes(4) + text for text in fields) + message
