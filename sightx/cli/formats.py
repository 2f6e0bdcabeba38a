"""Output of `sightx validate`: text, JSON, GitHub workflow commands, and SARIF 2.1.0."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import click

from sightx.cli.options import print_output
from sightx.errors import Problem
from sightx.io.toml import SIZE_LIMIT
from sightx.registry.registry import Registry
from sightx.spec.error_codes import find_code
from sightx.spec.merge import OVERRIDE

_COLOURS = {"error": "red", "warning": "yellow"}
_EXCERPT_WIDTH = 96  # characters
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class SpecResult(NamedTuple):
    """One spec, the exit code for it, and what a dry run printed about it."""

    file: str
    exit_code: int
    facts: tuple[str, ...] = ()

    @property
    def status(self) -> Literal["valid", "invalid"]:
        """Return whether the spec is valid, in a word."""
        return "invalid" if self.exit_code else "valid"


@dataclass(frozen=True)
class Report:
    """The result of validating specs.

    Attributes:
        problems: All problems, each only once.
        specs: The result of each spec.
        stages: The stages of checks that ran.
        registry: Explains the codes of checks; None explains only SightX's own codes.
    """

    problems: tuple[Problem, ...]
    specs: tuple[SpecResult, ...]
    stages: tuple[str, ...]
    registry: Registry | None = None


def print_report(report: Report, form: str) -> None:
    """Print a report in one of the formats: text, json, github or sarif."""
    if form == "text":
        print_text(report)
    else:
        print_output(FORMATS[form](report))


def print_text(report: Report) -> None:
    """Print each problem to stderr, on a terminal with its source line, and the status of specs."""
    colour = False if "NO_COLOR" in os.environ else None
    for problem in report.problems:
        line = str(problem)
        if sys.stderr.isatty():
            label = f"{problem.severity}[{problem.code}]"
            styled = click.style(label, fg=_COLOURS[problem.severity], bold=True)
            source = [click.style(f"    {row}", dim=True) for row in excerpt(problem)]
            line = "\n".join([line.replace(label, styled, 1), *source])
        click.echo(line, err=True, color=colour)
    more = "" if len(report.stages) > 1 else "; --deep opens the data and builds the model"
    for spec in report.specs:
        name = "".join(c if c.isprintable() else "?" for c in spec.file)
        if spec.status == "valid":
            click.echo(f"{name}: valid (stage {', '.join(report.stages)}{more})")
            for fact in spec.facts:
                click.echo(f"  {fact}")
        elif len(report.specs) > 1:  # a problem of the data does not name the spec
            click.echo(f"{name}: invalid")


def as_json(report: Report) -> str:
    """Return one object with `problems`, `specs` and `stages`."""
    content = {
        "problems": [asdict(problem) for problem in report.problems],
        "specs": [{"file": spec.file, "status": spec.status} for spec in report.specs],
        "stages": report.stages,
    }
    return json.dumps(content, indent=2)


def as_github(report: Report) -> str:
    """Return a GitHub workflow command for each problem, and a summary."""
    lines = [_workflow_command(problem) for problem in report.problems]
    valid = sum(spec.status == "valid" for spec in report.specs)
    count = f"{valid} of {len(report.specs)} specs valid"
    return "\n".join([*lines, f"{count} (stages: {', '.join(report.stages)})"])


def as_sarif(report: Report) -> str:
    """Return a SARIF log of one run, with a rule for each code."""
    from importlib.metadata import version

    codes = sorted({problem.code for problem in report.problems})
    driver = {
        "name": "sightx",
        "version": version("sightx"),
        "rules": [_sarif_rule(code, report.registry) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(problem, codes) for problem in report.problems],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


FORMATS: dict[str, Callable[[Report], str]] = {
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}


def excerpt(problem: Problem) -> list[str]:
    """Return the source line of a problem and a caret below its column; [] if there is none."""
    line = _source_line(problem)
    if not line or problem.column > len(line) + 1:
        return []
    start = max(0, problem.column - _EXCERPT_WIDTH // 2) if len(line) > _EXCERPT_WIDTH else 0
    shown = "".join(c if c.isprintable() else " " for c in line[start:][:_EXCERPT_WIDTH])
    before = sum(map(_terminal_columns, shown[: max(problem.column - 1 - start, 0)]))
    return [shown, " " * before + "^"]


def _source_line(problem: Problem) -> str:
    if not problem.line or not _is_in_file(problem):
        return ""
    try:
        with Path(problem.file).open("rb") as file:
            lines = file.read(SIZE_LIMIT).decode("utf-8-sig", "replace").split("\n")
    except (OSError, ValueError):
        return ""
    return lines[problem.line - 1].rstrip("\r") if problem.line <= len(lines) else ""


def _terminal_columns(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_in_file(problem: Problem) -> bool:
    return bool(problem.file) and not problem.file.startswith(OVERRIDE)


def _message(problem: Problem) -> str:
    """Return the message with its key and its hint; the format has a field for the file."""
    override = "" if _is_in_file(problem) else problem.file
    head = "".join(f"{part}: " for part in (override, problem.path) if part)
    return head + problem.message + (f"; {problem.hint}" if problem.hint else "")


def _workflow_command(problem: Problem) -> str:
    properties: dict[str, object] = {}
    if _is_in_file(problem):
        position = {"file": _relative(problem.file), "line": problem.line, "col": problem.column}
        properties = {key: value for key, value in position.items() if value}
    properties["title"] = problem.code
    text = ",".join(f"{key}={_escape(str(value), ':,')}" for key, value in properties.items())
    return f"::{problem.severity} {text}::{_escape(_message(problem))}"


def _escape(text: str, more: Iterable[str] = ()) -> str:
    """Escape characters that end a workflow command or a property; `%` first, it begins escapes."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text.encode(errors="backslashreplace").decode()


def _relative(file: str) -> str:
    """Return a path relative to the working folder, if it is below it."""
    path = Path(os.path.abspath(file))  # noqa: PTH100 - removes `..`, keeps links
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def _sarif_rule(code: str, registry: Registry | None) -> dict[str, Any]:
    entry = find_code(code, registry)
    if entry is None:
        return {"id": code}
    return {
        "id": code,
        "shortDescription": {"text": entry.meaning},
        "help": {"text": "\n".join(entry.actions)},
    }


def _sarif_result(problem: Problem, codes: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": codes.index(problem.code),
        "level": problem.severity,
        "message": {"text": _message(problem)},
    }
    if _is_in_file(problem):
        location: dict[str, Any] = {"artifactLocation": {"uri": _uri(problem.file)}}
        if problem.line:
            location["region"] = {"startLine": problem.line, "startColumn": problem.column or 1}
        result["locations"] = [{"physicalLocation": location}]
    return result


def _uri(file: str) -> str:
    relative = _relative(file)
    if Path(relative).is_absolute():
        return Path(relative).as_uri()
    return quote(os.fsencode(relative))
