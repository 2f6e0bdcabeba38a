from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema

PLUGIN = '''\
from sightx.plugin import Model, hookimpl


class Mine(Model):
    """A model of this project."""

    name = "sightx-test-mine"
    width: int
    """Width of the model."""

    def build(self, channels, outputs):
        """Fail: no test builds it."""
        raise NotImplementedError


@hookimpl
def sightx_components():
    return [Mine]
'''


def project(working_folder: Path, text: str) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()
    (working_folder / "mine" / "sightx_test_schema_mine.py").write_text(text)


def test_the_schema_has_the_components_of_the_projects_plugins(
    sightx, working_folder: Path
) -> None:
    project(working_folder, PLUGIN)
    done = sightx("schema")
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    check = jsonschema.Draft202012Validator(schema)
    model = {"use": "sightx-test-mine", "width": 3}
    spec = {"name": "a", "dataset": {"use": "synthetic-fundus"}, "model": model}
    assert check.is_valid(spec)
    assert not check.is_valid({**spec, "model": {**model, "width": "3"}})
    assert schema["$defs"]["model.sightx-test-mine"]["description"] == "A model of this project."


def test_the_schema_goes_to_a_file_and_is_always_the_same(sightx, working_folder: Path) -> None:
    done = sightx("schema", "s.json")
    assert (done.code, done.out, done.err) == (0, "", "")
    sightx("schema", "s.json")
    assert (working_folder / "s.json").read_text() == sightx("schema").out


def test_the_schema_does_not_depend_on_settings_of_the_machine(
    sightx, working_folder: Path
) -> None:
    before = sightx("schema").out
    (working_folder / "sightx.local.toml").write_text(
        '[execution]\nthreads = 3\n[places]\nx = "/x"\n'
    )
    assert sightx("schema").out == before


def test_a_broken_plugin_is_a_warning(sightx, working_folder: Path) -> None:
    project(working_folder, "1 / 0\n")
    done = sightx("schema")
    assert done.code == 0
    assert json.loads(done.out)["$defs"]["model.resnet50"]
    (line,) = done.lines
    assert line.startswith("warning[broken-plugin] plugin sightx_test_schema_mine")


def test_schema_and_show_import_no_heavy_package(working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(
        'name = "a"\n[dataset]\nuse = "eyepacs"\nroot = "@x"\n[model]\nuse = "resnet50"\n'
    )
    for words in (["schema"], ["show", "a.toml"], ["show", "a.toml", "--json"]):
        code = (
            "import sys\nfrom sightx.cli.main import main\n"
            f"try: main({words})\nexcept SystemExit as done: assert not done.code\n"
            "print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        loaded = set(done.stderr.split())
        assert not loaded & {"torch", "torchvision", "pandas", "sklearn", "matplotlib", "rich"}


def test_only_a_schema_is_replaced(sightx, working_folder: Path) -> None:
    (working_folder / "schema.json").write_text('{"title": "SightX spec"}')
    assert sightx("schema", "schema.json").code == 0
    assert json.loads((working_folder / "schema.json").read_text())["$defs"]

    (working_folder / "mine.toml").write_text("name = 'mine'")
    (working_folder / "mine.json").write_text('{"title": "mine"}')
    (working_folder / "link.json").symlink_to("schema.json")
    for name in ("mine.toml", "mine.json", "link.json"):
        before = (working_folder / name).read_text()
        done = sightx("schema", name)
        assert done.code == 2
        assert done.lines == [
            f"error[exists] {name} is not a schema of SightX; choose another name, or remove the "
            "file first"
        ]
        assert (working_folder / name).read_text() == before
    assert (working_folder / "link.json").is_symlink()
