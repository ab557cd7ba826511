"""SM2: what is wrong is refused, nonces never repeat, and odd nonces are drawn again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from Crypto.Math.Numbers import Integer

from sandbox.crypto import curve, sm2
from sandbox.crypto.known_answers import flip
from sandbox.crypto.providers import sm2 as sm2_choice
from sandbox.errors import KeyUnavailableError, SealBrokenError, SignatureError
from sandbox.model.digest import hash_bytes

PRIVATE = bytes.fromhex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8")
N = curve.N


@pytest.fixture(scope="module")
def scheme():
    return sm2_choice().require()


@pytest.fixture(scope="module")
def public(scheme):
    return scheme.public_of(PRIVATE)


def number(value):
    return value.to_bytes(32)


def test_a_signature_verifies_and_holds_for_nothing_else(scheme, public):
    value = scheme.sign(PRIVATE, public, b"message")
    scheme.verify(public, b"message", value)
    other = scheme.public_of(scheme.generate_private())
    for key, message, identity in (
        (public, b"massage", sm2.DEFAULT_IDENTITY),
        (other, b"message", sm2.DEFAULT_IDENTITY),
        (public, b"message", b"ALICE123@YAHOO.COM"),
    ):
        with pytest.raises(SignatureError, match="the signature does not hold for this message and key") as caught:
            scheme.verify(key, message, value, identity)
        assert caught.value.code == "policy.signature"


def test_every_flipped_byte_of_a_signature_is_refused(scheme, public):
    value = scheme.sign(PRIVATE, public, b"message")
    for position in range(64):
        with pytest.raises(SignatureError):
            scheme.verify(public, b"message", flip(value, position))


@pytest.mark.parametrize(
    ("r", "s"), [(0, 5), (5, 0), (N, 5), (5, N), (N + 1, 5), (5, 2**256 - 1), (1, N - 1), (N - 5, 5)]
)
def test_numbers_out_of_range_and_a_zero_sum_are_refused(scheme, public, r, s):
    with pytest.raises(SignatureError, match="does not hold"):
        scheme.verify(public, b"message", number(r) + number(s))


@pytest.mark.parametrize("length", [0, 63, 65, 72])
def test_a_signature_of_another_length_is_refused(scheme, public, length):
    with pytest.raises(SignatureError, match="does not hold"):
        scheme.verify(public, b"message", bytes(length))


def digest_that_fits(r, s, public):
    """Return the one message digest under which the verifying equation holds for r and s."""
    total = curve.base_point() * (s % N) + curve.load_point(public) * ((r + s) % N)
    return number((r - int.from_bytes(curve.coordinates(total)[0])) % N)


@pytest.mark.parametrize(
    ("r", "s", "why"),
    [
        (0, 5, "r is zero"),
        (5, 0, "s is zero"),
        (5, N + 7, "s is lifted by the order, so one signature would have two spellings"),
        (N - 5, 5, "r + s is zero, so the public key has no part in it"),
        (12345 * (1 + int.from_bytes(PRIVATE)) % N, -12345 * int.from_bytes(PRIVATE) % N, "the sum is at infinity"),
    ],
)
def test_numbers_that_fit_the_equation_but_not_the_standard_are_refused(scheme, public, monkeypatch, r, s, why):
    monkeypatch.setattr(sm2, "_message_digest", lambda *_: digest_that_fits(r, s, public))
    with pytest.raises(SignatureError, match="does not hold"):
        scheme.verify(public, b"message", number(r) + number(s))


def test_the_digest_that_fits_does_fit(scheme, public, monkeypatch):
    # Without this, the refusals above could rest on a wrong equation.
    monkeypatch.setattr(sm2, "_message_digest", lambda *_: digest_that_fits(5, 7, public))
    scheme.verify(public, b"message", number(5) + number(7))


def off_curve(public):
    return flip(public, 64)


def wrong_points(public):
    x, y = public[1:33], public[33:]
    return {
        "off the curve": off_curve(public),
        "compressed": b"\x02" + x,
        "hybrid": b"\x06" + x + y,
        "without prefix": x + y,
        "too long": public + b"\x00",
        "infinity": b"\x04" + bytes(64),
        "x not below the modulus": b"\x04" + curve.P.to_bytes(32) + y,
        "y not below the modulus": b"\x04" + x + (2**256 - 1).to_bytes(32),
        "empty": b"",
    }


@pytest.mark.parametrize("form", list(wrong_points(bytes(65))))
def test_what_is_no_point_is_no_key(scheme, public, form):
    wrong = wrong_points(public)[form]
    with pytest.raises(KeyUnavailableError, match="a public key is not a point of the SM2 curve") as caught:
        scheme.check_public(wrong)
    assert caught.value.code == "vault.key_unavailable.malformed"
    with pytest.raises(KeyUnavailableError):
        scheme.encrypt(wrong, b"text")
    with pytest.raises(SignatureError, match="the signer's public key is not a point of the SM2 curve"):
        scheme.verify(wrong, b"message", number(5) + number(7))


def test_a_coordinate_is_not_reduced_to_another_spelling_of_the_same_point(scheme):
    # pycryptodome reduces coordinates on its own curves; here x + p would be a second spelling of a key.
    small = next(
        point
        for point in (candidate_point(x) for x in range(1, 400))
        if point is not None and point[0] + curve.P < 2**256
    )
    x, y = small
    scheme.check_public(b"\x04" + number(x) + number(y))
    with pytest.raises(KeyUnavailableError):
        scheme.check_public(b"\x04" + number(x + curve.P) + number(y))


def candidate_point(x):
    square = (x**3 + curve.A * x + curve.B) % curve.P
    root = pow(square, (curve.P + 1) // 4, curve.P)
    return (x, root) if root * root % curve.P == square else None


@pytest.mark.parametrize("wrong", [bytes(32), number(N - 1), number(N), b"\xff" * 32, PRIVATE[:-1], PRIVATE + b"\x00"])
def test_a_private_key_out_of_range_is_refused(scheme, public, wrong):
    for act in (
        lambda: scheme.public_of(wrong),
        lambda: scheme.sign(wrong, public, b"m"),
        lambda: scheme.decrypt(wrong, bytes(120)),
    ):
        with pytest.raises(KeyUnavailableError, match="a private key is not a number of the SM2 curve") as caught:
            act()
        assert caught.value.code == "vault.key_unavailable.malformed"


def test_the_largest_and_smallest_private_keys_work(scheme):
    for private in (number(1), number(N - 2)):
        public = scheme.public_of(private)
        scheme.verify(public, b"m", scheme.sign(private, public, b"m"))
        assert scheme.decrypt(private, scheme.encrypt(public, b"text")) == b"text"


@pytest.mark.parametrize("length", [1, 16, 31, 32, 33, 64, 1000])
def test_what_is_encrypted_decrypts(scheme, public, length):
    plaintext = bytes(range(256)) * 4
    sealed = scheme.encrypt(public, plaintext[:length])
    assert len(sealed) == 97 + length
    assert scheme.decrypt(PRIVATE, sealed) == plaintext[:length]


def test_every_flipped_byte_of_a_ciphertext_is_refused(scheme, public):
    sealed = scheme.encrypt(public, b"0123456789abcdef")
    for position in range(len(sealed)):
        with pytest.raises(SealBrokenError, match="sealed bytes do not open with this private key") as caught:
            scheme.decrypt(PRIVATE, flip(sealed, position))
        assert caught.value.code == "vault.seal_broken"


def test_a_ciphertext_cut_lengthened_or_for_another_key_is_refused(scheme, public):
    sealed = scheme.encrypt(public, b"0123456789abcdef")
    for wrong in (b"", sealed[:-1], sealed + b"\x00", sealed[:97], sealed[:65], sealed[:40]):
        with pytest.raises(SealBrokenError):
            scheme.decrypt(PRIVATE, wrong)
    with pytest.raises(SealBrokenError):
        scheme.decrypt(scheme.generate_private(), sealed)


def test_a_nonce_whose_mask_is_zero_is_drawn_again_and_its_ciphertext_refused(scheme, public, monkeypatch):
    point = curve.load_point(public)
    bad = next(
        nonce for nonce in range(1, 20_000) if sm2.unsafe_encrypt_with_nonce(point, b"x", Integer(nonce)) is None
    )
    shared = curve.coordinates(point * bad)
    first = curve.point_bytes(curve.base_point() * bad)
    unmasked = first + hash_bytes(shared[0] + b"x" + shared[1]) + b"x"
    with pytest.raises(SealBrokenError):
        scheme.decrypt(PRIVATE, unmasked)
    draws = iter([Integer(bad), Integer(777)])
    monkeypatch.setattr(curve, "random_scalar", lambda _largest: next(draws))
    sealed = scheme.encrypt(public, b"x")
    assert sealed[:65] == curve.point_bytes(curve.base_point() * 777)
    assert scheme.decrypt(PRIVATE, sealed) == b"x"


def test_an_empty_message_is_a_bug(scheme, public):
    with pytest.raises(AssertionError, match="SM2 does not encrypt an empty message"):
        scheme.encrypt(public, b"")


def test_nonces_never_repeat(scheme, public):
    signatures = [scheme.sign(PRIVATE, public, b"the same message") for _ in range(300)]
    assert len({value[:32] for value in signatures}) == 300
    points = {scheme.encrypt(public, b"the same message")[:65] for _ in range(100)}
    assert len(points) == 100


@pytest.mark.parametrize("law", ["r = 0", "r + k = n", "s = 0"])
def test_a_nonce_that_the_standard_excludes_gives_no_signature(law):
    d, k = int.from_bytes(PRIVATE), 424242
    x = int.from_bytes(curve.coordinates(curve.base_point() * k)[0])
    wanted_r = {"r = 0": 0, "r + k = n": N - k, "s = 0": k * pow(d, -1, N) % N}[law]
    digest = number((wanted_r - x) % N)
    assert sm2.unsafe_sign_with_nonce(Integer(d), digest, Integer(k)) is None
    assert sm2.unsafe_sign_with_nonce(Integer(d), digest, Integer(k + 1)) is not None


def test_signing_draws_again_after_a_nonce_that_will_not_do(scheme, public, monkeypatch):
    answers = iter([None, b"\x01" * 64])
    drawn = []
    monkeypatch.setattr(curve, "random_scalar", lambda largest: drawn.append(largest) or Integer(9))
    monkeypatch.setattr(sm2, "unsafe_sign_with_nonce", lambda *_: next(answers))
    assert scheme.sign(PRIVATE, public, b"m") == b"\x01" * 64
    assert drawn == [N - 1, N - 1]


def test_scalars_are_drawn_by_rejection(monkeypatch):
    draws = iter([bytes(32), number(N - 1), b"\xff" * 32, number(N - 2)])
    monkeypatch.setattr(curve, "random_bytes", lambda _n: next(draws))
    assert curve.scalar_bytes(curve.random_scalar(N - 2)) == number(N - 2)


def test_the_curve_is_the_standard_one():
    assert pow(curve.GY, 2, curve.P) == (curve.GX**3 + curve.A * curve.GX + curve.B) % curve.P
    minus_base = curve.base_point() * (N - 1)
    assert curve.coordinates(minus_base) == (number(curve.GX), number(curve.P - curve.GY))


def test_threads_share_the_curve_safely(scheme, public):
    def work(index):
        message = f"message {index}".encode()
        scheme.verify(public, message, scheme.sign(PRIVATE, public, message))
        return scheme.decrypt(PRIVATE, scheme.encrypt(public, message)) == message

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(120)))
