"""Keys: fresh, paired, named, and never shown."""

import dataclasses

import pytest

from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.keys import check_pair, check_public_key, generate_key
from sandbox.crypto.signing import verify_signature
from sandbox.errors import InputError, KeyUnavailableError, SignatureError
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName

SUITES = list(SuiteName)


def test_random_bytes_have_the_length_asked_for_and_differ():
    assert random_bytes(0) == b""
    assert len(random_bytes(33)) == 33
    assert len({random_bytes(16) for _ in range(100)}) == 100


@pytest.mark.parametrize("suite", SUITES)
def test_a_fresh_key_is_well_formed_and_round_trips_as_a_record(suite):
    key = generate_key("城市-agency", Role.AGENCY, suite)
    length = {"gm": 65, "intl": 32}[suite]
    assert (len(key.public.signing), len(key.public.sealing)) == (length, length)
    assert (key.public.name, key.public.role, key.public.suite) == ("城市-agency", Role.AGENCY, suite)
    assert PublicKey.parse(key.public.to_record()) == key.public
    check_pair(key)
    check_public_key(key.public)


@pytest.mark.parametrize("suite", SUITES)
def test_no_two_keys_and_no_two_halves_are_alike(suite):
    keys = [generate_key("a", Role.OPERATOR, suite) for _ in range(5)]
    assert len({half for key in keys for half in (key.signing, key.sealing)}) == 10


@pytest.mark.parametrize("suite", SUITES)
def test_the_text_of_a_key_hides_its_secrets(suite):
    key = generate_key("a", Role.OPERATOR, suite)
    for text in (repr(key), str(key), f"{key}"):
        assert "PrivateKey(public=" in text
        for secret in (key.signing, key.sealing):
            assert repr(secret) not in text
            assert secret.hex() not in text


@pytest.mark.parametrize("name", ["", " ", "two words", "plus+plus", "tab\t", "wide\u3000space", "line\n", "x" * 129])
def test_a_name_that_cannot_stand_in_a_note_is_refused(name):
    with pytest.raises(InputError, match="cannot name a key") as caught:
        generate_key(name, Role.OPERATOR, SuiteName.GM)
    assert caught.value.code == "input.key_name"


@pytest.mark.parametrize("suite", SUITES)
def test_a_private_key_under_anothers_record_is_refused(suite):
    mine, yours = (generate_key(name, Role.OPERATOR, suite) for name in ("mine", "yours"))
    with pytest.raises(KeyUnavailableError, match="a private key does not belong to its public record") as caught:
        check_pair(dataclasses.replace(mine, public=yours.public))
    assert caught.value.code == "vault.key_unavailable.damaged"
    half = dataclasses.replace(mine.public, sealing=yours.public.sealing)
    with pytest.raises(KeyUnavailableError):
        check_pair(dataclasses.replace(mine, public=half))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("half", ["signing", "sealing"])
def test_a_public_record_without_keys_of_its_suite_is_refused(suite, half):
    key = generate_key("a", Role.OPERATOR, suite).public
    other = generate_key("a", Role.OPERATOR, SuiteName.INTL if suite is SuiteName.GM else SuiteName.GM).public
    for wrong in (b"", getattr(key, half)[:-1], getattr(other, half)):
        with pytest.raises(KeyUnavailableError) as caught:
            check_public_key(dataclasses.replace(key, **{half: wrong}))
        assert caught.value.code == "vault.key_unavailable.malformed"


def test_a_sealing_key_of_small_order_is_refused():
    key = generate_key("a", Role.OPERATOR, SuiteName.INTL).public
    for point in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(KeyUnavailableError, match="a key is not one of the international suite"):
            check_public_key(dataclasses.replace(key, sealing=point))


@pytest.mark.parametrize(
    "point",
    [
        "01" + "00" * 31,  # the identity: one signature would hold for every message
        "ec" + "ff" * 30 + "7f",  # order 2
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # order 8
        "15deb30729eb3e465c88f11b57d0c8d36eb0f670c3b22d2f80ea6049eeb2c23b",  # prime order and a torsion part
        "ee" + "ff" * 30 + "7f",  # the identity, spelled with a coordinate beyond the modulus
    ],
)
def test_a_signing_key_outside_the_prime_order_group_is_refused(point):
    key = generate_key("a", Role.OPERATOR, SuiteName.INTL).public
    wrong = dataclasses.replace(key, signing=bytes.fromhex(point))
    with pytest.raises(KeyUnavailableError, match="a key is not one of the international suite"):
        check_public_key(wrong)
    forged = Signature(wrong.key_id, bytes.fromhex("58" + "66" * 31 + "01" + "00" * 31))
    with pytest.raises(SignatureError, match="the signature by `a` does not hold"):
        verify_signature(wrong, "saggar.test.v1", b"any message", forged)
