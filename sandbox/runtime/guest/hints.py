"""What is refused by name before a program runs, and what to write instead."""

from __future__ import annotations

from typing import Final

from sandbox.runtime.guest.attributes import words

_ASK = 'ask the engine: `data.ask("SELECT ...")`'
_RETURN = 'return it from `analyze`: `return {"name": table}`'
_ISINSTANCE = "use `isinstance(value, kind)`"
_DIRECT = "write the expression itself"
_FUNCTION = "write a function and call it"
_NO_CLOCK = 'a program has no clock; pass the date as a parameter: `data.parameters["date"]`'
_MASK = 'use a boolean mask: `table[table["x"] > 0]`'
_FSTRING = 'use an f-string: `f"{value:.2f}"`'
_PLAIN = "leave it out; a program returns tables and numbers, and charts are drawn from them outside"
_ITEM = "use an item of a dict, or `table[name]`"

# Names that are builtins elsewhere.
NAMES: Final = {
    "open": _ASK,
    "input": 'pass it as a parameter: `data.parameters["name"]`',
    "eval": _DIRECT,
    "exec": _FUNCTION,
    "compile": _FUNCTION,
    "type": _ISINSTANCE,
    "object": "leave the base out: `class Name:`",
    "super": "call a method of another name, or keep the parts in a field",
    "globals": "keep the values in a dict of your own",
    "locals": "keep the values in a dict of your own",
    "vars": "keep the values in a dict of your own",
    "dir": "see the list of what is offered in the reference of the language",
    "setattr": _ITEM,
    "delattr": _ITEM,
    "id": "compare with `is`",
    "hash": "use the value itself as a key",
    "callable": "call it, or use `isinstance`",
    "memoryview": "use a list or a numpy array",
    "bytearray": "use a list or a numpy array",
    "breakpoint": "return intermediate tables from `analyze`",
    "exit": "use `return`",
    "quit": "use `return`",
    "help": "see the reference of the language",
    "BaseException": "use `Exception`",
    "KeyboardInterrupt": "use `Exception`",
    "SystemExit": "use `return`",
    "GeneratorExit": "use `Exception`",
    "__import__": "use `import`",
    "__builtins__": "use the names directly",
    "__name__": "leave the `if __name__ == ...` part out; the engine calls `analyze(data)`",
    "__file__": "a program is not a file",
}

# Modules that programs often import elsewhere.
MODULES: Final = {
    "os": "a program sees no files and no machine; " + _ASK,
    "sys": "a program sees no machine; pass what it needs as a parameter",
    "io": _ASK,
    "pathlib": _ASK,
    "shutil": _ASK,
    "tempfile": "keep the values in memory",
    "glob": _ASK,
    "sqlite3": _ASK,
    "duckdb": _ASK,
    "csv": _ASK,
    "pickle": _RETURN,
    "json": "return tables and numbers; text of your own can be built with f-strings",
    "socket": "a program has no network; " + _ASK,
    "requests": "a program has no network; " + _ASK,
    "urllib": "a program has no network; " + _ASK,
    "http": "a program has no network; " + _ASK,
    "subprocess": "a program starts no other; do it in pandas or in the question",
    "multiprocessing": "a program is one process; the engine computes in parallel",
    "threading": "a program is one thread; the engine computes in parallel",
    "concurrent": "a program is one thread; the engine computes in parallel",
    "asyncio": "a program is one thread; `data.ask` waits for the answer",
    "signal": "leave it out",
    "ctypes": "use numpy",
    "time": _NO_CLOCK,
    "secrets": "use `random`, which the job seeds",
    "uuid": "number the rows",
    "hashlib": "use the value itself as a key",
    "importlib": "use `import`",
    "inspect": "leave it out",
    "builtins": "use the names directly",
    "gc": "leave it out",
    "re": "use the methods of text or of `series.str`",
    "string": "write the characters out",
    "copy": "use `.copy()`",
    "dataclasses": "write a class with `__init__`, or use a dict",
    "enum": "use a dict of constants",
    "abc": "write a plain class",
    "logging": "return intermediate tables from `analyze`",
    "warnings": "leave it out; warnings go nowhere",
    "operator": "write a lambda",
    "pyarrow": "use pandas",
    "polars": "use pandas",
    "scipy": "use numpy, pandas or statistics",
    "sklearn": "use numpy; models with a privacy promise are questions to the engine",
    "matplotlib": _PLAIN,
    "seaborn": _PLAIN,
    "plotly": _PLAIN,
}

# Attributes refused wherever they stand.
ATTRIBUTES: Final = {
    "format": _FSTRING,
    "format_map": _FSTRING,
    "eval": _MASK,
    "query": _MASK,
    "pipe": "call the function: `f(table)`",
    "plot": _PLAIN,
    "hist": _PLAIN,
    "boxplot": _PLAIN,
    "style": _PLAIN,
    "now": _NO_CLOCK,
    "today": _NO_CLOCK,
    "utcnow": _NO_CLOCK,
    "fromtimestamp": _NO_CLOCK,
    "loadtxt": _ASK,
    "genfromtxt": _ASK,
    "fromfile": _ASK,
    "memmap": _ASK,
    "save": _RETURN,
    "savez": _RETURN,
    "savetxt": _RETURN,
    "tofile": _RETURN,
    "vectorize": "numpy functions work on whole arrays; or use a comprehension",
    "ctypes": "use numpy functions",
    "ctypeslib": "use numpy functions",
    "attrs": "keep the values in a dict of your own",
    "mro": _ISINSTANCE,
    "info": "return `table.dtypes` or `table.describe()` as an output",
    "to_string": 'put the table into an f-string: `f"{table}"`',
}
READ_PREFIX: Final = "read_"
WRITERS: Final = words("""
    to_clipboard to_csv to_excel to_feather to_gbq to_hdf to_html to_iceberg to_json to_latex to_markdown to_orc
    to_parquet to_pickle to_sql to_stata to_xarray to_xml to_records
""")


def attribute_hint(name: str) -> str | None:
    """Return what to write instead of an attribute that is refused wherever it stands, or None if it is not."""
    if name.startswith(READ_PREFIX):
        return _ASK
    if name in WRITERS:
        return _RETURN
    return ATTRIBUTES.get(name)
