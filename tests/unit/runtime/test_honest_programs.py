"""Ordinary data-science programs run unchanged: the same outputs as in plain Python, byte for byte."""

import json
import warnings

import pytest

from sandbox.errors import ProgramError
from sandbox.runtime.guest.chance import seed_process
from sandbox.runtime.guest.outputs import write_outputs
from sandbox.runtime.host import libraries
from sandbox.runtime.host.guests import GuestHost, Program
from tests.support.honest import PARAMETERS, StubData, StubRefused, all_programs, answer

SEED = bytes(range(32))
PROGRAMS = all_programs()


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


@pytest.mark.isolation
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_ordinary_program_gives_what_plain_python_gives(host, name):
    source = PROGRAMS[name]
    host.check(source)
    outcome = host.run(Program(source, PARAMETERS, SEED), answer)
    assert outcome.status == "ok", outcome.message
    seed_process(SEED)
    space = {"QuestionRefused": StubRefused, "__name__": "plain"}
    with warnings.catch_warnings(action="ignore"):
        exec(compile(source, "plain", "exec", dont_inherit=True), space)
        expected = write_outputs(space["analyze"](StubData()))
    assert json.dumps(outcome.outputs) == json.dumps(expected)


REFUSED = {
    "from enum import Enum\nclass Size(Enum):\n    S = 1\ndef analyze(data):\n    return {}\n": ("`import enum`", "dict of constants", 1, 1),
    "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\ndef analyze(data):\n    return {}\n": ("from `NamedTuple`", "namedtuple", 2, 9),
    "def analyze(data):\n    t = data.ask('x').table\n    return {'t': t.query('a > 1')}\n": ("`.query` is not offered", "boolean mask", 3, 18),
    "def analyze(data):\n    return {'k': type(data).mro()}\n": ("`.mro`", "isinstance", 2, 18),
    "def analyze(data):\n    match data:\n        case float(real=r):\n            return r\n": ("class pattern with parts", "case str()", 3, 14),
    "from sklearn.datasets import load_iris\ndef analyze(data):\n    return {}\n": ("`import sklearn.datasets`", "data.ask", 1, 1),
    "import statsmodels.formula.api as smf\ndef analyze(data):\n    return {}\n": ("statsmodels.formula.api", "get_dummies", 1, 1),
    "import joblib\ndef analyze(data):\n    return {}\n": ("`import joblib`", "write a loop", 1, 1),
    "from sklearn.linear_model import SGDRegressor\ndef analyze(data):\n    return {}\n": ("`sklearn.linear_model` does not offer `SGDRegressor`", "list of what is offered", 1, 1),
    "import statsmodels.api as sm\ndef analyze(data):\n    return {'t': sm.OLS.from_formula('y ~ x', data=1)}\n": ("`.from_formula`", "get_dummies", 3, 18),
    "from sklearn.linear_model import Ridge\ndef analyze(data):\n    return {'t': Ridge().get_params()}\n": ("`.get_params`", "dict of your own", 3, 18),
}  # fmt: skip


@pytest.mark.isolation
@pytest.mark.parametrize("source", REFUSED)
def test_what_is_refused_is_told_with_its_place_and_what_to_write(host, source):
    message, hint, line, column = REFUSED[source]
    with pytest.raises(ProgramError) as caught:
        host.check(source)
    assert caught.value.code == "input.program"
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert (caught.value.details["line"], caught.value.details["column"]) == (line, column)


ARGUMENTS = {
    "RandomForestRegressor(n_jobs=2)": "takes no `n_jobs` here; a program is one thread",
    "make_pipeline(Ridge(), memory='/tmp/x')": "takes no `memory` here; a program has no files",
    "AgglomerativeClustering(2, memory='x')": "takes no `memory` here",
    "KMeans(init=lambda *a: 1)": "takes numbers, text, tables and models of its own library, not a function",
    "make_pipeline(Own())": "not a value of type `Own`",
    "cross_val_score(Ridge(), [[1], [2]], [1, 2], scoring=len)": "not a function",
    "sm.OLS([1.0], [1.0], formula='y ~ x')": "takes no `formula` here; build the columns",
    "sm.GLM([1.0], [1.0], anything=3)": "takes no `anything` here",
    "make_pipeline(Ridge()).fit([[1]], [1], ridge__memory='x')": "takes no `ridge__memory` here",
}


@pytest.mark.isolation
@pytest.mark.parametrize("call", ARGUMENTS)
def test_an_argument_that_a_model_may_not_have_is_told(host, call):
    source = (
        "import statsmodels.api as sm\nfrom sklearn.linear_model import Ridge\nfrom sklearn.pipeline import make_pipeline\n"
        "from sklearn.cluster import AgglomerativeClustering, KMeans\nfrom sklearn.ensemble import RandomForestRegressor\n"
        "from sklearn.model_selection import cross_val_score\nclass Own:\n    pass\n"
        f"def analyze(data):\n    {call}\n    return {{}}\n"
    )
    outcome = host.run(Program(source, {}, SEED), answer)
    assert outcome.status == "program_error"
    assert ARGUMENTS[call] in outcome.message


@pytest.mark.isolation
def test_the_versions_of_the_models_libraries_are_told_where_a_program_uses_them(host):
    told = host.report_for("import sklearn").versions
    assert {"scikit-learn", "statsmodels", "scipy"} <= told.keys()
    assert "scikit-learn" not in host.report_for("import pandas").versions


@pytest.mark.isolation
def test_where_they_are_not_installed_a_program_is_told(monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda _: None)
    with (
        GuestHost() as host,
        pytest.raises(ProgramError, match="`sklearn` is not installed where this program runs") as caught,
    ):
        host.check("from sklearn.cluster import KMeans\ndef analyze(data):\n    return {}\n")
    assert "extra `science`" in caught.value.hint


def test_the_corpus_is_large_enough_to_mean_something():
    assert len(PROGRAMS) >= 70
    assert sum("sklearn" in source or "statsmodels" in source for source in PROGRAMS.values()) >= 10
