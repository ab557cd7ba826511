"""`saggar destroy`, `certificate`, `verify destruction`, `keys close-epoch`: what is gone, and how anybody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sandbox.cli.audit import read_trust, verify
from sandbox.cli.custody import YesOption, confirm, new_file, opened_keys, read_file, registered_as
from sandbox.cli.session import console, new_passphrase, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.errors import LedgerError
from sandbox.model.digest import short
from sandbox.model.keys import Role

CERTIFICATE, EPOCH, RECEIPT, TRUST = "certificate.json", "epoch.json", "receipt.tlog-proof", "trust.json"


def add_to(app: typer.Typer, keys: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: saggar destroy hospital --as agency --with health --basis 'order 2026-17'")(destroy)
    app.command(epilog="Example: saggar certificate hospital --out destroyed-hospital")(certificate)
    verify.command(name="destruction", epilog="Example: saggar verify destruction destroyed-3f2a9c1b7d04")(
        verify_destruction_files
    )
    keys.command(name="close-epoch", epilog="Example: saggar keys close-epoch --receipt an.receipt --out epoch-1")(
        close_epoch
    )


@told
def destroy(
    what: Annotated[str, typer.Argument(help="A dataset, or one snapshot's digest.")],
    as_name: Annotated[str, typer.Option("--as", help="Who orders it: the operator or the agency.")],
    with_names: Annotated[
        list[str], typer.Option("--with", help="Who witnesses it: the owning department or a custodian; repeat.")
    ],
    basis: Annotated[str, typer.Option(help="Why, in a line: the clause or the order.")],
    out: Annotated[Path | None, typer.Option(help="The directory for the certificate. Default: destroyed-ID.")] = None,
    yes: YesOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Destroy a dataset or a snapshot: keys, objects, a second read, a signed certificate 销毁."""
    from sandbox.jobs.destroy import check_basis, find_snapshots
    from sandbox.jobs.destroy import destroy as destroy_data
    from sandbox.service.compose import open_engine, open_records, trust_record, unlock_named

    check_basis(basis)
    check_room(out)
    with open_records(session.state) as records:
        dataset, snapshots = find_snapshots(records.state(), what)
    parties = [unlock_named(session.state, name, passphrase_for(name)) for name in (as_name, *with_names)]
    if not as_json:
        console.print(
            f"{len(snapshots)} of {len(dataset.snapshots)} snapshots of [bold]{dataset.dataset}[/] "
            f"({', '.join(map(short, snapshots))}) will be destroyed by order of [bold]{as_name}[/], witnessed by "
            f"[bold]{', '.join(with_names)}[/].\nNobody can open them afterwards; releases made from them stay."
        )
    confirm("destroy for good", yes)
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="destroy", wait_s=session.wait_s
    ) as engine:
        logged = destroy_data(engine, what, parties, basis=basis)
        trust = trust_record(engine)
    directory = out or Path(f"destroyed-{short(logged.digest)}")
    _write(directory, CERTIFICATE, logged.document.to_bytes(), logged.receipt, trust)
    if as_json:
        print_json({"certificate": logged.digest, "directory": str(directory), "record": logged.document.record})
        return
    console.print(certificate_table(logged.document.record, level="L1"))
    console.print(f"certificate, receipt and keys in [bold]{directory}[/]; it is in the log as {short(logged.digest)}")
    console.print("backups of the vault's keys still open until you run [cyan]saggar keys close-epoch[/]")


@told
def certificate(
    what: Annotated[
        str | None, typer.Argument(help="A destroyed dataset, or a snapshot's or certificate's digest.")
    ] = None,
    epoch: Annotated[int | None, typer.Option(help="A closed epoch's number, in place of a dataset.")] = None,
    out: Annotated[Path | None, typer.Option(help="The directory. Default: destroyed-ID or epoch-N.")] = None,
) -> None:
    """Write a certificate of destruction, or a closed epoch, again from the log, with its receipt 补发销毁证明."""
    from sandbox.jobs.certificates import logged_certificate, logged_epoch
    from sandbox.service.compose import open_engine, trust_record

    if (what is None) is (epoch is None):
        raise typer.BadParameter("name a dataset or a digest, or `--epoch N`, and not both")
    check_room(out)
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="certificate", wait_s=session.wait_s
    ) as engine:
        logged = logged_certificate(engine, what) if what is not None else logged_epoch(engine, epoch or 0)
        trust = trust_record(engine)
    directory = out or Path(f"destroyed-{short(logged.digest)}" if epoch is None else f"epoch-{epoch}")
    check_room(directory)
    name = CERTIFICATE if epoch is None else EPOCH
    _write(directory, name, logged.document.to_bytes(), logged.receipt, trust)
    console.print(f"{name}, receipt and keys in [bold]{directory}[/]; it is in the log as {short(logged.digest)}")


@told
def close_epoch(
    receipt: Annotated[
        list[Path] | None, typer.Option("--receipt", help="A custodian's receipt of a destroyed share; repeat.")
    ] = None,
    lost: Annotated[
        list[Path] | None, typer.Option("--lost", help="A declaration that a share is lost; repeat.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The directory for the record. Default: epoch-N.")] = None,
    yes: YesOption = False,
) -> None:
    """Replace the master key and the passphrase, so that old backups of keys open nothing 关闭密钥纪元."""
    from sandbox.jobs.destroy import close_epoch as log_closing
    from sandbox.service.ceremonies import replace_master
    from sandbox.service.compose import open_engine, trust_record
    from sandbox.vault.lost import LostShare
    from sandbox.vault.outstanding import ShareReceipt

    declared = [LostShare.parse(read_file(path), name=path.name) for path in lost or []]
    receipts = [ShareReceipt.parse(read_file(path), name=path.name) for path in receipt or []]
    check_room(out)
    old, new = passphrase_for("sandbox"), new_passphrase("sandbox")
    console.print("A new master key under a new passphrase; what survives is wrapped anew, data is not touched.")
    confirm("close the epoch", yes)
    custodians = registered_as(Role.CUSTODIAN)
    with opened_keys("keys close-epoch", old) as keys:
        ids = replace_master(keys, old=old, new=new, receipts=receipts, custodians=custodians, lost=declared)
    with open_engine(session.state, passphrase=new, purpose="keys close-epoch", wait_s=session.wait_s) as engine:
        given = [*(each.to_record() for each in receipts), *(each.to_record() for each in declared)]
        logged = log_closing(engine, old_master=ids[0], new_master=ids[1], receipts=given)
        trust = trust_record(engine)
    record = logged.document.record
    directory = out or Path(f"epoch-{record['epoch']}")
    _write(directory, EPOCH, logged.document.to_bytes(), logged.receipt, trust)
    console.print(
        f"epoch {record['epoch']} is closed: {len(record['survivors'])} datasets live on under the new master key, "
        f"{len(record['certificates'])} certificates are complete (L2)"
    )
    if declared:
        console.print(
            f"{len(declared)} shares are lost and not destroyed: whoever finds them with their holders' keys "
            "has them again"
        )
    console.print(f"record in [bold]{directory}[/]; forget the old passphrase, and split the new master key now")


@told
def verify_destruction_files(
    certificate: Annotated[Path, typer.Argument(help="The certificate, or the directory that it lies in.")],
    trust: Annotated[Path | None, typer.Option(help="The keys you trust. Default: trust.json beside it.")] = None,
    epoch: Annotated[Path | None, typer.Option(help="The closed epoch (epoch.json or its directory).")] = None,
    without_receipt: Annotated[
        bool, typer.Option("--without-receipt", help="Check the signatures alone, where a receipt of the log is lost.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a certificate of destruction offline: signatures, second read, the log's receipt, the closed epoch."""
    from sandbox.jobs.replay_bundle import trusted_for
    from sandbox.ledger.destruction import verify_destruction

    path = certificate / CERTIFICATE if certificate.is_dir() else certificate
    origin, keys = read_trust(trust or path.parent / TRUST)
    closed = None
    if epoch is not None:
        epoch_path = epoch / EPOCH if epoch.is_dir() else epoch
        closed = (read_file(epoch_path), _receipt(epoch_path, needed=not without_receipt))
    receipt = _receipt(path, needed=not without_receipt)
    facts = verify_destruction(read_file(path), keys, trusted_for(origin, keys), receipt=receipt, epoch=closed)
    logged = facts.receipt is not None and (closed is None or closed[1] is not None)
    if as_json:
        print_json(
            {
                "verified": True,
                "certificate": facts.certificate,
                "level": facts.level,
                "logged": logged,
                "entry": None if facts.receipt is None else facts.receipt.entry.seq,
                "lost_shares": facts.lost_shares(),
                "record": facts.record,
            }
        )
        return
    console.print(certificate_table(facts.record, level=facts.level, lost=facts.lost_shares()))
    where = "" if facts.receipt is None else f"entry {facts.receipt.entry.seq} of a cosigned log, "
    console.print(f"[green]holds[/]: {len(facts.signers)} signatures, {where}level [bold]{facts.level}[/]")
    if not logged:
        console.print("[yellow]by signatures alone[/]: without a receipt nothing shows that it stands in the log")
    if trust is None:
        console.print("[dim]the keys came with the certificate; compare their ids with the ones you know:[/]")
        for key in facts.signers:
            console.print(f"  [dim]{key.role.value} {key.name} {key.key_id}[/]")


def certificate_table(record: dict[str, Any], *, level: str, lost: Sequence[str] = ()) -> Table:
    """Return a certificate as a table; `lost` are the custodians whose share of the old key was declared lost."""
    table = Table(
        "what 项目", "says 内容", title=f"destruction of {record['dataset']} 销毁证明, {level}", title_justify="left"
    )
    for each in record["snapshots"]:
        size = sum(sealed["bytes"] for sealed in each["objects"])
        table.add_row("snapshot 快照", f"{short(each['snapshot'])}, {len(each['objects'])} objects, {size:,} bytes")
        halves = ", ".join(f"{side} {what}" for side, what in sorted(each["halves"].items()))
        table.add_row("key halves 密钥", halves)
        read = each["second_read"]
        table.add_row("second read 复核", f"{read['objects_found']} objects found, opening: {read['opening']}")
    table.add_row("at 时间, basis 依据", f"{record['at']}, {record['basis']}")
    table.add_row("signed by 签署", ", ".join(f"{p['name']} ({p['role']})" for p in record["parties"]))
    table.add_row("releases not covered 衍生结果", str(len(record["derived_releases"])))
    for remains in record["remaining"]:
        # Of what remains the closed epoch ends this alone: without a second factor an old passphrase still opens.
        closed = level == "L2" and remains.startswith("backups of this vault from before")
        table.add_row("remains 仍存", "backups: closed by L2" if closed else remains)
    if lost:
        told = (
            f"shares declared lost and not destroyed: {', '.join(lost)}; found again with their keys they still count"
        )
        table.add_row("remains 仍存", told)
    table.add_row("replay left 可重放", f"levels {', '.join(map(str, record['replay']['left']))}; level 4 is lost")
    return table


def check_room(directory: Path | None) -> None:
    """Refuse, before anything is destroyed, a directory for the certificate that is there or cannot be made.

    Raises:
        InputError: something of that name is there (`input.exists`).
        StorageError: no file can be written there.
    """
    from sandbox.service.files import check_writable

    if directory is not None:
        new_file(directory)
    check_writable(Path() if directory is None else directory.parent)


def _write(directory: Path, name: str, document: bytes, receipt: str, trust: dict[str, Any]) -> None:
    from sandbox.model.canonical import canonical_bytes
    from sandbox.service.files import write_durably

    files = ((name, document), (RECEIPT, receipt.encode()), (TRUST, canonical_bytes(trust)))
    for file, data in files:
        write_durably(directory / file, data, mode=0o644)


def _receipt(document: Path, *, needed: bool) -> str | None:
    """Return the receipt beside a document.

    Raises:
        LedgerError: there is none, and it is needed (`ledger.destruction.receipt`): signatures do not show that the log
            has the document.
    """
    path = document.parent / RECEIPT
    if path.exists():
        return read_file(path).decode("utf-8", "replace")
    if needed:
        raise LedgerError(
            f"there is no `{RECEIPT}` beside `{document}`, so nothing shows that it stands in the log",
            hint="ask for it; `--without-receipt` checks the signatures alone",
            code="ledger.destruction.receipt",
        )
    return None
