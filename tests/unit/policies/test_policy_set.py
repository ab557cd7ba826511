import pytest

from policies import texts
from policies.policy_set import ENGINE_ERROR, PolicySet, compile_policies, current_policies, explain
from sandbox.errors import DescriptionError, PolicyError

CLAUSES = {
    "operator-is-party", "agreement-window", "agreement-max-5-years", "purpose-agreed", "product-agreed",
    "dataset-agreed", "columns-agreed", "job-loss-limit", "no-raw-rows", "no-forbidden-columns", "isolation-least",
}  # fmt: skip


def changed(name, old, new):
    text = current_policies().text(name)
    assert old in text
    return PolicySet(tuple((n, text.replace(old, new, 1) if n == name else t) for n, t in current_policies().texts))


def test_the_current_set_holds_together():
    assert set(compile_policies(current_policies()).clauses) == CLAUSES | {"agreed-use", ENGINE_ERROR}


def test_the_set_survives_its_record_and_its_digest_names_its_texts():
    policies = current_policies()
    assert PolicySet.parse(policies.to_record()) == policies
    assert PolicySet.parse(policies.to_record()).digest == policies.digest
    assert changed(texts.SENTENCES, "raw rows never leave", "raw rows never left").digest != policies.digest
    assert changed(texts.CLAUSES, '"standard", "full"', '"full"').digest != policies.digest


@pytest.mark.parametrize("clause", sorted(CLAUSES | {"agreed-use", ENGINE_ERROR}))
def test_each_clause_is_explained_in_two_languages_with_its_article(clause):
    en, zh, article = explain(clause)
    assert en[0].islower()
    assert not en.endswith(".")
    assert any("\u4e00" <= letter <= "\u9fff" for letter in zh)
    assert "实施方案" in article


def test_an_unknown_clause_is_not_explained():
    with pytest.raises(PolicyError, match="no clause is called `no-such`"):
        explain("no-such")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (texts.CLAUSES, "context.raw_rows", "context.raw_row", "a policy set does not fit its schema"),
        (texts.CLAUSES, "context.purpose)", "context.rho)", "a policy set does not fit its schema"),
        (texts.CLAUSES, "\nforbid (", "\nforbids (", "a policy set does not parse"),
        (texts.SCHEMA, "entity Operator;", "entity Operator", "a policy set does not parse"),
        (texts.CLAUSES, '@id("no-raw-rows")\nforbid', '@id("no-raw-rows")\npermit', "has not one permit"),
        (texts.CLAUSES, '@id("no-raw-rows")\n', "", "the clauses and their sentences do not match"),
        (texts.CLAUSES, '@id("no-raw-rows")', '@id("product-agreed")', "has not one permit"),
        (texts.SENTENCES, "id: no-raw-rows", "id: some-rows", "the clauses and their sentences do not match"),
    ],
)
def test_a_set_that_does_not_hold_together_is_refused(name, old, new, message):
    with pytest.raises(PolicyError) as caught:
        compile_policies(changed(name, old, new))
    assert message in caught.value.message
    assert caught.value.code == "policy"


def test_sentences_are_read_strictly():
    with pytest.raises(DescriptionError, match="unknown field `zn`"):
        compile_policies(changed(texts.SENTENCES, "    zh:", "    zn:"))
    with pytest.raises(DescriptionError, match="clause `agreement-window` stands twice"):
        compile_policies(changed(texts.SENTENCES, "id: operator-is-party", "id: agreement-window"))


@pytest.mark.parametrize(
    "record",
    [None, {}, {"v": 2, "texts": {}}, {"v": 1, "texts": []}, {"v": 1, "texts": {"clauses.cedar": ""}}, {"v": 1}],
)
def test_a_malformed_record_is_refused(record):
    with pytest.raises(PolicyError, match="a policy set record"):
        PolicySet.parse(record)
