from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

import sightx
from sightx import Run
from sightx.runner.api import run as start
from sightx.runner.evaluate import evaluate
from sightx.runs import inputs

SPLIT_SPEC = """
name = "copies"
observer = []
[dataset]
use = "csv"
root = "data"
exclude = "lists/excluded.csv"
[split]
use = "listed"
file = "lists/split.csv"
[[preprocess]]
use = "resize"
size = 8
[model]
use = "simplenet"
hidden = [5]
weights = "lists/weights.safetensors"
[training]
epochs = 2
"""


@pytest.fixture
def spec(folders: Path, tmp_path: Path, write_spec) -> Path:
    """A spec that names an exclusion list, a split file, weights and a CSV file of labels."""
    paths = sorted(path.relative_to(folders) for path in folders.rglob("*.png"))
    (folders / "labels.csv").write_text(
        "\n".join(["image,label", *(f"{path},{path.parent.name}" for path in paths)]) + "\n"
    )
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "excluded.csv").write_text(f"path,reason\n{paths[0]},blurred\n")
    splits = {"train": "train", "val": "validation", "test": "test"}
    rows = [f"{path},{splits[path.parts[0]]}" for path in paths]
    (lists / "split.csv").write_text("\n".join(["path,split", *rows]) + "\n")
    path = write_spec(SPLIT_SPEC)
    without = sightx.load(path, ["model.weights=none", "training.epochs=1"])
    trained = sightx.run(without, runs=tmp_path / "before")
    shutil.copy(trained.checkpoint("last") / "model.safetensors", lists / "weights.safetensors")
    return path


def test_a_large_file_is_read_once_until_it_changes(spec, monkeypatch):
    reads: list[Path] = []
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    monkeypatch.setattr(inputs, "file_sha256", lambda file: reads.append(file) or f"{len(reads)}")
    experiment, weights = sightx.load(spec), spec.parent / "lists" / "weights.safetensors"
    contents = inputs.hash_contents(experiment, str(weights))
    large = inputs.hash_large_files(experiment)
    assert contents["model.weights"] == large["weights.safetensors"]
    assert reads.count(weights) == 1
    weights.write_bytes(weights.read_bytes() + b" ")
    inputs.hash_large_files(experiment)
    assert reads.count(weights) == 2


def run_of(spec: Path, *changes: str) -> Run:
    return sightx.run(sightx.load(spec, list(changes)), runs=spec.parent / "runs")


def test_a_run_reads_its_copies_when_the_originals_are_gone(spec: Path, tmp_path: Path) -> None:
    run = run_of(spec)
    expected = run.result["test"]
    assert {path.name for path in (run.directory / "inputs").iterdir()} == {
        "excluded.csv", "split.csv", "weights.safetensors", "labels.csv"
    }  # fmt: skip
    shutil.rmtree(tmp_path / "lists")
    moved = Run(run.directory.rename(tmp_path / "moved"))

    assert evaluate(moved, "test").metrics == pytest.approx(expected)
    sightx.resume(moved, changes=["training.epochs=3"])
    assert len(moved.metrics) == 3
    assert sightx.Predictor.load(moved.directory).predict(
        tmp_path / "data" / "test" / "dark" / "0.png"
    )


def test_a_run_without_a_checkpoint_starts_again_from_its_copies(
    spec: Path, tmp_path: Path
) -> None:
    run = run_of(spec)
    expected = (run.checkpoint("last") / "model.safetensors").read_bytes()
    for name in ("checkpoints", "predictions"):
        shutil.rmtree(run.directory / name)
    (run.directory / "result.json").unlink()
    shutil.rmtree(tmp_path / "lists")

    sightx.resume(run)

    assert (run.checkpoint("last") / "model.safetensors").read_bytes() == expected


def test_the_list_of_a_failed_run_may_be_deleted(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "train" / "dark" / "3.png").write_bytes(b"")
    with pytest.raises(sightx.DataError, match="bad-images"):
        run_of(spec)
    (failed,) = (tmp_path / "runs").iterdir()

    run = run_of(spec, f"dataset.exclude={failed / 'bad-images.csv'}")

    shutil.rmtree(failed)
    assert evaluate(run, "test").metrics == pytest.approx(run.result["test"])


@pytest.mark.parametrize("name", ["excluded.csv", "split.csv", "weights.safetensors"])
@pytest.mark.parametrize("is_large", [False, True])
def test_a_file_of_the_same_name_with_other_content_is_another_experiment(
    spec: Path, tmp_path: Path, name: str, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    run = run_of(spec)
    same = start(sightx.load(spec), runs=tmp_path / "runs", unfinished=True)
    assert same.id == run.id
    file = tmp_path / "lists" / name
    if name == "weights.safetensors":
        from safetensors.torch import load_file

        save_file({key: tensor + 1 for key, tensor in load_file(file).items()}, file)
    elif name == "split.csv":
        file.write_text(file.read_text().replace("test/dark/1.png,test", "test/dark/1.png,train"))
    else:
        file.write_text(file.read_text() + "train/dark/5.png,blurred\n")

    other = start(sightx.load(spec), runs=tmp_path / "runs", unfinished=True)

    assert other.id != run.id
    with pytest.raises(sightx.RunError, match=f"the content of {name} has changed"):
        sightx.resume(run, experiment=sightx.load(spec, ["training.epochs=3"]))


def test_files_of_one_name_are_copied_next_to_each_other(tmp_path: Path) -> None:
    files = [tmp_path / folder / "a.csv" for folder in "xyz"]
    for file, text in zip(files, ("1", "2", "1"), strict=True):
        file.parent.mkdir()
        file.write_text(text)
    run = tmp_path / "run"
    run.mkdir()

    copies = [inputs.copy_file(run, file) for file in files]

    assert copies == ["inputs/a.csv", "inputs/2/a.csv", "inputs/a.csv"]
    assert [(run / copy).read_text() for copy in copies[:2]] == ["1", "2"]
    assert inputs.resolve(run, copies[1]) == str(run / "inputs" / "2" / "a.csv")
    assert inputs.resolve(run, "imagenet") == "imagenet"


def test_a_large_file_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", 3)
    (tmp_path / "a.csv").write_text("1234")

    assert inputs.copy_file(tmp_path / "run", tmp_path / "a.csv") == str(tmp_path / "a.csv")
    assert not (tmp_path / "run").exists()
