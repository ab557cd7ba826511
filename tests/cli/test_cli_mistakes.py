"""What a person sees who makes a mistake: an exit code by family, one sentence, a hint, and never a traceback."""

import os
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sandbox.cli.main import app
from sandbox.cli.session import told
from sandbox.errors import (
    InputError,
    IsolationError,
    JobError,
    LedgerError,
    PolicyError,
    PrivacyError,
    SaggarError,
    ServiceError,
    VaultError,
)
from tests.conftest import SQL_JOB
from tests.support.line_world import PASSPHRASE, Told, posted, saggar, size

FAMILIES = {
    SaggarError: 1, InputError: 3, PolicyError: 4, PrivacyError: 5, VaultError: 6, LedgerError: 7, IsolationError: 8,
    JobError: 9, ServiceError: 10,
}  # fmt: skip


def commands(group, words=()):
    """Yield the words of every command and group of the program."""
    for name, command in sorted(group.commands.items()):
        yield (*words, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_explains_itself(words):
    told = CliRunner().invoke(app, [*words, "--help"])
    assert told.exit_code == 0
    assert "Usage:" in told.output
    if words not in {("keys",), ("agree",), ("verify",)}:
        assert "Example: saggar" in told.output, "every command shows how it is used"


def test_the_commands_of_the_readme_exist():
    table = [
        line for line in (Path(__file__).parents[2] / "README.md").read_text().splitlines() if line.startswith("| `")
    ]
    named = {word.strip("` ,") for line in table for word in line.split("|")[1].split(",")}
    assert named <= {words[0] for words in ALL} | {" ".join(words) for words in ALL}
    assert {"init", "ingest", "submit", "replay", "doctor"} <= named


def test_the_program_explains_itself_and_its_exit_codes_as_a_process(tmp_path):
    told = saggar("--help", cwd=tmp_path)
    assert told.code == 0
    for code in (*FAMILIES.values(), 2, 70, 130):
        assert str(code) in told.out
    assert saggar("--version", cwd=tmp_path).out.startswith("saggar ")
    assert not any(tmp_path.iterdir()), "help leaves nothing behind"


def test_exit_codes_are_by_family():
    assert {family: family.exit_status for family in FAMILIES} == FAMILIES


@pytest.fixture(scope="module")
def place(_fired_gm, tmp_path_factory):
    """One world for all mistakes, since none of them may change it."""
    from tests.conftest import copy_world

    world = copy_world(_fired_gm, tmp_path_factory.mktemp("mistakes"))
    write = {
        "expensive.yaml": SQL_JOB.replace("0.1", "0.51"),
        "purpose.yaml": SQL_JOB.replace("public-governance", "advertising"),
        "column.yaml": SQL_JOB.replace("question.sql", "column.sql"),
        "column.sql": "SELECT AVG(nosuch) AS m FROM visits",
        "no_code.yaml": SQL_JOB.replace("question.sql", "absent.sql"),
        "bad.yaml": SQL_JOB.replace("loss: {rho: 0.1}", "loss: {rho: much}"),
        "syntax.yaml": (world.files / "job_python.yaml").read_text().replace("program.py", "syntax.py"),
        "syntax.py": "def analyze(data):\n    return (\n",
        "bad_clinic.yaml": (world.files / "clinic.yaml").read_text().replace("kind: decimal", "kind: float"),
        "not_a_key.pub": "{}",
        "binary.yaml": "",
    }
    for name, text in write.items():
        (world.files / name).write_text(text, encoding="utf-8")
    (world.files / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    return world


MISTAKES = {
    "no state": (["budget"], 7, "ledger.state.not_initialised"),
    "unknown column": (["submit", "column.yaml"], 3, "input.query.unknown_column"),
    "not sql": (["submit", "--sql", "what is the mean", "--epsilon", "0.1"], 3, "input.query"),
    "two statements": (["submit", "--sql", "SELECT 1; SELECT 2", "--epsilon", "0.1"], 3, "input.query"),
    "delete": (["submit", "--sql", "DELETE FROM visits", "--epsilon", "0.1"], 3, "input.query"),
    "neither": (["submit"], 3, "input.usage"),
    "both": (["submit", "job_sql.yaml", "--sql", "SELECT 1", "--epsilon", "1"], 3, "input.usage"),
    "no loss": (["submit", "--sql", "SELECT COUNT(*) AS n FROM visits"], 3, "input.usage"),
    "loss in words": (["quote", "--sql", "SELECT COUNT(*) AS n FROM visits", "--epsilon", "some"], 3, "input.exact"),
    "no loss at all": (["quote", "--sql", "SELECT COUNT(*) AS n FROM visits", "--epsilon", "0"], 3, "input"),
    "missing job file": (["submit", "absent.yaml"], 3, "input.no_file"),
    "missing code": (["submit", "no_code.yaml"], 3, "input.no_file"),
    "job file of bytes": (["submit", "binary.yaml"], 3, "input.not_utf8"),
    "malformed job file": (["submit", "bad.yaml"], 3, "input.description"),
    "syntax error": (["submit", "syntax.yaml"], 3, "input.program"),
    "wrong purpose": (["submit", "purpose.yaml"], 4, "policy.denied"),
    "too much loss": (["submit", "expensive.yaml"], 4, "policy.denied"),
    "unknown signer": (["submit", "job_sql.yaml", "--as", "nobody"], 6, "vault.key_unavailable.no_file"),
    "not an operator": (["submit", "job_sql.yaml", "--as", "agency"], 10, "service.authentication.unknown_key"),
    "unknown agreement": (
        ["quote", "--sql", "SELECT 1", "--epsilon", "1", "--agreement", "x"],
        4,
        "policy.agreement_unknown",
    ),
    "unknown job": (["show", "ffffffff"], 3, "input.unknown_job"),
    "unknown exporter": (["export", "bundle", "--by", "nobody"], 3, "input.unknown_key"),
    "existing bundle": (["export", ".", "--by", "auditor"], 3, "input.exists"),
    "no bundle": (["replay", "absent"], 3, "input.no_file"),
    "no receipt": (["verify", "receipt", "absent"], 3, "input.file.missing"),
    "malformed description": (["ingest", "bad_clinic.yaml", "clinic.csv", "--owner", "health"], 3, "input.description"),
    "no source": (["ingest", "clinic.yaml", "absent.csv", "--owner", "health"], 3, "input.file.missing"),
    "unknown owner": (["ingest", "clinic.yaml", "clinic.csv", "--owner", "nobody"], 3, "input.unknown_key"),
    "unknown agreement to show": (["agree", "show", "x"], 4, "policy.agreement_unknown"),
    "unsigned": (["agree", "register", "agreement.yaml"], 3, ""),
}
WITH_JSON = {"submit", "quote", "show", "export", "replay", "ingest", "budget"}


AS_PROCESSES = {"no state", "unknown column", "wrong purpose", "unknown signer", "not an operator", "both"}
"""One of each family runs as a process of its own; the others in this one, through the same door, to save minutes."""


def run_here(*arguments):
    done = CliRunner(env={"SAGGAR_PASSPHRASE": PASSPHRASE}).invoke(app, [str(word) for word in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Told(done.exit_code, done.stdout, done.stderr)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_code_a_hint_and_the_exit_code_of_its_family(place, mistake, monkeypatch):
    arguments, code, error = MISTAKES[mistake]
    state = place.files / "absent" if mistake == "no state" else place.state
    wants_json = arguments[0] in WITH_JSON
    words = ["--state", state, *arguments, *(["--json"] if wants_json else [])]
    monkeypatch.chdir(place.files)
    told = saggar(*words, cwd=place.files) if mistake in AS_PROCESSES else run_here(*words)
    assert told.code == code, told.err
    assert told.err.startswith(f"refused {error}")
    assert "\nhint: " in told.err
    if wants_json:
        assert told.json["error"]["code"].startswith(error)
        assert set(told.json["error"]) == {"code", "message", "hint", "details"}
    else:
        assert told.out == ""


def test_a_refused_question_is_told_with_its_place(place, monkeypatch):
    monkeypatch.chdir(place.files)
    sql = "SELECT COUNT(*) AS n\nFROM visits\nWHERE nosuch > 3"
    told = run_here("--state", place.state, "quote", "--sql", sql, "--epsilon", "0.1")
    assert told.code == 3
    assert told.err.splitlines()[0].endswith("there is no column `nosuch` (line 3, column 7: nosuch)")


def test_none_of_the_mistakes_cost_anything(place):
    assert posted(place).rho == 0
    assert not (place.files / "releases").exists()


USAGE = [
    ["nosuch"],
    ["submit", "--nosuch"],
    ["keys", "new", "x"],
    ["keys", "new", "x", "--role", "king"],
    ["replay", ".", "--level", "7"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_usage_is_exit_2(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_wrong_and_a_missing_passphrase_are_told(place):
    wrong = saggar("--state", place.state, "submit", "job_sql.yaml", cwd=place.files, SAGGAR_PASSPHRASE="wrong")
    assert (wrong.code, "vault.key_unavailable.wrong_passphrase" in wrong.err) == (6, True)
    none = saggar("--state", place.state, "submit", "job_sql.yaml", cwd=place.files, SAGGAR_PASSPHRASE=None)
    assert (none.code, "vault.key_unavailable.no_passphrase" in none.err) == (6, True)
    assert "SAGGAR_PASSPHRASE" in none.err


def test_a_held_checkpoint_of_bytes_is_a_mistake_and_no_fault(worked, tmp_path):
    from sandbox.service.files import write_durably

    for path, data in worked.bundle.items():
        write_durably(tmp_path / "bundle" / path, data)
    (tmp_path / "held.note").write_bytes(b"\xff\xfe\x00")
    told = saggar("replay", "bundle", "--held", "held.note", "--json", cwd=tmp_path)
    assert told.code in (3, 7), told.err
    assert told.json["error"]["code"].startswith(("input", "ledger"))
    (tmp_path / "trust.json").write_text('{"origin": 1}')
    told = saggar("verify", "bundle", "bundle", "--trust", "trust.json", cwd=tmp_path)
    assert (told.code, "vault.key_unavailable.trust" in told.err) == (6, True)


def test_a_place_that_cannot_be_written_is_told(place, tmp_path):
    told = saggar(
        "--state",
        place.state,
        "agree",
        "sign",
        "agreement.yaml",
        "--as",
        "agency",
        "--out",
        "clinic.csv/x.json",
        cwd=place.files,
    )
    assert told.code in (3, 6), told.err
    told = saggar("keys", "new", "x", "--role", "auditor", "--out", place.files / "clinic.csv" / "below", cwd=tmp_path)
    assert told.code == 6, told.err
    assert "vault.storage" in told.err


@pytest.mark.parametrize("text", ["", "{}", "not json", "[1, 2]", '{"kind":"saggar.key","v":1}'])
def test_a_file_that_is_no_key_is_told(place, text):
    (place.files / "some.pub").write_text(text)
    told = CliRunner(env={"SAGGAR_PASSPHRASE": "a test's passphrase"}).invoke(
        app, ["--state", str(place.state), "keys", "add", str(place.files / "some.pub")]
    )
    assert told.exit_code in (3, 4, 6), told.output
    assert "fault" not in told.output


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this machine has no /dev/shm")
def test_a_state_directory_in_memory_is_refused_by_init(tmp_path):
    target = Path("/dev/shm") / f"saggar-cli-{os.getpid()}"
    try:
        told = saggar("--state", target, "init", cwd=tmp_path)
        assert told.code == 7
        assert "ledger.state.memory_file_system" in told.err
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_the_mistakes_left_the_log_with_refusals_only(place):
    with place.records() as records:
        assert {job.state.value for job in records.state().jobs.values()} <= {"refused"}
    assert size(place) > 0


@pytest.mark.parametrize(
    ("context", "code", "words"),
    [(KeyboardInterrupt(), 130, "stopped; nothing was done"), (EOFError(), 1, "not confirmed"), (None, 1, "`--yes`")],
)
def test_a_prompt_that_is_left_ends_with_the_code_of_the_page(context, code, words, capsys):
    @told
    def asking():
        if context is None:
            raise typer.Abort
        try:
            raise context
        except (KeyboardInterrupt, EOFError):
            raise typer.Abort from None

    with pytest.raises(SystemExit) as ended:
        asking()
    assert ended.value.code == code
    assert words in capsys.readouterr().err
