"""The ceremonies as people do them, by command: custody, a batch from a department, the owner's half, the end."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import SQL, World
from tests.support.line_world import Told, saggar

pytestmark = pytest.mark.slow

NEW = "words nobody wrote down"
NAMES = ("an", "bo", "chen")


class Desk:
    """A command line over one state directory."""

    def __init__(self, world: World, tmp_path: Path) -> None:
        self.world, self.cwd, self.passphrase = world, tmp_path, None

    def __call__(self, *arguments: object, code: int = 0, **changes: str) -> Told:
        if self.passphrase:
            changes.setdefault("SAGGAR_PASSPHRASE_SANDBOX", self.passphrase)
        told = saggar("--state", self.world.state, *arguments, cwd=self.cwd, **changes)
        assert told.code == code, told.err + told.out
        return told

    def ask(self, code: int = 0) -> Told:
        return self("submit", "--epsilon", "0.05", "--sql", SQL, "--again", "--json", code=code)


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Desk:
    return Desk(world, tmp_path)


def test_a_lost_passphrase_comes_back_from_shares_and_an_epoch_ends_them(desk: Desk) -> None:
    for name in NAMES:
        desk("keys", "new", name, "--role", "custodian")
    desk("keys", "split", "--custodians", ",".join(NAMES), "--threshold", "2", "--out", "shares", "--yes")
    one = desk("keys", "recover", "--share", "shares/an.share", "--rehearse", code=6)
    assert "vault.key_unavailable.shares" in one.err
    two = ("--share", "shares/an.share", "--share", "shares/chen.share")
    assert "holds" in desk("keys", "recover", *two, "--rehearse").out
    share = (desk.cwd / "shares" / "an.share").read_bytes()
    (desk.cwd / "bad.share").write_bytes(share.replace(b'"index":1', b'"index":2'))
    assert (
        "the share of `an` was altered"
        in desk("keys", "recover", "--share", "bad.share", "--share", "shares/bo.share", "--rehearse", code=6).err
    )
    desk("keys", "recover", *two, "--yes", SAGGAR_PASSPHRASE_NEW=NEW, SAGGAR_PASSPHRASE_SANDBOX="forgotten")
    assert "wrong_passphrase" in desk("keys", "rotate", "--master", "--yes", code=6).err
    desk.passphrase = NEW
    assert desk.ask().json["release"]
    last = {"SAGGAR_PASSPHRASE_NEW": "and words after those"}
    assert "vault.custody.outstanding" in desk("keys", "close-epoch", "--yes", code=6, **last).err
    for name in ("an", "bo"):
        key = desk.world.state / "keys" / f"{name}.key"
        desk("keys", "destroy-share", f"shares/{name}.share", "--key", key, "--out", f"{name}.receipt", "--yes")
    receipts = ("--receipt", "an.receipt", "--receipt", "bo.receipt")
    assert "is closed" in desk("keys", "close-epoch", *receipts, "--out", "epoch", "--yes", **last).out
    desk.passphrase = last["SAGGAR_PASSPHRASE_NEW"]
    assert desk.ask().json["release"]
    desk("keys", "rotate", "--dataset", "clinic", "--yes")
    assert desk.ask().json["release"]


def test_an_epoch_can_be_closed_although_custodians_lost_their_shares(desk: Desk) -> None:
    for name in NAMES:
        desk("keys", "new", name, "--role", "custodian")
    desk("keys", "split", "--custodians", ",".join(NAMES), "--threshold", "2", "--out", "shares", "--yes")
    for name in ("an", "bo"):
        (desk.cwd / "shares" / f"{name}.share").unlink()
    key = desk.world.state / "keys" / "chen.key"
    desk("keys", "destroy-share", "shares/chen.share", "--key", key, "--out", "chen.receipt", "--yes")
    close = ("keys", "close-epoch", "--receipt", "chen.receipt", "--out", "epoch", "--yes")
    desk("destroy", "clinic", "--as", "agency", "--with", "health", "--basis", "order 9", "--out", "gone", "--yes")
    refused = desk(*close, code=6, SAGGAR_PASSPHRASE_NEW=NEW)
    assert "vault.custody.outstanding" in refused.err
    assert "`saggar keys declare-lost`" in refused.err
    few = desk("keys", "declare-lost", "an", "--by", "bo", "--out", "an.lost", "--yes", code=6)
    assert "vault.custody.lost" in few.err
    assert "1 custodians of ceremony" in few.err
    assert not (desk.cwd / "an.lost").exists()
    stranger = desk("keys", "declare-lost", "health", "--by", "bo", "--out", "an.lost", "--yes", code=3)
    assert "input.custody" in stranger.err
    told = desk("keys", "declare-lost", "an", "--by", "bo", "--by", "chen", "--out", "an.lost", "--yes")
    assert "declared lost: the share of an" in told.out
    whole = (desk.cwd / "an.lost").read_bytes()
    (desk.cwd / "forged.lost").write_bytes(whole.replace(b'"custodian":"an"', b'"custodian":"bo"'))
    forged = desk(*close, "--lost", "forged.lost", code=6, SAGGAR_PASSPHRASE_NEW=NEW)
    assert "the declaration that the share of `bo` is lost does not hold" in forged.err
    closed = desk(*close, "--lost", "an.lost", SAGGAR_PASSPHRASE_NEW=NEW)
    assert "1 shares are lost and not destroyed" in closed.out
    checked = saggar("verify", "destruction", "gone", "--epoch", "epoch", "--json", cwd=desk.cwd)
    assert (checked.code, checked.json["level"], checked.json["lost_shares"]) == (0, "L2", ["an"])
    told = saggar("verify", "destruction", "gone", "--epoch", "epoch", cwd=desk.cwd, COLUMNS="200")
    assert "shares declared lost and not destroyed: an" in told.out


def test_a_rehearsal_with_shares_of_a_key_that_was_rotated_away_does_not_hold(desk: Desk) -> None:
    for name in NAMES:
        desk("keys", "new", name, "--role", "custodian")
    two = ("--share", "shares/an.share", "--share", "shares/chen.share")
    for version in range(2):
        desk("keys", "split", "--custodians", ",".join(NAMES), "--threshold", "2", "--out", "shares", "--yes")
        assert "holds" in desk("keys", "recover", *two, "--rehearse").out
        desk("keys", "rotate", "--master", "--yes")
        refused = desk("keys", "recover", *two, "--rehearse", code=6)
        assert "vault.custody.older" in refused.err, version
        assert "holds" not in refused.out
        shutil.rmtree(desk.cwd / "shares")


def test_a_batch_sealed_at_the_department_is_taken_once_and_asked(desk: Desk) -> None:
    desk("keys", "public", "sandbox", "--out", "vault.pub")
    desk("keys", "issue-token-key", "patient", "--to", "health", "--out", "patient.token")
    department = desk.cwd / "department"
    department.mkdir()
    (department / "health.key").write_bytes((desk.world.state / "keys" / "health.key").read_bytes())
    sealed = saggar(
        *("seal-source", desk.world.files / "clinic.yaml", desk.world.files / "clinic.csv", "--to", "../vault.pub"),
        *("--as", "health.key", "--token-key", "../patient.token", "--out", "batch.sealed", "--json"),
        cwd=department,
    )
    assert sealed.code == 0, sealed.err
    assert sorted(path.name for path in department.iterdir()) == ["batch.sealed", "health.key"]
    received = desk("receive", "department/batch.sealed", "--json").json
    assert received["report"] == sealed.json["report"]
    again = desk("receive", "department/batch.sealed", code=3)
    assert "input.sealed_batch.replayed" in again.err
    assert desk.ask().json["release"]
    with desk.world.records() as records:
        assert records.state().batches == {sealed.json["batch"]: received["snapshot"]}


def test_a_job_without_the_owners_half_says_who_must_act(desk: Desk) -> None:
    key = desk.world.state / "keys" / "health.key"
    desk("keys", "export-half", "clinic", "--out", "clinic.half")
    stranger = desk.world.state / "keys" / "agency.key"
    assert "vault.owner_half" in desk("keys", "remove-half", "clinic.half", "--key", stranger, "--yes", code=6).err
    assert desk.ask().json["release"]
    desk("keys", "remove-half", "clinic.half", "--key", key, "--yes")
    missing = desk.ask(code=6)
    assert missing.json["error"]["code"] == "vault.key_unavailable.owner_half"
    assert "the owner `health` must lend it" in missing.json["error"]["hint"]
    altered = (
        (desk.cwd / "clinic.half").read_bytes().replace(b'"kind":"saggar.owner_half"', b'"kind":"saggar.owner_helf"')
    )
    (desk.cwd / "altered.half").write_bytes(altered)
    assert "vault.owner_half" in desk("keys", "import-half", "altered.half", "--key", key, code=6).err
    desk("keys", "import-half", "clinic.half", "--key", key)
    assert desk.ask().json["release"]


def test_a_destruction_by_command_is_verified_by_command(desk: Desk) -> None:
    whole = ("destroy", "clinic", "--basis", "order 2027-17", "--out", "gone", "--json", "--yes")
    assert "policy.destruction" in desk(*whole, "--as", "agency", "--with", "operator", code=4).err
    assert desk(*whole, "--as", "agency", "--with", "health").json["record"]["dataset"] == "clinic"
    checked = saggar("verify", "destruction", "gone", "--json", cwd=desk.cwd)
    assert (checked.code, checked.json["level"], checked.json["logged"]) == (0, "L1", True)
    assert desk.ask(code=6).json["error"]["code"] == "vault.snapshot_not_found.destroyed"
    desk("keys", "close-epoch", "--out", "epoch", "--yes", SAGGAR_PASSPHRASE_NEW=NEW)
    checked = saggar("verify", "destruction", "gone", "--epoch", "epoch", "--json", cwd=desk.cwd)
    assert (checked.code, checked.json["level"]) == (0, "L2")
    for again, first in ((("clinic",), "gone"), (("--epoch", "1"), "epoch")):
        desk("certificate", *again, "--out", f"{first}-again", SAGGAR_PASSPHRASE_SANDBOX=NEW)
        for path in (desk.cwd / first).iterdir():
            assert path.read_bytes() == (desk.cwd / f"{first}-again" / path.name).read_bytes()
    told = saggar("verify", "destruction", "gone", "--epoch", "epoch", cwd=desk.cwd, COLUMNS="200").out
    assert told.count("backups: closed by L2") == 1
    assert "no second factor: after the epoch is closed" in told
    for unknown in (("census",), ("1234567",), ("--epoch", "2")):
        told = desk("certificate", *unknown, code=3, SAGGAR_PASSPHRASE_SANDBOX=NEW)
        assert "input.unknown_certificate" in told.err
    assert "input.exists" in desk("certificate", "clinic", "--out", "gone", code=3, SAGGAR_PASSPHRASE_SANDBOX=NEW).err
    desk("certificate", code=2)
    desk("certificate", "clinic", "--epoch", "1", code=2)
    (desk.cwd / "epoch" / "receipt.tlog-proof").rename(desk.cwd / "kept")
    told = saggar("verify", "destruction", "gone", "--epoch", "epoch", "--json", cwd=desk.cwd)
    assert (told.code, told.json["error"]["code"]) == (7, "ledger.destruction.receipt")
    alone = saggar("verify", "destruction", "gone", "--epoch", "epoch", "--without-receipt", "--json", cwd=desk.cwd)
    assert (alone.code, alone.json["level"], alone.json["logged"]) == (0, "L2", False)
    (desk.cwd / "gone" / "receipt.tlog-proof").unlink()
    told = saggar("verify", "destruction", "gone", cwd=desk.cwd)
    assert told.code == 7
    assert (
        "refused ledger.destruction.receipt  there is no `receipt.tlog-proof` beside `gone/certificate.json`"
        in told.err
    )
    alone = saggar("verify", "destruction", "gone", "--without-receipt", cwd=desk.cwd, COLUMNS="200")
    assert alone.code == 0
    assert "by signatures alone: without a receipt nothing shows that it stands in the log" in alone.out
    path = desk.cwd / "gone" / "certificate.json"
    path.write_bytes(path.read_bytes().replace(b"order 2027-17", b"order 2027-18"))
    told = saggar("verify", "destruction", "gone", "--without-receipt", cwd=desk.cwd)
    assert (told.code, "ledger.destruction.signature" in told.err) == (7, True)
