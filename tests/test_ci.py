"""docs/ci.md and the hook for pre-commit: documented commands run, formats are complete."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from sightx.cli.formats import FORMATS
from sightx.cli.main import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "ci.md").read_text()
COMMANDS = sorted(
    {
        command.partition(">")[0].strip()
        for command in re.findall(
            r"^ *(?:- run: )?(sightx validate .*\.toml.*)$", TEXT, re.MULTILINE
        )
    }
)
SPECS = {
    "good.toml": 'name = "a"\n[dataset]\nuse = "synthetic-fundus"\n[model]\nuse = "simplenet"\n',
    "wrong.toml": 'name = "a b"\n',
}


def mappings(text: str) -> list[dict[str, str]]:
    """Return the items of a plain YAML list of plain mappings."""
    items: list[dict[str, str]] = []
    for line in filter(None, text.splitlines()):
        mark, key, value = re.fullmatch(r"(- |  )([a-z_]+): (.+)", line).groups()  # type: ignore[union-attr]
        if mark == "- ":
            items.append({})
        assert key not in items[-1]
        items[-1][key] = value
    return items


def test_the_hook_is_complete_and_selects_specs() -> None:
    (hook,) = mappings((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] == "sightx-validate"
    assert hook["language"] == "python"
    command, *words = shlex.split(hook["entry"])
    assert words == ["validate"]
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for path in (ROOT / "specs").glob("*.toml"):
        assert re.search(hook["files"], path.relative_to(ROOT).as_posix())
    for path in ("pyproject.toml", "specs/a.py", "tests/specs/a.toml"):
        assert not re.search(hook["files"], path)
    assert TEXT.count(f"- id: {hook['id']}\n") == 2
    assert f"files: {hook['files']}\n" in TEXT


def test_every_format_is_documented() -> None:
    assert len(COMMANDS) == 1 + len(FORMATS)
    assert all(any(f"--format {name}" in command for command in COMMANDS) for name in FORMATS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("spec", "code"), [("good.toml", 0), ("wrong.toml", 2)])
def test_the_documented_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, spec: str, code: int
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / spec).write_text(SPECS[spec])
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("specs/*.toml", f"specs/{spec}"))
    with pytest.raises(SystemExit) as caught:
        main(words[1:])
    assert caught.value.code == code


def test_the_table_has_every_key_of_the_json_output(tmp_path: Path, monkeypatch, capsys) -> None:
    import json

    (tmp_path / "wrong.toml").write_text(SPECS["wrong.toml"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["validate", "--format", "json", "wrong.toml"])
    output = json.loads(capsys.readouterr().out)
    named = set(re.findall(r"`(?:problems\[\])?\.?(\w+)`", TEXT.partition("| key |")[2]))
    assert {*output, *output["problems"][0], *output["specs"][0]} <= named
