from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sightx
from sightx.builtin.checks import CHECKS, schedule, spec
from sightx.spec.load import examine

BASE = """
name = "a"
[dataset]
use = "{dataset}"
{more}
[model]
use = "simplenet"
"""


def found(
    tmp_path: Path, *sets: str, dataset: str = "synthetic-fundus", more: str = ""
) -> list[tuple[str, str, str]]:
    """Return code, path and severity of what the stage `spec` finds."""
    path = tmp_path / "a.toml"
    path.write_text(BASE.format(dataset=dataset, more=more))
    problems = examine(path, sets).problems
    return [(problem.code, problem.path, problem.severity) for problem in problems]


def test_a_spec_without_fault_has_no_finding(tmp_path: Path) -> None:
    assert found(tmp_path) == []


FOLDER = {"dataset": "image-folder", "more": 'root = "."'}


@pytest.mark.parametrize(
    ("sets", "code", "path", "severity"),
    [
        (["training.monitor=validation/qwq"], "unknown-monitor", "training.monitor", "error"),
        (["stopping={use='early', monitor='test/loss'}"], "unknown-monitor", "stopping.monitor",
         "error"),
        (["checkpoint=[{use='best', monitor='x'}]"], "unknown-monitor", "checkpoint.0.monitor",
         "error"),
        (["split.validation=0.0"], "empty-monitor", "training.monitor", "error"),
        (["scheduler={use='step', step_size=20}"], "step-unreached", "scheduler.step_size",
         "warning"),
        (["scheduler={use='gradual-unfreezing'}"], "one-group", "scheduler.use", "warning"),
        (["average={use='swa', start_epoch=20}"], "average-unreached", "average.start_epoch",
         "warning"),
        (["scheduler={use='plateau', patience=20}"], "patience-unreached", "scheduler.patience",
         "warning"),
        (["stopping={use='early', patience=30}"], "patience-unreached", "stopping.patience",
         "warning"),
        (["scheduler.warmup=21.0"], "long-warmup", "scheduler.warmup", "error"),
        (["scheduler={use='one-cycle', warmup=1.0}"], "double-warmup", "scheduler.warmup",
         "warning"),
        (["sampler.use=balanced", "loss.use=inverse-frequency-cross-entropy"], "double-balance",
         "sampler", "warning"),
        (["preprocess=[{use='grayscale'}]"], "no-size", "preprocess", "error"),
        (["model.trainable=['heat']"], "unknown-part", "model.trainable", "error"),
        (["model.trainable=['head']"], "frozen-random", "model.weights", "warning"),
        (["model.head=new"], "unused-head", "model.head", "warning"),
        (["training.monitor=validation/accuracy"], "accuracy-on-imbalance", "training.monitor",
         "warning"),
        (["split={use='given'}"], "given-without-split", "split.use", "error"),
        (["split={use='stratified'}"], "groups-divided", "split.use", "warning"),
        (["sampler={use='balanced-by-column', column='site'}"], "unknown-column",
         "sampler.column", "error"),
        (["checkpoint=[{use='best'}, {use='best', monitor='train/loss'}]"], "one-name-twice",
         "checkpoint.1", "error"),
        (["evaluation.tta=d4", "preprocess=[{use='resize', size=[24, 32]}]"], "views-not-square",
         "evaluation.tta", "error"),
        (["loss.use=coral"], "several-scores", "model.use", "warning"),
        (["dataset={use='image-folder', root='.', ordered=true, classes=['b2', 'b1', 'b3']}"],
         "order-unusual", "dataset.classes", "warning"),
        (["dataset.use=cifar10", "dataset.root=.", "postprocess=[{use='fellow-eye'}]"],
         "no-groups", "postprocess.0.use", "warning"),
    ],
)  # fmt: skip
def test_every_rule_is_found_at_its_place(
    tmp_path: Path, sets: list[str], code: str, path: str, severity: str
) -> None:
    assert (code, path, severity) in found(tmp_path, *sets)


@pytest.mark.parametrize(
    ("sets", "code", "path"),
    [
        (["postprocess=[{use='cut-points'}]"], "needs-order", "postprocess.0.use"),
        (["metric=[{use='qwk'}]", "training.monitor=validation/loss"], "needs-order",
         "metric.0.use"),
        (["dataset.handed=true", "augment=[{use='flip'}]"], "mirrored-labels", "augment.0"),
        (["dataset.handed=true", "augment=[{use='rotate', degrees=180}]"], "mirrored-labels",
         "augment.0"),
        (["dataset.handed=true", "evaluation.tta=flips"], "mirrored-labels", "evaluation.tta"),
    ],
)  # fmt: skip
def test_rules_about_the_classes(tmp_path: Path, sets: list[str], code: str, path: str) -> None:
    assert (code, path, "error") in found(tmp_path, *sets, **FOLDER)


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        (["training.monitor=validation/recall/severe"], "unknown-monitor"),
        (["training.monitor=train/loss", "split.validation=0.0"], "empty-monitor"),
        (["scheduler={use='step', step_size=19}"], "step-unreached"),
        (["scheduler={use='gradual-unfreezing'}", "optimizer.group=[{match=['head'], lr=0.1}]"],
         "one-group"),
        (["average={use='swa', start_epoch=19}"], "average-unreached"),
        (["average.use=ema"], "average-unreached"),
        (["scheduler.warmup=20.0"], "long-warmup"),
        (["sampler.use=balanced"], "double-balance"),
        (["model.trainable=['head', 'hidden*', 'hidden1.weight']", "model.weights=a.pt"],
         "unknown-part"),
        (["model.trainable=['head']", "model.weights=run:x"], "frozen-random"),
        (["model.head=new", "model.weights=run:x"], "unused-head"),
        (["training.monitor=validation/qwk"], "accuracy-on-imbalance"),
        (["loss.use=coral", "model={use='coral-head', base={use='simplenet'}}"], "several-scores"),
        *(
            ([f"dataset={{use='image-folder', root='.', ordered={ordered}, classes={names}}}"],
             "order-unusual")
            for ordered, names in [
                ("true", ["none", "mild", "severe"]), ("true", ["severe", "mild", "none"]),
                ("true", ["b", "c", "a"]), ("false", ["severe", "none", "mild"]),
            ]
        ),
        (["postprocess=[{use='fellow-eye'}]"], "no-groups"),
        (["evaluation.tta=d4"], "views-not-square"),
        (["dataset.use=eyepacs", "dataset.root=.", "augment=[{use='flip'}]"], "mirrored-labels"),
    ],
)  # fmt: skip
def test_what_is_in_order_is_not_found(tmp_path: Path, sets: list[str], code: str) -> None:
    assert code not in [found_code for found_code, _, _ in found(tmp_path, *sets)]


def test_a_class_that_only_the_data_know_may_be_monitored(tmp_path: Path) -> None:
    assert found(tmp_path, "training.monitor=validation/recall/cat", **FOLDER) == []
    wrong = found(tmp_path, "training.monitor=validation/recal/cat", **FOLDER)
    assert wrong == [("unknown-monitor", "training.monitor", "error")]


def test_codes_are_given_once_and_reasons_are_lines() -> None:
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes)
    assert all(check.reason and "\n" not in check.reason for check in CHECKS)


def test_findings_point_into_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(BASE.format(dataset="synthetic-fundus", more="") + "trainable = ['heat']\n")
    with pytest.raises(
        sightx.SpecError, match=r"a.toml:8:1: error\[unknown-part\] model.trainable"
    ):
        sightx.load(path)


def test_parts_are_those_of_the_built_network() -> None:
    from sightx.builtin.models import resnet, simple_cnn, simplenet

    for model in (simplenet.SimpleNet(), simple_cnn.SimpleCnn(), resnet.ResNet50()):
        module = model.build(channels=3, outputs=5, size=(32, 32))
        built = {name.partition(".")[0] for name, _ in module.named_parameters()}
        assert set(model.parts()) == built


def test_a_finding_allowed_is_left_out(tmp_path: Path) -> None:
    sets = ["training.monitor=validation/accuracy", "allow=['accuracy-on-imbalance']"]
    assert found(tmp_path, *sets) == []


def test_every_rule_has_a_test_here_or_beside() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{check.code}"' in text for check in (*spec.CHECKS, *schedule.CHECKS))


PLUGIN = """
from sightx.plugin import Checkpoint, Loss, Metric, Model, Optimizer, Sampler, Scheduler, Split
from sightx.plugin import Augment, Dataset, Postprocess, Preprocess, Stopping, hookimpl

class TakesSplit(Split):
    "Needs a split in the table."
    name = "takes-split"
    def assign(self): ...
    uses_dataset_split = True

class BySample(Split):
    "Ignores groups."
    name = "by-sample"
    def assign(self): ...
    ignores_groups = True

class NoValidation(Split):
    "Has no validation samples."
    name = "no-validation"
    def assign(self): ...
    def empty(self):
        return ["validation"]

class Triangle(Scheduler):
    "Rises, then falls."
    name = "triangle"
    def factor(self): ...
    includes_warmup = True
    step_size: int = 1
    patience: int = 0
    monitor: str | None = None

class Rare(Sampler):
    "Prefers rare classes."
    name = "rare"
    def order(self): ...
    balances = True

class Weighted(Loss):
    "Prefers rare classes."
    name = "weighted"
    def build(self): ...
    balances = True

class TopTwo(Metric):
    "Misleads on imbalanced data."
    name = "top-two"
    def compute(self): ...
    rewards_majority = True
    def values(self, classes):
        return {"top-two": "max"}

class Graded(Metric):
    "Needs an order."
    name = "graded"
    def compute(self): ...
    needs_order = True
    def values(self, classes):
        return {"graded": "max"}

class GradedLoss(Loss):
    "Needs an order."
    name = "graded-loss"
    needs_order = True
    def build(self): ...

class Outer(Dataset):
    "Has a dataset inside."
    name = "outer"
    base: Dataset
    def table(self): ...

class Ema(Model):
    "Has a model inside."
    name = "ema"
    base: Model
    def build(self): ...

class Sharp(Optimizer):
    "Has an optimizer inside."
    name = "sharp"
    base: Optimizer
    def build(self): ...

class Twice(Loss):
    "Has a loss inside."
    name = "twice"
    base: Loss
    def build(self): ...

class Turned(Augment):
    "Mirrors."
    name = "turned"
    def draw(self): ...
    def mirrors(self):
        return True

class Blend(Augment):
    "Mixes classes."
    name = "blend"
    def draw(self): ...
    mixes = True

class OneOf(Augment):
    "One of several augmentations."
    name = "one-of"
    steps: tuple[Augment, ...] = ()
    def draw(self): ...
    @property
    def mixes(self):
        return any(step.mixes for step in self.steps)

class Whole(Preprocess):
    "Keeps the size."
    name = "whole"
    def apply(self): ...

class BestOfTwo(Checkpoint):
    "Keeps a best state, under the usual name."
    name = "best-of-two"
    def keep(self): ...
    best_name = "best"

class Parted(Model):
    "Has one part."
    name = "parted"
    def build(self): ...
    def parts(self):
        return ["body"]

@hookimpl
def sightx_components():
    return [TakesSplit, BySample, NoValidation, Triangle, Rare, Weighted, TopTwo, Graded,
            GradedLoss, Outer, Turned, Blend, OneOf, Ema, Sharp, Twice,
            Whole, BestOfTwo, Parted]
"""


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        (["split.use=takes-split"], "given-without-split"),
        (["split.use=by-sample"], "groups-divided"),
        (["split.use=no-validation"], "empty-monitor"),
        (["scheduler={use='triangle', warmup=1.0}"], "double-warmup"),
        (["scheduler={use='triangle', warmup=30.0}"], "long-warmup"),
        (["scheduler={use='triangle', step_size=20}"], "step-unreached"),
        (["scheduler={use='triangle', patience=20}"], "patience-unreached"),
        (["scheduler={use='triangle', monitor='x'}"], "unknown-monitor"),
        (["sampler.use=rare", "loss.use=weighted"], "double-balance"),
        (["metric=[{use='top-two'}]", "training.monitor=validation/top-two"],
         "accuracy-on-imbalance"),
        (["preprocess=[{use='whole'}]"], "no-size"),
        (["augment=[{use='flip'}, {use='blend'}]", "loss.use=weighted"], "mixed-targets"),
        (["augment=[{use='one-of', steps=[{use='blend'}]}]", "loss.use=weighted"],
         "mixed-targets"),
        (["checkpoint=[{use='best'}, {use='best-of-two'}]"], "one-name-twice"),
        (["model={use='parted', trainable=['head']}"], "unknown-part"),
        (["model={use='parted', trainable=['body']}"], "frozen-random"),
    ],
)  # fmt: skip
def test_components_of_a_plugin_are_checked_by_their_traits(
    tmp_path: Path, plugin: None, sets: list[str], code: str
) -> None:
    assert code in [found_code for found_code, _, _ in found(tmp_path, *sets)]


def test_mixed_samples_need_a_loss_that_takes_them(tmp_path: Path, plugin: None) -> None:
    blended = ["augment=[{use='mixup'}, {use='one-of', steps=[{use='flip'}, {use='blend'}]}]"]
    assert found(tmp_path, *blended) == []
    refused = found(tmp_path, *blended, "loss.use=weighted")
    assert [path for code, path, _ in refused if code == "mixed-targets"] == [
        "augment.0", "augment.1", "augment.1.steps.1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "code"),
    [
        (["metric=[{use='graded'}]"], "needs-order"),
        (["loss.use=graded-loss"], "needs-order"),
        (["dataset.handed=true", "augment=[{use='turned'}]"], "mirrored-labels"),
    ],
)
def test_components_of_a_plugin_are_checked_against_the_dataset(
    tmp_path: Path, plugin: None, sets: list[str], code: str
) -> None:
    assert code in [found_code for found_code, _, _ in found(tmp_path, *sets, **FOLDER)]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the project of the spec a plugin with a component for each trait."""
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sightx_test_traits.py").write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("sightx_test_traits", None)


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("dataset={use='outer', base={use='synthetic-fundus', decode='exact'}}", "decode"),
        ("model={use='ema', base={use='simplenet', weights='a.pt'}}", "weights"),
        ("model={use='ema', base={use='simplenet', trainable=['head']}}", "trainable"),
        ("optimizer={use='sharp', base={use='sgd', lr=0.1}}", "lr"),
        ("optimizer={use='sharp', base={use='sharp', base={use='sgd', lr=0.1}}}", "base.lr"),
    ],
)
def test_settings_that_have_no_effect_in_a_nested_component_are_found(
    tmp_path: Path, plugin: None, table: str, path: str
) -> None:
    kind, setting = table.partition("=")[0], path.rpartition(".")[2]
    assert ("nested-setting", f"{kind}.base.{path}") in [
        (code, path) for code, path, _ in found(tmp_path, table)
    ]
    without = re.sub(rf", {setting}=[^}}]*", "", table)
    assert "nested-setting" not in [code for code, _, _ in found(tmp_path, without)]


def test_a_nested_component_for_ordered_classes_is_found(tmp_path: Path, plugin: None) -> None:
    table = "loss={use='twice', base={use='graded-loss'}}"
    assert ("needs-order", "loss.base.use") in [
        (code, path) for code, path, _ in found(tmp_path, table, **FOLDER)
    ]
