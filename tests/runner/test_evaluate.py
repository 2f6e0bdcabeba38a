from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import sightx
from sightx import DataError, Run, RunError
from sightx.runner.evaluate import evaluate
from sightx.runs import lock

RANDOM_NETWORK = '''
from sightx.plugin import Model, hookimpl

class Random(Model):
    """A network with dropout in evaluation too."""

    name = "test-scoring-net"

    def build(self, *, channels, outputs, size):
        from torch import nn

        class Always(nn.Module):
            def forward(self, values):
                return nn.functional.dropout(values, 0.5, training=True)

        return nn.Sequential(
            nn.Flatten(), Always(), nn.Linear(channels * size[0] * size[1], outputs)
        )

@hookimpl
def sightx_components():
    return [Random]
'''


CSV_SPEC = """
name = "table"
observer = []
[dataset]
use = "csv"
root = "data"
split = "split"
[[preprocess]]
use = "resize"
size = 8
[model]
use = "simplenet"
hidden = [5]
[training]
epochs = 1
"""


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    sets = ["evaluation.test=on-request"]
    return sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")


def test_metrics_on_request_are_those_at_the_end(run: Run, spec: Path, tmp_path: Path) -> None:
    at_end = sightx.run(sightx.load(spec), runs=tmp_path / "runs").result["test"]
    assert evaluate(run, "test").metrics == pytest.approx(at_end)
    assert len(run.predictions("test")) == 12


def test_a_random_network_gets_the_same_metrics_again(spec: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "test_scoring_net.py").write_text(RANDOM_NETWORK)
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugins}"]\n')
    finished = sightx.run(
        sightx.load(spec, ["model={use='test-scoring-net'}", "seed=7"]), runs=tmp_path / "runs"
    )
    assert evaluate(finished, "test").metrics == finished.result["test"]


def test_validation_metrics_are_those_of_the_run(run: Run) -> None:
    assert evaluate(run, "validation").metrics == pytest.approx(run.result["validation"])
    last = evaluate(run, "validation", checkpoint="last").metrics
    row = run.metrics.iloc[-1]
    assert last["validation/loss"] == pytest.approx(row["validation/loss"])


def test_labels_are_those_of_the_run_if_a_class_was_added(run: Run, folders: Path) -> None:
    expected = evaluate(run, "test")
    (run.directory / "predictions" / "test.csv").unlink()
    shutil.copytree(folders / "train" / "dark", folders / "train" / "added")
    assert evaluate(run, "test") == expected
    assert run.predictions("test")["label"].value_counts().to_dict() == {"dark": 6, "light": 6}


def test_missing_images_are_an_error(run: Run, folders: Path) -> None:
    (folders / "test" / "dark" / "0.png").unlink()
    with pytest.raises(DataError, match=r"11 of the 12 test samples of .* exist"):
        evaluate(run, "test")


def test_a_run_in_use_is_not_changed(run: Run) -> None:
    with lock.run_lock(run.directory), pytest.raises(RunError, match="in use"):
        evaluate(run, "test")
    assert run.predictions_of("test") is None


def test_a_read_only_run_can_be_scored(  # R10
    run: Run, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = evaluate(run, "test").metrics
    copy = Run(Path(shutil.copytree(run.directory, small_disk / run.id)))
    shutil.rmtree(copy.directory / "predictions")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert evaluate(copy, "test")[:2] == (expected, "")
    assert "is read-only: these predictions are not kept" in caplog.text
    assert not (copy.directory / "predictions").exists()


def outputs(run: Run, name: str) -> bytes:
    return (run.directory / "predictions" / f"{name}.outputs.npy").read_bytes()


def test_predictions_of_another_checkpoint_do_not_replace_those_of_the_run(
    spec: Path, tmp_path: Path
) -> None:
    run = sightx.run(sightx.load(spec, ["training.epochs=2"]), runs=tmp_path / "runs")
    names = run.directory / "checkpoints" / "names.json"
    first, last = sorted(path.name for path in names.parent.glob("step-*"))[:2]
    names.write_text(json.dumps({"best": first, "last": last}))
    mine = {path.name: path.read_bytes() for path in (run.directory / "predictions").iterdir()}
    own = run.predictions_checkpoint("test")
    other = "last" if own == first else "best"

    evaluation = evaluate(run, "test", checkpoint=other)

    folder = run.directory / "predictions"
    assert evaluation.predictions == f"test@{run.checkpoints[other]}"
    assert {name: (folder / name).read_bytes() for name in mine} == mine
    assert run.predictions_checkpoint(evaluation.predictions) == run.checkpoints[other] != own
    assert outputs(run, evaluation.predictions) != outputs(run, "test")
    assert run.predictions_of(evaluation.predictions) is not None


@pytest.mark.parametrize("change", ["class", "label", "image"])
def test_other_data_are_refused(run: Run, folders: Path, change: str) -> None:
    expected = evaluate(run, "test")
    before = outputs(run, "test")
    if change == "class":
        for split in ("train", "val", "test"):
            (folders / split / "dark").rename(folders / split / "night")
    elif change == "label":
        shutil.move(folders / "test" / "dark" / "0.png", folders / "test" / "x.png")
        shutil.move(folders / "test" / "light" / "0.png", folders / "test" / "dark" / "0.png")
        shutil.move(folders / "test" / "x.png", folders / "test" / "light" / "0.png")
    else:
        Image.new("RGB", (8, 8), "white").save(folders / "test" / "dark" / "0.png")

    with pytest.raises(DataError) as caught:
        evaluate(run, "test")

    (problem,) = caught.value.problems
    assert problem.code == "other-data"
    assert outputs(run, "test") == before
    if change == "class":
        assert "exist" in problem.message or "the classes were" in problem.message
        return
    assert problem.hint.endswith("score these with --allow-data-change")
    other = evaluate(run, "test", allow_data_change=True)
    assert other.predictions.startswith(f"test@{run.checkpoint().name}-data-")
    assert other.metrics != expected.metrics
    assert outputs(run, "test") == before


def test_another_order_of_classes_is_refused(folders: Path, write_spec, tmp_path: Path) -> None:
    rows = [
        f"{path.relative_to(folders)},{path.parent.name},{path.parent.parent.name}"
        for path in sorted(folders.rglob("*.png"))
    ]
    labels = folders / "labels.csv"
    labels.write_text("\n".join(["image,label,split", *rows]) + "\n")
    spec = write_spec(CSV_SPEC)
    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    labels.write_text(labels.read_text().replace(",dark,", ",night,"))

    with pytest.raises(DataError, match="the classes were dark, light and are light, night"):
        evaluate(run, "test", allow_data_change=True)


def test_skipped_images_are_reported(
    folders: Path, spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = ["dataset.on_bad_image=skip", "dataset.bad_images_at_most=0.2"]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    (folders / "test" / "dark" / "0.png").write_bytes(b"")

    evaluation = evaluate(run, "test")

    assert (
        f"1 test sample of {run.id} is skipped, first test/dark/0.png (empty file)" in caplog.text
    )
    assert "-data-" in evaluation.predictions
    assert len(run.predictions("test")) == 12
    assert len(run.predictions(evaluation.predictions)) == 11


def test_lists_of_a_run_are_not_replaced_by_evaluating(
    folders: Path, spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = ["dataset.on_bad_image=skip", "dataset.bad_images_at_most=0.2"]
    (folders / "train" / "dark" / "0.png").write_bytes(b"")
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    before = (run.directory / "bad-images.csv").read_bytes()
    (folders / "test" / "dark" / "0.png").write_bytes(b"")

    caplog.set_level(logging.INFO, "sightx")
    evaluate(run, "test")

    assert "1 image of the dataset is skipped, first train/dark/0.png (empty file)" in caplog.text
    assert f"1 test sample of {run.id} is skipped" in caplog.text

    assert (run.directory / "bad-images.csv").read_bytes() == before
    assert "test/dark/0.png" in (run.directory / "bad-images-2.csv").read_text()
