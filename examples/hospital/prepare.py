"""Make encounters.csv.zip from the archive that the UCI Machine Learning Repository publishes.

    python prepare.py <the UCI archive> [<the file to write>]

The archive is dataset 296, "Diabetes 130-US hospitals for years 1999-2008".  All rows are kept, in their order, and
every value as it is; columns that the example has no use for are left out.  The same archive gives the same bytes,
with the same version of zlib.
"""

import csv
import io
import sys
import zipfile
from pathlib import Path

MEMBER = "encounters.csv"
COLUMNS = (
    "patient_nbr", "gender", "age", "admission_type_id", "discharge_disposition_id", "admission_source_id",
    "time_in_hospital", "payer_code", "medical_specialty", "num_lab_procedures", "num_procedures", "num_medications",
    "number_outpatient", "number_emergency", "number_inpatient", "diag_1", "number_diagnoses", "max_glu_serum",
    "A1Cresult", "insulin", "change", "diabetesMed", "readmitted",
)


def read_rows(archive_path):
    """Yield the chosen columns of every row, the header first."""
    with zipfile.ZipFile(archive_path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("diabetic_data.csv") and "__MACOSX" not in n]
        with archive.open(name) as raw:
            rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
            header = next(rows)
            places = [header.index(column) for column in COLUMNS]
            yield COLUMNS
            for row in rows:
                yield [row[place] for place in places]


def write_archive(rows, target):
    """Write the rows as one CSV file in a zip archive whose bytes depend on nothing else; return their number."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    count = -1
    for row in rows:
        writer.writerow(row)
        count += 1
    entry = zipfile.ZipInfo(MEMBER, date_time=(2014, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, text.getvalue().encode("utf-8"), compresslevel=9)
    return count


def main(arguments):
    """Read the archive that the first argument names; write beside this file, or where the second says."""
    if len(arguments) not in {1, 2}:
        sys.exit(__doc__)
    target = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).with_name("encounters.csv.zip")
    count = write_archive(read_rows(Path(arguments[0])), target)
    print(f"{target.name}: {count} rows, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
