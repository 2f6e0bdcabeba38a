"""The model card against the files of the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sightx import Run
from support.commands import sightx_main


def test_every_figure_of_the_card_is_one_of_the_run(trained: Run, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    metrics = re.findall(r'- type: "(.+)"\n\s+value: (.+)', front)
    result = trained.result["test"]
    assert {f"test/{name}": float(value) for name, value in metrics} == {
        name: value for name, value in result.items() if value is not None
    }
    for name, validation, test in re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \|$", text, re.M)[1:]:
        if name in ("class", "metric"):
            continue
        assert validation == f"{trained.result['validation'][f'validation/{name}']:.4f}"
        assert test == f"{result[f'test/{name}']:.4f}"


def test_the_card_names_data_and_weights(trained: Run, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    manifest = json.loads((exported / "manifest.json").read_bytes())
    assert manifest["files"]["model.safetensors"]["sha256"] in card
    assert "| dark | 12 | 6 | 6 |" in card
    assert trained.id in card


def test_the_commands_and_the_program_of_the_card_work(
    trained: Run,
    exported: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = str(data / "test" / "dark" / "0.png")
    monkeypatch.chdir(exported)
    card = Path("README.md").read_text().replace("image.jpeg", image)
    for command in re.findall(r"^\$ sightx ([^#\n]*)", card, re.M):
        assert sightx_main(*command.split()) == 0
    capsys.readouterr()
    (program,) = re.findall(r"```python\n(.*?)```", card, re.S)
    exec(program)
    assert "dark" in capsys.readouterr().out
