from fractions import Fraction

import pytest

from sandbox.errors import DescriptionError
from sandbox.model.document import MAX_BYTES, read_document


def read(text):
    return read_document(text, "form.yaml")


def refusal(call):
    with pytest.raises(DescriptionError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a: &x 1\nb: *x", "yaml", "form.yaml line 1: anchors and aliases are not read here"),
        ("a: 1\nb: *x", "yaml", "form.yaml line 2: anchors and aliases are not read here"),
        ("a: !!python/object/apply:os.system [x]", "yaml", "form.yaml line 1: tags are not read here"),
        ("a: !!str 1", "yaml", "form.yaml line 1: tags are not read here"),
        ("%YAML 1.1\n---\na: 1", "yaml", "form.yaml line 1: directives are not read here"),
        ("a: 1\n---\nb: 2", "yaml", "form.yaml line 2: a second document starts here"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "duplicate_field", "form.yaml line 4: field `c` is given twice"),
        ("a: " + "[" * 13 + "]" * 13, "yaml", "form.yaml line 1: the document is nested too deeply"),
        ("a: {", "yaml", "form.yaml line 1: this is not readable as YAML"),
        ("a: 1\nb: c: d", "yaml", "form.yaml line 2: this is not readable as YAML"),
        ("a: 1\nb: \x07", "yaml", "form.yaml line 2: a character is not allowed in a text file"),
        ("? [a]\n: b", "yaml", "form.yaml line 1: a field needs a plain name"),
        ("- 1", "type", "form.yaml line 1: the document should be fields"),
        ("just text", "type", "form.yaml line 1: the document should be fields"),
        ("", "yaml", "form.yaml line 1: the file is empty"),
        ("# " + "x" * MAX_BYTES, "too_large", "form.yaml line 1: the file is too large"),
        ("# " + "景" * (MAX_BYTES // 2), "too_large", "form.yaml line 1: the file is too large"),
    ],
)
def test_what_a_form_does_not_need_is_refused_with_its_line(text, kind, message):
    error = refusal(lambda: read(text))
    assert error.message == message
    assert error.code == f"input.description.{kind}"
    assert error.details["file"] == "form.yaml"


def test_a_billion_laughs_never_grow():
    text = "a: &a [x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a]" for i in range(50))
    assert refusal(lambda: read(text)).message.endswith("anchors and aliases are not read here")


def test_scalars_are_the_text_that_stands_in_the_file():
    node = read("a: NO\nb: 1:30\nc: 0011\nd: 2026-01-01\ne: 'null'\nf: 景德镇")
    assert [node.field(name).text() for name in "abcdef"] == ["NO", "1:30", "0011", "2026-01-01", "null", "景德镇"]


def test_exact_amounts_are_read_from_their_own_digits():
    node = read("a: 0.05\nb: 1e-6\nc: 1/60\nd: '0.1'\ne: 10_000_000\nf: -3")
    expected = [Fraction(1, 20), Fraction(1, 10**6), Fraction(1, 60), Fraction(1, 10), Fraction(10**7), Fraction(-3)]
    assert [node.field(name).exact() for name in "abcdef"] == expected


@pytest.mark.parametrize("value", [".nan", ".inf", "1/0", "one", "0x10", "1e999", "[1]", "1_0"])
def test_what_is_no_exact_amount_is_refused(value):
    error = refusal(read(f"x: 1\na: {value}").field("a").exact)
    assert error.message.startswith("form.yaml line 2: ")
    assert error.details["path"] == "a"


@pytest.mark.parametrize("value", ["1.0", "1e3", "0x10", "010", "'x'", "yes", "1_0"])
def test_what_is_no_integer_is_refused(value):
    assert refusal(lambda: read(f"a: {value}").field("a").integer(0, 10**9)).code == "input.description.type"


def test_an_integer_keeps_to_its_range():
    node = read("a: 10_000")
    assert node.field("a").integer(0, 10_000) == 10_000
    error = refusal(lambda: node.field("a").integer(0, 9_999))
    assert (error.message, error.hint) == (
        "form.yaml line 1: `a` is out of range, got `10_000`",
        "it lies between 0 and 9999",
    )


@pytest.mark.parametrize("value", ["yes", "'true'", "True", "1", "on"])
def test_a_boolean_has_one_spelling(value):
    assert read("a: true").field("a").boolean() is True
    assert read("a: false").field("a").boolean() is False
    assert "expected true or false" in refusal(read(f"a: {value}").field("a").boolean).message


def test_a_misspelt_field_is_answered_with_the_nearest_name():
    error = refusal(lambda: read("a:\n  colums: 1\n").field("a").only("columns", "rows"))
    assert error.message == "form.yaml line 2: unknown field `colums`"
    assert error.hint == "did you mean `columns`"
    assert error.details == {"file": "form.yaml", "line": 2, "path": "a.colums"}


def test_a_far_off_field_is_answered_with_the_list():
    assert refusal(lambda: read("zzz: 1").only("rows", "groups")).hint == "known fields here: rows, groups"


def test_a_missing_field_names_the_place():
    error = refusal(lambda: read("list:\n  - a: 1\n  - b: 1").field("list").items()[1].field("a"))
    assert error.message == "form.yaml line 3: field `a` is missing in `list[1]`"
    assert error.code == "input.description.missing_field"


@pytest.mark.parametrize("value", ["", "~", "null", "''", "'  '"])
def test_a_field_without_a_value_is_not_taken_for_one(value):
    assert refusal(read(f"a: {value}").field("a").text).code == "input.description.missing_value"


def test_shapes_are_checked():
    node = read("a: 1\nb: [1]\nc: {d: 1}")
    assert refusal(node.field("a").items).message == "form.yaml line 1: `a` should be a list"
    assert refusal(node.field("b").text).message == "form.yaml line 2: `b` should be text"
    assert refusal(lambda: node.field("a").field("x")).message == "form.yaml line 1: `a` should be a group of fields"
    assert node.optional("z") is None


def test_a_choice_is_answered_with_the_nearest_value():
    error = refusal(lambda: read("kind: intger").field("kind").choice("integer", "text"))
    assert (error.message, error.hint) == ("form.yaml line 1: `intger` is not a known `kind`", "did you mean `integer`")


def test_a_loss_is_exact_and_in_range():
    assert read("l: {rho: 0.02}").field("l").loss().to_record() == {"rho": "1/50", "delta": "0"}
    assert "a privacy loss is out of range" in refusal(read("l: {rho: -1}").field("l").loss).message
    assert "unknown field `eps`" in refusal(read("l: {rho: 1, eps: 1}").field("l").loss).message
