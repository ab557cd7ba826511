"""No plaintext at rest: after a whole workload, under memory pressure and after a crash; and a restore that works."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.errors import SealBrokenError, VaultError
from sandbox.model.keys import Role


def holding(folder: Path, *needles: bytes) -> list[str]:
    """Return the files below a folder that hold one of the needles."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [str(path.relative_to(folder)) for needle in needles if needle in data]
    return found


def needles() -> tuple[bytes, ...]:
    marker = "Zyxwvut-marker"
    return marker.encode(), marker.encode("utf-16-le"), b"unique-illness"


@pytest.fixture
def own_temp(tmp_path, monkeypatch):
    """A temporary directory of this test's own, so that whatever is spilled is seen."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_a_whole_workload_leaves_no_plaintext(world, own_temp):
    from tests.conftest import PROGRAM, PYTHON_JOB

    world.run()
    world.run(PYTHON_JOB, PROGRAM)
    assert holding(world.files, *needles())  # the scan does find the marker in the department's own file
    assert holding(world.state, *needles()) == []
    assert holding(own_temp, *needles()) == []


def test_an_engine_may_not_be_dumped_or_traced(world):
    with world.engine():
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        status = Path("/proc/self/status").read_text()
        assert "CoreDumping:\t0" in status
        import ctypes

        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE


def test_the_query_engine_cannot_spill():
    from sandbox.compute.run import open_engine

    connection = open_engine()
    (folder,) = connection.execute("SELECT current_setting('temp_directory')").fetchone()
    assert folder == ""
    with pytest.raises(Exception, match="locked"):
        connection.execute("SET temp_directory = '/tmp/spill'")
    connection.close()


def test_memory_pressure_is_a_clean_refusal_and_nothing_is_spilled(world, own_temp, monkeypatch):
    import duckdb
    import numpy as np
    import pyarrow as pa

    from sandbox.compute import run
    from sandbox.compute.run import open_engine

    monkeypatch.setattr(run, "_CLOSED", {**run._CLOSED, "memory_limit": "8MB"})
    connection = open_engine(1)
    rows = 400_000
    text = pa.array([f"Zyxwvut-marker-{number:09d}" for number in range(rows)])
    connection.register("t", pa.table({"k": text, "v": np.arange(rows)}))
    with pytest.raises(duckdb.OutOfMemoryException):
        connection.execute("SELECT k, sum(v) FROM t GROUP BY k ORDER BY k").fetchall()
    connection.close()
    assert [path for path in own_temp.rglob("*") if path.is_file()] == []
    assert not Path(".tmp").exists()


def test_an_engine_that_fails_says_nothing_of_values(world, monkeypatch):
    from sandbox.compute import reader

    class Broken(reader.WorkOrder):
        @classmethod
        def of(cls, plan):
            layout = replace(plan.layout, tallies=())  # so that the statement runs
            return replace(super().of(plan), sql="SELECT error('failed at Zyxwvut-marker') FROM t", layout=layout)

    monkeypatch.setattr(reader, "WorkOrder", Broken)
    with pytest.raises(VaultError, match="the engine failed on a partition") as caught:
        world.run()
    assert caught.value.code == "vault.engine"
    assert "Zyxwvut" not in repr(caught.value.to_dict())
    assert holding(world.state, *needles()) == []


def test_a_crash_with_open_columns_leaves_no_plaintext(world, own_temp):
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from sandbox.model.keys import Role
        from sandbox.service.compose import open_engine
        with open_engine(Path({str(world.state)!r}), passphrase="a test's passphrase", purpose="crash", wait_s=20) as e:
            known = e.state().datasets["clinic"].snapshot
            opened = e.vault.open_snapshot(known, ["secret_note", "reason"], e.trusted(Role.SANDBOX))
            kept = list(opened.partitions())
            assert any("Zyxwvut-marker" in str(t.column("secret_note").to_pylist()) for t in kept)
            print("open", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
    """
    folder = own_temp / "cwd"
    folder.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "open\n", ran.stderr
    assert ran.returncode == -signal.SIGSEGV
    assert holding(world.state, *needles()) == []
    assert holding(own_temp, *needles()) == []
    assert [path.name for path in folder.iterdir()] == []  # no core file


def test_a_restored_backup_passes_the_check_and_answers(world, tmp_path):
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    shutil.copytree(world.state, backup)
    victim = next(path for path in sorted((world.state / "vault" / "blobs" / "objects").iterdir()))
    raw = bytearray(victim.read_bytes())
    raw[-1] ^= 1
    victim.write_bytes(bytes(raw))
    with world.engine() as engine:
        report = engine.vault.check(engine.trusted(Role.SANDBOX))
        assert [fault.object for fault in report.faults] == [f"objects/{victim.name}"]
        with pytest.raises(SealBrokenError):
            report.raise_if_broken()
    shutil.copytree(backup, restored)
    again = type(world)(restored, world.files)
    with again.engine() as engine:
        assert not engine.vault.check(engine.trusted(Role.SANDBOX)).faults
    again.run()


def test_the_command_names_the_broken_object(world, monkeypatch):
    from typer.testing import CliRunner

    from sandbox.cli.main import app

    monkeypatch.setenv("SAGGAR_PASSPHRASE", "a test's passphrase")
    runner = CliRunner()
    whole = runner.invoke(app, ["--state", str(world.state), "vault", "check"])
    assert whole.exit_code == 0, whole.output
    assert "whole" in whole.output
    victim = next(path for path in sorted((world.state / "vault" / "blobs" / "objects").iterdir()))
    raw = bytearray(victim.read_bytes())
    raw[10] ^= 4
    victim.write_bytes(bytes(raw))
    broken = runner.invoke(app, ["--state", str(world.state), "vault", "check", "--json"])
    assert broken.exit_code == 6
    assert f"objects/{victim.name}" in broken.output
    (world.state / "vault" / "blobs" / "objects" / ("f" * 32)).write_bytes(b"stray")
    victim.write_bytes(bytes(raw[:10] + bytes([raw[10] ^ 4]) + raw[11:]))
    collected = runner.invoke(app, ["--state", str(world.state), "vault", "collect"])
    assert collected.exit_code == 0, collected.output
    assert "1 stray files removed" in collected.output
