"""`saggar ingest` and `saggar agree`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from connectors.quality import QualityReport
from sandbox.cli.session import console, own_key, passphrase_for, print_json, session, told
from sandbox.cli.tables import Table
from sandbox.errors import FileFormatError, InputError
from sandbox.model.agreement import SIGNING_CONTEXT, Agreement, SignedAgreement
from sandbox.model.canonical import canonical_bytes, parse_canonical
from sandbox.model.description import DatasetDescription
from sandbox.model.digest import short
from sandbox.model.keys import SuiteName

agree = typer.Typer(
    no_args_is_help=True, help="Sign, register and show agreements 授权运营协议.", rich_markup_mode="rich"
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: saggar ingest hospital.yaml encounters.csv.zip --owner health")(ingest)
    app.add_typer(agree, name="agree")


@told
def ingest(
    description: Annotated[Path, typer.Argument(help="The dataset description (YAML).")],
    source: Annotated[Path, typer.Argument(help="A CSV file, or a .zip with one CSV file in it.")],
    owner: Annotated[str, typer.Option(help="The department's key name; half of the snapshot key is its own.")],
    suite: Annotated[SuiteName | None, typer.Option(help="Default: the state's suite.")] = None,
    encoding: Annotated[str, typer.Option(help="utf-8, utf-8-sig or gb18030.")] = "utf-8",
    append: Annotated[bool, typer.Option("--append", help="Keep the current snapshot's rows beside the new.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the quality report as JSON.")] = False,
) -> None:
    """Read a department's file, apply its exclusion rules, and seal it as a snapshot 入窑."""
    from connectors.csv_source import CsvSource
    from sandbox.jobs.ingest import ingest as seal_rows
    from sandbox.model.load_description import load_description
    from sandbox.service.compose import open_engine
    from sandbox.service.config import Layout, StateConfig

    described = load_description(read_text(description), description.name)
    check_source(source)
    chosen = suite or StateConfig.read(Layout(session.state)).suite
    reports: list[Any] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} rows"),
        TimeElapsedColumn(),
    )
    with (
        open_engine(
            session.state, passphrase=passphrase_for("sandbox"), purpose="ingest", wait_s=session.wait_s
        ) as engine,
        Progress(*columns, console=console, transient=True, disable=as_json) as bar,
    ):
        task = bar.add_task("reading and sealing 封装", total=None)

        def rows(*tokenisers: Any) -> Any:
            reader = CsvSource(
                source, described, *tokenisers, encoding=encoding, progress=lambda n: bar.update(task, completed=n)
            )
            reports.append(reader)
            return reader

        sealed = seal_rows(engine, described, rows, suite=chosen, owner=owner, append=append)
    report = reports[0].report()
    if as_json:
        print_json({"dataset": sealed.dataset, "snapshot": sealed.snapshot, "report": report.to_record()})
        return
    console.print(quality_table(described, report))
    console.print(
        f"sealed [bold]{described.label_en} {described.label_zh}[/] as snapshot {short(sealed.snapshot)}, "
        f"suite {chosen.value}"
    )


def check_source(source: Path) -> None:
    """Refuse a source that is no file, before anybody types a passphrase."""
    if source.is_dir():
        raise FileFormatError(
            f"source `{source}` is a directory", hint="name one CSV file, or a .zip with one", code="input.file.missing"
        )
    if not source.is_file():
        raise FileFormatError(f"source file `{source}` is not there", hint="check the path", code="input.file.missing")


def quality_table(described: DatasetDescription, report: QualityReport) -> Table:
    """Return the quality report as a table for the department's own eyes."""
    table = Table("what 项目", "rows 行数", "where 何处", title="quality report 质量报告", title_justify="left")
    table.add_row("read 读入", f"{report.rows_read:,}", report.source)
    table.add_row("sealed 封装", f"{report.rows_sealed:,}", described.label_zh)
    for rule, (column, reason, rows) in zip(described.exclusions, report.excluded, strict=True):
        table.add_row("excluded 排除", f"{rows:,}", f"{column}: {reason} {rule.reason_zh}")
    for broken in report.broken:
        first = ", ".join(str(number) for number in broken.first_rows)
        table.add_row("broken 损坏", f"{broken.rows:,}", f"{broken.column} {broken.reason.value}, rows {first}")
    labels = {column.name: column.label_zh for column in described.columns}
    for word, counts in (("clamped 截断", report.clamped), ("missing 缺失", report.nulls)):
        for column, values in counts:
            if values:
                table.add_row(word, f"{values:,}", f"{column} {labels[column]}")
    return table


@agree.command(name="sign", epilog="Example: saggar agree sign examples/hospital/agreement.yaml --as operator")
@told
def sign_agreement(
    file: Annotated[
        Path, typer.Argument(help="The agreement (YAML), or one already signed by the other party (.signed.json).")
    ],
    as_name: Annotated[str, typer.Option("--as", help="Whose key signs.")],
    key_file: Annotated[Path | None, typer.Option("--key", help="A key file kept outside the state directory.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the signed agreement goes.")] = None,
) -> None:
    """Sign an agreement as one of its parties."""
    from sandbox.crypto.signing import sign
    from sandbox.service.compose import open_records
    from sandbox.service.files import write_durably

    with open_records(session.state) as records:
        parties = {key.name: key.key_id for key in records.state().keys.values()}
    signed = read_agreement(file, parties)
    key = own_key(as_name, key_file)
    if key.public.key_id not in (signed.agreement.operator, signed.agreement.agency):
        raise InputError(f"`{as_name}` is not a party of this agreement", hint="sign as the operator or as the agency")
    signature = sign(key, SIGNING_CONTEXT, canonical_bytes(signed.agreement.to_record()))
    others = tuple(s for s in signed.signatures if s.key_id != signature.key_id)
    target = out or file.with_suffix(".signed.json") if not file.name.endswith(".signed.json") else out or file
    document = canonical_bytes(SignedAgreement(signed.agreement, (*others, signature)).to_record())
    write_durably(target, document, mode=0o644)
    console.print(f"[bold]{as_name}[/] signed agreement [bold]{signed.agreement.agreement}[/] into {target}")


@agree.command(epilog="Example: saggar agree register examples/hospital/agreement.signed.json")
@told
def register(file: Annotated[Path, typer.Argument(help="The agreement with both signatures (.signed.json).")]) -> None:
    """Register an agreement that both parties signed; from then on it gates every job."""
    from sandbox.jobs.agree import register_agreement
    from sandbox.service.compose import open_engine

    signed = read_agreement(file, {})
    with open_engine(
        session.state, passphrase=passphrase_for("sandbox"), purpose="agree register", wait_s=session.wait_s
    ) as engine:
        register_agreement(engine, signed)
    terms = signed.agreement
    console.print(
        f"registered agreement [bold]{terms.agreement}[/] {terms.title_en} {terms.title_zh}, until {terms.not_after}"
    )


@agree.command(epilog="Example: saggar agree show hospital-2026 --json")
@told
def show(
    name: Annotated[str, typer.Argument(help="The agreement's short name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a registered agreement."""
    from sandbox.jobs.registry import agreement_of
    from sandbox.service.compose import open_records

    with open_records(session.state) as records:
        signed = agreement_of(records, name)
        names = {key.key_id: key.name for key in records.state().keys.values()}
    if as_json:
        print_json(signed.to_record())
        return
    console.print(agreement_table(signed.agreement, names))


def agreement_table(terms: Agreement, names: dict[str, str]) -> Table:
    """Return an agreement's terms as a table."""
    table = Table("clause 条款", "terms 内容", title=f"{terms.title_en} {terms.title_zh}", title_justify="left")
    table.add_row("operator 运营机构", names.get(terms.operator, terms.operator))
    table.add_row("agency 实施机构", names.get(terms.agency, terms.agency))
    table.add_row("term 期限", f"{terms.not_before} to {terms.not_after}")
    table.add_row("purposes 目的", ", ".join(terms.purposes))
    table.add_row("products 产品", ", ".join(terms.products))
    for grant in terms.grants:
        table.add_row(f"columns of {grant.dataset} 字段", ", ".join(grant.columns))
        table.add_row(
            "budget 预算", f"rho {grant.budget.to_record()['rho']}, delta {grant.budget.to_record()['delta']}"
        )
        table.add_row("one job at most 单次上限", f"rho {grant.job_limit.to_record()['rho']}")
    return table


def read_agreement(file: Path, parties: dict[str, str]) -> SignedAgreement:
    """Return an agreement from YAML (unsigned) or from canonical JSON (signed)."""
    from sandbox.model.load_agreement import load_agreement

    if file.suffix == ".json":
        return SignedAgreement.parse(parse_canonical(read_text(file).strip().encode()))
    return SignedAgreement(load_agreement(read_text(file), file.name, parties), ())


def read_text(path: Path) -> str:
    """Return a text file's content, or say which file is not one."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"file `{path}` cannot be read", hint="check the path and its permissions", code="input.no_file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"file `{path}` is not UTF-8 text", hint="save it as UTF-8", code="input.not_utf8") from error
