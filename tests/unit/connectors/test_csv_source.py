import zipfile
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from connectors.csv_source import CsvSource
from connectors.protocol import storage_schema
from connectors.quality import BrokenReason
from sandbox.crypto.tokens import Tokeniser
from sandbox.errors import FileFormatError
from sandbox.model.canonical import canonical_bytes
from sandbox.model.load_description import load_description

TEXT = """\
dataset: clinic
table: visits
label: {en: Visits, zh: 就诊}
department_zh: 市卫健委
catalogue_id: D10
unit: {kind: patient, column: 患者号, zh: 患者}
bound: {rows: 4, groups: 2}
budget: {rho: 1}
max_rows: 1_000
max_broken_share: SHARE
exclusions:
  - {column: 保密, values: [是], reason: {en: secret, zh: 涉密}}
  - {column: ward, values: ["9"], reason: {en: closed, zh: 封存}}
columns:
  - {name: ward, kind: category, label: {en: w, zh: 病区}, classification: L1, domain: [{value: N, en: n, zh: 北}, {value: S, en: s, zh: 南}]}
  - {name: fee, source: 费用, kind: decimal, label: {en: f, zh: 费}, classification: L3, lower: 0, upper: 100, resolution: 0.01, nullable: true, null_values: ["-"]}
  - {name: seen_on, source: 日期, kind: date, label: {en: d, zh: 日}, classification: L2}
  - {name: note, kind: text, label: {en: t, zh: 注}, classification: L2, nullable: true}
  - {name: aided, kind: boolean, label: {en: a, zh: 助}, classification: L3}
"""
HEADER = "患者号,保密,ward,费用,日期,note,aided,left_out\n"
KEY = b"k" * 32


def description(share="1/2"):
    return load_description(TEXT.replace("SHARE", share), "clinic.yaml")


@pytest.fixture
def source(tmp_path):
    def make(rows, *, share="1/2", header=HEADER, encoding="utf-8", name="visits.csv", **options):
        path = tmp_path / name
        body = header + "".join(row + "\n" for row in rows) if isinstance(rows, list) else rows
        path.write_bytes(body if isinstance(body, bytes) else body.encode(encoding))
        return CsvSource(path, description(share), Tokeniser(KEY), **options)

    return make


def refusal(source):
    with pytest.raises(FileFormatError) as caught:
        list(source)
    error = caught.value
    assert error.hint
    return error


def test_rows_become_batches_in_storage_types(source):
    reader = source(["p1,否,N,12.345,2026-01-31,床 3,是,x", "p2,否,S,-,2026/2/1,,否,y"])
    (batch,) = list(reader)
    assert batch.schema == reader.schema == storage_schema(description())
    assert batch.schema.field("_unit").type == pa.int64()
    assert not batch.schema.field("_unit").nullable
    data = batch.to_pydict()
    assert data.pop("_unit") == np.asarray(Tokeniser(KEY).tokens(["p1", "p2"])).tolist()
    assert data["fee"] == [1235, None]
    assert [str(day) for day in data["seen_on"]] == ["2026-01-31", "2026-02-01"]
    assert (data["ward"], data["note"], data["aided"]) == (["N", "S"], ["床 3", None], [True, False])


def test_the_report_counts_every_row_once(source):
    rows = [
        "p1,否,N,1,2026-01-31,,是,x",
        "p1,是,?,x,x,x,x,x",  # secret, and broken everywhere: excluded, and nothing else
        "p1,否,9,1,2026-01-31,,是,x",
        "p1,否,W,1,2026-01-31,,是,x",
        "p1,否,N,abc,soon,,是,x",
        ",否,N,1,2026-01-31,,是,x",
        "p1,否,N,1",
        "p1,否,N,900,2026-01-31,,是,x",
        "p1,否,N,-,2026-01-31,a,是,x",
        "p1,否,,1,2026-01-31,,是,x",
        "p1,否,W,900,2026-01-31,,是,x",
    ]
    reader = source(rows, share="3/4", batch_rows=3)
    assert sum(batch.num_rows for batch in reader) == 3
    report = reader.report()
    assert (report.rows_read, report.rows_sealed, report.rows_excluded, report.rows_broken) == (11, 3, 2, 6)
    assert report.rows_read == report.rows_sealed + report.rows_excluded + report.rows_broken
    assert report.excluded == (("保密", "secret", 1), ("ward", "closed", 1))
    assert [(b.reason, b.column, b.rows, b.first_rows) for b in report.broken] == [
        (BrokenReason.OUTSIDE_DOMAIN, "ward", 2, (5, 12)),
        (BrokenReason.NOT_A_NUMBER, "fee", 1, (6,)),
        (BrokenReason.UNIT_MISSING, "", 1, (7,)),
        (BrokenReason.FIELD_COUNT, "", 1, (8,)),
        (BrokenReason.VALUE_MISSING, "ward", 1, (11,)),
    ]
    assert report.clamped == (("fee", 1),)
    assert report.nulls == (("fee", 1), ("note", 2))
    assert canonical_bytes(report.to_record())


def test_the_size_of_a_batch_changes_nothing(source):
    rows = [f"p{i % 7},{'是' if i % 5 == 0 else '否'},{'NSW'[i % 3]},{i * 3},2026-01-31,n{i},否,x" for i in range(100)]
    whole, small = source(rows, share="3/4"), source(rows, share="3/4", batch_rows=7)
    assert pa.Table.from_batches(list(whole)).equals(pa.Table.from_batches(list(small)).combine_chunks())
    assert whole.report() == small.report()


def test_an_excluded_row_is_recognised_in_full_width_digits_and_with_spaces(source):
    reader = source(["p1,否, ９ ,1,2026-01-31,,是,x", "p1,否,N,1,2026-01-31,,是,x"])
    assert [batch.num_rows for batch in reader] == [1]
    assert reader.report().rows_excluded == 1


def test_one_key_in_two_spellings_is_one_unit(source):
    (batch,) = list(source([f"{key},否,N,1,2026-01-31,,是,x" for key in ("p1", " p1", "ｐ１")]))
    assert len(set(batch.column("_unit").to_pylist())) == 1


def test_too_many_broken_rows_refuse_the_whole_batch_without_a_value(source):
    rows = ["p1,否,N,1,2026-01-31,,是,x"] * 8 + ["p1,否,secretward,1,2026-01-31,,是,x"] * 2
    reader = source(rows, share="1/10")
    error = refusal(reader)
    assert error.message == "2 of the 10 rows read of file `visits.csv` are broken, the first is row 10"
    assert error.hint.endswith("found: outside the public domain in `ward`")
    assert error.code == "input.file.too_many_broken_rows"
    assert (error.details["rows"], error.details["first_row"]) == (2, 10)
    assert "secretward" not in str(error.to_dict())
    with pytest.raises(FileFormatError, match="was not read to its end"):
        reader.report()


def test_as_many_broken_rows_as_tolerated_are_tolerated(source):
    rows = ["p1,否,N,1,2026-01-31,,是,x"] * 9 + ["p1,否,N"]
    reader = source(rows, share="1/10")
    assert sum(batch.num_rows for batch in reader) == 9
    assert refusal(source(rows, share="99/1000")).code == "input.file.too_many_broken_rows"


def test_a_hopeless_file_is_refused_before_its_end(source):
    seen = []
    reader = source(["p1"] * 900, share="1/1000", batch_rows=10, progress=seen.append)
    assert refusal(reader).details["rows"] == 10
    assert seen == [10]


def test_only_the_first_row_numbers_are_kept(source):
    reader = source(["p1,否,W,1,2026-01-31,,是,x"] * 30 + ["p1,否,N,1,2026-01-31,,是,x"] * 70)
    list(reader)
    (broken,) = reader.report().broken
    assert (broken.rows, broken.first_rows) == (30, tuple(range(2, 12)))


def test_progress_is_told_after_each_batch(source):
    seen = []
    list(source(["p1,否,N,1,2026-01-31,,是,x"] * 25, batch_rows=10, progress=seen.append))
    assert seen == [10, 20, 25]


@pytest.mark.parametrize(
    ("header", "code", "message"),
    [
        (HEADER.replace("费用", "费"), "input.file.missing_column", "column `费用` is not in the header"),
        (HEADER.replace("患者号", "x"), "input.file.missing_column", "the privacy unit's key column `患者号` is not"),
        (HEADER.replace("保密", "x"), "input.file.missing_column", "exclusion column `保密` is not in the header"),
        (HEADER.replace("left_out", "note"), "input.file.duplicate_column", "column `note` is twice in the header"),
        (HEADER.replace(",", ";"), "input.file.missing_column", "the privacy unit's key column `患者号` is not"),
        ("", "input.file.missing_column", "the privacy unit's key column `患者号` is not"),
    ],
)
def test_a_header_that_does_not_fit_is_named(source, header, code, message):
    error = refusal(source(["secretkey,否,N,1,2026-01-31,,是,x"], header=header))
    assert error.code == code
    assert message in error.message
    assert "secretkey" not in str(error.to_dict())


def test_an_empty_file_has_no_header(source):
    assert refusal(source(b"")).message == "file `visits.csv` has no header line"


def test_a_file_without_rows_is_read_and_reported(source):
    reader = source([])
    assert list(reader) == []
    assert (reader.report().rows_read, reader.report().rows_sealed, reader.report().broken) == (0, 0, ())


def test_blank_lines_are_no_rows_and_line_ends_do_not_matter(source):
    body = (HEADER + "p1,否,N,1,2026-01-31,,是,x\n\np2,否,S,2,2026-01-31,,是,x").replace("\n", "\r\n")
    reader = source(body.encode())
    assert sum(batch.num_rows for batch in reader) == 2
    assert reader.report().rows_read == 2


def test_a_quoted_field_may_hold_commas_and_line_breaks(source):
    (batch,) = list(source(['p1,否,N,1,2026-01-31,"a, ""b""\nc",是,x']))
    assert batch.column("note").to_pylist() == ['a, "b"\nc']


@pytest.mark.parametrize("row", ['p1,否,N,1,2026-01-31,"a"b,是,x', 'p1,否,N,1,2026-01-31,"secret,是,x'])
def test_a_stray_quotation_mark_swallows_nothing_silently(source, row):
    error = refusal(source([row, "p2,否,N,1,2026-01-31,,是,x"]))
    assert error.message == "row 2 of file `visits.csv` has a stray quotation mark or a field without an end"
    assert (error.code, error.details["row"]) == ("input.file.quoting", 2)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_swallowed_lines_count_as_broken_rows(source):
    good = "p1,否,N,1,2026-01-31,,是,x"
    reader = source(['p1,否,N,1,2026-01-31,"a', good, good, '",是', *[good] * 10])
    list(reader)
    assert reader.report().broken[0].rows == 4
    assert reader.report().rows_read == 14


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_encodings_of_departments_are_read(tmp_path, encoding):
    path = tmp_path / "visits.csv"
    path.write_bytes((HEADER + "p1,否,N,1,2026-01-31,㐀景德镇𠀀,是,x\n").encode(encoding))
    (batch,) = list(CsvSource(path, description(), Tokeniser(KEY), encoding=encoding))
    assert batch.column("note").to_pylist() == ["㐀景德镇𠀀"]


def test_a_byte_order_mark_decides(tmp_path):
    for mark, codec in ((b"\xef\xbb\xbf", "utf-8"), (b"\x84\x31\x95\x33", "gb18030")):
        for declared in ("utf-8", "gb18030"):
            path = tmp_path / "visits.csv"
            path.write_bytes(mark + (HEADER + "p1,否,N,1,2026-01-31,,是,x\n").encode(codec))
            reader = CsvSource(path, description(), Tokeniser(KEY), encoding=declared)
            assert [batch.num_rows for batch in reader] == [1]
            assert reader.report().encoding == codec


@pytest.mark.parametrize(
    ("codec", "declared", "message"),
    [
        ("gb18030", "utf-8", "file `visits.csv` is not utf-8 text, near line 1"),
        ("utf-8", "gb18030", "file `visits.csv` is declared gb18030 and is UTF-8"),
        ("utf-16", "utf-8", "file `visits.csv` is UTF-16 text"),
        ("utf-8", "latin-1", "encoding `latin-1` is not read here"),
    ],
)
def test_a_wrong_encoding_is_said_and_not_guessed(tmp_path, codec, declared, message):
    path = tmp_path / "visits.csv"
    path.write_bytes((HEADER + "p1,否,N,1,2026-01-31,景德镇,是,x\n").encode(codec))
    error = refusal(CsvSource(path, description(), Tokeniser(KEY), encoding=declared))
    assert (error.message, error.code) == (message, "input.file.encoding")
    assert error.__cause__ is None


def test_a_broken_byte_far_inside_names_its_line(source):
    good = "p1,否,N,1,2026-01-31,,是,x\n"
    body = (HEADER + good * 900).encode() + b"p1,\xff\n"
    error = refusal(source(body))
    assert error.message.startswith("file `visits.csv` is not utf-8 text, near line ")
    assert error.details["line"] <= 902


def archive(path, members):
    with zipfile.ZipFile(path, "w") as target:
        for name, body in members.items():
            target.writestr(name, body)
    return path


def test_a_member_of_an_archive_is_read(tmp_path):
    body = HEADER + "p1,否,N,1,2026-01-31,,是,x\n"
    one = archive(tmp_path / "one.zip", {"visits.csv": body})
    two = archive(tmp_path / "two.zip", {"a/visits.csv": body, "b.csv": "x"})
    for path, member in ((one, None), (one, "visits.csv"), (two, "a/visits.csv")):
        reader = CsvSource(path, description(), Tokeniser(KEY), member=member)
        assert [batch.num_rows for batch in reader] == [1]
        assert [batch.num_rows for batch in reader] == [1]


@pytest.mark.parametrize(
    ("make", "member", "code", "message"),
    [
        (lambda p: archive(p / "a.zip", {"a": "", "b": ""}), None, "member", "archive `a.zip` holds 2 files"),
        (lambda p: archive(p / "a.zip", {"a": ""}), "c", "member", "archive `a.zip` has no member `c`"),
        (lambda p: p / "none.csv", None, "missing", "file `none.csv` does not exist"),
        (lambda p: p / "none.zip", None, "missing", "file `none.zip` does not exist"),
        (lambda p: p, None, "unreadable", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path, make, member, code, message):
    error = refusal(CsvSource(make(tmp_path), description(), Tokeniser(KEY), member=member))
    assert error.code == f"input.file.{code}"
    assert message in error.message
    assert str(tmp_path) not in str(error.to_dict())


def test_a_damaged_archive_is_said(tmp_path):
    body = HEADER + "".join(f"p{i * 7919 % 104729},否,N,{i % 100},2026-01-31,n{i},是,x\n" for i in range(900))
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("visits.csv", body)
    raw = bytearray(path.read_bytes())
    for index in range(2000, 2040):
        raw[index] ^= 0xFF
    path.write_bytes(raw)
    assert refusal(CsvSource(path, description(), Tokeniser(KEY))).code.startswith("input.file.")
    path.write_bytes(b"no archive")
    assert refusal(CsvSource(path, description(), Tokeniser(KEY))).message == "file `a.zip` cannot be opened"


def test_a_plain_file_has_no_members(source):
    error = refusal(source(["p1,否,N,1,2026-01-31,,是,x"], member="a"))
    assert (error.message, error.code) == (
        "`visits.csv` is no zip archive and has no members",
        "input.file.member",
    )


def test_a_line_without_an_end_does_not_fill_the_memory(source):
    error = refusal(source(HEADER.encode() + b"x" * (3 << 20)))
    assert (error.message, error.code) == ("line 2 of file `visits.csv` is too long", "input.file.line_too_long")


def test_more_rows_than_the_public_ceiling_are_refused(source):
    rows = ["p1,否,N,1,2026-01-31,,是,x"] * 1001
    assert sum(batch.num_rows for batch in source(rows[:1000])) == 1000
    error = refusal(source(rows))
    assert (error.message, error.code) == (
        "file `visits.csv` has more rows than the description allows",
        "input.file.too_many_rows",
    )


def test_another_delimiter_is_read(source):
    (batch,) = list(source(["p1;否;N;1;2026-01-31;a,b;是;x"], header=HEADER.replace(",", ";"), delimiter=";"))
    assert batch.column("note").to_pylist() == ["a,b"]


def test_the_schema_follows_the_description():
    schema = storage_schema(description())
    assert schema.names == ["_unit", "ward", "fee", "seen_on", "note", "aided"]
    assert [str(field.type) for field in schema] == ["int64", "string", "int64", "date32[day]", "string", "bool"]
    assert [field.nullable for field in schema] == [False, False, True, False, True, False]
    assert description().column("fee").resolution == Fraction(1, 100)
