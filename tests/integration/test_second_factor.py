"""The second factor: a backup with its passphrase opens only while the factor of its day exists."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.crypto.factor import parse_factors
from sandbox.crypto.keyfile import factor_needed, lock_key, unlock_key
from sandbox.errors import InputError, KeyUnavailableError, SaggarError, StorageError
from sandbox.jobs.destroy import Logged, close_epoch, destroy
from sandbox.model.keys import Role, SuiteName
from sandbox.service import files, rekey, second_factor
from sandbox.service.ceremonies import (
    change_passphrase,
    open_keys,
    recover_keys,
    replace_master,
    rotate,
    set_second_factor,
    split,
)
from sandbox.service.compose import initialise, open_engine, register_key, unlock_named
from sandbox.service.config import Layout, StateConfig
from sandbox.vault.custody import open_share
from sandbox.vault.keyring import Keyring
from tests.conftest import PASSPHRASE, World, copy_world

pytestmark = pytest.mark.slow

NEW = "words nobody wrote down"


class Crash(BaseException):
    """The power is gone."""


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    directory = tmp_path / "medium"
    directory.mkdir()
    return directory / "saggar.factor"


@pytest.fixture
def kept(world: World, medium: Path) -> World:
    """Return a state directory whose vault needs the factor."""
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        set_second_factor(keys, medium, passphrase=PASSPHRASE)
    return world


def opens(state: Path, passphrase: str) -> str:
    """Return `opens`, or the code of the refusal, as somebody with this directory and passphrase meets it."""
    try:
        with open_engine(state, passphrase=passphrase, purpose="test", wait_s=5) as engine:
            trusted = engine.trusted(Role.SANDBOX)
            for facts in engine.state().datasets.values():
                if facts.certificate_of(facts.snapshot) is None:
                    with engine.vault.open_snapshot(facts.snapshot, (), trusted) as opened:
                        assert opened.partition(0).num_rows >= 0
    except SaggarError as error:
        return error.code
    return "opens"


def close(world: World) -> Logged:
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        old, new = replace_master(keys, old=PASSPHRASE, new=NEW, receipts=[], custodians=[])
    with open_engine(world.state, passphrase=NEW, purpose="test", wait_s=5) as engine:
        return close_epoch(engine, old_master=old, new_master=new, receipts=[])


def test_the_vault_needs_the_passphrase_and_the_factor(kept: World, medium: Path) -> None:
    assert medium.stat().st_mode & 0o777 == 0o600
    assert opens(kept.state, PASSPHRASE) == "opens"
    assert opens(kept.state, "another passphrase") == "vault.key_unavailable.wrong_passphrase"
    away = medium.rename(medium.with_name("away"))
    assert opens(kept.state, PASSPHRASE) == "vault.key_unavailable.second_factor"
    away.rename(medium)
    assert opens(kept.state, PASSPHRASE) == "opens"
    assert parse_factors(medium.read_bytes())[0].secret not in b"".join(
        path.read_bytes() for path in kept.state.rglob("*") if path.is_file()
    )


def test_init_draws_one_and_the_first_command_needs_it(tmp_path: Path, medium: Path) -> None:
    state = tmp_path / "fresh"
    initialise(state, suite=SuiteName.INTL, passphrase=PASSPHRASE, origin="test/log", second_factor=medium)
    assert StateConfig.read(Layout(state)).second_factor == str(medium)
    assert opens(state, PASSPHRASE) == "opens"
    medium.unlink()
    assert opens(state, PASSPHRASE) == "vault.key_unavailable.second_factor"
    with pytest.raises(KeyUnavailableError) as caught:
        unlock_named(state, "sandbox", PASSPHRASE)
    assert caught.value.code == "vault.key_unavailable.second_factor"


def test_the_signing_key_of_an_old_backup_opens_for_nobody_either(kept: World, medium: Path) -> None:
    key_file = kept.state / "keys" / "sandbox.key"
    old, old_factors = key_file.read_bytes(), parse_factors(medium.read_bytes())
    signing = unlock_key(old, PASSPHRASE, old_factors).signing
    close(kept)
    assert unlock_named(kept.state, "sandbox", NEW).signing == signing, "the key survives the epoch"
    for passphrase in (PASSPHRASE, NEW):
        with pytest.raises(KeyUnavailableError) as caught:
            unlock_key(old, passphrase, parse_factors(medium.read_bytes()))
        assert caught.value.code == "vault.key_unavailable.second_factor"


def test_a_signing_key_from_before_opens_and_is_locked_at_the_next_ceremony(kept: World, medium: Path) -> None:
    key_file = kept.state / "keys" / "sandbox.key"
    key_file.write_bytes(lock_key(unlock_named(kept.state, "sandbox", PASSPHRASE), PASSPHRASE))
    assert opens(kept.state, PASSPHRASE) == "opens"
    with open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        change_passphrase(keys, NEW)
    assert opens(kept.state, NEW) == "opens"
    with pytest.raises(KeyUnavailableError) as caught:
        unlock_key(key_file.read_bytes(), NEW)
    assert caught.value.code == "vault.key_unavailable.second_factor"


def test_rotation_and_a_new_passphrase_keep_the_factor(kept: World, medium: Path) -> None:
    before = medium.read_bytes()
    with open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        rotate(keys, PASSPHRASE, dataset=None)
        change_passphrase(keys, NEW)
    assert medium.read_bytes() == before
    assert opens(kept.state, NEW) == "opens"
    medium.unlink()
    assert opens(kept.state, NEW) == "vault.key_unavailable.second_factor"


def test_after_a_closed_epoch_a_backup_with_its_old_passphrase_opens_for_nobody(
    kept: World, medium: Path, tmp_path: Path
) -> None:
    """The drill: back up, destroy, close the epoch, restore elsewhere and over the present, try both passphrases."""
    backup = copy_world(kept, tmp_path / "backup")
    old_factor = medium.read_bytes()
    people = [unlock_named(kept.state, name, PASSPHRASE) for name in ("agency", "health")]
    with kept.engine() as engine:
        logged = destroy(engine, "clinic", people, basis="order 2027-17")
    assert "second factor" in logged.document.record["levels"]["L2"]
    assert not any("no second factor" in line for line in logged.document.record["remaining"])
    assert opens(backup.state, PASSPHRASE) == "opens", "until the epoch is closed, as the certificate says"
    close(kept)
    assert medium.read_bytes() != old_factor
    assert len(parse_factors(medium.read_bytes())) == 1
    assert opens(kept.state, NEW) == "opens"
    assert opens(backup.state, PASSPHRASE) == "vault.key_unavailable.second_factor"
    for passphrase in (PASSPHRASE, NEW):
        with pytest.raises(KeyUnavailableError) as caught:
            Keyring.open(
                backup.state / "vault" / "keys", passphrase=passphrase, factors=parse_factors(medium.read_bytes())
            )
        assert caught.value.code == "vault.key_unavailable.second_factor"
    shutil.copytree(backup.state / "vault", kept.state / "vault", dirs_exist_ok=True)
    shutil.copytree(backup.state / "keys", kept.state / "keys", dirs_exist_ok=True)
    assert opens(kept.state, PASSPHRASE) == "vault.key_unavailable.second_factor"
    assert opens(kept.state, NEW).startswith("vault.key_unavailable.")


def test_without_a_factor_the_certificate_says_what_that_leaves(world: World) -> None:
    people = [unlock_named(world.state, name, PASSPHRASE) for name in ("agency", "health")]
    with world.engine() as engine:
        logged = destroy(engine, "clinic", people, basis="order 2027-17")
    assert any("no second factor" in line for line in logged.document.record["remaining"])


def test_shares_bring_the_vault_back_when_the_factor_is_lost(kept: World, medium: Path) -> None:
    from sandbox.crypto.keys import generate_key

    custodians = [generate_key(name, Role.CUSTODIAN, SuiteName.GM) for name in ("an", "bo", "chen")]
    with kept.engine() as engine:
        for custodian in custodians:
            register_key(engine, custodian.public)
    with open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        shares = split(keys, [custodian.public for custodian in custodians], threshold=2)
    medium.write_bytes(b"worn out")
    assert opens(kept.state, PASSPHRASE) == "vault.key_unavailable.second_factor"
    opened = [open_share(share, key) for share, key in zip(shares[:2], custodians[:2], strict=True)]
    recover_keys(kept.state, opened, passphrase=NEW, wait_s=5)
    assert opens(kept.state, NEW) == "opens"
    medium.unlink()
    assert opens(kept.state, NEW) == "vault.key_unavailable.second_factor", "a new factor, not none"
    recover_keys(kept.state, opened, passphrase=NEW, wait_s=5)
    medium.unlink()
    medium.parent.rmdir()
    with pytest.raises(KeyUnavailableError, match="no directory") as caught:
        recover_keys(kept.state, opened, passphrase=NEW, wait_s=5)
    assert caught.value.code == "vault.key_unavailable.second_factor"


def test_it_moves_and_it_goes(kept: World, medium: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    moved = tmp_path / "other" / "factor"
    with open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        set_second_factor(keys, moved, passphrase=PASSPHRASE)
    assert not medium.exists()
    assert opens(kept.state, PASSPHRASE) == "opens"
    with open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        set_second_factor(keys, None, passphrase=PASSPHRASE)
    assert not moved.exists()
    assert opens(kept.state, PASSPHRASE) == "opens"


@pytest.mark.parametrize("place", ["inside", "taken"])
def test_a_place_that_protects_nothing_is_refused(world: World, medium: Path, place: str) -> None:
    medium.write_bytes(b"somebody's")
    path = world.state / "vault" / "factor" if place == "inside" else medium
    with (
        open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys,
        pytest.raises(InputError) as caught,
    ):
        set_second_factor(keys, path, passphrase=PASSPHRASE)
    assert caught.value.code == "input.second_factor"
    assert opens(world.state, PASSPHRASE) == "opens"
    assert medium.read_bytes() == b"somebody's"


def test_a_full_medium_leaves_the_factor_in_force(kept: World, medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = medium.read_bytes()

    def refuse(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        raise StorageError("the disk is full", hint="free some space", code="vault.storage.full")

    monkeypatch.setattr(second_factor, "write_durably", refuse)
    with (
        open_keys(kept.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys,
        pytest.raises(StorageError),
    ):
        replace_master(keys, old=PASSPHRASE, new=NEW, receipts=[], custodians=[])
    assert medium.read_bytes() == before
    assert opens(kept.state, PASSPHRASE) == "opens"


CHANGES: dict[str, Callable[..., object]] = {
    "close": lambda keys, medium: replace_master(keys, old=PASSPHRASE, new=NEW, receipts=[], custodians=[]),
    "move": lambda keys, medium: set_second_factor(keys, medium.with_name("moved"), passphrase=PASSPHRASE),
    "go": lambda keys, medium: set_second_factor(keys, None, passphrase=PASSPHRASE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_at_any_write_leaves_the_old_or_the_new_state(
    kept: World, medium: Path, tmp_path: Path, change: str
) -> None:
    """After each death the directory opens with one of the two passphrases and with what the factor's file holds."""
    seen, finished = set(), False
    for deaths in range(60):
        place = tmp_path / f"{change}-{deaths}"
        place.mkdir()
        copy = copy_world(kept, place / "world")
        factor = Path(shutil.copy(medium, place / "factor"))
        layout = Layout(copy.state)
        replace(StateConfig.read(layout), second_factor=str(factor)).write(layout)
        left = [deaths]

        def mortal(step: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
            def run(*arguments: object, **named: object) -> object:
                if left[0] == 0:
                    raise Crash
                left[0] -= 1
                return step(*arguments, **named)

            return run

        with pytest.MonkeyPatch.context() as patch:
            for module in (rekey, second_factor, __import__("sandbox.service.config", fromlist=["config"])):
                patch.setattr(module, "write_durably", mortal(files.write_durably))
            for module in (rekey, second_factor):
                patch.setattr(module, "sync_directory", mortal(files.sync_directory))
            patch.setattr(second_factor, "_fill", mortal(second_factor._fill))
            patch.setattr("sandbox.vault.blobs._write_durably", mortal(_blob_writer()))
            patch.setattr(os, "unlink", mortal(os.unlink))
            try:
                with open_keys(copy.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
                    CHANGES[change](keys, factor)
                finished = True
            except Crash:
                pass
        outcomes = {passphrase: opens(copy.state, passphrase) for passphrase in (PASSPHRASE, NEW)}
        assert sorted(outcomes.values()) == ["opens", "vault.key_unavailable.wrong_passphrase"], (deaths, outcomes)
        now = second_factor.factor_path(layout)
        needed = factor_needed((layout.vault / "keys" / "master").read_bytes())
        if now is not None and needed is not None:
            assert [each.factor_id for each in parse_factors(now.read_bytes())] == [needed], (
                "only what is needed is left"
            )
        seen.add((outcomes[NEW] == "opens", needed is None))
        shutil.rmtree(place)
        if finished:
            break
    assert finished
    assert len(seen) == (1 if change == "move" else 2), "both the old state and the new one were met"


def _blob_writer() -> Callable[..., object]:
    from sandbox.vault import blobs

    return blobs._write_durably
