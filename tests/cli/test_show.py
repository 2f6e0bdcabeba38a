from __future__ import annotations

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


def test_show_prints_the_whole_experiment_as_a_spec(sightx, here: Path) -> None:
    (here / "a.toml").write_text(SPEC)
    done = sightx("show", "a.toml")
    assert (done.code, done.err) == (0, "")
    shown = tomllib.loads(done.out)
    assert shown["optimizer"] == {"use": "adam", **shown["optimizer"]}
    assert shown["training"]["epochs"] == 20
    assert shown["dataset"]["root"] == str(here / "data")
    assert done.out.startswith("# experiment id: ")


def test_what_show_prints_is_a_spec_of_the_same_experiment(sightx, here: Path) -> None:
    (here / "a.toml").write_text(SPEC)
    first = sightx("show", "a.toml", "--set", "training.epochs=3").out
    (here / "whole.toml").write_text(first)
    assert sightx("show", "whole.toml").out == first


def test_show_of_a_wrong_spec_prints_nothing(sightx, here: Path) -> None:
    (here / "a.toml").write_text(SPEC + "hiden = [3]\n")
    done = sightx("show", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert done.lines == [
        "a.toml:7:1: error[unknown-key] model.hiden: unknown key; did you mean 'hidden'?"
    ]
