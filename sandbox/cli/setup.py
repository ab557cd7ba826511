"""`saggar init` and `saggar keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli import custody
from sandbox.cli.session import console, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.crypto.keyfile import lock_key
from sandbox.crypto.keys import generate_key
from sandbox.crypto.named_file import public_of
from sandbox.errors import InputError, KeyUnavailableError, SaggarError
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.keys import PublicKey, Role, SuiteName
from sandbox.service.config import ComputeConfig, PoolName, parse_level

_ROLE_ZH = {
    Role.SANDBOX: "沙箱",
    Role.WITNESS: "见证",
    Role.OPERATOR: "运营机构",
    Role.AGENCY: "实施机构",
    Role.DEPARTMENT: "数据提供部门",
    Role.AUDITOR: "审计",
    Role.CUSTODIAN: "保管人",
}

keys = typer.Typer(no_args_is_help=True, help="Make, add and list keys 密钥.", rich_markup_mode="rich")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: saggar --state city init --suite gm")(init)
    custody.add_to(keys)
    app.add_typer(keys, name="keys")


@told
def init(
    suite: Annotated[SuiteName, typer.Option(help="gm: SM2, SM3, SM4 (default). intl: Ed25519, SHA-256, AES.")] = (
        SuiteName.GM
    ),
    origin: Annotated[str, typer.Option(help="The log's name in checkpoints.")] = "saggar.local/log",
    second_factor: Annotated[
        Path | None,
        typer.Option(help="A new file on another medium, needed beside the passphrase and in no backup 第二要素."),
    ] = None,
    objects: Annotated[str | None, typer.Option(help="Keep sealed objects at s3://bucket/prefix 对象存储.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="With --objects: the store's address.")] = None,
    region: Annotated[str | None, typer.Option(help="With --objects: the store's region.")] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="With --objects: a credentials file outside the state. Default: environment.")
    ] = None,
    pool: Annotated[PoolName, typer.Option(help="Compute on this machine (local) or a Ray cluster.")] = PoolName.LOCAL,
    workers: Annotated[int, typer.Option(help="Threads on this machine, or workers on the cluster.")] = 2,
    address: Annotated[str | None, typer.Option(help="The cluster's HOST:PORT.")] = None,
    least_isolation: Annotated[
        str, typer.Option(help="Refuse programs where the walls give less: standard or full 最低隔离级别.")
    ] = "standard",
) -> None:
    """Make a state directory: an empty vault, a new log, the sandbox's key and a local witness with its own."""
    from sandbox.service.compose import initialise
    from sandbox.service.object_store import objects_config

    initialise(
        session.state,
        suite=suite,
        passphrase=passphrase_for("sandbox"),
        origin=origin,
        second_factor=second_factor,
        objects=objects_config(objects, endpoint, region, credentials),
        compute=ComputeConfig(pool, workers, address),
        least=parse_level(least_isolation),
    )
    console.print(f"made [bold]{session.state}[/] with suite [bold]{suite.value}[/]")
    console.print("next: [cyan]saggar keys new NAME --role operator[/] (and agency, department, auditor)")


@keys.command(epilog="Example: saggar keys new meili --role operator")
@told
def new(
    name: Annotated[str, typer.Argument(help="Who holds the key.")],
    role: Annotated[Role, typer.Option(help="What the key may do.")],
    suite: Annotated[SuiteName | None, typer.Option(help="Default: the state's suite.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write NAME.key and NAME.pub here, on the holder's own machine, and register nothing."),
    ] = None,
) -> None:
    """Make a key pair, locked under a passphrase; in a state directory it is registered in the log at once."""
    from sandbox.service.compose import open_engine, register_key
    from sandbox.service.config import Layout, StateConfig
    from sandbox.service.files import write_durably

    if role in (Role.SANDBOX, Role.WITNESS):
        raise InputError(f"`saggar init` makes the {role.value}'s key", hint="choose another role")
    chosen = suite or (SuiteName.GM if out else StateConfig.read(Layout(session.state)).suite)
    directory = out or Layout(session.state).keys
    if (directory / f"{name}.key").exists():
        raise InputError(f"there is already a key called `{name}` in `{directory}`", hint="choose another name")
    key = generate_key(name, role, chosen)
    locked = lock_key(key, passphrase_for(name))
    if out is None:
        with open_engine(
            session.state, passphrase=passphrase_for("sandbox"), purpose="keys new", wait_s=session.wait_s
        ) as engine:
            write_durably(directory / f"{name}.key", locked)
            register_key(engine, key.public)
    else:
        write_durably(directory / f"{name}.key", locked)
        write_durably(directory / f"{name}.pub", canonical_bytes(key.public.to_record()), mode=0o644)
    console.print(f"made key [bold]{name}[/] ({role.value} {_ROLE_ZH[role]}), id {key.public.key_id}")


@keys.command(epilog="Example: saggar keys add auditor.pub")
@told
def add(file: Annotated[Path, typer.Argument(help="A NAME.pub that its holder handed over.")]) -> None:
    """Register somebody's public key in the log."""
    from sandbox.service.compose import open_engine, register_key

    key = read_public_file(file)
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="keys add", wait_s=session.wait_s
    ) as engine:
        register_key(engine, key)
    console.print(f"registered [bold]{key.name}[/] ({key.role.value} {_ROLE_ZH[key.role]}), id {key.key_id}")


@keys.command(name="list", epilog="Example: saggar keys list --json")
@told
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the registered keys."""
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        known = sorted(records.state().keys.values(), key=lambda key: (key.role.value, key.name))
    if as_json:
        print_json([{"key_id": key.key_id, **key.to_record()} for key in known])
        return
    table = Table("name 名称", "role 角色", "suite 套件", "key id 密钥标识", title="keys 密钥", title_justify="left")
    for key in known:
        table.add_row(key.name, f"{key.role.value} {_ROLE_ZH[key.role]}", key.suite.value, key.key_id)
    console.print(table)


@keys.command(epilog="Example: saggar keys trust > trust.json")
@told
def trust() -> None:
    """Print the registered public keys as the trust file that `verify` and `replay` take."""
    from sandbox.service.compose import open_records, trust_record

    with open_records(session.state) as records:
        print_json(trust_record(records))


def read_public_file(path: Path) -> PublicKey:
    """Return the public key of a .pub or .key file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(
            f"key file `{path}` cannot be read", hint="check the path", code="vault.key_unavailable.no_file"
        ) from error
    if path.suffix == ".key":
        return public_of(raw, str(path))
    try:
        return PublicKey.parse(parse_canonical(raw))
    except SaggarError as error:
        raise KeyUnavailableError(
            f"`{path}` holds no public key",
            hint="name the file that ends in `.pub`; its holder makes it with `saggar keys new --out`, and the vault "
            "its own with `saggar keys public sandbox`",
            code="vault.key_unavailable.malformed",
        ) from error
