"""Tables for people: answers with their error bars, quotes, accounts, jobs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rich.text import Text

from sandbox.cli.tables import Table
from sandbox.jobs.quoting import AccountLine, JobQuote
from sandbox.model.blocks_question import BlockStatistic
from sandbox.model.exact import decimal_text, format_exact
from sandbox.model.job import CellKind
from sandbox.model.loss import PrivacyLoss
from sandbox.model.question import Answer, ColumnRole
from sandbox.privacy.accounting import people_loss
from sandbox.privacy.blocks_quote import QuotedBlocks
from sandbox.privacy.models.asking import COUNT_SHARE
from sandbox.privacy.models.expecting import QuotedModel
from sandbox.privacy.quote import LAPLACE

_BAR_WIDTH = 24


def answer_table(answer: Answer, *, title: str, rows: int = 30) -> Table:
    """Return an answer as a table: keys, values with their 95 % half-width, and a bar of the first value."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in answer.columns:
        measure = f" ({column.measure_en} {column.measure_zh})".rstrip() if column.measure_en else ""
        heading = f"{column.name}{measure}\n{column.label_zh}"
        table.add_column(heading, justify="left" if column.role is ColumnRole.KEY else "right")
    values = [i for i, column in enumerate(answer.columns) if column.role is ColumnRole.VALUE]
    barred = values[0] if values and len(answer.rows) > 1 else None
    if barred is not None:
        table.add_column(f"{answer.columns[barred].name} with 95 % interval\n含95%区间", no_wrap=True)
    most = (
        max((_number(answer.upper[r][barred]) for r in range(len(answer.rows))), default=0.0)
        if barred is not None
        else 0.0
    )
    for index, row in enumerate(answer.rows[:rows]):
        cells: list[str | Text] = [
            _cell(row[i], answer.lower[index][i], answer.upper[index][i], answer.columns[i].kind)
            if i in values
            else _key(row[i])
            for i in range(len(row))
        ]
        if barred is not None:
            cells.append(_bar(row[barred], answer.lower[index][barred], answer.upper[index][barred], most))
        table.add_row(*cells)
    if len(answer.rows) > rows:
        table.caption = f"… and {len(answer.rows) - rows} more rows in the release"
    return table


def output_table(name: str, output: dict[str, Any], *, rows: int = 20) -> Table:
    """Return a declared output of a program as a table."""
    table = Table(title=f"{name} ({output['kind']})", title_justify="left")
    if output["kind"] == "number":
        table.add_column(name)
        table.add_row(_plain(output["value"]))
        return table
    for column, kind in output["columns"]:
        table.add_column(column, justify="left" if kind == "text" else "right")
    for row in output["rows"][:rows]:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def quote_tables(quote: JobQuote) -> list[Table | Text]:
    """Return a quote as tables: what it costs, what it may, how good it would be."""
    parts: list[Table | Text] = [accounts_table(list(quote.accounts), title="what it would cost 预计消耗")]
    if quote.question is not None:
        q = quote.question
        table = Table(title="how good it would be 预计精度", title_justify="left")
        for heading in ("value 指标", "noise 噪声", "standard error 标准误", "95 % half-width 95%半宽", "for 适用"):
            table.add_column(heading)
        for s in q.statistics:
            table.add_row(
                s.name,
                f"{s.mechanism}, {'deviation' if s.mechanism == LAPLACE else 'scale'} {s.noise_scale:,.4g}",
                f"{s.standard_error:,.4g}",
                f"± {s.half_width_95:,.4g}",
                "each cell" if s.reference_count is None else f"a cell of {s.reference_count:,} rows",
            )
        parts.append(table)
        keys = {
            "public": f"public keys, {q.cells} cells",
            "private": f"private keys, shown from about {q.threshold:,.0f} units" if q.threshold else "private keys",
            "none": "one row",
        }
        parts.append(Text(f"keys: {keys.get(q.keys, q.keys)}; bound: {q.bounding}"))
        parts += [Text(f"note: {note}") for note in q.notes]
        parts += [] if q.pure_loss is None else [Text(pure_text(q.pure_loss))]
    parts += [_blocks_table(quotes) for quotes in quote.blocks]
    if quote.model is not None:
        parts += _model_parts(quote.model)
    if quote.needed is not None:
        needed = quote.needed.to_record()
        parts.append(
            Text(
                f"± {float(quote.needed.within):.3g} of each value in a cell of {needed['cell']:,} rows needs "
                f"ρ {rho_text(quote.needed.loss)} (ε {needed['epsilon']} at δ {needed['delta']}) 所需预算"
            )
        )
    clauses = ", ".join(quote.decision.clauses)
    word = Text("allowed 允许", style="green") if quote.allowed else Text("not allowed 不允许", style="red")
    parts.append(
        Text.assemble(word, f" by clause {clauses}" if quote.decision.allowed is quote.allowed else " by the budget")
    )
    return parts


def _model_parts(model: QuotedModel) -> list[Table | Text]:
    """Return what a model would be worth, and how many rows it wants."""
    table = Table(title=f"how good the {model.kind} model would be 预计精度", title_justify="left")
    for heading in ("name 名称", "of 对象", "for 适用", "standard error of the noise 噪声标准误"):
        table.add_column(heading)
    if any(found.what == "coefficient" for found in model.expected):
        table.caption = "taking features as spread evenly between their bounds: narrow ones err more"
    for found in model.expected:
        size = f"some {found.rows:,} rows" if found.rows else "each"
        table.add_row(found.name, found.what, size, f"{found.standard_error:,.4g}")
    parts: list[Table | Text] = [table]
    if model.needed is not None:
        parts.append(
            Text(
                f"it wants some {model.needed:,} {model.counted}, counted first with noise; with fewer it is refused, "
                f"for {format_exact(COUNT_SHARE)} of the loss 样本不足时拒绝"
            )
        )
    parts.append(Text(f"it asks {model.questions} questions"))
    return parts + [Text(f"note: {note}") for note in model.notes]


def _blocks_table(quotes: tuple[QuotedBlocks, ...]) -> Table:
    """Return what is known of a question to blocks, one row a number of blocks."""
    first = quotes[0]
    what = (
        "standard error of the noise" if first.statistic is BlockStatistic.MEAN else "off the middle by, of all blocks"
    )
    table = Table(title=f"{first.statistic} over blocks 分块统计: {what}", title_justify="left")
    for heading in ("blocks 块数", *(name for name, _ in first.outputs), "seconds 秒"):
        table.add_column(heading)
    for quoted in quotes:
        errors = [f"{error:,.4g}" for _, error in quoted.outputs]
        table.add_row(f"{quoted.blocks}{' ←' if quoted.asked else ''}", *errors, f"{quoted.seconds:,.1f}")
    table.caption = "more blocks: less noise, but fewer units in each, of which nothing is known before asking"
    return table


def accounts_table(lines: list[AccountLine], *, title: str) -> Table:
    """Return accounts as a table with bars."""
    table = Table(title=title, title_justify="left")
    for heading in ("account 账户", "limit 上限 ρ", "remaining 剩余 ρ", "asked 申请 ρ", "left 剩余比例"):
        table.add_column(heading)
    for line in lines:
        share = float(line.remaining.rho / line.limit.rho) if line.limit.rho else 0.0
        filled = round(share * 10)
        asked = rho_text(line.asked) if line.asked.rho else ""
        style = "" if line.enough else "red"
        table.add_row(
            line.account,
            rho_text(line.limit),
            rho_text(line.remaining),
            asked,
            "█" * filled + "░" * (10 - filled) + f" {share:.0%}",
            style=style,
        )
    return table


def loss_text(loss: PrivacyLoss) -> str:
    """Return a loss for people: rho, and epsilon at delta."""
    epsilon, delta = people_loss(loss)
    return f"ρ = {rho_text(loss)}, that is ε ≤ {epsilon} at δ = {delta}"


def pure_text(epsilon: Fraction) -> str:
    """Return a pure loss for people, rounded up."""
    return f"pure loss 纯损失: ε = {decimal_text(epsilon, round_up=True)}, δ = 0"


def rho_text(loss: PrivacyLoss) -> str:
    """Return a loss's rho as a decimal, rounded up."""
    return decimal_text(loss.rho, digits=6, round_up=True)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _key(value: Any) -> str:
    if value == "(total)":
        return "(total 合计)"
    return "(missing 缺失)" if value is None else str(value)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any, low: float | None, high: float | None, kind: CellKind) -> str:
    if value is None:
        return "–"
    digits = 0 if kind is CellKind.INTEGER else 2
    shown = f"{value:,.{digits}f}"
    return shown if low is None or high is None else f"{shown} ± {(high - low) / 2:,.{digits}f}"


def _bar(value: Any, low: float | None, high: float | None, most: float) -> Text:
    if value is None or most <= 0:
        return Text("")

    def place(x: float | None) -> int:
        return max(0, min(_BAR_WIDTH, round(_number(x) / most * _BAR_WIDTH)))

    start, end, tip = place(low), place(high), place(value)
    text = Text("█" * min(start, tip), style="cyan")
    text.append("├" + "─" * max(0, end - start - 2) + "┤" if end - start > 1 else "│", style="yellow")
    return text
