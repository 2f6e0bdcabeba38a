"""The blocks of the README run, and its commands, specs, links and targets exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import sightx
from sightx.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_first_spec_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(blocks("toml")[0])
    experiment = sightx.load(path)
    assert experiment.split.name == "grouped"
    assert "qwk" in [metric.name for metric in experiment.metric]


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    (tmp_path / "runs").mkdir()
    Image.new("RGB", (40, 40), (120, 60, 20)).save(tmp_path / "runs" / "eye.png")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    small = (
        '"training.epochs": 1, "dataset.patients": 400, "dataset.size": 32, '
        '"preprocess.resize.size": 32'
    )
    exec(compile(code.replace('"training.epochs": 3', small), "README.md", "exec"), {})
    assert list((tmp_path / "runs").glob("*quickstart*"))


def test_every_command_exists() -> None:
    lines = re.findall(r"^    sightx (.*?)(?:  +#.*)?$", TEXT, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        assert shlex.split(line)[0] in COMMANDS, line


def test_every_spec_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+\.toml)` \|", TEXT, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "specs").glob("*.toml")}


def test_the_extras_that_developers_do_not_have_are_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (sentence,) = re.findall(r"every extra but (.*?);", TEXT, re.DOTALL)
    lacking = {name for name, needs in extras.items() if set(needs) - set(extras["dev"])}
    assert set(re.findall(r"`([\w-]+)`", sentence)) == lacking


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
