"""`saggar log`, `export`, `verify` and `replay`: the auditor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sandbox.cli.session import console, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.errors import FileFormatError, InputError, KeyUnavailableError
from sandbox.model.digest import short
from sandbox.model.keys import PublicKey

verify = typer.Typer(
    no_args_is_help=True, help="Verify a receipt, a bundle or a release offline 验证.", rich_markup_mode="rich"
)

TrustOption = Annotated[
    Path | None,
    typer.Option("--trust", help="Keys you got another way (trust.json); without it the bundle's own are used."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: saggar log --last 20")(log)
    app.command(epilog="Example: saggar export audit-2026-11 --by auditor")(export)
    app.add_typer(verify, name="verify")
    app.command(epilog="Example: saggar replay audit-2026-11 --level 3 --key auditor.key")(replay)


@told
def log(
    last: Annotated[int, typer.Option(help="How many of the newest entries.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show the newest entries of the log 日志."""
    from sandbox.ledger.checkpoint import parse_checkpoint
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        size = records.ledger.size
        entries = list(records.ledger.entries(max(0, size - last), size))
        names = {key.key_id: key.name for key in records.state().keys.values()}
        heads = [parse_checkpoint(note).size for note in records.ledger.checkpoints()]
    if as_json:
        print_json(
            [{"seq": e.seq, "at": e.at, "kind": e.kind.value, "actor": e.actor, "body": e.body} for e in entries]
        )
        return
    table = Table(
        title=f"log: {size} entries, newest cosigned checkpoint at {max(heads, default=0)}", title_justify="left"
    )
    for heading in ("entry", "at (UTC)", "kind", "by", "about"):
        table.add_column(heading)
    for entry in entries:
        about = entry.body.get("job") or entry.body.get("snapshot") or entry.body.get("agreement") or ""
        extra = (
            entry.body.get("outcome")
            or entry.body.get("code")
            or entry.body.get("dataset")
            or entry.body.get("name")
            or ""
        )
        table.add_row(
            str(entry.seq),
            entry.at,
            entry.kind.value,
            names.get(entry.actor, entry.actor[:8]),
            f"{short(about)} {extra if isinstance(extra, str) and ':' not in extra else ''}",
        )
    console.print(table)


@told
def export(
    out: Annotated[Path, typer.Argument(help="The directory to write; it must not exist.")],
    by: Annotated[str, typer.Option(help="The key name of who takes the copy; the export is logged.")],
    as_json: JsonOption = False,
) -> None:
    """Write an audit bundle: log, checkpoints, documents, sealed transcripts, receipts 导出."""
    from sandbox.jobs.export import export_bundle
    from sandbox.service.compose import open_engine
    from sandbox.service.files import write_durably

    if out.exists():
        raise InputError(f"`{out}` exists already", hint="name a new directory", code="input.exists")
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="export", wait_s=session.wait_s
    ) as engine:
        taker = next((key for key in engine.state().keys.values() if key.name == by), None)
        if taker is None:
            raise InputError(
                f"no registered key is called `{by}`",
                hint="list them with `saggar keys list`",
                code="input.unknown_key",
            )
        files = export_bundle(engine, by=taker.key_id)
    for path, data in files.items():
        write_durably(out / path, data, mode=0o644)
    if as_json:
        print_json({"bundle": str(out), "files": len(files), "bytes": sum(len(data) for data in files.values())})
        return
    console.print(
        f"wrote {len(files)} files to [bold]{out}[/]; "
        f"check them anywhere with [cyan]saggar replay {out} --level 3 --key auditor.key[/]"
    )


@verify.command(
    name="receipt", epilog="Example: saggar verify receipt releases/3f2a9c1b7d04/receipt.tlog-proof --trust trust.json"
)
@told
def verify_receipt_file(
    receipt: Annotated[Path, typer.Argument(help="The receipt (.tlog-proof).")],
    release: Annotated[Path | None, typer.Option(help="The release. Default: release.json beside the receipt.")] = None,
    trust: Annotated[
        Path | None, typer.Option(help="The keys you trust. Default: trust.json beside the receipt.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check, offline, that the cosigned log says exactly these released bytes."""
    from sandbox.jobs.replay_bundle import trusted_for
    from sandbox.ledger.verify import verify_receipt

    origin, keys = read_trust(trust or receipt.parent / "trust.json")
    released = release or receipt.parent / "release.json"
    facts = verify_receipt(_read(receipt).decode("utf-8", "replace"), _read(released), trusted_for(origin, keys))
    if as_json:
        print_json({"verified": True, "entry": facts.entry.seq, "log_size": facts.size, "job": facts.entry.body["job"]})
        return
    console.print(
        f"[green]holds[/]: entry {facts.entry.seq} of a log of {facts.size} entries, "
        "cosigned by a witness, names exactly this release"
    )
    if trust is None:
        console.print("[dim]the keys came with the receipt; compare their ids with the ones you know:[/]")
        for key in keys:
            console.print(f"  [dim]{key.role.value} {key.name} {key.key_id}[/]")


@verify.command(name="bundle", epilog="Example: saggar verify bundle audit-2026-11 --trust trust.json")
@told
def verify_bundle_directory(
    bundle: Annotated[Path, typer.Argument(help="The directory that `saggar export` wrote.")],
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a bundle and the integrity of its log (level 0)."""
    _replay(bundle, level=0, trust=trust, key=None, held=None, as_json=as_json)


@told
def replay(
    bundle: Annotated[Path, typer.Argument(help="The directory that `saggar export` wrote.")],
    level: Annotated[
        int,
        typer.Option(min=0, max=3, help="0 integrity, 1 state, 2 decisions, 3 transcripts; each includes those below."),
    ] = 1,
    key: Annotated[Path | None, typer.Option(help="The auditor's key file; level 3 needs it.")] = None,
    trust: TrustOption = None,
    held: Annotated[
        Path | None, typer.Option(help="A checkpoint (.note) you kept from before; the log must extend it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle and run its record again, offline, without the vault 重放."""
    _replay(bundle, level=level, trust=trust, key=key, held=held, as_json=as_json)


def _replay(
    bundle: Path, *, level: int, trust: Path | None, key: Path | None, held: Path | None, as_json: bool
) -> None:
    from sandbox.cli.custody import open_key
    from sandbox.jobs.replay import replay_bundle
    from sandbox.service.compose import lazy_guests

    files = read_bundle(bundle)
    auditor = None if key is None else open_key(key)
    origin, trusted = read_trust(trust) if trust is not None else (None, None)
    with lazy_guests() as guests, console.status("opening the bundle …") as status:
        findings = replay_bundle(
            files,
            level=level,
            trusted=trusted,
            origin=origin,
            held_checkpoint=_read(held).decode("utf-8", "replace") if held else None,
            auditor=auditor,
            guests=guests,
            progress=lambda what: status.update(f"checking {what} …"),
        )
    if as_json:
        print_json([{"level": f.level, "subject": f.subject, "verdict": f.verdict} for f in findings])
        return
    console.print(findings_table(findings))


def findings_table(findings: list[Any]) -> Table:
    """Return what held, level by level."""
    table = Table(title="the auditor's verdict 审计结论: everything holds", title_justify="left")
    for heading in ("level 级", "what 对象", "verdict 结论"):
        table.add_column(heading)
    for finding in findings:
        table.add_row(str(finding.level), finding.subject, f"[green]✓[/] {finding.verdict}")
    return table


def read_bundle(directory: Path) -> dict[str, bytes]:
    """Return a bundle's files as path -> bytes."""
    if not directory.is_dir():
        raise InputError(
            f"`{directory}` is not a bundle directory", hint="name what `saggar export` wrote", code="input.no_file"
        )
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def read_trust(path: Path) -> tuple[str, tuple[PublicKey, ...]]:
    """Return the log's name and the trusted keys of a trust file."""
    try:
        record = json.loads(_read(path))
        return str(record["origin"]), tuple(PublicKey.parse(key) for key in record["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise KeyUnavailableError(
            f"trust file `{path}` is malformed",
            hint="make one with `saggar keys trust`",
            code="vault.key_unavailable.trust",
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(
            f"file `{path}` cannot be read", hint="check the path", code="input.file.missing"
        ) from error
