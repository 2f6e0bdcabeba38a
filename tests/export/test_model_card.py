"""The model card against the files of the run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from sightx import Predictor, Run
from sightx.export.model_card import model_card
from support.commands import sightx_main


def test_every_figure_of_the_card_is_one_of_the_run(trained: Run, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    metrics = re.findall(r'- type: "(.+)"\n\s+value: (.+)', front)
    result = trained.result["test"]
    assert {f"test/{name}": float(value) for name, value in metrics} == {
        name: value for name, value in result.items() if value is not None
    }
    rows = [row[2:-2].split(" | ") for row in re.findall(r"^\|.*\|$", text, re.M)]
    rows = rows[next(at for at, row in enumerate(rows) if row[0] == "metric") :]
    assert rows[0] == ["metric", "validation", "test", "majority"]
    named = {row[0]: row[1:] for row in rows[2:]}
    assert len(named) == len(trained.result["validation"])
    for at, split in enumerate(("validation", "test")):
        for key, value in trained.result[split].items():
            low, high = trained.result["intervals"].get(key, (None, None))
            interval = "all draws agree" if low == high else f"{low:.4f} to {high:.4f}"
            limits = "" if low is None else f" ({interval})"
            assert named[key.partition("/")[2]][at] == f"{value:.4f}{limits}"
    for name, row in named.items():
        baseline = trained.result["baselines"].get(f"test/{name}")
        assert row[2] == ("" if baseline is None else f"{baseline:.4f}")


def test_the_manifest_and_the_card_have_the_same_figures_and_name_gaps(
    trained: Run, exported: Path
) -> None:
    figures = json.loads((exported / "manifest.json").read_bytes())["figures"]
    accuracy = next(one for one in figures if (one["split"], one["metric"]) == ("test", "accuracy"))
    assert accuracy == {
        "split": "test", "metric": "accuracy", "value": trained.result["test"]["test/accuracy"],
        "low": trained.result["intervals"]["test/accuracy"][0],
        "high": trained.result["intervals"]["test/accuracy"][1],
        "majority": trained.result["baselines"]["test/accuracy"],
    }  # fmt: skip
    card = (exported / "README.md").read_text()
    assert "have not stated: purpose, data source, limitations, licence, contact." in card


def test_the_card_names_the_kind_of_dataset(trained: Run, tmp_path: Path) -> None:
    model = Predictor.load(trained.checkpoint("best")).model
    assert '\n      type: "image-folder"\n' in model_card(trained, model, None)
    run = Run(shutil.copytree(trained.directory, tmp_path / trained.id))
    tables = run.directory / "experiment.toml"
    tables.write_text(tables.read_text().replace('use = "image-folder"', 'use = "eyepacs"'))
    assert '\n      type: "eyepacs"\n' in model_card(run, model, None)


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
