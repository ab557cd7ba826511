"""What leaves, put on disk and shown: release, receipt, trust, tables, a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sandbox.cli.render import answer_table, loss_text, output_table, pure_text
from sandbox.client.frames import answer_frame
from sandbox.client.picture import bar_picture
from sandbox.client.submission import verify_release
from sandbox.jobs.engine import Engine
from sandbox.jobs.stages import Released
from sandbox.ledger.verify import Trusted
from sandbox.model.digest import short
from sandbox.model.job import JobSpec
from sandbox.model.keys import Role
from sandbox.model.question import Answer, AnswerColumn, ColumnRole
from sandbox.model.release import Release
from sandbox.service.files import write_durably

_MAX_BARS = 25


@dataclass(frozen=True, slots=True)
class Delivery:
    """A release in the operator's hands.

    Attributes:
        release: what left.
        directory: where it lies.
        files: what was written.
    """

    release: Release
    directory: Path
    files: tuple[Path, ...]

    def to_record(self) -> dict[str, Any]:
        """Return the delivery as `--json` prints it."""
        return {"release": self.release.to_record(), "files": [str(path) for path in self.files]}

    def show(self, terminal: Console) -> None:
        """Print the release and where its files are."""
        show_release(terminal, self.release)
        terminal.print("receipt verified: the log, cosigned by the witness, says exactly these bytes 回执已验证")
        for path in self.files:
            terminal.print(f"  {path}")


def deliver(engine: Engine, spec: JobSpec, released: Released, out: Path) -> Delivery:
    """Verify a release as its operator would, and write it with its receipt, tables and pictures."""
    from sandbox.service.compose import trust_record

    trusted = Trusted(engine.origin, engine.trusted(Role.SANDBOX), engine.trusted(Role.WITNESS))
    release = verify_release(released.raw, released.receipt, trusted, spec=spec)
    directory = out / short(release.job)
    files: dict[str, bytes] = {
        "release.json": released.raw,
        "receipt.tlog-proof": released.receipt.encode(),
        "trust.json": _json(trust_record(engine)),
    }
    for name, output in release.outputs.items():
        files.update(_readable(name, output, title=release.name))
    for name, data in files.items():
        write_durably(directory / name, data, mode=0o644)
    return Delivery(release, directory, tuple(directory / name for name in files))


def show_release(terminal: Console, release: Release) -> None:
    """Print a release: its outputs, then what it cost."""
    for name, output in release.outputs.items():
        if output["kind"] == "answer":
            answer = Answer.parse({key: value for key, value in output.items() if key != "kind"})
            terminal.print(answer_table(answer, title=f"{release.name}: {name}"))
            for note in answer.notes:
                terminal.print(f"  [dim]{note}[/]")
            if answer.pure_loss is not None:
                terminal.print(pure_text(answer.pure_loss))
        else:
            terminal.print(output_table(name, output))
    terminal.print(f"cost 消耗: {loss_text(release.loss)}; walls 隔离: {release.isolation}; job {short(release.job)}")


def _readable(name: str, output: dict[str, Any], *, title: str) -> dict[str, bytes]:
    import pandas as pd

    if output["kind"] == "answer":
        answer = Answer.parse({key: value for key, value in output.items() if key != "kind"})
        files = {f"{name}.csv": answer_frame(answer).to_csv(index=False).encode()}
        picture = answer_picture(answer, title=title)
        return files if picture is None else {**files, f"{name}.png": picture}
    if output["kind"] == "number":
        return {}
    frame = pd.DataFrame(output["rows"], columns=[column for column, _ in output["columns"]])
    files = {f"{name}.csv": frame.to_csv(index=False).encode()}
    picture = figure_picture(f"{title}: {name}", output) if output["kind"] == "figure" else None
    return files if picture is None else {**files, f"{name}.png": picture}


def answer_picture(answer: Answer, *, title: str) -> bytes | None:
    """Return a PNG of an answer's last value by its keys with 95 % intervals, or None where nothing can be drawn."""
    keys = [i for i, column in enumerate(answer.columns) if column.role is ColumnRole.KEY]
    values = [i for i, column in enumerate(answer.columns) if column.role is ColumnRole.VALUE]
    if not keys or not values:
        return None
    shown = values[-1]
    rows = [r for r in range(len(answer.rows)) if answer.rows[r][shown] is not None][:_MAX_BARS]
    if not rows:
        return None
    column = answer.columns[shown]
    return bar_picture(
        [" · ".join("(missing)" if answer.rows[r][k] is None else str(answer.rows[r][k]) for k in keys) for r in rows],
        [float(answer.rows[r][shown] or 0) for r in rows],
        [float(answer.lower[r][shown] or 0) for r in rows],
        [float(answer.upper[r][shown] or 0) for r in rows],
        title=title,
        axis=" ".join(word for word in (column.label_en, column.label_zh, _measure(column)) if word),
    )


def _measure(column: AnswerColumn) -> str:
    return f"({column.measure_en} {column.measure_zh})" if column.measure_en else ""


def figure_picture(title: str, output: dict[str, Any]) -> bytes | None:
    """Return a PNG of a figure's data: a label, a value, and a low and a high where given."""
    kinds = [kind for _, kind in output["columns"]]
    names = [column for column, _ in output["columns"]]
    numbers = [i for i, kind in enumerate(kinds) if kind != "text"]
    labels = [i for i, kind in enumerate(kinds) if kind == "text"]
    rows = [row for row in output["rows"] if numbers and row[numbers[0]] is not None][:_MAX_BARS]
    if not numbers or not labels or not rows:
        return None
    value = numbers[0]
    low = next((names.index(end) for end in ("low", "lower") if end in names), value)
    high = next((names.index(end) for end in ("high", "upper") if end in names), value)

    def end(row: list[Any], index: int) -> float:
        return float(row[value] if row[index] is None else row[index])

    return bar_picture(
        [" · ".join("(missing)" if row[i] is None else str(row[i]) for i in labels) for row in rows],
        [float(row[value]) for row in rows],
        [end(row, low) for row in rows],
        [end(row, high) for row in rows],
        title=title,
        axis=names[value],
    )


def _json(record: Any) -> bytes:
    import json

    return (json.dumps(record, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
