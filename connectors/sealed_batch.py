r"""A batch sealed at the source: rows that leave the department as ciphertext, signed, for one vault alone.

```
file    = "saggar.batch.v1\n" || u32 length || header || frame ... || u32 0 || u32 length || trailer
header  = canonical JSON: batch id, time, dataset description, recipient, department, token key's check value, envelope
frame i = u32 length || AEAD(content key, nonce = i (11 bytes) || last (1 byte), part i, associated data = SM3(header))
trailer = canonical JSON: how many frames, the digest of every byte before the trailer, the department's signature
```

The content key is fresh and lies in the envelope (SM2, or HPKE) to the vault's public key.  Each part but the last is
an Arrow stream of one record batch; the last says the schema, the rows, the digest of all parts and the quality report,
so exact counts travel sealed.  Writing and reading hold one batch in memory.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from cryptography.hazmat.primitives import hashes

from connectors.protocol import Source, storage_schema
from connectors.quality import no_rows
from sandbox.crypto.entropy import random_bytes
from sandbox.crypto.envelope import open_sealed, seal_to
from sandbox.crypto.keys import PrivateKey
from sandbox.crypto.signing import sign, verify_signature
from sandbox.crypto.suites import Suite, suite
from sandbox.errors import FileFormatError, InputError, SaggarError, StorageError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import Digest, hash_bytes
from sandbox.model.keys import PublicKey, Role, Signature, SuiteName, decode_base64

SIGNING_CONTEXT = "saggar/batch/1"
MAGIC = b"saggar.batch.v1\n"
MAX_HEADER, MAX_FRAME = 1 << 22, 1 << 28
_U32 = struct.Struct(">I")
_HEADER = frozenset({"v", "batch", "at", "suite", "description", "recipient", "department", "token_key", "key"})


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is known of a batch whose structure and signature hold.

    Attributes:
        batch: the digest of the file up to its trailer; it names the batch.
        description: what the department says about the rows.
        department: who signed.
        token_key: the check value of the token key that the identifiers were replaced under.
        at: when it was sealed, by the department's clock.
        frames: how many frames.
    """

    batch: Digest
    description: DatasetDescription
    department: PublicKey
    token_key: str
    at: str
    frames: int


def seal_batch(
    source: Source,
    description: DatasetDescription,
    out: Path,
    *,
    recipient: PublicKey,
    department: PrivateKey,
    token_key: str,
    at: str,
) -> Digest:
    """Write a source's rows as a sealed batch and return its digest.

    Args:
        source: the rows, already tokenised, checked and cleared of what the exclusion rules name.
        description: of the rows; it travels in clear.
        out: the file; it appears whole or not at all.
        recipient: the vault's public key.
        department: who signs.
        token_key: the check value of the token key.
        at: UTC time.

    Raises:
        InputError: the recipient is no vault, or the signer no department (`input.sealed_batch.recipient`,
            `.unknown_signer`).
        FileFormatError: the source refused, or no row is left to seal (`input.file.no_rows`); nothing is left.
    """
    if recipient.role is not Role.SANDBOX:
        raise _refused("recipient", f"`{recipient.name}` is not a vault's key")
    if department.public.role is not Role.DEPARTMENT:
        raise _refused("unknown_signer", f"`{department.public.name}` is not a department's key")
    temporary = out.with_name(f".{out.name}.{random_bytes(6).hex()}")
    try:
        with temporary.open("xb") as file:
            digest = _write(file, source, description, recipient, department, token_key, at)
            if source.report().rows_sealed == 0:
                raise no_rows()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise StorageError(
            f"`{out.name}` cannot be written",
            hint="check the directory and the room on it",
            code="vault.storage.failed",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return digest


def _write(
    file: IO[bytes],
    source: Source,
    description: DatasetDescription,
    recipient: PublicKey,
    department: PrivateKey,
    token_key: str,
    at: str,
) -> Digest:
    chosen, batch = suite(recipient.suite), random_bytes(16).hex()
    content_key = random_bytes(chosen.key_bytes)
    header = canonical_bytes(
        {
            "v": 1,
            "batch": batch,
            "at": at,
            "suite": chosen.name.value,
            "description": description.to_record(),
            "recipient": recipient.key_id,
            "department": department.public.key_id,
            "token_key": token_key,
            "key": base64.b64encode(seal_to(recipient, content_key, _context(batch))).decode(),
        }
    )
    outer, inner = hashes.Hash(hashes.SM3()), hashes.Hash(hashes.SM3())

    def put(data: bytes) -> None:
        outer.update(data)
        file.write(data)

    put(MAGIC + _U32.pack(len(header)) + header)
    bound, frames, rows = hash_bytes(header), 0, 0

    def put_frame(part: bytes, *, last: bool) -> None:
        sealed = chosen.seal(content_key, _nonce(frames, last=last), part, bound)
        put(_U32.pack(len(sealed)) + sealed)

    for each in source:
        part = _ipc(each)
        inner.update(part)
        put_frame(part, last=False)
        frames, rows = frames + 1, rows + each.num_rows
    closing = {
        "v": 1,
        "rows": rows,
        "schema": _schema_record(storage_schema(description)),
        "digest": inner.finalize().hex(),
        "report": source.report().to_record(),
    }
    put_frame(canonical_bytes(closing), last=True)
    put(_U32.pack(0))
    digest = Digest(f"sm3:{outer.finalize().hex()}")
    words = _signed_words(digest, frames + 1)
    signature = sign(department, SIGNING_CONTEXT, canonical_bytes(words))
    trailer = canonical_bytes({**words, "signature": signature.to_record()})
    file.write(_U32.pack(len(trailer)) + trailer)
    return digest


class SealedBatch:
    """A batch whose structure, digest, addressee and signature were checked; only its rows are still sealed.

    `open_batch` makes one.

    Args:
        path: the file.
        header: its header.
        facts: what was verified.
    """

    def __init__(self, path: Path, header: bytes, facts: BatchFacts) -> None:
        self._path, self._header, self.facts = path, header, facts
        self._report: dict[str, Any] | None = None

    @property
    def report(self) -> dict[str, Any]:
        """The department's quality report; it is there after the rows were read to their end."""
        if self._report is None:
            raise _refused("unfinished", "the batch was not read to its end")
        return self._report

    def rows(self, key: PrivateKey) -> Iterator[pa.RecordBatch]:
        """Yield the rows, opened with the vault's key; nothing of an iteration that raised may be kept.

        Raises:
            InputError: a frame does not open, or the rows are not those that were sealed
                (`input.sealed_batch.content`).
        """
        header = parse_canonical(self._header)
        chosen, bound = suite(SuiteName(header["suite"])), hash_bytes(self._header)
        try:
            content_key = open_sealed(key, decode_base64(header["key"]), _context(header["batch"]))
        except SaggarError as error:
            raise _refused("content", "the envelope of the batch does not open with this vault's key") from error
        schema, inner, rows = storage_schema(self.facts.description), hashes.Hash(hashes.SM3()), 0
        with self._path.open("rb") as file:
            file.seek(len(MAGIC) + _U32.size + len(self._header))
            for number in range(self.facts.frames):
                last = number == self.facts.frames - 1
                part = self._unseal(chosen, content_key, file, number, bound, last=last)
                if last:
                    self._check_closing(part, schema, rows, inner.finalize().hex())
                    return
                inner.update(part)
                batch = _read_ipc(part, schema)
                rows += batch.num_rows
                yield batch

    def _unseal(self, chosen: Suite, key: bytes, file: IO[bytes], number: int, bound: bytes, *, last: bool) -> bytes:
        sealed = _take(file, _length(file, MAX_FRAME + chosen.tag_bytes))
        try:
            return chosen.unseal(key, _nonce(number, last=last), sealed, bound)
        except SaggarError as error:
            raise _refused("content", f"frame {number} of the batch does not open") from error

    def _check_closing(self, part: bytes, schema: pa.Schema, rows: int, digest: str) -> None:
        closing = parse_canonical(part)
        agrees = (
            isinstance(closing, dict)
            and closing.get("rows") == rows
            and closing.get("schema") == _schema_record(schema)
            and closing.get("digest") == digest
        )
        if not agrees:
            raise _refused("content", "the batch does not hold the rows that it says")
        self._report = closing["report"]


def open_batch(path: Path, *, vault: PublicKey, departments: Sequence[PublicKey]) -> SealedBatch:
    """Return a batch after these checks, in this order; nothing is decrypted yet.

    1. The file has the form of a batch, from its first byte to its last, and nothing after it.
    2. It is signed, by a registered department.
    3. Its digest is the signed one: no byte was changed.
    4. It is addressed to this vault.

    Raises:
        FileFormatError: the file is not there or cannot be read (`input.file.missing`).
        InputError: `input.sealed_batch.malformed`, `.truncated`, `.extended` (1), `.unsigned`, `.unknown_signer`,
            `.signature` (2), `.altered` (3), `.recipient` (4).
    """
    try:
        with path.open("rb") as file:
            header, frames, digest, trailer = _walk(file)
    except OSError as error:
        raise FileFormatError(
            f"file `{path}` cannot be read", hint="check the path", code="input.file.missing"
        ) from error
    record = _parse_header(header)
    department = _check_signature(trailer, record, departments)
    if (trailer["digest"], trailer["frames"]) != (digest, frames):
        raise _refused("altered", "the batch is not the one that was signed")
    if record["recipient"] != vault.key_id:
        raise _refused("recipient", "the batch is addressed to another vault")
    try:
        description = DatasetDescription.parse(record["description"])
    except SaggarError as error:
        raise _refused("malformed", "the description in the batch is malformed") from error
    facts = BatchFacts(digest, description, department, record["token_key"], record["at"], frames)
    return SealedBatch(path, header, facts)


def _walk(file: IO[bytes]) -> tuple[bytes, int, Digest, dict[str, Any]]:
    outer = hashes.Hash(hashes.SM3())
    start = file.read(len(MAGIC))
    if not MAGIC.startswith(start):
        raise _refused("malformed", "the file is not a sealed batch")
    if len(start) < len(MAGIC):
        raise _refused("truncated", "the batch is cut short")
    header = _take(file, _length(file, MAX_HEADER))
    outer.update(MAGIC + _U32.pack(len(header)) + header)
    frames = 0
    while length := _length(file, MAX_FRAME):
        outer.update(_U32.pack(length) + _take(file, length))
        frames += 1
    if not frames:
        raise _refused("malformed", "the batch has no frames")
    outer.update(_U32.pack(0))
    raw = _take(file, _length(file, MAX_HEADER))
    if file.read(1):
        raise _refused("extended", "there are bytes after the end of the batch")
    try:
        trailer = parse_canonical(raw)
    except SaggarError as error:
        raise _refused("malformed", "the end of the batch is malformed") from error
    if not isinstance(trailer, dict) or not {"v", "digest", "frames"} <= set(trailer):
        raise _refused("malformed", "the end of the batch is malformed")
    return header, frames, Digest(f"sm3:{outer.finalize().hex()}"), trailer


def _parse_header(raw: bytes) -> dict[str, Any]:
    try:
        record = parse_canonical(raw)
        if set(record) != _HEADER or record["v"] != 1:
            raise _refused("malformed", "the header of the batch is malformed")
        texts = ("batch", "at", "suite", "recipient", "department", "token_key", "key")
        if not all(isinstance(record[name], str) for name in texts) or record["suite"] not in set(SuiteName):
            raise _refused("malformed", "the header of the batch is malformed")
    except (SaggarError, TypeError) as error:
        raise _refused("malformed", "the header of the batch is malformed") from error
    else:
        return dict(record)


def _check_signature(trailer: dict[str, Any], header: dict[str, Any], departments: Sequence[PublicKey]) -> PublicKey:
    if not trailer.get("signature"):
        raise _refused("unsigned", "the batch is not signed")
    if set(trailer) != {"v", "digest", "frames", "signature"}:
        raise _refused("malformed", "the end of the batch is malformed")
    signer = next(
        (key for key in departments if key.key_id == header["department"] and key.role is Role.DEPARTMENT), None
    )
    if signer is None:
        raise _refused("unknown_signer", "the batch is by a department that is not registered here")
    try:
        words = _signed_words(trailer["digest"], trailer["frames"])
        verify_signature(signer, SIGNING_CONTEXT, canonical_bytes(words), Signature.parse(trailer["signature"]))
    except SaggarError as error:
        raise _refused("signature", f"the signature of the batch is not `{signer.name}`'s") from error
    return signer


def _signed_words(digest: str, frames: int) -> dict[str, Any]:
    return {"v": 1, "digest": digest, "frames": frames}


def _schema_record(schema: pa.Schema) -> list[list[str]]:
    return [[field.name, str(field.type)] for field in schema]


def _ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _read_ipc(part: bytes, schema: pa.Schema) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.BufferReader(part)) as reader:
            batches = list(reader)
        (batch,) = batches
    except (pa.ArrowException, ValueError) as error:
        raise _refused("content", "a frame of the batch does not hold rows") from error
    if batch.schema.names != schema.names or batch.schema.types != schema.types:
        raise _refused("content", "the rows of the batch have other columns than its description")
    return batch


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _length(file: IO[bytes], most: int) -> int:
    (length,) = _U32.unpack(_take(file, _U32.size))
    if length > most:
        raise _refused("malformed", "a part of the batch is longer than any part may be")
    return int(length)


def _take(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _refused("truncated", "the batch is cut short")
    return data


def _context(batch: str) -> str:
    return f"saggar/batch/{batch}"


def _refused(code: str, message: str) -> InputError:
    return InputError(
        message,
        hint="nothing of it was taken; ask the department to seal it again for this vault and to send it whole",
        code=f"input.sealed_batch.{code}",
    )
