"""SM4-GCM and SM3 of the system's libgcrypt, by ctypes: on x86 five times and one and a half times OpenSSL's speed.

Optional: where the library is absent, too old or in FIPS mode, opening it raises and the next provider serves.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.crypto.aead import (
    NONCE_BYTES,
    TAG_BYTES,
    broken_seal,
    check_room,
    check_sealing,
    seal_to_bytes,
    split_sealed,
    unseal_to_bytes,
)
from sandbox.crypto.buffers import Data, address_of, flat
from sandbox.crypto.hashing import HASH_BYTES, OpensslHashes
from sandbox.errors import VaultError

_SONAME = "libgcrypt.so.20"
_LEAST_VERSION = b"1.10.0"
_SM4, _GCM, _SM3 = 318, 9, 326  # gcry_cipher_algos, gcry_cipher_modes, gcry_md_algos
_DISABLE_SECMEM, _INITIALIZATION_FINISHED, _IS_INITIALIZED = 37, 38, 39  # gcry_ctl_cmds
_ERROR_CODE_MASK, _CHECKSUM_ERROR = 0xFFFF, 10  # libgpg-error: the low bits are the code


class LibgcryptSm4Gcm:
    """SM4-GCM of libgcrypt, one handle a call, so that threads never share one.

    Raises:
        VaultError: the library is absent or older than 1.10.
    """

    algorithm = "SM4-GCM"
    provider = "libgcrypt"
    key_bytes = 16

    def __init__(self) -> None:
        self._library, self.version = _open_library()

    def seal(self, key: Data, nonce: Data, plaintext: Data, aad: Data) -> bytes:
        """Return ciphertext and tag."""
        return seal_to_bytes(self, key, nonce, plaintext, aad)

    def seal_into(self, key: Data, nonce: Data, plaintext: Data, aad: Data, room: memoryview) -> None:
        """Write ciphertext and tag into `room`."""
        source = check_sealing(self.key_bytes, key, nonce, plaintext, room)
        size, start = source.nbytes, address_of(room)
        assert start is not None  # there is always a tag
        with self._cipher(key, nonce, aad) as handle:
            if size:
                _check(self._library.gcry_cipher_encrypt(handle, start, size, address_of(source), size))
            _check(self._library.gcry_cipher_gettag(handle, start + size, TAG_BYTES))

    def unseal(self, key: Data, nonce: Data, sealed: Data, aad: Data) -> bytes:
        """Return the plaintext, or raise `SealBrokenError`."""
        return unseal_to_bytes(self, key, nonce, sealed, aad)

    def unseal_into(self, key: Data, nonce: Data, sealed: Data, aad: Data, room: memoryview) -> None:
        """Write the plaintext into `room`, or raise `SealBrokenError`."""
        body, tag = split_sealed(self.key_bytes, key, nonce, sealed)
        check_room(body, room)
        size = body.nbytes
        with self._cipher(key, nonce, aad) as handle:
            if size:
                _check(self._library.gcry_cipher_decrypt(handle, address_of(room), size, address_of(body), size))
            status = self._library.gcry_cipher_checktag(handle, bytes(tag), TAG_BYTES)
        if status & _ERROR_CODE_MASK == _CHECKSUM_ERROR:
            raise broken_seal()
        _check(status)

    @contextmanager
    def _cipher(self, key: Data, nonce: Data, aad: Data) -> Iterator[ctypes.c_void_p]:
        """Yield a handle that is keyed and has taken in the associated data; close and wipe it afterwards."""
        handle = ctypes.c_void_p()
        _check(self._library.gcry_cipher_open(ctypes.byref(handle), _SM4, _GCM, 0))
        try:
            _check(self._library.gcry_cipher_setkey(handle, bytes(key), self.key_bytes))
            _check(self._library.gcry_cipher_setiv(handle, bytes(nonce), NONCE_BYTES))
            if len(aad):
                _check(self._library.gcry_cipher_authenticate(handle, bytes(aad), len(aad)))
            yield handle
        finally:
            self._library.gcry_cipher_close(handle)


class LibgcryptSm3(OpensslHashes):
    """SM3 of libgcrypt; HMAC and HKDF-Expand, which take in little, stay with `cryptography`.

    Raises:
        VaultError: the library is absent or older than 1.10.
    """

    provider = "libgcrypt"

    def __init__(self) -> None:
        super().__init__("sm3")
        self._library, self.version = _open_library()

    def hash(self, data: Data) -> bytes:
        """Return the 32-byte hash."""
        source, handle = flat(data), ctypes.c_void_p()
        _check(self._library.gcry_md_open(ctypes.byref(handle), _SM3, 0))
        try:
            if source.nbytes:
                self._library.gcry_md_write(handle, address_of(source), source.nbytes)
            return ctypes.string_at(self._library.gcry_md_read(handle, _SM3), HASH_BYTES)
        finally:
            self._library.gcry_md_close(handle)


def _open_library() -> tuple[ctypes.CDLL, str]:
    """Return the initialised library and its version."""
    if not sys.platform.startswith("linux"):
        raise VaultError("libgcrypt is used on Linux only", hint="another provider serves", code="vault.provider")
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError as error:
        raise VaultError(
            f"`{_SONAME}` is not installed", hint="install libgcrypt for faster SM4", code="vault.provider"
        ) from error
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures: dict[str, list[type]] = {
        "gcry_control": [ctypes.c_int, ctypes.c_int],
        "gcry_cipher_open": [ctypes.POINTER(pointer), ctypes.c_int, ctypes.c_int, ctypes.c_uint],
        "gcry_cipher_setkey": [pointer, ctypes.c_char_p, size],
        "gcry_cipher_setiv": [pointer, ctypes.c_char_p, size],
        "gcry_cipher_authenticate": [pointer, ctypes.c_char_p, size],
        "gcry_cipher_encrypt": [pointer, pointer, size, pointer, size],
        "gcry_cipher_decrypt": [pointer, pointer, size, pointer, size],
        "gcry_cipher_gettag": [pointer, pointer, size],
        "gcry_cipher_checktag": [pointer, ctypes.c_char_p, size],
        "gcry_md_open": [ctypes.POINTER(pointer), ctypes.c_int, ctypes.c_uint],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_uint
    library.gcry_cipher_close.argtypes, library.gcry_cipher_close.restype = [pointer], None
    library.gcry_md_write.argtypes, library.gcry_md_write.restype = [pointer, pointer, size], None
    library.gcry_md_read.argtypes, library.gcry_md_read.restype = [pointer, ctypes.c_int], pointer
    library.gcry_md_close.argtypes, library.gcry_md_close.restype = [pointer], None
    library.gcry_check_version.argtypes, library.gcry_check_version.restype = [ctypes.c_char_p], ctypes.c_char_p
    version = library.gcry_check_version(_LEAST_VERSION)  # also starts the library: it must be the first call
    if version is None:
        raise VaultError(
            f"libgcrypt is older than {_LEAST_VERSION.decode()}", hint="another provider serves", code="vault.provider"
        )
    if not library.gcry_control(_IS_INITIALIZED, 0):
        _check(library.gcry_control(_DISABLE_SECMEM, 0))
        _check(library.gcry_control(_INITIALIZATION_FINISHED, 0))
    return library, version.decode()


def _check(status: int) -> None:
    if status:
        raise VaultError(
            f"libgcrypt refused a call with error {status & _ERROR_CODE_MASK}",
            hint="run `saggar doctor`; another provider serves when its self-test fails",
            code="vault.provider",
        )
