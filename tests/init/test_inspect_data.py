"""The facts about data; every spec that is written is valid and runs an epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx import DataError, Experiment, PluginError
from sightx.init.inspect_data import infer_scale, inspect_data
from sightx.init.write_spec import DatasetFacts, write_spec
from sightx.plugin import Dataset
from sightx.registry import loading, project
from sightx.registry.registry import Plugin

Write = Callable[[Path], Experiment]


def images(folder: Path, names: Iterable[str], mode: str = "RGB", size: int = 40) -> None:
    """Write images of noise, `size` + 10 wide and `size` high, other ones in each folder."""
    rng = np.random.default_rng([*folder.name.encode()])
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (size, size + 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)


def table(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def inspect(data: Path) -> DatasetFacts:
    return inspect_data(data, loading.load_registry(project.find_project(data.parent)))


@pytest.fixture
def ran(tmp_path: Path) -> Write:
    """Write the spec of some data, run one epoch of it, and return the experiment."""

    def call(data: Path) -> Experiment:
        spec = data.parent / "written.toml"
        spec.write_text(write_spec(inspect(data)))
        assert max(map(len, spec.read_text().splitlines())) <= 100
        experiment = sightx.load(spec)
        short = sightx.load(spec, ["training.epochs=1", "execution.device=cpu"])
        run = sightx.run(short, runs=tmp_path / "runs")
        assert run.result["status"] == "finished"
        return experiment

    return call


def test_a_folder_per_split(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "a data set"
    for split, count in {"train": 12, "val": 4, "test": 4}.items():
        images(data / split, [f"{c}/{n}.png" for c in ("dark", "light") for n in range(count)])
    experiment = ran(data)
    tables = experiment.tables()
    assert tables["dataset"]["root"] == str(data)
    assert tables["dataset"]["layout"] == "split"
    assert (tables["split"]["use"], tables["split"]["validation"]) == ("given", 0.0)
    assert tables["loss"]["use"] == "cross-entropy"
    assert tables["training"]["monitor"] == "validation/loss"
    assert tables["preprocess"] == [{"use": "resize", "size": 32, "fit": "stretch"}]
    assert experiment.name == "a-data-set"
    written = (tmp_path / "written.toml").read_text()
    assert f'root = "{data}"' in written
    assert "train: dark = 12, light = 12" in written


def test_validation_data_come_from_the_train_split_if_necessary(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "data"
    images(data / "train", [f"{c}/{n}.png" for c in ("a", "b") for n in range(20)])
    images(data / "test", [f"{c}/{n}.png" for c in ("a", "b") for n in range(3)])
    assert ran(data).tables()["split"]["validation"] == 0.1


def test_a_folder_per_class_with_grey_and_imbalanced_images(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "data"
    images(data / "cat", [f"{n}.png" for n in range(40)], "L", 70)
    images(data / "dog", [f"{n}.png" for n in range(10)], "L", 70)
    tables = ran(data).tables()
    assert tables["dataset"]["layout"] == "flat"
    assert tables["split"]["use"] == "stratified"
    assert [item["use"] for item in tables["preprocess"]] == ["grayscale", "resize"]
    assert tables["preprocess"][1]["size"] == 64
    assert tables["loss"]["use"] == "inverse-frequency-cross-entropy"
    written = (tmp_path / "written.toml").read_text()
    assert "# cat = 40, dog = 10" in written
    assert "80% of the samples are 'cat'" in written


@pytest.mark.parametrize(
    "names", [("train", "tram", "bus"), ("Training", "Testing"), ("test", "dev")]
)
def test_folders_called_like_splits_are_never_proposed_as_classes(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        images(tmp_path / "data" / name, ["1.png", "2.png", "3.png"])
    with pytest.raises(DataError, match=r"error\[(no-classes|no-split)\]"):
        inspect(tmp_path / "data")


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Training", "Valid", "Testing"), ("TRAIN", "dev", "Test_Set"), ("train", "eval", "test")],
)
def test_split_folders_have_their_usual_names_in_any_case(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    for split in (train, validation, test):
        images(tmp_path / "data" / split, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    facts = inspect(tmp_path / "data")
    assert facts.dataset == {"use": "image-folder", "root": str(tmp_path / "data")}
    assert facts.splits == {"train": 4, "validation": 4, "test": 4}


@pytest.mark.parametrize("names", [("test", "control"), ("dev", "sales", "support")])
def test_classes_may_be_called_like_splits_other_than_train(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = tmp_path / "data"
    images(data, [f"{name}/{number}.png" for name in names for number in range(4)])
    facts = inspect(data)
    assert (facts.dataset["layout"], facts.classes) == ("flat", tuple(sorted(names)))
    assert f"the class {names[0]!r} is called like a split" in " ".join(facts.remarks)
    images(data, [f"{names[0]}/{inner}/1.png" for inner in names])
    with pytest.raises(DataError, match=r"error\[no-split\]"):
        inspect(data)


def test_the_only_folder_of_a_folder_is_looked_into(tmp_path: Path) -> None:
    images(tmp_path / "data" / "archive" / "Brain", ["Train/a/1.png", "Train/b/1.png"])
    images(tmp_path / "data" / "archive" / "Brain", ["Valid/a/1.png", "Valid/b/1.png"])
    (tmp_path / "data" / "__MACOSX").mkdir()
    facts = inspect(tmp_path / "data")
    assert facts.dataset["root"] == str(tmp_path / "data" / "archive" / "Brain")
    assert "contains only this folder" in facts.reasons["root"]


def test_links_out_of_the_folder_are_counted_and_allowed_in_the_spec(
    tmp_path: Path, ran: Write
) -> None:
    images(tmp_path / "hub", [f"{n}.png" for n in range(12)])
    for n in range(12):
        link = tmp_path / "snap" / "ab"[n % 2] / f"{n}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "hub" / f"{n}.png")
    assert ran(tmp_path / "snap").tables()["dataset"]["follow_links"] is True
    assert f"12 images are links out of {tmp_path / 'snap'}" in (
        tmp_path / "written.toml"
    ).read_text().replace("\n# ", " ")


def test_a_folder_without_images_is_left_out(tmp_path: Path, ran: Write) -> None:
    for name in ("a", "b"):
        images(tmp_path / "data" / name, [f"{n}.png" for n in range(9)])
    (tmp_path / "data" / "docs").mkdir()
    (tmp_path / "data" / "docs" / "readme.txt").write_text("x")
    experiment = ran(tmp_path / "data")
    assert experiment.tables()["dataset"]["others"] == "drop"
    assert "1 folder without images: docs" in (tmp_path / "written.toml").read_text()


def test_pairs_without_a_group_are_a_warning(tmp_path: Path) -> None:
    names = [f"{n}_{eye}.png" for n in range(12) for eye in ("left", "right")]
    images(tmp_path / "data" / "ill", names)
    images(tmp_path / "data" / "well", [f"1{name}" for name in names])
    assert any(
        "48 names begin like another" in remark for remark in inspect(tmp_path / "data").remarks
    )
    images(tmp_path / "other" / "ill", [f"img_{n}.png" for n in range(24)])
    images(tmp_path / "other" / "well", [f"img_{n}.png" for n in range(24)])
    assert inspect(tmp_path / "other").remarks == ()


def test_folders_that_are_a_scale_are_ordered(tmp_path: Path, ran: Write) -> None:
    for name in ("Mild", "None", "Severe"):
        images(tmp_path / "data" / name, [f"{n}.png" for n in range(6)])
    experiment = ran(tmp_path / "data")
    assert experiment.tables()["dataset"]["classes"] == ["None", "Mild", "Severe"]
    assert experiment.tables()["dataset"]["ordered"] is True
    assert experiment.training.monitor == "validation/loss"


def test_a_csv_with_groups_and_grades(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "data"
    images(data / "pictures", [f"{n}.png" for n in range(60)])
    rows = [(n, n // 2 % 3, f"p{n // 2}", n) for n in range(60)]
    table(data / "labels.csv", "id,severity,patient_id,age", rows)
    tables = ran(data / "labels.csv").tables()
    dataset = tables["dataset"]
    assert dataset["use"] == "csv"
    assert (dataset["labels"], dataset["images"]) == ("labels.csv", "pictures")
    assert (dataset["image"], dataset["suffix"]) == ("id", ".png")
    assert (dataset["label"], dataset["group"], dataset["split"]) == ("severity", "patient_id", "")
    assert (dataset["classes"], dataset["ordered"]) == (["0", "1", "2"], True)
    assert tables["split"]["use"] == "grouped"
    written = (data / "written.toml").read_text()
    assert 'name = "data-labels"' in written
    assert f'root = "{data}"' in written
    assert "look like grades" in written
    assert "set ordered = false" in written


def test_a_csv_with_splits_and_names(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "data"
    images(data, [f"x/{n}.jpg" for n in range(30)])
    splits = ["train", "train", "train", "val", "test"]
    rows = [(f"x/{n}.jpg", ("b", "a")[n % 2], splits[n // 2 % 5]) for n in range(30)]
    table(data / "all.csv", "file,kind,Split", rows)
    experiment = ran(data)  # the folder: it contains one CSV file and no classes
    dataset = experiment.tables()["dataset"]
    assert (dataset["image"], dataset["label"], dataset["split"]) == ("file", "kind", "Split")
    assert (dataset["images"], dataset["suffix"], dataset["ordered"]) == (".", "", False)
    assert experiment.tables()["split"]["use"] == "given"


def test_a_csv_per_split_and_one_without_a_header_run(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "data"
    images(data, [f"{n}.png" for n in range(24)])
    table(data / "train.csv", "image,label", [(f"{n}.png", "ab"[n % 2]) for n in range(18)])
    table(data / "test.csv", "image,label", [(f"{n}.png", "ab"[n % 2]) for n in range(18, 24)])
    tables = ran(data).tables()
    assert tables["dataset"]["test_labels"] == "test.csv"
    assert tables["split"]["use"] == "given"
    (data / "test.csv").unlink()
    table(data / "train.csv", "0.png,a", [(f"{n}.png", "ab"[n % 2]) for n in range(1, 18)])
    assert ran(data).tables()["dataset"]["columns"] == ["image", "label"]


def test_numbers_alone_are_not_grades(tmp_path: Path) -> None:
    images(tmp_path / "data", [f"{n}.png" for n in range(9)])
    table(tmp_path / "data" / "l.csv", "image,label", [(n, n % 3) for n in range(9)])
    facts = inspect(tmp_path / "data" / "l.csv")
    assert not facts.ordered
    assert "If they are grades" in facts.reasons["use"]


def test_eyepacs_is_recognised(tmp_path: Path, ran: Write) -> None:
    data = tmp_path / "eyes"
    names = [f"{n}_{eye}" for n in range(30) for eye in ("left", "right")]
    images(data / "train", [f"{name}.jpeg" for name in names])
    images(data / "test", ["99_left.jpeg"])
    table(
        data / "trainLabels.csv", "image,level", [(x, int(x.partition("_")[0]) % 5) for x in names]
    )
    experiment = ran(data)
    dataset = experiment.tables()["dataset"]
    assert (dataset["use"], dataset["labels"], dataset["images"]) == (
        "eyepacs", "trainLabels.csv", "train",
    )  # fmt: skip
    assert experiment.tables()["split"]["use"] == "grouped"
    assert experiment.training.monitor == "validation/loss"


def test_a_folder_named_like_a_place_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        images(Path("@x", name), ["1.png", "2.png", "3.png"])
    assert inspect(Path("@x")).dataset["root"] == str(tmp_path / "@x")


def test_bad_images_are_a_remark_and_an_error_if_all_are_bad(tmp_path: Path) -> None:
    for name in ("a", "b"):
        images(tmp_path / "data" / name, ["1.png", "2.png", "3.png"])
    (tmp_path / "data" / "a" / "1.png").write_bytes(b"x")
    (remark,) = inspect(tmp_path / "data").remarks
    assert remark.startswith("1 of 6 sampled images cannot be read, such as a/1.png.")
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of 6 images can be read"):
        inspect(tmp_path / "data")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"error\[no-classes\] folders of classes: none"),
        (["a/1.png"], r"error\[no-classes\] folders of classes: a"),
        (["train/a/1.png"], r"error\[no-classes\] folders of classes: a"),
        (["a/1.png", "b/x.txt"], r"error\[empty-class\]"),
        (["a/1.png", "a/2.png", "b/1.png"], "class 'b' has 1 sample, too few"),
        (["1.csv", "2.csv"], r"error\[several-files\]"),
    ],
)
def test_data_without_a_spec_are_an_error(tmp_path: Path, files: list[str], message: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in files:
        if name.endswith(".png"):
            images(data, [name])
        else:
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_text("x")
    with pytest.raises(DataError, match=message):
        inspect(data)


def test_an_explicit_file_may_have_another_ending(tmp_path: Path) -> None:
    images(tmp_path, [f"{number}.png" for number in range(8)])
    table(tmp_path / "labels.txt", "image,label", [(f"{n}.png", "ab"[n % 2]) for n in range(8)])
    facts = inspect(tmp_path / "labels.txt")
    assert (facts.dataset["labels"], facts.classes) == ("labels.txt", ("a", "b"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.png", "is an image; give the folder of all images"),
        ("a.toml", "is a spec; sightx validate "),
        ("a.xlsx", r"is not a CSV file \(.xlsx\); save it as CSV"),
        ("pipe", "is neither a folder nor a file"),
        ("empty", r"error\[empty-file\]"),
    ],
)
def test_a_file_that_is_not_a_table_is_named(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    os.mkfifo(path) if name == "pipe" else path.touch()
    with pytest.raises(DataError, match=message):
        inspect(path)


def test_missing_data_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        inspect(tmp_path / "nowhere")


def test_a_reader_that_a_plugin_provides_too_is_a_plugin_error(tmp_path: Path) -> None:
    class Csv(Dataset):
        """Another one."""

        name = "csv"

    images(tmp_path, ["a.png", "b.png"])
    table(tmp_path / "labels.csv", "image,label", [("a.png", "x"), ("b.png", "y")])
    registry = loading.load_registry(project.find_project(tmp_path))
    registry.add(Plugin("other", "other.py"), [Csv])
    with pytest.raises(PluginError, match=r"name-clash.*'csv' is provided by .*=none loads only"):
        inspect_data(tmp_path / "labels.csv", registry, None)


@pytest.mark.parametrize(
    ("classes", "label", "ordered"),
    [
        (["10", *"123456789"], "grade", [*"123456789", "10"]),
        (["0", "1", "2"], "Level", ["0", "1", "2"]),
        (["0", "1", "2"], "label", []),
        (["0", "1"], "grade", []),
        (["0", "2", "4"], "grade", []),
        (["3", "4", "5"], "grade", []),
        (["High", "low", "medium"], "", ["low", "medium", "High"]),
        (["high", "low"], "", []),
        (["cat", "dog", "fish"], "grade", []),
    ],
)
def test_only_what_looks_like_grades_is_ordered(
    classes: list[str], label: str, ordered: list[str]
) -> None:
    assert list(infer_scale(classes, label).classes) == ordered


def rows(count: int, start: int = 0) -> list[tuple[object, ...]]:
    return [(f"{start + k}.png", "ab"[k % 2]) for k in range(count)]


def test_tables_and_images_in_a_folder_per_split_are_one_dataset(
    tmp_path: Path, ran: Write
) -> None:
    for split, count in {"train": 12, "Test": 4}.items():
        images(tmp_path / "eyes" / split, [f"{k}.png" for k in range(count)])
        table(tmp_path / "eyes" / split / "labels.csv", "image,label", rows(count))
    experiment = ran(tmp_path / "eyes")
    assert experiment.dataset.model_dump(include={"labels", "images", "test_images"}) == {
        "labels": "train/labels.csv", "images": "train", "test_images": "Test",
    }  # fmt: skip
    frame = sightx.table(experiment).frame
    assert frame["path"].iat[-1] == "Test/3.png"
    assert frame["split"].value_counts().to_dict() == {"train": 10, "test": 4, "validation": 2}


@pytest.mark.parametrize(
    ("tables", "folders", "settings"),
    [
        (["train.csv", "test.csv"], ["train", "test"],
         {"labels": "train.csv", "images": "train", "test_labels": "test.csv",
          "test_images": "test"}),
        (["labels/train_labels.csv", "labels/val_labels.csv"], ["images", "images"],
         {"labels": "labels/train_labels.csv", "images": "images",
          "validation_labels": "labels/val_labels.csv"}),
        (["train/labels.csv", "valid/labels.csv"], ["train/images", "valid/images"],
         {"labels": "train/labels.csv", "images": "train/images",
          "validation_labels": "valid/labels.csv", "validation_images": "valid/images"}),
    ],
)  # fmt: skip
def test_tables_of_splits_are_found_in_other_folders(
    tmp_path: Path, tables: list[str], folders: list[str], settings: dict[str, str]
) -> None:
    for number, (name, folder) in enumerate(zip(tables, folders, strict=True)):
        images(tmp_path / "d" / folder, [f"{100 * number + k}.png" for k in range(4)])
        table(tmp_path / "d" / name, "image,label", rows(4, 100 * number))
    facts = inspect(tmp_path / "d")
    assert settings.items() <= facts.dataset.items()
    assert {key for key in facts.dataset if "images" in key or "labels" in key} == settings.keys()


def test_tables_in_folders_of_classes_are_not_labels(tmp_path: Path) -> None:
    for name in "ab":
        images(tmp_path / "d" / name, ["0.png", "1.png"])
        table(tmp_path / "d" / name / "notes.csv", "image,label", rows(2))
    assert inspect(tmp_path / "d").dataset["layout"] == "flat"


def test_a_table_with_a_folder_per_class_gives_a_spec_that_runs(tmp_path: Path, ran: Write) -> None:
    names = {kind: [f"{kind[0]}{n}.png" for n in range(12)] for kind in ("dark", "light")}
    for kind, files in names.items():
        images(tmp_path / "data" / kind, files)
    rows = [(name[:-4], kind) for kind, files in names.items() for name in files]
    file = tmp_path / "data" / "semi.csv"
    table(file, "id,label", rows)
    assert ran(file).tables()["dataset"]["search_subfolders"] is True

    for name in names["light"][:3]:
        (tmp_path / "data" / "light" / name).unlink()
    (warning,) = [remark for remark in inspect(file).remarks if remark.startswith("Warning")]
    assert "3 of 24 rows name files that do not exist, such as l0: 3 of 12 of 'light'" in warning
    for name in names["light"][3:]:
        (tmp_path / "data" / "light" / name).unlink()
    with pytest.raises(DataError, match="12 of 24 rows name files that do not exist"):
        inspect(file)
