"""A receipt: one entry with all that is needed to verify it offline, as a C2SP `.tlog-proof` text.

```
c2sp.org/tlog-proof@v1
extra <base64 of {"entry": text, "sm3": [hash …], "v": 1}>
index 1207
<base64 SHA-256 hash, from the leaf's sibling upwards, one a line>

<the cosigned checkpoint, as it is>
```

So a tool that knows C2SP and is given the entry's bytes can check the SHA-256 half; ours checks both halves.  The extra
data is not authenticated by itself: the entry is believed because its hash is in both trees.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from sandbox.errors import CanonicalError, CheckpointError, InclusionError
from sandbox.ledger.checkpoint import parse_checkpoint
from sandbox.ledger.merkle import HASH_BYTES, MAX_PROOF_HASHES, Proofs
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.entry import MAX_ENTRY_BYTES

HEADER = "c2sp.org/tlog-proof@v1"
MAX_RECEIPT_BYTES = 512_000
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A parsed receipt, not yet believed.

    Attributes:
        entry: the bytes of the entry.
        index: its number in the log.
        proofs: its inclusion proofs in both trees.
        note: the cosigned checkpoint.
    """

    entry: bytes
    index: int
    proofs: Proofs
    note: str

    def to_text(self) -> str:
        """Return the receipt as it is written."""
        extra = canonical_bytes(
            {"v": 1, "entry": self.entry.decode("utf-8", "strict"), "sm3": [_base64(h) for h in self.proofs.sm3]}
        )
        lines = [HEADER, f"extra {_base64(extra)}", f"index {self.index}", *map(_base64, self.proofs.sha256)]
        return "\n".join(lines) + "\n\n" + self.note


def build_receipt(entry: bytes, index: int, proofs: Proofs, note: str) -> str:
    """Return a receipt's text; `note` is a checkpoint that covers the entry.

    Raises:
        InclusionError: `ledger.inclusion.malformed`: the parts do not make a receipt.
    """
    try:
        text = Receipt(entry, index, proofs, note).to_text()
    except UnicodeDecodeError as error:
        raise _malformed("its entry is not text") from error
    parse_receipt(text)
    return text


def parse_receipt(text: str) -> Receipt:
    """Return a receipt's parts, believing nothing; strict, so that `parse_receipt(text).to_text() == text`.

    Raises:
        InclusionError: `ledger.inclusion.malformed`.
    """
    if len(text) > MAX_RECEIPT_BYTES:
        raise _malformed("it is too large")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or len(lines) < 3 or lines[0] != HEADER or not lines[1].startswith("extra "):
        raise _malformed("its first lines are not those of a receipt")
    match = _INDEX.fullmatch(lines[2])
    if match is None:
        raise _malformed("its index is not a plain number")
    extra = _extra(lines[1].removeprefix("extra "))
    try:
        parse_checkpoint(note)
    except CheckpointError as error:
        raise _malformed("its checkpoint is malformed") from error
    return Receipt(
        entry=extra["entry"].encode(),
        index=int(match[1]),
        proofs=Proofs(sm3=_hashes(extra["sm3"]), sha256=_hashes(lines[3:])),
        note=note,
    )


def _extra(text: str) -> dict[str, Any]:
    try:
        extra = parse_canonical(_bytes(text))
    except CanonicalError as error:
        raise _malformed("its extra data is not a canonical record") from error
    well_formed = (
        isinstance(extra, dict)
        and extra.keys() == {"v", "entry", "sm3"}
        and extra["v"] == 1
        and extra["v"] is not True
        and isinstance(extra["entry"], str)
        and len(extra["entry"].encode()) <= MAX_ENTRY_BYTES
        and isinstance(extra["sm3"], list)
    )
    if not well_formed:
        raise _malformed("its extra data has other fields")
    return dict(extra)


def _hashes(lines: list[Any]) -> tuple[bytes, ...]:
    hashes = tuple(_bytes(line) for line in lines)
    if len(hashes) > MAX_PROOF_HASHES or any(len(value) != HASH_BYTES for value in hashes):
        raise _malformed("its proof holds something else than 32-byte hashes")
    return hashes


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or not text:
        raise _malformed("a line that should be base64 is not")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _malformed("a line that should be base64 is not") from error
    if _base64(raw) != text:
        raise _malformed("a line is not canonical base64")
    return raw


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _malformed(why: str) -> InclusionError:
    return InclusionError(
        f"a receipt is malformed: {why}", hint="copy the receipt whole", code="ledger.inclusion.malformed"
    )
