"""Providers of authenticated encryption: SM4-GCM and AES-256-GCM, each from two libraries.

A provider is stateless and safe to call from several threads.  Sealed bytes are ciphertext and then the 16-byte tag.
Plaintext stays in a private buffer until the tag held.
"""

from __future__ import annotations

from typing import Protocol

from Crypto.Cipher import AES
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox.crypto.buffers import Data, flat, new_bytes
from sandbox.errors import KeyUnavailableError, SealBrokenError, VaultError

TAG_BYTES = 16
NONCE_BYTES = 12
MESSAGE_BYTES_MAX = 2**31 - 64  # the least limit among the libraries; larger things are sealed in chunks


class Aead(Protocol):
    """One AEAD algorithm from one library."""

    algorithm: str
    provider: str
    key_bytes: int

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        ...

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`, which has their length and does not overlap the plaintext."""
        ...

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        ...

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, which has its length, or raise `SealBrokenError`.

        After an error the room may hold plaintext that was never verified: the caller must throw it away.
        """
        ...


class PycryptodomeAesGcm:
    """AES-256-GCM of pycryptodome (AES-NI and PCLMULQDQ)."""

    algorithm = "AES-256-GCM"
    provider = "pycryptodome"
    key_bytes = 32

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        return seal_to_bytes(self, key, nonce, plaintext, aad)

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`."""
        source = check_sealing(self.key_bytes, key, nonce, plaintext, room)
        cipher = AES.new(bytes(key), AES.MODE_GCM, nonce=bytes(nonce), mac_len=TAG_BYTES)
        cipher.update(aad)
        if source.nbytes:
            cipher.encrypt(source, output=room[:-TAG_BYTES])
        room[-TAG_BYTES:] = cipher.digest()

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        return unseal_to_bytes(self, key, nonce, sealed, aad)

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, or raise `SealBrokenError`."""
        body, tag = split_sealed(self.key_bytes, key, nonce, sealed)
        check_room(body, room)
        cipher = AES.new(bytes(key), AES.MODE_GCM, nonce=bytes(nonce), mac_len=TAG_BYTES)
        cipher.update(aad)
        try:
            if body.nbytes:
                cipher.decrypt_and_verify(body, bytes(tag), output=room)
            else:
                cipher.verify(bytes(tag))
        except ValueError as error:
            raise broken_seal() from error


class OpensslAesGcm:
    """AES-256-GCM of the OpenSSL inside `cryptography`."""

    algorithm = "AES-256-GCM"
    provider = "cryptography"
    key_bytes = 32

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        return seal_to_bytes(self, key, nonce, plaintext, aad)

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`."""
        source = check_sealing(self.key_bytes, key, nonce, plaintext, room)
        AESGCM(key).encrypt_into(nonce, source, aad, room)

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        split_sealed(self.key_bytes, key, nonce, sealed)
        try:
            return AESGCM(key).decrypt(nonce, flat(sealed), aad)
        except InvalidTag as error:
            raise broken_seal() from error

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, or raise `SealBrokenError`."""
        body, _ = split_sealed(self.key_bytes, key, nonce, sealed)
        check_room(body, room)
        if not body.nbytes:
            self.unseal(key, nonce, sealed, aad)
            return
        try:
            AESGCM(key).decrypt_into(nonce, flat(sealed), aad, room)
        except InvalidTag as error:
            raise broken_seal() from error


class OpensslSm4Gcm:
    """SM4-GCM of the OpenSSL inside `cryptography`: everywhere, but slow on processors without SM4 instructions."""

    algorithm = "SM4-GCM"
    provider = "cryptography"
    key_bytes = 16

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        return seal_to_bytes(self, key, nonce, plaintext, aad)

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`."""
        source = check_sealing(self.key_bytes, key, nonce, plaintext, room)
        cipher = Cipher(algorithms.SM4(bytes(key)), modes.GCM(bytes(nonce))).encryptor()
        cipher.authenticate_additional_data(aad)
        room[:-TAG_BYTES] = cipher.update(source)  # in place it would need spare room at the end
        cipher.finalize()
        room[-TAG_BYTES:] = cipher.tag

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        body, tag = split_sealed(self.key_bytes, key, nonce, sealed)
        cipher = Cipher(algorithms.SM4(bytes(key)), modes.GCM(bytes(nonce), bytes(tag))).decryptor()
        cipher.authenticate_additional_data(aad)
        unverified = cipher.update(body)
        try:
            cipher.finalize()
        except InvalidTag as error:
            raise broken_seal() from error
        return unverified  # verified by now

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, or raise `SealBrokenError`."""
        plaintext = self.unseal(key, nonce, sealed, aad)  # in place it would need spare room at the end
        check_room(flat(plaintext), room)
        room[:] = plaintext


def check_sealing(key_bytes: int, key: Data, nonce: Data, plaintext: Data, room: memoryview) -> memoryview:
    """Return a view of the plaintext; refuse a key of the wrong length or too long a message."""
    check_key(key_bytes, key)
    source = check_message(plaintext)
    if len(nonce) != NONCE_BYTES:
        raise AssertionError(f"a nonce has {NONCE_BYTES} bytes")
    if room.nbytes != source.nbytes + TAG_BYTES:
        raise AssertionError(f"a room of {room.nbytes} bytes for a plaintext of {source.nbytes} and its tag")
    return source


def check_message(plaintext: Data) -> memoryview:
    """Return a view of the plaintext, or refuse one that is too long for one call."""
    source = flat(plaintext)
    if source.nbytes > MESSAGE_BYTES_MAX:
        raise VaultError(
            f"one sealed message holds at most {MESSAGE_BYTES_MAX} bytes",
            hint="split it into chunks",
            code="vault.seal_too_large",
        )
    return source


def split_sealed(key_bytes: int, key: Data, nonce: Data, sealed: Data) -> tuple[memoryview, memoryview]:
    """Return views of ciphertext and tag; refuse what no `seal` can have written."""
    check_key(key_bytes, key)
    view = flat(sealed)
    if len(nonce) != NONCE_BYTES or not TAG_BYTES <= view.nbytes <= MESSAGE_BYTES_MAX + TAG_BYTES:
        raise broken_seal()
    return view[:-TAG_BYTES], view[-TAG_BYTES:]


def check_room(body: memoryview, room: memoryview) -> None:
    """Refuse (a bug) a room that is not exactly as long as the ciphertext."""
    if room.nbytes != body.nbytes:
        raise AssertionError(f"a room of {room.nbytes} bytes for a plaintext of {body.nbytes}")


def seal_to_bytes(aead: Aead, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
    """Return ciphertext and tag of a provider that writes in place."""
    sealed, room = new_bytes(check_message(plaintext).nbytes + TAG_BYTES)
    aead.seal_into(key, nonce, plaintext, aad, room)
    return sealed


def unseal_to_bytes(aead: Aead, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
    """Return the plaintext of a provider that writes in place."""
    size = flat(sealed).nbytes - TAG_BYTES
    plaintext, room = new_bytes(size) if size > 0 else (b"", memoryview(b""))
    aead.unseal_into(key, nonce, sealed, aad, room)
    return plaintext


def check_key(key_bytes: int, key: Data) -> None:
    """Refuse a key of the wrong length."""
    if len(key) != key_bytes:
        raise KeyUnavailableError(
            f"expected a key of {key_bytes} bytes, got {len(key)}",
            hint="the key is of another suite, or its record is damaged",
            code="vault.key_unavailable.malformed",
        )


def broken_seal() -> SealBrokenError:
    """Return the one refusal for all sealed bytes that do not open: it does not tell which check failed."""
    return SealBrokenError(
        "sealed bytes do not open with this key and context",
        hint="they were altered, or belong elsewhere; restore them from a copy",
    )
