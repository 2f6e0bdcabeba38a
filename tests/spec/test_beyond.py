from __future__ import annotations

from pathlib import Path

import pytest

from sightx.spec.load import examine

SPEC = """
name = "a"
[dataset]
use = "synthetic-fundus"
{dataset}
[model]
use = "torchvision"
arch = "resnet19"
[scheduler]
use = "step"
step_size = 30
warmup = 99.0
{scheduler}
[training]
monitor = "validation/qwq"
"""


def codes(tmp_path: Path, dataset: str = "", scheduler: str = "") -> list[str]:
    path = tmp_path / "a.toml"
    path.write_text(SPEC.format(dataset=dataset, scheduler=scheduler))
    return [problem.code for problem in examine(path).problems]


CHECKS = ["unknown-arch", "step-unreached", "long-warmup", "unknown-monitor"]


def test_a_typo_hides_no_rule(tmp_path: Path) -> None:
    assert codes(tmp_path) == CHECKS
    assert codes(tmp_path, scheduler="gama = 0.5") == [*CHECKS[:3], "unknown-key", CHECKS[3]]


@pytest.mark.parametrize("dataset", ["patients = 3", "pacients = 30"])
def test_what_wrong_data_left_open_is_not_judged(tmp_path: Path, dataset: str) -> None:
    found = codes(tmp_path, dataset=dataset)
    assert "groups-divided" not in found
    assert set(CHECKS) - {"unknown-monitor"} <= set(found)


def test_a_section_whose_component_is_unknown_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    text = SPEC.format(dataset="", scheduler="").replace('use = "step"', 'use = "stepp"')
    path.write_text(text)
    found = [problem.code for problem in examine(path).problems]
    assert found == ["unknown-arch", "unknown-name", "unknown-monitor"]


def test_without_a_dataset_nothing_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\n[model]\nuse = "torchvision"\narch = "resnet19"\n')
    assert [problem.code for problem in examine(path).problems] == ["missing-section"]
