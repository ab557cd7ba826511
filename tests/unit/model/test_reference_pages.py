import re
from pathlib import Path

import pytest

from policies.policy_set import compile_policies, current_policies
from sandbox.model.job import JobKind
from sandbox.model.load_agreement import load_agreement
from sandbox.model.load_description import load_description
from sandbox.model.load_job import load_job

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def examples(page):
    return re.findall(r"```yaml\n(.*?)```", (REFERENCE / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_description_page_load():
    whole, two_kinds, exclusions = examples("description.md")
    assert load_description(whole, "example").column("days").upper == 14
    assert load_description(whole + exclusions, "example").exclusions[0].values == ("11", "19")
    both = re.sub(r"(?m)^unit: .*\n", two_kinds, whole)
    assert load_description(both, "example").unit_kinds == ("enterprise", "person")


def test_the_example_of_the_agreement_page_loads():
    (example,) = examples("agreement.md")
    agreement = load_agreement(example, "example", {"operator": "a", "agency": "b"})
    assert agreement.not_after == "2027-06-30T16:00:00Z"


def test_the_examples_of_the_job_page_load():
    kinds = [load_job(example, "example").kind for example in examples("job.md")]
    assert kinds == [JobKind.SQL, JobKind.PYTHON, *[JobKind.MODEL] * 4]


@pytest.mark.parametrize("clause", sorted(compile_policies(current_policies()).clauses))
def test_each_clause_stands_on_the_agreement_page_in_its_own_words(clause):
    sentence = compile_policies(current_policies()).clauses[clause].en
    assert f"| `{clause}` | {sentence} |" in (REFERENCE / "agreement.md").read_text(encoding="utf-8")
