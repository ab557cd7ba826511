"""A state directory whose sealed objects lie in an object store, over real HTTP: ingest, ask, check, destroy, fail."""

import json
from pathlib import Path

import pytest

from sandbox.errors import InputError, SaggarError, StorageError
from sandbox.jobs.destroy import destroy
from sandbox.model.keys import Role, SuiteName
from sandbox.service.compose import initialise, open_engine
from sandbox.service.config import ObjectsConfig
from sandbox.service.object_store import objects_config
from tests.conftest import PASSPHRASE, World, build_world
from tests.support.line_world import saggar
from tests.support.object_store import ACCESS_KEY, BUCKET, SECRET_KEY, Store, running_store

pytestmark = pytest.mark.slow

AWS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.crypto.keyfile._COST_N", 2**14)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch):
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    with running_store() as store:
        yield store


def build(tmp_path: Path, served: Store) -> World:
    """Make a state directory with a dataset and an agreement, sealed into the store."""
    chosen = objects_config(f"s3://{BUCKET}/health", served.endpoint, "us-east-1", None)
    return build_world(tmp_path, objects=chosen)


def test_sealed_objects_lie_in_the_store_and_nothing_of_the_credentials_in_the_state(
    tmp_path: Path, served: Store
) -> None:
    world = build(tmp_path, served)
    assert any(name.startswith("health/objects/") for name in served.objects)
    assert any(name.startswith("health/manifests/") for name in served.objects)
    assert not (world.state / "vault" / "blobs").exists()
    everything = b"".join(path.read_bytes() for path in world.state.rglob("*") if path.is_file())
    assert SECRET_KEY.encode() not in everything
    assert ACCESS_KEY.encode() not in everything
    config = json.loads((world.state / "saggar.json").read_text())
    assert config["objects"] == {
        "url": f"s3://{BUCKET}/health", "endpoint": served.endpoint, "region": "us-east-1", "credentials": None,
    }  # fmt: skip
    released = world.run()
    assert released.release.to_record()


def test_check_names_what_changed_and_what_is_missing_in_the_store(tmp_path: Path, served: Store) -> None:
    world = build(tmp_path, served)
    whole = saggar("--state", world.state, "vault", "check", "--json", cwd=tmp_path, **AWS)
    assert whole.code == 0, whole.err
    first, second = sorted(name for name in served.objects if "/objects/" in name)[:2]
    served.objects[first] = served.objects[first][:-1] + bytes([served.objects[first][-1] ^ 1])
    del served.objects[second]
    told = saggar("--state", world.state, "vault", "check", "--json", cwd=tmp_path, **AWS)
    assert told.code == 6
    found = {fault["object"]: fault["code"] for fault in json.loads(told.out)["faults"]}
    assert found == {
        first.removeprefix("health/"): "vault.seal_broken.digest",
        second.removeprefix("health/"): "vault.seal_broken.missing",
    }


def test_destruction_empties_the_store(tmp_path: Path, served: Store) -> None:
    from sandbox.service.compose import unlock_named

    world = build(tmp_path, served)
    people = [unlock_named(world.state, name, PASSPHRASE) for name in ("agency", "health")]
    with world.engine() as engine:
        logged = destroy(engine, "clinic", people, basis="order 2027-17")
    # What stays are the empty markers of folders that Arrow's S3 client leaves.
    assert {name for name, data in served.objects.items() if data or not name.endswith("/")} == set()
    assert logged.document.record["snapshots"][0]["second_read"]["objects_found"] == 0


@pytest.mark.parametrize(("fault", "code"), [("away", "vault.storage."), ("denied", "vault.storage.credentials")])
def test_a_failing_store_is_told_in_words_by_every_command(
    tmp_path: Path, served: Store, fault: str, code: str
) -> None:
    world = build(tmp_path, served)
    changes = AWS | ({"AWS_ACCESS_KEY_ID": "AKIDSTRANGER"} if fault == "denied" else {})
    if fault == "away":
        served.faults.add("away")
    for command in (("vault", "check"), ("vault", "collect")):
        told = saggar("--state", world.state, *command, cwd=tmp_path, **changes)
        assert told.code == 6, told.err + told.out
        assert code in told.err
        assert "hint:" in told.err
        assert "AKID" not in told.err + told.out
        assert SECRET_KEY not in told.err + told.out


def test_a_bucket_that_is_not_there_is_told_when_the_state_is_made(tmp_path: Path, served: Store) -> None:
    """It lists like an empty one; nobody should learn at the first ingest that there is none."""
    place = ("--objects", "s3://nobucket/health", "--endpoint", served.endpoint, "--region", "us-east-1")
    told = saggar("--state", "city", "init", *place, cwd=tmp_path, **AWS)
    assert (told.code, "vault.storage." in told.err) == (6, True), told.err + told.out
    assert not (tmp_path / "city").exists()


def test_credentials_may_come_from_a_file_outside(
    tmp_path: Path, served: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    chosen = objects_config(f"s3://{BUCKET}/file", served.endpoint, "us-east-1", file)
    initialise(tmp_path / "state", suite=SuiteName.INTL, passphrase=PASSPHRASE, origin="test/log", objects=chosen)
    file.write_text("aws_secret_access_key = half of a secret")
    with (
        pytest.raises(StorageError, match="credentials file") as caught,
        open_engine(tmp_path / "state", passphrase=PASSPHRASE, purpose="test", wait_s=5),
    ):
        raise AssertionError("it opened")
    assert caught.value.code == "vault.storage.credentials"
    assert "half of a secret" not in str(caught.value.to_dict())
    assert caught.value.__cause__ is None


def test_a_place_that_holds_a_vault_already_is_refused(tmp_path: Path, served: Store) -> None:
    build(tmp_path, served)
    chosen = ObjectsConfig(f"s3://{BUCKET}/health", served.endpoint, "us-east-1")
    with pytest.raises(StorageError, match="already") as caught:
        initialise(tmp_path / "other", suite=SuiteName.GM, passphrase=PASSPHRASE, origin="test/log", objects=chosen)
    assert caught.value.code == "vault.storage.exists"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("city/health", None), ("s3://", None), ("s3://city/../x", None), ("s3://city//x", None),
        ("s3://city/x", "store.example"), ("s3://city/x", "ftp://store.example"), ("s3://city/x", "https://a:b@store.example"),
        ("s3://city/x", "https://store.example/path"), (None, "https://store.example"),
    ],
)  # fmt: skip
def test_an_address_out_of_form_is_refused(url: str | None, endpoint: str | None) -> None:
    with pytest.raises(InputError) as caught:
        objects_config(url, endpoint, None, None)
    assert caught.value.code == "input.objects"


def test_the_command_makes_it(tmp_path: Path, served: Store) -> None:
    state = tmp_path / "city"
    told = saggar(
        "--state", state, "init", "--objects", f"s3://{BUCKET}/cli", "--endpoint", served.endpoint,
        "--region", "us-east-1", cwd=tmp_path, **AWS,
    )  # fmt: skip
    assert told.code == 0, told.err


def test_an_object_that_is_gone_fails_the_job_and_releases_nothing(tmp_path: Path, served: Store) -> None:
    world = build(tmp_path, served)
    for name in [name for name in served.objects if "/objects/" in name]:
        del served.objects[name]
    with pytest.raises(SaggarError):
        world.run()
    with world.engine() as engine:
        snapshot = engine.state().datasets["clinic"].snapshot
        assert [job.release for job in engine.state().jobs.values()] == [None]
        with (
            engine.vault.open_snapshot(snapshot, (), engine.trusted(Role.SANDBOX)) as opened,
            pytest.raises(SaggarError) as caught,
        ):
            list(opened.partitions())
    assert caught.value.code == "vault.seal_broken.missing"
