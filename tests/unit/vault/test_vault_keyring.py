"""The key hierarchy: what opens what, and what no longer does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sandbox.crypto.suites import suite
from sandbox.errors import KeyUnavailableError, SealBrokenError, StorageError
from sandbox.model.keys import SuiteName
from sandbox.vault.keyring import Keyring, derive_snapshot_key, half_name
from sandbox.vault.unit_keys import ensure_unit_keys, forget_unit_keys, unit_keys, unit_kinds, unit_name
from sandbox.vault.wrapping import WrappedKey, unwrap_secret, wrap_secret

PASSPHRASE = "open sesame"
SNAPSHOT, OTHER = "a1" * 16, "b2" * 16


@pytest.fixture
def keyring(tmp_path: Path, suite_name: SuiteName) -> Keyring:
    return Keyring.create(tmp_path / "keys", passphrase=PASSPHRASE, suite=suite_name)


def test_a_reopened_keyring_has_the_same_keys(keyring: Keyring, tmp_path: Path, suite_name: SuiteName) -> None:
    made = keyring.ensure_dataset("hospital")
    key = keyring.create_snapshot_key("hospital", SNAPSHOT, "health", suite_name)
    again = Keyring.open(tmp_path / "keys", passphrase=PASSPHRASE)
    assert again.dataset("hospital") == made
    assert again.snapshot_key("hospital", SNAPSHOT, "health", suite_name) == key
    assert again.ensure_dataset("hospital") == made


def test_each_dataset_has_keys_of_its_own(keyring: Keyring) -> None:
    one, two = keyring.ensure_dataset("hospital"), keyring.ensure_dataset("医院")
    assert one.wrapping != two.wrapping


def test_each_kind_of_unit_has_keys_of_its_own_that_stay(keyring: Keyring, tmp_path: Path) -> None:
    one, two = ensure_unit_keys(keyring, "patient"), ensure_unit_keys(keyring, "enterprise")
    assert len({one.tokens, one.partition, two.tokens, two.partition}) == 4
    assert ensure_unit_keys(Keyring.open(tmp_path / "keys", passphrase=PASSPHRASE), "patient") == one
    assert unit_kinds(keyring) == ("enterprise", "patient")
    forget_unit_keys(keyring, "patient")
    forget_unit_keys(keyring, "patient")
    with pytest.raises(KeyUnavailableError, match="no keys for units of the kind `patient`") as caught:
        unit_keys(keyring, "patient")
    assert caught.value.code == "vault.key_unavailable.unit_kind"
    assert unit_keys(keyring, "enterprise") == two


def test_the_keys_of_another_kind_do_not_open(keyring: Keyring, tmp_path: Path) -> None:
    for kind in ("patient", "enterprise"):
        ensure_unit_keys(keyring, kind)
    one, two = (tmp_path / "keys" / unit_name(kind) for kind in ("patient", "enterprise"))
    one.write_bytes(two.read_bytes())
    with pytest.raises(SealBrokenError, match="does not open under its parent"):
        unit_keys(keyring, "patient")
    one.write_bytes(b'{"partition":{},"tokens":{},"unit_kind":"patient","v":2}')
    with pytest.raises(SealBrokenError, match=f"the key file `keys/units/{one.name}` is damaged"):
        unit_keys(keyring, "patient")


def test_a_dataset_whose_tokens_have_a_key_of_their_own_is_refused_and_never_appended_to(
    keyring: Keyring, tmp_path: Path
) -> None:
    keyring.ensure_dataset("hospital")
    (path,) = (tmp_path / "keys" / "datasets").iterdir()
    path.write_bytes(b'{"dataset":"hospital","keys":{},"v":2}')
    with pytest.raises(KeyUnavailableError, match="a token key for each dataset") as caught:
        keyring.ensure_dataset("hospital")
    assert caught.value.code == "vault.key_unavailable.version"


def test_a_wrong_passphrase_opens_nothing(keyring: Keyring, tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="the passphrase does not open this key file") as caught:
        Keyring.open(tmp_path / "keys", passphrase="open barley")
    assert caught.value.code == "vault.key_unavailable.wrong_passphrase"


def test_a_directory_without_a_keyring_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="there is no keyring here") as caught:
        Keyring.open(tmp_path, passphrase=PASSPHRASE)
    assert caught.value.code == "vault.key_unavailable.master"


def test_a_keyring_is_never_overwritten(keyring: Keyring, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is a keyring here already") as caught:
        Keyring.create(tmp_path / "keys", passphrase=PASSPHRASE, suite=SuiteName.GM)
    assert caught.value.code == "vault.storage.exists"


def test_a_dataset_without_keys_is_named(keyring: Keyring) -> None:
    with pytest.raises(KeyUnavailableError, match="there are no keys for the dataset `hospital`") as caught:
        keyring.dataset("hospital")
    assert caught.value.code == "vault.key_unavailable.dataset"


def test_a_missing_owner_half_names_the_owner(keyring: Keyring) -> None:
    keyring.create_snapshot_key("hospital", SNAPSHOT, "health-commission", SuiteName.GM)
    keyring.shred(SNAPSHOT, "owner")
    with pytest.raises(KeyUnavailableError, match="that the owner `health-commission` keeps is missing") as caught:
        keyring.snapshot_key("hospital", SNAPSHOT, "health-commission", SuiteName.GM)
    assert caught.value.code == "vault.key_unavailable.owner_half"
    assert caught.value.details == {"dataset": "hospital", "snapshot": SNAPSHOT, "owner": "health-commission"}
    assert keyring.snapshots("platform") == (SNAPSHOT,)
    assert keyring.snapshots("owner") == ()


def test_a_missing_platform_half_names_the_platform(keyring: Keyring) -> None:
    keyring.create_snapshot_key("hospital", SNAPSHOT, "health-commission", SuiteName.GM)
    keyring.shred(SNAPSHOT, "platform")
    with pytest.raises(KeyUnavailableError, match="that the platform keeps is missing") as caught:
        keyring.snapshot_key("hospital", SNAPSHOT, "health-commission", SuiteName.GM)
    assert caught.value.code == "vault.key_unavailable.platform_half"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (half_name("platform", OTHER), half_name("platform", SNAPSHOT)),
        (half_name("platform", SNAPSHOT), half_name("owner", SNAPSHOT)),
        (half_name("owner", OTHER), half_name("owner", SNAPSHOT)),
    ],
)
def test_a_half_that_was_moved_does_not_open(keyring: Keyring, tmp_path: Path, source: str, target: str) -> None:
    for snapshot in (SNAPSHOT, OTHER):
        keyring.create_snapshot_key("hospital", snapshot, "health", SuiteName.GM)
    (tmp_path / "keys" / target).write_bytes((tmp_path / "keys" / source).read_bytes())
    with pytest.raises(SealBrokenError, match="does not open under its parent") as caught:
        keyring.snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
    assert caught.value.code == "vault.seal_broken.key"
    assert caught.value.details["object"] == f"keys/{target}"


def test_a_half_is_bound_to_its_owner(keyring: Keyring) -> None:
    keyring.create_snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
    with pytest.raises(SealBrokenError, match="does not open under its parent"):
        keyring.snapshot_key("hospital", SNAPSHOT, "transport", SuiteName.GM)


def test_the_keys_of_another_dataset_do_not_open(keyring: Keyring, tmp_path: Path) -> None:
    for name in ("hospital", "transport"):
        keyring.ensure_dataset(name)
    one, two = sorted((tmp_path / "keys" / "datasets").iterdir())
    one.write_bytes(two.read_bytes())
    errors = {}
    for name in ("hospital", "transport"):
        with suppress_seal_broken(errors, name):
            keyring.dataset(name)
    assert list(errors.values()) == ["vault.seal_broken.key"]


@contextmanager
def suppress_seal_broken(errors: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except SealBrokenError as error:
        errors[name] = error.code


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"dataset":"hospital","keys":{},"v":1}', b'{"v":1}'])
def test_a_damaged_key_file_is_named(keyring: Keyring, tmp_path: Path, damage: bytes) -> None:
    keyring.create_snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
    (path,) = (tmp_path / "keys" / "datasets").iterdir()
    intact = path.read_bytes()
    path.write_bytes(damage)
    with pytest.raises(SealBrokenError, match=f"the key file `keys/datasets/{path.name}` is damaged") as caught:
        keyring.dataset("hospital")
    assert caught.value.details["object"] == f"keys/datasets/{path.name}"
    path.write_bytes(intact)
    half = tmp_path / "keys" / half_name("owner", SNAPSHOT)
    half.write_bytes(b'{"key":{"id":"x"},"v":1}')
    with pytest.raises(SealBrokenError, match=f"the key file `keys/owner/{SNAPSHOT}` is damaged"):
        keyring.snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)


def test_every_flipped_byte_of_a_half_is_noticed(keyring: Keyring, tmp_path: Path) -> None:
    keyring.create_snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
    path = tmp_path / "keys" / half_name("owner", SNAPSHOT)
    intact = path.read_bytes()
    for place in range(0, len(intact), 7):
        changed = bytearray(intact)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(SealBrokenError) as caught:
            keyring.snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
        assert caught.value.code == "vault.seal_broken.key"


def test_both_halves_enter_the_snapshot_key(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    key = derive_snapshot_key(chosen, SNAPSHOT, b"p" * 32, b"o" * 32)
    others = [
        derive_snapshot_key(chosen, SNAPSHOT, b"q" * 32, b"o" * 32),
        derive_snapshot_key(chosen, SNAPSHOT, b"p" * 32, b"q" * 32),
        derive_snapshot_key(chosen, OTHER, b"p" * 32, b"o" * 32),
    ]
    secrets = [secret for each in (key, *others) for secret in (each.objects, each.facts)]
    assert len(set(secrets)) == 8
    assert all(len(secret) == chosen.key_bytes for secret in secrets)


def test_the_snapshot_key_is_plain_hkdf(suite_name: SuiteName) -> None:
    chosen = suite(suite_name)
    key = derive_snapshot_key(chosen, SNAPSHOT, b"p" * 32, b"o" * 32)
    algorithm = hashes.SM3() if suite_name is SuiteName.GM else hashes.SHA256()
    for purpose, secret in ((b"objects", key.objects), (b"facts", key.facts)):
        info = purpose + b"\x00" + SNAPSHOT.encode()
        hkdf = HKDF(algorithm, chosen.key_bytes, b"saggar/snapshot-key/1", info)
        assert hkdf.derive(b"p" * 32 + b"o" * 32) == secret


def test_no_key_shows_itself(keyring: Keyring) -> None:
    keys = keyring.ensure_dataset("hospital")
    key = keyring.create_snapshot_key("hospital", SNAPSHOT, "health", SuiteName.GM)
    shown = repr(keys) + repr(key) + repr(keyring)
    units = ensure_unit_keys(keyring, "patient")
    shown += repr(units)
    assert "tokens" not in shown
    for secret in (keys.wrapping, units.tokens, units.partition, key.objects, key.facts):
        assert repr(secret) not in shown


@pytest.mark.parametrize(
    "changes",
    [{"purpose": "tokens/b"}, {"parent": OTHER}, {"version": 2}, {"key_id": OTHER}, {"sealed": b"short"}],
)
def test_a_wrapped_key_is_bound_to_all_its_words(suite_name: SuiteName, changes: dict[str, object]) -> None:
    chosen = suite(suite_name)
    under = bytes(chosen.key_bytes)
    wrapped = wrap_secret(chosen, under, b"secret", key_id=SNAPSHOT, purpose="tokens/a", parent="p")
    assert unwrap_secret(chosen, under, wrapped, purpose="tokens/a", parent="p", name="keys/x") == b"secret"
    fields = {**{name: getattr(wrapped, name) for name in WrappedKey.__dataclass_fields__}, **changes}
    moved = WrappedKey(**fields)
    with pytest.raises(SealBrokenError, match="the key in `keys/x` does not open under its parent") as caught:
        unwrap_secret(chosen, under, moved, purpose=moved.purpose, parent=moved.parent, name="keys/x")
    assert caught.value.code == "vault.seal_broken.key"


def test_a_wrapped_key_round_trips_as_a_record() -> None:
    wrapped = WrappedKey(SNAPSHOT, 3, "tokens/医院", OTHER, b"\x00\xff")
    assert WrappedKey.parse(wrapped.to_record()) == wrapped


@pytest.mark.parametrize(
    "change", [{"version": "1"}, {"version": 0}, {"id": 3}, {"purpose": None}, {"more": 1}, {"parent": None}]
)
def test_a_malformed_wrapped_key_is_refused(change: dict[str, object]) -> None:
    record = {**WrappedKey(SNAPSHOT, 1, "tokens/a", OTHER, b"x").to_record(), **change}
    with pytest.raises(SealBrokenError, match="a wrapped key is malformed"):
        WrappedKey.parse(record)
