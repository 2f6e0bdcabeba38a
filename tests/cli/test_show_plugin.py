from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from sightx.cli import show_plugin
from sightx.io import toml
from sightx.registry import loading, project
from sightx.registry.components import validate_settings
from sightx.registry.kinds import KINDS
from sightx.spec.experiment import Experiment
from sightx.spec.sections import own_sections, top_level_keys

ROOT = Path(__file__).parents[2]
REGISTRY = loading.load_registry(project.find_project(ROOT))
ENTRIES = {f"{e.component.kind} {e.component.name}": e for e in REGISTRY.entries()}


@pytest.mark.parametrize("title", ENTRIES)
def test_the_example_of_every_component_validates(title: str) -> None:
    entry = ENTRIES[title]
    record = show_plugin.describe(REGISTRY, entry)
    data = toml.parse(record["example"].encode(), "example").data
    (section,) = data
    table = data[section][0] if isinstance(data[section], list) else data[section]
    assert (section, table.pop("use")) == (entry.component.kind, entry.component.name)
    component = validate_settings(entry.component, table, REGISTRY)
    required = {key for key, info in entry.component.model_fields.items() if info.is_required()}
    assert set(table) == required == component.model_fields_set


@pytest.mark.parametrize("title", ENTRIES)
def test_every_default_in_an_example_is_the_default(title: str) -> None:
    entry = ENTRIES[title]
    lines = show_plugin.describe(REGISTRY, entry)["example"].splitlines()
    comments = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    defaults = tomllib.loads("\n".join(comments))
    required = tomllib.loads("\n".join(line for line in lines[2:] if not line.startswith("# ")))
    with_defaults = validate_settings(entry.component, {**required, **defaults}, REGISTRY)
    assert with_defaults == validate_settings(entry.component, required, REGISTRY)
    assert set(defaults) | set(required) <= set(entry.component.model_fields)


def test_a_component_is_shown_with_its_fields(sightx) -> None:
    done = sightx("show-plugin", "preprocess", "resize")
    assert (done.code, done.err) == (0, "")
    text = done.out
    assert text.startswith("preprocess resize\n\nResize images, bilinearly with antialiasing.\n")
    assert "\nplugin    builtin (sightx " in text
    assert "\nrevision  1\n" in text
    assert "size  integer > 0 or array of 2 integers > 0; required\n" in text
    assert 'fit   one of stretch, pad, cover; default "stretch"\n' in text
    assert "One number for a square, or height and width." in text
    assert '[[preprocess]]\nuse = "resize"\nsize = 1  # required: ' in text
    file, _, line = text.partition("\nfile      ")[2].partition("\n")[0].rpartition(":")
    assert Path(file).read_text().splitlines()[int(line) - 1] == "class Resize(Preprocess):"


@pytest.mark.parametrize("section", ["training", "evaluation", "execution", "about", "experiment"])
def test_a_section_of_sightx_itself_is_shown_with_its_fields(sightx, section: str) -> None:
    done = sightx("show-plugin", section)
    assert (done.code, done.err) == (0, "")
    described = json.loads(sightx("show-plugin", section, "--json").out)
    fields = {field["key"]: field for field in described["fields"]}
    classes = own_sections()
    if section == "experiment":
        assert set(fields) == {"name", "seed", "allow", "schema_version", "extends"}
    else:
        assert set(fields) == set(classes[section].model_fields)
        table = tomllib.loads(described["example"].replace("# ", ""))[section]
        assert classes[section](**table) == classes[section]()
    for key, field in fields.items():
        assert field["description"] in done.out
        assert f"\n{key}" in done.out


def test_every_section_of_a_spec_is_a_kind_or_can_be_shown(sightx) -> None:
    kinds = {cls.kind for cls in KINDS}
    assert {*own_sections(), *top_level_keys()} == set(Experiment.model_fields) - kinds


def test_json_has_the_same_content(sightx) -> None:
    shown = json.loads(sightx("show-plugin", "optimizer", "sightx:sgd", "--json").out)
    assert (shown["kind"], shown["name"], shown["revision"]) == ("optimizer", "sgd", 1)
    fields = {field["key"]: field for field in shown["fields"]}
    assert fields["momentum"] == {
        "key": "momentum", "type": "number >= 0 and < 1", "required": False, "default": 0.0,
        "description": "Momentum factor, from 0 to below 1.",
    }  # fmt: skip
    assert shown["doc"] == "Stochastic gradient descent, optionally with momentum."


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["training", "x"], "error[usage] training is a section of every spec, and 'x' is not a "
         "part of it; sightx show-plugin training"),
        (["trainin"], "error[usage] no kind is called 'trainin'; did you mean 'training'?"),
        (["model"], "error[usage] which model? Give its name; "
         "sightx list-plugins model lists them"),
        (["resnet50"], "error[usage] no kind is called 'resnet50'; "
         "sightx show-plugin model resnet50"),
        (["modle", "resnet50"], "error[usage] no kind is called 'modle'; did you mean 'model'?"),
        (["loss", "cros-entropy"], "error[unknown-name] no loss is called 'cros-entropy'; "
         "did you mean 'cross-entropy'? known: coral, corn, cross-entropy, "),
        (["model", "other:resnet50"], "error[unknown-name] no model is called "
         "'other:resnet50', nor a plugin"),
    ],
)  # fmt: skip
def test_an_unknown_kind_or_name_is_refused_with_a_suggestion(
    sightx, words: list[str], line: str
) -> None:
    done = sightx("show-plugin", *words)
    assert (done.code, done.out) == (2, "")
    assert done.lines[0].startswith(line)


def test_a_clash_names_both_owners(sightx, working_folder: Path) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()
    (working_folder / "mine" / "sightx_test_shown.py").write_text(
        "from sightx.plugin import Loss, Model, hookimpl\n"
        "class Mine(Model):\n    'Mine.'\n    name = 'resnet50'\n    base: Loss\n"
        "    def build(self): pass\n"
        "@hookimpl\ndef sightx_components(): return [Mine]\n"
    )
    done = sightx("show-plugin", "model", "resnet50")
    assert done.code == 4
    assert "is provided by builtin (sightx " in done.lines[0]
    shown = json.loads(sightx("show-plugin", "model", "sightx_test_shown:resnet50", "--json").out)
    assert shown["clashes"][0].startswith("builtin (sightx ")
    (base,) = [field for field in shown["fields"] if field["key"] == "base"]
    assert (base["type"], base["required"]) == ("component of kind loss", True)
    table = tomllib.loads(shown["example"])["model"]
    assert table["use"] == "sightx_test_shown:resnet50"
    assert table["base"] == {"use": "coral"}
