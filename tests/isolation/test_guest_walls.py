"""The walls themselves: each refuses alone, the self-test tells the truth, and they hold for whoever starts the engine."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from sandbox.model.entry import EntryKind
from sandbox.runtime.guest import canary, jail, kernel
from sandbox.runtime.guest.landlock import landlock_abi
from sandbox.runtime.guest.seccomp import assemble_filter, filter_digest
from sandbox.runtime.guest.syscalls import ARCHITECTURES, GROUPS, Rule
from sandbox.runtime.host.guests import GuestHost
from sandbox.runtime.host.report import Level
from tests.conftest import PASSPHRASE, copy_world

ROOT = Path(jail.__file__).parents[3]
SCRIPT = """
import json
from sandbox.errors import LayerMissingError
from sandbox.runtime.block_image import BlockJob, ImageColumn, encode_image
from sandbox.runtime.host.blocks import BlockWork
from sandbox.runtime.host.guests import GuestHost, Program
from sandbox.runtime.host.report import Level
source = '''
def analyze(data):
    return {"n": data.ask("x").table["n"].sum()}
'''
answer = {"ok": True, "answer": {"columns": [{"name": "n", "role": "value"}], "rows": [[4]], "standard_errors": [[1.0]],
          "lower": [[2.0]], "upper": [[6.0]], "loss": {}, "notes": []}}
job = BlockJob("def block(rows):\\n    return rows['a'].sum()\\n", {}, ("x",), "00" * 32)
work = BlockWork(lambda n: encode_image(job, 2, [ImageColumn("a", "number", [n, 1.0])]), 3, 1, 2.0)
with GuestHost() as host:
    outcome = host.run(Program(source, {}, bytes(32)), lambda _: answer)
    said = {"report": host.report.to_record(), "status": outcome.status, "outputs": outcome.outputs}
    said["blocks"] = host.run_blocks(work)
try:
    GuestHost(least=Level.FULL).start()
    said["full"] = "started"
except LayerMissingError as error:
    said["full"] = error.code
print(json.dumps(said))
"""

pytestmark = pytest.mark.isolation


@pytest.fixture
def walls():
    null_fd = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, 100)
    image = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    yield jail.Walls(assemble_filter(kernel.ARCHITECTURE), landlock_abi(), image, null_fd)
    os.close(null_fd)


ACTS = [
    (canary._open_root, "landlock", "refused:13"),
    (canary._open_root, "seccomp", "refused:1"),
    (canary._open_root, "rlimits", "refused:24"),
    (canary._open_socket, "seccomp", "ended:SIGSYS"),
    (canary._open_socket, "rlimits", "refused:24"),
    (canary._fork, "seccomp", "ended:SIGSYS"),
    (canary._execute, "seccomp", "ended:SIGSYS"),
    (canary._map_executable, "seccomp", "refused:13"),
    (canary._map_too_much, "rlimits", "refused:12"),
    (canary._duplicate, "rlimits", "refused:24"),
    (canary._signal_parent, "seccomp", "ended:SIGSYS"),
]


# pytest-xdist and some plugins keep threads, and a fork of a process with threads warns; the child only makes raw calls.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("act", "layer", "became"), ACTS)
def test_a_layer_alone_refuses_what_is_its_to_refuse(walls, act, layer, became):
    if layer == "landlock" and walls.landlock_abi == 0:
        pytest.skip("this kernel has no Landlock")
    assert canary.attempt(walls, act, frozenset({layer})) == became


@pytest.mark.parametrize("act", [canary._open_root, canary._open_socket, canary._fork, canary._duplicate])
def test_without_layers_the_same_act_succeeds_so_the_probe_can_fail(walls, act):
    assert canary.attempt(walls, act, frozenset()) == "done"


def test_a_missing_layer_is_found_by_trying(walls, monkeypatch):
    monkeypatch.setattr(jail, "install_filter", lambda _: None)
    found = {finding.name: finding for finding in canary.probe_layers(walls)}
    assert not found["seccomp"].held
    assert "could open a socket (done)" in found["seccomp"].detail
    assert not found["clocks"].held
    assert not found["together"].held
    assert found["rlimits"].held


def test_this_machine_gives_at_least_the_standard():
    with GuestHost() as host:
        assert host.report.level >= Level.STANDARD


def start_engine(command, **more):
    """Run an engine in another process and return what it printed."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_paths()["purelib"]]),
        "PATH": os.environ["PATH"],
    }
    ended = subprocess.run(
        [*command, "-c", SCRIPT],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


def readable_interpreter():
    """Return an interpreter of this version that another account may start, or None."""
    version = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        if candidate and all(parent.stat().st_mode & 1 for parent in Path(candidate).resolve().parents):
            return candidate
    return None


def test_an_ordinary_user_gets_the_same_walls():
    interpreter = readable_interpreter()
    if os.geteuid() != 0 or interpreter is None:
        pytest.skip("only root can become another account, and that account needs an interpreter that it may read")
    said = start_engine([interpreter], user=65534, group=65534, extra_groups=[])
    assert said["outputs"] == {"n": {"kind": "number", "value": 4}}
    assert said["blocks"] == [[1.0], [2.0], [3.0]]
    assert said["full"] == ("started" if said["report"]["level"] == "full" else "isolation.layer_missing")
    assert said["report"]["level"] in {"standard", "full"}


def test_an_ordinary_user_submits_a_job_whose_program_asks_blocks(world, tmp_path):
    interpreter = readable_interpreter()
    if os.geteuid() != 0 or interpreter is None:
        pytest.skip("only root can become another account, and that account needs an interpreter that it may read")
    # Pytest closes the folder above `tmp_path` to others, and may do so again at any time.
    folder = Path(tempfile.mkdtemp()) if "pytest-of-" in str(tmp_path) else tmp_path
    folder.chmod(0o755)
    try:
        submit_as_nobody(interpreter, copy_world(world, folder / "own"), folder)
    finally:
        if folder != tmp_path:
            shutil.rmtree(folder)


def submit_as_nobody(interpreter, world, folder):
    """Give a world to the account without rights, and let it submit a job as a person would."""
    (world.files / "program.py").write_text(
        "def analyze(data):\n    source = \"def block(rows):\\n    return rows['days'].count() > 0\\n\"\n"
        "    n = data.blocks('visits', source, k=4, output={'x': (0, 1)}, milliseconds=2000, share='1/2').table['x'][0]\n"
        "    return {'by_district': {'district': ['all'], 'n': [1.0]}, 'mean_days': n}\n"
    )
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534)
    done = subprocess.run(
        [interpreter, "-m", "sandbox.cli.main", "--state", world.state, "submit", "job_python.yaml", "--json"],
        env={
            "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_paths()["purelib"]]),
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SAGGAR_PASSPHRASE": PASSPHRASE,
            "SAGGAR_TRACEBACK": "1",
        },
        cwd=world.files,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (world.files / "releases").is_dir()
    assert (world.files / "releases").stat().st_uid == 65534
    with world.records() as records:
        settled = [entry for entry in records.ledger.entries() if entry.kind is EntryKind.JOB_SETTLED][-1]
    assert settled.body["isolation"]["level"] in {"standard", "full"}


def test_without_user_namespaces_the_level_says_so_and_programs_still_run():
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("user namespaces are needed to take user namespaces away")
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    said = start_engine(["unshare", "-Ur", "sh", "-c", shell, "sh", sys.executable])
    held = {layer["name"]: layer["held"] for layer in said["report"]["layers"]}
    assert said["outputs"] == {"n": {"kind": "number", "value": 4}}
    assert said["report"]["level"] == ("standard" if held["landlock"] else "floor")
    assert said["blocks"] == [[1.0], [2.0], [3.0]]
    assert said["full"] == "isolation.layer_missing"
    assert not any(held[name] for name in held if name.endswith("_namespace") or name in {"root", "net"})
    assert held["seccomp"]
    assert held["rlimits"]


def test_every_call_has_a_reason_and_a_number():
    names = [name for group in GROUPS for name in group.names]
    assert len(names) == len(set(names))
    assert set(names) == set(ARCHITECTURES["x86_64"].numbers)
    assert set(ARCHITECTURES["aarch64"].numbers) < set(names)
    assert all(len(group.reason) > 20 for group in GROUPS)
    for architecture in ARCHITECTURES.values():
        assert len(set(architecture.numbers.values())) == len(architecture.numbers)


def test_few_calls_are_allowed():
    allowed = [name for group in GROUPS if group.rule is not Rule.REFUSE for name in group.names]
    memory = {"brk", "munmap", "mremap", "madvise", "mmap", "mprotect"}
    assert set(allowed) == memory | {"futex", "exit", "exit_group", "restart_syscall", "read", "write"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_filter_ends_in_killing_and_checks_the_architecture_first(name):
    program = assemble_filter(ARCHITECTURES[name])
    steps = [program[start : start + 8] for start in range(0, len(program), 8)]
    assert len(program) % 8 == 0
    assert len(steps) < 4096
    assert steps[0] == bytes([0x20, 0, 0, 0, 4, 0, 0, 0])
    assert steps[1][4:] == ARCHITECTURES[name].audit.to_bytes(4, "little")
    assert steps[2] == steps[-1] == bytes([0x06, 0, 0, 0, 0, 0, 0, 0x80])
    assert filter_digest(program) == filter_digest(assemble_filter(ARCHITECTURES[name]))
