"""The document store on disk: content-addressed, written once."""

from __future__ import annotations

from pathlib import Path

from sandbox.errors import SealBrokenError, StorageError
from sandbox.model.digest import Digest, digest_of, parse_digest
from sandbox.service.files import write_durably


class DocumentDirectory:
    """Documents under `objects/`, named by digest.

    They are public texts, specs, transcripts of released answers, and sealed parts: nothing here is in clear that
    has not passed the privacy engine.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"

    def put(self, data: bytes) -> Digest:
        """Keep `data` durably and return its SM3 digest."""
        digest = digest_of(data)
        path = self._path(digest)
        if not path.exists():
            write_durably(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes whose digest this is.

        Raises:
            StorageError: there is no such document.
            SealBrokenError: what is stored is not what was put.
        """
        path = self._path(parse_digest(digest))
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StorageError(
                f"document `{digest}` is not in the store", hint="restore the `documents` directory from a backup"
            ) from error
        if digest_of(data) != digest:
            raise SealBrokenError(
                f"document `{digest}` was changed on disk",
                hint="restore it from a backup; the log still proves what it was",
                object=digest,
            )
        return data

    def _path(self, digest: str) -> Path:
        return self._objects / digest.partition(":")[2]
