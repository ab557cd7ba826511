"""The whole way on the command line, each verb a process of its own: from `init` to the auditor's verdict."""

import json
import re
import shutil
from pathlib import Path

import pytest

from sandbox.service.clock import SystemClock
from tests.conftest import AGREEMENT
from tests.support.line_world import AGREEMENT_ACCOUNT, ROOT, saggar

READING = [
    ["keys", "list", "--json"], ["keys", "trust"], ["agree", "show", "clinic-test", "--json"], ["jobs", "--json"],
    ["budget", "--json"], ["log", "--json"], ["doctor", "--json"],
    ["quote", "job_sql.yaml", "--json"], ["quote", "job_python.yaml", "--json"],
]  # fmt: skip


@pytest.fixture(scope="module")
def journey(_fired_gm, tmp_path_factory):
    """A directory in which everything up to a registered agreement was done by commands."""
    home = tmp_path_factory.mktemp("journey")
    for path in _fired_gm.files.iterdir():
        shutil.copy(path, home)
    year = int(SystemClock().now()[:4])
    text = AGREEMENT.replace("2025-01-01", f"{year + 2}-01-01").replace("2020-01-01", f"{year - 1}-01-01")
    (home / "agreement.yaml").write_text(text, encoding="utf-8")

    def run(*arguments):
        told = saggar("--state", "state", *arguments, cwd=home)
        assert told.code == 0, (arguments, told.err)
        return told

    run("init", "--suite", "intl", "--origin", "journey.example/log")
    for name, role in (("operator", "operator"), ("agency", "agency"), ("health", "department")):
        run("keys", "new", name, "--role", role)
    run("keys", "new", "auditor", "--role", "auditor", "--suite", "intl", "--out", "auditors-own")
    run("keys", "add", "auditors-own/auditor.pub")
    sealed = run("ingest", "clinic.yaml", "clinic.csv", "--owner", "health", "--json").json
    assert sealed["dataset"] == "clinic"
    assert sealed["report"]["rows_read"] > sealed["report"]["rows_sealed"] > 1500, "the exclusion rule was applied"
    run("agree", "sign", "agreement.yaml", "--as", "operator")
    told = saggar("--state", "state", "agree", "register", "agreement.signed.json", cwd=home)
    assert (told.code, "policy.signature.missing" in told.err) == (4, True)
    run("agree", "sign", "agreement.signed.json", "--as", "agency")
    run("agree", "register", "agreement.signed.json")
    return home, run


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_every_reading_command_prints_json_and_nothing_else(journey, arguments):
    told = journey[1](*arguments)
    assert told.json is not None
    assert told.out.strip()[0] in "[{"


def test_reading_needs_no_passphrase(journey):
    home, _ = journey
    told = saggar("--state", "state", "log", "--last", 3, cwd=home, SAGGAR_PASSPHRASE=None)
    assert told.code == 0, told.err


def test_a_quote_a_job_its_release_and_the_auditors_verdict(journey):
    home, run = journey
    before = run("budget", "--json").json
    quoted = run("quote", "job_sql.yaml", "--json").json
    assert quoted["allowed"] is True
    assert "allowed" in run("quote", "job_sql.yaml").out
    assert run("budget", "--json").json == before

    first = run("submit", "job_sql.yaml", "--json").json
    assert {Path(name).name for name in first["files"]} >= {
        "release.json",
        "receipt.tlog-proof",
        "trust.json",
        "answer.csv",
        "answer.png",
    }
    assert all((home / name).is_file() for name in first["files"])
    again = run("submit", "job_sql.yaml", "--json").json
    assert again == first
    assert run("budget", "--json").json[AGREEMENT_ACCOUNT]["posted"]["rho"] == "1/10"
    fresh = run("submit", "job_sql.yaml", "--again", "--json").json
    assert fresh["release"]["job"] != first["release"]["job"]
    python = run("submit", "job_python.yaml")
    assert "receipt verified" in python.out

    job = first["release"]["job"].partition(":")[2][:12]
    shown = run("show", job, "--json").json
    assert shown["job"]["state"] == "released"
    assert shown["release"] == json.loads((home / first["files"][0]).read_bytes())
    assert job in run("jobs").out
    assert "released" in run("show", job).out
    assert "job.settled" in run("log").out
    assert "privacy budget" in run("budget").out
    assert run("verify", "receipt", Path(first["files"][0]).parent / "receipt.tlog-proof").out.startswith("holds")

    run("export", "bundle", "--by", "auditor")
    verdict = run(
        "replay", "bundle", "--level", 3, "--key", "auditors-own/auditor.key", "--trust", "bundle/trust.json", "--json"
    ).json
    assert {finding["level"] for finding in verdict} == {0, 1, 2, 3}
    assert "everything holds" in run("verify", "bundle", "bundle").out


def test_a_pure_loss_is_quoted_planned_for_and_stands_beside_what_an_answer_cost(journey):
    _, run = journey
    sql = "SELECT district, COUNT(*) AS n FROM visits GROUP BY district SETTINGS noise = 'laplace', pure_loss = 0.1"
    quoted = run("quote", "--sql", sql, "--epsilon", "1", "--within", "5%").out
    assert "discrete Laplace" in quoted
    assert "pure loss 纯损失: ε = 0.1, δ = 0" in quoted
    assert "needs ρ" in quoted
    record = run("quote", "--sql", sql, "--epsilon", "1", "--json").json
    assert record["question"]["loss"] == {"rho": "1/200", "delta": "0"}
    submitted = run("submit", "--sql", sql, "--epsilon", "1").out
    assert "pure loss 纯损失: ε = 0.1, δ = 0" in submitted
    assert "cost 消耗: ρ = 0.005," in submitted


def test_the_question_of_the_readme_is_answered_over_the_data_it_names(journey):
    """The README's own question, over the clinic's table instead of the demo's."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = re.search(r'saggar submit --epsilon (\S+) --sql "([^"]+)"', readme)
    quoted = re.search(r'saggar quote +--epsilon (\S+) --sql "([^"]+)"', readme)
    assert (asked[1], " ".join(asked[2].split())) == (quoted[1], " ".join(quoted[2].split()))
    sql = " ".join(asked[2].split())
    for theirs, ours in (
        ("age", "district"),
        ("num_medications", "days"),
        ("encounters", "visits"),
        ("readmitted = '<30'", "cost > 100"),
    ):
        assert theirs in sql
        sql = re.sub(rf"(?<![\w]){re.escape(theirs)}(?!\w)", ours, sql)
    told = journey[1]("submit", "--epsilon", asked[1], "--sql", sql, "--json")
    assert len(told.json["release"]["outputs"]["answer"]["rows"]) == 3


def test_the_question_of_the_readme_is_in_the_language_over_the_demos_own_description():
    from importlib.resources import files

    from sandbox.model.load_description import load_description
    from sandbox.model.loss import PrivacyLoss
    from sandbox.model.question import Question
    from sandbox.privacy.check import check_question

    described = load_description(
        files("examples.hospital").joinpath("hospital.yaml").read_text(encoding="utf-8"), "hospital.yaml"
    )
    sql = re.search(r'saggar submit --epsilon \S+ --sql "([^"]+)"', (ROOT / "README.md").read_text(encoding="utf-8"))[1]
    query = check_question(
        Question(sql, PrivacyLoss.parse({"rho": "1/100", "delta": "0"}), None, None), {described.table: described}
    )
    assert query.columns
    agreement = files("examples.hospital").joinpath("agreement.yaml").read_text(encoding="utf-8")
    assert all(f"- {column}\n" in agreement for column in query.columns)
