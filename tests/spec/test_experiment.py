from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sightx import SpecError, load
from sightx.builtin.models.simplenet import SimpleNet
from sightx.builtin.optimizers import Adam
from sightx.plugin import Model
from sightx.spec.experiment import Experiment, Training, iter_components

FOLDER = """\
name = "a"
[dataset]
use = "image-folder"
root = "data"
[model]
use = "simplenet"
weights = "w/best.pt"
[optimizer]
use = "adam"
lr = 0.1
[[augment]]
use = "flip"
"""


@pytest.mark.parametrize(
    "override",
    ["name=b", "dataset.root=/elsewhere", "observer=[]", "execution.device=cpu", 'allow=["x"]',
     "model.weights=other/best.pt", "optimizer.use=sightx:adam", "optimizer.lr=1e-1"],
)  # fmt: skip
def test_settings_that_do_not_change_results_do_not_change_the_id(resolve, override: str) -> None:
    overrides = [override, "optimizer.lr=0.1"] if "use=" in override else [override]
    assert resolve(FOLDER, *overrides).id == resolve(FOLDER).id


@pytest.mark.parametrize(
    "override",
    ["seed=1", "optimizer.lr=0.2", "optimizer.use=sgd", "split.seed=1", "split.validation=0.2",
     "training.epochs=3", "training.batch_size=16", "training.monitor=validation/loss",
     "augment=[]", "augment.flip.use=rotate", "model.weights=w/other.pt", "model.weights=none",
     "model.hidden=[4]", "evaluation.test=on-request", "dataset.exclude=bad.csv",
     "preprocess.resize.size=64", 'loss.use="inverse-frequency-cross-entropy"'],
)  # fmt: skip
def test_settings_that_change_results_change_the_id(resolve, override: str) -> None:
    overrides = [override, "augment.rotate.degrees=9"] if "rotate" in override else [override]
    assert resolve(FOLDER, *overrides).id != resolve(FOLDER).id


def test_only_the_name_of_an_excluded_file_is_part_of_the_id(resolve) -> None:
    ids = {resolve(FOLDER, f"dataset.exclude={path}").id for path in ("/a/bad.csv", "b/bad.csv")}
    assert len(ids) == 1


def test_a_revision_changes_the_id(resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(FOLDER).id
    monkeypatch.setattr(Adam, "revision", 2)
    assert resolve(FOLDER).id != before


def test_an_id_is_a_sha256_and_the_same_in_every_process(resolve, working_folder: Path) -> None:
    expected = resolve(FOLDER).id
    assert len(bytes.fromhex(expected)) == 32
    code = "import sightx; print(sightx.load('a.toml').id)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            cwd=working_folder, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.stdout.strip() == expected


def test_components_are_iterated_with_nested_ones_but_without_observers(resolve) -> None:
    experiment = resolve(FOLDER)
    components = [f"{item.kind}:{item.name}" for item in iter_components(experiment)]
    assert "augment:flip" in components
    assert "optimizer:adam" in components
    assert not [name for name in components if name.startswith("observer:")]

    class Pair(Model):
        """Two networks."""

        name = "pair"

        inner: Model

    pair = Pair(inner=SimpleNet())
    assert [item.name for item in iter_components(experiment.model_copy(update={"model": pair}))
            if item.kind == "model"] == ["pair", "simplenet"]  # fmt: skip


def test_an_experiment_is_immutable_and_equal_to_a_copy_in_python(resolve) -> None:
    experiment = resolve(FOLDER)
    values = {name: getattr(experiment, name) for name in Experiment.model_fields}
    copy = Experiment(**values)
    assert copy.context.path is None
    assert copy == experiment
    assert copy.id == experiment.id
    with pytest.raises(Exception, match="frozen"):
        copy.seed = 3  # type: ignore[misc]


def test_tables_contain_plain_values_and_no_unset_keys(resolve) -> None:
    tables = resolve(FOLDER).tables()
    assert tables["dataset"]["root"].endswith("/data")
    assert "exclude" not in tables["dataset"]
    assert tables["augment"][0]["use"] == "flip"
    assert not any(isinstance(value, (tuple, Path)) for value in tables["dataset"].values())


@pytest.mark.parametrize(
    ("name", "good"),
    [("a", True), ("eyepacs-resnet50_2.1", True), ("a" * 64, True), ("a" * 65, False),
     ("", False), (".a", False), ("a/b", False), ("../x", False), ("a b", False), ("ä", False),
     ("a\\n", False)],
)  # fmt: skip
def test_a_name_must_be_a_portable_folder_name(resolve, failures, name: str, good: bool) -> None:
    text = FOLDER.replace('"a"', f'"{name}"', 1)
    if good:
        assert resolve(text).name == name
    else:
        assert "does not fit; name of the runs" in failures(text)[0]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices(resolve, device: str) -> None:
    assert resolve(FOLDER, f"execution.device={device}").execution.device == device


def test_specs_of_every_released_version_still_load() -> None:
    zoo = sorted((Path(__file__).parents[1] / "fixtures").glob("spec-*.toml"))
    assert zoo
    for path in zoo:
        experiment = load(path)
        assert experiment.tables()["schema_version"] == 1
        assert experiment.id == load(path, ["schema_version=1", "name=other"]).id


MINIMAL = {"name": "a", "dataset": {"use": "synthetic-fundus"}, "model": {"use": "simplenet"}}


def test_an_experiment_in_python_has_the_defaults_of_a_spec(resolve) -> None:
    from_file = resolve()
    in_python = Experiment(**MINIMAL)
    assert in_python == from_file
    assert in_python.id == from_file.id
    assert in_python.training.monitor == "validation/qwk"
    assert [policy.name for policy in in_python.checkpoint] == ["best", "last"]
    with_components = Experiment(
        name="a", dataset=in_python.dataset, model=SimpleNet(), metric=(), training=Training()
    )
    assert [metric.name for metric in with_components.metric] == ["qwk", "accuracy"]
    own_monitor = Experiment(**MINIMAL, metric=[], training={"monitor": "validation/loss"})
    assert [metric.name for metric in own_monitor.metric] == ["accuracy"]


def test_paths_in_python_belong_to_the_working_folder(
    resolve, working_folder: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SIGHTX_PLACE_EYES", "/eyes")
    model = {"use": "simplenet", "weights": "w/best.pt"}
    dataset = {"use": "csv", "root": "@eyes/a", "exclude": Path("bad.csv")}
    experiment = Experiment(name="a", dataset=dataset, model=model)
    assert experiment.tables()["dataset"]["root"] == "/eyes/a"
    assert experiment.tables()["dataset"]["exclude"] == str(working_folder / "bad.csv")
    assert experiment.model.weights == str(working_folder / "w" / "best.pt")
    assert dataset["root"] == "@eyes/a"
    text = (
        'name = "a"\n[dataset]\nuse = "csv"\nroot = "@eyes/a"\nexclude = "bad.csv"\n'
        '[model]\nuse = "simplenet"\nweights = "w/best.pt"\n'
    )
    assert experiment == resolve(text)


def test_every_problem_of_an_experiment_in_python_names_its_key() -> None:
    with pytest.raises(SpecError) as caught:
        Experiment(
            name="a b",
            dataset={"use": "synthetic-fundus", "size": "x"},
            model={"use": "simplnet"},
            augment=[{"use": "flip"}, {"use": "flip", "horizontal": 2}],
            training={"epochs": 0},
        )
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [
        "error[invalid-value] name",
        "error[wrong-type] dataset.size",
        "error[invalid-value] augment.1.horizontal",
        "error[unknown-name] model.use",
        "error[invalid-value] training.epochs",
    ]


def test_an_experiment_in_python_can_be_pickled() -> None:
    experiment = Experiment(**MINIMAL)
    again = pickle.loads(pickle.dumps(experiment))
    assert again == experiment
    assert again.context.path is None
