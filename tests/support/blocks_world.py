"""Questions to blocks over the privacy tests' clinic, and a runner that needs no job."""

import json
from fractions import Fraction

import numpy as np

from sandbox.compute.split import split_blocks
from sandbox.model.blocks_question import BlockMode, BlockOutput, BlocksQuestion, BlockStatistic
from sandbox.model.loss import PrivacyLoss
from sandbox.privacy.blocks import plan_blocks
from sandbox.runtime.block_image import BlockJob, ImageColumn, encode_image
from sandbox.runtime.host.blocks import BlockWork
from tests.support import privacy_world

KEY = bytes(range(32))
SEED = "07" * 32


def output(name="x", lower=0, upper=1, resolution="1/1024", default="1/2"):
    """Return an output with exact bounds."""
    return BlockOutput(name, *(Fraction(amount) for amount in (lower, upper, resolution, default)))


def question(program="def block(rows):\n    return 0.5\n", *, rho="1/2", outputs=None, **changes):
    """Return a question to blocks of the clinic's visits."""
    fields = {
        "table": "visits", "columns": ("age", "diag"), "program": program, "parameters": "{}", "blocks": 8,
        "outputs": (output(),) if outputs is None else outputs, "statistic": BlockStatistic.MEAN, "milliseconds": 500,
        "mode": BlockMode.STRICT, "count_failures": False, "loss": PrivacyLoss(Fraction(rho)),
    }  # fmt: skip
    return BlocksQuestion(**{**fields, **changes})


def plan(program="def block(rows):\n    return 0.5\n", **changes):
    """Return the plan of such a question."""
    return plan_blocks(question(program, **changes), {"visits": privacy_world.describe()})


def split(rows, blocks=8, key=KEY, names=("age", "diag")):
    """Return the blocks of a table's rows."""
    columns = [column for column in privacy_world.COLUMNS if column.name in names]
    columns.sort(key=lambda column: names.index(column.name))
    ordered = sorted(rows, key=lambda row: (row["_unit"], row["_rank"]))
    return split_blocks([privacy_world.table(ordered)], columns, blocks=blocks, key=key)


def work(source, table, *, outputs=("x",), parameters=None, wall_s=1.0, lanes=1, numbers=None):
    """Return the work of running a function on each block of a split table."""
    job = BlockJob(source, parameters or {}, tuple(outputs), SEED)

    def image(number):
        rows, columns = table.block(number)
        return encode_image(job, rows, [ImageColumn(c.name, c.kind, c.values) for c in columns])

    return BlockWork(image, table.count, numbers or len(outputs), wall_s, lanes)


def units(count, rows=2, **cells):
    """Return rows of so many units, all alike but for what is given."""
    draw = np.random.default_rng(5)
    return privacy_world.visits(
        {
            unit: [{"age": int(draw.integers(0, 99)), "diag": "D1", **cells} for _ in range(rows)]
            for unit in range(count)
        }
    )


def parameters(**values):
    """Return parameters as a question carries them."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
