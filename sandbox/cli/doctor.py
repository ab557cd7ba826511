"""`saggar doctor`: what holds on this machine, found by trying."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from sandbox.cli.session import console, print_json, session, told
from sandbox.cli.tables import Table


def add_to(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="Example: saggar doctor --json")(doctor)


@told
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check walls, cryptography, versions and the state directory; exit 8 where the walls are below standard 体检."""
    from sandbox.crypto.selftest import provider_reports
    from sandbox.runtime.host.report import Level
    from sandbox.runtime.host.zygote_process import GUEST_COMMAND, ZygoteProcess
    from sandbox.service.compose import versions

    # Not a `GuestHost`: it refuses to start where the walls are too low, and that is what is to be reported.
    with closing(ZygoteProcess(GUEST_COMMAND)) as zygote:
        walls = zygote.report
        guest = _guest_report(zygote)
    providers = provider_reports()
    state = _state_report()
    if as_json:
        print_json(
            {
                "isolation": walls.to_record(),
                "guest": guest,
                "cryptography": [
                    {"primitive": p.primitive, "provider": p.provider, "held": p.held, "detail": p.detail}
                    for p in providers
                ],
                "versions": versions(),
                "state": state,
            }
        )
    else:
        _show(walls, guest, providers, versions(), state)
    if walls.level < Level.STANDARD or not all(
        any(p.held for p in providers if p.primitive == q.primitive) for q in providers
    ):
        raise SystemExit(8)


def _show(
    walls: Any, guest: dict[str, int | None], providers: Any, known: dict[str, str], state: dict[str, str]
) -> None:
    table = Table(title=f"walls around programs 隔离: {walls.level.name} (kernel {walls.kernel})", title_justify="left")
    for heading in ("layer 层", "held 有效", "tried 尝试"):
        table.add_column(heading)
    for layer in walls.layers:
        table.add_row(layer.name, "[green]yes[/]" if layer.held else "[red]no[/]", layer.detail)
    console.print(table)
    taken, limit = guest["memory_bytes"], guest["memory_limit_bytes"]
    size = "none starts here" if taken is None else f"{taken / 2**20:.0f} MiB when it starts"
    console.print(f"memory of a program's process 程序进程内存: {size}; limit {(limit or 0) >> 20} MiB", soft_wrap=True)
    table = Table(title="cryptography 密码: official vectors at start", title_justify="left")
    for heading in ("primitive 算法", "provider 实现", "held 有效", "detail"):
        table.add_column(heading)
    for provider in providers:
        table.add_row(
            provider.primitive,
            provider.provider,
            "[green]yes[/]" if provider.held else "[yellow]no[/]",
            provider.detail,
        )
    console.print(table)
    console.print("versions 版本: " + ", ".join(f"{name} {number}" for name, number in known.items()))
    console.print("state 状态目录: " + "; ".join(f"{name}: {what}" for name, what in state.items()))


def _guest_report(zygote: Any) -> dict[str, int | None]:
    """Return what a program's process takes before it is told anything, and what it may take at most."""
    from sandbox.errors import GuestFailedError
    from sandbox.runtime.host.guests import DEFAULT_LIMITS, guest_memory_bytes

    limit = DEFAULT_LIMITS.memory_bytes
    try:
        return {"memory_bytes": guest_memory_bytes(zygote), "memory_limit_bytes": limit}
    except GuestFailedError:
        return {"memory_bytes": None, "memory_limit_bytes": limit}


def _state_report() -> dict[str, str]:
    from sandbox.errors import SaggarError
    from sandbox.service.compose import open_records

    try:
        with open_records(session.state) as records:
            records.ledger.check_tree()
            log = f"{records.ledger.size} entries, both trees whole"
        return {"directory": str(session.state), "log": log, "second factor": _factor_report()}
    except SaggarError as error:
        return {"directory": str(session.state), "log": f"{error.message} ({error.code})"}


def _factor_report() -> str:
    from sandbox.errors import SaggarError
    from sandbox.service.config import Layout
    from sandbox.service.second_factor import factor_path, factors_at_hand

    layout = Layout(session.state)
    path = factor_path(layout)
    if path is None:
        return "none, so an old backup opens for whoever remembers its passphrase; see `saggar keys second-factor`"
    try:
        return f"at {path}" if factors_at_hand(layout) else f"at {path}, which is not here now"
    except SaggarError as error:
        return f"at {path}: {error.message}"
