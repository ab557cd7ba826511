"""`saggar vault`: is every sealed byte still there, and what can be thrown away."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from sandbox.cli.session import console, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.model.digest import short

vault = typer.Typer(
    no_args_is_help=True,
    help="Check and tidy the vault 匣库.",
    epilog="Example: saggar vault check",
    rich_markup_mode="rich",
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(vault, name="vault")


@vault.command("check", epilog="Example: saggar vault check --json")
@told
def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Read every sealed object, key file and document again and name each that changed; exit 6 where one did 巡检."""
    from sandbox.jobs.keeping import OWNER_HALF, check_vault
    from sandbox.service.compose import open_engine
    from sandbox.service.config import Layout
    from sandbox.service.state_files import broken_files

    with (
        open_engine(
            session.state, passphrase=passphrase_for("sandbox"), purpose="vault check", wait_s=session.wait_s
        ) as engine,
        console.status("reading") as status,
    ):
        report = check_vault(engine, lambda number: status.update(f"{number} objects read"))
        registered = {key.name: key.key_id for key in engine.state().keys.values()}
        report = replace(report, faults=(*report.faults, *broken_files(Layout(session.state), registered)))
    if as_json:
        print_json(
            {
                "snapshots": list(report.snapshots),
                "objects": report.objects,
                "faults": [{"object": f.object, "code": f.code, "message": f.message} for f in report.faults],
                "locked": list(report.locked),
                "garbage": list(report.garbage),
            }
        )
        if report.faults:
            raise SystemExit(6)
        return
    if report.faults:
        table = Table(title="broken 损坏", title_justify="left")
        for heading in ("object 对象", "what 情况"):
            table.add_column(heading)
        for fault in report.faults:
            table.add_row(fault.object, f"{fault.message} ({fault.code})")
        console.print(table)
    for snapshot, code in zip(report.locked, report.locks, strict=True):
        if code == OWNER_HALF:
            console.print(
                f"{short(snapshot)} is locked: its owner's half of the key is not here; its seals were not tried"
            )
    # Beside a fault nothing is called stray: it may be what a broken or missing manifest referred to.
    if report.garbage and not report.faults:
        console.print(f"{len(report.garbage)} stray files; `saggar vault collect` removes them")
    report.raise_if_broken()
    console.print(f"[green]whole[/] 完好: {len(report.snapshots)} snapshots, {report.objects} objects")


@vault.command("collect", epilog="Example: saggar vault collect")
@told
def collect(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Remove what a crash left behind: objects and key halves that no manifest refers to 清理."""
    from sandbox.jobs.keeping import collect_vault
    from sandbox.service.compose import open_engine

    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="vault collect", wait_s=session.wait_s
    ) as engine:
        removed = collect_vault(engine)
    if as_json:
        print_json({"removed": list(removed)})
        return
    for name in removed:
        console.print(f"removed {name}", markup=False)
    console.print(f"{len(removed)} stray files removed")
