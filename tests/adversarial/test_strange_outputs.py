"""What a hostile program may hand over in place of tables and numbers: plain cells come out, or a sentence, or nothing."""

import json
import math

import pytest

from sandbox.runtime.host.guests import GuestHost, GuestLimits, Program
from tests.support.hostile_matrix import unsafe_host

HEAD = "import pandas as pd\nimport numpy as np\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
LIMITS = GuestLimits(cpu_s=2, wall_s=10, memory_bytes=256 << 20, questions=1, output_bytes=1 << 16)
PLAIN = {type(None), bool, int, float, str}

RETURNED = {
    "a float that says it is text": "class F(float):\n    def __float__(self):\n        return 'x'\nout = {'n': F(1)}",
    "a float that grows": "class F(float):\n    def __float__(self):\n        return 1e400\nout = {'n': F(1)}",
    "a whole number that lies": "class I(int):\n    def __int__(self):\n        return 10 ** 400\n    def __abs__(self):\n        return 0\nout = {'n': I(1)}",
    "a huge whole number": "out = {'n': 10 ** 400}",
    "a huge negative one": "out = {'n': -(10 ** 400)}",
    "one of 64 bits and one": "out = {'n': 2 ** 63}",
    "a fraction beyond floats": "out = {'n': Fraction(10 ** 400, 3)}",
    "a signalling number that is none": "out = {'n': Decimal('sNaN')}",
    "a decimal without end": "out = {'n': Decimal('Infinity')}",
    "a name that is a lying text": "class S(str):\n    def __eq__(self, o):\n        return True\n    def __hash__(self):\n        return 1\nout = {S('n'): 1, S('m'): 2}",
    "a cell that is a lying text": "class S(str):\n    def __str__(self):\n        return 1\nout = {'t': {'x': [S('a')]}}",
    "a cell whose text raises": "class S(str):\n    def __str__(self):\n        raise KeyboardInterrupt\nout = {'t': {'x': [S('a')]}}",
    "a column that is not a number": "out = {'t': {float('nan'): [1], float('nan'): [2]}}",
    "columns that are one text": "out = {'t': pd.DataFrame([[1, 2]], columns=[1, '1'])}",
    "a name that is no text": "out = {1: 1}",
    "an empty name": "out = {'': 1}",
    "a table in itself": "d = {}\nd['x'] = [d]\nout = {'t': d}",
    "outputs in themselves": "out = {}\nout['t'] = out",
    "a list in itself": "x = []\nx.append(x)\nout = {'t': {'x': x}}",
    "a deep nest": "x = []\nfor i in range(100000):\n    x = [x]\nout = {'t': {'x': x}}",
    "a lone surrogate in a cell": "out = {'t': {'x': [chr(0xd800)]}}",
    "a lone surrogate in a name": "out = {chr(0xdfff): 1}",
    "a lone surrogate in a column": "out = {'t': {chr(0xdc80): [1]}}",
    "control characters": "out = {'t': {'x' + chr(0) + chr(27): [chr(0) + chr(7) + chr(0x202e)]}}",
    "a generator": "out = {'t': (i for i in range(3))}",
    "a mapping that changes": "class M(dict):\n    def items(self):\n        return [('x', [1]), ('x', [1, 2])]\nout = {'t': M()}",
    "outputs that change": "class M(dict):\n    def items(self):\n        return [(n, 1) for n in (0, 'x')]\n    def __len__(self):\n        return 1\nout = M()",
    "endless items": "class M(dict):\n    def items(self):\n        n = 0\n        while True:\n            n += 1\n            yield str(n), [n]\nout = {'t': M()}",
    "a type with a loud name": "T = type('x\\n' * 400 + chr(0xd800), (), {})\nout = {'n': T()}",
    "a complex number": "out = {'n': 1j}",
    "bytes": "out = {'t': {'x': [b'a']}}",
    "a structured scalar": "out = {'n': np.zeros(1, dtype=[('a', 'i8')])[0]}",
    "an array of arrays": "out = {'t': {'x': [np.ones((2, 2))]}}",
    "a long double without end": "out = {'n': np.longdouble('inf')}",
    "a date before all dates": "out = {'t': {'x': [np.datetime64('-290000-01-01')]}}",
    "a table of tables": "out = {'t': pd.DataFrame({'x': [pd.DataFrame({'y': [1]})]})}",
    "an index in itself": "t = pd.DataFrame({'x': [1]})\nt.index = pd.MultiIndex.from_tuples([((1, 2), t.columns)])\nout = {'t': t}",
    "a table that lies": "class D(pd.DataFrame):\n    columns = property(lambda s: 'xyz')\nout = {'t': D({'x': [1]})}",
    "one too many": "out = {str(n): n for n in range(65)}",
    "too much text": "out = {'t': {'x': ['x' * (1 << 17)]}}",
    "an exception": "out = {'n': ValueError('x')}",
    "the question's own record": "out = {'n': data}",
    "nothing": "out = None",
    "a class": "out = {'n': dict}",
}  # fmt: skip


@pytest.fixture(scope="module", params=["language", "walls alone"])
def host(request):
    with GuestHost() if request.param == "language" else unsafe_host(("language",)) as host:
        yield host
        after = host.run(Program("def analyze(data):\n    return {'n': 7}\n", {}, bytes(32)), no_answer)
        assert after.outputs == {"n": {"kind": "number", "value": 7}}


def no_answer(_):
    raise AssertionError("these programs ask nothing")


def cells(outputs):
    for output in outputs.values():
        if output["kind"] == "number":
            yield output["value"]
        else:
            assert all(type(name) is str for name in output["columns"])
            for row in output["rows"]:
                assert len(row) == len(output["columns"])
                yield from row


@pytest.mark.isolation
@pytest.mark.parametrize("text", RETURNED.values(), ids=RETURNED)
def test_what_comes_out_is_plain_or_nothing(host, text):
    lines = "".join(f"    {line}\n" for line in text.split("\n"))
    outcome = host.run(
        Program(f"{HEAD}def analyze(data):\n{lines}    return out\n", {}, bytes(32)), no_answer, limits=LIMITS
    )
    assert outcome.status in {"ok", "program_error", "limit", "protocol"}
    if outcome.status != "ok":
        assert outcome.outputs is None
        assert 0 < len(outcome.message) <= 500
        assert outcome.message.isprintable()
        return
    json.dumps(outcome.outputs, allow_nan=False).encode()
    for cell in cells(outcome.outputs):
        assert type(cell) in PLAIN
        assert not isinstance(cell, float) or math.isfinite(cell)
        assert not isinstance(cell, int) or abs(cell) < 2**63
