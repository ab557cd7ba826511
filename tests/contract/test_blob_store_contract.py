"""What every blob store promises: the local directory, and an object store that speaks S3."""

import socket
from contextlib import closing

import pytest
from pyarrow import fs

from sandbox.errors import SealBrokenError, StorageError
from sandbox.vault.blobs import LocalBlobStore
from sandbox.vault.objects import ObjectBlobStore
from tests.support.object_store import ACCESS_KEY, BUCKET, SECRET_KEY, running_store


def _files(served, access_key=ACCESS_KEY, **more):
    return fs.S3FileSystem(
        access_key=access_key, secret_key=SECRET_KEY, region="us-east-1", scheme="http",
        endpoint_override=served.endpoint.removeprefix("http://"), connect_timeout=10, request_timeout=60,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1), **more,
    )  # fmt: skip


@pytest.fixture(scope="session")
def served():
    with running_store() as store:
        yield store


@pytest.fixture
def s3(served):
    yield _files(served)
    served.faults.clear()


@pytest.fixture(params=["directory", "pyarrow directory", "s3"])
def store(request, tmp_path):
    if request.param == "directory":
        return LocalBlobStore(tmp_path / "blobs")
    if request.param == "s3":
        return ObjectBlobStore(request.getfixturevalue("s3"), f"{BUCKET}/{tmp_path.name}")
    for folder in ("objects", "manifests"):  # a bucket has no directories; this stand-in has
        (tmp_path / "blobs" / "here" / folder).mkdir(parents=True)
    return ObjectBlobStore(fs.SubTreeFileSystem(str(tmp_path / "blobs"), fs.LocalFileSystem()), "here")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 40_000], ids=["empty", "one byte", "10 MB"])
def test_what_was_put_comes_back(store, data):
    store.put("objects/abc", data)
    assert store.get("objects/abc") == data
    assert store.exists("objects/abc")


def test_a_view_is_stored_like_bytes(store):
    store.put("objects/abc", memoryview(b"0123456789")[2:5])
    assert store.get("objects/abc") == b"234"


def test_a_second_put_replaces(store):
    store.put("objects/abc", b"first, and longer")
    store.put("objects/abc", b"second")
    assert store.get("objects/abc") == b"second"
    assert list(store.names("")) == ["objects/abc"]


def test_names_are_sorted_and_below_their_folder(store):
    for name in ("objects/b", "objects/a", "manifests/z"):
        store.put(name, name.encode())
    assert list(store.names("")) == ["manifests/z", "objects/a", "objects/b"]
    assert list(store.names("objects/")) == ["objects/a", "objects/b"]
    assert list(store.names("nothing/")) == []


def test_what_was_deleted_is_gone(store):
    store.put("objects/abc", b"x")
    store.delete("objects/abc")
    assert not store.exists("objects/abc")
    assert list(store.names("")) == []


@pytest.mark.parametrize("method", ["get", "delete"])
def test_what_is_not_there_is_named(store, method):
    with pytest.raises(StorageError, match="there is no blob `objects/none`") as caught:
        getattr(store, method)("objects/none")
    assert caught.value.code == "vault.storage.missing"
    assert not store.exists("objects/none")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "Objects/A", "a//b", "", "objects/..", "a/b/c/d/e"])
def test_a_name_that_could_lead_elsewhere_is_refused(store, name):
    for act in (lambda: store.put(name, b"x"), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(StorageError, match="is not a blob's name") as caught:
            act()
        assert caught.value.code == "vault.storage.name"
    with pytest.raises(StorageError, match="is not a folder of blobs"):
        list(store.names("../"))


def test_a_store_that_cannot_be_reached_refuses_in_words():
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    gone = fs.S3FileSystem(
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, region="us-east-1", scheme="http",
        endpoint_override=f"127.0.0.1:{port}", connect_timeout=1, request_timeout=1,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )  # fmt: skip
    store = ObjectBlobStore(gone, "vault/x")
    for act in (lambda: store.put("objects/a", b"x"), lambda: store.get("objects/a"), lambda: list(store.names(""))):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.code.startswith("vault.storage.")


def test_a_bucket_that_is_not_there_refuses(s3):
    with pytest.raises(StorageError):
        ObjectBlobStore(s3, "nobucket/x").put("objects/a", b"x")


def test_refused_credentials_are_told_without_being_shown(served):
    store = ObjectBlobStore(_files(served, access_key="AKIDSTRANGER"), f"{BUCKET}/x")
    acts = (
        lambda: store.put("objects/a", b"x"),
        lambda: store.get("objects/a"),
        lambda: list(store.names("")),
        lambda: store.exists("objects/a"),
        lambda: store.delete("objects/a"),
    )
    for act in acts:
        with pytest.raises(StorageError, match="refuses the credentials") as caught:
            act()
        assert caught.value.code == "vault.storage.credentials"
        assert "AKID" not in str(caught.value.to_dict())
        assert SECRET_KEY not in str(caught.value.to_dict())


@pytest.mark.parametrize("fault", ["full", "away"])
def test_a_store_that_fails_in_the_middle_refuses_in_words(served, s3, fault):
    store = ObjectBlobStore(s3, f"{BUCKET}/{fault}")
    store.put("objects/a", b"what was there")
    served.faults.add(fault)
    with pytest.raises(StorageError) as caught:
        store.put("objects/a", b"x" * 20_000_000)
    assert caught.value.code.startswith("vault.storage.")
    served.faults.clear()
    assert store.get("objects/a") == b"what was there"


def test_a_store_that_keeps_half_of_an_upload_is_found_out(served, s3):
    store = ObjectBlobStore(s3, f"{BUCKET}/cut")
    served.faults.add("cut")
    with pytest.raises(StorageError, match="did not keep all of `objects/a`") as caught:
        store.put("objects/a", b"whole" * 1000)
    assert caught.value.code == "vault.storage.io"
    assert not store.exists("objects/a")


@pytest.mark.parametrize("root", ["", "/vault", "vault/"])
def test_a_root_that_is_no_bucket_is_refused(root):
    with pytest.raises(StorageError, match="is not a bucket with a prefix"):
        ObjectBlobStore(fs.LocalFileSystem(), root)


def test_an_upload_that_lost_its_end_is_found_out_and_removed(tmp_path):
    class Forgetful(ObjectBlobStore):
        pass

    (tmp_path / "vault" / "objects").mkdir(parents=True)
    files = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    class LosesTheEnd:
        def __getattr__(self, name):
            return getattr(files, name)

        def open_output_stream(self, path):
            class Stream:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    return None

                def write(self, data):
                    with files.open_output_stream(path) as stream:
                        stream.write(bytes(data)[:-1])

            return Stream()

    store = ObjectBlobStore(LosesTheEnd(), "vault")
    with pytest.raises(StorageError, match="did not keep all of `objects/a`") as caught:
        store.put("objects/a", b"whole")
    assert caught.value.code == "vault.storage.io"
    assert not store.exists("objects/a")


def test_a_vault_works_on_an_object_store(s3, tmp_path):
    import numpy as np
    import pyarrow as pa

    from sandbox.crypto.keys import generate_key
    from sandbox.model.keys import Role, SuiteName
    from sandbox.vault.store import Vault
    from tests.support.reader_world import COLUMNS, DESCRIPTION

    key = generate_key("box", Role.SANDBOX, SuiteName.GM)
    local = Vault.create(tmp_path / "vault", passphrase="a test's passphrase", suite=SuiteName.GM)
    vault = Vault(tmp_path / "vault", local._keyring, ObjectBlobStore(s3, f"{BUCKET}/whole"))
    batch = pa.record_batch({"_unit": np.arange(50) % 9, **{name: np.arange(50) % 14 for name in COLUMNS}})
    sealed = vault.seal(
        DESCRIPTION, [batch], suite=SuiteName.GM, signer=key, owner="health", at="2027-01-31T08:00:00Z", partitions=2
    )
    with vault.open_snapshot(sealed.digest(), ["one"], [key.public]) as opened:
        assert sorted(v for t in opened.partitions() for v in t.column("one").to_pylist()) == sorted(
            batch.column("one").to_pylist()
        )
    assert not vault.check([key.public]).faults
    name = sealed.objects[0].name
    raw = bytearray(s3.open_input_stream(f"{BUCKET}/whole/{name}").read())
    raw[len(raw) // 2] ^= 1
    with s3.open_output_stream(f"{BUCKET}/whole/{name}") as stream:
        stream.write(bytes(raw))
    with pytest.raises(SealBrokenError) as caught:
        vault.check([key.public]).raise_if_broken()
    assert caught.value.details["object"] == name
