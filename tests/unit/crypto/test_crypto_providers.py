"""Choosing providers: one wrong answer and a provider is out; none left and the primitive is closed."""

import dataclasses

import pytest
from Crypto.Math._IntegerNative import IntegerNative

from sandbox.crypto import curve, known_answers, providers, sm2
from sandbox.crypto.aead import OpensslAesGcm, OpensslSm4Gcm, PycryptodomeAesGcm
from sandbox.crypto.curve25519 import Ed25519, HpkeX25519
from sandbox.crypto.hashing import OpensslHashes
from sandbox.crypto.providers import Candidate, Choice, ProviderReport, choose
from sandbox.crypto.selftest import provider_reports
from sandbox.crypto.sm2 import Sm2
from sandbox.crypto.suites import suite
from sandbox.errors import KeyUnavailableError, VaultError
from sandbox.model.keys import SuiteName


class ForgetsTheTag(OpensslSm4Gcm):
    """Seals rightly, but opens whatever it is given."""

    def unseal(self, key, nonce, sealed, aad):
        return self.seal(key, nonce, sealed[:-16], aad)[:-16]


class IgnoresTheContext(OpensslSm4Gcm):
    def seal(self, key, nonce, plaintext, aad):
        return super().seal(key, nonce, plaintext, b"")


class SealsWrongly(OpensslSm4Gcm):
    def seal(self, key, nonce, plaintext, aad):
        return known_answers.flip(super().seal(key, nonce, plaintext, aad), 0)


def absent():
    raise OSError("cannot open shared object file")


def candidate(name, start=OpensslSm4Gcm):
    return Candidate(name, start, known_answers.check_aead)


def test_the_first_that_holds_serves_and_the_next_stands_by():
    choice = choose("SM4-GCM", (candidate("one"), candidate("two")))
    assert choice.reports == (
        ProviderReport("SM4-GCM", "one", held=True, detail="serves"),
        ProviderReport("SM4-GCM", "two", held=True, detail="stands by"),
    )
    assert choice.require() is choice.chosen


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        (absent, "failed with OSError"),
        (ForgetsTheTag, "altered bytes were accepted"),
        (IgnoresTheContext, "an answer differs from the published vector"),
        (SealsWrongly, "an answer differs from the published vector"),
    ],
)
def test_a_provider_that_fails_is_passed_over_and_the_report_says_so(wrong, detail):
    choice = choose("SM4-GCM", (candidate("broken", wrong), candidate("good")))
    assert type(choice.require()) is OpensslSm4Gcm
    assert choice.reports == (
        ProviderReport("SM4-GCM", "broken", held=False, detail=detail),
        ProviderReport("SM4-GCM", "good", held=True, detail="serves"),
    )


def test_when_none_is_left_use_is_refused():
    for candidates in ((), (candidate("broken", absent), candidate("lax", ForgetsTheTag))):
        choice = choose("SM4-GCM", candidates)
        assert choice.chosen is None
        with pytest.raises(KeyUnavailableError, match="no provider of SM4-GCM passed its self-test") as caught:
            choice.require()
        assert caught.value.code == "vault.key_unavailable.no_provider"
    assert caught.value.details["reasons"] == "broken: failed with OSError; lax: altered bytes were accepted"


def test_a_suite_without_a_provider_is_closed(monkeypatch):
    monkeypatch.setattr(providers, "sm4_gcm", lambda: Choice("SM4-GCM", None, ()))
    with pytest.raises(KeyUnavailableError, match="no provider of SM4-GCM passed"):
        suite.__wrapped__(SuiteName.GM)


def test_a_suite_runs_on_its_second_provider(monkeypatch):
    usual = suite(SuiteName.GM)
    second = choose("SM4-GCM", (candidate("broken", absent), candidate("cryptography")))
    monkeypatch.setattr(providers, "sm4_gcm", lambda: second)
    fallen_back = suite.__wrapped__(SuiteName.GM)
    sealed = fallen_back.seal(b"k" * 16, b"n" * 12, b"text", b"aad")
    assert usual.unseal(b"k" * 16, b"n" * 12, sealed, b"aad") == b"text"


class WrongCurvePoint(Sm2):
    def public_of(self, private):
        return super().public_of((int.from_bytes(private) + 1).to_bytes(32))


class AcceptsAll(Sm2):
    def verify(self, *_):
        return None


class DecryptsUnchecked(Sm2):
    def decrypt(self, private, sealed):
        x, y = curve.coordinates(curve.load_point(sealed[:65]) * curve.load_scalar(private))
        return sm2._xor(sealed[97:], sm2._derive_mask(x + y, len(sealed) - 97))


@pytest.mark.parametrize("wrong", [WrongCurvePoint, AcceptsAll, DecryptsUnchecked])
def test_an_sm2_that_errs_is_closed(wrong):
    choice = choose("SM2", (Candidate("pycryptodome", wrong, known_answers.check_sm2),))
    assert not choice.reports[0].held
    with pytest.raises(KeyUnavailableError, match="no provider of SM2 passed its self-test"):
        choice.require()


def test_sm2_is_closed_on_integers_that_are_not_constant_time(monkeypatch):
    monkeypatch.setattr(sm2, "Integer", IntegerNative)
    (report,) = choose("SM2", (Candidate("pycryptodome", Sm2, known_answers.check_sm2),)).reports
    assert (report.held, report.detail) == (False, "pycryptodome lacks its constant-time integers")


def test_a_curve_constant_gone_wrong_closes_sm2(monkeypatch):
    monkeypatch.setattr(sm2, "_CURVE_CONSTANTS", bytes(128))
    assert not choose("SM2", (Candidate("pycryptodome", Sm2, known_answers.check_sm2),)).reports[0].held


def lies_about(cls, method, answer):
    return type("Lies", (cls,), {method: lambda self, *_: answer})


@pytest.mark.parametrize(
    ("provider", "check"),
    [
        (lies_about(Ed25519, "public_of", bytes(32))(), known_answers.check_ed25519),
        (lies_about(Ed25519, "sign", bytes(64))(), known_answers.check_ed25519),
        (lies_about(Ed25519, "verify", None)(), known_answers.check_ed25519),
        (lies_about(HpkeX25519, "public_of", bytes(32))(), known_answers.check_hpke),
        (lies_about(HpkeX25519, "decrypt", b"Beauty is truth, truth beauty")(), known_answers.check_hpke),
        (lies_about(OpensslHashes, "hash", bytes(32))("sm3"), lambda p: known_answers.check_hash_family("sm3", p)),
        (lies_about(OpensslHashes, "mac", bytes(32))("sm3"), lambda p: known_answers.check_hash_family("sm3", p)),
        (lies_about(OpensslHashes, "expand", bytes(42))("sm3"), lambda p: known_answers.check_hash_family("sm3", p)),
        (
            lies_about(OpensslHashes, "expand", bytes(42))("sha256"),
            lambda p: known_answers.check_hash_family("sha256", p),
        ),
        (OpensslHashes("sha256"), lambda p: known_answers.check_hash_family("sm3", p)),
        (lambda *_: bytes(64), known_answers.check_scrypt),
        (lambda *_: bytes(16), known_answers.check_sm4_block),
        (lies_about(PycryptodomeAesGcm, "seal", bytes(76))(), known_answers.check_aead),
        (lies_about(OpensslAesGcm, "unseal", bytes(60))(), known_answers.check_aead),
    ],
)
def test_every_check_catches_a_wrong_answer(provider, check):
    with pytest.raises(VaultError) as caught:
        check(provider)
    assert caught.value.code == "vault.self_test"


def test_the_reports_name_every_primitive_and_all_but_libgcrypt_hold_everywhere():
    reports = provider_reports()
    assert all(dataclasses.is_dataclass(report) for report in reports)
    pairs = {(report.primitive, report.provider): report for report in reports}
    assert set(pairs) == {
        ("SM3", "libgcrypt"), ("SM3", "cryptography"), ("SM3", "hashlib"), ("SHA-256", "cryptography"), ("SHA-256", "hashlib"),
        ("SM4", "cryptography"), ("SM4-GCM", "libgcrypt"), ("SM4-GCM", "cryptography"),
        ("AES-256-GCM", "pycryptodome"), ("AES-256-GCM", "cryptography"), ("SM2", "pycryptodome"),
        ("Ed25519", "cryptography"), ("HPKE-X25519", "cryptography"), ("scrypt", "cryptography"),
    }  # fmt: skip
    optional = {("SM4-GCM", "libgcrypt"), ("SM3", "libgcrypt"), ("SM3", "hashlib")}
    assert not [pair for pair, report in pairs.items() if not report.held and pair not in optional]
    serving = [report.primitive for report in reports if report.detail == "serves"]
    assert len(serving) == len(set(serving)) == 9
    assert pairs["AES-256-GCM", "cryptography"].detail == "serves"
    assert pairs["AES-256-GCM", "pycryptodome"].detail == "stands by"
