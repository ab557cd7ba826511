"""Sealed bytes in an object store: S3 and what speaks like it, through `pyarrow.fs`.

An object store writes an object whole or not at all when the upload completes, and never changes it in place; that is
the same promise as the local directory's rename.  After each upload the length is read back, so that a store which
lost the end of a stream is found out at once.  Any fsspec file system serves too: wrap it in
`pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(...))`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
from pyarrow import fs

from sandbox.errors import StorageError
from sandbox.vault.blobs import check_name, check_prefix, storage_error

_DENIED = (
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP status 401", "HTTP status 403"),
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
)


class ObjectBlobStore:
    """Blobs as objects below one prefix of a bucket.

    The store sees sealed bytes, random names, sizes and times, as a directory's reader would.

    Args:
        files: the file system, such as `pyarrow.fs.S3FileSystem(...)`.
        root: bucket and prefix, without a slash at the end; the bucket must exist.
    """

    def __init__(self, files: fs.FileSystem, root: str) -> None:
        if not root or root.startswith("/") or root.endswith("/"):
            raise StorageError(
                f"`{root}` is not a bucket with a prefix", hint="write `bucket/prefix`", code="vault.storage.name"
            )
        self._files = files
        self._root = root

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Store `data` under `name`, whole or not at all.

        Raises:
            StorageError: the store refuses, cannot be reached, or did not keep every byte.
        """
        path = self._path(name)
        try:
            with self._files.open_output_stream(path) as stream:
                stream.write(data)
            kept = self._files.get_file_info(path)
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, name) from error
        if kept.type is not fs.FileType.File or kept.size != memoryview(data).nbytes:
            with suppress(OSError, pa.ArrowException):
                self._files.delete_file(path)
            raise StorageError(
                f"the object store did not keep all of `{name}`",
                hint="write it again; if that does not help, use another store",
                code="vault.storage.io",
                object=name,
            )

    def get(self, name: str) -> bytes:
        """Return the bytes under `name`."""
        path = self._path(name)
        self._require(name, path)
        try:
            with self._files.open_input_stream(path) as stream:
                return bytes(stream.read())
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, name) from error

    def delete(self, name: str) -> None:
        """Remove `name`; in a bucket that keeps versions the owner must let the old ones go as well."""
        path = self._path(name)
        self._require(name, path)
        try:
            self._files.delete_file(path)
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, name) from error

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names in the folder `prefix` and below it, sorted."""
        check_prefix(prefix)
        folder = f"{self._root}/{prefix}".rstrip("/")
        try:
            found = self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, prefix) from error
        start = len(self._root) + 1
        yield from sorted(info.path[start:] for info in found if info.type is fs.FileType.File)

    def exists(self, name: str) -> bool:
        """Return whether `name` holds a blob."""
        path = self._path(name)
        try:
            return bool(self._files.get_file_info(path).type is fs.FileType.File)
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, name) from error

    def _path(self, name: str) -> str:
        check_name(name)
        return f"{self._root}/{name}"

    def _require(self, name: str, path: str) -> None:
        """Tell a missing object apart from a store that fails: not every store answers with the same error."""
        if not self.exists(name):
            raise storage_error(FileNotFoundError(2, path), name)


def _refused(error: Exception, name: str) -> StorageError:
    if any(word in str(error) for word in _DENIED):
        # Without the store's own words: they name the access key.
        return StorageError(
            f"the object store refuses the credentials for `{name}`",
            hint="check the environment or the credentials file, and what the bucket allows this user",
            code="vault.storage.credentials",
            object=name,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return storage_error(error, name)
    return StorageError(
        f"the object store refused `{name}` or cannot be reached",
        hint="check address, bucket and credentials; what was stored before is untouched",
        code="vault.storage.failed",
        object=name,
    )
