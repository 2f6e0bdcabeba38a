from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = '''
from sightx.plugin import Loss, Model, hookimpl

class {title}(Model):
    """A third party's {name}."""

    name = "{name}"

    def build(self):
        pass

@hookimpl
def sightx_components():
    return [{title}]
'''


@pytest.fixture
def local(working_folder: Path) -> Callable[..., Path]:
    """Write a module into the project's folder of plugins."""
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()

    def write(module: str, name: str) -> Path:
        path = working_folder / "mine" / f"{module}.py"
        path.write_text(PLUGIN.format(name=name, title=name.title()))
        return path

    return write


def test_every_kind_and_the_plugins_are_listed(sightx) -> None:
    done = sightx("list-plugins")
    assert (done.code, done.err) == (0, "")
    assert "Cross-entropy with equal weights for all samples." in done.out
    assert "loaded builtin (sightx " in done.out
    table = done.out.partition("\n\n")[0].splitlines()
    assert table[0].split() == ["kind", "name", "description", "plugin"]
    column = table[0].index("description")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in table)


def test_one_kind_is_listed_alone_as_json(sightx) -> None:
    done = sightx("list-plugins", "optimizer", "--json")
    listed = json.loads(done.out)
    assert [item["name"] for item in listed["components"]] == [
        "adam", "adamw", "rmsprop", "sam", "sgd"
    ]  # fmt: skip
    assert {item["kind"] for item in listed["components"]} == {"optimizer"}
    file, _, line = listed["components"][0]["place"].rpartition(":")
    assert Path(file).read_text().splitlines()[int(line) - 1].startswith("class Adam(")
    assert listed["plugins"] == [
        {"name": "builtin", "place": "sightx.builtin", "distribution": "sightx",
         "version": listed["plugins"][0]["version"], "state": "loaded", "error": "", "note": "",
         "seconds": listed["plugins"][0]["seconds"]}
    ]  # fmt: skip


def test_an_unknown_kind_exits_with_2_and_a_suggestion(sightx) -> None:
    done = sightx("list-plugins", "optimiser")
    assert (done.code, done.out) == (2, "")
    line = "error[usage] no kind is called 'optimiser'; did you mean 'optimizer'?"
    assert done.lines == [line]


def test_a_broken_plugin_is_listed_with_its_reason(sightx, working_folder: Path, local) -> None:
    local("sightx_test_listed_broken", "x").write_text("1 / 0\n")
    done = sightx("list-plugins", "--json")
    assert done.code == 0
    (plugin,) = [p for p in json.loads(done.out)["plugins"] if p["state"] == "broken"]
    assert plugin["error"] == "ZeroDivisionError: division by zero"
    assert plugin["place"] == str(working_folder / "mine" / "sightx_test_listed_broken.py")
    assert "broken sightx_test_listed_broken" in sightx("list-plugins").out


def test_a_module_whose_name_is_taken_is_listed_as_shadowed(sightx, local) -> None:
    path = local("random", "x")
    line = sightx("list-plugins").out.splitlines()[-1]
    assert line.startswith(f"shadowed random from {path}: the name 'random' is taken by ")


def test_disabled_plugins_are_listed(sightx, local, monkeypatch: pytest.MonkeyPatch) -> None:
    local("sightx_test_listed_off", "x")
    monkeypatch.setenv("SIGHTX_PLUGINS", "none")
    line = sightx("list-plugins").out.splitlines()[-1]
    assert line.startswith("disabled sightx_test_listed_off from ")
    assert line.endswith(": SIGHTX_PLUGINS=none")


def test_clashing_names_are_marked_with_both_owners(sightx, local) -> None:
    path = local("sightx_test_listed_clash", "resnet50")
    out = sightx("list-plugins", "model").out
    assert out.count("resnet50 (clash)") == 2
    clashes = [line for line in out.splitlines() if line.startswith("clash ")]
    assert (
        f"clash model 'resnet50' is provided by sightx_test_listed_clash at {path}:4" in clashes[1]
    )
    assert clashes[1].endswith('use = "sightx_test_listed_clash:resnet50" names it')
    assert "is provided by builtin (sightx " in clashes[0]
    assert clashes[0].endswith('use = "sightx:resnet50" names it')
    listed = json.loads(sightx("list-plugins", "model", "--json").out)["components"]
    (builtin,) = [c for c in listed if c["name"] == "resnet50" and c["plugin"] == "builtin"]
    assert builtin["clashes"] == [f"sightx_test_listed_clash at {path}:4"]


def test_verbose_shows_where_each_component_is_defined(sightx) -> None:
    brief, verbose = sightx("list-plugins", "loss").out, sightx("list-plugins", "loss", "-v").out
    assert "losses.py" not in brief
    (line,) = [line for line in verbose.splitlines() if line.split()[:1] == ["cross-entropy"]]
    file, _, number = line.split()[-1].rpartition(":")
    assert Path(file).read_text().splitlines()[int(number) - 1].startswith("class CrossEntropy(")


def test_on_a_terminal_lines_fit_its_width(
    working_folder: Path, local, monkeypatch: pytest.MonkeyPatch
) -> None:
    local("sightx_test_listed_wide", "x")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = on_a_terminal("list-plugins", "loss")
    plain = text.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "")
    table, _, states = plain.partition("\n\n")
    assert max(map(len, table.splitlines())) == 90
    assert "..." in table
    assert "\x1b[32mloaded\x1b[0m" in text
    assert "sightx_test_listed_wide from mine/sightx_test_listed_wide.py" in states
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_a_terminal("list-plugins", "loss") == plain


def on_a_terminal(*words: str) -> str:
    """Return what a command prints on a new pseudo-terminal."""
    master, terminal = os.openpty()
    child = subprocess.Popen([sys.executable, "-m", "sightx", *words], stdout=terminal)
    os.close(terminal)
    text = b""
    with contextlib.suppress(OSError):  # raised at the end, when the child has closed its end
        while chunk := os.read(master, 4096):
            text += chunk
    os.close(master)
    assert child.wait() == 0
    return text.decode().replace("\r", "")


def test_a_listing_needs_no_rich(working_folder: Path) -> None:
    code = "import sys; from sightx.cli.main import main\ntry: main(['list-plugins'])\n"
    code += "finally: assert 'rich' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plugin_with_a_fault_is_broken_and_says_so_in_one_line(
    sightx, working_folder: Path
) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()
    (working_folder / "mine" / "sightx_test_faulty.py").write_text(
        "from sightx.plugin import Model, hookimpl\n"
        "class X(Model):\n    'A model.'\n    name = 'x'\n    stages: int = 3\n"
        "    def build(self): ...\n"
        "@hookimpl\ndef sightx_components(): return [X]\n"
    )
    done = sightx("list-plugins", "model")
    assert "broken sightx_test_faulty" in done.out
    assert "the field 'stages' hides what every model has" in done.out
    assert "UserWarning" not in done.err


def test_a_plugin_that_every_command_waits_for_is_named_with_its_seconds(
    child, working_folder: Path, local: Callable[..., Path]
) -> None:
    path = local("mod_heavy", "alpha")
    path.write_text("import torch\n" + path.read_text())
    path = local("mod_slow", "beta")
    path.write_text("import time\ntime.sleep(0.51)\n" + path.read_text())
    local("mod_light", "gamma")
    done = child("list-plugins", "model", "--json")
    plugins = {plugin["name"]: plugin for plugin in json.loads(done.out)["plugins"]}
    heavy, slow = plugins["mod_heavy"], plugins["mod_slow"]
    assert " and loads torch in every command; import inside of methods" in heavy["note"]
    assert slow["note"].startswith(f"its import takes {slow['seconds']:.1f} s in every command")
    assert slow["seconds"] > 0.5
    text = child("list-plugins", "model").out
    assert f"loaded mod_slow from {working_folder}/mine/mod_slow.py: its import takes " in text


def test_only_a_plugin_that_is_slow_is_named(child, local: Callable[..., Path]) -> None:
    local("mod_light", "gamma")
    done = child("list-plugins", "model", "--json")
    assert all("torch" not in plugin["note"] for plugin in json.loads(done.out)["plugins"])
