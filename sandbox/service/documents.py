"""The document store on disk: content-addressed, written once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
        return self.put_all(data)[0]

    def put_all(self, *documents: bytes) -> tuple[Digest, ...]:
        """Keep several documents durably, side by side, and return their digests in the same order.

        Each is whole or not there; waiting for the disk costs about what it costs for one of them.
        """
        digests = tuple(map(digest_of, documents))
        new = {
            path: data
            for digest, data in zip(digests, documents, strict=True)
            if not (path := self._path(digest)).exists()
        }
        if len(new) < 2:
            for path, data in new.items():
                write_durably(path, data)
            return digests
        with ThreadPoolExecutor(len(new)) as writers:
            for written in [writers.submit(write_durably, path, data) for path, data in new.items()]:
                written.result()
        return digests

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

    def holds(self, digest: str) -> bool:
        """Return whether there is a document of this name; `get` says whether it is what was put."""
        return self._path(parse_digest(digest)).exists()

    def _path(self, digest: str) -> Path:
        return self._objects / digest.partition(":")[2]
