from fractions import Fraction

import pytest

from sandbox.errors import DescriptionError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.description import ColumnKind, DatasetDescription
from sandbox.model.load_description import load_description

GOOD = """\
dataset: clinic
table: visits
label: {en: Visits, zh: 就诊}
department_zh: 市卫健委
catalogue_id: D10
unit: {kind: patient, column: 身份证, zh: 患者}
bound: {rows: 4, groups: 2}
budget: {rho: 1/2, delta: 1e-6}
max_rows: 10_000
max_broken_share: 1/1000
exclusions:
  - column: 保密
    values: [是, 机密]
    reason: {en: secret, zh: 涉密}
columns:
  - name: fee
    source: 费用
    kind: decimal
    label: {en: Fee, zh: 费用}
    classification: L3
    nullable: true
    null_values: ["-"]
    lower: 0
    upper: 300000
    resolution: 0.01
    measure: {en: yuan, zh: 元}
  - name: days
    kind: integer
    label: {en: Days, zh: 天数}
    classification: L2
    lower: 1
    upper: 14
  - name: seen_on
    kind: date
    label: {en: Date, zh: 日期}
    classification: L2
    lower: 2020-01-01
    upper: 2026-12-31
  - name: ward
    kind: category
    label: {en: Ward, zh: 病区}
    classification: L1
    domain:
      - {value: NO, en: north, zh: 北}
      - {value: SO, en: south, zh: 南}
  - name: note
    kind: text
    label: {en: Note, zh: 备注}
    classification: L4
  - name: aided
    kind: boolean
    label: {en: Aided, zh: 救助}
    classification: L3
"""


def load(text=GOOD):
    return load_description(text, "clinic.yaml")


def test_a_description_reads_as_it_was_written():
    description = load()
    assert (description.dataset, description.table, description.department_zh) == ("clinic", "visits", "市卫健委")
    assert description.unit.column == "身份证"
    assert (description.bound.rows, description.bound.groups) == (4, 2)
    assert description.budget.to_record() == {"rho": "1/2", "delta": "1/1000000"}
    assert (description.max_rows, description.max_broken_share) == (10_000, Fraction(1, 1000))
    assert description.exclusions[0].values == ("是", "机密")
    fee, days, seen_on, ward, note, aided = description.columns
    assert (fee.source, fee.resolution, fee.null_values, fee.measure_zh) == ("费用", Fraction(1, 100), ("-",), "元")
    assert (days.source, days.resolution, days.lower, days.upper, days.nullable) == ("days", 1, 1, 14, False)
    assert (seen_on.lower, seen_on.upper, seen_on.resolution) == (18262, 20818, None)
    assert [value.value for value in ward.domain] == ["NO", "SO"]
    assert (note.kind, note.domain, aided.kind) == (ColumnKind.TEXT, None, ColumnKind.BOOLEAN)


OTHERS = "also_protects:\n  - {kind: person, column: 工号, zh: 自然人, rows: 5}\nbound:"


def test_further_units_are_read_and_written_and_change_nothing_where_there_are_none():
    two = load(GOOD.replace("bound:", OTHERS, 1))
    (other,) = two.also_protects
    assert (other.kind, other.column, other.rows, other.token_column) == ("person", "工号", 5, "_unit_person")
    assert two.unit_kinds == ("patient", "person")
    assert DatasetDescription.parse(two.to_record()) == two
    assert two.digest() != load().digest()
    assert "also_protects" not in load().to_record()


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("kind: person", "kind: patient", "duplicate", "the kind `patient` is protected twice"),
        ("column: 工号", "column: 身份证", "unit_column", "`身份证` names a person and cannot be a column"),
        ("column: 工号", "column: days", "unit_column", "`days` names a person and cannot be a column"),
        ("rows: 5", "rows: 0", "range", "`also_protects[0].rows` is out of range"),
        (", rows: 5", "", "missing_field", "field `rows` is missing"),
        ("rows: 5", "rows: 5, groups: 2", "unknown_field", "unknown field `groups`"),
        (
            "\nbound:",
            "".join(f"\n  - {{kind: k{c}, column: {c}1, zh: x, rows: 1}}" for c in "abc") + "\nbound:",
            "range",
            "`also_protects` names 1 to 3 kinds of units",
        ),
    ],
)
def test_further_units_that_are_none_are_refused(old, new, kind, message):
    assert OTHERS.replace(old, new, 1) != OTHERS
    with pytest.raises(DescriptionError) as caught:
        load(GOOD.replace("bound:", OTHERS.replace(old, new, 1), 1))
    assert message in caught.value.message
    assert caught.value.code.endswith(kind)


def test_a_description_has_canonical_bytes_and_spelling_does_not_matter():
    assert canonical_bytes(load().to_record())
    assert load(GOOD.replace("1/2", "0.5").replace("10_000", "10000")).digest() == load().digest()
    assert load(GOOD.replace("rows: 4", "rows: 5")).digest() != load().digest()


@pytest.mark.parametrize(
    ("old", "new", "line", "kind", "message"),
    [
        ("dataset: clinic", "dataset: Clinic", 1, "name", "`Clinic` is not allowed as `dataset`"),
        ("table: visits", "table: _visits", 2, "name", "`_visits` is not allowed as `table`"),
        ("rows: 4, groups: 2", "rows: 2, groups: 4", 7, "range", "contribution bound of 2 rows and 4 groups"),
        ("rows: 4,", "rows: 0,", 7, "range", "`bound.rows` is out of range"),
        ("rho: 1/2,", "rho: 0,", 8, "range", "`budget` is out of range"),
        ("delta: 1e-6", "delta: 1", 8, "range", "`budget` is out of range"),
        ("max_rows: 10_000", "max_rows: 0", 9, "range", "`max_rows` is out of range"),
        ("max_broken_share: 1/1000", "max_broken_share: 1", 10, "range", "`max_broken_share` is out of range"),
        ("values: [是, 机密]", "values: []", 13, "missing_value", "`exclusions[0].values` is empty"),
        ("values: [是, 机密]", "values: [是, 是]", 13, "duplicate", "`是` is listed twice"),
        ("reason: {en: secret, zh: 涉密}", "reason: {en: secret}", 14, "missing_field", "field `zh` is missing"),
        ("column: 保密", "column: fee", 12, "exclusion", "an exclusion reads the source file"),
        ("name: days", "name: fee", 27, "duplicate", "column `fee` is described twice"),
        ("name: days", "name: days\n    source: 费用", 27, "duplicate", "source header `费用` is used twice"),
        ("name: days", "name: days\n    source: 身份证", 27, "unit_column", "`身份证` names the privacy unit"),
        ("kind: integer", "kind: int", 28, "choice", "`int` is not a known `columns[1].kind`"),
        ("classification: L2\n    lower: 1\n", "classification: L9\n    lower: 1\n", 30, "choice", "`L9` is not a known"),
        ("lower: 1\n    upper: 14", "upper: 14", 27, "bounds", "column `days` needs `lower` and `upper`"),
        ("upper: 14\n", "upper: 1\n", 32, "bounds", "`upper` of column `days` is not above `lower`"),
        ("upper: 14\n", "upper: 14.5\n", 32, "bounds", "bound of column `days` is not a multiple"),
        ("upper: 300000", "upper: 300000.001", 24, "bounds", "bound of column `fee` is not a multiple"),
        ("upper: 300000", "upper: 1e30", 24, "bounds", "bound of column `fee` is too far from zero"),
        ("resolution: 0.01", "resolution: 0", 25, "bounds", "`resolution` of column `fee` is out of range"),
        ("    resolution: 0.01\n", "", 16, "bounds", "column `fee` needs a `resolution`"),
        ("upper: 14\n", "upper: 14\n    resolution: 0.5\n", 33, "bounds", "`resolution` of column `days`"),
        ("lower: 2020-01-01", "lower: 2020-13-01", 37, "type", "expected a date, got `2020-13-01`"),
        ("    upper: 2026-12-31\n", "", 33, "bounds", "column `seen_on` needs `lower` and `upper`"),
        ("upper: 2026-12-31", "upper: 2026-12-31\n    resolution: 1", 39, "bounds", "is a date and has no resolution"),
        ("value: SO", "value: NO", 45, "domain", "domain value `NO` is given twice"),
        ("value: SO, en: south, ", "value: SO, ", 45, "missing_field", "field `en` is missing"),
        ("kind: text", "kind: text\n    lower: 1", 48, "bounds", "column `note` is text and has no bounds"),
        ("kind: text", "kind: text\n    domain: [{value: a, en: a, zh: a}]", 48, "domain", "has no domain"),
        ("kind: boolean", "kind: boolean\n    null_values: [x]", 52, "value", "`null_values` of column `aided` has no use"),
        ("zh: 病区}", "zh: 病区}\n    nullable: true\n    null_values: [NO]", 46, "domain", "`NO` also means missing"),
        ("label: {en: Visits, zh: 就诊}", "lable: {en: Visits, zh: 就诊}", 3, "unknown_field", "unknown field `lable`"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old, new, line, kind, message):
    assert old in GOOD
    with pytest.raises(DescriptionError) as caught:
        load(GOOD.replace(old, new, 1))
    assert caught.value.code == f"input.description.{kind}"
    assert caught.value.message.startswith(f"clinic.yaml line {line}: ")
    assert message in caught.value.message
    assert caught.value.hint


def test_an_empty_domain_and_no_columns_are_refused():
    head, _, _ = GOOD.partition("columns:\n")
    with pytest.raises(DescriptionError, match="`columns` is empty"):
        load(head + "columns: []\n")
    column = "  - {name: a, kind: category, label: {en: a, zh: a}, classification: L1, domain: []}\n"
    with pytest.raises(DescriptionError, match="domain of column `a` is empty"):
        load(head + "columns:\n" + column)
