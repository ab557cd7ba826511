"""The page on the language of programs lists what the guest's own tables offer; run this file to write it again."""

from pathlib import Path

from sandbox.privacy.blocks import BLOCKS_MAX, BLOCKS_MIN, MILLISECONDS, OUTPUTS_MAX
from sandbox.runtime.guest import attributes, science_names
from sandbox.runtime.guest.guards import BUILTIN_NAMES
from sandbox.runtime.guest.modules import MODULE_NAMES, offered_names

PAGE = Path(__file__).parents[2] / "docs/reference/program.md"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"
MODELS = {
    "a model of scikit-learn": "ESTIMATOR", "`KFold` and its kin": "SPLITTER", "a model of statsmodels": "MODEL",
    "what a fit of statsmodels returns": "RESULTS", "`get_prediction(...)`": "PREDICTION", "`summary()`": "SUMMARY",
}  # fmt: skip
KINDS = {
    "data": "DATA", "an answer": "ANSWER", "a refused question": "REFUSAL", "`DataFrame`": "DATAFRAME",
    "`Series`": "SERIES", "`Index`": "INDEX", "a group-by": "GROUPBY", "a window": "WINDOW", "`.str`": "TEXT_ACCESSOR",
    "`.dt`": "TIME_ACCESSOR", "`.cat`": "CATEGORY_ACCESSOR", "`ndarray`": "NDARRAY", "`Timestamp`": "TIMESTAMP",
    "`Timedelta`": "TIMEDELTA", "a random generator": "GENERATOR", "text": "TEXT", "a list": "LIST", "a dict": "DICT",
    "a set": "SET",
    "a pattern of `re`": "PATTERN", "a match of `re`": "MATCH", 'functions named in text (`agg("mean")`)': "REDUCERS",
}  # fmt: skip


def names(values):
    return " ".join(f"`{value}`" for value in sorted(values))


def tables():
    """Return the generated part of the page."""
    lines = [BEGIN, "### Modules\n\n| module | offers |\n|---|---|\n"]
    lines += [f"| `{module}` | {names(offered_names(module))} |\n" for module in sorted(MODULE_NAMES)]
    lines.append("\n### Builtins\n\n" + names(BUILTIN_NAMES) + "\n")
    lines.append("\n### Attributes by type\n\n| type | attributes |\n|---|---|\n")
    lines += [f"| {kind} | {names(getattr(attributes, table))} |\n" for kind, table in KINDS.items()]
    lines += [f"| {kind} | {names(getattr(science_names, table))} |\n" for kind, table in MODELS.items()]
    lines.append("\n### Limits of blocks\n\n")
    lines.append(f"{BLOCKS_MIN} to {BLOCKS_MAX} blocks, 1 to {OUTPUTS_MAX} outputs, and for each block one of ")
    lines.append(", ".join(str(choice) for choice in MILLISECONDS) + " milliseconds.\n")
    return "".join([*lines, END])


def test_the_page_lists_what_the_guest_offers():
    page = PAGE.read_text(encoding="utf-8")
    assert tables() in page, "run this file as a program to write the tables again"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(head + tables() + tail, encoding="utf-8")
