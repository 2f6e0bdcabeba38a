"""Runs that start from other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import sightx
from sightx import ResourceError, Run, RunError
from support.commands import sightx_main


def write_images(folder: Path, count: int, shade: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (9, 9), (shade, 10 * number, len(folder.parent.name))).save(
            folder / f"{number}.png"
        )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with images of three and of two classes, and a spec for each."""
    for folder, classes in {"three": "abc", "two": "ab"}.items():
        for number, name in enumerate(classes):
            write_images(tmp_path / folder / "train" / name, 4, 60 * number)
            write_images(tmp_path / folder / "validation" / name, 2, 60 * number)
        (tmp_path / f"{folder}.toml").write_text(
            f'name = "{folder}"\nobserver = []\n'
            f'[dataset]\nuse = "image-folder"\nroot = "{folder}"\n'
            '[[preprocess]]\nuse = "resize"\nsize = 8\n'
            '[model]\nuse = "simple-cnn"\nwidths = [4]\nhidden = [5]\n'
            '[optimizer]\nuse = "sgd"\nlr = 1e-12\n'
            "[training]\nepochs = 1\nbatch_size = 4\n[execution]\nthreads = 1\n"
        )
    return tmp_path


def run(project: Path, name: str, *sets: str) -> Run:
    return sightx.run(sightx.load(project / f"{name}.toml", sets), runs=project / "runs")


def weights_of(run: Run) -> dict[str, Tensor]:
    return load_file(run.checkpoint("last") / "model.safetensors")


def test_weights_of_a_run_with_other_classes_need_a_new_head(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before = run(project, "three")
    spec = project / "two.toml"
    text = spec.read_text(encoding="utf-8")
    text = text.replace("hidden = [5]\n", f'hidden = [5]\nweights = "run:{before.id}"\n')
    spec.write_text(text, encoding="utf-8")

    assert sightx_main("run", "two.toml", "--runs", "runs") == 5
    line = capfd.readouterr().err.splitlines()[-1]
    assert "its head is for another number of classes: head.weight is 3x5, the network" in line
    assert 'write head = "new" below [model], or --set model.head=new' in line

    # 1. The setting of the hint, as an override.
    assert sightx_main("run", "two.toml", "--runs", "runs", "--set", "model.head=new") == 0
    output = capfd.readouterr()
    said = "8 of 10 tensors loaded; new: head.weight, head.bias"
    assert f"weights {before.id}/checkpoints/step-00000003/model.safetensors: {said}" in output.err
    # 2. Pasted below [model].
    spec.write_text(text.replace("[model]\n", '[model]\nhead = "new"\n'))
    after = run(project, "two")
    assert said in (after.directory / "console.log").read_text(encoding="utf-8")
    report = json.loads((after.directory / "weights.json").read_text(encoding="utf-8"))
    assert report["fresh"] == ["head.weight", "head.bias"]
    assert len(report["loaded"]) == 8
    old, new = weights_of(before), weights_of(after)
    for name in ("block1.conv.weight", "hidden1.weight"):
        torch.testing.assert_close(new[name], old[name])
    assert new["head.weight"].shape == (2, 5)


def test_a_missing_file_is_found_by_validate_and_before_any_data(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    spec = project / "two.toml"
    spec.write_text(spec.read_text().replace("[4]\n", '[4]\nweights = "~/gone.pt"\n'))
    assert sightx_main("validate", str(spec)) == 0
    capsys.readouterr()
    assert sightx_main("validate", "--deep", str(spec)) == 7
    assert f"{project}/home/gone.pt: error[no-weights]" in capsys.readouterr().err
    shutil.rmtree(project / "two")
    with pytest.raises(ResourceError, match=r"home/gone\.pt: error\[no-weights\]"):
        run(project, "two")
    assert not (project / "runs").exists()
    spec.write_text(spec.read_text().replace("~/gone.pt", "sub/gone.ckpt"))
    with pytest.raises(ResourceError, match=f"{project}/sub/gone.ckpt: .* folder of .*two.toml;"):
        run(project, "two")


def test_validate_deep_shows_what_a_file_gives_and_what_does_not_fit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": weights_of(run(project, "three"))}, project / "w.pt")
    sets = ("--set", f"model.weights={project / 'w.pt'}")
    capsys.readouterr()
    assert sightx_main("validate", "--deep", str(project / "three.toml"), *sets) == 0
    assert "weights w.pt (table state_dict): 10 of 10 tensors" in capsys.readouterr().out
    assert sightx_main("validate", "--deep", str(project / "two.toml"), *sets) == 5
    assert "head.weight is 3x5, the network needs 2x5" in capsys.readouterr().err
    sets += ("--set", "model.head=new")
    assert sightx_main("validate", "--deep", str(project / "two.toml"), *sets) == 0
    assert "8 of 10 tensors loaded; new: head.weight, head.bias" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["run", "file"])
def test_a_damaged_checkpoint_is_refused_as_by_predict(project: Path, source: str) -> None:
    before = run(project, "two")
    file = before.checkpoint() / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # still a valid file, with another weight
    file.write_bytes(content)
    load_file(file)
    with pytest.raises(RunError, match="differs from its hash"):
        sightx.Predictor.load(before.directory)
    weights = f"run:{before.id}" if source == "run" else file
    with pytest.raises(RunError, match=r"model\.safetensors differs from its hash"):
        run(project, "two", f"model.weights={weights}")
    assert len(list((project / "runs").iterdir())) == 1


def test_a_run_that_stopped_before_its_first_checkpoint_loads_them_again(project: Path) -> None:
    before = run(project, "three")
    sets = [f"model.weights=run:{before.id}", "model.head=new"]
    stopped = run(project, "two", *sets)
    expected = weights_of(stopped)
    shutil.rmtree(stopped.directory / "checkpoints")
    (stopped.directory / "result.json").unlink()
    (stopped.directory / "metrics.jsonl").unlink()
    resumed = sightx.resume(stopped)
    assert {name: t.tolist() for name, t in weights_of(resumed).items()} == {
        name: t.tolist() for name, t in expected.items()
    }


def test_a_resumed_run_neither_reads_nor_reports_its_initial_weights(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(weights_of(run(project, "two")), project / "w.pt")
    started = run(project, "two", f"model.weights={project / 'w.pt'}")
    (project / "w.pt").unlink()
    caplog.clear()
    more = sightx.resume(started, changes=["training.epochs=2"])
    assert len(more.metrics) == 2
    assert not any("tensors loaded" in line for line in caplog.messages)


def test_a_loaded_head_of_other_classes_is_a_warning(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = run(project, "two")
    for split in ("train", "validation"):
        (project / "two" / split / "a").rename(project / "two" / split / "c")
    run(project, "two", f"model.weights=run:{before.id}")
    warning = "its head was trained for the classes a, b; these are b, c"
    assert any(warning in line for line in caplog.messages)
    caplog.clear()
    run(project, "two", f"model.weights=run:{before.id}", "model.head=new")
    assert not any(warning in line for line in caplog.messages)


def test_a_new_head_that_is_frozen_is_a_warning(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = run(project, "three")
    sets = [f"model.weights=run:{before.id}", "model.head=new", "model.trainable=['block1']"]
    run(project, "two", *sets)
    warned = "model.trainable freezes new weights, which stay random: head.weight"
    assert any(warned in line for line in caplog.messages)


def test_experiments_without_the_setting_keep_their_id(project: Path) -> None:
    experiment = sightx.load(project / "two.toml")
    assert "head" not in experiment.identity["model"]
    assert sightx.load(project / "two.toml", ["model.head=new"]).id != experiment.id


def test_a_run_that_failed_before_its_first_checkpoint_is_not_the_last(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before = run(project, "two")
    with pytest.raises(RunError):  # its weights do not fit
        run(project, "three", "name=zzz", f"model.weights=run:{before.id}")
    failed = max((project / "runs").iterdir())
    assert failed.name != before.id
    capsys.readouterr()  # what the two runs printed
    image = "two/train/a/0.png"
    for words in (["predict", "last", image], ["evaluate", "last", "--split", "validation"],
                  ["resume", "last"]):  # fmt: skip
        assert sightx_main(*words, "--runs", "runs") == 0, words
        output = capsys.readouterr()
        assert before.id in output.out + output.err
        assert failed.name not in output.out + output.err


def test_run_last_is_another_experiment_after_another_run(
    project: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("name=child", "model.weights=run:last")
    first = run(project, "two")
    caplog.set_level("INFO")
    child = run(project, "two", *sets)
    assert child.tables["model"]["weights"] == f"run:{first.id}@step-00000002"
    second = run(project, "two", "name=two-more", "seed=1")
    other = run(project, "two", *sets)
    assert other.environment["parents"][0]["run"] == second.id
    assert not any("is this experiment on the same data" in line for line in caplog.messages)
    assert child.environment["id"] != other.environment["id"]
    # 1. Neither a table nor a comparison loses one of the two.
    runs = project / "runs"
    assert len(sightx.list_runs("name = child", fold="seed", runs=runs)) == 2
    arguments = ("compare", child.id, other.id, "--split", "validation", "--runs", str(runs))
    assert sightx_main(*arguments) == 0
    assert other.id in capsys.readouterr().out
    # 2. A repeat and a resumed run begin with the weights that `last` meant.
    assert sightx.runner.repeat(child, runs=runs).environment["id"] == child.environment["id"]
    for checkpoint in (other.directory / "result.json", other.directory / "checkpoints"):
        checkpoint.unlink() if checkpoint.is_file() else shutil.rmtree(checkpoint)
    (other.directory / "metrics.jsonl").unlink()
    spec = sightx.load(project / "two.toml", sets)
    assert sightx.run(spec, runs=runs, unfinished=True).id == other.id
    # 3. The best run is a source too.
    best = run(project, "two", "model.weights='run:best:accuracy[name ~ two*]@last'")
    assert best.environment["parents"][0]["run"] in {first.id, second.id}


def test_a_file_of_weights_with_another_content_is_another_candidate(
    project: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [f"model.weights={project / 'w.pt'}"]
    trained = [run(project, "two", f"seed={seed}") for seed in (0, 1)]
    torch.save(weights_of(trained[0]), project / "w.pt")
    first = run(project, "two", *sets)
    torch.save(weights_of(trained[1]), project / "w.pt")
    caplog.set_level("INFO")
    second = run(project, "two", *sets)
    assert not any("is this experiment on the same data" in line for line in caplog.messages)
    assert first.environment["id"] == second.environment["id"]
    runs = str(project / "runs")
    arguments = (first.id, second.id, "--split", "validation", "--runs", runs)
    assert sightx_main("compare", *arguments) == 0
    assert second.id in capsys.readouterr().out
    where = f"model.weights-sha256 = {second.environment['contents']['model.weights']}"
    assert list(sightx.list_runs(where, runs=runs)["id"]) == [second.id]
    assert len(sightx.list_runs("model.weights != none", fold="seed", runs=runs)) == 2
    folded = sightx.list_runs("model.weights != none", fold=["model.weights"], runs=runs)
    assert list(folded["runs"]) == [2]  # although their ids are equal
    run(project, "two", *sets)
    assert any(f"{second.id} is this experiment on the same" in line for line in caplog.messages)
