"""Read the outputs that a worker declares: tables of plain cells and numbers, nothing else."""

from __future__ import annotations

from typing import Any, Final

from sandbox.runtime.wire import WireError

OUTPUTS_MAX: Final = 64
NAME_CHARACTERS_MAX: Final = 64
COLUMNS_MAX: Final = 1024


def parse_outputs(record: Any) -> dict[str, Any]:
    """Return outputs after checking each cell.

    Raises:
        WireError: the record is not a dict of tables and numbers.
    """
    if not isinstance(record, dict) or len(record) > OUTPUTS_MAX:
        raise WireError("outputs are not a dict of at most 64 entries")
    for name, output in record.items():
        _check_name(name)
        match output:
            case {"kind": "number", "value": value} if len(output) == 2:
                if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
                    raise WireError("a number is not one")
            case {"kind": "table", "columns": list(columns), "rows": list(rows)} if len(output) == 3:
                _check_table(columns, rows)
            case _:
                raise WireError("an output is neither a table nor a number")
    return record


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise WireError("a name is empty, too long or not printable")


def _check_table(columns: list[Any], rows: list[Any]) -> None:
    if len(columns) > COLUMNS_MAX or any(not isinstance(column, str) for column in columns):
        raise WireError("the columns of a table are not names")
    if len(set(columns)) != len(columns):
        raise WireError("a table has two columns of the same name")
    for row in rows:
        if not isinstance(row, list) or len(row) != len(columns):
            raise WireError("a row has not one cell a column")
        if any(isinstance(cell, (dict, list)) for cell in row):
            raise WireError("a cell is not plain")
