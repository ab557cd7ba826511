"""The command `saggar`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox import __version__
from sandbox.cli import (
    audit,
    datasets,
    demo,
    destruction,
    doctor,
    owner_half,
    rehearsal,
    setup,
    source,
    vault_cmd,
    work,
)
from sandbox.cli.session import session

_EPILOG = (
    "Exit codes: 0 done · 1 other · 2 usage · 3 malformed input · 4 forbidden by a rule · 5 privacy budget or bound · "
    "6 vault · 7 ledger · 8 walls · 9 job or gate · 10 service · 70 our fault · 130 stopped."
)

app = typer.Typer(
    name="saggar",
    help="Saggar 匣钵: raw data stays in the kiln, only differentially private answers leave.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"saggar {__version__}")
        raise typer.Exit


@app.callback()
def options(
    state: Annotated[
        Path, typer.Option("--state", envvar="SAGGAR_STATE", help="The state directory.", show_default=True)
    ] = Path("saggar-state"),
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait while another process writes to the state.")
    ] = 5.0,
    _: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Take the options that stand before the verb."""
    session.state, session.wait_s = state, wait


setup.add_to(app)
datasets.add_to(app)
work.add_to(app)
rehearsal.add_to(app)
audit.add_to(app)
source.add_to(app, setup.keys)
owner_half.add_to(setup.keys)
destruction.add_to(app, setup.keys)
vault_cmd.add_to(app)
doctor.add_to(app)
demo.add_to(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
