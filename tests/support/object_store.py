"""A small S3-compatible store on the loopback interface: what `pyarrow.fs.S3FileSystem` says over real HTTP.

Path-style objects in memory, one bucket, ListObjectsV2, multipart uploads.  It knows one access key; the signature is
not checked, which the store's own tests are for.  `faults` lets a test take the store away or spoil what it keeps.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET, ACCESS_KEY, SECRET_KEY = "city", "AKIDTEST", "a secret that must never be written down"
_XML = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass
class Store:
    """What the server holds.

    Attributes:
        endpoint: its address.
        objects: the bytes by key.
        uploads: parts of uploads under way.
        faults: `full`, `away`, `cut` (keep only half of what is written).
        requests: method and path of every request.
    """

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def running_store() -> Iterator[Store]:
    """Serve until the end of the block."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        key, query = self._begin()
        if key is None:
            return
        if not key:
            self._answer(200, self._listing(query) if "list-type" in query else _XML.encode())
        elif key not in self.store.objects:
            self._refuse(404, "NoSuchKey")
        else:
            self._object(key)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_PUT(self) -> None:
        key, query = self._begin()
        if key is None:
            return
        data = self._body()
        if "full" in self.store.faults:
            self._refuse(507, "InsufficientStorage")
        elif "uploadId" in query:
            self.store.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = data
            self._answer(200, b"", ETag=_tag(data))
        else:
            self.store.objects[key] = data[: len(data) // 2] if "cut" in self.store.faults else data
            self._answer(200, b"", ETag=_tag(data))

    def do_POST(self) -> None:
        key, query = self._begin()
        if key is None:
            return
        self._body()
        if "uploads" in query:
            upload = str(len(self.store.uploads) + 1)
            self.store.uploads[upload] = {}
            inner = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            self._answer(200, f"{_XML}<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>".encode())
        else:
            parts = self.store.uploads.pop(query["uploadId"][0])
            data = b"".join(parts[number] for number in sorted(parts))
            self.store.objects[key] = data[: len(data) // 2] if "cut" in self.store.faults else data
            inner = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><ETag>{_tag(data)}</ETag>"
            self._answer(200, f"{_XML}<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>".encode())

    def do_DELETE(self) -> None:
        key, _ = self._begin()
        if key is not None:
            self.store.objects.pop(key, None)
            self._answer(204, b"")

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def _begin(self) -> tuple[str | None, dict[str, list[str]]]:
        """Return the key and the query, or None after a refusal."""
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        self.store.requests.append((self.command, self.path))
        if "away" in self.store.faults:
            self.close_connection = True
            self.connection.close()
            return None, {}
        if f"Credential={ACCESS_KEY}/" not in self.headers.get("Authorization", ""):
            self._body()
            self._refuse(403, "InvalidAccessKeyId")
            return None, {}
        if bucket != BUCKET:
            self._body()
            self._refuse(404, "NoSuchBucket")
            return None, {}
        return key, parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return raw
        data, rest = b"", raw
        while rest:
            head, _, rest = rest.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            if not size:
                break
            data, rest = data + rest[:size], rest[size + 2 :]
        return data

    def _object(self, key: str) -> None:
        data, ranged = self.store.objects[key], self.headers.get("Range")
        headers = {"ETag": _tag(data), "Last-Modified": "Sun, 31 Jan 2027 08:00:00 GMT", "Accept-Ranges": "bytes"}
        if ranged is None:
            self._answer(200, data, **headers)
            return
        start, _, end = ranged.removeprefix("bytes=").partition("-")
        part = data[int(start) : int(end) + 1 if end else len(data)]
        headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
        self._answer(206, part, **headers)

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        contents, folders = "", set()
        for key in sorted(self.store.objects):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            contents += (
                f"<Contents><Key>{escape(key)}</Key><LastModified>2027-01-31T08:00:00.000Z</LastModified>"
                f"<ETag>{_tag(self.store.objects[key])}</ETag><Size>{len(self.store.objects[key])}</Size></Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)
        )
        inner = f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        return f"{_XML}<ListBucketResult>{inner}{contents}{common}</ListBucketResult>".encode()

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
