"""Hints work when they are pasted: each test follows what an error says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import sightx
from sightx.cli.main import COMMANDS
from sightx.cli.plugin_commands import OTHER_NAMES, PLANNED
from sightx.errors import SightXError, SpecError
from support.commands import sightx_main

PACKAGE = Path(sightx.__file__).parent
Line = Callable[..., str]


@pytest.fixture
def line(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Call `sightx` in the spec's folder, and return the last line that it prints."""
    monkeypatch.chdir(spec.parent)

    def call(*words: str, code: int = 2) -> str:
        capsys.readouterr()
        assert sightx_main(*words) == code
        out, err = capsys.readouterr()
        return (err or out).splitlines()[-1]

    return call


def hint_of(text: str) -> str:
    return text.rpartition("; ")[2]


def commands_in(text: str) -> set[str]:
    """Return the words that follow `sightx` in texts of the package."""
    return set(re.findall(r"\bsightx ([a-z]+(?:-[a-z]+)*)\b", text))


def test_every_command_that_the_package_names_exists() -> None:
    prose = {"is", "and", "has", "run", "does", "itself", "reads", "prints", "loads", "finds"}
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.toml")]:
        for row in path.read_text(encoding="utf-8").splitlines():
            quoted = "\n".join(re.findall(r"[\"'`]([^\"'`]*)[\"'`]", row))
            for name in commands_in(quoted) - prose:
                assert name in COMMANDS or name.startswith(("test", "xyzzy")), f"{path}: {row}"


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_the_name_of_another_tool_leads_to_a_command(line: Line, name: str) -> None:
    found = hint_of(line(name)).removeprefix("use sightx ").split()[0]
    assert found in COMMANDS or found in ("--help", "--version")


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_a_planned_command_says_what_does_the_job_today(line: Line, name: str) -> None:
    text = line(name)
    assert f"{name!r} is not part of this version" in text
    assert commands_in(hint_of(text)) <= set(COMMANDS)
    assert name not in COMMANDS


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--epochs", "1"),
        ("--batch-size", "4"),
        ("--lr", "0.1"),
        ("--learning-rate", "0.1"),
        ("--device", "cpu"),
        ("--seed", "3"),
        ("--name", "other"),
        ("--threads", "1"),
        ("--num-epochs", "1"),
        ("--training.epochs", "1"),
        ("--random-state", "3"),
        ("--patience", "2"),
        ("--weight-decay", "0.1"),
    ],
)
def test_an_option_that_is_a_setting_is_explained(line: Line, option: str, value: str) -> None:
    hint = hint_of(line("validate", "spec.toml", option, value))
    assert hint.startswith("--set ")
    line("validate", "spec.toml", *hint.replace("VALUE", value).split(), code=0)


@pytest.mark.parametrize(
    "option", ["--output", "-o", "-q", "--gpus", "--cpu", "--resume", "--workers", "--config"]
)
def test_an_option_of_another_tool_leads_to_ours(line: Line, option: str) -> None:
    hint = hint_of(line("run", "spec.toml", option, "x"))
    words = hint.replace("FOLDER", "r").replace("=N", "=1").replace(" N", " 1").split()
    rest = words if words[0].startswith("--") else []
    line("run", "spec.toml", "--quiet", "--set", "training.epochs=1", *rest, code=0)


def test_a_spec_without_its_ending_or_in_place_of_a_run_is_recognised(line: Line) -> None:
    assert hint_of(line("run", "spec")) == "did you mean spec.toml?"
    hint = hint_of(line("resume", "spec.toml", code=5))
    words = hint.removeprefix("sightx ").removesuffix(" continues the run of a spec").split()
    line(*words, "--quiet", code=0)


def test_the_name_of_a_run_in_place_of_a_spec_is_recognised(line: Line, spec: Path) -> None:
    assert hint_of(line("show", "xyzzy")) == "check the path"
    sightx.run(spec, runs="runs")
    line(*hint_of(line("show", "last")).removeprefix("sightx ").split(), code=0)
    line(*hint_of(line("run", "last")).removeprefix("sightx ").split(), code=0)
    line(*hint_of(line("predict", "data/test")).removeprefix("sightx ").split(), code=0)
    init = hint_of(line("evaluate", "data", code=5)).partition(" writes")[0]
    line(*init.removeprefix("sightx ").split(), code=0)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("show", "resnet50"), "sightx show-plugin model resnet50"),
        (("run", "data"), "sightx init ./data writes a spec for a folder of images"),
        (("predict", "data/test"), "sightx predict last data/test"),
        (("show", "data"), "sightx init ./data writes a spec for a folder of images"),
        (("spec.toml",), "sightx run spec.toml"),
        (("validate", "spec.toml", "--dry-run"), "sightx validate --deep SPEC"),
        (("show", "spec.toml", "training.epochs=3"), "--set training.epochs=3"),
    ],
)
def test_an_argument_of_another_sort_leads_to_a_command(
    line: Line, words: tuple[str, ...], hint: str
) -> None:
    assert hint_of(line(*words)) == hint
    if hint.startswith(("sightx init", "sightx show", "sightx run")):
        line(*hint.removeprefix("sightx ").partition(" writes")[0].split(), code=0)


def test_evaluate_offers_no_option_that_changes_the_experiment(line: Line) -> None:
    assert hint_of(line("evaluate", "last", "--optimizer", "sgd")) == "sightx evaluate --help"


def test_a_misspelt_option_is_corrected(line: Line) -> None:
    assert hint_of(line("run", "spec.toml", "--quit")) == "did you mean '--quiet'?"


def test_debug_may_follow_the_command(line: Line) -> None:
    line("validate", "spec.toml", "--debug", code=0)
    line("--debug", "validate", "spec.toml", code=0)


@pytest.mark.parametrize(
    ("sets", "hint"),
    [
        (["model.use=resnet18"], 'did you mean use = "torchvision" and arch = "resnet18"?'),
        (["optimizer.use=cosine"], "move it to scheduler"),
        (["augment=[{use='CenterCrop'}]"], 'move it to preprocess, with use = "center-crop"'),
        (["training.ema=true"], 'did you mean [average] with use = "ema"?'),
        (["training.mixup=0.2"], 'did you mean [[augment]] with use = "mixup"?'),
        (["training.patience=3"], 'did you mean [stopping] with use = "early"?'),
        (["training.momentum=0.9"], 'it is a key of [optimizer] with use = "rmsprop" or "sgd"'),
        (["dataset.labels='a.csv'"], 'it is a key of [dataset] with use = "csv" or "eyepacs"'),
        (["dataset.path='x'"], "did you mean 'root'?"),
        (["model.freeze=true"], "did you mean 'trainable'?"),
        (["training.num_workers=2"], "did you mean 'threads', a key of [execution]?"),
        (["callbacks=[]"], "did you mean 'observer'?"),
        (["model={use='torchvision', arch='simple-cnn'}"], 'did you mean use = "simple-cnn"?'),
    ],
)
def test_values_of_other_keys_and_kinds_are_recognised(
    line: Line, sets: list[str], hint: str
) -> None:
    words = [word for change in sets for word in ("--set", change)]
    assert line("validate", "spec.toml", *words).endswith(hint)


@pytest.mark.parametrize(
    ("change", "line_end"),
    [
        ("scheduler={use='one-cycle', anneal='cosine'}", "must be 'cos' or 'linear'"),
        ("optimizer.lr=adam", "'adam' is a string, expected a number"),
        ("execution.cache=dsik", "did you mean 'disk'?"),
        ("augment=['flip']", 'write [[augment]] and use = "flip"'),
        ("optimizer=sgd", 'write [optimizer] and use = "sgd"'),
    ],
)
def test_a_value_that_is_only_spelt_like_a_component_is_not_taken_for_one(
    line: Line, change: str, line_end: str
) -> None:
    assert line("validate", "spec.toml", "--set", change).endswith(line_end)


@pytest.mark.parametrize(
    "settings", ["use = 'torchvision'\narch = 'resnet18'", "use = 'simple-cnn'"]
)
def test_what_they_propose_is_valid(line: Line, spec: Path, settings: str) -> None:
    text = spec.read_text().replace('use = "simplenet"\nhidden = [6]', settings)
    spec.write_text(text)
    line("validate", "spec.toml", code=0)


def test_evaluate_takes_the_place_of_moved_data(line: Line, spec: Path) -> None:
    run = sightx.run(spec, runs="runs")
    (spec.parent / "data").rename(spec.parent / "moved")
    hint = hint_of(line("evaluate", run.id, code=3))
    change = re.findall(r"--set \S+", hint)[0].replace("FOLDER", "moved")
    line("evaluate", run.id, *change.split(), code=0)
    text = line("evaluate", run.id, *change.split(), "--set", "optimizer.lr=0.3")
    assert "would define another experiment" in text


@pytest.mark.parametrize("folder", ["runs", "other runs"])
def test_the_next_command_of_a_run_works(
    line: Line, spec: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    sightx.run(spec, runs=folder, observers=["console"])
    next_command = capsys.readouterr().out.splitlines()[-1].removeprefix("next: sightx ")
    words = shlex.split(next_command.replace("IMAGE", "data/test/dark/0.png"))
    line(*words, code=0)


def test_a_misplaced_folder_of_runs_is_an_error(line: Line, spec: Path) -> None:
    words = ["run", "spec.toml", "--continue", "--quiet", "--runs"]
    assert "nor the folder above it exists" in line(*words, "not/here", code=5)
    assert not (spec.parent / "not").exists()
    line(*words, "here", code=0)


def change_images(folder: Path) -> list[str]:
    copy = folder / "copy"
    shutil.copytree(folder / "data", copy)
    (copy / "train" / "dark" / "0.png").unlink()
    return ["dataset.root=copy"]


def change_labels(folder: Path) -> list[str]:
    copy = folder / "copy"
    shutil.copytree(folder / "data", copy)
    (copy / "train" / "dark" / "0.png").rename(copy / "train" / "light" / "00.png")
    return ["dataset.root=copy"]


@pytest.mark.parametrize("change", [change_images, change_labels])
def test_continue_starts_a_new_run_for_other_data(
    spec: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], list[str]]
) -> None:
    monkeypatch.chdir(spec.parent)
    first = sightx.run(spec, runs="runs")
    assert sightx.run(spec, runs="runs", unfinished=True).id == first.id
    other = sightx.load(spec, change(spec.parent))
    assert other.id == first.environment["id"]
    second = sightx.run(other, runs="runs", unfinished=True)
    assert second.id != first.id
    assert sightx.run(other, runs="runs", unfinished=True).id == second.id


def test_continue_starts_a_new_run_for_other_weights(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(spec.parent)
    first = sightx.run(spec, runs="runs")
    weights = first.checkpoint() / "model.safetensors"
    shutil.copy(weights, "start.safetensors")
    tuned = sightx.load(spec, {"model.weights": Path("start.safetensors")})
    second = sightx.run(tuned, runs="runs", unfinished=True)
    assert sightx.run(tuned, runs="runs", unfinished=True).id == second.id
    shutil.copy(second.checkpoint() / "model.safetensors", "start.safetensors")
    assert sightx.run(tuned, runs="runs", unfinished=True).id != second.id


@pytest.mark.parametrize(
    "call",
    [
        lambda spec: sightx.load(spec, 5),
        lambda spec: sightx.load(None),
        lambda spec: sightx.load(spec, [3]),
        lambda spec: sightx.run(3),
        lambda spec: sightx.run({"name": "a"}),
        lambda spec: sightx.run(spec, runs=3),
        lambda spec: sightx.run(spec, observers=3),
        lambda spec: sightx.run(sightx.load(spec), overrides=["seed=1"]),
        lambda spec: sightx.open_run(3),
        lambda spec: sightx.resume(3),
        lambda spec: sightx.open_run("a\0b"),
        lambda spec: sightx.run(spec, runs="a\0b"),
        lambda spec: sightx.run(spec, progress="console"),
        lambda spec: sightx.run(spec, unfinished="runs"),
        lambda spec: sightx.run(spec, profile=1),
        lambda spec: sightx.resume(spec, allow_data_change="yes"),
        lambda spec: sightx.resume(spec, progress=3),
        lambda spec: sightx.resume(spec, experiment=[]),
        lambda spec: sightx.Run(None),
        lambda spec: sightx.Run(spec).checkpoint(["best"]),
        lambda spec: sightx.Run(spec).predictions(None),
        lambda spec: sightx.Run(spec).predictions_of(3),
        lambda spec: sightx.table(None),
        lambda spec: sightx.Predictor.load(b"runs"),
        lambda spec: sightx.Experiment(name=3, dataset=3, model=3),
    ],
)
def test_a_wrong_type_is_one_line(spec: Path, call: Callable[[Path], object]) -> None:
    with pytest.raises(SightXError) as caught:
        call(spec)
    assert all("\n" not in str(problem) for problem in caught.value.problems)


def test_a_predictor_refuses_what_is_not_an_image_or_a_device(spec: Path, folders: Path) -> None:
    run = sightx.run(spec, runs=spec.parent / "runs")
    for device in (None, "nope", "", 3, "cpu:x"):
        with pytest.raises(SpecError, match="expected auto, cpu, cuda"):
            sightx.Predictor.load(run.directory, device)
    predictor = sightx.Predictor.load(run.directory, "cpu")
    for image in (None, 3, [], True, "a\0b"):
        with pytest.raises(SpecError):
            predictor.predict(image)
    for images in (3, b"x", "image.png", [3]):
        with pytest.raises(SpecError):
            predictor.predict_all(images)
    pictures = folders.glob("test/*/*.png")
    assert len(predictor.predict_all(pictures)) == 12
    assert sightx.resume(run, experiment=str(spec)).id == run.id


def test_dir_lists_every_public_name() -> None:
    script = "import sightx; print(*dir(sightx))"
    listed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) >= {*sightx.__all__, "__version__"}
    for name in sightx.__all__:
        assert getattr(sightx, name) is not None
    assert sightx.__version__ == version("sightx")


def test_python_takes_strings_and_mappings(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    overrides = {"training.epochs": 1, "execution": {"threads": 1}, "dataset.root": Path("data")}
    run = sightx.run("spec.toml", runs="elsewhere", overrides=overrides)
    assert len(run.metrics) == 1
    assert run.directory.parent == Path("elsewhere")
    assert sightx.resume(str(run.directory)).id == run.id
    assert len(sightx.table("spec.toml")) == 48


def test_home_is_expanded_everywhere(
    line: Line, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for `--runs=~/x`, where the shell leaves the `~`."""
    home = tmp_path / "home"
    shutil.copytree(spec.parent / "data", home / "data")
    shutil.copy(spec, home / "base.toml")
    monkeypatch.setenv("HOME", str(home))
    words = ["--quiet", "--set", "dataset.root=~/data"]
    line("run", "~/base.toml", "--runs=~/x", *words, code=0)
    (run,) = (home / "x").iterdir()
    line("evaluate", f"~/x/{run.name}", "--set", "dataset.root=~/data", code=0)
    line("predict", f"~/x/{run.name}", "~/data/test/dark/0.png", code=0)
    (spec.parent / "sightx.local.toml").write_text('runs = "~/y"\n')
    line("run", "spec.toml", "--quiet", code=0)
    assert len(list((home / "y").iterdir())) == 1
    (spec.parent / "derived.toml").write_text('extends = "~/base.toml"\nname = "derived"\n')
    line("validate", "derived.toml", code=0)
    shutil.copy(run / "split.csv", home / "split.csv")
    listed = "split={use='listed', file='~/split.csv'}"
    line("validate", "--deep", "spec.toml", "--set", listed, code=0)
    sightx.open_run(f"~/x/{run.name}")
    sightx.Predictor.load(f"~/x/{run.name}").predict("~/data/test/dark/0.png")
    assert not (spec.parent / "~").exists()
