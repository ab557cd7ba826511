"""Signatures: bound to the holder, the suite, the context and the message."""

import dataclasses

import pytest

from sandbox.crypto.keys import generate_key
from sandbox.crypto.known_answers import flip
from sandbox.crypto.signing import framed_message, sign, verify_signature
from sandbox.errors import KeyUnavailableError, SignatureError
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName

SUITES = list(SuiteName)


@pytest.fixture(scope="module", params=SUITES)
def key(request):
    return generate_key("operator-1", Role.OPERATOR, request.param)


def refusal(key, context, message, signature):
    with pytest.raises(SignatureError) as caught:
        verify_signature(key, context, message, signature)
    assert caught.value.code == "policy.signature"
    return caught.value


def test_a_signature_verifies_and_survives_its_record(key):
    for message in (b"", b"message", "消息".encode() * 1000):
        signature = sign(key, "saggar.test.v1", message)
        assert len(signature.value) == 64
        assert signature.key_id == key.public.key_id
        verify_signature(key.public, "saggar.test.v1", message, Signature.parse(signature.to_record()))


def test_another_message_or_context_is_refused(key):
    signature = sign(key, "saggar.test.v1", b"message")
    for context, message in (
        ("saggar.test.v1", b"massage"),
        ("saggar.test.v2", b"message"),
        ("saggar.test.v1m", b"essage"),
        ("saggar.test.v", b"1message"),
        ("saggar.test.v1", b""),
    ):
        error = refusal(key.public, context, message, signature)
        assert error.message == "the signature by `operator-1` does not hold"
        assert error.details["reason"] == "does_not_hold"


def test_every_flipped_byte_is_refused(key):
    signature = sign(key, "saggar.test.v1", b"message")
    for position in range(64):
        refusal(key.public, "saggar.test.v1", b"message", Signature(signature.key_id, flip(signature.value, position)))


def test_another_keys_signature_is_refused_by_its_id_and_by_its_value(key):
    other = generate_key("operator-2", Role.OPERATOR, key.public.suite)
    signature = sign(other, "saggar.test.v1", b"message")
    error = refusal(key.public, "saggar.test.v1", b"message", signature)
    assert error.message == f"expected a signature by `operator-1`, got one by key `{other.public.key_id}`"
    assert error.details["reason"] == "wrong_key"
    assert (error.details["expected"], error.details["found"]) == (key.public.key_id, other.public.key_id)
    relabelled = Signature(key.public.key_id, signature.value)
    assert refusal(key.public, "saggar.test.v1", b"message", relabelled).details["reason"] == "does_not_hold"


def test_a_signature_of_the_other_suite_is_refused(key):
    other_suite = SuiteName.INTL if key.public.suite is SuiteName.GM else SuiteName.GM
    other = generate_key("operator-1", Role.OPERATOR, other_suite)
    value = sign(other, "saggar.test.v1", b"message").value
    error = refusal(key.public, "saggar.test.v1", b"message", Signature(key.public.key_id, value))
    assert error.details["reason"] == "does_not_hold"


@pytest.mark.parametrize("length", [0, 63, 65, 72])
def test_a_value_of_another_length_is_refused(key, length):
    error = refusal(key.public, "saggar.test.v1", b"message", Signature(key.public.key_id, bytes(length)))
    assert error.message == f"expected a signature of 64 bytes, got {length}"
    assert error.details["reason"] == "malformed"


def test_the_same_key_under_another_name_or_role_is_another_signer(key):
    # Otherwise an operator's signature could be passed off as an auditor's by relabelling the key.
    signature = sign(key, "saggar.test.v1", b"message")
    for change in ({"name": "operator-2"}, {"role": Role.AUDITOR}):
        relabelled = dataclasses.replace(key.public, **change)
        refusal(relabelled, "saggar.test.v1", b"message", signature)
        refusal(relabelled, "saggar.test.v1", b"message", Signature(relabelled.key_id, signature.value))


def test_a_malformed_public_key_is_a_refusal_and_not_a_crash(key):
    for wrong in (b"", key.public.signing[:-1], flip(key.public.signing, len(key.public.signing) - 1)):
        public = dataclasses.replace(key.public, signing=wrong)
        refusal(public, "saggar.test.v1", b"message", Signature(public.key_id, bytes([1]) * 64))


def test_a_malformed_private_key_does_not_sign(key):
    with pytest.raises(KeyUnavailableError):
        sign(dataclasses.replace(key, signing=b"short"), "saggar.test.v1", b"message")


def test_signing_without_a_context_is_a_bug(key):
    with pytest.raises(AssertionError, match="a signature needs a context"):
        sign(key, "", b"message")


def test_the_bytes_under_a_signature_are_as_documented():
    public = PublicKey("a", Role.OPERATOR, SuiteName.INTL, b"s" * 32, b"e" * 32)
    expected = (
        b"saggar.signature.v1\x00"
        b"\x00\x00\x00\x04intl"
        b"\x00\x00\x00\x20" + public.key_id.encode() + b"\x00\x00\x00\x06\xe6\xb5\x8b\xe8\xaf\x95"
        b"message"
    )
    assert framed_message(public, "测试", b"message") == expected


def test_ed25519_signs_the_same_twice_and_sm2_never():
    signatures = {
        suite: {sign(key, "saggar.test.v1", b"message").value for _ in range(20)}
        for suite in SUITES
        for key in [generate_key("a", Role.OPERATOR, suite)]
    }
    assert len(signatures[SuiteName.INTL]) == 1
    assert len(signatures[SuiteName.GM]) == 20
