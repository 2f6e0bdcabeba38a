from __future__ import annotations

import pandas as pd
import pytest

from sightx.data.csv_labels import read_exclusions, require_folder
from sightx.data.csv_reader import read_csv
from sightx.data.csv_table import table_from_csv
from sightx.errors import LINE_LIMIT, DataError, SpecError
from sightx.records.faults import Faults

GRADES = ("none", "mild", "moderate", "severe", "proliferative")


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def table(write, tmp_path):
    """Read a CSV of grades, or of names where classes are left out."""

    def read(content, **settings):
        given = {"classes": GRADES, "numbers": True} if "classes" not in settings else {}
        columns = {"image": "image", "label": "level", "root": tmp_path}
        return table_from_csv(write(content), **{**columns, **given, **settings})

    return read


def problem(read, *arguments, **settings):
    with pytest.raises(DataError) as caught:
        read(*arguments, **settings)
    found, *_ = caught.value.problems
    assert len(str(found)) <= LINE_LIMIT
    assert "\n" not in str(found)
    assert found.hint
    return found


# Reading


def test_cells_are_strings_as_the_csv_module_of_pandas_reads_them(write):
    path = write('image,level\na,01\n"b, ""c""",\n')

    frame = read_csv(path, ["image", "level"])

    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert frame.reset_index(drop=True).equals(expected)
    assert frame["image"].tolist() == ["a", 'b, "c"']


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"image,level\na,0\nb,1\n", [2, 3]),
        (b"\xef\xbb\xbfimage,level\r\na,0\r\nb,1\r\n", [2, 3]),
        (b"image,level\ra,0\rb,1", [2, 3]),
        (b"\n\nimage,level\n\na,0\n\n\nb,1\n\n", [5, 8]),
        (b'image,level\n"a\n\nx",0\nb,1\n', [2, 5]),
        ("image,level\na\u2028\x0b,0\nb\x85,1\n".encode(), [2, 3]),
    ],
    ids=["unix", "bom-crlf", "old-mac", "blank", "quoted-newlines", "unusual-separators"],
)
def test_lines_are_those_of_an_editor(write, content, lines):
    frame = read_csv(write(content), ["image", "level"])

    assert frame.index.tolist() == lines
    assert frame["level"].tolist() == ["0", "1"]


def test_a_column_called_line_is_the_users(table):
    found = table("image,level,line\na,0,7\nb,1,8\n", group="line")

    assert found.groups.tolist() == ["7", "8"]
    assert [found.line(row) for row in (0, 1)] == [2, 3]


@pytest.mark.parametrize(
    ("content", "code", "line", "words"),
    [
        ("image,level\na,0\nb,1,2\n", "ragged-row", 3, ["row of 3", "2 columns"]),
        ("image,level\na,0\n\nb\n", "ragged-row", 4, ["row of 1"]),
        ('image,level\na,0\n"b,1\nc,2\n', "csv-syntax", 3, ["never closed"]),
        ('image,level\n"b,1\n' + "c,2\n" * 50_000, "csv-syntax", 2, ["never closed"]),
        ('image,level\n"b"x,1\n', "csv-syntax", 2, []),
        ("image,level,image\na,0,b\n", "duplicate-column", 1, ["'image'"]),
        ("\nimage,level,image\na,0,b\n", "duplicate-column", 2, ["'image'"]),
        ("image;level\na;0\n", "missing-column", 1, ["';'", "comma"]),
        ("image\tlevel\na\t0\n", "missing-column", 1, ["comma"]),
        ("image,Levels\na,0\n", "missing-column", 1, ["'level'", "did you mean 'Levels'?"]),
        ("image,IMAGE_ID\na,0\n", "missing-column", 1, ["image, IMAGE_ID"]),
        ("", "empty-file", 0, []),
        ("\n\n", "empty-file", 0, []),
        ("image,level\nJos\xe9,0\n".encode("latin-1"), "encoding", 2, ["0xe9", "offset 15"]),
        ("image,level\n".encode("utf-16"), "encoding", 1, ["0xff", "offset 0"]),
    ],
)
def test_an_unreadable_file_is_named_with_its_line(table, content, code, line, words):  # D10, D11
    found = problem(table, content)

    assert (found.code, found.line) == (code, line)
    assert found.file.endswith("labels.csv")
    assert all(word in str(found) for word in words)


def test_a_missing_file_names_those_next_to_it(write, tmp_path):
    write("image,level\n")

    found = problem(read_csv, tmp_path / "label.csv", ["image"])

    assert found.code == "unreadable"
    assert "labels.csv" in found.hint


# D06, D07, D08: labels


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "N/A", "null"])
def test_an_empty_label_is_named(table, cell):
    for settings in ({}, {"classes": None}):
        found = problem(table, f"image,level\na,0\nb,1\nc,{cell}\nd,x\n", **settings)

        assert (found.code, found.line) == ("label-missing", 4)
        assert "level" in found.message


@pytest.mark.parametrize("cell", ["2.5", "x", "1_0", "inf", "-nan", "1e-1"])
def test_a_grade_must_be_a_whole_number(table, cell):
    found = problem(table, f"image,level\na,0\nb,{cell}\nc,{cell}\n")

    assert (found.code, found.line) == ("label-type", 3)
    assert cell in found.message


@pytest.mark.parametrize("cell", ["5", "-1", "-100", "1e9"])
def test_a_label_out_of_range_is_named(table, cell):
    found = problem(table, f"image,level\na,0\nb,{cell}\n")

    assert (found.code, found.line) == ("label-range", 3)
    assert cell in found.message
    assert "0..4" in found.message


def test_whole_numbers_may_be_written_as_floats(table):
    found = table("image,level\na,2.0\nb, 4\nc,0\n")

    assert found.labels.tolist() == [2, 4, 0]
    assert found.classes == GRADES


def test_names_are_sorted_or_as_declared(table):
    content = "image,level\na,dog\nb, cat\nc,dog\n"

    assert table(content, classes=None).classes == ("cat", "dog")
    assert table(content, classes=None).labels.tolist() == [1, 0, 1]
    assert table(content, classes=("dog", "cat")).labels.tolist() == [0, 1, 0]


def test_spellings_of_one_class_are_one_class(table):
    content = "image,level\na,0\nb,0.0\nc,00\nd,1\ne, 1 \nf,2\ng,10\n"

    found = table(content, classes=None, ordered=True)

    assert found.classes == ("0", "1", "2", "10")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert table(content, classes=("10", "2", "1", "0")).labels.tolist() == [3, 3, 3, 2, 2, 1, 0]
    accents = table("image,level\na,caf\u00e9\nb,cafe\u0301\nc,x\n", classes=None)
    assert accents.classes == ("caf\u00e9", "x")
    assert accents.labels.tolist() == [0, 0, 1]


def test_labels_that_differ_in_case_are_named_unless_both_are_declared(table):
    content = "image,level\na,Cat\nb,cat\nc,cat\nd,dog\n"

    found = problem(table, content, classes=None)

    assert found.code == "class-spelling"
    assert "'cat' (2) and 'Cat' (1)" in found.message
    assert table(content, classes=("cat", "Cat", "dog")).labels.tolist() == [1, 0, 0, 2]
    found = problem(table, content, classes=("cat", "dog"))
    assert (found.code, found.line, found.hint) == ("label-unknown", 2, "did you mean 'cat'?")
    assert "'Cat'" in found.message


def test_ordered_names_need_their_order(table):
    content = "image,level\na,none\nb,mild\nc,severe\n"

    with pytest.raises(SpecError, match=r'classes = \["none", "mild", "severe"\]'):
        table(content, classes=None, ordered=True)
    assert table(content, classes=("none", "mild", "severe"), ordered=True).ordered


def test_an_unknown_name_brings_the_nearest(table):
    found = problem(table, "image,level\na,dog\nb,Catt\n", classes=("cat", "dog"))

    assert (found.code, found.line, found.hint) == ("label-unknown", 3, "did you mean 'cat'?")


def test_none_is_a_class_and_na_must_be_declared(table):
    content = "image,level\na,none\nb,mild\n"

    assert table(content, classes=None).classes == ("mild", "none")
    assert table(content, classes=GRADES).labels.tolist() == [0, 1]
    assert "dataset.classes" in problem(table, "image,level\na,NA\nb,x\n", classes=None).hint


def test_one_class_is_none(table):
    assert problem(table, "image,level\na,x\nb,x\n", classes=None).code == "no-classes"


# D01, D02: paths


@pytest.mark.parametrize("cell", ["../../etc/passwd", "/etc/passwd", "a/../../x", "a/..", "//x"])
def test_a_path_out_of_the_folder_is_refused(table, cell):
    found = problem(table, f"image,level\na,0\n{cell},1\n")

    assert (found.code, found.line) == ("path-outside", 3)
    assert cell in found.message


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("a\0b", "path-invalid"),
        ("x" * 300, "path-invalid"),
        ("é" * 130, "path-invalid"),
        ("x/" * 600, "path-invalid"),
        ("", "path-empty"),
        ("  ", "path-empty"),
    ],
)
def test_invalid_file_names_are_refused(table, cell, code):
    found = problem(table, f"image,level\na,0\n{cell},1\n")

    assert (found.code, found.line) == (code, 3)


def test_the_suffix_counts_to_the_name(table):
    assert table(f"image,level\n{'x' * 251},1\n").frame["path"][0] == "x" * 251
    assert problem(table, f"image,level\n{'x' * 251},1\n", suffix=".jpeg").code == "path-invalid"


# D04: twice


@pytest.mark.parametrize("again", ["a/b.png", "./a/b.png", "a//b.png"])
def test_a_row_that_stands_twice_names_both(table, again):
    found = problem(table, f"image,level\na/b.png,1\nc,0\n{again},1\n")

    assert (found.code, found.line) == ("duplicate-row", 4)
    assert "line 2" in found.message


def test_an_image_with_two_labels_names_both(table):
    with pytest.raises(DataError) as caught:
        table("image,level\nx,0\na,1\na,1.0\ny,0\na,3\ny,0\n")
    again, found = caught.value.problems

    assert (again.code, again.line) == ("duplicate-row", 4)
    assert "2 images" in again.hint
    assert (found.code, found.line) == ("conflicting-labels", 6)
    assert "'severe' here, but 'mild' on line 3" in found.message


# Groups, splits, D13


def test_groups_come_from_a_column_or_from_the_name(table):
    content = "image,level,who\n1_l,0,p \n1_r,1,p\n2_l,0,\n"

    by_column = table(content, group="who").groups.tolist()
    by_name = table(content, group=lambda cell: cell[0], suffix=".png").groups.tolist()

    assert by_column == ["p", "p", "\x002_l"]
    assert by_name == ["1", "1", "2"]


def test_splits_may_have_their_usual_short_names(table):
    content = "image,level,split\n" + "".join(
        f"{number},0,{split}\n"
        for number, split in enumerate(
            ["train", "Training", "val", "DEV", "validation", "test", ""]
        )
    )

    splits = table(content, split="split").frame["split"].tolist()

    assert splits == [*["train"] * 2, *["validation"] * 3, "test", ""]
    found = problem(table, content + "x,0,deaf\n", split="split")
    assert (found.code, found.line) == ("split-unknown", 9)


def test_a_header_alone_is_an_empty_table(table):
    assert len(table("image,level\n")) == 0
    assert len(table("image,level\n", classes=None)) == 0


# What to leave out


def test_excluded_paths_bring_their_reasons(write):
    path = write("path,reason,row\na.png,blurred,3\nb.png,,9\n")

    excluded = read_exclusions(path, ["a.png", "b.png", "c.png"], Faults())
    assert excluded == {"a.png": "blurred", "b.png": ""}


def test_an_excluded_path_that_is_none_is_an_error(write):
    def read(path):
        faults = Faults()
        read_exclusions(path, ["a.png", "fish_b.png"], faults)
        faults.refuse(None)

    found = problem(read, write("path,reason\na.png,x\nfish_b,y\n"))

    assert (found.code, found.line) == ("exclude-unknown", 3)
    assert found.hint == "did you mean 'fish_b.png'?"


# Folders


def test_a_folder_that_is_there_is_returned(tmp_path):
    assert require_folder(tmp_path, "dataset.root") == tmp_path


def test_a_missing_folder_and_an_unset_place_say_the_way(tmp_path):
    missing = problem(require_folder, tmp_path / "x", "dataset.root")
    unset = problem(require_folder, type(tmp_path)("@fish/small"), "dataset.root")
    own = problem(require_folder, type(tmp_path)("@fish"), "dataset.root", "catch some")

    assert str(tmp_path / "x") in missing.message
    assert "--set dataset.root=FOLDER" in missing.hint
    assert unset.message == "the place @fish is not set"
    assert 'fish = "FOLDER"' in unset.hint
    assert own.hint == "catch some"
    assert {p.code for p in (missing, unset, own)} == {"missing-data"}


def test_a_header_of_a_million_columns_is_refused_at_once(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(",".join(f"c{number}" for number in range(1_000_000)) + "\n")
    with pytest.raises(DataError, match=r"too-large\] the header has 1000000 columns"):
        read_csv(path, ["image"])
