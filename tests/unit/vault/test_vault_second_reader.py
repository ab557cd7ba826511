"""A second reader, written from docs/reference/segment-format.md alone; it imports nothing of the vault to read with."""

import base64
import hashlib
import hmac
import json
import struct
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sandbox.crypto.keys import PrivateKey
from sandbox.model.description import DatasetDescription
from sandbox.model.keys import SuiteName
from sandbox.vault.keyring import half_name
from sandbox.vault.store import Vault
from sandbox.vault.wrapping import WrappedKey, unwrap_secret
from sandbox.vault.writer import SealRequest, SnapshotWriter

# --- the second reader begins here ---------------------------------------------------------------------------------


def expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def unseal(key: bytes, sealed: bytes, words: list[object]) -> bytes:
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], json.dumps(words, separators=(",", ":")).encode())


def lp(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


def read_chunk(object_key: bytes, context: bytes, chunk: bytes) -> pa.ChunkedArray:
    salt, commitment, body = chunk[:24], chunk[24:56], chunk[56:]
    info = b"saggar/chunked-encryption-1MiB@v1+AEAD_AES_256_GCM\x00" + salt + context
    derived = expand(object_key, info, 32 + 44)
    key, base_nonce = derived[:32], int.from_bytes(derived[32:44], "big")
    assert hmac.compare_digest(derived[44:], commitment)
    step = 1_048_576 + 16
    blocks = [body[start : start + step] for start in range(0, len(body), step)]
    assert 16 <= len(blocks[-1]) < step
    payload = b"".join(
        AESGCM(key).decrypt((base_nonce ^ number).to_bytes(12, "big"), block, b"")
        for number, block in enumerate(blocks)
    )
    (length,) = struct.unpack(">Q", payload[:8])
    return pq.read_table(pa.BufferReader(payload[8 : 8 + length])).column(0)


def read_snapshot(
    manifest: bytes, platform_half: bytes, owner_half: bytes, objects: dict[str, bytes]
) -> list[pa.Table]:
    record = json.loads(manifest)["manifest"]
    extracted = hmac.digest(b"saggar/snapshot-key/1", platform_half + owner_half, "sha256")
    object_wrap = expand(extracted, b"objects\x00" + record["snapshot"].encode(), 32)
    facts_key = expand(extracted, b"facts\x00" + record["snapshot"].encode(), 32)
    facts = json.loads(
        unseal(facts_key, base64.b64decode(record["facts"]), ["saggar/facts/1", record["dataset"], record["snapshot"]])
    )
    names = [column["name"] for column in record["columns"]]
    partitions: list[dict[str, pa.ChunkedArray]] = [{} for _ in range(record["partitions"])]
    for each in record["objects"]:
        raw, column, number = objects[each["id"]], each["column"], each["partition"]
        assert each["digest"] == "sha256:" + hashlib.sha256(raw).hexdigest()
        words = ["saggar/wrapped-key/1", each["id"], 1, "object/" + column, record["snapshot"]]
        object_key = unseal(object_wrap, base64.b64decode(each["key"]), words)
        place = (
            b"saggar.seg.v1" + lp(record["dataset"]) + lp(record["snapshot"]) + struct.pack(">I", number) + lp(column)
        )
        rows, lengths = (
            facts["partitions"][number]["chunks"],
            facts["partitions"][number]["lengths"][names.index(column)],
        )
        chunks, start = [], 0
        for c, length in enumerate(lengths):
            context = place + struct.pack(">IIQ", c, len(rows), rows[c])
            chunks.append(read_chunk(object_key, context, raw[start : start + length]))
            start += length
        partitions[number][column] = pa.chunked_array([part for chunk in chunks for part in chunk.chunks])
    return [pa.table(columns) for columns in partitions]


# --- and ends here -------------------------------------------------------------------------------------------------


def test_a_reader_written_from_the_document_reads_a_snapshot(
    vault: Vault,
    description: DatasetDescription,
    tools: SimpleNamespace,
    signers: dict[SuiteName, PrivateKey],
) -> None:
    signer, intl = signers[SuiteName.INTL], SuiteName.INTL
    keyring, blobs = vault._keyring, vault._blobs
    batches = tools.make_batches(400)
    request = SealRequest(description, intl, signer, "health", tools.at, partitions=2, chunk_rows=60)
    manifest = SnapshotWriter(keyring, blobs, vault._directory).seal(request, batches, None)
    halves = [_half(keyring, side, manifest.snapshot) for side in ("platform", "owner")]
    objects = {sealed.object_id: blobs.get(sealed.name) for sealed in manifest.objects}
    tables = read_snapshot(manifest.to_bytes(), halves[0], halves[1], objects)
    assert tools.row_multiset(tables) == tools.source_multiset(batches)
    with vault.open_snapshot(manifest.digest(), [c.name for c in description.columns], [signer.public]) as opened:
        assert [table.to_pylist() for table in opened.partitions()] == [table.to_pylist() for table in tables]
        assert len(opened.facts[0].chunks) > 1


def _half(keyring: object, side: str, snapshot: str) -> bytes:
    """Take a half out of its file; how key files are wrapped is not what this test is about."""
    keys = keyring.dataset("hospital")
    record = json.loads(keyring._store.get(half_name(side, snapshot)))["key"]
    wrapped = WrappedKey.parse(record)
    return unwrap_secret(
        keyring._suite, keys.wrapping, wrapped, purpose=wrapped.purpose, parent=keys.key_id, name="half"
    )
