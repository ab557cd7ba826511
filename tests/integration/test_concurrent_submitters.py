"""Several processes that submit at the same time never spend more than there is."""

import json
import subprocess
from fractions import Fraction

from sandbox.model.job import JobState
from tests.conftest import PASSPHRASE, SQL_JOB
from tests.support.line_world import (
    AGREEMENT_ACCOUNT,
    DATASET_ACCOUNT,
    check_log,
    command,
    environment,
    saggar,
)

SUBMITTERS = 4
EACH = Fraction(2, 5)  # of 1 in the agreement: two fit, four do not


def submit_all(world, names):
    running = [
        subprocess.Popen(
            command(
                "--state",
                world.state,
                "--wait",
                100,
                "submit",
                world.files / name,
                "--out",
                world.files / "out",
                "--json",
            ),
            env=environment(),
            cwd=world.files,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    return [(process.communicate(timeout=200), process.returncode) for process in running]


def test_real_processes_at_once_cannot_overspend_and_the_losers_are_told(world):
    names = []
    for number in range(SUBMITTERS):
        names.append(f"job_{number}.yaml")
        (world.files / names[-1]).write_text(SQL_JOB.replace("0.1", "0.4") + f'nonce: "{number}"\n', encoding="utf-8")
    ended = submit_all(world, names)
    codes = sorted(code for _, code in ended)
    assert codes == [0, 0, 5, 5], [told for told, _ in ended]
    for (out, err), code in ended:
        assert "Traceback" not in err
        if code == 5:
            refusal = json.loads(out)["error"]
            assert refusal["code"] == "privacy.budget"
            assert refusal["details"]["account"] == AGREEMENT_ACCOUNT
            assert Fraction(refusal["details"]["remaining"]["rho"]) == 1 - 2 * EACH
    with world.engine() as engine:
        check_log(engine)
        accounts = engine.state().accounts
        assert accounts[AGREEMENT_ACCOUNT].posted.rho == 2 * EACH
        assert accounts[DATASET_ACCOUNT].posted.fits(accounts[DATASET_ACCOUNT].limit)


def test_the_same_job_from_several_processes_is_paid_once_and_gives_one_release(world):
    ended = submit_all(world, ["job_sql.yaml"] * 3)
    assert [code for _, code in ended] == [0, 0, 0], [told for told, _ in ended]
    releases = {json.dumps(json.loads(out)["release"], sort_keys=True) for (out, _), _ in ended}
    assert len(releases) == 1
    with world.engine() as engine:
        check_log(engine)
        (job,) = engine.state().jobs.values()
        assert job.state is JobState.RELEASED
        assert engine.state().accounts[AGREEMENT_ACCOUNT].posted.rho == Fraction(1, 10)


def test_a_second_process_is_told_who_holds_the_state_within_its_wait(world):
    with world.engine():
        told = saggar(
            "--state", world.state, "--wait", 0.2, "submit", world.files / "job_sql.yaml", "--json", cwd=world.files
        )
        read = saggar("--state", world.state, "budget", "--json", cwd=world.files)
    assert told.code == 10
    assert told.json["error"]["code"] == "service.state_busy"
    assert "`test`" in told.json["error"]["message"]
    assert "--wait" in told.json["error"]["hint"]
    assert read.code == 0, "reading needs no lock"
    assert PASSPHRASE not in told.out + told.err
