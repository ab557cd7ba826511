"""A new passphrase for all key files at once: after a crash at any moment one passphrase opens everything."""

import shutil
from pathlib import Path

import pytest

from sandbox.crypto.keyfile import unlock_key
from sandbox.errors import InputError, KeyUnavailableError
from sandbox.service import files, rekey
from sandbox.service.ceremonies import change_passphrase, open_keys
from sandbox.service.config import Layout
from sandbox.vault.keyring import Keyring
from tests.conftest import PASSPHRASE, World

NEW = "words nobody wrote down"


class Crash(BaseException):
    """The power is gone."""


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


def opens_everything(state: Path, passphrase: str) -> bool:
    layout = Layout(state)
    found = set()
    for path in (layout.keys / "sandbox.key", layout.witness / "witness.key"):
        try:
            unlock_key(path.read_bytes(), passphrase)
            found.add(True)
        except KeyUnavailableError:
            found.add(False)
    try:
        Keyring.open(layout.vault / "keys", passphrase=passphrase)
        found.add(True)
    except KeyUnavailableError:
        found.add(False)
    (whole,) = found  # a mixture would have two
    return whole


def change(state: Path) -> None:
    with open_keys(state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        change_passphrase(keys, NEW)


def test_the_new_passphrase_opens_all_and_the_old_one_nothing(world: World) -> None:
    change(world.state)
    assert opens_everything(world.state, NEW)
    assert not opens_everything(world.state, PASSPHRASE)
    assert not (world.state / "rekey").exists()


def test_a_crash_at_any_write_or_rename_leaves_one_passphrase(world: World, tmp_path: Path) -> None:
    """Before the marker it is the old one, after it the new one."""
    outcomes = []
    for deaths in range(12):
        copy = tmp_path / str(deaths)
        shutil.copytree(world.state, copy)
        left = [deaths]

        def mortal(step: object, left: list[int] = left) -> object:
            def run(*arguments: object, **named: object) -> object:
                if left[0] == 0:
                    raise Crash
                left[0] -= 1
                return step(*arguments, **named)

            return run

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rekey, "write_durably", mortal(files.write_durably))
            patch.setattr(rekey, "sync_directory", mortal(files.sync_directory))
            try:
                change(copy)
            except Crash:
                outcomes.append("crash")
            else:
                outcomes.append("done")
        rekey.finish_relock(Layout(copy))
        new = opens_everything(copy, NEW)
        assert new == (deaths >= 4), "three new files and the marker"
        assert opens_everything(copy, PASSPHRASE) != new
        if outcomes[-1] == "done":
            break
    assert outcomes == ["crash"] * (len(outcomes) - 1) + ["done"]
    assert len(outcomes) >= 7


def test_a_short_passphrase_is_refused(world: World) -> None:
    with (
        open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys,
        pytest.raises(InputError, match="shorter than 8 characters") as caught,
    ):
        change_passphrase(keys, "seven77")
    assert caught.value.code == "input.passphrase"
    assert opens_everything(world.state, PASSPHRASE)
