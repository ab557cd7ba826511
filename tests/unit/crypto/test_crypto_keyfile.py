"""Key files: the passphrase opens them, and nothing in them can be changed."""

import base64
import dataclasses
import importlib.util
import json

import pytest

from sandbox.crypto import keyfile
from sandbox.crypto.keyfile import lock_key, lock_secret, read_public, unlock_key, unlock_secret
from sandbox.crypto.keys import generate_key
from sandbox.crypto.known_answers import flip
from sandbox.errors import InputError, KeyUnavailableError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.digest import hash_bytes
from sandbox.model.keys import Role, SuiteName

PASSPHRASE = "corréct horse 电池"
KEYS = {name: generate_key(f"custodian-{name}", Role.CUSTODIAN, name) for name in SuiteName}


@pytest.fixture(scope="module", autouse=True)
def _own_cost():
    """Use the cost that the module itself sets, whatever a session's fixture made of it for speed."""
    spec = importlib.util.find_spec("sandbox.crypto.keyfile")
    untouched = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(untouched)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keyfile, "_COST_N", untouched._COST_N)
        yield


@pytest.fixture(scope="module", params=list(SuiteName))
def locked(request, _own_cost):
    key = KEYS[request.param]
    return key, lock_key(key, PASSPHRASE)


@pytest.fixture(scope="module")
def share():
    return lock_secret(b"a share of the master key", PASSPHRASE, "master share 1 of 5")


def refusal(raw, *, code="damaged", passphrase=PASSPHRASE):
    with pytest.raises(KeyUnavailableError) as caught:
        unlock_key(raw, passphrase)
    assert caught.value.code == f"vault.key_unavailable.{code}"
    return caught.value


def mended(raw, change):
    """Return the file with its record changed and the checksum made to agree again, as an attacker would."""
    record = parse_canonical(raw)
    sealed = bytearray(base64.b64decode(record.pop("sealed")))
    change(record, sealed)
    body = bytes(sealed[:-8])
    checksum = hash_bytes(canonical_bytes(record) + body)[:8]
    return canonical_bytes({**record, "sealed": base64.b64encode(body + checksum).decode()})


def test_the_passphrase_opens_the_key(locked):
    key, raw = locked
    assert unlock_key(raw, PASSPHRASE) == key
    assert read_public(raw) == key.public


def test_the_file_has_the_documented_form(locked):
    key, raw = locked
    record = json.loads(raw)
    assert canonical_bytes(record) == raw
    assert set(record) == {"v", "kind", "public", "kdf", "sealed"}
    assert (record["v"], record["kind"], record["public"]) == (1, "saggar.key", key.public.to_record())
    salt = record["kdf"].pop("salt")
    assert record["kdf"] == {"name": "scrypt", "n": 32768, "r": 8, "p": 1}
    assert len(base64.b64decode(salt)) == 16
    for secret in (key.signing, key.sealing):
        assert secret not in base64.b64decode(record["sealed"])


def test_a_wrong_passphrase_says_so(locked):
    _, raw = locked
    error = refusal(raw, code="wrong_passphrase", passphrase="correct horse")
    assert error.message == "the passphrase does not open this key file"
    assert error.hint == "type it again; if it is lost, restore the key from its custodian"


def test_a_passphrase_typed_with_combining_marks_is_the_same(locked):
    key, raw = locked
    assert unlock_key(raw, "corre\u0301ct horse 电池") == key


def test_locking_twice_gives_files_that_share_no_secret_bytes():
    first, second = (json.loads(lock_key(KEYS[SuiteName.GM], PASSPHRASE)) for _ in range(2))
    assert first["kdf"]["salt"] != second["kdf"]["salt"]
    assert first["sealed"][:16] != second["sealed"][:16]


def test_every_flipped_byte_of_a_key_file_is_refused(locked):
    _, raw = locked
    for position in range(len(raw)):
        for bit in (0x01, 0x10, 0x80):
            altered = raw[:position] + bytes([raw[position] ^ bit]) + raw[position + 1 :]
            refusal(altered)
            with pytest.raises(KeyUnavailableError):
                read_public(altered)


def test_every_truncation_and_an_extension_are_refused(locked):
    _, raw = locked
    for length in range(len(raw)):
        refusal(raw[:length])
    assert refusal(raw + b"\n").message == "the key file is damaged: it is not canonical JSON"
    assert refusal(raw + b" " * 2**20).message == "the key file is damaged: it is too large"


def test_decay_is_told_from_a_wrong_passphrase(locked):
    _, raw = locked
    record = json.loads(raw)
    sealed = base64.b64decode(record["sealed"])
    decayed = canonical_bytes({**record, "sealed": base64.b64encode(flip(sealed, 20)).decode()})
    error = refusal(decayed, passphrase="even with a wrong passphrase")
    assert error.message == "the key file is damaged: its checksum does not agree"


def test_a_swapped_public_part_is_refused_even_with_a_mended_checksum(locked):
    key, raw = locked
    attacker = generate_key(key.public.name, key.public.role, key.public.suite).public
    for public in (
        attacker,
        dataclasses.replace(key.public, sealing=attacker.sealing),
        dataclasses.replace(key.public, role=Role.AUDITOR),
        dataclasses.replace(key.public, name="someone-else"),
    ):
        altered = mended(raw, lambda record, _, public=public: record.update(public=public.to_record()))
        assert refusal(altered).message == "the key file is damaged: its parts do not belong together"


def test_an_altered_secret_part_is_refused_even_with_a_mended_checksum(locked):
    _, raw = locked

    def alter(position):
        return mended(raw, lambda _, sealed: sealed.__setitem__(position, sealed[position] ^ 1))

    for position in (0, 11, 12, 75, 76, 91):  # nonce, text, tag
        assert refusal(alter(position)).message == "the key file is damaged: its parts do not belong together"
    refusal(alter(92), code="wrong_passphrase")  # the check of the passphrase itself


def test_a_secret_part_of_the_wrong_length_or_of_another_key_is_refused(monkeypatch):
    key, other = KEYS[SuiteName.GM], generate_key("other", Role.CUSTODIAN, SuiteName.GM)
    short = lock_key(dataclasses.replace(key, sealing=b""), PASSPHRASE)
    assert refusal(short).message == "the key file is damaged: its secret part has the wrong length"
    foreign = lock_key(dataclasses.replace(key, signing=other.signing), PASSPHRASE)
    assert refusal(foreign).message == "a private key does not belong to its public record"


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**30}, {"n": 2**13}, {"n": 2**15 + 1}, {"n": 3 * 2**14}, {"n": True}, {"n": "32768"}, {"n": -1},
        {"n": 2**18, "r": 16}, {"r": 1}, {"r": 2**20}, {"p": 0}, {"p": True}, {"p": 100}, {"name": "pbkdf2"}, {"extra": 1},
    ],
)  # fmt: skip
def test_parameters_outside_sane_ranges_are_refused_before_any_work(locked, monkeypatch, change):
    _, raw = locked
    monkeypatch.setattr(keyfile.providers, "scrypt", lambda: pytest.fail("scrypt was called"))
    altered = mended(raw, lambda record, _: record["kdf"].update(change))
    message = refusal(altered).message
    unknown = {"name", "extra"} & set(change)
    expected = "its key derivation is unknown" if unknown else "its key derivation parameters are out of range"
    assert message == f"the key file is damaged: {expected}"


@pytest.mark.parametrize("salt", [b"", b"x" * 15, b"x" * 65])
def test_a_salt_of_a_wrong_length_is_refused(locked, salt):
    _, raw = locked
    altered = mended(raw, lambda record, _: record["kdf"].update(salt=base64.b64encode(salt).decode()))
    assert refusal(altered).message == "the key file is damaged: its salt has the wrong length"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"v": 2}, "it is not a `saggar.key` file of version 1"),
        ({"v": True}, "it is not a `saggar.key` file of version 1"),
        ({"kind": "saggar.secret"}, "it is not a `saggar.key` file of version 1"),
        ({"more": 1}, "it is not a `saggar.key` file"),
        ({"public": {}}, "its public part is malformed"),
        ({"kdf": None}, "its key derivation is unknown"),
    ],
)
def test_another_form_is_refused(locked, change, why):
    _, raw = locked
    assert refusal(mended(raw, lambda record, _: record.update(change))).message == f"the key file is damaged: {why}"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is not canonical JSON"),
        (b"[]", "it is not a `saggar.key` file"),
        (b"{}", "it is not a `saggar.key` file"),
        (b"\xff\xfe", "it is not canonical JSON"),
    ],
)
def test_what_is_no_key_file_is_refused(raw, why):
    assert refusal(raw).message == f"the key file is damaged: {why}"
    with pytest.raises(KeyUnavailableError, match="the key file is damaged"):
        read_public(raw)


def test_sealed_text_that_is_not_base64_or_too_short_is_refused(locked):
    _, raw = locked
    record = json.loads(raw)
    for sealed, why in (("?", "it holds text that is not base64"), ("AAAA", "its sealed part is too short")):
        message = refusal(canonical_bytes({**record, "sealed": sealed})).message
        assert message == f"the key file is damaged: {why}"


def test_an_empty_passphrase_is_refused_at_both_ends(locked):
    key, raw = locked
    for act in (lambda: lock_key(key, ""), lambda: unlock_key(raw, "")):
        with pytest.raises(InputError, match="the passphrase is empty") as caught:
            act()
        assert caught.value.code == "input.passphrase"
    with pytest.raises(InputError, match="the passphrase cannot be written in UTF-8"):
        unlock_key(raw, "\ud800")


def test_a_secret_opens_for_its_purpose_only(share):
    assert unlock_secret(share, PASSPHRASE, "master share 1 of 5") == b"a share of the master key"
    with pytest.raises(KeyUnavailableError) as caught:
        unlock_secret(share, PASSPHRASE, "master share 2 of 5")
    assert caught.value.code == "vault.key_unavailable.wrong_purpose"
    assert caught.value.message == "expected a secret for `master share 2 of 5`, got one for `master share 1 of 5`"
    with pytest.raises(KeyUnavailableError) as caught:
        unlock_secret(share, "another", "master share 1 of 5")
    assert caught.value.code == "vault.key_unavailable.wrong_passphrase"


def test_a_secret_relabelled_for_another_purpose_is_refused(share):
    altered = mended(share, lambda record, _: record.update(purpose="master share 2 of 5"))
    with pytest.raises(KeyUnavailableError, match="its parts do not belong together") as caught:
        unlock_secret(altered, PASSPHRASE, "master share 2 of 5")
    assert caught.value.code == "vault.key_unavailable.damaged"


def test_every_flipped_byte_of_a_secret_file_is_refused(share):
    for position in range(len(share)):
        with pytest.raises(KeyUnavailableError):
            unlock_secret(flip(share, position), PASSPHRASE, "master share 1 of 5")


def test_key_files_and_secret_files_are_not_taken_for_each_other(locked, share):
    _, raw = locked
    refusal(share)
    with pytest.raises(KeyUnavailableError, match=r"it is not a `saggar\.secret` file"):
        unlock_secret(raw, PASSPHRASE, "master share 1 of 5")


@pytest.mark.parametrize(("secret", "purpose"), [(b"", "purpose"), (b"secret", "")])
def test_a_secret_file_without_secret_or_purpose_is_a_bug(secret, purpose):
    with pytest.raises(AssertionError, match="a secret file needs a secret and a purpose"):
        lock_secret(secret, PASSPHRASE, purpose)
