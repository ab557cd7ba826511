"""Official test vectors, and a check of a provider against each.

A check raises `VaultError` (`vault.self_test`) when a provider does not give the published answer, and lets whatever
else the provider raises pass through: either way it is not used.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.crypto import curve
from sandbox.crypto.aead import Aead
from sandbox.crypto.curve25519 import Ed25519, HpkeX25519
from sandbox.crypto.hashing import HashFamily
from sandbox.crypto.sm2 import DEFAULT_IDENTITY, Sm2, identity_digest, unsafe_encrypt_with_nonce, unsafe_sign_with_nonce
from sandbox.errors import SaggarError, SealBrokenError, SignatureError, VaultError
from sandbox.model.digest import HashName, hash_bytes

_HASHES: dict[HashName, tuple[tuple[bytes, str], ...]] = {
    "sm3": (  # GB/T 32905, appendix A
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ),
    "sha256": (  # FIPS 180-4 examples
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ),
}
_MACS: dict[HashName, tuple[tuple[bytes, bytes, str], ...]] = {
    "sm3": (  # GM/T 0042, appendix D.3
        (
            bytes(range(1, 33)),
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq" * 2,
            "ca05e144ed05d1857840d1f318a4a8669e559fc8391f414485bfdf7bb408963a",
        ),
        (bytes(range(1, 38)), b"\xcd" * 50, "220bf579ded555393f0159f66c99877822a3ecf610d1552154b41d44b94db3ae"),
    ),
    "sha256": (  # RFC 4231, cases 1 and 2
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ),
}
# RFC 5869, A.1: the expand step alone.
_EXPAND_KEY = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
_EXPAND_INFO = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
_EXPANDED_SHA256 = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"

# (key, nonce, associated data, plaintext, ciphertext and tag)
_AEADS: dict[str, tuple[str, str, str, str, str]] = {
    "SM4-GCM": (  # RFC 8998, A.1
        "0123456789abcdeffedcba9876543210",
        "00001234567800000000abcd",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "aa" * 8 + "bb" * 8 + "cc" * 8 + "dd" * 8 + "ee" * 8 + "ff" * 8 + "ee" * 8 + "aa" * 8,
        (
            "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
            "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
            "83de3541e4c2b58177e065a9bf7b62ec"
        ),
    ),
    "AES-256-GCM": (  # McGrew and Viega, the GCM specification submitted to NIST, test case 16
        "feffe9928665731c6d6a8f9467308308" * 2,
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        (
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ),
        (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            "76fc6ece0f4e1768cddf8853bb2d551b"
        ),
    ),
}

# GB/T 32907, A.1: key and plaintext are the same.
_SM4_KEY, _SM4_CIPHERTEXT = "0123456789abcdeffedcba9876543210", "681edf34d206965e86b3e94f536e4246"

# GB/T 32918.5, appendices A and C: one key pair and one nonce for both.
_SM2_PRIVATE = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
_SM2_PUBLIC = (
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
_SM2_NONCE = "59276e27d506861a16680f3ad9c02dccef3cc1fa3cdbe4ce6d54b80deac1bc21"
_SM2_IDENTITY_DIGEST = "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
_SM2_SIGNED = b"message digest"
_SM2_SIGNATURE = (
    "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)
_SM2_ENCRYPTED = b"encryption standard"
_SM2_SEALED = (
    "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
    "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"
    "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"
    "21886ca989ca9c7d58087307ca93092d651efa"
)

# RFC 8032, 7.1, test 2.
_ED25519_SEED = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
_ED25519_PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
_ED25519_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)

# A signature under the identity point, which holds for every message wherever such a key is let in (Wycheproof).
_ED25519_IDENTITY = "01" + "00" * 31
_ED25519_FORGERY = "58" + "66" * 31 + "01" + "00" * 31

# Recipient key and info of RFC 9180's vector file (mode 0, KEM 0x20, KDF 1, AEAD 2); sealed by pycryptodome's HPKE, as
# the published ciphertexts have associated data and the one-shot interface has none.
_HPKE_PRIVATE = "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d"
_HPKE_PUBLIC = "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c"
_HPKE_INFO = b"Ode on a Grecian Urn"
_HPKE_PLAINTEXT = b"Beauty is truth, truth beauty"
_HPKE_SEALED = (
    "da948c61204c096667cce11b7c79baf0a167e4c57c3c1a3e742fa45fe1313f0d"
    "3cb99cd7867abae8a10c24cad1c79222353e804d9a96fc9f35266cfa38956d16"
    "ec27e95f0185425ac74ca06f3f"
)

# RFC 7914, 12, the first vector.
_SCRYPT = (
    "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
    "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
)


def check_hash_family(hash_name: HashName, family: HashFamily) -> None:
    """Check a hash, its HMAC and its HKDF-Expand."""
    for data, expected in _HASHES[hash_name]:
        _expect(family.hash(data), expected)
    for key, data, expected in _MACS[hash_name]:
        _expect(family.mac(key, data), expected)
    expanded = family.expand(_EXPAND_KEY, _EXPAND_INFO, 42)
    if hash_name == "sha256":
        _expect(expanded, _EXPANDED_SHA256)
    first = family.mac(_EXPAND_KEY, _EXPAND_INFO + b"\x01")  # no one has published HKDF over SM3: hold it to its law
    second = family.mac(_EXPAND_KEY, first + _EXPAND_INFO + b"\x02")
    _expect(expanded, (first + second)[:42].hex())


def check_aead(aead: Aead) -> None:
    """Check sealing, unsealing, and that a flipped bit is refused."""
    key, nonce, aad, plaintext, sealed = (bytes.fromhex(text) for text in _AEADS[aead.algorithm])
    _expect(aead.seal(key, nonce, plaintext, aad), sealed.hex())
    _expect(aead.unseal(key, nonce, sealed, aad), plaintext.hex())
    for position in (0, len(sealed) - 1):
        _expect_refused(lambda position=position: aead.unseal(key, nonce, flip(sealed, position), aad))  # type: ignore[misc]
    _expect_refused(lambda: aead.unseal(key, nonce, sealed, flip(aad, 0)))


def check_sm4_block(encrypt: Callable[[bytes, bytes], bytes]) -> None:
    """Check one block of SM4, given `encrypt(key, block)`."""
    _expect(encrypt(bytes.fromhex(_SM4_KEY), bytes.fromhex(_SM4_KEY)), _SM4_CIPHERTEXT)


def check_sm2(sm2: Sm2) -> None:
    """Check keys, Z, signing, verifying, encryption, decryption, and that what is wrong is refused."""
    private, public = bytes.fromhex(_SM2_PRIVATE), bytes.fromhex(_SM2_PUBLIC)
    scalar, nonce = curve.load_scalar(private), curve.load_scalar(bytes.fromhex(_SM2_NONCE))
    _expect(sm2.public_of(private), _SM2_PUBLIC)
    z = identity_digest(public, DEFAULT_IDENTITY)
    _expect(z, _SM2_IDENTITY_DIGEST)
    signature = bytes.fromhex(_SM2_SIGNATURE)
    _expect(unsafe_sign_with_nonce(scalar, hash_bytes(z + _SM2_SIGNED), nonce) or b"", _SM2_SIGNATURE)
    sm2.verify(public, _SM2_SIGNED, signature)
    sm2.verify(public, _SM2_ENCRYPTED, sm2.sign(private, public, _SM2_ENCRYPTED))
    _expect_refused(lambda: sm2.verify(public, _SM2_SIGNED, flip(signature, 0)), SignatureError)
    _expect_refused(lambda: sm2.verify(public, _SM2_ENCRYPTED, signature), SignatureError)
    sealed = bytes.fromhex(_SM2_SEALED)
    _expect(unsafe_encrypt_with_nonce(curve.load_point(public), _SM2_ENCRYPTED, nonce) or b"", _SM2_SEALED)
    _expect(sm2.decrypt(private, sealed), _SM2_ENCRYPTED.hex())
    _expect(sm2.decrypt(private, sm2.encrypt(public, _SM2_SIGNED)), _SM2_SIGNED.hex())
    for position in (1, 65, len(sealed) - 1):
        _expect_refused(lambda position=position: sm2.decrypt(private, flip(sealed, position)))  # type: ignore[misc]


def check_ed25519(ed25519: Ed25519) -> None:
    """Check keys, signing, verifying, and that a flipped bit is refused."""
    seed, public = bytes.fromhex(_ED25519_SEED), bytes.fromhex(_ED25519_PUBLIC)
    _expect(ed25519.public_of(seed), _ED25519_PUBLIC)
    signature = ed25519.sign(seed, public, b"\x72")
    _expect(signature, _ED25519_SIGNATURE)
    ed25519.verify(public, b"\x72", signature)
    _expect_refused(lambda: ed25519.verify(public, b"\x72", flip(signature, 0)), SignatureError)
    identity, forgery = bytes.fromhex(_ED25519_IDENTITY), bytes.fromhex(_ED25519_FORGERY)
    _expect_refused(lambda: ed25519.verify(identity, b"\x72", forgery), SignatureError)


def check_hpke(hpke: HpkeX25519) -> None:
    """Check keys, opening, a round trip, and that a flipped bit or another info is refused."""
    private, public, sealed = (bytes.fromhex(text) for text in (_HPKE_PRIVATE, _HPKE_PUBLIC, _HPKE_SEALED))
    _expect(hpke.public_of(private), _HPKE_PUBLIC)
    _expect(hpke.decrypt(private, sealed, _HPKE_INFO), _HPKE_PLAINTEXT.hex())
    fresh = hpke.encrypt(public, _HPKE_PLAINTEXT, _HPKE_INFO)
    _expect(hpke.decrypt(private, fresh, _HPKE_INFO), _HPKE_PLAINTEXT.hex())
    for altered, info in ((flip(sealed, 40), _HPKE_INFO), (flip(sealed, 0), _HPKE_INFO), (sealed, b"another")):
        _expect_refused(lambda altered=altered, info=info: hpke.decrypt(private, altered, info))  # type: ignore[misc]


def check_scrypt(derive: Callable[[bytes, bytes, int, int, int, int], bytes]) -> None:
    """Check `derive(passphrase, salt, n, r, p, length)`."""
    _expect(derive(b"", b"", 16, 1, 1, 64), _SCRYPT)


def flip(raw: bytes, position: int) -> bytes:
    """Return `raw` with one bit of one byte changed."""
    return raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]


def _expect(actual: bytes, expected_hex: str) -> None:
    if actual.hex() != expected_hex:
        raise VaultError(
            "an answer differs from the published vector", hint="update the library", code="vault.self_test"
        )


def _expect_refused(act: Callable[[], object], refusal: type[SaggarError] = SealBrokenError) -> None:
    try:
        act()
    except refusal:
        return
    raise VaultError("altered bytes were accepted", hint="update the library", code="vault.self_test")
