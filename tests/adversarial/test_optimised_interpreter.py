"""Attack: start the interpreter with -O, which strips every assert, and have too little noise drawn."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from sandbox.errors import PrivacyError
from sandbox.privacy.noise import OpenDpNoise

CHEATS = {
    "sigma": "OpenDpNoise().gaussian([1], sigma=F(1), sensitivity_squared=100, rho=F(1, 2))",
    "no float": "OpenDpNoise().gaussian([1], sigma=F(1, 3), sensitivity_squared=1, rho=F(9))",
    "pure": "OpenDpNoise().laplace([1], noise=L(F(1), 10, F(1)), rho=F(1, 2))",
    "pure charge": "OpenDpNoise().laplace([1], noise=L(F(1), 10, F(10)), rho=F(1, 2))",
    "pure pieces": "ThreadedNoise(2).laplace([0] * 5000, noise=L(F(1), 10, F(1)), rho=F(1, 2))",
    "rho of keys": "OpenDpNoise().thresholded({'k': 9}, sigma=F(1), threshold=T(1, F(1), 50, 100, 10), rho=F(1, 2))",
    "delta of keys": "OpenDpNoise().thresholded({'k': 9}, sigma=F(1), threshold=T(1, F(1, 9**9), 3, 1, 1), rho=F(1))",
    "choice": "OpenDpNoise().top([1, 2], count=1, scale=F(1), rho=F(1, 100))",
    "bin": "OpenDpNoise().best([[0, -1]], scale=F(1), sensitivity=3, rho=F(1))",
    "pieces": "ThreadedNoise(2).gaussian([0] * 5000, sigma=F(1), sensitivity_squared=100, rho=F(1, 2))",
    "no noise": "measure(plan, run_plan(plan, [table]), Silent())",
    "no pure noise": "measure(pure, run_plan(pure, [table]), Silent())",
}
SCRIPT = """
from fractions import Fraction as F
from sandbox.compute.noise_pool import ThreadedNoise
from sandbox.compute.run import run_plan
from sandbox.errors import PrivacyError
from sandbox.privacy.measure import measure
from sandbox.privacy.mechanism import LaplaceNoise as L, Threshold as T
from sandbox.privacy.noise import OpenDpNoise
from tests.support import privacy_world as world

class Silent:
    def gaussian(self, values, **asked):
        return []

    def laplace(self, values, **asked):
        return []

pure = world.plan("SELECT COUNT(*) AS n FROM visits SETTINGS noise = 'laplace'")
plan = world.plan("SELECT COUNT(*) AS n FROM visits")
table = world.table(world.visits({1: [{}]}))
assert not __debug__, "never reached: asserts are stripped"
print(__debug__)
for cheat in %r:
    try:
        print("drew", eval(cheat))
    except PrivacyError as error:
        print(error.code)
"""


def test_too_little_noise_is_refused_where_asserts_are_stripped():
    script = SCRIPT % list(CHEATS.values())
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-O", "-c", script], capture_output=True, text=True, timeout=300, check=True, cwd=root
    )
    assert told.stdout.split("\n") == ["False", *["privacy.guard"] * len(CHEATS), ""]


def test_the_error_names_a_code_and_what_to_do_and_nothing_else():
    with pytest.raises(PrivacyError, match="too little for its share of the loss") as caught:
        OpenDpNoise().gaussian([123456], sigma=Fraction(1), sensitivity_squared=100, rho=Fraction(1, 2))
    assert (caught.value.code, bool(caught.value.hint)) == ("privacy.guard", True)
    assert "123456" not in str(caught.value)
