"""Whoever holds the disk but no key: every change of a sealed byte is refused, and the object is named."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pytest

from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.errors import SealBrokenError, SnapshotNotFoundError, VaultError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.description import Column, ColumnKind, DatasetDescription
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.keys import Role, SuiteName
from sandbox.model.loss import PrivacyLoss
from sandbox.model.unit import ContributionBound, PrivacyUnit
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.keyring import Keyring
from sandbox.vault.manifest import SnapshotManifest, manifest_name, sign_manifest
from sandbox.vault.store import Vault
from sandbox.vault.writer import SealRequest, SnapshotWriter

ROWS = 240
AT = "2027-01-31T08:00:00Z"
PASSPHRASE = "open sesame"
MARKERS = ("SECRETMARK-朝阳医院", "SECRETMARK-patient")
NUMBER_MARK = 0x5A17_C0DE_5A17
COLUMNS = ("count", "visit", "hospital", "note")


def _column(name: str, kind: ColumnKind) -> Column:
    return Column(name, name, kind, name, name, "L4", False, (), None, None, None, None)


DESCRIPTION = DatasetDescription(
    dataset="hospital",
    table="encounters",
    label_en="Encounters",
    label_zh="就诊记录",
    department_zh="卫健委",
    catalogue_id="C-1",
    unit=PrivacyUnit("patient", "patient_id", "患者"),
    bound=ContributionBound(5, 5),
    columns=(
        _column("count", ColumnKind.INTEGER),
        _column("visit", ColumnKind.INTEGER),
        _column("hospital", ColumnKind.CATEGORY),
        _column("note", ColumnKind.TEXT),
    ),
    exclusions=(),
    max_broken_share=Fraction(0),
    budget=PrivacyLoss(Fraction(1)),
    max_rows=1_000_000,
)


def _batch(rows: int = ROWS) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "_unit": pa.array([NUMBER_MARK + i // 4 for i in range(rows)]),
            "count": pa.array([NUMBER_MARK] * rows),
            "visit": pa.array([NUMBER_MARK] * rows),
            "hospital": pa.array([MARKERS[0]] * rows),
            "note": pa.array([f"{MARKERS[1]}-{i}" for i in range(rows)]),
        }
    )


class Scene:
    """A vault with two snapshots of the same rows, and a thief who may write to its directory."""

    def __init__(self, vault: Vault, directory: Path, first: Digest, second: Digest, signer: PrivateKey) -> None:
        self.directory = directory
        self.trusted = [signer.public]
        made = vault._keyring
        keyring = Keyring(LocalBlobStore(directory / "keys"), made.ring)
        self.vault = Vault(directory, keyring, LocalBlobStore(directory / "blobs"))
        self.first = self.vault.manifest(first, self.trusted)
        self.second = self.vault.manifest(second, self.trusted)

    def path(self, name: str) -> Path:
        return self.directory / "blobs" / name

    def read_all(self) -> list[pa.Table]:
        with self.vault.open_snapshot(self.first.digest(), COLUMNS, self.trusted) as opened:
            return list(opened.partitions())

    def refused(self, *names: str) -> set[str]:
        """Reading and checking must both refuse; return the codes, having seen that one of `names` is named."""
        with pytest.raises(SealBrokenError) as caught:
            self.read_all()
        assert caught.value.details["object"] in names
        assert caught.value.hint
        faults = self.vault.check(self.trusted).faults
        assert {fault.object for fault in faults} == set(names)
        return {caught.value.code, *(fault.code for fault in faults)}


@pytest.fixture(scope="module", params=list(SuiteName), ids=str)
def sealed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Vault, Digest, Digest, PrivateKey]:
    name, directory = request.param, tmp_path_factory.mktemp("sealed") / "vault"
    signer = generate_key("box", Role.SANDBOX, name)
    vault = Vault.create(directory, passphrase=PASSPHRASE, suite=name)
    writer = SnapshotWriter(vault._keyring, vault._blobs, vault._directory)
    request_ = SealRequest(DESCRIPTION, name, signer, "health-commission", AT, partitions=2, chunk_rows=40)
    first, second = (writer.seal(request_, [_batch()], None).digest() for _ in range(2))
    return vault, first, second, signer


@pytest.fixture
def scene(sealed: tuple[Vault, Digest, Digest, PrivateKey], tmp_path: Path) -> Scene:
    vault, first, second, signer = sealed
    shutil.copytree(vault._directory, tmp_path / "vault")
    return Scene(vault, tmp_path / "vault", first, second, signer)


def test_the_untouched_vault_reads_well(scene: Scene) -> None:
    assert sum(table.num_rows for table in scene.read_all()) == ROWS
    report = scene.vault.check(scene.trusted)
    assert (report.faults, report.garbage, report.locked, report.objects) == ((), (), (), 24)


def test_nothing_in_clear_stands_on_the_disk(scene: Scene) -> None:
    needles = [text.encode() for text in (*MARKERS, "SECRETMARK", "朝阳")]
    needles += [text.encode("utf-16-le") for text in MARKERS]
    needles += [str(NUMBER_MARK).encode(), NUMBER_MARK.to_bytes(8, "little"), NUMBER_MARK.to_bytes(8, "big")]
    needles += [NUMBER_MARK.to_bytes(6, "little"), b"PAR1", b"ARROW1", PASSPHRASE.encode()]
    paths = [path for path in scene.directory.rglob("*") if path.is_file()]
    assert len(paths) == 1 + 1 + 1 + 4 + 2 + 24 + 1, "master, dataset, unit kind, halves, manifests, objects, lock"
    for path in paths:
        raw = path.read_bytes()
        assert not [needle for needle in needles if needle in raw], path
        assert not [needle for needle in needles if needle in path.name.encode()]


def test_file_names_are_random_or_digests(scene: Scene) -> None:
    names = {path.name for path in scene.directory.rglob("*") if path.is_file()}
    allowed = set("0123456789abcdef")
    fixed = {"master", "lock"}
    assert all(name in fixed or set(name.removeprefix("sm3-").removeprefix("sha256-")) <= allowed for name in names)


def test_the_same_rows_never_seal_to_the_same_bytes(scene: Scene) -> None:
    assert not {o.digest for o in scene.first.objects} & {o.digest for o in scene.second.objects}
    assert not {o.object_id for o in scene.first.objects} & {o.object_id for o in scene.second.objects}
    assert not {o.key for o in scene.first.objects} & {o.key for o in scene.second.objects}


@pytest.mark.parametrize("number", range(12))
def test_a_flipped_bit_anywhere_in_any_object_is_found(scene: Scene, number: int) -> None:
    sealed = scene.first.objects[number]
    path = scene.path(sealed.name)
    intact = path.read_bytes()
    for place in (0, 23, 24, 55, 56, len(intact) // 2, len(intact) - 17, len(intact) - 1):
        changed = bytearray(intact)
        changed[place] ^= 0x10
        path.write_bytes(bytes(changed))
        codes = scene.refused(sealed.name)
        assert codes <= {"vault.seal_broken.commitment", "vault.seal_broken.block", "vault.seal_broken.digest"}
        assert "vault.seal_broken.digest" in codes


@pytest.mark.parametrize("number", [0, 4, 9])
def test_a_truncated_or_extended_object_is_refused(scene: Scene, number: int) -> None:
    sealed = scene.first.objects[number]
    path = scene.path(sealed.name)
    intact = path.read_bytes()
    for changed in (b"", intact[:1], intact[:-1], intact[: len(intact) // 2], intact + b"\x00", intact + intact):
        path.write_bytes(changed)
        assert scene.refused(sealed.name) == {"vault.seal_broken.length"}


def test_a_missing_object_is_named(scene: Scene) -> None:
    sealed = scene.first.objects[5]
    scene.path(sealed.name).unlink()
    assert scene.refused(sealed.name) == {"vault.seal_broken.missing"}


def _swap(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _find(manifest: SnapshotManifest, partition: int, column: str) -> str:
    return next(o.name for o in manifest.objects if (o.partition, o.column) == (partition, column))


@pytest.mark.parametrize(
    ("one", "two"), [((0, "count"), (1, "count")), ((0, "count"), (0, "hospital")), ((0, "_unit"), (1, "note"))]
)
def test_two_objects_that_changed_places_are_refused(scene: Scene, one: tuple[int, str], two: tuple[int, str]) -> None:
    names = _find(scene.first, *one), _find(scene.first, *two)
    _swap(scene.path(names[0]), scene.path(names[1]))
    assert scene.refused(*names) <= {
        "vault.seal_broken.commitment",
        "vault.seal_broken.length",
        "vault.seal_broken.digest",
    }


def test_objects_of_equal_length_that_changed_places_are_refused(scene: Scene) -> None:
    names = [_find(scene.first, 0, column) for column in ("count", "visit")]
    lengths = {sealed.length for sealed in scene.first.objects if sealed.name in names}
    assert len(lengths) == 1, "two columns of the same values are equally long"
    _swap(*(scene.path(name) for name in names))
    assert scene.refused(*names) == {"vault.seal_broken.commitment", "vault.seal_broken.digest"}


def _chunks(scene: Scene, name: str) -> list[bytes]:
    manifest = scene.first
    number, sealed = next((i, o) for i, o in enumerate(manifest.objects) if o.name == name)
    with scene.vault.open_snapshot(manifest.digest(), [], scene.trusted) as opened:
        lengths = opened.facts[sealed.partition].lengths[number % len(manifest.columns)]
    raw, chunks = scene.path(name).read_bytes(), []
    for length in lengths:
        chunks.append(raw[:length])
        raw = raw[length:]
    return chunks


def test_two_chunks_that_changed_places_are_refused(scene: Scene) -> None:
    name = _find(scene.first, 0, "count")
    chunks = _chunks(scene, name)
    assert len(chunks) > 1
    assert len(chunks[0]) == len(chunks[1])
    scene.path(name).write_bytes(b"".join([chunks[1], chunks[0], *chunks[2:]]))
    assert scene.refused(name) == {"vault.seal_broken.commitment", "vault.seal_broken.digest"}


def test_a_chunk_put_twice_or_left_out_is_refused(scene: Scene) -> None:
    name = _find(scene.first, 0, "count")
    chunks = _chunks(scene, name)
    scene.path(name).write_bytes(b"".join([chunks[0], chunks[0], *chunks[2:]]))
    assert scene.refused(name) == {"vault.seal_broken.commitment", "vault.seal_broken.digest"}
    scene.path(name).write_bytes(b"".join(chunks[:-1]))
    assert scene.refused(name) == {"vault.seal_broken.length"}


def test_a_chunk_of_another_partition_is_refused(scene: Scene) -> None:
    name, other = _find(scene.first, 0, "count"), _find(scene.first, 1, "count")
    mine, theirs = _chunks(scene, name), _chunks(scene, other)
    scene.path(name).write_bytes(b"".join([theirs[0], *mine[1:]]))
    assert scene.refused(name) <= {
        "vault.seal_broken.commitment",
        "vault.seal_broken.length",
        "vault.seal_broken.digest",
    }


def test_an_object_of_another_snapshot_is_refused(scene: Scene) -> None:
    for column in ("_unit", "_rank", "count"):
        name, other = _find(scene.first, 0, column), _find(scene.second, 0, column)
        scene.path(name).write_bytes(scene.path(other).read_bytes())
    names = [_find(scene.first, 0, column) for column in ("_unit", "_rank", "count")]
    assert scene.refused(*names) <= {
        "vault.seal_broken.commitment",
        "vault.seal_broken.length",
        "vault.seal_broken.digest",
    }


def test_the_key_halves_of_another_snapshot_are_refused(scene: Scene) -> None:
    for side in ("platform", "owner"):
        keys = scene.directory / "keys" / side
        _swap(keys / scene.first.snapshot, keys / scene.second.snapshot)
    with pytest.raises(SealBrokenError, match="does not open under its parent") as caught:
        scene.read_all()
    assert caught.value.code == "vault.seal_broken.key"
    assert caught.value.details["object"] == f"keys/platform/{scene.first.snapshot}"
    faults = scene.vault.check(scene.trusted).faults
    assert {fault.object for fault in faults} == {
        f"keys/platform/{scene.first.snapshot}",
        f"keys/platform/{scene.second.snapshot}",
    }


# --- the manifest ---------------------------------------------------------------------------------------------------


def test_the_manifest_of_another_snapshot_is_refused(scene: Scene) -> None:
    name, other = (manifest_name(manifest.digest()) for manifest in (scene.first, scene.second))
    scene.path(name).write_bytes(scene.path(other).read_bytes())
    assert scene.refused(name) == {"vault.seal_broken.manifest"}


def _record(scene: Scene) -> dict[str, dict[str, object]]:
    return parse_canonical(scene.path(manifest_name(scene.first.digest())).read_bytes())


def _swap_objects(record: dict) -> None:
    objects = record["objects"]
    for field in ("id", "bytes", "digest", "key"):
        objects[0][field], objects[5][field] = objects[5][field], objects[0][field]


def _drop_partition(record: dict) -> None:
    record["partitions"] = 1
    record["objects"] = record["objects"][:6]


EDITS: dict[str, Callable[[dict], None]] = {
    "another owner": lambda r: r.update(owner="thief"),
    "another time": lambda r: r.update(at="2020-01-01T00:00:00Z"),
    "another dataset": lambda r: r.update(dataset="transport"),
    "objects swapped": _swap_objects,
    "a partition dropped": _drop_partition,
    "facts of nobody": lambda r: r.update(facts="AAAA"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edited_manifest_is_refused(scene: Scene, edit: Callable[[dict], None]) -> None:
    stored = _record(scene)
    edit(stored["manifest"])
    name = manifest_name(scene.first.digest())
    scene.path(name).write_bytes(canonical_bytes(stored))
    assert scene.refused(name) == {"vault.seal_broken.manifest"}


def test_an_edited_manifest_under_its_own_digest_lacks_a_signature(scene: Scene) -> None:
    stored = _record(scene)
    _swap_objects(stored["manifest"])
    hash_name = scene.first.digest().partition(":")[0]
    forged = digest_of_record(stored["manifest"], hash_name=hash_name)
    scene.path(manifest_name(forged)).write_bytes(canonical_bytes(stored))
    with pytest.raises(SealBrokenError, match="has a signature that does not verify") as caught:
        scene.vault.open_snapshot(forged, COLUMNS, scene.trusted)
    assert caught.value.code == "vault.seal_broken.signature"
    assert caught.value.details["object"] == manifest_name(forged)


def test_every_flipped_bit_of_a_manifest_is_noticed(scene: Scene) -> None:
    name = manifest_name(scene.first.digest())
    path = scene.path(name)
    intact = path.read_bytes()
    for place in range(0, len(intact), 61):
        changed = bytearray(intact)
        changed[place] ^= 0x01
        path.write_bytes(bytes(changed))
        with pytest.raises(SealBrokenError) as caught:
            scene.vault.manifest(scene.first.digest(), scene.trusted)
        assert caught.value.code in {"vault.seal_broken.manifest", "vault.seal_broken.signature"}
        assert caught.value.details["object"] == name


def _no_signature(stored: dict) -> dict:
    return {"manifest": stored["manifest"]}


def _empty_signature(stored: dict) -> dict:
    return {**stored, "signature": {"key": stored["signature"]["key"], "value": ""}}


def _null_signature(stored: dict) -> dict:
    return {**stored, "signature": None}


def _zero_signature(stored: dict) -> dict:
    return {**stored, "signature": {"key": stored["signature"]["key"], "value": "A" * 86 + "=="}}


@pytest.mark.parametrize("strip", [_no_signature, _empty_signature, _null_signature, _zero_signature])
def test_a_manifest_without_its_signature_is_refused(scene: Scene, strip: Callable[[dict], dict]) -> None:
    name = manifest_name(scene.first.digest())
    scene.path(name).write_bytes(canonical_bytes(strip(_record(scene))))
    assert scene.refused(name) <= {"vault.seal_broken.manifest", "vault.seal_broken.signature"}


def test_a_thiefs_own_signature_is_refused(scene: Scene) -> None:
    thief = generate_key("box", Role.SANDBOX, scene.first.suite)
    name = manifest_name(scene.first.digest())
    scene.path(name).write_bytes(sign_manifest(scene.first, thief).to_bytes())
    assert scene.refused(name) == {"vault.seal_broken.signature"}


def test_a_manifest_that_is_gone_leaves_its_objects_as_garbage(scene: Scene) -> None:
    scene.path(manifest_name(scene.first.digest())).unlink()
    with pytest.raises(SnapshotNotFoundError):
        scene.read_all()
    report = scene.vault.check(scene.trusted)
    assert report.faults == ()
    assert set(report.garbage) >= {sealed.name for sealed in scene.first.objects}
    assert not set(report.garbage) & {sealed.name for sealed in scene.second.objects}


def test_a_stray_file_among_the_manifests_is_a_fault(scene: Scene) -> None:
    scene.path("manifests/readme.txt").write_bytes(b"hello")
    faults = scene.vault.check(scene.trusted).faults
    assert [fault.object for fault in faults] == ["manifests/readme.txt"]
    with pytest.raises(VaultError, match="does not verify"):
        scene.vault.collect(scene.trusted)
