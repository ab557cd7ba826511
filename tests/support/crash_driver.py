"""Run jobs in child processes that kill themselves at a chosen moment: `python -m tests.support.crash_driver`.

One request a line on standard input, one reply a line on standard output.  Each request is served by a fork of this
process, so that the imports are paid once.  A request names a state directory, a job, and the moment to die: `n`-th
append, `inside` its transaction (written, not committed) or `after` its commit; or the `n`-th durable file, before
or after the rename; or the `n`-th blob of the vault.  In place of a job it may name what keeps data: `ingest`, `agree`,
`export`, `destroy`.  The child tells what it was acknowledged (`appended`, `answered`, `released`) before it dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.csv_source import CsvSource
from sandbox.crypto.signing import sign
from sandbox.jobs import questions
from sandbox.jobs.agree import register_agreement
from sandbox.jobs.destroy import destroy
from sandbox.jobs.export import export_bundle
from sandbox.jobs.ingest import ingest
from sandbox.jobs.line import run_job
from sandbox.ledger.store import Ledger
from sandbox.model.agreement import SIGNING_CONTEXT, SignedAgreement
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import SuiteName
from sandbox.model.load_agreement import load_agreement
from sandbox.model.load_description import load_description
from sandbox.service import compose, documents, files
from sandbox.vault import blobs
from tests.conftest import AGREEMENT, DESCRIPTION, PASSPHRASE, PROGRAM, PYTHON_JOB, SQL, SQL_JOB, World, running
from tests.support.readers import shared_readers

_CODE = {"sql": (SQL_JOB, SQL), "python": (PYTHON_JOB, PROGRAM)}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Counts calls, and kills the process at the one that was chosen."""

    def __init__(self, chosen: int) -> None:
        self.left = chosen
        self.lock = threading.Lock()  # documents are written side by side

    def burn(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left == 0


def wrap_appends(kill: dict[str, Any], say: Callable[..., None]) -> None:
    fuse = Fuse(kill["n"] if kill["at"] == "append" else 0)
    append_all, add = Ledger.append_all, Ledger._add

    def wrapped(ledger: Ledger, drafts: Any) -> Any:
        now = fuse.burn()
        if now and kill["when"] == "before":
            die()
        if now and kill["when"] == "inside":
            Ledger._add = lambda *given: (add(*given), die())  # type: ignore[assignment, return-value]
        entries = append_all(ledger, drafts)
        for entry in entries:
            say(appended=entry.kind.value, seq=entry.seq)
        if now:
            die()
        return entries

    Ledger.append_all = wrapped  # type: ignore[method-assign]


def wrap_files(kill: dict[str, Any]) -> None:
    fuse = Fuse(kill["n"] if kill["at"] == "file" else 0)
    write = files.write_durably

    def wrapped(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        now = fuse.burn()
        if now and kill["when"] == "before":
            die()
        if now and kill["when"] == "inside":
            Path.replace = lambda *_: die()  # type: ignore[assignment, method-assign, return-value]
        write(path, data, mode=mode)
        if now:
            die()

    documents.write_durably = wrapped  # type: ignore[assignment]
    files.write_durably = wrapped  # type: ignore[assignment]


def wrap_blobs(kill: dict[str, Any]) -> None:
    fuse = Fuse(kill["n"] if kill["at"] == "blob" else 0)

    def mortal(act: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*given: Any) -> None:
            now = fuse.burn()
            if now and kill["when"] == "before":
                die()
            if now and kill["when"] == "inside":
                Path.replace = lambda *_: die()  # type: ignore[assignment, method-assign, return-value]
                Path.unlink = lambda *_: die()  # type: ignore[assignment, method-assign, return-value]
            act(*given)
            if now:
                die()

        return wrapped

    store = blobs.LocalBlobStore
    store.put, store.delete = mortal(store.put), mortal(store.delete)  # type: ignore[method-assign]


def keep(world: World, engine: Any, act: str) -> None:
    """Do what no job does: take rows in, register an agreement, hand the log out, destroy."""
    match act:
        case "ingest":
            description = load_description(DESCRIPTION, "clinic.yaml")
            source = world.files / "clinic.csv"
            ingest(
                engine, description, lambda tokeniser: CsvSource(source, description, tokeniser),
                suite=SuiteName.GM, owner="health",
            )  # fmt: skip
        case "agree":
            parties = {key.name: key.key_id for key in engine.state().keys.values()}
            terms = running(load_agreement(AGREEMENT, "agreement.yaml", parties), engine.clock.now())
            terms = replace(terms, agreement="clinic-second")
            message = canonical_bytes(terms.to_record())
            signatures = tuple(
                sign(compose.unlock_named(world.state, name, PASSPHRASE), SIGNING_CONTEXT, message)
                for name in ("operator", "agency")
            )
            register_agreement(engine, SignedAgreement(terms, signatures))
        case "export":
            auditor = next(key for key in engine.state().keys.values() if key.name == "auditor")
            for name, data in export_bundle(engine, by=auditor.key_id).items():
                files.write_durably(world.files / "bundle" / name, data)
        case "destroy":
            people = [compose.unlock_named(world.state, name, PASSPHRASE) for name in ("agency", "health")]
            destroy(engine, "clinic", people, basis="order 2027-17")
        case _:
            raise AssertionError(act)


def wrap_answers(say: Callable[..., None]) -> None:
    answer = questions.Questioner.answer

    def wrapped(questioner: Any, question: Any) -> Any:
        answered = answer(questioner, question)
        say(answered=questioner.spent.to_record())
        return answered

    questions.Questioner.answer = wrapped  # type: ignore[method-assign]


def serve(request: dict[str, Any], say: Callable[..., None]) -> None:
    world = World(Path(request["state"]), Path(request["state"]).parent / "files")
    with world.engine() as engine:  # whatever opening appends was before the job, and is not counted
        if request["job"] not in _CODE:
            if request["kill"] is not None:
                wrap_appends(request["kill"], say)
                wrap_blobs(request["kill"])
                wrap_files(request["kill"])
            keep(world, engine, request["job"])
            say(kept=request["job"])
            return
        signed = world.signed(engine, *_CODE[request["job"]])
        if request["kill"] is not None:
            wrap_appends(request["kill"], say)
            wrap_files(request["kill"])
        wrap_answers(say)
        say(job=signed.spec.digest())
        released = run_job(engine, signed)
        say(released=released.release.digest())


def main() -> None:
    assert compose
    with shared_readers():
        serve_all()


def serve_all() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)

            def say(to: int = writing, **what: Any) -> None:
                os.write(to, json.dumps(what).encode() + b"\n")

            try:
                serve(request, say)
            except BaseException:
                traceback.print_exc()
                os._exit(3)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as told:
            said = [json.loads(text) for text in told]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(json.dumps({"status": status, "said": said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
