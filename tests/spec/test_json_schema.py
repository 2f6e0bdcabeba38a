"""The JSON Schema, tested with a validator and compared with `sightx validate`."""

from __future__ import annotations

import importlib
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import PlainValidator, PositiveInt

import sightx
from sightx import SightXError
from sightx.plugin import Loss, Model, Settings
from sightx.registry import loading, project
from sightx.registry.registry import Plugin, Registry
from sightx.spec.json_schema import schema

ROOT = Path(__file__).parents[2]
FILE = ROOT / "sightx.schema.json"
SPECS = sorted(path.name for path in (ROOT / "specs").glob("*.toml"))

HEAD = 'name = "a"\n'
DATA = '[dataset]\nuse = "synthetic-fundus"\n'
REST = DATA + '[model]\nuse = "simplenet"\n'
BASE = HEAD + '[dataset]\nuse = "eyepacs"\nroot = "x"\n[model]\nuse = "resnet50"\n'
HEIR = 'extends = "base.toml"\n'

GOOD = [
    HEAD + REST,
    HEAD + "seed = 3\nallow = ['x']\n" + REST,
    HEAD + REST + "hidden = []\n",
    HEAD + REST + "[optimizer]\nuse = 'adam'\nlr = 1\nbetas = [0.8, 0.9]\n",
    HEAD + REST + "[optimizer]\nuse = 'sightx:adam'\n",
    HEAD + REST + "[optimizer]\nuse = 'builtin:sgd'\nmomentum = 0.9\nnesterov = true\n",
    HEAD + REST + "[[optimizer.group]]\nmatch = ['head.*']\nlr = 1e-3\n[optimizer]\nuse = 'adam'\n",
    HEAD + REST + "[[preprocess]]\nuse = 'resize'\nsize = [32, 48]\nfit = 'pad'\n",
    HEAD
    + REST
    + "[[preprocess]]\nuse = 'grayscale'\nchannels = 1\n[[preprocess]]\nuse = 'resize'\n"
    "size = 32\n",
    HEAD + REST + "[[augment]]\nuse = 'rotate'\ndegrees = 180\n",
    HEAD + "augment = []\nobserver = []\n" + REST,
    HEAD + "training = { epochs = 3, micro_batch_size = 8 }\n" + REST,
    HEAD + REST + "[training]\nprecision = 'bf16'\n[evaluation]\ntest = 'on-request'\n",
    HEAD + REST + "[execution]\ndevice = 'cuda:1'\nthreads = 2\ndeterministic = true\n",
    HEAD + REST + "[scheduler]\nuse = 'plateau'\nmonitor = 'validation/loss'\n",
    HEAD + REST + "[[metric]]\nuse = 'qwk'\n[[metric]]\nuse = 'accuracy'\n",
    HEAD + '[dataset]\nuse = "csv"\nroot = "x"\nclasses = ["a", "b"]\n[model]\nuse = "resnet50"\n',
    HEIR,
    HEIR + "[training]\nepochs = 3\n",
    HEIR + "[dataset]\nlabels = 'x.csv'\n",
    HEIR + "[dataset]\nuse = 'eyepacs'\n",
    HEIR + "[model]\nuse = 'simplenet'\nhidden = [3]\n",
    HEIR + "[[augment]]\nuse = 'rotate'\ndegrees = 3.5\n",
]
BAD = [
    HEAD + "sed = 1\n" + REST,  # unknown keys
    HEAD + REST + "hiden = [3]\n",
    HEAD + REST + "[optimizer]\nuse = 'adam'\nmomentum = 0.9\n",
    HEAD + REST + "[[augment]]\nuse = 'flip'\ndegrees = 3\n",
    HEAD + REST + "[traning]\nepochs = 3\n",
    HEAD + REST + "[[optimizer.group]]\nmatch = ['a']\nlr = 1\nx = 1\n[optimizer]\nuse = 'adam'\n",
    HEAD + REST + "[execution]\nshop = 'auto'\n",
    HEAD + REST + "[training]\nepochs = true\n",  # wrong types
    HEAD + REST + "[training]\nepochs = '3'\n",
    HEAD + REST + "[training]\nepochs = 3.5\n",
    HEAD + REST + "[training]\nepochs = [3]\n",
    HEAD + REST + "[training]\nclip = false\n",
    HEAD + REST + "[training]\nepochs = 2026-01-01\n",
    HEAD + "allow = 'x'\n" + REST,
    HEAD + REST + "[execution]\ndeterministic = 'yes'\n",
    HEAD + REST + "hidden = [3, 'x']\n",
    HEAD + REST + "hidden = 3\n",
    "name = 3\n" + REST,
    "name = 'a b'\n" + REST,
    HEAD + REST + "[optimizer]\nuse = 'adm'\n",  # names
    HEAD + REST + "[optimizer]\nuse = 'else:adam'\n",
    HEAD + REST + "[optimizer]\nuse = 3\n",
    HEAD + REST + "[[augment]]\nuse = 'resize'\nsize = 3\n",
    HEAD + REST + "[loss]\nlabel_smoothing = 0.1\n",
    REST,  # missing
    HEAD + DATA,
    HEAD + '[model]\nuse = "simplenet"\n',
    HEAD + '[dataset]\nuse = "eyepacs"\n[model]\nuse = "resnet50"\n',
    HEAD + REST + "[[preprocess]]\nuse = 'resize'\n",
    HEAD + REST + "[[augment]]\ndegrees = 3\n",
    HEAD + REST + "[[optimizer.group]]\nmatch = ['a']\n[optimizer]\nuse = 'adam'\n",
    HEAD + REST + "[normalize]\nuse = 'values'\nmean = [0.5]\n",
    HEAD + REST + "[training]\nepochs = 0\n",  # bounds
    HEAD + "seed = -1\n" + REST,
    HEAD + REST + "[split]\nuse = 'grouped'\nvalidation = 1.2\n",
    HEAD + REST + "[optimizer]\nuse = 'adam'\nlr = 0\n",
    HEAD + REST + "[optimizer]\nuse = 'adam'\nbetas = [0.9]\n",
    HEAD + REST + "[optimizer]\nuse = 'adam'\nbetas = [0.9, 1.0]\n",
    HEAD + REST + "[[augment]]\nuse = 'rotate'\ndegrees = 181\n",
    HEAD + REST + "[[preprocess]]\nuse = 'resize'\nsize = [32, 0]\n",
    HEAD + REST + "[training]\nprecision = 'fp31'\n",  # choices
    HEAD + REST + "[[preprocess]]\nuse = 'resize'\nsize = 3\nfit = 'crop'\n",
    HEAD + REST + "[[preprocess]]\nuse = 'grayscale'\nchannels = 2\n",
    HEAD + REST + "[execution]\ndevice = 'gpu'\n",
    HEAD + REST + "[preprocess]\nuse = 'resize'\nsize = 3\n",  # [x] and [[x]]
    HEAD + REST + "[[loss]]\nuse = 'cross-entropy'\n",
    HEAD + REST + "[[training]]\nepochs = 3\n",
    HEAD + "loss = 'cross-entropy'\n" + REST,
    HEAD + "augment = ['flip']\n" + REST,
    "extends = 3\n",  # below extends
    HEIR + "[dataset]\nlabls = 'x.csv'\n",
    HEIR + "[dataset]\nlabels = 3\n",
    HEIR + "[optimizer]\nuse = 'adam'\nmomentum = 0.9\n",
    HEIR + "[[augment]]\nuse = 'rotate'\n",
    HEIR + "[[augment]]\ndegrees = 3\n",
]  # fmt: skip


def validator(registry: Registry) -> jsonschema.Draft202012Validator:
    document = json.loads(json.dumps(schema(registry)))  # as a file holds it
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.fixture(scope="module")
def own() -> Registry:
    """The components of this project, without other installed plugins."""
    loaded, registry = loading.load_registry(project.find_project(ROOT)), Registry()
    for plugin in loaded.plugins:
        if plugin.distribution in ("", "sightx"):
            brought = [e.component for e in loaded.entries() if e.plugin == plugin]
            registry.add(plugin, brought)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "plugins" / "sightx-timm" / "src")
        module = importlib.import_module("sightx_timm")
    timm = Plugin("timm", "sightx_timm", "sightx-timm", "0")
    registry.add(timm, module.sightx_components())
    return registry


@pytest.fixture(scope="module")
def checks(own: Registry) -> jsonschema.Draft202012Validator:
    return validator(own)


def accepted(text: str, folder: Path) -> bool:
    """Return whether SightX accepts a spec."""
    (folder / "base.toml").write_text(BASE)
    (folder / "a.toml").write_text(text)
    try:
        sightx.load(folder / "a.toml")
    except SightXError:
        return False
    return True


@pytest.mark.parametrize("name", SPECS)
def test_every_shipped_spec_is_valid(checks: Any, name: str) -> None:
    data = tomllib.loads((ROOT / "specs" / name).read_text())
    assert [error.message for error in checks.iter_errors(data)] == []


@pytest.mark.parametrize("text", GOOD)
def test_specs_that_validate_accepts_are_valid(checks: Any, text: str, tmp_path: Path) -> None:
    assert accepted(text, tmp_path)
    assert [error.message for error in checks.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize("text", BAD)
def test_specs_that_validate_refuses_are_not_valid(checks: Any, text: str, tmp_path: Path) -> None:
    assert not accepted(text, tmp_path)
    assert not checks.is_valid(tomllib.loads(text))


def test_an_error_is_at_its_position(checks: Any) -> None:
    text = HEAD + REST + "[optimizer]\nuse = 'sgd'\nlr = 0"
    errors = list(checks.iter_errors(tomllib.loads(text)))
    assert {error.json_path for error in errors} == {"$.optimizer.lr"}
    assert any("minimum" in error.message for error in errors)


def test_keys_have_the_descriptions_that_editors_show(own: Registry) -> None:
    document = schema(own)
    sgd = document["$defs"]["optimizer.sgd"]
    assert sgd["properties"]["lr"] == {
        "type": "number", "exclusiveMinimum": 0, "default": 0.01,
        "description": "Learning rate; the scheduler multiplies it by a factor.",
    }  # fmt: skip
    (table, *_) = document["$defs"]["optimizer"]["allOf"]
    first = table["properties"]["use"]["anyOf"][0]
    assert first["const"] == "adam"
    assert first["description"].startswith("Adam")
    assert document["properties"]["training"] == {"$ref": "#/$defs/Training"}
    assert document["$defs"]["preprocess.resize"]["properties"]["fit"]["enum"] == [
        "stretch", "pad", "cover",
    ]  # fmt: skip
    assert "null" not in json.dumps(document)


class Inner(Settings):
    """A table in a table."""

    width: PositiveInt
    """Width of the inner part."""


class Unserialisable:
    """A class that a JSON Schema cannot describe."""


def unserialisable(value: object) -> Unserialisable:
    return Unserialisable()


class Holding(Model):
    """Hold other things."""

    name = "holding"
    loss: Loss
    """Any loss."""
    spare: Loss | None = None
    """Another one."""
    many: tuple[Loss, ...] = ()
    """Several."""
    inner: Inner
    """A table."""
    free: Annotated[object, PlainValidator(unserialisable)] = None
    """Anything."""


class One(Loss):
    """One."""

    name = "one"
    k: int
    """A number."""


class Two(Loss):
    """Two."""

    name = "one"


@pytest.fixture
def nested(own: Registry) -> jsonschema.Draft202012Validator:
    registry = Registry()
    for plugin in own.plugins:
        registry.add(plugin, [e.component for e in own.entries() if e.plugin == plugin])
    registry.add(Plugin("first", "first.py"), [Holding, One])
    registry.add(Plugin("second", "here", "a.dist", "1"), [Two])
    return validator(registry)


@pytest.mark.parametrize(
    ("model", "ok"),
    [
        ('loss = { use = "cross-entropy" }\ninner = { width = 3 }', True),
        ('loss = { use = "first:one", k = 3 }\ninner = { width = 3 }', True),
        ('loss = { use = "a.dist:one" }\ninner = { width = 3 }\nfree = [1, "x"]', True),
        ('loss = { use = "second:one" }\nspare = { use = "cross-entropy" }\n'
         'many = [{ use = "first:one", k = 3 }]\ninner = { width = 3 }', True),
        ('loss = { use = "one" }\ninner = { width = 3 }', False),
        ('loss = { use = "axdist:one" }\ninner = { width = 3 }', False),
        ('loss = { use = "first:one" }\ninner = { width = 3 }', False),
        ('loss = { use = "a.dist:one", k = 3 }\ninner = { width = 3 }', False),
        ('loss = { use = "cross-entropy" }\ninner = {}', False),
        ('loss = { use = "cross-entropy" }\ninner = { width = 0 }', False),
        ('loss = { use = "adam" }\ninner = { width = 3 }', False),
        ("inner = { width = 3 }", False),
        ('loss = { use = "cross-entropy" }\nmany = [{}]\ninner = { width = 3 }', False),
    ],
)  # fmt: skip
def test_nested_components_and_names_of_two_plugins(nested: Any, model: str, ok: bool) -> None:
    text = HEAD + DATA + '[model]\nuse = "holding"\n' + model
    assert nested.is_valid(tomllib.loads(text)) == ok


def test_with_extends_nested_tables_may_be_incomplete(nested: Any) -> None:
    text = HEIR + '[model]\nuse = "holding"\n[model.loss]\nuse = "first:one"\n'
    assert nested.is_valid(tomllib.loads(text))
    assert not nested.is_valid(tomllib.loads(text + "l = 3\n"))


def test_the_committed_file_is_up_to_date(own: Registry) -> None:
    document = schema(own)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("SIGHTX_REGENERATE"):
        FILE.write_text(text, encoding="utf-8")
    again = (
        "SIGHTX_REGENERATE=1 .venv/bin/python -m pytest tests/spec/test_json_schema.py -k committed"
    )
    committed = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    assert committed == text, f"regenerate it: {again}"
    assert str(ROOT) not in text
