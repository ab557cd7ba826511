"""The object store that a state directory names: sealed bytes in S3 and what speaks like it.

Credentials are never part of the choice: they come from the environment that the AWS tools know
(`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, an instance's role), or from a file outside of the state directory.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.crypto.entropy import random_bytes
from sandbox.errors import InputError, StorageError
from sandbox.service.config import Layout, ObjectsConfig
from sandbox.vault.blobs import BlobStore, LocalBlobStore

_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*)")
_CONNECT_S, _REQUEST_S = 10.0, 60.0


def objects_config(
    url: str | None, endpoint: str | None, region: str | None, credentials: Path | None
) -> ObjectsConfig | None:
    """Return the choice of an object store as a person gave it, or None for the state directory itself.

    Raises:
        InputError: an address is malformed, or an option makes no sense alone (`input.objects`).
    """
    if url is None:
        if endpoint or region or credentials:
            raise InputError(
                "an option of the object store is given without `--objects`",
                hint="name the store: `--objects s3://bucket/prefix`",
                code="input.objects",
            )
        return None
    chosen = ObjectsConfig(url, endpoint, region, None if credentials is None else str(credentials.resolve()))
    _check(chosen)
    return chosen


def blobs_of(chosen: ObjectsConfig | None, layout: Layout) -> BlobStore:
    """Return where sealed bytes are kept.

    Raises:
        InputError: the address is malformed (`input.objects`).
        StorageError: the credentials file cannot be read (`vault.storage.credentials`).
    """
    if chosen is None:
        return LocalBlobStore(layout.vault / "blobs")
    _check(chosen)
    from pyarrow import fs  # starting S3 takes a tenth of a second, which only those who use it should pay

    from sandbox.vault.objects import ObjectBlobStore

    options: dict[str, Any] = {"connect_timeout": _CONNECT_S, "request_timeout": _REQUEST_S}
    if chosen.endpoint is not None:
        address = urlsplit(chosen.endpoint)
        options |= {"endpoint_override": address.netloc, "scheme": address.scheme}
    if chosen.region is not None:
        options["region"] = chosen.region
    if chosen.credentials is not None:
        options |= _credentials(Path(chosen.credentials))
    options["retry_strategy"] = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    return ObjectBlobStore(fs.S3FileSystem(**options), chosen.url.removeprefix("s3://"))


def check_store(blobs: BlobStore) -> None:
    """Refuse a store that holds a vault's manifests already, or where this user cannot list, write, read and delete.

    A bucket that is not there lists like an empty one; only writing tells.

    Raises:
        StorageError: `vault.storage.exists`, or what the store says.
    """
    if next(iter(blobs.names("manifests/")), None) is not None:
        raise StorageError(
            "there are sealed snapshots at this place already",
            hint="choose another prefix; one vault's objects are never mixed with another's",
            code="vault.storage.exists",
        )
    name, tried = f"probe-{random_bytes(16).hex()}", random_bytes(64)
    blobs.put(name, tried)
    read = blobs.get(name)
    blobs.delete(name)
    if read != tried or blobs.exists(name):
        raise StorageError(
            "the object store does not give back what it was given, or does not let go of it",
            hint="use a store that reads what was written, without retention rules below the prefix",
            code="vault.storage.io",
        )


def _check(chosen: ObjectsConfig) -> None:
    address = None if chosen.endpoint is None else urlsplit(chosen.endpoint)
    if not _PLACE.fullmatch(chosen.url) or ".." in chosen.url:
        raise InputError(
            f"`{chosen.url}` is not the place of an object store",
            hint="write `s3://bucket/prefix`",
            code="input.objects",
        )
    if address is not None and (address.scheme not in {"http", "https"} or not address.netloc or address.path):
        raise InputError(
            f"`{chosen.endpoint}` is not the address of an object store",
            hint="write `https://host` or `https://host:port`",
            code="input.objects",
        )
    if address is not None and address.username is not None:
        raise InputError(
            "the address of an object store carries credentials",
            hint="put them into the environment or into a credentials file, where nothing else is written down",
            code="input.objects",
        )


def _credentials(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        found = parser["default"]
        options = {"access_key": found["aws_access_key_id"], "secret_key": found["aws_secret_access_key"]}
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError):
        # Without the cause: a parser's complaint quotes the line it does not understand.
        raise StorageError(
            f"the credentials file `{path}` cannot be used",
            hint="write a `[default]` section with `aws_access_key_id` and `aws_secret_access_key`",
            code="vault.storage.credentials",
        ) from None
    if "aws_session_token" in found:
        options["session_token"] = found["aws_session_token"]
    return options
