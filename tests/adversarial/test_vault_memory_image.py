"""A process that reads for a job holds the keys of its columns and no others: look at its whole memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sandbox.crypto.keys import generate_key
from sandbox.model.keys import Role, SuiteName
from sandbox.vault.store import Vault
from tests.support.reader_world import COLUMNS, DESCRIPTION

PASSPHRASE = "a test's passphrase"
# The reader gets what a job's reader gets (the opened columns' handle), reads, and then scans its own memory for
# digests of keys that it is not told: a window of the key's length at every byte would be slow in Python, so the parent
# passes a 4-byte prefix of each key to look for and the hash of the whole key to confirm with.
READER = """
import hashlib, json, pickle, sys
sys.path.insert(0, sys.argv[1])
asked = json.loads(sys.stdin.buffer.readline())
opened = pickle.loads(sys.stdin.buffer.read())
rows = [opened.partition(number).num_rows for number in range(opened.partition_count)]


def scan(wanted):
    found = dict.fromkeys(wanted, 0)
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in list(maps):
            span, rights, *rest = line.split()
            if "rw" not in rights or rest[-1].startswith("[v"):
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            for place in range(start, end, STEP):
                try:
                    memory.seek(place)
                    image = memory.read(min(STEP + 32, end - place))
                except OSError:
                    break
                for name, (prefix, digest, length) in wanted.items():
                    at = image.find(bytes.fromhex(prefix))
                    while at >= 0:
                        found[name] += hashlib.sha256(image[at : at + length]).hexdigest() == digest
                        at = image.find(bytes.fromhex(prefix), at + 1)
    return found


STEP = 1 << 24
print(json.dumps({"rows": sum(rows), "held": scan(asked)}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/mem is Linux's")
@pytest.mark.parametrize("suite", list(SuiteName), ids=str)
def test_the_reader_of_two_columns_has_no_key_of_the_other_three(suite, tmp_path):
    import hashlib
    import pickle

    key = generate_key("box", Role.SANDBOX, suite)
    vault = Vault.create(tmp_path / "vault", passphrase=PASSPHRASE, suite=suite)
    draw = np.random.default_rng(1)
    batch = pa.record_batch({"_unit": np.arange(300) % 40, **{name: draw.integers(0, 100, 300) for name in COLUMNS}})
    sealed = vault.seal(
        DESCRIPTION, [batch], suite=suite, signer=key, owner="health", at="2027-01-31T08:00:00Z", partitions=2
    )
    with vault.open_snapshot(sealed.digest(), list(COLUMNS), [key.public]) as whole:
        every = dict(whole._keys)
    column_of = {found.object_id: found.column for found in sealed.objects}
    snapshot_key = vault._keyring.snapshot_key(sealed.dataset, sealed.snapshot, sealed.owner, sealed.suite)
    secrets = {f"{column_of[name]}:{name}": secret for name, secret in every.items()}
    secrets["facts"] = snapshot_key.facts
    with vault.open_snapshot(sealed.digest(), ["one", "two"], [key.public]) as opened:
        handed = pickle.dumps(opened)
    asked = {
        name: (secret[:4].hex(), hashlib.sha256(secret).hexdigest(), len(secret)) for name, secret in secrets.items()
    }
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", READER, str(root)],
        input=json.dumps(asked).encode() + b"\n" + handed,
        capture_output=True,
        check=True,
    )
    answer = json.loads(ran.stdout)
    assert answer["rows"] == 300
    admitted = {"_unit", "_rank", "one", "two"}
    found = {name for name, times in answer["held"].items() if times}
    expected = {name for name in secrets if name.partition(":")[0] in admitted}
    assert found == expected  # the admitted ones are found, so the scan does see; the others are not
    assert len(expected) == 2 * len(admitted)
