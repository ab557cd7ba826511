"""Who may declare a share lost, and what of a declaration is noticed."""

from dataclasses import replace

import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.errors import InputError, VaultError
from sandbox.model.keys import Role, SuiteName
from sandbox.vault.lost import LostShare, check_lost, declare_lost, find_share

AT = "2027-01-31T08:00:00Z"
PEOPLE = {name: generate_key(name, Role.CUSTODIAN, SuiteName.GM) for name in ("an", "bo", "chen", "dai", "ma")}
CEREMONY = {
    "ceremony": "ab" * 16,
    "threshold": 3,
    "custodians": [
        {"index": number, "name": name, "key": PEOPLE[name].public.key_id}
        for number, name in enumerate(("an", "bo", "chen", "dai"), start=1)
    ],
}
KEYS = {key.public.key_id: key.public for key in PEOPLE.values()}


def signers(*names: str) -> list[PrivateKey]:
    return [PEOPLE[name] for name in names]


@pytest.mark.parametrize("names", [("an",), ("an", "bo"), ("bo", "chen", "dai"), ("an", "bo", "chen", "dai")])
def test_the_holder_or_as_many_as_bring_the_key_back_suffice(names: tuple[str, ...]) -> None:
    lost = declare_lost(CEREMONY, "an", signers(*names), at=AT)
    check_lost(LostShare.parse(lost_bytes(lost), name="an.lost"), CEREMONY, KEYS)


@pytest.mark.parametrize("names", [(), ("bo",), ("bo", "chen"), ("bo", "chen", "ma"), ("bo", "bo", "chen")])
def test_fewer_others_and_strangers_do_not(names: tuple[str, ...]) -> None:
    with pytest.raises(VaultError, match="say that the share of `an` is lost, and 3 are needed") as caught:
        declare_lost(CEREMONY, "an", signers(*names), at=AT)
    assert caught.value.code == "vault.custody.lost"
    enough = declare_lost(CEREMONY, "an", signers("bo", "chen", "dai"), at=AT)
    with pytest.raises(VaultError, match="is lost, and 3 are needed"):
        check_lost(replace(enough, signatures=enough.signatures[:2]), CEREMONY, KEYS)
    with pytest.raises(VaultError, match="is lost, and 3 are needed"):
        check_lost(replace(enough, signatures=enough.signatures[:2] * 2), CEREMONY, KEYS)


def test_a_declaration_of_another_share_or_by_an_unregistered_key_does_not_hold() -> None:
    lost = declare_lost(CEREMONY, "an", signers("an"), at=AT)
    for changed in (
        replace(lost, index=2),
        replace(lost, ceremony="cd" * 16),
        replace(lost, at="2027-01-31T08:00:01Z"),
    ):
        with pytest.raises(VaultError, match="the share of `an` is lost does not hold") as caught:
            check_lost(changed, CEREMONY, KEYS)
        assert caught.value.code == "vault.custody.lost"
    with pytest.raises(VaultError, match="does not hold"):
        check_lost(lost, CEREMONY, {})


def test_every_altered_byte_of_a_declaration_is_refused() -> None:
    raw = lost_bytes(declare_lost(CEREMONY, "an", signers("bo", "chen", "dai"), at=AT))
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(VaultError) as caught:
            check_lost(LostShare.parse(bytes(changed), name="an.lost"), CEREMONY, KEYS)
        assert caught.value.code == "vault.custody.lost"


def test_what_is_no_declaration_is_named_by_its_file() -> None:
    for raw in (b"", b"{}", b"[]", b'{"lost":1,"signatures":[]}', b"\xff"):
        with pytest.raises(VaultError, match="`an.lost` is damaged or no declaration of a lost share"):
            LostShare.parse(raw, name="an.lost")


def test_a_share_is_found_by_its_holder_and_ceremony() -> None:
    other = {**CEREMONY, "ceremony": "cd" * 16}
    assert find_share([CEREMONY], "an", None) is CEREMONY
    assert find_share([CEREMONY, other], "an", "cd" * 8) is other
    with pytest.raises(InputError, match="`an` holds 2 shares of such a ceremony") as caught:
        find_share([CEREMONY, other], "an", None)
    assert caught.value.code == "input.custody"
    assert "abababababab, cdcdcdcdcdcd" in caught.value.hint
    with pytest.raises(InputError, match="`ma` holds no share of such a ceremony"):
        find_share([CEREMONY], "ma", None)


def lost_bytes(lost: LostShare) -> bytes:
    from sandbox.model.canonical import canonical_bytes

    return canonical_bytes(lost.to_record())
