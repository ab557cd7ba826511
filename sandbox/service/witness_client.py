"""The line to a local witness: a child process with a key and a memory of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.errors import ConsistencyError, WitnessError
from sandbox.ledger.checkpoint import parse_checkpoint
from sandbox.ledger.merkle import Proofs
from sandbox.model.keys import PublicKey

_STOP_S = 5.0


class LocalWitness:
    """Starts the witness when it is first needed and stops it at `close`.

    Args:
        directory: the witness's own directory.
        passphrase: of the witness's key; handed over on a pipe, never on a command line.
        log: `(origin, sandbox keys)` that it shall know.
    """

    def __init__(self, directory: Path, passphrase: str, log: tuple[str, list[PublicKey]]) -> None:
        self._directory = directory
        self._passphrase = passphrase
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def cosign(self, note: str, prove: Callable[[int, int], Proofs]) -> str:
        """Return the cosignature line for a checkpoint note.

        Raises:
            WitnessError: it refused or cannot be reached.
            ConsistencyError: it has seen a log that this one does not extend.
        """
        checkpoint = parse_checkpoint(note)
        old = int(self._ask({"verb": "latest", "origin": checkpoint.origin})["size"])
        if old > checkpoint.size:
            raise ConsistencyError(
                f"the witness has seen {old} entries, this log has {checkpoint.size}",
                hint="this state directory was rolled back; restore the newest backup of it",
                code="ledger.consistency.rolled_back",
            )
        proofs = prove(old, checkpoint.size)
        request = {
            "verb": "cosign",
            "old_size": old,
            "sm3": _texts(proofs.sm3),
            "sha256": _texts(proofs.sha256),
            "note": note,
        }
        return str(self._ask(request)["line"])

    def close(self) -> None:
        """Stop the witness."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._exchange(self._running(), request)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sandbox.service.witness_process", str(self._directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            origin, keys = self._log
            hello = {"passphrase": self._passphrase, "logs": {origin: [key.to_record() for key in keys]}}
            self._exchange(self._process, hello)
        return self._process

    def _exchange(self, process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
        try:
            process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            reply = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        except (OSError, ValueError) as error:
            raise WitnessError(
                "the witness does not answer, so nothing is opened and nothing may leave",
                hint="see to it that the witness runs",
                code="ledger.witness.unreachable",
            ) from error
        if "error" in reply:
            said = reply["error"]
            family = ConsistencyError if said["code"].startswith("ledger.consistency") else WitnessError
            raise family(
                f"the witness refused: {said['message']}",
                hint=said["hint"],
                code=said["code"] if said["code"].startswith(family.code) else None,
            )
        return dict(reply)


def _texts(hashes: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(value).decode() for value in hashes]
