"""A disk that is full: one clear sentence, a documented code, what was recorded stays, and nothing is given back.

A file-size limit in a child process stands in for a full disk at every write; a small real file system shows the real one.
"""

import os
import shutil
import subprocess
import sys

import pytest

from sandbox.errors import StorageError
from sandbox.model.job import JobState
from sandbox.model.loss import NO_LOSS
from tests.conftest import World, copy_world
from tests.support.line_world import AGREEMENT_ACCOUNT, ROOT, check_log, command, environment, posted, saggar, size

# The limit counts from what the file has now, so that opening works and the n-th growth does not.
LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from sandbox.cli.main import app
from sandbox.jobs import line
which, room = sys.argv.pop(1), int(sys.argv.pop(1))
honest = getattr(line, which)
def full(*given, **more):
    largest = max(path.stat().st_size for path in Path(sys.argv[2]).rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return honest(*given, **more)
setattr(line, which, full)
app()
"""


def submit_on_a_disk_full_at(world, stage, room=0):
    done = subprocess.run(
        [
            sys.executable, "-c", LIMITED, stage, str(room), "--state", str(world.state), "submit",
            str(world.files / "job_sql.yaml"), "--out", str(world.files / "out"),
        ],
        env=environment(),
        cwd=world.files,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("stage", "spent"),
    [("submit", False), ("admit", False), ("reserve", False), ("log_opening", True), ("gate", True), ("settle", True)],
)
def test_a_disk_that_fills_up_at_any_stage_is_told_and_gives_nothing_back(world, stage, spent):
    before = size(world)
    done = submit_on_a_disk_full_at(world, stage)
    assert done.returncode == 6, done.stderr
    assert "vault.storage" in done.stderr
    assert "hint:" in done.stderr
    assert not (world.files / "out").exists()
    assert size(world) >= before
    with world.engine() as engine:  # the disk has room again
        check_log(engine)
        account = engine.state().accounts[AGREEMENT_ACCOUNT]
        assert account.pending == NO_LOSS
        assert (account.posted != NO_LOSS) == spent
        assert all(job.state in (JobState.REFUSED, JobState.RECOVERED) for job in engine.state().jobs.values())
    assert world.run(nonce="after").release


def test_an_ingest_on_a_full_disk_leaves_what_was_there(world):
    script = LIMITED.replace("from sandbox.jobs import line", "from sandbox.vault.store import Vault as line")
    before = posted(world, "dataset:clinic/patient"), size(world)
    done = subprocess.run(
        [
            sys.executable, "-c", script, "seal", "100", "--state", str(world.state), "ingest",
            str(world.files / "clinic.yaml"), str(world.files / "clinic.csv"), "--owner", "health",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "vault.storage" in done.stderr
    assert (posted(world, "dataset:clinic/patient"), size(world)) == before
    assert world.run().release


def test_a_document_that_cannot_be_synced_was_not_written(world, monkeypatch):
    import errno

    from sandbox.service import files

    def full(_):
        raise OSError(errno.ENOSPC, "no space")

    with world.engine() as engine:
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "fsync", full)
            with pytest.raises(StorageError, match="the disk is full, so nothing was written") as refused:
                engine.documents.put(b"something new")
        assert refused.value.code == "vault.storage.full"
        assert not any((world.state / "documents" / "objects").glob(".*"))
        engine.documents.put(b"something new")


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 8 MiB, where this machine lets us make and mount one."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        pytest.skip("a small real file system can only be made and mounted by root, with mkfs.ext4 and mount")
    image, mounted = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    mounted.mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, check=False)
    up = subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], capture_output=True, text=True, check=False)
    if made.returncode or up.returncode:
        pytest.skip(f"this machine does not mount a loop device: {up.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_on_a_real_full_disk_a_job_is_refused_and_works_once_there_is_room(world, small_disk):
    shutil.rmtree(small_disk / "lost+found", ignore_errors=True)
    here = copy_world(world, small_disk / "world")
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            pass
    done = subprocess.run(
        command("--state", here.state, "submit", here.files / "job_sql.yaml", "--out", here.files / "out"),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 6, done.stderr
    assert "vault.storage" in done.stderr
    ballast.unlink()
    told = saggar("--state", here.state, "budget", "--json", cwd=ROOT)
    assert told.code == 0
    assert told.json[AGREEMENT_ACCOUNT]["posted"]["rho"] == "0"
    assert World(here.state, here.files).run().release
