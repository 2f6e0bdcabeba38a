from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sightx.plugin import Sampler
from sightx.registry.components import call_declared
from sightx.registry.failures import plugin_failure
from sightx.registry.registry import Plugin, Registry

SPEC = """
name = "a"
[dataset]
use = "synthetic-fundus"
patients = 400
size = 32
[[preprocess]]
use = "resize"
size = 32
[model]
use = "faulty"
"""
PLUGIN = """
import sys
from sightx.plugin import Model, hookimpl

class Faulty(Model):
    \"\"\"Fail to build.\"\"\"
    name = "faulty"
    def build(self, channels):
        {body}

@hookimpl
def sightx_components():
    return [Faulty]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (tmp_path / "a.toml").write_text(SPEC)
    return tmp_path


@pytest.mark.parametrize("command", [["run"], ["validate", "--deep"]])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit(0)", "plugin faulty failed in build: SystemExit: 0"),
        ('raise KeyError("z")', "plugin faulty failed in build: KeyError: 'z'"),
        ("return None", "build() of faulty (faulty) returned a NoneType; return a torch module"),
    ],
)
def test_a_failure_of_a_plugin_names_it_and_exits_with_4(
    project: Path, command: list[str], body: str, message: str
) -> None:
    (project / "plugins" / "faulty.py").write_text(PLUGIN.format(body=body))
    done = subprocess.run(
        [sys.executable, "-m", "sightx", *command, "a.toml"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stop_iteration_that_python_replaces_names_the_plugin(tmp_path: Path) -> None:
    file = tmp_path / "sx_stops.py"
    file.write_text("def factor():\n    raise StopIteration\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)

    def events() -> Iterator[int]:
        yield space["factor"]()

    registry = Registry()
    module = ModuleType("sx_stops")
    module.__file__ = str(file)
    sys.modules["sx_stops"] = module
    try:
        registry.add(Plugin("stops", str(file)), [type("S", (Bad,), {"__module__": "sx_stops"})])
        with pytest.raises(RuntimeError) as caught:
            next(events())
        assert "plugin stops failed in factor: RuntimeError: generator raised StopIteration" in str(
            plugin_failure(caught.value, registry)
        )
    finally:
        del sys.modules["sx_stops"]


ORDER = """
from sightx.plugin import Dataset, ImageTable, Sampler, hookimpl

class Table(Dataset):
    "Fail to read."
    name = "faulty-table"
    def table(self):
        raise RuntimeError("boom")

class Order(Sampler):
    "Return a wrong order."
    name = "faulty-order"
    def order(self, labels):
        return [len(labels)]

@hookimpl
def sightx_components():
    return [Table, Order]
"""


@pytest.mark.parametrize("command", [["run"], ["validate", "--deep"]])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset={use='faulty-table'}", "plugin faulty failed in table: RuntimeError: boom"),
        ("sampler.use=faulty-order", "error[wrong-result] sampler: order() of faulty-order"),
    ],
)
def test_a_failure_names_the_plugin_whatever_its_traceback(
    project: Path, command: list[str], override: str, message: str
) -> None:
    (project / "plugins" / "faulty.py").write_text(ORDER)
    spec = SPEC.replace("faulty", "simplenet")
    (project / "a.toml").write_text(spec)
    done = subprocess.run(
        [sys.executable, "-m", "sightx", *command, "a.toml", "--set", override],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert message in done.stderr


class Bad(Sampler):
    """Need more than it gets."""

    name = "bad"
    __module__ = "sx_elsewhere"

    def order(self, labels, more): ...


def test_a_failure_without_a_frame_in_the_plugin_names_the_component_called() -> None:
    registry = Registry()
    registry.add(Plugin("mine", "a.py"), [Bad])
    with pytest.raises(TypeError) as caught:
        call_declared(Bad().order, [1], epoch=0)
    line = "error[broken-plugin] sampler: plugin mine failed in the sampler 'bad': TypeError: "
    assert str(plugin_failure(caught.value, registry)).startswith(line)
    assert "sx_elsewhere failed in the sampler" in str(plugin_failure(caught.value, None))


def test_debug_shows_where_a_plugin_failed(project: Path) -> None:
    (project / "plugins" / "faulty.py").write_text(PLUGIN.format(body='raise KeyError("z")'))
    command = [sys.executable, "-m", "sightx", "--debug", "validate", "--deep", "a.toml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert 'raise KeyError("z")' in done.stderr


def test_what_a_plugin_prints_is_not_in_the_output_of_a_command(project: Path) -> None:
    text = 'print("hello")\n' + PLUGIN.format(body="return None")
    (project / "plugins" / "faulty.py").write_text(text)
    command = [sys.executable, "-m", "sightx", "list-plugins", "model", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{")
    assert "hello" in done.stderr


def test_an_unknown_value_of_the_plugin_switch_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightx import SpecError
    from sightx.registry import loading
    from sightx.registry.project import find_project

    monkeypatch.setenv("SIGHTX_PLUGINS", "None")
    with pytest.raises(SpecError, match="SIGHTX_PLUGINS is 'None'"):
        loading.load_registry(find_project(project))
