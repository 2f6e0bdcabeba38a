"""Tables from one CSV file or several, and what they did not use."""

from __future__ import annotations

import pytest

from sightx.data.csv_table import table_from_csv
from sightx.errors import LINE_LIMIT, DataError


@pytest.fixture
def read(tmp_path):
    """Write CSV files, and read them as one table; the images need not exist."""

    def call(*contents, **settings):
        names = ("train.csv", "validation.csv", "test.csv")
        for name, content in zip(names, contents, strict=False):
            (tmp_path / name).write_text(content)
        more = {name[:-4]: tmp_path / name for name in names[1 : len(contents)]}
        columns = {"root": tmp_path, "image": "image", "label": "label", "more": more}
        return table_from_csv(tmp_path / "train.csv", **{**columns, **settings})

    return call


def problem(read, *contents, **settings):
    with pytest.raises(DataError) as caught:
        read(*contents, **settings)
    found, *_ = caught.value.problems
    assert len(str(found)) <= LINE_LIMIT
    return found


def test_columns_without_a_name_do_not_count(read):
    table = read(",image,label,,\n0,a.png,x,,\n1,b.png,y,,7\n")
    assert table.frame["path"].tolist() == ["a.png", "b.png"]
    assert table.survey.lines() == [
        "not used: 3 columns without a name, such as column 1 of train.csv"
    ]


def test_empty_cells_behind_the_last_column_do_not_count(read):
    assert len(read(" image , label\na.png,x,,\nb.png,y, \n")) == 2
    assert problem(read, "image,label\na.png,x,z\nb.png,y\n").code == "ragged-row"


def test_a_file_without_a_header_is_recognised(read):
    for content in ("a.png,x\nb.png,y\n", "1_left,0\n1_right,1\n"):
        found = problem(read, content)
        assert (found.code, found.line) == ("no-header", 1)
        assert "2 columns" in found.hint
    table = read("a.png,x\nb.png,y\n", columns=("image", "label"))
    assert table.frame["path"].tolist() == ["a.png", "b.png"]
    assert [table.line(row) for row in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "cell", [" in/a.png ", "in\\a.png", "{root}/in/a.png", "{root}/./in/a.png"]
)
def test_blanks_backslashes_and_absolute_paths_are_understood(read, tmp_path, cell):
    table = read(f"image,label\n{cell.format(root=tmp_path)},x\nb.png,y\n")
    assert table.frame["path"].tolist() == ["in/a.png", "b.png"]


def test_absolute_paths_below_the_folder_that_a_link_means_are_understood(read, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    table = read(
        f"image,label\n{tmp_path}/real/a.png,x\n{tmp_path}/link/b.png,y\n",
        root=tmp_path / "link",
    )
    assert table.frame["path"].tolist() == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "cell", ["/etc/passwd", "..\\..\\etc\\passwd", "{root}/../a", "{root}2/a.png"]
)
def test_paths_out_of_the_folder_are_refused_in_every_form(read, tmp_path, cell):
    found = problem(read, f"image,label\nb.png,y\n{cell.format(root=tmp_path)},x\n")
    assert (found.code, found.line) == ("path-outside", 3)


def test_files_of_several_splits_are_one_table(read, tmp_path):
    table = read(
        "image,label\na.png,x\nb.png,y\n", "image,label\nc.png,y\n", "label,image\nx,d.png\n"
    )
    assert table.frame["path"].tolist() == ["a.png", "b.png", "c.png", "d.png"]
    assert table.frame["split"].tolist() == ["train", "train", "validation", "test"]
    assert table.labels.tolist() == [0, 1, 1, 0]
    assert table.place(0) == (str(tmp_path / "train.csv"), 2)
    assert table.place(3) == (str(tmp_path / "test.csv"), 2)


def test_faults_in_the_file_of_another_split_name_that_file(read, tmp_path):
    train = "image,label\na.png,x\nb.png,y\n"
    found = problem(read, train, "image,label\nc.png,\n")
    assert (found.file, found.line) == (str(tmp_path / "validation.csv"), 2)
    found = problem(read, train, "image,label\nc.png,x\na.png,x\n")
    assert (found.code, found.file, found.line) == (
        "duplicate-row", str(tmp_path / "validation.csv"), 3,
    )  # fmt: skip
    assert "first on line 2 of" in found.message
    assert problem(read, train, "image,label\na.png,y\n").code == "conflicting-labels"
    assert problem(read, train, "image\na.png\n").code == "missing-column"


def test_rows_of_other_classes_are_dropped_and_counted(read):
    content = "image,label\na.png,x\nb.png,y\nc.png,z\nd.png,z\n"
    assert problem(read, content, classes=("y", "x")).code == "label-unknown"
    table = read(content, classes=("y", "x"), drop_others=True)
    assert table.frame["path"].tolist() == ["a.png", "b.png"]
    assert table.survey.lines() == ["not used: 2 rows of 'z', which is not a class, such as c.png"]


@pytest.mark.parametrize(("cell", "code"), [("X", "label-unknown"), ("", "label-missing")])
def test_a_misspelt_class_or_an_empty_cell_is_not_dropped(read, cell, code):
    content = f"image,label\na.png,x\nb.png,y\nc.png,{cell}\n"
    assert problem(read, content, classes=("x", "y"), drop_others=True).code == code


def test_images_that_no_row_names_are_counted(read, tmp_path):
    for name in (
        "in/a.png",
        "in/b.png",
        "in/left.PNG",
        "in/over.jpg",
        "in/notes.txt",
        "no/c.png",
        "in/masks/a.png",
        "in/run/plot.png",
        "in/run/experiment.toml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    content = "image,label\nin/a.png,x\nin/b.png,y\nin/over.jpg,z\n"
    table = read(content, classes=("x", "y"), drop_others=True)
    assert "not used: 2 images that no row names, such as in/left.PNG" in table.survey.lines()


def test_images_of_other_splits_that_no_row_names_are_counted(read, tmp_path):
    for name in ("train/a.png", "train/b.png", "test/c.png", "labels/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (line,) = read("image,label\ntrain/a.png,x\ntrain/b.png,y\n").survey.lines()
    assert line == "not used: 1 image that no row names: test/c.png"
    (line,) = read("image,label\na.png,x\nb.png,y\n", root=tmp_path / "train").survey.lines()
    assert line == "not used: 1 image that no row names: ../test/c.png"


def test_rows_that_are_left_out_are_counted(read):
    content = "#by me\nimage,label,split\na.png,x,train\nb.png,y,\nc.png,y,test\nd.png,x, \n,,\n"
    table = read(content, split="split", more=None)
    assert table.survey.lines() == [
        "not used: 1 comment: line 1 of train.csv",
        "not used: 1 empty row: line 7 of train.csv",
        "not used: 2 rows without a split, such as b.png",
    ]
    assert table.frame["split"].tolist() == ["train", "", "test", ""]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c,1,1,0", "this row has cat 1, dog 1, fish 0"),
        ("c,0,0,0", "this row has cat 0"),
        ("c,0.5,0.5,0", "this row has cat 0.5"),
        ("c,1,,0", "dog , fish 0"),
        ("c,nan,1,0", "cat nan"),
        ("c,2,0,1", "cat 2"),
    ],
)
def test_a_row_of_one_hot_columns_has_one_class(read, row, message):
    rows = "image,cat,dog,fish\na,0,1.0,0\nb, 1,0,0\n"
    columns = {"label": "", "one_hot": ("cat", "dog", "fish")}
    table = read(f"{rows}c,0.0,0,1\n", **columns)
    assert (table.classes, table.labels.tolist()) == (("cat", "dog", "fish"), [1, 0, 2])
    found = problem(read, f"{rows}{row}\n", **columns)
    assert (found.code, found.line) == ("label-type", 4)
    assert message in found.message


def test_one_hot_columns_can_be_a_choice_of_classes(read):
    rows = "image,cat,dog,fish\na,0,1,0\nb,1,0,0\nc,0,0,1\n"
    columns = {"label": "", "one_hot": ("cat", "dog", "fish")}
    table = read(rows, **columns, classes=("dog", "cat"), drop_others=True)
    assert table.labels.tolist() == [0, 1]
    assert table.survey.lines() == ["not used: 1 row of 'fish', which is not a class: c"]


def test_many_numbers_with_fractions_are_doubtful(read):
    rows = "".join(f"{n}.png,{n}.5\n" for n in range(12))
    (doubt,) = read(f"image,label\n{rows}").survey.doubts
    assert doubt.message == "12 classes are numbers with fractions, such as 0.5"
    assert read("image,label\na,0.5\nb,1.5\nc,12.0\n").survey.doubts == ()


def test_the_way_out_for_paths_of_another_machine_works(read, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    rows = "image,label\n" + "".join(f"/home/me/data/{n}.png,{n}\n" for n in range(3))
    found = problem(read, rows, strip_prefix="")
    assert (found.code, found.line) == ("path-outside", 2)
    assert found.hint == 'set strip_prefix = "/home/me/data/" in [dataset]'
    assert len(read(rows, strip_prefix="/home/me/data/")) == 3
    assert len(read(rows, strip_prefix="/home/me/data")) == 3
    assert "did you mean 0.png? write paths below" in problem(read, rows).hint


def test_urls_of_files_and_home_folders_are_paths(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table = read(f"image,label\nfile://{tmp_path}/a%20b.png,x\n~/c/d.png,y\n")
    assert table.frame["path"].tolist() == ["a b.png", "c/d.png"]
    found = problem(read, "image,label\na.png,x\nhttps://example.org/a.png,y\n")
    assert (found.code, found.line) == ("path-invalid", 3)
    assert "download" in found.hint


def test_names_may_lack_folders_and_endings(read, tmp_path):
    for path in ("x/1.png", "y/z/2.jpg", "y/3.png", "3.png", ".hidden/2.jpg", "x/4.tar.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    rows = "image,label\n1.png,x\nz/2.jpg,y\n3.png,x\n4.tar,y\n5.png,y\n"
    table = read(rows, search_subfolders=True)
    assert table.frame["path"].tolist() == ["x/1.png", "y/z/2.jpg", "3.png", "x/4.tar.png", "5.png"]
    assert table.survey.lines() == ["not used: 1 image that no row names: y/3.png"]


def test_a_name_of_two_files_is_refused(read, tmp_path):
    for path in ("x/1.png", "y/1.png", "x/2.png", "y/2.png"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    found = problem(read, "image,label\n1.png,x\ny/2,y\n", search_subfolders=True)
    assert (found.code, found.line) == ("ambiguous-image", 2)
    assert "'1.png' is the name of 2 files, x/1.png and y/1.png" in found.message
    (tmp_path / "y" / "2.png").unlink()
    table = read("image,label\nx/1.png,x\n2,y\n", search_subfolders=True)
    assert table.frame["path"].tolist() == ["x/1.png", "x/2.png"]
