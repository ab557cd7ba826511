"""A second reader of a state directory, written from `docs/reference/segment-format.md` and `crypto.md` alone.

It imports primitives and nothing of the house: from the passphrase to the rows every step is the pages'.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt


@dataclass(frozen=True)
class Suite:
    """One column of the page's first table."""

    name: str
    hash: Any
    cipher: Any
    aead: str
    key_bytes: int
    prefix: str

    def digest(self, data: bytes) -> bytes:
        running = hashes.Hash(self.hash())
        running.update(data)
        return running.finalize()

    def mac(self, key: bytes, data: bytes) -> bytes:
        running = HMAC(key, self.hash())
        running.update(data)
        return running.finalize()

    def expand(self, key: bytes, info: bytes, length: int) -> bytes:
        return HKDFExpand(self.hash(), length, info).derive(key)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, words: bytes) -> bytes:
        opener = Cipher(self.cipher(key), modes.GCM(nonce, sealed[-16:])).decryptor()
        opener.authenticate_additional_data(words)
        return opener.update(sealed[:-16]) + opener.finalize()


GM = Suite("gm", hashes.SM3, algorithms.SM4, "AEAD_SM4_GCM", 16, "sm3")
INTL = Suite("intl", hashes.SHA256, algorithms.AES256, "AEAD_AES_256_GCM", 32, "sha256")
SUITES = {suite.name: suite for suite in (GM, INTL)}


def canonical(value: object) -> bytes:
    """RFC 8785, for the values that these files hold: no floats."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def lp(text: str) -> bytes:
    return struct.pack(">I", len(text.encode())) + text.encode()


# --- from the passphrase to the keys --------------------------------------------------------------------------------


def open_secret_file(raw: bytes, passphrase: str) -> bytes:
    """Open a secret file (crypto.md, "Key file")."""
    record = json.loads(raw)
    sealed = base64.b64decode(record.pop("sealed"))
    kdf = record["kdf"]
    stretched = Scrypt(base64.b64decode(kdf["salt"]), 32, kdf["n"], kdf["r"], kdf["p"]).derive(passphrase.encode())
    assert GM.digest(canonical(record) + sealed[:-8])[:8] == sealed[-8:]
    assert GM.expand(stretched, b"saggar.keyfile.v1 check", 16) == sealed[-24:-8]
    key = GM.expand(stretched, b"saggar.keyfile.v1 key", 16)
    return GM.open(key, sealed[:12], sealed[12:-24], canonical(record))


def unwrap(suite: Suite, parent: bytes, record: dict[str, Any]) -> bytes:
    """Open a wrapped key of a key file."""
    words = ["saggar/wrapped-key/1", record["id"], record["version"], record["purpose"], record["parent"]]
    sealed = base64.b64decode(record["sealed"])
    return suite.open(parent, sealed[:12], sealed[12:], canonical(words))


class SecondReader:
    """Reads what lies in `vault/` of a state directory.

    Args:
        vault: that directory.
        passphrase: the sandbox's.
    """

    def __init__(self, vault: Path, passphrase: str) -> None:
        self.vault = vault
        ring = json.loads(open_secret_file((vault / "keys" / "master").read_bytes(), passphrase))
        assert ring["v"] == 2
        self.own = SUITES[ring["suite"]]
        self.masters = {key["id"]: base64.b64decode(key["key"]) for key in ring["keys"]}

    def manifest(self, path: Path, public: dict[str, str]) -> dict[str, Any]:
        """Return the record of a manifest: canonical, of its digest, and signed (the signature of `intl` alone)."""
        stored = json.loads(path.read_bytes())
        assert canonical(stored) == path.read_bytes()
        record = stored["manifest"]
        suite = SUITES[record["suite"]]
        assert path.name == f"{suite.prefix}-{suite.digest(canonical(record)).hex()}"
        if public["suite"] == "intl":
            words = b"saggar.signature.v1\x00" + lp("intl") + lp(stored["signature"]["key"]) + lp("saggar/snapshot/1")
            signed = Ed25519PublicKey.from_public_bytes(base64.b64decode(public["signing"]))
            signed.verify(base64.b64decode(stored["signature"]["value"]), words + canonical(record))
        return record

    def halves(self, record: dict[str, Any]) -> tuple[bytes, bytes]:
        """Return platform half and owner half of a snapshot key, from the key files."""
        name = hashlib.new("sm3", b"saggar/dataset-file/1" + record["dataset"].encode()).hexdigest()[:32]
        tops = json.loads((self.vault / "keys" / "datasets" / name).read_bytes())
        assert (tops["v"], tops["dataset"]) == (3, record["dataset"])
        datasets = {key["id"]: unwrap(self.own, self.masters[key["parent"]], key) for key in tops["keys"]}
        found = []
        for side in ("platform", "owner"):
            key = json.loads((self.vault / "keys" / side / record["snapshot"]).read_bytes())["key"]
            purpose = canonical([f"{side}-half", record["dataset"], record["snapshot"], record["owner"]]).decode()
            assert key["purpose"] == purpose
            found.append(unwrap(self.own, datasets[key["parent"]], key))
        return found[0], found[1]

    def snapshot(self, record: dict[str, Any]) -> list[pa.Table]:
        """Return the partitions of a snapshot, every column of them."""
        suite = SUITES[record["suite"]]
        extracted = suite.mac(b"saggar/snapshot-key/1", b"".join(self.halves(record)))
        below = {
            what: suite.expand(extracted, what.encode() + b"\x00" + record["snapshot"].encode(), suite.key_bytes)
            for what in ("objects", "facts")
        }
        sealed = base64.b64decode(record["facts"])
        words = canonical(["saggar/facts/1", record["dataset"], record["snapshot"]])
        facts = json.loads(suite.open(below["facts"], sealed[:12], sealed[12:], words))
        columns = [column["name"] for column in record["columns"]]
        partitions: list[dict[str, pa.ChunkedArray]] = [{} for _ in range(record["partitions"])]
        for each in record["objects"]:
            words = canonical(["saggar/wrapped-key/1", each["id"], 1, "object/" + each["column"], record["snapshot"]])
            wrapped = base64.b64decode(each["key"])
            object_key = suite.open(below["objects"], wrapped[:12], wrapped[12:], words)
            raw = (self.vault / "blobs" / "objects" / each["id"]).read_bytes()
            assert len(raw) == each["bytes"]
            assert each["digest"] == f"{suite.prefix}:{suite.digest(raw).hex()}"
            part = facts["partitions"][each["partition"]]
            lengths = part["lengths"][columns.index(each["column"])]
            partitions[each["partition"]][each["column"]] = read_column(
                suite, object_key, record, each, raw, part["chunks"], lengths
            )
        for part, found in zip(facts["partitions"], partitions, strict=True):
            assert len(set(found["_unit"].to_pylist())) == part["units"]
        return [pa.table(found) for found in partitions]


# --- from an object key to its column -------------------------------------------------------------------------------


def read_column(
    suite: Suite,
    object_key: bytes,
    record: dict[str, Any],
    each: dict[str, Any],
    raw: bytes,
    rows: list[int],
    lengths: list[int],
) -> pa.ChunkedArray:
    """Return one column of one partition, given its object key."""
    place = b"saggar.seg.v1" + lp(record["dataset"]) + lp(record["snapshot"])
    place += struct.pack(">I", each["partition"]) + lp(each["column"])
    arrow = {"int64": pa.int64(), "int32": pa.int32(), "date": pa.date32(), "bool": pa.bool_(), "text": pa.string()}
    kind = next(arrow[column["type"]] for column in record["columns"] if column["name"] == each["column"])
    start, chunks = 0, []
    for number, length in enumerate(lengths):
        context = place + struct.pack(">IIQ", number, len(rows), rows[number])
        table = read_chunk(suite, object_key, context, raw[start : start + length])
        assert (table.column_names, table.num_rows) == ([each["column"]], rows[number])
        chunks.extend(table.column(0).cast(kind).chunks)
        start += length
    assert start == len(raw)
    return pa.chunked_array(chunks, kind)


def read_chunk(suite: Suite, object_key: bytes, context: bytes, chunk: bytes) -> pa.Table:
    salt, commitment, body = chunk[:24], chunk[24:56], chunk[56:]
    info = b"saggar/chunked-encryption-1MiB@v1+" + suite.aead.encode() + b"\x00" + salt + context
    derived = suite.expand(object_key, info, suite.key_bytes + 44)
    key, nonce = derived[: suite.key_bytes], int.from_bytes(derived[suite.key_bytes : -32], "big")
    assert hmac.compare_digest(derived[-32:], commitment)
    step = 1_048_576 + 16
    blocks = [body[start : start + step] for start in range(0, len(body), step)]
    assert 16 <= len(blocks[-1]) < step
    payload = b"".join(
        suite.open(key, (nonce ^ number).to_bytes(12, "big"), block, b"") for number, block in enumerate(blocks)
    )
    (length,) = struct.unpack(">Q", payload[:8])
    whole, exponent = 8 + length, (8 + length).bit_length() - 1
    step = 1 << max(0, exponent - exponent.bit_length())
    assert len(payload) == -(-whole // step) * step
    assert not any(payload[whole:])
    return pq.read_table(pa.BufferReader(payload[8:whole]))
