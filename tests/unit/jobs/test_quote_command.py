"""`saggar quote` says how much loss a wanted accuracy needs, and takes weights."""

import json

from typer.testing import CliRunner

from sandbox.cli.main import app

SQL = "SELECT COUNT(*) AS n, AVG(days) AS d FROM visits"


def quote(world, *more):
    return CliRunner().invoke(app, ["--state", str(world.state), "quote", "--sql", SQL, *more])


def test_a_quote_names_the_loss_for_a_wanted_error(world):
    loose = quote(world, "--within", "20%", "--cell", "5000", "--json")
    assert loose.exit_code == 0, loose.output
    needed = json.loads(loose.stdout)["needed"]
    assert (needed["within"], needed["cell"]) == ("1/5", 5000)
    assert float(needed["epsilon"]) > 0
    shown = quote(world, "--within", "20%", "--cell", "5000")
    assert "所需预算" in shown.output


def test_weights_on_the_command_line_are_settings(world):
    even = json.loads(quote(world, "--epsilon", "0.5", "--json").stdout)["question"]["statistics"]
    weighed = json.loads(quote(world, "--epsilon", "0.5", "--weights", "1,9", "--json").stdout)["question"][
        "statistics"
    ]
    assert weighed[1]["noise_scale"] <= even[1]["noise_scale"]


def test_a_share_that_is_none_is_refused(world):
    refused = quote(world, "--within", "200%")
    assert refused.exit_code != 0
    assert "no share" in refused.output
