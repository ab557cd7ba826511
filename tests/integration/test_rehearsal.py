"""A rehearsal runs the very job on made-up rows: it finds what would go wrong, and leaves no trace."""

import pytest

from sandbox.errors import ProgramError, QueryError
from sandbox.jobs.rehearse import BLOCKS_TRIED, MARK, Mock, rehearse_described, rehearse_job
from sandbox.jobs.specify import spec_of, specify
from sandbox.model.load_description import load_description
from sandbox.model.load_job import load_job
from sandbox.privacy.noise import OpenDpNoise
from sandbox.service.compose import lazy_guests
from sandbox.service.embedded import connect
from tests.conftest import DESCRIPTION, MARKER, PASSPHRASE, PROGRAM, PYTHON_JOB, SQL, SQL_JOB
from tests.support.line_world import files_below, saggar

pytestmark = pytest.mark.isolation
JOB = PYTHON_JOB[: PYTHON_JOB.index("outputs:")].replace("rho: 0.1", "rho: 0.5") + (
    "outputs:\n  - {name: value, kind: number}\n"
)
BLOCKS = (
    "def analyze(data):\n"
    "    a = data.blocks('visits', {source!r}, k={k}, output={{'x': (0, 14)}}, milliseconds={ms}, share='1')\n"
    "    return {{'value': a.table['x'][0]}}\n"
)


def rehearse(world, job, code, **mock):
    with world.records() as records:
        spec = specify(records, load_job(job, "job.yaml"), code)
        operator = next(key.key_id for key in records.state().keys.values() if key.name == "operator")
        return rehearse_job(records, spec, code, operator=operator, noise=OpenDpNoise(), mock=Mock(**mock))


def rehearse_blocks(world, source, k=4, ms=2000, units=60):
    return rehearse(world, JOB, BLOCKS.format(source=source, k=k, ms=ms), units=units)


def lasting_files(world):
    """Return what lies in the state directory, without what a reader of the log's database maps meanwhile."""
    return {name: raw for name, raw in files_below(world.state).items() if not name.endswith(("-shm", "-wal"))}


def test_a_program_is_rehearsed_and_the_state_is_as_it_was(world):
    before = lasting_files(world)
    gone = rehearse(world, PYTHON_JOB, PROGRAM)
    assert gone.problem == ""
    assert gone.questions == 2
    assert set(gone.outputs) == {"by_district", "mean_days"}
    assert gone.quote.allowed
    record = gone.to_record()
    assert record["mock"] == MARK
    assert MARKER not in str(record)
    assert lasting_files(world) == before


def test_no_sealed_column_is_needed(world):
    for path in (world.state / "vault" / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert rehearse(world, PYTHON_JOB, PROGRAM).problem == ""
    assert rehearse(world, SQL_JOB, SQL).questions == 1


def test_the_real_error_of_a_function_over_blocks_is_told_with_its_line(world):
    gone = rehearse_blocks(world, "def block(rows):\n    x = 1\n    return rows['dayz'].mean()\n")
    (blocks,) = gone.blocks
    assert (blocks.asked, blocks.tried, blocks.defaults) == (4, 4, 4)
    assert blocks.reasons == (("line 3: KeyError: 'dayz'", 4),)
    assert gone.problem == ""  # the job itself would end well, with defaults


REASONS = {
    "def block(rows):\n    return 99\n": "`x` lies outside its bounds 0 to 14",
    "def block(rows):\n    return float('nan')\n": "`x` lies outside its bounds 0 to 14",
    "def block(rows):\n    return [1, 2]\n": "ValueError: another number of outputs than were declared",
    "def block(rows):\n    return 'text'\n": "ValueError: could not convert string to float: 't'",
    "def block(rows):\n    return None\n": "TypeError: 'NoneType' object is not iterable",
    "def block(rows):\n    x = 'y' * (1 << 40)\n    return 1\n": "the program used up its memory",
}


@pytest.mark.parametrize("source", REASONS)
def test_what_makes_a_block_count_with_its_default_is_told(world, source):
    (blocks,) = rehearse_blocks(world, source).blocks
    assert blocks.reasons == ((REASONS[source], 4),)


def test_a_function_that_takes_too_long_is_told(world):
    source = "def block(rows):\n    while rows['unit'].max() >= 0:\n        pass\n    return 1\n"
    (blocks,) = rehearse_blocks(world, source, k=2, ms=250).blocks
    assert blocks.defaults == 2
    assert blocks.reasons[0][0].startswith("the function used more than 0.25 seconds of processor time")


def test_blocks_that_are_empty_for_lack_of_units_are_found(world):
    (blocks,) = rehearse_blocks(world, "def block(rows):\n    return rows['days'].mean()\n", k=300, units=60).blocks
    assert blocks.defaults > 10


def test_a_block_that_fits_is_counted_and_timed(world):
    (blocks,) = rehearse_blocks(
        world, "def block(rows):\n    return rows['days'].fillna(7).mean()\n", k=100, units=4000
    ).blocks
    assert (blocks.asked, blocks.tried, blocks.defaults) == (100, BLOCKS_TRIED, 0)
    assert 0 < blocks.median_ms <= blocks.slowest_ms


def test_a_question_that_would_be_refused_is_told_and_what_the_gate_would_hold_back(world):
    program = "def analyze(data):\n    return {'value': data.ask('SELECT AVG(cost) AS c FROM visits').table['c'][0]}\n"
    gone = rehearse(world, JOB, program)
    assert [refusal["code"] for refusal in gone.refusals] == ["policy.columns_not_declared"]
    assert gone.outputs is None
    assert "the question was refused (policy.columns_not_declared)" in gone.problem
    gone = rehearse(world, JOB, "def analyze(data):\n    return {'other': 1}\n")
    assert gone.outputs is None
    assert "other" in gone.problem


def test_code_that_is_not_in_the_language_is_refused_as_at_submission(world):
    with pytest.raises(ProgramError, match="`import os` is not offered"):
        rehearse(world, JOB, "import os\ndef analyze(data):\n    return {}\n")
    with pytest.raises(QueryError):
        rehearse(world, SQL_JOB, "SELECT * FROM visits")


def test_a_program_spends_no_more_than_the_job_has(world):
    ask = "data.ask('SELECT COUNT(*) AS n FROM visits', share='2/3').table['n'][0]"
    gone = rehearse(world, JOB, f"def analyze(data):\n    {ask}\n    return {{'value': {ask}}}\n")
    assert gone.questions == 1
    assert gone.refusals[0]["code"] == "privacy.budget"


def test_the_command_needs_no_passphrase_and_says_mock(world):
    said = saggar(
        "--state", world.state, "rehearse", world.files / "job_python.yaml", cwd=world.files, SAGGAR_PASSPHRASE=None
    )
    assert said.code == 0, said.err
    assert said.out.count("MOCK") >= 2
    assert "nothing was spent" in said.out
    assert "['" not in said.out, "tables have headings that people read"
    assert not (world.files / "releases").exists()
    told = saggar("--state", world.state, "rehearse", world.files / "job_sql.yaml", "--json", cwd=world.files)
    assert told.json["mock"] == MARK
    (world.files / "program.py").write_text("def analyze(data):\n    raise ValueError('on purpose')\n")
    told = saggar("--state", world.state, "rehearse", world.files / "job_python.yaml", cwd=world.files)
    assert told.code == 9
    assert "line 2: ValueError: on purpose" in " ".join(told.out.split())
    assert saggar("--state", world.state, "rehearse", cwd=world.files).code == 3


def test_a_notebook_rehearses_a_question_too(world):
    before = lasting_files(world)
    city = connect(world.state, key="operator", passphrase=PASSPHRASE)
    gone = city.rehearse(SQL, epsilon="1")
    assert gone["mock"] == MARK
    assert gone["questions"] == 1
    (output,) = gone["outputs"].values()
    assert len(output["rows"]) == 3
    assert lasting_files(world) == before


DESCRIBED_JOB = JOB.replace("agreement: clinic-test", "agreement: not-yet-signed")


def rehearse_on(job, code, *descriptions, **mock):
    described = [load_description(text, "clinic.yaml") for text in descriptions or (DESCRIPTION,)]
    spec = spec_of(load_job(job, "job.yaml"), code, {each.table: each for each in described})
    with lazy_guests() as guests:
        return rehearse_described(guests, described, spec, code, noise=OpenDpNoise(), mock=Mock(**mock))


def test_a_description_alone_is_enough_to_rehearse_a_question_a_program_and_blocks():
    question = rehearse_on(SQL_JOB, SQL)
    assert (question.problem, question.questions, question.quote) == ("", 1, None)
    assert question.to_record()["quote"] is None
    program = rehearse_on(PYTHON_JOB, PROGRAM)
    assert (program.problem, program.questions) == ("", 2)
    source = "def block(rows):\n    return {'x': rows['nothing'].mean()}\n"
    gone = rehearse_on(DESCRIBED_JOB, BLOCKS.format(source=source, k=4, ms=2000), units=60)
    (blocks,) = gone.blocks
    assert blocks.defaults == 4
    assert "line 2" in blocks.reasons[0][0]


def test_more_blocks_are_tried_when_asked_for():
    source = "def block(rows):\n    return {'x': 1}\n"
    code = BLOCKS.format(source=source, k=6, ms=2000)
    assert rehearse_on(DESCRIBED_JOB, code, units=60, blocks=2).blocks[0].tried == 2
    assert rehearse_on(DESCRIBED_JOB, code, units=60, blocks=6).blocks[0].tried == 6


def test_what_is_not_described_is_refused():
    other = DESCRIPTION.replace("dataset: clinic", "dataset: other").replace("table: visits", "table: others")
    with pytest.raises(QueryError, match="reads dataset `clinic`, of which no description was given") as refused:
        rehearse_on(PYTHON_JOB, PROGRAM, other)
    assert refused.value.code == "input.query.not_described"
    assert refused.value.hint == "add it with `--description FILE`"
    with pytest.raises(QueryError, match="dataset `clinic` has no column `weight`") as refused:
        rehearse_on(PYTHON_JOB.replace("[days, district]", "[days, weight]"), PROGRAM)
    assert refused.value.code == "input.query.unknown_column"
    with pytest.raises(ProgramError):
        rehearse_on(PYTHON_JOB, "def analyze(data):\n    return open('x')\n")


def test_the_command_rehearses_on_a_description_without_a_state_directory(world, tmp_path):
    nowhere = ["--state", str(tmp_path / "nowhere")]
    described = ["--description", str(world.files / "clinic.yaml")]
    done = saggar(*nowhere, "rehearse", str(world.files / "job_python.yaml"), *described, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "no state directory was asked" in done.out
    assert "MOCK" in done.out
    asked = ["--sql", SQL, "--epsilon", "0.5", "--json"]
    done = saggar(*nowhere, "rehearse", *asked, *described, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["quote"] is None
    done = saggar(*nowhere, "rehearse", "--sql", SQL, *described, cwd=tmp_path)
    assert (done.code, "a question needs a loss" in done.err) == (3, True)
    assert not (tmp_path / "nowhere").exists()


def test_the_command_says_how_many_blocks_were_not_tried(world, tmp_path):
    job, program = tmp_path / "job.yaml", tmp_path / "program.py"
    source = "def block(rows):\n    return {'x': 1}\n"
    program.write_text(BLOCKS.format(source=source, k=5, ms=2000))
    job.write_text(DESCRIBED_JOB)
    described = ["--description", str(world.files / "clinic.yaml"), "--units", "60"]
    done = saggar("rehearse", str(job), *described, "--blocks", "2", cwd=tmp_path)
    assert "only 2 of 5 were tried" in done.out
    assert "`--blocks 5` tries them all" in " ".join(done.out.split())
    assert "were tried" not in saggar("rehearse", str(job), *described, cwd=tmp_path).out
