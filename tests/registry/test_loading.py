from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightx import PluginError, load
from sightx.plugin import Check, Component, Loss, Model
from sightx.registry import class_faults, loading
from sightx.registry.components import UnknownComponentError
from sightx.registry.project import Project

SPEC = """\
name = "a"
[dataset]
use = "synthetic-fundus"
[model]
use = "MODEL"
"""
Install = Callable[..., Path]
Source = Callable[..., str]


def registry(tmp_path: Path, *folders: Path):
    return loading.load_registry(Project(tmp_path, plugins=folders))


def states(loaded) -> dict[str, str]:
    return {plugin.name: plugin.state for plugin in loaded.plugins}


def spec(tmp_path: Path, model: str) -> Path:
    path = tmp_path / "a.toml"
    path.write_text(SPEC.replace("MODEL", model))
    return path


def command(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from sightx.cli.main import main; main()", *words],
        capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
    )  # fmt: skip


def test_an_installed_distribution_provides_its_component(
    tmp_path: Path, install: Install, component: Source
) -> None:
    install("sx-tiny", component("tiny"), version="2.5")
    loaded = registry(tmp_path)
    entry = next(entry for entry in loaded.entries("model") if entry.component.name == "tiny")
    assert str(entry.plugin) == "sx-tiny (sx-tiny 2.5)"
    assert load(spec(tmp_path, "tiny")).model.name == "tiny"


FAULTS = {
    "raises": ("raise RuntimeError('boom')", "RuntimeError: boom"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "base": ("raise BaseException('deep')", "BaseException: deep"),
    "syntax": ("def f(:", "SyntaxError: "),
    "lines": ("raise ValueError('a\\nb')", "ValueError: a b"),
    "misspelt": (
        "from sightx.plugin import hookimpl\n@hookimpl\ndef sightx_component():\n    return []",
        "TypeError: unknown hook 'sightx_component'; did you mean 'sightx_components'?",
    ),
    "signature": (
        "from sightx.plugin import hookimpl\n"
        "@hookimpl\ndef sightx_components(registry):\n    return []",
        "TypeError: sightx_components() has no argument",
    ),
    "nothing": (
        "from sightx.plugin import hookimpl\n@hookimpl\ndef sightx_components():\n    pass",
        "TypeError: sightx_components() returned None; return a list",
    ),
    "constant": (
        "from sightx.plugin import Loss\nclass A(Loss):\n    name = 'a'\n    K = 8\n"
        "    def build(self): ...",
        "the constant K = 8 in a component has no type; write it outside of the class, or as "
        "K: ClassVar = 8",
    ),
    "default": (
        "from sightx.plugin import Optimizer\nclass A(Optimizer):\n    name = 'a'\n    lr = 3e-4\n",
        "a component sets 'lr' without its type; write lr: TYPE = VALUE",
    ),
    "trait": (
        "from sightx.plugin import Loss\nclass A(Loss):\n    name = 'a'\n    takes_mixd = True\n",
        "SightX does not use 'takes_mixd'; did you mean 'takes_mixed'?",
    ),
    "unmarked": (
        "def sightx_components():\n    return []",
        "TypeError: it has no hook; is @hookimpl missing?; a module that only helps a plugin has a "
        "name that begins with _",
    ),
    "thrower": (
        "from sightx.plugin import hookimpl\n@hookimpl\ndef sightx_components():\n    yield 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "stranger": (
        "from sightx.plugin import hookimpl\n@hookimpl\ndef sightx_components():\n    return [int]",
        "<class 'int'> is not a component class",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_recorded_and_only_specs_that_need_it_fail(
    tmp_path: Path, install: Install, caplog: pytest.LogCaptureFixture, fault: str
) -> None:  # P01, P02, P03, P06
    code, error = FAULTS[fault]
    install(f"sx-{fault}", code)
    broken = next(p for p in registry(tmp_path).plugins if p.name == f"sx-{fault}")
    assert broken.state == "broken"
    assert broken.error.startswith(error)

    assert load(spec(tmp_path, "simplenet")).model.name == "simplenet"
    (warning,) = caplog.messages
    assert warning.startswith(
        f"warning[broken-plugin] plugin sx-{fault} (sx-{fault} 1.0) at sightx_test_sx_{fault} "
        f"is broken: {error}"
    )
    with pytest.raises(PluginError) as caught:
        load(spec(tmp_path, "elsewhere"))
    (problem,) = caught.value.problems
    assert (problem.line, problem.path, problem.code) == (5, "model.use", "broken-plugin")
    assert f"no model is called 'elsewhere'; plugin sx-{fault} (sx-{fault} 1.0)" in problem.message
    assert "--debug" in problem.hint


def test_a_command_warns_once_of_a_broken_plugin_or_exits_with_4(
    tmp_path: Path, install: Install
) -> None:  # P01, P02, P03, P12
    folder = install("sx-exits", "import sys\nprint('seen', file=sys.stderr)\nsys.exit(3)")
    spec(tmp_path, "simplenet")
    good = command(tmp_path, "validate", "a.toml", "a.toml", PYTHONPATH=str(folder))
    assert good.returncode == 0
    warnings = [line for line in good.stderr.splitlines() if line != "seen"]
    assert len(warnings) == 1
    assert "sx-exits (sx-exits 1.0)" in warnings[0]
    assert "SystemExit: 3" in warnings[0]

    spec(tmp_path, "elsewhere")
    bad = command(tmp_path, "validate", "a.toml", PYTHONPATH=str(folder))
    assert (bad.returncode, bad.stdout) == (4, "")
    assert bad.stderr.splitlines()[-1].startswith("a.toml:5:1: error[broken-plugin] model.use: ")
    shown = command(tmp_path, "--debug", "show", "a.toml", PYTHONPATH=str(folder))
    assert "sys.exit(3)" in shown.stderr

    none = command(tmp_path, "validate", "a.toml", PYTHONPATH=str(folder), SIGHTX_PLUGINS="none")
    assert none.returncode == 2
    assert "seen" not in none.stderr


def test_no_plugin_is_imported_if_plugins_are_switched_off(
    tmp_path: Path, install: Install, component: Source, monkeypatch: pytest.MonkeyPatch
) -> None:  # P12
    install("sx-off", component("off"))
    monkeypatch.setenv("SIGHTX_PLUGINS", "none")
    loaded = registry(tmp_path)
    assert states(loaded)["sx-off"] == "disabled"
    assert "off" not in loaded.names("model")
    assert "sightx_test_sx_off" not in sys.modules


def test_a_spec_cannot_name_a_path_to_code(tmp_path: Path) -> None:  # P12
    (tmp_path / "evil.py").write_text("raise SystemExit(9)")
    for use in ("evil.py", "./evil.py", "evil:main", str(tmp_path / "evil.py")):
        with pytest.raises(UnknownComponentError, match="no model is called"):
            registry(tmp_path).find("model", use)


def test_a_clash_names_both_owners_for_any_order_of_folders(
    tmp_path: Path, install: Install, component: Source
) -> None:  # P04
    for name in ("sx-one", "sx-two", "sx-three"):
        install(name, component("twin"), version="1.2")
    folders = [path for path in sys.path if "site" in path and "sx-" in path]
    messages = set()
    for order in itertools.permutations(folders):
        sys.path[:] = [*order, *(path for path in sys.path if path not in folders)]
        with pytest.raises(UnknownComponentError) as caught:
            registry(tmp_path).find("model", "twin")
        problem = caught.value.problem
        messages.add((problem.message, problem.hint))
    ((message, hint),) = messages
    for name in ("one", "two", "three"):
        assert f"sx-{name} (sx-{name} 1.2) at {tmp_path}/site/sx-{name}/" in message
    assert hint == 'write use = "sx-one:twin" or "sx-three:twin" or "sx-two:twin"'
    assert registry(tmp_path).find("model", "sx-two:twin").__module__ == "sightx_test_sx_two"


def test_a_clash_exits_with_4_only_for_specs_that_use_the_name(
    tmp_path: Path, install: Install, component: Source
) -> None:  # P04, P05
    install("sx-copy", component("resnet50"))
    assert load(spec(tmp_path, "simplenet")).model.name == "simplenet"
    with pytest.raises(PluginError, match=r"builtin .* and sx-copy "):
        load(spec(tmp_path, "resnet50"))
    assert type(load(spec(tmp_path, "sx-copy:resnet50")).model).__module__ == "sightx_test_sx_copy"
    own = load(spec(tmp_path, "sightx:resnet50"))
    assert type(own.model).__module__.startswith("sightx.builtin")


def test_an_experiment_that_names_an_owner_is_equal_when_read_from_its_tables(
    tmp_path: Path, install: Install, component: Source
) -> None:
    install("sx-copy", component("resnet50"))
    experiment = load(spec(tmp_path, "sx-copy:resnet50"))
    assert experiment.tables()["model"]["use"] == "sx-copy:resnet50"


def test_two_distributions_with_one_entry_point_name_are_both_loaded(
    tmp_path: Path, install: Install, component: Source
) -> None:
    install("sx-a", component("left"), point="same")
    install("sx-b", component("right"), point="same")
    loaded = registry(tmp_path)
    both = [p for p in loaded.plugins if p.name == "same"]
    assert [p.distribution for p in both] == ["sx-a", "sx-b"]
    assert [p.state for p in both] == ["loaded", "loaded"]
    assert [p.note for p in both] == [
        "sx-b 1.0 has an entry point of this name too",
        "sx-a 1.0 has an entry point of this name too",
    ]
    assert {"left", "right"} <= set(loaded.names("model"))


@pytest.mark.parametrize("spelling", ["sx-again", "SX_Again"])
def test_the_second_installation_of_a_distribution_is_shadowed(
    tmp_path: Path, install: Install, component: Source, spelling: str
) -> None:
    older = install("sx-again", component("again"), version="1.0")
    newer = tmp_path / "first"
    shutil.copytree(older, newer)
    info = newer / "sx_again-1.0.dist-info"
    info.rename(info := newer / "sx_again-2.0.dist-info")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {spelling}\nVersion: 2.0\n")
    sys.path.insert(0, str(newer))
    try:
        loaded = registry(tmp_path)
    finally:
        sys.path.remove(str(newer))
    plugins_ = {p.state: p for p in loaded.plugins if p.name == "sx-again"}
    assert plugins_["loaded"].version == "2.0"
    shadowed = plugins_["shadowed"]
    assert (shadowed.version, shadowed.place) == ("1.0", str(older / "sx_again-1.0.dist-info"))
    assert shadowed.error == f"sx-again 2.0 comes first, at {info}"
    assert loaded.broken == []
    assert loaded.names("model").count("again") == 1


def test_a_folder_that_is_on_the_path_twice_counts_once(
    tmp_path: Path, install: Install, component: Source
) -> None:
    folder = install("sx-double", component("double"))
    sys.path.append(str(folder))
    try:
        loaded = registry(tmp_path)
    finally:
        sys.path.reverse()
        sys.path.remove(str(folder))
        sys.path.reverse()
    assert [p.state for p in loaded.plugins if p.distribution == "sx-double"] == ["loaded"]


def test_unreadable_entry_points_break_only_their_distribution(
    tmp_path: Path, install: Install
) -> None:
    folder = install("sx-torn", "")
    next(folder.glob("*.dist-info/entry_points.txt")).write_text("[sightx]\nno equals sign\n")
    loaded = registry(tmp_path)
    (torn,) = [p for p in loaded.plugins if p.distribution == "sx-torn"]
    assert torn.state == "broken"
    assert loaded.names("model")


def test_a_wrong_setting_of_a_plugin_exits_with_2_at_its_position(
    tmp_path: Path, install: Install
) -> None:  # P08
    code = '''
from pydantic import PositiveInt
from sightx.plugin import Model, hookimpl

class Deep(Model):
    """A third party's."""

    name = "deep"
    depth: PositiveInt = 3

    def build(self):
        pass

@hookimpl
def sightx_components():
    return [Deep]
'''
    folder = install("sx-deep", code)
    path = spec(tmp_path, "deep")
    path.write_text(path.read_text() + "depth = -1\n")
    done = command(tmp_path, "validate", "a.toml", PYTHONPATH=str(folder))
    assert done.returncode == 2
    line = "a.toml:6:1: error[invalid-value] model.depth: -1: must be greater than 0"
    assert done.stderr == line + "\n"
    listed = command(tmp_path, "list-plugins", "model", "--json", PYTHONPATH=str(folder))
    assert "deep" in [item["name"] for item in json.loads(listed.stdout)["components"]]


def test_a_crash_of_a_validator_or_of_traits_is_a_failure_of_the_plugin(
    tmp_path: Path, install: Install
) -> None:
    code = '''
from pydantic import model_validator
from sightx.plugin import Dataset, Model, hookimpl

class Crash(Model):
    """Fails."""

    name = "crash"

    @model_validator(mode="after")
    def _check(self):
        raise KeyError("oops")

    def build(self):
        pass

class Blind(Dataset):
    """Fails later."""

    name = "blind"

    def traits(self):
        raise KeyError("oops")

    def table(self):
        pass

@hookimpl
def sightx_components():
    return [Crash, Blind]
'''
    install("sx-crash", code)
    with pytest.raises(
        PluginError, match=r"the model 'crash' of sightx_test_sx_crash failed: KeyErr"
    ):
        load(spec(tmp_path, "crash"))
    path = spec(tmp_path, "simplenet")
    with pytest.raises(PluginError, match=r"the dataset 'blind' failed: KeyError: 'oops'"):
        load(path, ["dataset.use=blind"])


def named(base: type[Component], name: str, **more: object) -> type[Component]:
    space = {"__doc__": "What it is.", "__module__": __name__, "name": name, **more}
    space |= {"build": lambda self: None} if base is not Component else {}
    return type(name.title(), (base,), space)


class Plain(Component):
    """Of no kind."""

    name = "plain"


class Typed(Model):
    """A name that is a field."""

    name: str = "typed"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("component", "fault"),
    [
        (int, "<class 'int'> is not a component class"),
        (3, "3 is not a component class"),
        (Plain, "Plain is not a subclass of a kind"),
        (Model, "Model needs a name of letters, digits, - and _, not None"),
        (named(Model, "a:b"), "A:B needs a name of letters, digits, - and _, not 'a:b'"),
        (named(Model, "3d"), "3D needs a name of letters, digits, - and _, not '3d'"),
        (named(Model, "mute", __doc__=None), "the model 'mute' has no docstring"),
        (named(Model, "wrong", kind="loss"), "Wrong is not a subclass of a kind"),
        (Typed, "Typed makes 'name' a field: write it without a type"),
    ],
)
def test_the_first_fault_of_components_is_described(component: object, fault: str) -> None:
    assert class_faults.component_fault([named(Model, "good"), component]) == fault


@pytest.mark.filterwarnings("ignore:Field name")
def test_use_must_not_be_a_field() -> None:
    class Using(Model):
        """A field that specs need."""

        name = "using"
        use: int = 3  # type: ignore[assignment]

    fault = class_faults.component_fault([Using])
    assert fault == "Using makes 'use' a field: write it without a type"


def test_a_plugin_must_not_use_a_name_twice() -> None:
    components = [named(Model, "same"), named(Loss, "same"), named(Model, "same")]
    assert class_faults.component_fault(components) == "two components are the model 'same'"


class Fine(Loss):
    """Be a loss."""

    name = "fine"

    def build(self) -> Any: ...


def test_valid_components_and_checks_have_no_fault() -> None:
    assert class_faults.component_fault([Fine]) == ""
    assert loading.check_fault([Check("my-rule", "because", print)], {}) == ""


@pytest.mark.parametrize("revision", [0, -1, "1", True, object()])
def test_a_revision_is_a_number_from_1(revision: Any) -> None:
    broken = type("Wrong", (Fine,), {"revision": revision, "__doc__": "Be wrong."})
    assert class_faults.component_fault([broken]) == "the loss 'fine' needs a revision of 1 or more"


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("x", "'x' is not a check"),
        (Check("My Rule", "r", print), "is not a code"),
        (Check("taken", "r", print), "that of a check of other"),
        (Check("a", "r", print, stage="specs"), "the stage 'specs': spec, data, device"),  # type: ignore[arg-type]
        (Check("a", "r", print, severity="warn"), "the severity 'warn'"),  # type: ignore[arg-type]
        (Check("a", "r", None), "`find` of the check 'a' is not a function"),  # type: ignore[arg-type]
    ],
)
def test_a_check_that_could_not_run_is_refused(check: Any, fault: str) -> None:
    assert fault in loading.check_fault([check], {"taken": "other"})
