"""What `sightx validate` found, as programs read it: JSON, GitHub's commands, SARIF 2.1.0."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sightx.errors import Problem
from sightx.io.toml import SIZE_LIMIT
from sightx.registry.registry import Registry
from sightx.spec.error_codes import find_code
from sightx.spec.merge import OVERRIDE

Status = Literal["valid", "invalid"]
_WIDTH = 96  # characters of a source line that an excerpt shows
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Report:
    """Hold every problem once, the status of each spec, and the stages that ran.

    `registry` knows the codes of checks.
    """

    problems: tuple[Problem, ...]
    specs: tuple[tuple[str, Status], ...]
    stages: tuple[str, ...]
    registry: Registry | None = None


def as_json(report: Report) -> str:
    """Return one object: `problems`, `specs` and `stages`."""
    content = {
        "problems": [asdict(problem) for problem in report.problems],
        "specs": [{"file": file, "status": status} for file, status in report.specs],
        "stages": report.stages,
    }
    return json.dumps(content, indent=2)


def as_github(report: Report) -> str:
    """Return a workflow command for each problem, and a line that sums up."""
    lines = [_command(problem) for problem in report.problems]
    valid = sum(status == "valid" for _, status in report.specs)
    count = f"{valid} of {len(report.specs)} specs valid"
    return "\n".join([*lines, f"{count} (stages: {', '.join(report.stages)})"])


def as_sarif(report: Report) -> str:
    """Return a SARIF log of one run, with a rule for each code that was found."""
    from importlib.metadata import version

    rules = sorted({problem.code for problem in report.problems})
    driver = {
        "name": "sightx",
        "version": version("sightx"),
        "rules": [_rule(code, report.registry) for code in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, rules.index(problem.code)) for problem in report.problems],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


FORMATS: dict[str, Callable[[Report], str]] = {
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}


def excerpt(problem: Problem) -> list[str]:
    """Return the source line of a problem, and a caret below its column; or nothing."""
    line = _source(problem)
    if not line or problem.column > len(line) + 1:
        return []
    start = max(0, problem.column - _WIDTH // 2) if len(line) > _WIDTH else 0
    shown = "".join(c if c.isprintable() else " " for c in line[start:][:_WIDTH])
    before = sum(map(_columns, shown[: max(problem.column - 1 - start, 0)]))
    return [shown, " " * before + "^"]


def _source(problem: Problem) -> str:
    if not problem.line or not _is_file(problem):
        return ""
    try:
        with Path(problem.file).open("rb") as file:
            lines = file.read(SIZE_LIMIT).decode("utf-8-sig", "replace").split("\n")
    except (OSError, ValueError):
        return ""
    return lines[problem.line - 1].rstrip("\r") if problem.line <= len(lines) else ""


def _columns(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_file(problem: Problem) -> bool:
    return bool(problem.file) and not problem.file.startswith(OVERRIDE)


def _said(problem: Problem) -> str:
    """Return the message with the key before it and the way out behind it."""
    where = "" if _is_file(problem) else problem.file
    head = "".join(f"{part}: " for part in (where, problem.path) if part)
    return head + problem.message + (f"; {problem.hint}" if problem.hint else "")


def _command(problem: Problem) -> str:
    places: list[tuple[str, object]] = [("title", problem.code)]
    if _is_file(problem):
        numbers = {"line": problem.line, "col": problem.column}
        found = [("file", _relative(problem.file)), *numbers.items()]
        places = [*((key, value) for key, value in found if value), *places]
    said = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in places)
    return f"::{problem.severity} {said}::{_escaped(_said(problem))}"


def _escaped(text: str, more: Iterable[str] = ()) -> str:
    """Escape what ends a workflow command or a part of it; `%` first, as it begins an escape."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text.encode(errors="backslashreplace").decode()


def _relative(file: str) -> str:
    """Return a path from the working directory, where the file lies below it."""
    path = Path(os.path.abspath(file))  # noqa: PTH100 - `..` goes, links stay
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def _rule(code: str, registry: Registry | None) -> dict[str, Any]:
    entry = find_code(code, registry)
    if entry is None:
        return {"id": code}
    return {
        "id": code,
        "shortDescription": {"text": entry.means},
        "help": {"text": "\n".join(entry.do)},
    }


def _result(problem: Problem, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": problem.severity,
        "message": {"text": _said(problem)},
    }
    if _is_file(problem):
        place: dict[str, Any] = {"artifactLocation": {"uri": _uri(problem.file)}}
        if problem.line:
            place["region"] = {"startLine": problem.line, "startColumn": problem.column or 1}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _uri(file: str) -> str:
    relative = _relative(file)
    if Path(relative).is_absolute():
        return Path(relative).as_uri()
    return quote(os.fsencode(relative))
