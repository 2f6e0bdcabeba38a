from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import sightx
import sightx.plugin
from sightx.registry import loading, provenance
from sightx.registry.project import Project
from sightx.registry.registry import Plugin

ROOT = Path(__file__).parents[2]
Install = Callable[..., Path]
Source = Callable[..., str]
fresh = provenance.source_hash.__wrapped__


def by_hand(root: Path, *files: str) -> str:
    digest = sha256()
    for name in sorted(files):
        content = (root / name).read_bytes()
        digest.update(name.encode() + b"\0" + str(len(content)).encode() + b"\0" + content)
    return digest.hexdigest()


def local(folder: Path, name: str) -> Plugin:
    return Plugin(Path(name).stem, str(folder / name))


def test_the_hash_of_the_built_ins_covers_all_files_of_sightx() -> None:
    builtin = loading.load_registry(Project(ROOT)).plugins[0]
    files = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sightx").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    assert "sightx/spec/error_codes.toml" in files
    assert fresh(builtin) == by_hand(ROOT, *files)
    assert provenance.source_hash(builtin) == provenance.source_hash(builtin)


def test_the_hash_of_a_project_module_covers_private_files_next_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "mine.py").write_text("a = 1\n")
    before = fresh(local(folder, "mine.py"))
    assert before == by_hand(folder, "mine.py")

    (folder / "other.py").write_text("another plugin\n")
    assert fresh(local(folder, "mine.py")) == before
    (folder / "_helper.py").write_text("b = 1\n")
    helped = fresh(local(folder, "mine.py"))
    assert helped == by_hand(folder, "mine.py", "_helper.py")
    (folder / "_helper.py").write_text("b = 2\n")
    assert fresh(local(folder, "mine.py")) not in (before, helped)


def test_the_hash_of_a_project_module_covers_what_it_mentions_and_data_files(
    tmp_path: Path,
) -> None:
    write = {
        "mine.py": "def apply(image):\n    from other import f\n",
        "other.py": "import deep.net\n",
        "deep/net.py": "",
        "alone.py": "import mine\n",
        "unnamed/big.bin": "",
        "curve.csv": "1",
    }
    for name, text in write.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    mine = ["mine.py", "other.py", "deep/net.py", "curve.csv"]
    assert fresh(local(tmp_path, "mine.py")) == by_hand(tmp_path, *mine)
    assert fresh(local(tmp_path, "alone.py")) == by_hand(tmp_path, "alone.py", *mine)


def test_only_size_and_time_of_a_large_file_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "weights.bin").write_bytes(b"1" * 11)
    monkeypatch.setattr(provenance, "LARGE_FILE", 10)
    before = fresh(local(tmp_path, "mine.py"))
    os.utime(tmp_path / "weights.bin", (1, 1))
    assert fresh(local(tmp_path, "mine.py")) != before


def test_the_hash_is_of_the_code_that_was_imported(tmp_path: Path) -> None:
    """Editing a plugin does not change the code of a running process."""
    file = tmp_path / "sightx_test_edited.py"
    file.write_text(LOSS)
    project, imported = Project(tmp_path, plugins=(tmp_path,)), by_hand(tmp_path, file.name)
    first = loading.load_registry(project)
    file.write_text(LOSS + "# another\n")
    for registry in (first, loading.load_registry(project)):
        mine = registry.find("loss", "sx-mine")()
        assert provenance.component_origin(mine, registry)["sha256"] == imported
    assert imported != by_hand(tmp_path, file.name)
    del sys.modules["sightx_test_edited"]
    importlib.invalidate_caches()
    again = loading.load_registry(project)
    recorded = provenance.component_origin(again.find("loss", "sx-mine")(), again)["sha256"]
    assert recorded == by_hand(tmp_path, file.name)
    del sys.modules["sightx_test_edited"]


def test_the_hash_depends_on_every_byte_but_not_on_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    (folder / "pack" / "deep").mkdir(parents=True)
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "deep" / "net.py").write_text("width = 1\n")
    (folder / "pack" / "notes.txt").write_text("no code\n")
    shutil.copytree(folder, tmp_path / "two")
    one, two = (fresh(local(tmp_path / name, "pack")) for name in ("one", "two"))
    assert one == two == by_hand(folder, "pack/__init__.py", "pack/deep/net.py", "pack/notes.txt")

    for name in (".hidden", "__pycache__/net.pyc", "pack.egg-info/PKG-INFO"):
        (tmp_path / "two" / "pack" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "two" / "pack" / name).write_text("left by a tool")
    assert fresh(local(tmp_path / "two", "pack")) == one
    (tmp_path / "two" / "pack" / "notes.txt").write_text("a curve\n")
    other = fresh(local(tmp_path / "two", "pack"))
    assert other != one
    (tmp_path / "two" / "pack" / "notes.txt").write_text("no code\n")
    assert fresh(local(tmp_path / "two", "pack")) == one
    (tmp_path / "two" / "pack" / "deep" / "net.py").write_text("width = 2\n")
    assert fresh(local(tmp_path / "two", "pack")) != one
    (tmp_path / "two" / "pack" / "deep" / "net.py").rename(tmp_path / "two" / "pack" / "net.py")
    assert fresh(local(tmp_path / "two", "pack")) != one


def record(folder: Path, *files: str) -> None:
    """Write the RECORD that an installer writes."""
    info = next(folder.glob("*.dist-info"))
    names = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))


def test_the_hash_of_a_distribution_covers_all_its_files(
    tmp_path: Path, install: Install, component: Source
) -> None:
    folder = install("sx-whole", component("whole"))
    (folder / "sx_beside.py").write_text("b = 1\n")
    plugin = loading.load_registry(Project(tmp_path)).entries("model")
    (plugin,) = [entry.plugin for entry in plugin if entry.component.name == "whole"]
    module = "sightx_test_sx_whole.py"
    assert fresh(plugin) == by_hand(folder, module)  # as an editable one: nothing is recorded
    record(folder, module, "sx_beside.py", "../../bin/script.py", "_editable_impl_sx_whole.py")
    (folder / "_editable_impl_sx_whole.py").write_text("a shim\n")
    assert fresh(plugin) == by_hand(folder, module, "sx_beside.py")
    (folder / "sx_beside.py").write_text("b = 2\n")
    assert fresh(plugin) == by_hand(folder, module, "sx_beside.py")


def test_an_editable_install_has_the_hash_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, component: Source
) -> None:
    """The source is in another folder, in a package below a namespace."""
    source, site = tmp_path / "src", tmp_path / "site"
    package = source / "sightx_test_space" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(component("spaced"))
    (package / "net.py").write_text("")
    (source / "sightx_test_space" / "foreign").mkdir()
    (source / "sightx_test_space" / "foreign" / "__init__.py").write_text("another's")
    info = site / "sx_space-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sx-space\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sightx]\nspace = sightx_test_space.pack\n")
    for folder in (source, site):
        monkeypatch.syspath_prepend(folder)
    entries = loading.load_registry(Project(tmp_path)).entries("model")
    (plugin,) = [entry.plugin for entry in entries if entry.component.name == "spaced"]
    files = ("sightx_test_space/pack/__init__.py", "sightx_test_space/pack/net.py")
    assert fresh(plugin) == by_hand(source, *files)
    for name in [name for name in sys.modules if name.startswith("sightx_test_space")]:
        monkeypatch.delitem(sys.modules, name)


LOSS = '''
from sightx.plugin import Loss, hookimpl

class Mine(Loss):
    """A loss of the project."""

    name = "sx-mine"
    revision = 7

    def build(self, *, class_counts):
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none")

@hookimpl
def sightx_components():
    return [Mine]
'''


def test_a_run_records_the_provenance_of_its_components(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sightx_test_recorded.py").write_text(LOSS)
    experiment = sightx.load(spec, ["loss.use=sx-mine", "training.epochs=1"])
    run = sightx.run(experiment, runs=tmp_path / "runs")
    recorded = json.loads((run.directory / "environment.json").read_text())
    (mine,) = [origin for origin in recorded["components"] if origin["kind"] == "loss"]
    assert mine == {
        "kind": "loss", "name": "sx-mine", "revision": 7, "module": "sightx_test_recorded",
        "plugin": "sightx_test_recorded", "distribution": "", "version": "",
        "sha256": by_hand(tmp_path / "mine", "sightx_test_recorded.py"),
    }  # fmt: skip
    (model,) = [origin for origin in recorded["components"] if origin["kind"] == "model"]
    assert (model["plugin"], model["distribution"]) == ("builtin", "sightx")
    assert model["version"] == recorded["packages"]["sightx"]
    assert [origin["name"] for origin in recorded["observers"]] == ["curves", "report"]
    assert {origin["sha256"] for origin in recorded["observers"]} == {model["sha256"]}


class Unregistered(sightx.plugin.Loss):
    """Defined in Python, without a plugin."""

    name = "unregistered"


def test_a_component_without_a_plugin_has_the_provenance_of_its_module() -> None:
    for registry in (None, loading.load_registry(Project(ROOT))):
        origin = provenance.component_origin(Unregistered(), registry)
        assert (origin["plugin"], origin["module"]) == ("", __name__)
    assert provenance.component_origin(
        loading.load_registry(Project(ROOT)).find("loss", "cross-entropy")(), None
    )["sha256"] == fresh(loading.load_registry(Project(ROOT)).plugins[0])
