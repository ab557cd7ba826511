"""Run jobs in child processes that kill themselves at a chosen moment: `python -m tests.support.crash_driver`.

One request a line on standard input, one reply a line on standard output.  Each request is served by a fork of this
process, so that the imports are paid once.  A request names a state directory, a job, and the moment to die: `n`-th
append, `inside` its transaction (written, not committed) or `after` its commit; or the `n`-th durable file, before
or after the rename; or the `n`-th blob of the vault; or the `n`-th rename of any file.  In place of a job it may name
what keeps data: `ingest`, `agree`, `export`, `destroy`, or a ceremony over keys: `rotate`, `rotate-dataset`,
`second-factor`.  The child tells what it was acknowledged (`appended`, `answered`, `released`) before it dies.  At `disk`
it does not die: from its `n`-th write on, the system gives no file any more room, and it tells the code of the refusal.
"""

from __future__ import annotations

import json
import os
import resource
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
from sandbox.errors import SaggarError
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
from sandbox.service import compose, config, documents, files, rekey, second_factor
from sandbox.service.ceremonies import open_keys, rotate, set_second_factor
from sandbox.vault import blobs
from tests.conftest import AGREEMENT, DESCRIPTION, PASSPHRASE, PROGRAM, PYTHON_JOB, SQL, SQL_JOB, World, running
from tests.support.readers import shared_readers

_CEREMONIES = {"rotate", "rotate-dataset", "second-factor"}
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

    for module in (documents, files, rekey, second_factor, config):
        module.write_durably = wrapped  # type: ignore[attr-defined]


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


def wrap_renames(kill: dict[str, Any]) -> None:
    fuse, replace_file = Fuse(kill["n"] if kill["at"] == "rename" else 0), Path.replace

    def wrapped(path: Path, target: Any) -> Path:
        now = fuse.burn()
        if now and kill["when"] == "before":
            die()
        moved = replace_file(path, target)
        if now:
            die()
        return moved

    Path.replace = wrapped  # type: ignore[assignment, method-assign]


def fill_disk(kill: dict[str, Any]) -> None:
    """From the `n`-th append, blob or file on, let no file grow, by the system's own limit."""
    fuse = Fuse(kill["n"] if kill["at"] == "disk" else 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limited(act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **more: Any) -> Any:
            if fuse.burn():
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return act(*given, **more)

        return wrapped

    Ledger.append_all = limited(Ledger.append_all)  # type: ignore[method-assign]
    blobs.LocalBlobStore.put = limited(blobs.LocalBlobStore.put)  # type: ignore[method-assign]
    write = limited(files.write_durably)
    for module in (documents, files, rekey, second_factor, config):
        module.write_durably = write  # type: ignore[attr-defined]


def wrap_all(kill: dict[str, Any] | None, say: Callable[..., None]) -> None:
    if kill is None:
        return
    if kill["at"] == "disk":
        fill_disk(kill)
        return
    wrap_appends(kill, say)
    wrap_blobs(kill)
    wrap_files(kill)
    wrap_renames(kill)


def hold_ceremony(world: World, act: str, kill: dict[str, Any] | None, say: Callable[..., None]) -> None:
    with open_keys(world.state, passphrase=PASSPHRASE, purpose="test", wait_s=5) as keys:
        wrap_all(kill, say)
        if act == "second-factor":
            medium = world.state.parent / "medium"
            medium.mkdir(exist_ok=True)
            set_second_factor(keys, medium / f"factor-{len(list(medium.iterdir()))}", passphrase=PASSPHRASE)
        else:
            rotate(keys, PASSPHRASE, dataset="clinic" if act == "rotate-dataset" else None)


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
    if request["job"] in _CEREMONIES:
        hold_ceremony(world, request["job"], request["kill"], say)
        say(kept=request["job"])
        return
    with world.engine() as engine:  # whatever opening appends was before the job, and is not counted
        if request["job"] not in _CODE:
            wrap_all(request["kill"], say)
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
            except SaggarError as error:
                if (request["kill"] or {}).get("at") != "disk":
                    traceback.print_exc()
                say(refused=error.code, message=error.message, hint=error.hint)
                os._exit(1)
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
