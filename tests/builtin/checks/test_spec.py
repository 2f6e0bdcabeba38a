from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx.builtin.checks import CHECKS, spec

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
    from sightx.spec.load import examine

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
        (["training.monitor=validation/accuracy"], "accuracy-on-imbalance", "training.monitor",
         "warning"),
        (["split={use='given'}"], "given-without-split", "split.use", "error"),
        (["split={use='stratified'}"], "groups-divided", "split.use", "warning"),
        (["checkpoint=[{use='best'}, {use='best', monitor='train/loss'}]"], "one-name-twice",
         "checkpoint.1", "error"),
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
        (["scheduler.warmup=20.0"], "long-warmup"),
        (["sampler.use=balanced"], "double-balance"),
        (["model.trainable=['head', 'hidden*', 'hidden1.weight']", "model.weights=a.pt"],
         "unknown-part"),
        (["model.trainable=['head']", "model.weights=run:x"], "frozen-random"),
        (["training.monitor=validation/qwk"], "accuracy-on-imbalance"),
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
    assert all(f'"{check.code}"' in text for check in spec.CHECKS)
