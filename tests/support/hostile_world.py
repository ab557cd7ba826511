"""What a hostile program could touch, and how one sees that it did: judged by the world, not by what a program says."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.runtime.host.guests import GuestLimits, GuestOutcome, Program

LIMITS = GuestLimits(cpu_s=0.4, wall_s=2.5, memory_bytes=256 << 20, questions=8, output_bytes=1 << 16)
HONEST = 'def analyze(data):\n    return {"n": data.parameters["n"]}\n'
ANSWER = {
    "ok": True,
    "answer": {
        "columns": [{"name": "n", "role": "value"}], "rows": [[5]], "standard_errors": [[1.0]], "lower": [[3.0]],
        "upper": [[7.0]], "loss": {"measure": "zcdp", "amount": "1/8"}, "notes": [],
    },
}  # fmt: skip
_IN_FOLDER = ["planted.py", "secret"]


@dataclass
class World:
    """A folder with a secret, listeners of three kinds, a process that could be hurt."""

    folder: Path
    token: str
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    victim: subprocess.Popen

    @property
    def parameters(self) -> dict:
        return {
            "folder": str(self.folder), "secret": str(self.folder / "secret"), "port": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1], "abstract": self.abstract.getsockname()[1:].decode(),
            "victim": self.victim.pid, "n": 7,
        }  # fmt: skip

    def touched(self, said: str) -> list[str]:
        """Return what happened that must not happen."""
        marks = []
        if sorted(path.name for path in self.folder.iterdir()) != _IN_FOLDER:
            marks.append("the folder changed")
        elif self.token not in (self.folder / "secret").read_text():
            marks.append("the secret changed")
        if self.token in said:
            marks.append("the secret came out")
        for name in ("tcp", "udp", "abstract"):
            with contextlib.suppress(BlockingIOError):
                channel = getattr(self, name)
                channel.recv(1) if name == "udp" else channel.accept()[0].close()
                marks.append(f"something arrived over {name}")
        if self.victim.poll() is not None:
            marks.append("the victim ended")
        return marks

    def restore(self) -> None:
        """Put everything back as it was; for runs in which walls are down."""
        for path in self.folder.iterdir():
            if path.name not in _IN_FOLDER:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        write_secrets(self.folder, self.token)
        assert sorted(path.name for path in self.folder.iterdir()) == _IN_FOLDER, "or every later program looks guilty"
        if self.victim.poll() is not None:
            self.victim = start_victim()


def write_secrets(folder: Path, token: str) -> None:
    (folder / "secret").write_text(f"the secret is {token}\n")
    (folder / "planted.py").write_text(f"SECRET = {token!r}\n")


def start_victim() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


@contextlib.contextmanager
def open_world(folder: Path):
    """Yield a world in an empty folder, which everybody may read."""
    token = secrets.token_hex(16)
    write_secrets(folder, token)
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0saggar-" + token)
    abstract.listen()
    for channel in (tcp, udp, abstract):
        channel.setblocking(False)
    os.environ["SAGGAR_TEST_TOKEN"] = token
    world = World(folder, token, tcp, udp, abstract, start_victim())
    try:
        yield world
    finally:
        del os.environ["SAGGAR_TEST_TOKEN"]
        world.victim.kill()
        world.victim.wait()
        for channel in (tcp, udp, abstract):
            channel.close()


def commit(host, world: World, source: str) -> tuple[GuestOutcome, list[str]]:
    """Run a program; return how it ended and what happened in the world."""
    asked = []

    def answer(request):
        asked.append(request)
        return ANSWER

    outcome = host.run(Program(source, world.parameters, bytes(32)), answer, limits=LIMITS)
    return outcome, world.touched(json.dumps([outcome.outputs, outcome.message, asked]))
