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
    (found,) = caught.value.problems
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
    for name in ("in/a.png", "in/b.png", "in/left.PNG", "in/over.jpg", "in/notes.txt", "no/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    content = "image,label\nin/a.png,x\nin/b.png,y\nin/over.jpg,z\n"
    table = read(content, classes=("x", "y"), drop_others=True)
    assert "not used: 1 images that no row names, such as in/left.PNG" in table.survey.lines()
