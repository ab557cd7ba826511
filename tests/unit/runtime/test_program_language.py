"""What the language refuses, where, and what it says to write instead."""

import pytest

from sandbox.errors import ProgramError
from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program

LIMITS = GuestLimits(cpu_s=2, wall_s=10)


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


def program(line, head="import numpy as np\nimport pandas as pd\n"):
    return f"{head}def analyze(data):\n    {line}\n    return {{'x': 1}}\n"


REFUSED = [
    ("open('x')", "`open` is not offered", 'ask the engine: `data.ask("SELECT ...")`'),
    ("x = eval('1')", "`eval` is not offered", "write the expression itself"),
    ("exec('1')", "`exec` is not offered", "write a function and call it"),
    ("import os", "`import os` is not offered", "a program sees no files and no machine; ask the engine"),
    ("import socket", "`import socket` is not offered", "a program has no network; ask the engine"),
    ("from os import path", "`import os` is not offered", "a program sees no files"),
    ("import os.path", "`import os.path` is not offered", "a program sees no files"),
    ("import pandas.io", "`import pandas.io` is not offered", "write `import pandas`"),
    ("from pandas import read_csv", "`pandas` does not offer `read_csv`", "ask the engine"),
    ("from pandas import io", "`pandas` does not offer `io`", "see the list of what is offered in the reference"),
    ("import time", "`import time` is not offered", "a program has no clock; pass the date as a parameter"),
    ("import enum", "`import enum` is not offered", "use a dict of constants"),
    ("import nothing", "`import nothing` is not offered", "use what pandas, numpy, math and statistics offer"),
    ("pd.read_csv('x')", "`.read_csv` is not offered", "ask the engine"),
    ("pd.DataFrame().to_csv('x')", "`.to_csv` is not offered", "return it from `analyze`"),
    ("pd.DataFrame().query('x')", "`.query` is not offered", "use a boolean mask"),
    ("x = '{x}'.format_map({'x': 1})", "`.format_map` is not offered", "use an f-string"),
    ("x = ().__class__", "the attribute `__class__` begins with an underscore", "use the public methods"),
    ("x = data._exchange", "the attribute `_exchange` begins with an underscore", "use the public methods"),
    ("_x = 1", "the name `_x` begins with an underscore", "choose a name that does not begin with an underscore"),
    ("x = __builtins__", "the name `__builtins__` begins with an underscore", "use the names directly"),
    ("x = (y for y in []).gi_frame", "the attribute `gi_frame` looks into the interpreter", "leave it out"),
    ("x = type(1)", "`type` is not offered", "use `isinstance(value, kind)`"),
    ("x = undefined_name", "`undefined_name` is not defined", "check the spelling, or define it first"),
    ("setattr(data, 'x', 1)", "`setattr` is not offered", "use an item of a dict, or `table[name]`"),
    ("x = lambda _getattr_: 1", "the name `_getattr_` begins with an underscore", "choose a name"),
    ("global _getattr_", "the name `_getattr_` begins with an underscore", "choose a name"),
    ("async def f(): pass", "`async` is not in the language", "write it with functions"),
    ("class C(metaclass=dict): pass", "a class takes no keywords", "leave them out: `class Name:`"),
    ("data.parameters._x += 1", "the attribute `_x` cannot be assigned", "choose a name"),
    ("x = [", "this is not Python: '[' was never closed", "check the spelling at this place"),
]  # fmt: skip


@pytest.mark.isolation
@pytest.mark.parametrize(("line", "message", "hint"), REFUSED)
def test_a_refusal_names_the_place_and_what_to_write_instead(host, line, message, hint):
    with pytest.raises(ProgramError) as caught:
        host.check(program(line))
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)
    assert caught.value.details["line"] == 4
    assert caught.value.details["column"] >= 5
    assert caught.value.code == "input.program"


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("x = 1\n", "the program has no function `analyze`", None),
        ("def analyze():\n    return {}\n", "`analyze` takes one argument, the data", 1),
        ("def analyze(a, b):\n    return {}\n", "`analyze` takes one argument, the data", 1),
        ("x = 1\n\ndef analyze(data):\n  return {\n", "this is not Python: '{' was never closed", 4),
        (
            "def analyze(data):\n    return {}\n\x00",
            "this is not Python: source code string cannot contain null bytes",
            None,
        ),
        ("x = " + "(" * 150 + "1" + ")" * 150, "the program has no function `analyze`", None),
        ("x = " + "-" * 20_000 + "1", "the program cannot be read: it is nested too deep", None),
    ],
)
def test_a_program_that_is_not_one_is_refused(host, source, message, line):
    with pytest.raises(ProgramError) as caught:
        host.check(source)
    assert caught.value.message == message
    assert caught.value.details["line"] == line


@pytest.mark.isolation
def test_the_first_fault_in_the_source_is_the_one_that_is_told(host):
    with pytest.raises(ProgramError) as caught:
        host.check("def analyze(data):\n    x = open('a')\n    import os\n    return _y\n")
    assert (caught.value.details["line"], caught.value.details["column"]) == (2, 9)


# Reached only while the program runs: no check of the text can see them.
AT_RUN_TIME = [
    ("x = getattr((), '__cla' + 'ss__')", "Forbidden: `tuple` offers no `__class__`"),
    ("x = getattr('{0.real}', 'for' + 'mat')(1)", "Forbidden: a field of `format` is a place or a name; take the part"),
    ("x = '{0[1]}'.format([1, 2])", "Forbidden: a field of `format` is a place or a name; take the part"),
    ("x = getattr(str, 'for' + 'mat')", "Forbidden: `type` offers no `format`; use an f-string"),
    ("x = getattr(pd.Series(['a']).str, 'for' + 'mat')", "Forbidden: `StringMethods` offers no `format`"),
    ("x = getattr((y for y in []), 'gi_' + 'frame')", "Forbidden: `generator` offers no `gi_frame`"),
    ("x = getattr(pd, 'read_' + 'csv')", "Forbidden: `pandas` offers no `read_csv`; ask the engine"),
    ("x = getattr(pd, 'i' + 'o')", "Forbidden: `pandas` offers no `io`"),
    ("x = getattr(np, 'lo' + 'ad')", "Forbidden: `numpy` offers no `load`"),
    ("x = getattr(np.ones(1), 'da' + 'ta')", "Forbidden: `ndarray` offers no `data`"),
    ("x = np.ndarray((4,), dtype='O', buffer=b'A' * 32)", "Forbidden: `numpy.ndarray` is not called"),
    ("x = getattr(pd.DataFrame({'a': [1]}), 'to_' + 'csv')", "Forbidden: `DataFrame` offers no `to_csv`"),
    ("x = getattr(data, '_exch' + 'ange')", "Forbidden: `Data` offers no `_exchange`"),
    ("data.parameters = {}", "Forbidden: a value of type `Data` cannot be changed"),
    ("pd.DataFrame = 1", "Forbidden: a value of type `Namespace` cannot be changed"),
    ("pd.DataFrame.mean = 1", "Forbidden: a value of type `Offered` cannot be changed"),
    ("analyze.x = 1", "Forbidden: a value of type `function` cannot be changed"),
    ("pd.DataFrame({'a': [1]}).extra = 1", "Forbidden: `.extra` of `DataFrame` cannot be assigned; assign an item"),
    ("x = pd.Series([1]).agg('to_csv')", "Forbidden: `to_csv` is not a function that can be named here"),
    ("x = pd.Series([1]).agg({'a': 'to_csv'})", "Forbidden: `to_csv` is not a function that can be named here"),
    ("x = pd.Series([1]).agg(pd.Series(['to_csv']))", "Forbidden: `to_csv` is not a function that can be named here"),
    ("x = pd.Series([1]).agg({'to_csv'})", "Forbidden: `to_csv` is not a function that can be named here"),
    ("x = pd.DataFrame({'a': [1]}).agg(x=('a', 'to_csv'))", "Forbidden: `to_csv` is not a function"),
    ("x = pd.DataFrame({'a': [1]}).apply(np.array(['to_csv']))", "Forbidden: the name of a method must be text"),
    ("x = pd.Series([1]).agg('__class__')", "Forbidden: `__class__` is not a function that can be named here"),
    ("x = pd.Series([1]).groupby([1]).agg(pd.Series(['pipe']))", "Forbidden: `pipe` is not a function"),
    ("x = pd.DataFrame({'a': [1], 'k': [1]}).pivot_table('a', 'k', None, {'a': 'pipe'})", "Forbidden: `pipe` is not"),
    ("x = pd.Series([1]).rolling(1).apply(len, engine='numba')", "Forbidden: `apply` takes no `engine` here"),
    ("x = np.add(1, 2, out=np.ones(1))", "Forbidden: `add` takes no `out` here"),
    ("x = pd.Timestamp('now')", "Forbidden: a program has no clock"),
    ("class C(dict): pass", "Forbidden: a class may have exceptions and classes of the program as bases"),
    ("class C(np.float64): pass", "Forbidden: a class may have exceptions and classes of the program as bases"),
    ("class C(pd.DataFrame): pass", "TypeError: metaclass conflict"),
]  # fmt: skip


@pytest.mark.isolation
@pytest.mark.parametrize(("line", "message"), AT_RUN_TIME)
def test_what_no_text_check_can_see_is_refused_when_it_is_reached(host, line, message):
    outcome = host.run(Program(program(line), {}, bytes(32)), None, limits=LIMITS)
    assert outcome.status == "program_error"
    assert outcome.message.startswith(f"line 4: {message}")


@pytest.mark.isolation
def test_an_attribute_error_does_not_carry_the_object(host):
    source = program("pass") + (
        "def analyze(data):\n    try:\n        data.nothing\n    except AttributeError as error:\n"
        "        return {'x': {'x': [hasattr(error, 'obj'), hasattr(error, 'args')]}}\n"
    )
    outcome = host.run(Program(source, {}, bytes(32)), None, limits=LIMITS)
    assert outcome.outputs == {"x": {"kind": "table", "columns": ["x"], "rows": [[False], [True]]}}


@pytest.mark.isolation
def test_a_callback_cannot_swap_a_checked_name(host):
    source = (
        program("pass")
        + """
def analyze(data):
    names = [None, "mean"]
    def swap(series):
        names[1] = "to_csv"
        return 0.0
    names[0] = swap
    result = pd.DataFrame({"a": [1.0, 3.0]}).agg(names)
    return {"x": {"x": result["a"].tolist()}}
"""
    )
    outcome = host.run(Program(source, {}, bytes(32)), None, limits=LIMITS)
    assert outcome.outputs == {"x": {"kind": "table", "columns": ["x"], "rows": [[0.0], [2.0]]}}


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x = 1 / 0", "line 4: ZeroDivisionError: division by zero"),
        ("x = {}['a']", "line 4: KeyError: 'a'"),
        ("raise ValueError('a\\nb\\x1b[31m')", "line 4: ValueError: a b [31m"),
        ("raise ValueError('y' * 900)", "line 4: ValueError: " + "y" * 480),
        ("data.ask('x')", "line 4: the question was refused (policy.denied): not in the agreement"),
        ("data.ask('x', share=0.5)", 'line 4: TypeError: a share is exact: write "1/4" or "0.25" in quotes'),
        ("data.ask('x', share='2')", "line 4: ValueError: a share is more than 0 and at most 1"),
        ("data.ask('x', rows=True)", "line 4: TypeError: `rows` is a whole number from 1 to 1000000"),
        ("return 5", "`analyze` returned of type `int`, not a dict of outputs"),
        ("return {'a': {'b': [1], 'c': [1, 2]}}", "output `a` has lists of different lengths"),
        ("return {'a': True}", "output `a` is of type `bool`, not a table or a number"),
        ("return {'a': {'b': [2 ** 70]}}", "output `a` has a whole number beyond 64 bits"),
    ],
)
def test_a_failing_program_says_where_and_why(host, line, message):
    def refuse(_):
        return {"ok": False, "code": "policy.denied", "message": "not in the agreement", "hint": "ask the owner"}

    outcome = host.run(Program(program(line), {}, bytes(32)), refuse, limits=LIMITS)
    assert outcome.status == "program_error"
    assert outcome.outputs is None
    assert outcome.message.startswith(message[:400])
    assert len(outcome.message) <= 500
