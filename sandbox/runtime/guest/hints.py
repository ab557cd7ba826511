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

_COLUMNS = "a formula would be run as Python; build the columns with `pandas.get_dummies` and `sm.add_constant`"

# Names that are builtins elsewhere.
NAMES: Final = {
    "open": _ASK,
    "input": 'pass it as a parameter: `data.parameters["name"]`',
    "eval": _DIRECT,
    "exec": _FUNCTION,
    "compile": _FUNCTION,
    "type": _ISINSTANCE,
    "object": "leave the base out: `class Name:`",
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
    "enum": "use a dict of constants",
    "pyarrow": "use pandas",
    "polars": "use pandas",
    "scipy": "use numpy, pandas or statistics",
    "joblib": "a program is one thread without files; write a loop",
    "patsy": _COLUMNS,
    "formulaic": _COLUMNS,
    "sklearn.datasets": _ASK,
    "sklearn.externals": "leave it out",
    "sklearn.utils": "write the few lines yourself",
    "sklearn.base": "write a function, or a class of your own that holds a model",
    "sklearn.compose": "prepare the columns with pandas and join them",
    "sklearn.impute": "use `table.fillna(...)`",
    "sklearn.svm": "use `LogisticRegression` or `RandomForestClassifier`",
    "sklearn.inspection": _PLAIN,
    "statsmodels.formula": _COLUMNS,
    "statsmodels.datasets": _ASK,
    "statsmodels.graphics": _PLAIN,
    "statsmodels.iolib": 'put the summary into an f-string: `f"{result.summary()}"`',
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
    "from_formula": _COLUMNS,
    "get_params": "keep the settings in a dict of your own",
    "set_params": "make the model anew with other settings",
    "set_output": "make the table yourself: `pd.DataFrame(model.transform(x), columns=[...])`",
    "get_metadata_routing": "see the list of what models offer in the reference of the language",
    "as_html": 'use the text: `f"{result.summary()}"`',
    "as_latex": 'use the text: `f"{result.summary()}"`',
    "as_csv": 'use the text: `f"{result.summary()}"`',
    "load": _ASK,
    "to_string": 'put the table into an f-string: `f"{table}"`',
}
# What one type offers and others do not; told when it is reached.
AT_RUN_TIME: Final = frozenset({"format", "info"})
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


def module_hint(name: str) -> str | None:
    """Return what to write instead of a module, by the longest part of its name that is known."""
    parts = name.split(".")
    known = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((MODULES[part] for part in known if part in MODULES), None)
