from __future__ import annotations

import json
import tomllib
from pathlib import Path

SPEC = """\
name = "a"
[dataset]
use = "image-folder"
root = "data"
[model]
use = "simplenet"
"""


def test_show_prints_the_complete_experiment_with_origins(sightx, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(SPEC)
    done = sightx("show", "a.toml")
    assert (done.code, done.err) == (0, "")
    shown = tomllib.loads(done.out)
    assert shown["optimizer"] == {"use": "adam", **shown["optimizer"]}
    assert shown["training"]["epochs"] == 20
    assert shown["dataset"]["root"] == str(working_folder / "data")
    head = done.out.splitlines()
    assert head[0].startswith("# experiment id: ")
    assert head[1] == "# spec: a.toml"
    (line,) = [line for line in head if line.startswith("root = ")]
    assert line.endswith("   # a.toml:4")


def test_the_output_is_a_spec_of_the_same_experiment(sightx, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(SPEC)
    first = sightx("show", "a.toml", "--set", "training.epochs=3").out
    assert "epochs = 3" in first
    assert "# --set training.epochs=3" in first
    (working_folder / "shown.toml").write_text(first)
    again = sightx("show", "shown.toml").out
    assert again.splitlines()[0] == first.splitlines()[0]
    assert tomllib.loads(again) == tomllib.loads(first)


def test_show_as_json(sightx, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(SPEC)
    shown = json.loads(sightx("show", "a.toml", "--json").out)
    assert shown["experiment"] == tomllib.loads(sightx("show", "a.toml").out)
    assert shown["origins"]["dataset.root"] == "a.toml:4"
    assert shown["origins"]["preprocess.0.size"] == "default"
    assert shown["spec"] == str(working_folder / "a.toml")
    assert len(shown["id"]) == 64


def test_show_of_a_wrong_spec_prints_nothing(sightx, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(SPEC + "hiden = [3]\n")
    done = sightx("show", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert done.lines == [
        "a.toml:7:1: error[unknown-key] model.hiden: unknown key; did you mean 'hidden'?"
    ]
