"""`saggar keys export-half`, `remove-half`, `import-half`: the department's half of a key, in its own hands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli.custody import YesOption, confirm, open_key, read_file
from sandbox.cli.session import console, passphrase_for, session, told
from sandbox.model.digest import short

FileArgument = Annotated[Path, typer.Argument(help="The file that `export-half` made.")]
KeyOption = Annotated[Path, typer.Option(help="The department's key file.")]


def add_to(keys: typer.Typer) -> None:
    """Add these commands to `saggar keys`."""
    keys.command(name="export-half", epilog="Example: saggar keys export-half hospital --out hospital.half")(export)
    keys.command(name="remove-half", epilog="Example: saggar keys remove-half hospital.half --key health.key")(remove)
    keys.command(name="import-half", epilog="Example: saggar keys import-half hospital.half --key health.key")(lend)


@told
def export(
    dataset: Annotated[str, typer.Argument(help="The dataset; its current snapshot's half is meant.")],
    out: Annotated[Path, typer.Option(help="Where the sealed half goes.")],
) -> None:
    """Seal the owner's half of a snapshot key to the department that owns the data."""
    from sandbox.jobs.owner_half import export_half
    from sandbox.service.compose import open_engine
    from sandbox.service.files import write_durably

    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="keys export-half", wait_s=session.wait_s
    ) as engine:
        raw = export_half(engine, dataset)
    write_durably(out, raw)
    console.print(f"the owner half of [bold]{dataset}[/] is in {out}; the vault keeps its copy until `remove-half`")


@told
def remove(file: FileArgument, key: KeyOption, yes: YesOption = False) -> None:
    """Delete the vault's copy of an owner half; from then on no job runs without the department."""
    from sandbox.jobs.owner_half import remove_half
    from sandbox.service.compose import open_engine

    holder = open_key(key)
    console.print("If the department's file is lost afterwards, nobody opens the snapshot again.")
    confirm("delete the vault's copy", yes)
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="keys remove-half", wait_s=session.wait_s
    ) as engine:
        opened = remove_half(engine, read_file(file), holder)
    console.print(
        f"the vault's copy is gone; snapshot {short(opened.snapshot)} opens only while "
        f"[bold]{holder.public.name}[/] lends its half"
    )


@told
def lend(file: FileArgument, key: KeyOption) -> None:
    """Lend the owner's half to the vault, as the department, until it is removed again."""
    from sandbox.jobs.owner_half import import_half
    from sandbox.service.compose import open_engine

    holder = open_key(key)
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="keys import-half", wait_s=session.wait_s
    ) as engine:
        opened = import_half(engine, read_file(file), holder)
    console.print(f"snapshot {short(opened.snapshot)} opens again; take the half back with `saggar keys remove-half`")
