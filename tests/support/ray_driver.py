"""Start a real Ray of two workers with token and TLS, run a plan, kill a worker on the way: one JSON object out.

Run in a process of its own, `python -m tests.support.ray_driver FOLDER`, since Ray reads its settings once.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def own_addresses() -> list[ipaddress.IPv4Address]:
    """Return loopback and the address that others would see; a certificate without it makes Ray wait without end."""
    found = {"127.0.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.add(probe.getsockname()[0])
        except OSError:
            pass
    found |= {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return [ipaddress.IPv4Address(address) for address in sorted(found)]


def write_certificates(folder: Path) -> None:
    """Write an authority of our own and one certificate for every node on this machine."""
    now = dt.datetime.now(dt.UTC)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def build(subject, issuer, key):
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    authority, node = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    top = (
        build("test authority", "test authority", authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), *(x509.IPAddress(address) for address in own_addresses())]
    leaf = (
        build("node", "test authority", node)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(top.public_bytes(pem))
    (folder / "node.pem").write_bytes(leaf.public_bytes(pem))
    raw = node.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "node.key").write_bytes(raw)
    (folder / "token").write_text(os.urandom(32).hex(), encoding="ascii")


def settings(folder: Path) -> dict[str, str]:
    """Return what every node's environment must hold."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(folder / "node.pem"),
        "RAY_TLS_SERVER_KEY": str(folder / "node.key"),
        "RAY_TLS_CA_CERT": str(folder / "ca.pem"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def main(folder: Path) -> dict[str, object]:
    """Return what was seen."""
    write_certificates(folder)
    os.environ.update(settings(folder))
    from sandbox.compute.pool import HeldPartitions
    from sandbox.compute.ray_pool import RayPool
    from sandbox.compute.run import run_plan
    from tests.support import join_world as joins
    from tests.support import privacy_world as world

    sql = "SELECT district, AVG(age) AS mean, COUNT(DISTINCT patient) AS units FROM visits WHERE age < 90 GROUP BY 1"
    plan = world.plan(sql)
    joined = joins.plan("SELECT COUNT(*) AS n, SUM(paid) AS s FROM visits v JOIN claims c ON v.patient = c.insured")
    rows = [
        world.visits({unit: [{"age": unit % 120}] * (1 + unit % 6) for unit in range(part * 50, part * 50 + 50)})
        for part in range(24)
    ]
    expected = run_plan(plan, [world.table(part) for part in rows]).digest()

    class Slow(HeldPartitions):
        def partition(self, number):
            time.sleep(0.05)
            return super().partition(number)

    seen: dict[str, object] = {"expected": expected}
    start = time.monotonic()
    with RayPool(2) as pool:
        seen["start_s"] = round(time.monotonic() - start, 1)
        seen["calm"] = pool.map_partitions(plan, HeldPartitions(world.table(part) for part in rows)).digest()
        pair = joins.pair(joined, rows[0], rows[0])
        seen["joined_expected"] = run_plan(joined, [pair]).digest()
        seen["joined"] = pool.map_partitions(joined, HeldPartitions([pair])).digest()
        seen["workers"] = len(pool.workers)
        import ray

        first = pool.workers[0]
        killer = threading.Timer(0.4, lambda: ray.kill(first))
        killer.start()
        seen["killed"] = pool.map_partitions(plan, Slow(world.table(part) for part in rows)).digest()
        killer.join()
        seen["replaced"] = first not in pool.workers
    return seen | on_the_line(folder)


def on_the_line(folder: Path) -> dict[str, object]:
    """Run one job on readers and one on Ray, from the spec to the release; return the digests of their partials."""
    from sandbox.crypto import keyfile
    from sandbox.service.config import ComputeConfig, PoolName
    from tests.conftest import build_world
    from tests.support.line_world import computed_on

    keyfile._COST_N = keyfile._N_RANGE[0]
    world = build_world(folder / "world")
    return {
        "line_local": computed_on(world, ComputeConfig(), "local"),
        "line_ray": computed_on(world, ComputeConfig(PoolName.RAY, 2), "ray"),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
