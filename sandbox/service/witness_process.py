"""The witness as a process of its own: `python -m sandbox.service.witness_process DIRECTORY`.

It is handed its passphrase and the logs it knows on standard input, then one request a line, and answers one line each.
Its memory is its directory: the head it last cosigned for each log, stored durably before any cosignature leaves.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from sandbox.crypto.keyfile import unlock_key
from sandbox.errors import SaggarError, WitnessError
from sandbox.ledger.merkle import Proofs
from sandbox.ledger.witness import SeenHead, Witness
from sandbox.model.keys import PublicKey
from sandbox.service.clock import SystemClock
from sandbox.service.files import write_durably


class DirectoryMemory:
    """One file a log; compare and store under a lock, synced before it answers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def latest(self, origin: str) -> SeenHead | None:
        """Return the head last stored for a log, or None."""
        path = self._path(origin)
        return SeenHead.from_note(path.read_text(encoding="utf-8")) if path.exists() else None

    def advance(self, origin: str, expected: SeenHead | None, head: SeenHead) -> bool:
        """Store `head` if the row still is `expected`, and say whether it was stored."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self.latest(origin) != expected:
                return False
            write_durably(self._path(origin), head.note.encode())
        finally:
            os.close(descriptor)
        return True

    def _path(self, origin: str) -> Path:
        return self._directory / f"head-{hashlib.sha256(origin.encode()).hexdigest()[:32]}.note"


def answer(witness: Witness, memory: DirectoryMemory, request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request: `latest` (which size to prove from) or `cosign`."""
    try:
        if request["verb"] == "latest":
            head = memory.latest(str(request["origin"]))
            return {"size": 0 if head is None else head.size}
        proofs = Proofs(sm3=_hashes(request["sm3"]), sha256=_hashes(request["sha256"]))
        return {"line": witness.cosign(int(request["old_size"]), proofs, str(request["note"]), SystemClock().now())}
    except SaggarError as error:
        return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def main() -> None:
    """Serve requests from standard input until it closes."""
    directory = Path(sys.argv[1])
    hello = json.loads(sys.stdin.readline())
    key_file = directory / "witness.key"
    try:
        key = unlock_key(key_file.read_bytes(), hello["passphrase"])
        logs = {origin: [PublicKey.parse(k) for k in keys] for origin, keys in hello["logs"].items()}
        memory = DirectoryMemory(directory)
        witness = Witness(key, logs, memory)
    except (SaggarError, OSError) as error:
        reason = (
            error
            if isinstance(error, SaggarError)
            else WitnessError("the witness's key cannot be read", hint="restore it")
        )
        _say({"error": {"code": reason.code, "message": reason.message, "hint": reason.hint}})
        return
    _say({"ready": key.public.key_id})
    for line in sys.stdin:
        _say(answer(witness, memory, json.loads(line)))


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def _hashes(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(text, validate=True) for text in texts)


if __name__ == "__main__":
    main()
