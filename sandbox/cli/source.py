"""`saggar seal-source` at the department, `saggar receive` at the vault, and the two keys they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandbox.cli.custody import open_key, read_file, registered
from sandbox.cli.datasets import check_source, quality_table, read_text
from sandbox.cli.session import console, passphrase_for, print_json, session, told
from sandbox.cli.setup import read_public_file
from sandbox.errors import InputError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.digest import short
from sandbox.model.keys import SuiteName


def add_to(app: typer.Typer, keys: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(
        name="seal-source",
        epilog="Example: saggar seal-source hospital.yaml encounters.csv --to vault.pub --as health.key "
        "--token-key patient.token --out batch.sealed",
    )(seal_source)
    app.command(epilog="Example: saggar receive batch.sealed")(receive)
    keys.command(epilog="Example: saggar keys public sandbox --out vault.pub")(public)
    keys.command(
        name="issue-token-key", epilog="Example: saggar keys issue-token-key patient --to health --out patient.token"
    )(issue_token_key)


@told
def seal_source(
    description: Annotated[Path, typer.Argument(help="The dataset description (YAML).")],
    source: Annotated[Path, typer.Argument(help="A CSV file, or a .zip with one CSV file in it.")],
    to: Annotated[Path, typer.Option(help="The vault's public key (vault.pub).")],
    as_key: Annotated[Path, typer.Option("--as", help="The department's key file.")],
    token_key: Annotated[
        list[Path], typer.Option("--token-key", help="The token key of the unit's kind; for each further kind another.")
    ],
    out: Annotated[Path, typer.Option(help="Where the sealed batch goes.")],
    encoding: Annotated[str, typer.Option(help="utf-8, utf-8-sig or gb18030.")] = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print the quality report as JSON.")] = False,
) -> None:
    """Check, tokenise, seal and sign a batch at the department, before it travels 源头封装."""
    from connectors.csv_source import CsvSource
    from connectors.sealed_batch import seal_batch
    from connectors.token_key import batch_check, open_token_key
    from sandbox.model.load_description import load_description
    from sandbox.service.clock import SystemClock

    described = load_description(read_text(description), description.name)
    check_source(source)
    vault = read_public_file(to)
    department = open_key(as_key)
    if len(token_key) != len(described.unit_kinds):
        raise InputError(
            f"{len(token_key)} token keys are given for {len(described.unit_kinds)} kinds of units",
            hint=f"give `--token-key` for {', then '.join(described.unit_kinds)}",
            code="input.token_keys",
        )
    pairs = zip(token_key, described.unit_kinds, strict=True)
    keys = [open_token_key(read_file(path), kind, department, vault) for path, kind in pairs]
    reader = CsvSource(source, described, *(key.tokeniser() for key in keys), encoding=encoding)
    digest = seal_batch(
        reader,
        described,
        out,
        recipient=vault,
        department=department,
        token_key=batch_check([key.check for key in keys]),
        at=SystemClock().now(),
    )
    report = reader.report()
    if as_json:
        print_json({"batch": digest, "file": str(out), "report": report.to_record()})
        return
    console.print(quality_table(described, report))
    console.print(f"sealed batch {short(digest)} for [bold]{vault.name}[/] into {out}; only that vault opens it")


@told
def receive(
    batch: Annotated[Path, typer.Argument(help="The batch that the department sealed.")],
    append: Annotated[bool, typer.Option("--append", help="Keep the current snapshot's rows beside the new.")] = False,
    suite: Annotated[SuiteName | None, typer.Option(help="Default: the state's suite.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a batch sealed at the source and seal its rows as a snapshot 接收."""
    from sandbox.jobs.intake import receive as take_in
    from sandbox.service.compose import open_engine
    from sandbox.service.config import Layout, StateConfig

    chosen = suite or StateConfig.read(Layout(session.state)).suite
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="receive", wait_s=session.wait_s
    ) as engine:
        received = take_in(engine, batch, suite=chosen, append=append)
    sealed = received.ingested
    if as_json:
        print_json({"dataset": sealed.dataset, "snapshot": sealed.snapshot, "report": received.report})
        return
    console.print(
        f"received from [bold]{received.department.name}[/]: signature, digest, addressee, schema and rows hold; "
        f"sealed as snapshot {short(sealed.snapshot)} of [bold]{sealed.dataset}[/]"
    )


@told
def public(
    name: Annotated[str, typer.Argument(help="A registered key; the vault's own is `sandbox`.")],
    out: Annotated[Path, typer.Option(help="Where the public key goes.")],
) -> None:
    """Write a registered public key to a file, to hand to others."""
    from sandbox.service.files import write_durably

    (key,) = registered([name])
    write_durably(out, canonical_bytes(key.to_record()), mode=0o644)
    console.print(f"wrote the public key of [bold]{name}[/] to {out}; its id is {key.key_id}, compare it by telephone")


@told
def issue_token_key(
    kind: Annotated[str, typer.Argument(help="The kind of unit whose identifiers become tokens, as in patient.")],
    to: Annotated[str, typer.Option(help="The department's key name.")],
    out: Annotated[Path, typer.Option(help="Where the sealed token key goes.")],
) -> None:
    """Seal the token key of a kind of unit to a department, which tokenises before it sends 下发令牌密钥."""
    from sandbox.jobs.intake import token_key_for
    from sandbox.service.compose import open_engine
    from sandbox.service.files import write_durably

    (department,) = registered([to])
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="keys issue-token-key", wait_s=session.wait_s
    ) as engine:
        raw = token_key_for(engine, kind, department)
    write_durably(out, raw)
    console.print(f"the token key of [bold]{kind}[/] is in {out}; only [bold]{to}[/] opens it")
