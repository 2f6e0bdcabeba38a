"""Where the images that a CSV file names are: in one folder, or in several below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightx import DataError
from sightx.builtin.datasets.csv import CsvDataset
from sightx.data.cache.file_hashes import stat_files
from sightx.init.infer_columns import csv_files_settings, csv_settings
from sightx.records.table import ImageTable


def write(folder: Path, rows: dict[str, str], *files: str, name: str = "semi.csv") -> Path:
    """Write a CSV file of names and labels, next to empty files."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lines = [f"{cell},{label}" for cell, label in rows.items()]
    (folder / name).write_text("\n".join(["name,kind", *lines]))
    return folder / name


def table_of(settings: dict[str, object]) -> ImageTable:
    """Return the table that settings describe; all of its files exist."""
    del settings["use"]
    table = CsvDataset(**settings | {"root": Path(str(settings["root"]))}).table()  # type: ignore[arg-type]
    assert not stat_files(table).errors
    return table


CATS = {f"cat{k}": "cat" for k in range(8)}
DOGS = {f"dog{k}.jpg": "dog" for k in range(8)}
FILES = [
    *(f"pets/felis/cat{k}.png" for k in range(8)),
    *(f"pets/canis/dog{k}.jpg" for k in range(8)),
]


def test_images_in_a_folder_per_class_are_found_by_their_names(tmp_path: Path) -> None:
    settings, _ = csv_settings(write(tmp_path, CATS | DOGS, *FILES))
    assert settings["search_subfolders"] is True
    table = table_of(settings)
    assert table.frame["path"].tolist() == FILES
    assert list(table.counts()) == [8, 8]


def test_a_folder_that_has_each_name_once_is_preferred(tmp_path: Path) -> None:
    copies = [file.replace("pets", "thumbs") for file in FILES]
    settings, _ = csv_settings(write(tmp_path, CATS | DOGS, *FILES, *copies))
    assert (settings["images"], settings["search_subfolders"]) == ("pets", True)
    assert len(table_of(settings)) == 16


def test_one_folder_needs_no_search(tmp_path: Path) -> None:
    names = [f"pets/{name}" for name in DOGS]
    settings, _ = csv_settings(write(tmp_path, DOGS | {"dog7.jpg": "cat"}, *names))
    assert settings["images"] == "pets"
    assert "search_subfolders" not in settings


def test_tables_of_two_splits_share_the_search(tmp_path: Path) -> None:
    train = write(tmp_path, CATS | DOGS, *FILES, name="train.csv")
    more = [f"pets/{kind}/new{k}{kind}.png" for kind in ("felis", "canis") for k in range(4)]
    rows = {Path(file).name: "cat" if "felis" in file else "dog" for file in more}
    settings, remarks = csv_files_settings([train, write(tmp_path, rows, *more, name="val.csv")])
    assert "labels" not in remarks
    assert settings["validation_labels"] == "val.csv"
    assert len(table_of(settings)) == 24


@pytest.mark.parametrize("labels", ["felis canis", "cat dog"])
def test_names_of_several_files_are_counted(tmp_path: Path, labels: str) -> None:
    first, second = labels.split()
    rows = {f"{k}.png": first for k in range(6)} | {f"./{k}.png": second for k in range(6)}
    files = [f"{kind}/{k}.png" for kind in ("felis", "canis") for k in range(6)]
    with pytest.raises(DataError) as caught:
        csv_settings(write(tmp_path, rows, *files))
    (problem,) = caught.value.problems
    assert problem.code == "ambiguous-image"
    assert "12 of 12 names are those of several files" in problem.message
    assert "canis/0.png and felis/0.png" in problem.message
    assert (f"sightx init {tmp_path}" in problem.hint) == (labels == "felis canis")
