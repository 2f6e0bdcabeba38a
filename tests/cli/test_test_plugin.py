from __future__ import annotations

from pathlib import Path

import pytest

GOOD = '''
from sightx.plugin import Preprocess, hookimpl


class Same(Preprocess):
    """Leave images as they are."""

    name = "same-as-before"

    def apply(self, image):
        """Return the image."""
        return image


class Large(Preprocess):
    """Keep only a corner."""

    name = "corner"

    size: int
    """Size of the corner."""

    def apply(self, image):
        """Return the corner."""
        return image[:, : self.size, : self.size]


@hookimpl
def sightx_components():
    """Return both."""
    return [Same, Large]
'''


@pytest.fixture
def plugin(working_folder: Path) -> Path:
    """A project with one plugin in one file, of which one component is broken."""
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()
    path = working_folder / "mine" / f"plugin_{abs(hash(str(working_folder))):x}.py"
    path.write_text(GOOD)
    return path


def test_each_check_of_a_component_is_a_line(sightx, plugin: Path) -> None:
    done = sightx("test-plugin", "same-as-before")
    assert (done.code, done.err) == (0, "")
    *lines, last = done.out.splitlines()
    assert lines[0] == "preprocess same-as-before: name: ok"
    assert "preprocess same-as-before: shape-matches-output: ok" in lines
    assert last == f"1 component, {len(lines)} checks, 0 failures"


def test_a_failure_has_its_reason_and_exits_with_4(sightx, plugin: Path) -> None:
    done = sightx("test-plugin", plugin.stem)
    assert done.code == 4
    (line,) = [line for line in done.out.splitlines() if ": fails: " in line]
    head = "preprocess corner: settings: fails: it needs size; pass settings, or give the "
    assert line.startswith(head)


def test_the_component_is_built_from_its_example(sightx, plugin: Path) -> None:
    example = "    @staticmethod\n    def example(folder):\n        return {'size': 5}\n\n"
    before, apply, after = GOOD.rpartition("    def apply(self, image):\n")
    plugin.write_text(before + example + apply + after)
    done = sightx("test-plugin", plugin.stem)
    assert done.code == 4
    (line,) = [line for line in done.out.splitlines() if ": fails: " in line]
    assert line.startswith(
        "preprocess corner: shape-matches-output: fails: shape((3, 40, 60)) returns"
    )


def test_kind_selects_components(sightx, working_folder: Path) -> None:
    done = sightx("test-plugin", "builtin", "--kind", "normalize")
    assert done.code == 0
    titles = {line.partition(":")[0] for line in done.out.splitlines()[:-1]}
    names = ("dataset", "imagenet", "model", "values")
    assert titles == {f"normalize {name}" for name in names}


def test_a_broken_plugin_exits_with_4(sightx, plugin: Path) -> None:
    plugin.write_text("1 / 0\n")
    done = sightx("test-plugin", plugin.stem)
    assert (done.code, done.out) == (4, "")
    assert "error[broken-plugin] plugin" in done.err
    assert "is broken: ZeroDivisionError: division by zero" in done.err
    done = sightx("test-plugin", "all", "--kind", "stopping")
    assert done.code == 4
    failures = [line for line in done.out.splitlines() if ": fails: " in line]
    assert failures == [f"plugin {plugin.stem}: fails: ZeroDivisionError: division by zero"]


def test_unknown_names_exit_with_2_and_a_suggestion(sightx, working_folder: Path) -> None:
    done = sightx("test-plugin", "buildin")
    line = "error[usage] no plugin or component is called 'buildin'; did you mean 'builtin'?"
    assert (done.code, done.lines) == (2, [line])
    done = sightx("test-plugin", "all", "--kind", "models")
    line = "error[usage] no kind is called 'models'; did you mean 'model'?"
    assert (done.code, done.lines) == (2, [line])
    done = sightx("test-plugin", "resnet50", "--kind", "loss")
    assert done.code == 2
    assert done.lines[0].startswith("error[usage] no plugin or component of the kind loss is calle")


RULES = """
import click
from sightx.plugin import Check, Finding, hookimpl


@click.command("greet")
def greet():
    "Greet the caller."


@hookimpl
def sightx_checks():
    return [Check("no-luck", "thirteen is unlucky", lambda experiment: [3])]


@hookimpl
def sightx_commands():
    return [greet]
"""


def test_checks_and_commands_of_a_plugin_are_tested(sightx, plugin: Path) -> None:
    plugin.write_text(RULES)
    done = sightx("test-plugin", plugin.stem)
    assert done.code == 4
    assert "check no-luck: every-experiment-is-examined: fails: find yields a int" in done.out
    assert "command greet: help-is-shown: ok" in done.out
    assert done.out.splitlines()[-1] == "0 components, 1 rule, 1 command, 7 checks, 1 failure"
    assert sightx("test-plugin", "greet").code == 0
    assert sightx("test-plugin", "no-luck").code == 4


def test_a_name_that_a_broken_plugin_may_have_names_the_plugin(sightx, plugin: Path) -> None:
    plugin.write_text("import nothing_of_this_name")
    done = sightx("test-plugin", "evil")
    assert done.code == 4
    assert f"no plugin or component is called 'evil'; plugin {plugin.stem} is broken" in done.err
