"""Ordinary data-science programs: what they are given, and all of them by name."""

from sandbox.runtime.guest.program_api import AskedAnswer

PARAMETERS = {"year": 2026, "threshold": 0.25, "district": "Gulou", "strict": True, "nothing": None}

COLUMNS = [
    {"name": "district", "role": "key"},
    {"name": "month", "role": "key"},
    {"name": "visits", "role": "value"},
    {"name": "cost", "role": "value"},
]
DISTRICTS = ["Gulou", "Jianye", "Qinhuai", "Xuanwu"]
ROWS = [
    [
        district,
        f"2026-{month:02d}",
        100 * (place + 1) + 7 * month,
        None if (place + month) % 9 == 0 else 3.5 * month + place,
    ]
    for place, district in enumerate(DISTRICTS)
    for month in range(1, 13)
]
ERRORS = [[None, None, 2.5, 0.75] for _ in ROWS]
RECORD = {
    "columns": COLUMNS,
    "rows": ROWS,
    "standard_errors": ERRORS,
    "lower": [[None, None, row[2] - 4.9, None] for row in ROWS],
    "upper": [[None, None, row[2] + 4.9, None] for row in ROWS],
    "loss": {"measure": "zcdp", "amount": "1/8"},
    "notes": ["each person counts with at most 3 rows"],
}

HEAD = "import numpy as np\nimport pandas as pd\n"
ASK = (
    '    t = data.ask("SELECT district, month, COUNT(*) AS visits, AVG(cost) AS cost FROM trips GROUP BY 1, 2").table\n'
)


def body(*lines: str) -> str:
    return HEAD + "def analyze(data):\n" + ASK + "".join(f"    {line}\n" for line in lines)


class StubData:
    """What `data` is in the guest, without a wire."""

    def __init__(self):
        self.parameters = dict(PARAMETERS)

    def ask(self, sql, share=None, rows=None, groups=None):
        if sql == "REFUSE ME":
            raise StubRefused
        return AskedAnswer(RECORD)


class StubRefused(Exception):  # noqa: N818 - stands for the name that programs catch
    code, message, hint = "privacy.budget", "the budget is spent", "ask less"

    def __str__(self):
        return self.message


def answer(request):
    if request["sql"] == "REFUSE ME":
        return {"ok": False, "code": "privacy.budget", "message": "the budget is spent", "hint": "ask less"}
    return {"ok": True, "answer": RECORD}


def all_programs():
    """Return every honest program: name -> source."""
    from tests.support import honest_language, honest_science, honest_shapes, honest_tables

    programs = {}
    for module in (honest_tables, honest_language, honest_shapes, honest_science):
        assert not programs.keys() & module.PROGRAMS.keys()
        programs |= module.PROGRAMS
    return programs
