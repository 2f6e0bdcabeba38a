"""Plugins in the folders of a project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx.registry import loading
from sightx.registry.components import UnknownComponentError
from sightx.registry.project import Project
from sightx.registry.registry import Registry

Source = Callable[..., str]


def registry(tmp_path: Path, *folders: Path) -> Registry:
    return loading.load_registry(Project(tmp_path, plugins=folders))


def test_a_project_provides_modules_and_packages(tmp_path: Path, component: Source) -> None:
    folder = tmp_path / "mine"
    (folder / "sightx_test_package").mkdir(parents=True)
    (folder / "sightx_test_module.py").write_text(component("from-module"))
    (folder / "sightx_test_package" / "__init__.py").write_text(component("from-package"))
    (folder / "_private.py").write_text("1 / 0")
    (folder / "notes").mkdir()
    loaded = registry(tmp_path, folder)
    assert {p.name: p.state for p in loaded.plugins} == {
        "builtin": "loaded", "sightx_test_module": "loaded", "sightx_test_package": "loaded",
    }  # fmt: skip
    assert {"from-module", "from-package"} <= set(loaded.names("model"))


@pytest.mark.parametrize("name", ["random", "statistics", "this", "sys", "pytest"])
def test_a_module_must_not_have_the_name_of_another(
    tmp_path: Path, component: Source, name: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / f"{name}.py").write_text(component("taken"))
    loaded = registry(tmp_path, folder)
    plugin = loaded.plugins[-1]
    assert plugin.state == "shadowed"
    assert plugin.error.startswith(f"the name {name!r} is taken by ")
    assert "taken" not in loaded.names("model")
    assert loaded.broken == [plugin]
    with pytest.raises(UnknownComponentError) as caught:
        loaded.find("model", "taken")
    assert caught.value.problem.code == "broken-plugin"
    assert f"plugin {name} is shadowed: the name {name!r} is taken by " in str(caught.value)


def test_the_second_of_two_modules_with_one_name_is_shadowed(
    tmp_path: Path, component: Source
) -> None:
    for folder, name in (("one", "sx-first"), ("two", "sx-second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sightx_test_twice.py").write_text(component(name))
    loaded = registry(tmp_path, tmp_path / "one", tmp_path / "two")
    assert [plugin.state for plugin in loaded.plugins[1:]] == ["loaded", "shadowed"]
    assert str(tmp_path / "one") in loaded.plugins[-1].error
    assert "sx-second" not in loaded.names("model")


def test_a_plugin_folder_does_not_hide_other_modules(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "wave.py").write_text("raise RuntimeError('not the standard library')")
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    code = (
        "from pathlib import Path; from sightx.registry import loading, project;"
        "registry = loading.load_registry(project.find_project(Path('.')));"
        "import wave; print(wave.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(tmp_path) not in done.stdout


def test_a_missing_plugin_folder_is_reported(tmp_path: Path) -> None:
    plugin = registry(tmp_path, tmp_path / "nowhere").plugins[-1]
    assert (plugin.name, plugin.state) == ("nowhere", "broken")
    assert plugin.error == "FileNotFoundError: the folder does not exist"
