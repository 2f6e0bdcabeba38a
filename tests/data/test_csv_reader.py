"""The formats of CSV files, and what is left out of them; test_csv_labels.py has the faults."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from sightx.data.csv_reader import CsvFormat, detect_format, header_problems, read_csv
from sightx.errors import DataError


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "a.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sep=;\nimage;label\na;x, y\n", 3),
        ("image;label\r\na;x, y\r\n", 2),
        ("# by me, in May\n\n#2\nimage;label\n# of a\na;x, y\n", 6),
        ('image;label\n"";\n;\n  \na;"x, y"\n# the end\n', 5),
    ],
)
def test_cells_are_those_of_the_csv_module(tmp_path: Path, text: str, line: int) -> None:
    frame = read_csv(write(tmp_path, text), ["image", "label"], separator=";")
    ((row, cells),) = zip(frame.index, frame.to_numpy().tolist(), strict=True)
    lines = text.splitlines()
    assert (row, cells) == (line, next(csv.reader([lines[line - 1]], delimiter=";")))


def test_what_is_left_out_is_counted_with_its_lines(tmp_path: Path) -> None:
    text = "# by me\n,image,label,\n0,a,x,\n,,,\n# a is blurred\n1,#b,y,\n \n"
    frame = read_csv(write(tmp_path, text), ["image"])
    assert frame.attrs == {"nameless": [1, 4], "empty": [4, 7], "comments": [1, 5]}
    assert frame["image"].tolist() == ["a", "#b"]


def test_a_header_may_begin_with_a_number_sign(tmp_path: Path) -> None:
    frame = read_csv(write(tmp_path, "#,image\n0,a\n"), ["#", "image"])
    assert frame.to_numpy().tolist() == [["0", "a"]]
    assert len(read_csv(write(tmp_path, "#,image\n"), ["#"])) == 0


@pytest.mark.parametrize(
    ("separator", "given", "hint"),
    [
        (";", ",", 'set separator = ";" in [dataset]'),
        ("\t", ",", 'set separator = "\\t" in [dataset]'),
        (",", ";", 'set separator = "," in [dataset]'),
        ("|", None, "save it with commas"),
    ],
)
def test_another_separator_is_recognised(
    tmp_path: Path, separator: str, given: str | None, hint: str
) -> None:
    path = write(tmp_path, separator.join(["image", "label, or not", "note; 1"]))
    with pytest.raises(DataError, match=r"missing-column.*separated by") as caught:
        read_csv(path, ["image"], separator=given)
    assert caught.value.problems[0].hint.endswith(hint)


@pytest.mark.parametrize(
    ("encoding", "given", "hint"),
    [
        ("utf-16", "utf-8", 'encoding = "utf-16" in [dataset]'),
        ("utf-16-le", "utf-8", 'encoding = "utf-16-le" in [dataset]'),
        ("latin-1", "utf-8", 'encoding = "cp1252" in [dataset]'),
        ("latin-1", None, "save it as UTF-8"),
    ],
)
def test_another_encoding_is_recognised(
    tmp_path: Path, encoding: str, given: str | None, hint: str
) -> None:
    text = "image,label\né,x\n" if encoding == "latin-1" else "image,label\n"
    path = write(tmp_path, text, encoding)
    with pytest.raises(DataError, match=r"a\.csv:\d: error\[encoding\]") as caught:
        read_csv(path, ["image"], encoding=given)
    (found,) = caught.value.problems
    assert found.hint.endswith(hint)
    if given:
        proposed = found.hint.split('"')[1]
        assert read_csv(path, ["image"], encoding=proposed).columns.tolist() == ["image", "label"]


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("image,label\na;b,c\n", "utf-8", CsvFormat(",", "utf-8")),
        ("image\n", "utf-8", CsvFormat(",", "utf-8")),
        ("", "utf-8", CsvFormat(",", "utf-8")),
        ("a;b, c;d\n", "utf-8", CsvFormat(";", "utf-8")),
        ('"a;b;c",d\n', "utf-8", CsvFormat(",", "utf-8")),
        ("# a, b, c and d\nimage;label\n", "utf-8", CsvFormat(";", "utf-8")),
        ("image|label\n", "utf-16", CsvFormat("|", "utf-16")),
        ("image\tgüte\n", "latin-1", CsvFormat("\t", "cp1252")),
    ],
)
def test_the_format_is_detected(
    tmp_path: Path, text: str, encoding: str, expected: CsvFormat
) -> None:
    assert detect_format(write(tmp_path, text, encoding)) == expected


def test_a_cell_without_an_end_is_not_a_quote_without_an_end(tmp_path: Path) -> None:
    long = "x" * (csv.field_size_limit() + 1)
    with pytest.raises(DataError, match=r"csv:2: error\[csv-syntax\] a cell has more than 131,072"):
        read_csv(write(tmp_path, f"image,label\na,{long}\n"), ["image"])
    with pytest.raises(DataError, match=r"csv:3: error\[csv-syntax\] a quote is never closed"):
        read_csv(write(tmp_path, f'image,label\na,x\n"b,{long}\n'), ["image"])


def test_the_header_of_a_pipe_is_left_to_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.csv")  # to open it would wait for a writer
    assert header_problems(tmp_path / "labels.csv", "dataset.labels", {"image": ""}) == ()
