"""The tutorials: every file is written, every command runs, and prints what the page shows.

In a tutorial, a fenced block whose info string has a second word is a file to write:

    ```python photos.py

A block with the info string `console` is a session: lines that begin with `$ ` are commands, the
lines below each are its output. `...` in the output stands for anything, also over several lines.
`SIGHTX_REGENERATE=1` prints the real sessions into pytest's output, to be pasted. `pip install` is
replaced by a script that leaves what an editable install leaves, so that nothing is installed into
the environment of the tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs").glob("tutorial*.md"))
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the file it is written to, its text and its line."""

    language: str
    file: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, _, file = match["info"].strip().partition(" ")
        yield Block(language, file, match["body"], text.count("\n", 0, match.start()) + 1)


def commands(session: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a session with the output that the page shows."""
    parts = re.split(r"^\$ ", session, flags=re.MULTILINE)
    for part in parts[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = f"{command}\n{more}"
        yield command, output


def pattern(shown: str) -> re.Pattern[str]:
    """Return what output must match: `...` is anything, and trailing blanks do not count."""
    lines = [line.rstrip() for line in shown.strip("\n").split("\n")]
    return re.compile(".*?".join(map(re.escape, "\n".join(lines).split("..."))), re.DOTALL)


def execute(command: str, folder: Path) -> str:
    """Run a command in a shell as a reader would; return what it prints on both streams."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(
            [str(folder.with_name("bin")), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder.with_name("site"))]),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "SIGHTX_CACHE": str(folder.with_name("cache")),
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").split("\n"))


PIP = """#!{python}
import sys, tomllib
from pathlib import Path
root, site = Path(sys.argv[-1]).resolve(), Path({site!r})
project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
name, version, points = project["name"], project["version"], project["entry-points"]["sightx"]
info = site / f"{{name.replace('-', '_')}}-{{version}}.dist-info"
info.mkdir(parents=True)
(info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n")
lines = ["[sightx]", *(f"{{key}} = {{value}}" for key, value in points.items()), ""]
(info / "entry_points.txt").write_text("\\n".join(lines))
source = str(root / "src")
(site / "sitecustomize.py").write_text(f"import sys; sys.path.append({{source!r}})\\n")
"""


def write_pip(folder: Path) -> None:
    """Write a `pip` that makes a project importable, with its metadata, from `site`."""
    script = folder / "bin" / "pip"
    script.parent.mkdir()
    script.write_text(PIP.format(python=sys.executable, site=str(folder / "site")))
    script.chmod(0o755)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_shows(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    write_pip(tmp_path)
    wrong = []
    for block in blocks(page):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            for command, shown in commands(block.text):
                printed = execute(command, folder)
                if os.environ.get("SIGHTX_REGENERATE"):
                    print(f"\n--- {page.name}:{block.line}\n$ {command}\n{printed}")
                elif not pattern(shown).fullmatch(printed):
                    wrong.append(f"{page.name}:{block.line}: $ {command}\n{printed}")
    assert not wrong, "\n\n".join(wrong)


def test_the_first_tutorial_has_twelve_steps() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)] == [
        *range(1, 13)
    ]
