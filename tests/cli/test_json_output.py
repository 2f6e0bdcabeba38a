"""Standard output of commands with --json, while components print."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest

from sightx.cli.main import COMMANDS
from support.commands import sightx_main

CHATTY = """
print("import")
from sightx.builtin.datasets.folder import ImageFolder
from sightx.plugin import Metric, hookimpl


class Talk(ImageFolder):
    \"\"\"A dataset that prints.\"\"\"

    name = "talk"

    def traits(self):
        print("traits")
        return super().traits()

    def table(self):
        print("table")
        return super().table()


class Chat(Metric):
    \"\"\"A metric that prints.\"\"\"

    name = "chat"

    def values(self, classes):
        print("values")
        return {"chat": "max"}

    def compute(self, predictions):
        print("compute")
        return {"chat": 1.0}


@hookimpl
def sightx_components():
    print("hook")
    return [Talk, Chat]
"""


def test_only_the_json_is_printed(
    install: Callable[..., Path], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("chatty", CHATTY)
    folder = spec.parent
    chatty = spec.read_text().replace('use = "image-folder"', 'use = "talk"')
    spec.write_text(chatty + '[[metric]]\nuse = "chat"\n[[metric]]\nuse = "accuracy"\n')
    runs = folder / "runs"
    for seed in "01":
        words = ["--quiet", "--runs", str(runs), "--set", f"seed={seed}"]
        assert sightx_main("run", str(spec), *words) == 0
    one, two = map(str, runs.iterdir())
    root = ["--runs", str(runs)]
    arguments = {
        "audit": [str(spec)], "cache": [], "compare": [one, two], "diff": [one, two],
        "doctor": root, "evaluate": [one], "list-plugins": [], "list-runs": root,
        "show": [str(spec)], "predict": [one, str(folder / "data" / "test" / "dark" / "0.png")],
        "show-plugin": ["dataset", "talk"], "show-run": [one], "tag": [one],
    }  # fmt: skip
    modules = {name: import_module(module).command for name, module in COMMANDS.items()}
    archive = str(folder / "run.zip")
    arguments |= {
        "archive": [one, "-o", archive], "import-run": [archive, *root], "evaluate": [one],
        "run": ["--again", one, *root], "remove-run": [two, "--yes", *root],
    }  # fmt: skip
    # `ship` needs a server: tests/trackers/test_mlflow.py
    assert {*arguments, "ship"} == {name for name, one in modules.items() if takes_json(one)}
    for name, words in arguments.items():
        capsys.readouterr()
        assert sightx_main(name, *words, "--json") in (0, 3)
        assert json.loads(capsys.readouterr().out) is not None, name
    assert sightx_main("validate", "--deep", str(spec), "--format", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["specs"][0]["status"] == "valid"
    assert "table" in err


def takes_json(command: click.Command) -> bool:
    return any("--json" in option.opts for option in command.params)
