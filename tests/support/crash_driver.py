"""Run jobs in child processes that kill themselves at a chosen moment: `python -m tests.support.crash_driver`.

One request a line on standard input, one reply a line on standard output.  Each request is served by a fork of this
process, so that the imports are paid once.  A request names a state directory, a job, and the moment to die: `n`-th
append, `inside` its transaction (written, not committed) or `after` its commit; or the `n`-th durable file, before
or after the rename.  The child tells what it was acknowledged (`appended`, `answered`, `released`) before it dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.jobs import questions
from sandbox.jobs.line import run_job
from sandbox.ledger.store import Ledger
from sandbox.service import compose, documents, files
from tests.conftest import PROGRAM, PYTHON_JOB, SQL, SQL_JOB, World
from tests.support.readers import shared_readers

_CODE = {"sql": (SQL_JOB, SQL), "python": (PYTHON_JOB, PROGRAM)}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Counts calls, and kills the process at the one that was chosen."""

    def __init__(self, chosen: int) -> None:
        self.left = chosen

    def burn(self) -> bool:
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
