"""The one composition root: here, and nowhere else, the edges are made concrete."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox.compute.ray_pool import Cluster
from sandbox.compute.reader import ReaderPool
from sandbox.crypto.factor import SecondFactor
from sandbox.crypto.hardening import forbid_core_dumps
from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.named_file import unlock_file
from sandbox.errors import InputError, KeyUnavailableError, StateUnsafeError
from sandbox.jobs.destroy import finish_destruction
from sandbox.jobs.engine import Engine, Pool, Records
from sandbox.jobs.export import adopt_policies
from sandbox.jobs.publishing import publish
from sandbox.jobs.recover import recover
from sandbox.ledger.filesystem import check_file_system, read_mounts
from sandbox.ledger.store import Ledger
from sandbox.model.entry import EntryKind
from sandbox.model.keys import PublicKey, Role, SuiteName
from sandbox.privacy.noise import OpenDpNoise
from sandbox.runtime.host.guests import GuestHost
from sandbox.runtime.host.report import Level
from sandbox.service.clock import SystemClock
from sandbox.service.config import ComputeConfig, Layout, ObjectsConfig, PoolName, StateConfig
from sandbox.service.documents import DocumentDirectory
from sandbox.service.files import write_durably
from sandbox.service.object_store import blobs_of, check_store
from sandbox.service.rekey import finish_relock
from sandbox.service.second_factor import check_place, factors_at_hand, put_beside
from sandbox.service.state_lock import hold_state
from sandbox.service.witness_client import LocalWitness
from sandbox.vault.store import Vault

_PACKAGES = ("saggar", "duckdb", "opendp", "pyarrow", "cryptography", "pycryptodome", "RestrictedPython", "pandas")
_SANDBOX, _WITNESS = "sandbox", "witness"


def initialise(
    directory: Path,
    *,
    suite: SuiteName,
    passphrase: str,
    origin: str,
    demo: bool = False,
    second_factor: Path | None = None,
    objects: ObjectsConfig | None = None,
    compute: ComputeConfig = ComputeConfig(),  # noqa: B008 - frozen
    least: Level = Level.STANDARD,
) -> None:
    """Make a state directory: log, vault, the sandbox's key, and a local witness with a key of its own.

    The choices are written last: a directory without them is no state directory, whatever a crash left in it.

    Args:
        directory: where; new or empty.
        suite: the suite of keys and, by default, of snapshots.
        passphrase: what locks the sandbox's keys.
        origin: the log's name.
        demo: whether the demo may remake it.
        second_factor: where a secret goes that the vault needs beside the passphrase, outside of `directory`; or None.
        objects: the object store of sealed bytes, or None for `directory` itself.
        compute: where questions are computed.
        least: the level of isolation below which no program runs.

    Raises:
        StateUnsafeError: the directory is not empty, or cannot keep a promise.
        InputError: the second factor's place will not do, or the object store's address.
        StorageError: the object store cannot be reached, or refuses.
    """
    layout = Layout(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise StateUnsafeError(
            f"`{directory}` is not empty",
            hint="name a new directory; a state directory is never made over",
            code="ledger.state.exists",
        )
    check_file_system(directory, read_mounts())
    factor, factor_file = None, None
    if second_factor is not None:
        factor, factor_file = SecondFactor.new(), check_place(layout, second_factor)
    blobs = blobs_of(objects, layout)
    check_store(blobs)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    sandbox_key = generate_key(_SANDBOX, Role.SANDBOX, suite)
    witness_key = generate_key(_WITNESS, Role.WITNESS, suite)
    clock = SystemClock()
    ledger = Ledger.create(
        layout.ledger, origin=origin, suite=suite, key=sandbox_key.public, versions=versions(), at=clock.now()
    )
    with ledger:
        ledger.append(
            EntryKind.KEY_REGISTERED, sandbox_key.public.key_id, {"key": witness_key.public.to_record()}, clock.now()
        )
    write_durably(layout.keys / f"{_SANDBOX}.key", lock_key(sandbox_key, passphrase, factor))
    write_durably(layout.witness / f"{_WITNESS}.key", lock_key(witness_key, passphrase))
    if factor is not None and factor_file is not None:
        put_beside(factor_file, factor, None)
    Vault.create(layout.vault, passphrase=passphrase, suite=suite, factor=factor, blobs=blobs)
    place = None if factor_file is None else str(factor_file)
    StateConfig(origin, suite, demo, place, objects, compute, least).write(layout)
    with open_engine(directory, passphrase=passphrase, purpose="init", wait_s=0) as engine:
        publish(engine)


@contextmanager
def open_engine(directory: Path, *, passphrase: str, purpose: str, wait_s: float) -> Iterator[Engine]:
    """Open a state directory for writing, alone; what a dead process left open is ended first.

    Raises:
        StateUnsafeError: there is no state directory here, or it cannot keep a promise.
        StateBusyError: another process holds it.
        KeyUnavailableError: the passphrase is wrong.
    """
    forbid_core_dumps()
    layout = Layout(directory)
    config = StateConfig.read(layout)
    with ExitStack() as stack:
        stack.enter_context(hold_state(directory, purpose=purpose, wait_s=wait_s))
        finish_relock(layout)
        key = unlock_named(directory, _SANDBOX, passphrase)
        witness = LocalWitness(layout.witness, passphrase, (config.origin, [key.public]))
        stack.callback(witness.close)
        engine = Engine(
            ledger=stack.enter_context(Ledger.open(layout.ledger)),
            documents=DocumentDirectory(layout.documents),
            clock=SystemClock(),
            guests=stack.enter_context(lazy_guests(config.least)),
            vault=Vault.open(
                layout.vault,
                passphrase=passphrase,
                factors=factors_at_hand(layout),
                blobs=blobs_of(config.objects, layout),
            ),
            witness=witness,
            key=key,
            origin=config.origin,
            noise=OpenDpNoise(),
            pool=stack.enter_context(open_pool(config)),
        )
        adopt_policies(engine)
        recover(engine)
        finish_destruction(engine)
        yield engine


@contextmanager
def open_records(directory: Path) -> Iterator[Records]:
    """Open a state directory for reading: no passphrase, no lock, beside whoever writes."""
    layout = Layout(directory)
    config = StateConfig.read(layout)
    with ExitStack() as stack:
        yield Records(
            ledger=stack.enter_context(Ledger.open(layout.ledger, read_only=True)),
            documents=DocumentDirectory(layout.documents),
            clock=SystemClock(),
            guests=stack.enter_context(lazy_guests(config.least)),
        )


@contextmanager
def lazy_guests(least: Level = Level.STANDARD) -> Iterator[Callable[[], GuestHost]]:
    """Yield a function that starts the walls at its first call; they come down at the end.

    Args:
        least: the level below which it refuses to.
    """
    started: list[GuestHost] = []

    def guests() -> GuestHost:
        if not started:
            host = GuestHost(least=least)
            host.start()
            started.append(host)
        return started[0]

    try:
        yield guests
    finally:
        for host in started:
            host.close()


@contextmanager
def open_pool(config: StateConfig) -> Iterator[Pool]:
    """Yield what computes, as the state's configuration says; it starts when it is first needed."""
    chosen = config.compute
    pool: ReaderPool | Cluster
    match chosen.pool:
        case PoolName.LOCAL:
            pool = ReaderPool(chosen.workers)
        case PoolName.RAY:
            pool = Cluster(chosen.workers, chosen.address, config.suite)
    with closing(pool):
        yield pool


def register_key(engine: Engine, key: PublicKey) -> None:
    """Log a public key, unless its name or id is taken, or its role is one that `init` gives.

    A sandbox that could register a second witness could be its own.
    """
    if key.role in (Role.SANDBOX, Role.WITNESS):
        raise InputError(
            f"a {key.role.value}'s key is made by `saggar init` and by nothing else",
            hint="choose another role",
            code="input.key_role",
        )
    for known in engine.state().keys.values():
        if known.key_id == key.key_id or known.name == key.name:
            raise InputError(
                f"a key called `{known.name}` is registered already", hint="choose another name", code="input.key_known"
            )
    engine.append(EntryKind.KEY_REGISTERED, {"key": key.to_record()})
    publish(engine)


def unlock_named(directory: Path, name: str, passphrase: str) -> PrivateKey:
    """Return the private key called `name` in a state directory.

    Raises:
        KeyUnavailableError: there is no such key here, the passphrase is wrong, or the second factor that the sandbox's
            key needs is not here.
    """
    layout = Layout(directory)
    path = layout.keys / f"{name}.key"
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise KeyUnavailableError(
            f"there is no key file for `{name}` here",
            hint="its holder must sign, or make one with `saggar keys new`",
            code="vault.key_unavailable.no_file",
        ) from error
    return unlock_file(raw, passphrase, f"keys/{path.name}", factors_at_hand(layout) if name == _SANDBOX else ())


def trust_record(records: Records) -> dict[str, Any]:
    """Return the log's name and the registered public keys, as trust files carry them."""
    keys = sorted(records.state().keys.values(), key=lambda key: key.name)
    return {"v": 1, "origin": records.state().origin, "keys": [key.to_record() for key in keys]}


def versions() -> dict[str, str]:
    """Return the versions of the software that a log is opened with."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
