"""What validation and test cannot measure is said before training, and at the end again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx import DataError, SpecError
from sightx.builtin.checks import evaluation
from sightx.runner import table
from sightx.spec import check_runner

Write = Callable[..., None]

SPEC = """
name = "a"
observer = []
[dataset]
use = "csv"
root = "data"
split = "part"
[[preprocess]]
use = "resize"
size = 8
[model]
use = "simplenet"
[training]
epochs = 1
batch_size = 4
[execution]
device = "cpu"
"""
PLUGIN = """
import math
from sightx.plugin import Checkpoint, Metric, Postprocess, hookimpl

class Recall(Metric):
    "Recall of the rare class, and the mean certainty of wrong predictions."
    name = "rare"
    def values(self, classes):
        return {"rare": "max", "rare-wrong": "min"}
    def compute(self, predictions):
        rare = predictions.labels == 0
        wrong = predictions.decisions != predictions.labels
        certainty = predictions.probabilities.max(axis=1)
        return {
            "rare": (predictions.decisions[rare] == 0).mean() if rare.any() else math.nan,
            "rare-wrong": certainty[wrong].mean() if wrong.any() else math.nan,
        }

class Fails(Metric):
    "Fails on whatever it gets."
    name = "fails"
    def values(self, classes):
        return {"fails": "max"}
    def compute(self, predictions):
        raise RuntimeError("no")

class Never(Metric):
    "Has a value only for more samples than there are."
    name = "never"
    def values(self, classes):
        return {"never": "max"}
    def compute(self, predictions):
        return {"never": 1.0 if len(predictions) < 8 else math.nan}

class TopTwo(Checkpoint):
    "Keeps what its metric says."
    name = "top-two"
    monitor: str = "validation/loss"
    def keep(self, history):
        return ()

class Fitted(Postprocess):
    "Is fitted."
    name = "fitted"
    def fit(self, validation):
        return {}
    def apply(self, predictions, state):
        return predictions

@hookimpl
def sightx_components():
    return [Recall, Fails, Never, TopTwo, Fitted]
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin; a process can import a module of one name only once."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "sightx_evaluation_checks.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def write(tmp_path: Path, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write images with labels, as split -> class -> number, and a spec."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugins}"]\n')
    (tmp_path / "a.toml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)

    def call(**splits: dict[str, int]) -> None:
        (tmp_path / "data").mkdir(exist_ok=True)
        rows, rng = ["image,label,part"], np.random.default_rng(0)
        for split, classes in splits.items():
            for name, count in classes.items():
                for number in range(count):
                    file = f"{split}-{name}-{number}.png"
                    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / "data" / file)
                    rows.append(f"{file},{name},{split}")
        (tmp_path / "data" / "labels.csv").write_text("\n".join(rows) + "\n")

    return call


def found(*sets: str) -> list[tuple[str, str, str]]:
    """Return the code, key and message of each finding."""
    experiment = sightx.load("a.toml", sets)
    problems = check_runner.run_checks(
        experiment, experiment.context, "data", table=table(experiment)
    )
    return [(problem.code, problem.path, problem.message) for problem in problems]


BOTH = {"a": 8, "b": 8}


def test_data_in_order_have_no_finding(write: Write) -> None:
    write(train=BOTH, validation=BOTH, test=BOTH)
    assert found("dataset.classes=['a','b']", "dataset.ordered=true") == []
    assert found("metric=[{use='rare'},{use='fails'},{use='confusion-matrix'}]") == []


def test_class_without_samples(write: Write) -> None:
    write(train=BOTH, validation=BOTH, test={"b": 8})
    ((code, path, message),) = found()
    assert (code, path) == ("class-without-samples", "split")
    assert "the test split has no samples of 'a'" in message
    assert found("allow=['class-without-samples']") == []
    write(train={**BOTH, "c": 8}, validation={"a": 8}, test={"b": 8, "c": 8})
    messages = [message for code, _, message in found() if code == "class-without-samples"]
    assert ["validation" in messages[0], "test" in messages[1]] == [True, True]
    assert "'b', 'c'" in messages[0]
    assert "'a'" in messages[1]


@pytest.mark.parametrize(
    ("sets", "path", "name"),
    [
        (["dataset.classes=['a','b']", "dataset.ordered=true"], "training.monitor", "qwk"),
        (["metric=[{use='rare'}]", "training.monitor=validation/rare"], "training.monitor", "rare"),
        (["training.monitor=validation/recall/a"], "training.monitor", "recall/a"),
        (["training.monitor=validation/f1/a"], "training.monitor", "f1/a"),
        (["checkpoint=[{use='top-two', monitor='validation/recall/a'}]"], "checkpoint.0.monitor",
         "recall/a"),
        (["stopping={use='early', monitor='validation/recall/a'}"], "stopping.monitor", "recall/a"),
        (["scheduler={use='plateau', monitor='validation/recall/a'}"], "scheduler.monitor",
         "recall/a"),
    ],
)  # fmt: skip
def test_undefined_metric_that_is_monitored(
    write: Write, sets: list[str], path: str, name: str
) -> None:
    write(train=BOTH, validation={"b": 8}, test=BOTH)
    findings = [finding for finding in found(*sets) if finding[0] == "undefined-metric"]
    assert findings == [
        ("undefined-metric", path,
         f"'validation/{name}' never has a value for these data: no epoch can be the best")
    ]  # fmt: skip


def test_undefined_metric_that_is_not_monitored(write: Write) -> None:
    write(train=BOTH, validation=BOTH, test={"b": 8})
    sets = ["dataset.classes=['a','b']", "metric=[{use='qwk'},{use='rare'},{use='fails'}]"]
    codes = {code: message for code, _, message in found(*sets, "dataset.ordered=true")}
    assert codes["undefined-metric"] == "never a value for these data: test/qwk, test/rare"


def test_no_validation(write: Write) -> None:
    write(train=BOTH, test=BOTH)
    assert [finding[:2] for finding in found()] == [("no-validation", "training.monitor")]
    assert found("training.monitor=train/loss") == []
    assert found("split={use='given', validation=0.25}") == []
    calm = "training.monitor=train/loss"
    for sets, path in {
        "stopping={use='early', monitor='validation/loss'}": "stopping.monitor",
        "scheduler={use='plateau', monitor='validation/accuracy'}": "scheduler.monitor",
        "checkpoint=[{use='best', monitor='validation/loss'}]": "checkpoint.0.monitor",
        "checkpoint=[{use='top-two'}]": "checkpoint.0.monitor",
        "postprocess=[{use='fitted'}]": "postprocess.0.use",
    }.items():
        assert [finding[:2] for finding in found(calm, sets)] == [("no-validation", path)]


def test_no_validation_is_an_error_before_training_and_its_hint_works(write: Write) -> None:
    write(train=BOTH, test=BOTH)
    with pytest.raises(DataError, match="no-validation") as caught:
        sightx.run(sightx.load("a.toml"), runs=Path("runs"))
    assert not Path("runs").exists()
    assert "set split.validation = 0.1, or training.monitor" in str(caught.value)
    for sets in (["split.validation=0.25"], ['training.monitor="train/loss"']):
        assert sightx.run(sightx.load("a.toml", sets), runs=Path("runs")).result["exit"] == 0


def test_a_share_of_nothing_for_validation_is_found_without_the_data(write: Write) -> None:
    write(train=BOTH)
    sets = ["split={use='stratified', validation=0.0}", "training.monitor=train/loss"]
    with pytest.raises(SpecError, match="fitted cannot be fitted"):
        sightx.load("a.toml", [*sets, "postprocess=[{use='fitted'}]"])
    sightx.load("a.toml", sets)


def test_unknown_class_monitor(write: Write) -> None:
    write(train=BOTH, validation=BOTH)
    assert found("training.monitor=validation/recall/b") == []
    (finding,) = found("training.monitor=validation/recall/c")
    assert finding[:2] == ("unknown-class-monitor", "training.monitor")


def test_unknown_positive_class(write: Write) -> None:
    write(train=BOTH, validation=BOTH)
    assert found("evaluation.positive=['b']") == []
    (finding,) = found("evaluation.positive=['c']")
    assert finding[:2] == ("unknown-positive-class", "evaluation.positive")
    for positive in ("[]", "['b', 'a']"):
        assert [code for code, *_ in found(f"evaluation.positive={positive}")] == [
            "unknown-positive-class"
        ]


def test_unknown_positive(write: Write) -> None:
    write(train=BOTH, validation=BOTH)
    with pytest.raises(SpecError, match=r"there is no class 'bb'.*did you mean 'b'"):
        sightx.load("a.toml", ["dataset.classes=['a', 'b']", "evaluation.positive=['bb']"])


def test_a_binary_decision_needs_a_validation_split(write: Write) -> None:
    write(train=BOTH)
    codes = found("evaluation.positive=['b']", "training.monitor=train/loss", "checkpoint=[]")
    assert [code for code, *_ in codes] == ["no-validation"]


def test_warnings_are_said_again_at_the_end(
    write: Write, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write(train=BOTH, validation={"b": 8}, test=BOTH)
    sets = ["metric=[{use='never'}, {use='recall'}]", "training.monitor=train/loss"]
    run = sightx.run(sightx.load("a.toml", sets), observers=["console"], runs=Path("runs"))
    warnings = run.result["warnings"]
    assert "the validation split has no samples of 'a'" in warnings[0]
    assert warnings[-1] == "no epoch has a value of validation/never"
    assert warnings[0] in caplog.text
    for printed in (capsys.readouterr().out, (run.directory / "console.log").read_text()):
        for warning in warnings:
            assert f"warning: {warning}" in printed.replace("\n", " ").replace("  ", " ")
    write(train=BOTH, validation=BOTH, test=BOTH)
    assert "warnings" not in sightx.run(sightx.load("a.toml"), runs=Path("runs")).result


def test_every_rule_has_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert all(check.code in text or check.find.__name__ in text for check in evaluation.CHECKS)
