"""What the vault refuses of a batch whose form and signature hold: another's dataset, other tokens, other terms."""

from pathlib import Path

import pytest

from connectors.csv_source import CsvSource
from connectors.sealed_batch import seal_batch
from connectors.token_key import open_token_key, token_check
from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import PrivateKey, generate_key
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import InputError
from sandbox.jobs.ingest import ingest
from sandbox.jobs.intake import receive, token_key_for
from sandbox.model.keys import Role, SuiteName
from sandbox.model.load_description import load_description
from sandbox.service.compose import register_key, unlock_named
from sandbox.vault.unit_keys import unit_keys
from tests.conftest import DESCRIPTION, PASSPHRASE, World
from tests.support.line_world import kinds, size

AT = "2027-01-31T08:00:00Z"


def sealed(world: World, to: Path, department: PrivateKey, tokens: bytes, text: str = DESCRIPTION) -> Path:
    description = load_description(text, "clinic.yaml")
    source = CsvSource(world.files / "clinic.csv", description, Tokeniser(tokens))
    vault = unlock_named(world.state, "sandbox", PASSPHRASE).public
    seal_batch(source, description, to, recipient=vault, department=department, token_key=token_check(tokens), at=AT)
    return to


def tokens_of(world: World, kind: str, department: PrivateKey) -> bytes:
    with world.engine() as engine:
        raw = token_key_for(engine, kind, department.public)
        return open_token_key(raw, kind, department, engine.key.public).secret


def refusal(world: World, batch: Path, **more: bool) -> str:
    before = size(world)
    with world.engine() as engine, pytest.raises(InputError) as caught:
        receive(engine, batch, suite=SuiteName.GM, **more)
    with world.engine() as engine:
        assert engine.vault.check(engine.trusted(Role.SANDBOX)).garbage == ()
        assert len(engine.vault.snapshots()) == 1
    assert size(world) == before
    return caught.value.code


def test_a_batch_joins_what_the_vault_tokenised_itself(world: World, tmp_path: Path) -> None:
    health = unlock_named(world.state, "health", PASSPHRASE)
    batch = sealed(world, tmp_path / "batch", health, tokens_of(world, "patient", health))
    with world.engine() as engine:
        first = engine.state().datasets["clinic"].snapshot
        before = units_of(engine, first)
        received = receive(engine, batch, suite=SuiteName.GM, append=True)
        manifest = engine.vault.manifest(received.ingested.snapshot, engine.trusted(Role.SANDBOX))
        assert (manifest.owner, manifest.parent, manifest.generation) == ("health", first, 1)
        after = units_of(engine, received.ingested.snapshot)
        assert set(after) == set(before)
        assert len(after) == 2 * len(before)
    assert kinds(world)[-3:] == ["batch.received", "dataset.sealed", "dataset.profiled"]


def units_of(engine: object, snapshot: str) -> list[int]:
    with engine.vault.open_snapshot(snapshot, [], engine.trusted(Role.SANDBOX)) as opened:
        return [unit for table in opened.partitions() for unit in table.column("_unit").to_pylist()]


def test_tokens_under_another_key_are_refused(world: World, tmp_path: Path) -> None:
    health = unlock_named(world.state, "health", PASSPHRASE)
    batch = sealed(world, tmp_path / "batch", health, b"k" * 32)
    assert refusal(world, batch) == "input.sealed_batch.token_key"


def test_another_departments_dataset_is_refused(world: World, tmp_path: Path) -> None:
    transport = generate_key("transport", Role.DEPARTMENT, SuiteName.GM)
    (world.state / "keys" / "transport.key").write_bytes(lock_key(transport, PASSPHRASE))
    with world.engine() as engine:
        register_key(engine, transport.public)
        with pytest.raises(InputError, match="is registered as agency and gets no token key"):
            token_key_for(engine, "patient", unlock_named(world.state, "agency", PASSPHRASE).public)
        with pytest.raises(InputError, match="is no kind of unit") as caught:
            token_key_for(engine, "No Kind", transport.public)
        assert caught.value.code == "input.unit_kind"
        secret = unit_keys(engine.vault.keyring, "patient").tokens
    batch = sealed(world, tmp_path / "batch", transport, secret)
    assert refusal(world, batch) == "input.sealed_batch.owner"


def test_a_batch_that_was_received_is_refused_the_second_time(world: World, tmp_path: Path) -> None:
    health = unlock_named(world.state, "health", PASSPHRASE)
    batch = sealed(world, tmp_path / "batch", health, tokens_of(world, "patient", health))
    with world.engine() as engine:
        receive(engine, batch, suite=SuiteName.GM)
    before = size(world)
    with world.engine() as engine, pytest.raises(InputError, match="was received before") as caught:
        receive(engine, batch, suite=SuiteName.GM)
    assert caught.value.code == "input.sealed_batch.replayed"
    assert size(world) == before


def test_an_append_under_another_description_is_refused(world: World, tmp_path: Path) -> None:
    health = unlock_named(world.state, "health", PASSPHRASE)
    other = DESCRIPTION.replace("max_rows: ", "max_rows: 1", 1)
    assert other != DESCRIPTION
    batch = sealed(world, tmp_path / "batch", health, tokens_of(world, "patient", health), other)
    assert refusal(world, batch, append=True) == "input.seal.append"


def test_an_append_of_rows_read_here_keeps_the_old_ones(world: World) -> None:
    description = load_description(DESCRIPTION, "clinic.yaml")
    with world.engine() as engine:
        before = len(units_of(engine, engine.state().datasets["clinic"].snapshot))
        made = ingest(
            engine,
            description,
            lambda tokeniser: CsvSource(world.files / "clinic.csv", description, tokeniser),
            suite=SuiteName.INTL,
            owner="health",
            append=True,
        )
        assert len(units_of(engine, made.snapshot)) == 2 * before
