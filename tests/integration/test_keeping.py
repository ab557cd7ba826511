"""What keeps a vault by command: a check that misses no file, tidying that takes nothing, shares that are not lost."""

from pathlib import Path

import pytest

from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import generate_key
from sandbox.jobs.keeping import check_vault, collect_vault
from sandbox.model.keys import Role, SuiteName
from sandbox.service.ceremonies import deal, open_keys
from sandbox.service.compose import register_key
from sandbox.service.config import Layout
from sandbox.service.files import write_durably
from sandbox.service.state_files import broken_files
from sandbox.vault.outstanding import ceremonies
from tests.conftest import PASSPHRASE, SQL, World
from tests.support.line_world import Told, saggar

pytestmark = pytest.mark.slow

NAMES = ("an", "bo", "chen")


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


class Desk:
    """A command line over one state directory, in a directory of its own."""

    def __init__(self, world: World, files: Path) -> None:
        self.world, self.files = world, files

    def __call__(self, *arguments: object, code: int = 0, **changes: str) -> Told:
        told = saggar("--state", self.world.state, *arguments, cwd=self.files, **changes)
        assert told.code == code, told.err + told.out
        return told


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Desk:
    files = tmp_path / "desk"
    files.mkdir()
    return Desk(world, files)


def custodians(desk: Desk) -> None:
    """Make and register the custodians' keys, as `saggar keys new` does."""
    with desk.world.engine() as engine:
        for name in NAMES:
            key = generate_key(name, Role.CUSTODIAN, SuiteName.GM)
            write_durably(desk.world.state / "keys" / f"{name}.key", lock_key(key, PASSPHRASE))
            register_key(engine, key.public)


def split(desk: Desk, out: str = "shares", code: int = 0) -> Told:
    return desk("keys", "split", "--custodians", "an,bo,chen", "--threshold", "2", "--out", out, "--yes", code=code)


def faults_of(world: World) -> set[str]:
    with world.engine() as engine:
        return {fault.object for fault in check_vault(engine).faults}


# --- the check ------------------------------------------------------------------------------------------------------


def test_a_manifest_that_is_gone_is_a_fault_and_its_objects_are_no_garbage(desk: Desk, world: World) -> None:
    """The log names the snapshot: what a thief or an accident took is missing, and tidying must not finish the work."""
    (manifest,) = (world.state / "vault" / "blobs" / "manifests").iterdir()
    objects = sorted((world.state / "vault" / "blobs" / "objects").iterdir())
    kept = manifest.read_bytes()
    manifest.unlink()
    told = desk("vault", "check", code=6)
    assert "vault.seal_broken.missing" in told.err
    assert manifest.name in told.err
    assert "stray" not in told.out
    refused = desk("vault", "collect", code=6)
    assert "vault.collect_refused" in refused.err
    assert f"`manifests/{manifest.name}` is missing" in refused.err
    assert sorted((world.state / "vault" / "blobs" / "objects").iterdir()) == objects
    manifest.write_bytes(kept)
    assert "whole" in desk("vault", "check").out


@pytest.mark.parametrize("room", ["platform", "datasets"])
def test_a_key_file_that_is_gone_is_a_fault_and_an_owner_half_is_not(world: World, room: str) -> None:
    for path in (world.state / "vault" / "keys" / "owner").iterdir():
        held = path.read_bytes()
        path.unlink()
        assert faults_of(world) == set()
        path.write_bytes(held)
    for path in (world.state / "vault" / "keys" / room).iterdir():
        path.unlink()
    assert {name.partition("/")[0] for name in faults_of(world)} == {"manifests"}
    with world.engine() as engine:
        collect_vault(engine)


def test_a_flipped_bit_of_every_key_file_is_found_and_named(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    keys = world.state / "vault" / "keys"
    files = [path for path in sorted(keys.rglob("*")) if path.is_file() and path.name != "master"]
    assert {path.relative_to(keys).parts[0] for path in files} == {
        *("custody", "datasets", "escrow", "marks", "owner", "platform", "units")
    }
    with world.engine() as engine:
        assert check_vault(engine).faults == ()
        for path in files:
            whole = path.read_bytes()
            for place in range(7, len(whole), max(1, len(whole) // 4)):
                changed = bytearray(whole)
                changed[place] ^= 1
                path.write_bytes(changed)
                found = {fault.object for fault in check_vault(engine).faults}
                assert f"keys/{path.relative_to(keys)}" in found, (path, place)
            path.write_bytes(whole)
        assert check_vault(engine).faults == ()


def test_a_flipped_bit_of_a_key_or_document_beside_the_vault_is_found_and_named(desk: Desk, world: World) -> None:
    layout = Layout(world.state)
    files = [*layout.keys.glob("*.key"), layout.witness / "witness.key", *(layout.documents / "objects").iterdir()]
    with world.records() as records:
        registered = {key.name: key.key_id for key in records.state().keys.values()}
    assert list(broken_files(layout, registered)) == []
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
        assert [fault.object for fault in broken_files(layout, registered)] == [str(path.relative_to(world.state))]
        path.write_bytes(whole)
    path = layout.keys / "health.key"
    path.write_bytes(path.read_bytes()[:-1])
    told = desk("vault", "check", "--json", code=6)
    assert [fault["object"] for fault in told.json["faults"]] == ["keys/health.key"]


def test_key_files_in_each_others_places_are_named(desk: Desk, world: World) -> None:
    one, two = world.state / "keys" / "health.key", world.state / "keys" / "operator.key"
    held = one.read_bytes(), two.read_bytes()
    one.write_bytes(held[1])
    two.write_bytes(held[0])
    told = desk("vault", "check", "--json", code=6)
    assert {fault["object"] for fault in told.json["faults"]} == {"keys/health.key", "keys/operator.key"}
    assert "holds the key of `operator`" in told.json["faults"][0]["message"]
    one.write_bytes(lock_key(generate_key("health", Role.DEPARTMENT, SuiteName.GM), PASSPHRASE))
    two.write_bytes(held[1])
    (fault,) = desk("vault", "check", "--json", code=6).json["faults"]
    assert fault["object"] == "keys/health.key"
    assert "holds another key than the log has of `health`" in fault["message"]


def test_a_record_of_ceremonies_that_is_gone_closes_no_epoch(desk: Desk, world: World) -> None:
    """Without the record an epoch was closed as if no share were out, and its certificates said so."""
    custodians(desk)
    split(desk)
    keys = world.state / "vault" / "keys"
    record, escrow = (keys / "custody").read_bytes(), (keys / "escrow" / "sandbox").read_bytes()
    (keys / "custody").unlink()
    assert faults_of(world) == {"keys/custody"}
    for act in (("keys", "close-epoch", "--out", "epoch"), ("keys", "rotate", "--master")):
        refused = desk(*act, "--yes", code=6, SAGGAR_PASSPHRASE_NEW="words nobody wrote down")
        assert "vault.seal_broken.missing" in refused.err
        assert "the record of who holds shares, `keys/custody`, is missing" in refused.err
    assert not (desk.files / "epoch").exists()
    (keys / "custody").write_bytes(record)
    (keys / "escrow" / "sandbox").unlink()
    assert faults_of(world) == {"keys/escrow/sandbox"}
    (keys / "escrow" / "sandbox").write_bytes((keys / "escrow" / "witness").read_bytes())
    (keys / "escrow" / "witness").write_bytes(escrow)
    assert faults_of(world) == {"keys/escrow/sandbox", "keys/escrow/witness"}


def test_the_record_of_ceremonies_follows_the_master_key(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    desk("keys", "rotate", "--master", "--yes")
    assert faults_of(world) == set()
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        assert [len(each["custodians"]) for each in ceremonies(keys.keyring)] == [3]


# --- shares ---------------------------------------------------------------------------------------------------------


def test_shares_are_never_written_over_others(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    before = {path.name: path.read_bytes() for path in (desk.files / "shares").iterdir()}
    assert "input.exists" in split(desk, code=3).err
    assert {path.name: path.read_bytes() for path in (desk.files / "shares").iterdir()} == before
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        assert len(ceremonies(keys.keyring)) == 1


def test_a_splitting_that_breaks_off_counts_the_shares_that_it_wrote_and_one_more_at_most(
    desk: Desk, world: World
) -> None:
    custodians(desk)
    with world.records() as records:
        people = records.trusted(Role.CUSTODIAN)
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        shares = deal(keys, people, threshold=2)
        next(shares)
        next(shares)
        (entry,) = ceremonies(keys.keyring)
        assert len(entry["custodians"]) == 2
        shares.close()


def test_a_splitting_that_cannot_be_says_so_before_it_promises(desk: Desk, world: World) -> None:
    custodians(desk)
    told = desk("keys", "split", "--custodians", "an,bo", "--threshold", "3", "--yes", code=3)
    assert ("input.custody" in told.err, told.out) == (True, "")


def test_a_share_is_not_destroyed_where_its_receipt_cannot_be_written(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    files = desk.files
    (files / "taken").write_bytes(b"")
    key = world.state / "keys" / "an.key"
    for out, code in (("taken/an.receipt", 6), ("taken", 3)):
        desk("keys", "destroy-share", "shares/an.share", "--key", key, "--out", out, "--yes", code=code)
        assert (files / "shares" / "an.share").exists()
    desk("keys", "destroy-share", "shares/an.share", "--key", key, "--out", "an.receipt", "--yes")
    assert not (files / "shares" / "an.share").exists()
    assert sorted(path.name for path in files.iterdir()) == ["an.receipt", "shares", "taken"]


def test_a_damaged_share_is_named_by_its_holder_and_its_file(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    files = desk.files
    (files / "cut.share").write_bytes((files / "shares" / "bo.share").read_bytes()[:-9])
    (files / "noise.share").write_bytes(b"\xff" * 40)
    (files / "forged.share").write_bytes(
        (files / "shares" / "bo.share").read_bytes().replace(b'"custodian":"bo"', b'"custodian":"an"')
    )
    for name, words, ask in (
        ("cut.share", "the share of `bo` in `cut.share` is damaged", "ask `bo` for"),
        ("noise.share", "`noise.share` is damaged or no share at all", "ask whoever brought `noise.share`"),
        ("forged.share", "was altered: its signature does not hold (file `forged.share`)", "ask `an` for"),
    ):
        told = desk("keys", "recover", "--rehearse", "--share", name, "--share", "shares/an.share", code=6)
        assert (words in told.err, ask in told.err) == (True, True), told.err
    told = desk("keys", "close-epoch", "--yes", "--receipt", "noise.share", code=6, SAGGAR_PASSPHRASE_NEW="new words")
    assert "`noise.share` is damaged or no receipt of a destroyed share" in told.err


# --- whose key, which file ------------------------------------------------------------------------------------------


def test_a_wrong_passphrase_says_whose_and_a_wrong_key_file_says_which(desk: Desk, world: World) -> None:
    custodians(desk)
    split(desk)
    two = ("--share", "shares/an.share", "--share", "shares/bo.share")
    told = desk("keys", "recover", "--rehearse", *two, code=6, SAGGAR_PASSPHRASE_BO="not this one")
    assert ("this key file of `bo`" in told.err, "of `an`" in told.err) == (True, False)
    outside = desk.files / "bo.pub"
    desk("keys", "public", "bo", "--out", outside)
    told = desk("keys", "recover", "--rehearse", *two, "--key", "shares/an.share", code=6)
    assert "the key file `shares/an.share` is damaged" in told.err
    told = desk("keys", "recover", "--rehearse", *two, "--key", "bo.pub", code=6)
    assert "`bo.pub` is a public key and opens nothing" in told.err
    master = world.state / "vault" / "keys" / "master"
    master.write_bytes(master.read_bytes()[:-4])
    assert "`vault/keys/master` is damaged" in desk("vault", "check", code=6).err


# --- destruction ----------------------------------------------------------------------------------------------------


def test_a_destruction_that_is_not_in_order_destroys_nothing(desk: Desk, world: World) -> None:
    sealed = sorted(path.name for path in (world.state / "vault").rglob("*"))
    (desk.files / "there").mkdir()
    (desk.files / "file").write_bytes(b"")
    for change, code, words in (
        ({"--as": "health", "--with": "agency"}, 4, "`health` is registered as department and may not order it"),
        ({"--basis": "  "}, 3, "input.basis"),
        ({"--basis": "two\nlines"}, 3, "input.basis"),
        ({"--out": "there"}, 3, "input.exists"),
        ({"--out": "file/gone"}, 6, "vault.storage"),
    ):
        options = {"--as": "agency", "--with": "health", "--basis": "order 2027-17", **change}
        arguments = [word for pair in options.items() for word in pair]
        assert words in desk("destroy", "clinic", *arguments, "--yes", code=code).err
        assert sorted(path.name for path in (world.state / "vault").rglob("*")) == sealed
    asked = desk("destroy", "clinic", "--as", "agency", "--with", "health", "--basis", "order 2027-17", code=1)
    assert "1 of 1 snapshots of clinic" in asked.out


def test_what_was_destroyed_is_called_destroyed_by_every_command(desk: Desk, world: World) -> None:
    key = world.state / "keys" / "health.key"
    desk("keys", "export-half", "clinic", "--out", "clinic.half")
    desk("destroy", "clinic", "--as", "agency", "--with", "health", "--basis", "order 2027-17", "--yes")
    source = (world.files / "clinic.yaml", world.files / "clinic.csv", "--owner", "health", "--append")
    for words in (
        ("keys", "import-half", "clinic.half", "--key", key),
        ("keys", "export-half", "clinic", "--out", "again.half"),
        ("destroy", "clinic", "--as", "agency", "--with", "health", "--basis", "again", "--yes"),
        ("ingest", *source),
    ):
        told = desk(*words, code=6)
        assert ("vault.snapshot_not_found.destroyed" in told.err, "sm3:" in told.err) == (True, True), told.err


# --- what a stranger does -------------------------------------------------------------------------------------------


def test_a_missing_half_is_told_by_its_dataset(desk: Desk, world: World) -> None:
    for path in (world.state / "vault" / "keys" / "owner").iterdir():
        path.unlink()
    told = desk("submit", "--epsilon", "0.05", "--sql", SQL, code=6)
    assert "the half of a snapshot key of `clinic` that the owner `health` keeps is missing" in told.err


@pytest.mark.parametrize("how", ["no rows in the file", "every row is excluded"])
def test_nothing_is_no_snapshot(desk: Desk, world: World, how: str) -> None:
    """A file without rows, or a rule that takes all of them, must not put an empty snapshot before the current one."""
    described, source = world.files / "clinic.yaml", world.files / "clinic.csv"
    if how == "no rows in the file":
        source = desk.files / "head.csv"
        source.write_text((world.files / "clinic.csv").read_text(encoding="utf-8").partition("\n")[0] + "\n", "utf-8")
    else:
        described = desk.files / "all.yaml"
        text = (world.files / "clinic.yaml").read_text(encoding="utf-8")
        described.write_text(text.replace('values: ["1"]', 'values: ["0", "1"]'), "utf-8")
    before = sorted(path.name for path in (world.state / "vault").rglob("*"))
    assert "input.file.no_rows" in desk("ingest", described, source, "--owner", "health", code=3).err
    assert sorted(path.name for path in (world.state / "vault").rglob("*")) == before
    desk("keys", "public", "sandbox", "--out", "vault.pub")
    desk("keys", "issue-token-key", "patient", "--to", "health", "--out", "patient.token")
    sealing = ("--to", "vault.pub", "--as", world.state / "keys" / "health.key", "--token-key", "patient.token")
    told = desk("seal-source", described, source, *sealing, "--out", "batch.sealed", code=3)
    assert "input.file.no_rows" in told.err
    assert not [path for path in desk.files.iterdir() if "sealed" in path.name]


def test_a_file_where_another_is_wanted_is_told_by_its_name(desk: Desk, world: World) -> None:
    files, described = desk.files, world.files / "clinic.yaml"
    desk("keys", "issue-token-key", "patient", "--to", "health", "--out", "patient.token")
    sealing = ("--as", world.state / "keys" / "health.key", "--token-key", "patient.token", "--out", "batch.sealed")
    for wrong in (described, files / "patient.token"):
        told = desk("seal-source", described, world.files / "clinic.csv", "--to", wrong, *sealing, code=6)
        assert f"`{wrong}` holds no public key" in told.err
    told = desk("ingest", described, world.files, "--owner", "health", code=3)
    assert "is a directory" in told.err
    (files / "no-state").write_bytes(b"")
    for words in (("vault", "check"), ("keys", "list"), ("log",), ("doctor",), ("init",)):
        told = saggar("--state", "no-state", *words, cwd=files)
        assert told.code in (0, 7, 8), told.err
        assert "fault" not in told.err


def test_a_second_factor_inside_a_state_that_is_not_yet_made_is_refused_for_what_it_is(desk: Desk) -> None:
    told = saggar("--state", "new", "init", "--second-factor", "new/city.factor", cwd=desk.files)
    assert (told.code, "input.second_factor" in told.err) == (3, True)
    assert list(desk.files.iterdir()) == []


def test_what_people_compare_and_look_up_stands_whole_in_a_narrow_terminal(desk: Desk, world: World) -> None:
    keys = desk("keys", "list", "--json").json
    told = desk("keys", "list", COLUMNS="80").out
    cells = [line.split("│")[-2].strip() for line in told.splitlines() if line.startswith("│")]
    assert "…" not in told
    assert "".join(cells) == "".join(key["key_id"] for key in keys)
