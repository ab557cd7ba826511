"""The process that reads for a job holds the keys of its admitted columns and no others: look at its whole memory."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sandbox.compute.order import WorkOrder
from sandbox.compute.reader import ReaderPool
from sandbox.compute.sealed import SealedTables
from sandbox.model.canonical import canonical_bytes
from sandbox.model.keys import SuiteName
from sandbox.vault.unit_keys import unit_keys, unit_kinds
from tests.support.reader_world import COLUMNS, Sealed, plan

ADMITTED = ("one", "two")
PAGE = os.sysconf("SC_PAGE_SIZE")


def process_of(handle):
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pid:")))


def found_in(pid, secrets):
    """Return the names of the secrets that stand in a process's memory, as bytes or as the text they travel in."""
    forms = [(name, form) for name, secret in secrets.items() for form in (secret, secret.hex().encode())]
    seen = set()
    try:
        for image in images(pid):
            seen |= found_in_image(image, forms)
    except PermissionError:
        pytest.skip("this user may not look at the memory of an undumpable process; run the test as root")
    return seen


def images(pid):
    """Yield what a process has written to its memory, run of pages by run of pages."""
    with (
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as table,
    ):
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            span, rights, *rest = line.split()
            if "rw" not in rights or rest[-1].startswith("[v"):
                continue
            start, end = (int(edge, 16) // PAGE for edge in span.split("-"))
            table.seek(start * 8)
            there = np.frombuffer(table.read((end - start) * 8), "<u8") >> np.uint64(62) != 0
            edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]])))
            for first, last in edges.reshape(-1, 2).tolist():
                memory.seek((start + first) * PAGE)
                yield memory.read((last - first) * PAGE)


def found_in_image(image, forms):
    """Look up four bytes at every place in a table of beginnings, and compare only where they fit."""
    first, second = np.zeros(1 << 16, bool), np.zeros(1 << 16, bool)
    for _, form in forms:
        first[int.from_bytes(form[:2], "little")] = True
        second[int.from_bytes(form[2:4], "little")] = True
    seen = set()
    for offset in (0, 1):
        pairs = np.frombuffer(image, "<u2", count=(len(image) - offset) // 2, offset=offset)
        places = np.flatnonzero(first[pairs[:-1]] & second[pairs[1:]]) * 2 + offset
        for at in places.tolist():
            seen |= {name for name, form in forms if image.startswith(form, at)}
    return seen


def secrets_of(sealed):
    """Return every key there is above and beside the admitted columns' keys, and those."""
    manifest, ring = sealed.manifest, sealed.vault.keyring
    with sealed.open(*COLUMNS) as whole:
        keys = {f"object {each.column} {each.partition}": whole._keys[each.object_id] for each in manifest.objects}
    snapshot = ring.snapshot_key(manifest.dataset, manifest.snapshot, manifest.owner, manifest.suite)
    dataset = ring.ensure_dataset(manifest.dataset)
    keys |= {f"snapshot {name}": getattr(snapshot, name) for name in ("objects", "facts")}
    keys["dataset wrapping"] = dataset.wrapping
    for kind in unit_kinds(ring):
        keys |= {f"{kind} {name}": getattr(unit_keys(ring, kind), name) for name in ("tokens", "partition")}
    assert {"person tokens", "person partition"} <= set(keys)
    keys |= {f"signing {name}": getattr(sealed.key, name) for name in ("signing", "sealing")}
    keys["master key"] = ring._ring.primary.secret
    return keys


class Waiting(SealedTables):
    """Hands over pipes that nobody writes to, so that a reader stands still with everything in its hands."""

    def __init__(self, tables):
        super().__init__(tables)
        self.pipes = []

    def waiting(self, handed):
        count = sum(len(part.columns) for found in handed for part in found)
        self.pipes += [os.pipe() for _ in range(count)]
        return [reading for reading, _ in self.pipes[-count:]]

    def close(self):
        for reading, writing in self.pipes:
            os.close(reading)
            os.close(writing)


@pytest.mark.parametrize("suite", list(SuiteName), ids=str)
def test_a_reader_holds_the_keys_of_its_columns_and_nothing_above_or_beside_them(tmp_path, suite):
    sealed = Sealed(tmp_path, suite, partitions=2)
    secrets = secrets_of(sealed)
    columns = ("_unit", "_rank", *ADMITTED)
    admitted = {name for name in secrets if name.startswith("object") and name.split()[1] in columns}
    assert len(admitted) == len(columns) * sealed.manifest.partitions
    with ReaderPool(2) as pool, sealed.open(*ADMITTED) as opened, pool.job() as readers:
        parts = Waiting([(opened, ("_unit", "_rank", *ADMITTED))])
        readers.map_partitions(plan(), parts)  # a whole question went through it before
        reader = readers.reader
        pid = process_of(reader.handle)
        reader._channel.send(canonical_bytes({"v": 1, "order": WorkOrder.of(plan()).to_record()}))
        for number in range(parts.partition_count):
            handed = parts.hand(number)
            request = {
                "v": 1,
                "partition": number,
                "tables": [[part.to_record() for part in found] for found in handed],
            }
            reader._channel.send(canonical_bytes(request), parts.waiting(handed))
        wait_until_idle(pid)
        assert found_in(pid, secrets) == admitted
        assert found_in(pool.host._process.pid, secrets) == set()
        assert found_in(os.getpid(), secrets) == set(secrets)  # the search finds all of them where they are
        parts.close()


def wait_until_idle(pid):
    """Wait until the reader has taken everything in: all its threads sleep, twice in a row."""
    calm = 0
    while calm < 5:
        time.sleep(0.1)
        threads = [Path(f"/proc/{pid}/task/{each}/stat").read_text() for each in os.listdir(f"/proc/{pid}/task")]
        states = [thread.rpartition(")")[2].split()[0] for thread in threads]
        calm = calm + 1 if all(state == "S" for state in states) else 0


def test_a_reader_reaches_no_file_no_network_and_no_other_process(tmp_path):
    """What a hole in a library could do from inside a reader, tried by the reader's own walls."""
    script = """
import ctypes, os, socket, sys
sys.path.insert(0, sys.argv[1])
from sandbox.compute.confine import confine_parent, confine_reader
confine_parent()
child = os.fork()
if child == 0:
    confine_reader(os.getppid())
    def tried(act):
        try:
            act()
        except OSError as error:
            return error.errno
        return 0
    results = [
        tried(lambda: open("/etc/passwd").read()),
        tried(lambda: open(f"/proc/{os.getppid()}/mem", "rb")),
        tried(lambda: os.listdir("/")),
        tried(lambda: open("/tmp/written-by-a-reader", "w")),
        tried(lambda: os.mkdir("/tmp/made-by-a-reader")),
        tried(lambda: socket.socket()),
        tried(lambda: os.execv("/bin/true", ["true"])),
        tried(lambda: os.kill(os.getppid(), 0)),
    ]
    library = ctypes.CDLL(None, use_errno=True)
    results.append(0 if library.ptrace(16, os.getppid(), 0, 0) == 0 else ctypes.get_errno())
    results.append(library.prctl(3, 0, 0, 0, 0))
    print(results, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    *refused, dumpable = ast.literal_eval(ran.stdout)
    assert dumpable == 0
    assert all(refused), refused
