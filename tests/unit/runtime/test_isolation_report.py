"""What an isolation report adds up to, and what is believed of a guest's words."""

import json
from pathlib import Path

import pytest

from sandbox.errors import LayerMissingError
from sandbox.runtime.host import guests
from sandbox.runtime.host.conversation import clean_sentence
from sandbox.runtime.host.declared_outputs import parse_outputs
from sandbox.runtime.host.guests import GuestHost, Program
from sandbox.runtime.host.report import IsolationReport, LayerReport, Level, level_of, parse_report
from sandbox.runtime.wire import WireError

ADD = "def analyze(data):\n    return {'n': data.parameters['a'] + 1}\n"


@pytest.fixture(scope="module")
def host():
    with GuestHost() as host:
        yield host


def run(host, source, parameters):
    return host.run(Program(source, parameters, bytes(32)), None)


def layers(missing=()):
    names = [
        *("undumpable", "no_new_privs", "capabilities", "rlimits", "processor", "landlock", "seccomp", "clocks", "net"),
        *("together", "root", "user_namespace", "mnt_namespace", "net_namespace", "ipc_namespace", "uts_namespace"),
        "pid_namespace",
    ]
    return tuple(LayerReport(name, name not in missing, "") for name in names)


@pytest.mark.parametrize(
    ("missing", "level"),
    [
        ((), Level.FULL),
        (("clocks",), Level.STANDARD),
        (("user_namespace",), Level.STANDARD),
        (("landlock",), Level.STANDARD),
        (("root",), Level.STANDARD),
        (("landlock", "root"), Level.FLOOR),
        (("seccomp",), Level.NONE),
        (("rlimits",), Level.NONE),
        (("together",), Level.NONE),
        (("undumpable", "clocks"), Level.NONE),
    ],
)
def test_a_level_is_what_its_layers_add_up_to(missing, level):
    assert level_of(layers(missing)) == level


def test_a_layer_that_is_not_reported_does_not_hold():
    assert level_of(()) == Level.NONE
    assert level_of(layers()[1:]) == Level.NONE


@pytest.mark.parametrize(("missing", "least", "named"), [
    (("clocks", "user_namespace"), Level.FULL, {"clocks", "user_namespace"}),
    (("landlock", "root"), Level.STANDARD, {"landlock", "root"}),
    (("landlock", "clocks"), Level.STANDARD, set()),
    (("seccomp",), Level.FLOOR, {"seccomp"}),
])  # fmt: skip
def test_a_report_names_what_is_missing_for_a_level(missing, least, named):
    report = IsolationReport(level_of(layers(missing)), layers(missing), "6", 7, "sha256:0", {})
    assert {layer.name for layer in report.missing_for(least)} == named


@pytest.mark.isolation
def test_a_machine_below_the_least_level_runs_nothing(monkeypatch):
    def thinner(record):
        record["layers"] = [
            {**x, "held": x["held"] and x["name"] not in {"landlock", "root"}} for x in record["layers"]
        ]
        return parse_report(record)

    monkeypatch.setattr("sandbox.runtime.host.zygote_process.parse_report", thinner)
    host = GuestHost()
    with pytest.raises(LayerMissingError) as caught:
        host.start()
    with pytest.raises(LayerMissingError):
        run(host, ADD, {"a": 1})
    assert caught.value.code == "isolation.layer_missing"
    assert caught.value.message == "this machine isolates programs at level floor, below standard"
    assert {layer["name"] for layer in caught.value.details["missing"]} == {"landlock", "root"}
    with GuestHost(least=Level.FLOOR) as lower:
        assert run(lower, ADD, {"a": 1}).status == "ok"


def test_no_isolation_is_not_a_level_to_ask_for():
    with pytest.raises(AssertionError, match="below the floor"):
        GuestHost(least=Level.NONE)


@pytest.mark.isolation
def test_the_report_goes_into_a_log_entry(host):
    record = host.report.to_record()
    assert record["level"] in {"standard", "full"}
    assert record["filter_digest"].startswith("sha256:")
    assert set(record["versions"]) == {"python", "numpy", "pandas", "RestrictedPython"}
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(
    "record",
    [
        None, [], {"x": 1}, {"x": {"kind": "number"}}, {"x": {"kind": "number", "value": True}},
        {"x": {"kind": "number", "value": "1"}}, {"x": {"kind": "table", "columns": [1], "rows": []}},
        {"x": {"kind": "table", "columns": ["a", "a"], "rows": []}}, {"x": {"kind": "table", "columns": ["a"], "rows": [1]}},
        {"x": {"kind": "table", "columns": ["a"], "rows": [[]]}}, {"x": {"kind": "table", "columns": ["a"], "rows": [[{}]]}},
        {"": {"kind": "number", "value": 1}}, {"x" * 65: {"kind": "number", "value": 1}},
        {"a\nb": {"kind": "number", "value": 1}}, {str(i): {"kind": "number", "value": 1} for i in range(65)},
        {"x": {"kind": "table", "columns": [str(i) for i in range(1025)], "rows": []}},
    ],
)  # fmt: skip
def test_outputs_that_are_not_plain_are_refused(record):
    with pytest.raises(WireError):
        parse_outputs(record)


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred", "[31mred"),
        ("x" * 900, "x" * 500),
        (None, "the program failed"),
        ("\n", "the program failed"),
    ],
)
def test_what_a_guest_says_is_made_printable_and_short(said, cleaned):
    assert clean_sentence(said) == cleaned


def test_the_house_does_not_name_the_unsafe_guest():
    root = Path(guests.__file__).parents[2]
    named = [path for path in root.rglob("*.py") if "UnsafePlain" in path.read_text("utf-8")]
    assert named == []
