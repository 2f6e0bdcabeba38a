"""The plugin author's guide: its code runs, its signatures are those of the contract."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import logging
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import pytest

import sightx
import sightx.plugin
from sightx.cli.main import main
from sightx.registry import hooks, loading, project
from sightx.registry.kinds import KINDS
from sightx.runner.observers import RunHooks
from sightx.testing import check, predictions

ROOT = Path(__file__).parents[1]
GUIDE, KIND_PAGE = ROOT / "docs" / "plugins.md", ROOT / "docs" / "kinds.md"
PAGES = (GUIDE, KIND_PAGE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:]+)\)")


class Block(NamedTuple):
    """One block of code: its language, its text, and the file that its first line names."""

    language: str
    text: str

    @property
    def path(self) -> str:
        match = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return match[1] if match else ""


def blocks(page: Path) -> list[Block]:
    return [Block(*groups) for groups in _BLOCK.findall(page.read_text())]


def executed(text: str) -> dict[str, Any]:
    names = {"Component": sightx.plugin.Component, "__name__": "stubs"}
    tree = ast.parse("from __future__ import annotations\n" + text)
    exec(compile(tree, "docs", "exec"), names)
    return names


def documented() -> dict[str, list[str]]:
    """Return every hook of the contract with its arguments."""
    members = [
        member
        for owner in (hooks.PluginHooks, RunHooks)
        for member in inspect.getmembers(owner, lambda item: hasattr(item, "sightx_spec"))
    ]
    return {name: list(inspect.signature(hook).parameters)[1:] for name, hook in members}


def methods(cls: type) -> dict[str, inspect.Signature]:
    """Return the public methods that a class itself has."""
    return {
        name: inspect.signature(value)
        for name, value in vars(cls).items()
        if isinstance(value, FunctionType) and not name.startswith(("_", "model_"))
    }


@pytest.fixture
def guided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project that consists of the guide's blocks."""
    for block in blocks(GUIDE):
        if block.path:
            path = tmp_path / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    level = logging.getLogger("sightx").level
    yield tmp_path
    logging.getLogger("sightx").setLevel(level)
    for name in ("tiny", "rules", "count", "grades", "part"):
        sys.modules.pop(name, None)


def test_the_guides_project_works(guided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(GUIDE) if block.language == "console"
             for line in block.text.splitlines()]  # fmt: skip
    assert len(lines) >= 4
    output = {}
    for line in lines:
        words = shlex.split(line.removeprefix("$ sightx "))
        with pytest.raises(SystemExit) as ended:
            main(words)
        shown = capsys.readouterr()
        assert ended.value.code == 0, (line, shown.err or shown.out)
        output[words[0]] = shown.out
    assert "tiny-cnn" in output["list-plugins"]
    assert "Two convolutions and a linear layer." in output["list-plugins"]
    assert "valid" in output["validate"]
    assert "0 failures" in output["test-plugin"]
    (directory,) = (guided / "runs").iterdir()
    run = sightx.open_run(directory)
    assert run.data["weights"] == 4 * 3 * 9 + 4 + 8 * 4 * 9 + 8 + 8 * 5 + 5

    count = next(block for block in blocks(GUIDE) if block.path.endswith("count.py"))
    executed(count.text)["count_weights"].main([str(directory)], standalone_mode=False)
    assert capsys.readouterr().out == f"{run.data['weights']}\n"


def test_the_guides_plugins_load_and_its_check_has_findings(guided: Path) -> None:
    registry = loading.load_registry(project.find_project(guided))
    states = {plugin.name: (plugin.state, plugin.error) for plugin in registry.plugins}
    assert {name: states[name] for name in ("tiny", "rules", "count")} == dict.fromkeys(
        ("tiny", "rules", "count"), ("loaded", "")
    )
    (check,) = [check for check, _ in registry.checks if check.code == "tiny-on-large-images"]
    small = sightx.load(guided / "specs" / "tiny.toml")
    large = sightx.load(guided / "specs" / "tiny.toml", ["preprocess.resize.size=300"])
    assert list(check.find(small)) == []
    ((path, message, hint, _),) = check.find(large)
    assert (path, message) == ("model.use", "is too small for images of 300 pixels")
    assert hint


def test_the_guides_metric_passes_its_contract(
    guided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(guided / "plugins")
    (metric,) = importlib.import_module("grades").sightx_components()
    check(metric)
    given = predictions()
    distances = abs(given.labels - given.decisions)
    assert metric().compute(given) == {"mean-error": distances.mean()}


def test_the_guides_sampler_uses_another_one(guided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(guided / "plugins")
    (part,) = importlib.import_module("part").sightx_components()
    check(part, base={"use": "balanced"})
    experiment = sightx.load(guided / "specs" / "part.toml")
    labels = np.array([0] * 30 + [1] * 10)
    order = experiment.sampler.order(labels, epoch=0, epochs=1, seed=0, groups=labels, columns={})
    whole = experiment.sampler.base.order(labels, epoch=0, seed=0)
    assert experiment.sampler.balances
    assert order.tolist() == whole[:10].tolist()


def test_the_guides_tests_pass(guided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(guided / "plugins")
    names = runpy.run_path(str(guided / "tests" / "test_tiny.py"))
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_guides_package_passes_its_contract(
    guided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tomllib

    metadata = tomllib.loads((guided / "sightx-tiny" / "pyproject.toml").read_text())
    ((group, points),) = metadata["project"]["entry-points"].items()
    assert group == loading.ENTRY_POINT_GROUP
    monkeypatch.syspath_prepend(guided / "sightx-tiny" / "src")
    module = importlib.import_module(points["tiny-net"])
    (component,) = module.sightx_components()
    check(component)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run(page: Path) -> None:
    for block in blocks(page):
        assert block.language in ("python", "toml", "console"), block.text
        if page == GUIDE and block.language != "console":
            assert block.path, f"no test runs this:\n{block.text}"
        if block.language == "console":
            assert all(line.startswith("$ sightx ") for line in block.text.splitlines())


def test_every_hook_has_its_heading_with_its_arguments() -> None:
    headings = re.findall(r"^### (sightx_\w+)\((.*)\)$", GUIDE.read_text(), re.MULTILINE)
    written = {
        name: [argument for argument in given.split(", ") if argument] for name, given in headings
    }
    assert len(written) == len(headings)
    assert written == documented()


def test_every_kind_has_its_section_with_its_methods() -> None:
    text = KIND_PAGE.read_text()
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [cls.__name__ for cls in KINDS]
    sections = dict(zip(KINDS, text.split("\n### ")[1:], strict=True))
    for cls, section in sections.items():
        ((language, code),) = _BLOCK.findall(section)
        stub = executed(code)[cls.__name__]
        assert language == "python"
        assert methods(stub) == methods(cls), cls.__name__


def record_fields(record: Any) -> list[str]:
    """Return the names of a record's public fields; of a protocol, its members."""
    if dataclasses.is_dataclass(record):
        return [field.name for field in dataclasses.fields(record)]
    named = getattr(record, "_fields", None) or getattr(record, "model_fields", None)
    return list(named or [name for name in vars(record) if not name.startswith("_")])


def is_record(value: Any) -> bool:
    return (
        dataclasses.is_dataclass(value)
        or hasattr(value, "_fields")
        or value in (sightx.plugin.ParamGroup, sightx.plugin.RunInfo, sightx.plugin.Experiment)
    )


def test_every_record_has_its_section_with_its_fields() -> None:
    text = KIND_PAGE.read_text()
    sections = dict(re.findall(r"^#### (\w+)\n(.*?)(?=^#### |\Z)", text, re.DOTALL | re.MULTILINE))
    documented = {
        name: re.findall(r"`(\w+)`", " ".join(re.findall(r"^- (`.*?):", section, re.MULTILINE)))
        for name, section in sections.items()
    }
    exported = {name: getattr(sightx.plugin, name) for name in sightx.plugin.__all__}
    records = {name: value for name, value in exported.items() if is_record(value)}
    fields = {name: sorted(record_fields(value)) for name, value in records.items()}
    assert {name: sorted(names) for name, names in documented.items()} == fields


def test_every_kind_is_named_in_the_guide() -> None:
    text = GUIDE.read_text()
    assert [cls.kind for cls in KINDS if cls.kind not in text] == []


def test_every_method_that_the_guide_calls_pure_exists() -> None:
    kinds = {cls.__name__: cls for cls in KINDS}
    mentioned = re.findall(r"`([A-Z]\w+)\.(\w+)`", GUIDE.read_text())
    known = [(name, method) for name, method in mentioned if name in kinds]
    assert len(known) >= 8
    assert [pair for pair in known if not hasattr(kinds[pair[0]], pair[1])] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
                         ids=lambda page: page.name)  # fmt: skip
def test_links_and_files_that_are_mentioned_exist(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text())
    for link in _LINK.findall(text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:plugins|sightx|specs|docs)/[\w./-]*\w)`", text):
        assert (ROOT / path).exists(), path
    if page in PAGES:
        for name in re.findall(r"`sightx\.(\w+)`", text):
            assert name in sightx.__all__ or name in ("plugin", "testing"), name
        for name in re.findall(r"`sightx\.plugin\.(\w+)", text):
            assert name in sightx.plugin.__all__, name


def test_readme_and_contributing_lead_to_the_guide() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "](docs/plugins.md)" in (ROOT / page).read_text(), page
