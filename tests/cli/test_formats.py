from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sightx.cli import formats
from sightx.cli.formats import Report, SpecResult, excerpt
from sightx.plugin import Problem

WRONG = Problem("unknown-key", "unknown key", "did you mean 'lr'?", "optimizer.l", "a.toml", 3, 5)
WARNING = Problem("step-unreached", "100% later,\nor never: \r", severity="warning")
SET = Problem("usage", "expected key=value", file="--set y")


def report(*problems: Problem) -> Report:
    return Report(problems, (SpecResult("a.toml", 2), SpecResult("b.toml", 0)), ("spec",))


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_has_every_field(working_folder: Path) -> None:
    content = json.loads(formats.as_json(report(WRONG, SET)))
    assert content == {
        "problems": [
            {
                "code": "unknown-key", "message": "unknown key", "hint": "did you mean 'lr'?",
                "path": "optimizer.l", "file": "a.toml", "line": 3, "column": 5,
                "severity": "error",
            },
            {
                "code": "usage", "message": "expected key=value", "hint": "", "path": "",
                "file": "--set y", "line": 0, "column": 0, "severity": "error",
            },
        ],
        "specs": [{"file": "a.toml", "status": "invalid"}, {"file": "b.toml", "status": "valid"}],
        "stages": ["spec"],
    }  # fmt: skip


def test_github_commands_are_escaped(working_folder: Path) -> None:
    escaped = WRONG.at(str(working_folder / "a,b:c%.toml"), 3)
    assert formats.as_github(report(WRONG, escaped, WARNING, SET)).splitlines() == [
        "::error file=a.toml,line=3,col=5,title=unknown-key"
        "::optimizer.l: unknown key; did you mean 'lr'?",
        "::error file=a%2Cb%3Ac%25.toml,line=3,title=unknown-key"
        "::optimizer.l: unknown key; did you mean 'lr'?",
        "::warning title=step-unreached::100%25 later,%0Aor never: %0D",
        "::error title=usage::--set y: expected key=value",
        "1 of 2 specs valid (stages: spec)",
    ]


def test_github_commands_can_be_encoded(working_folder: Path) -> None:
    formats.as_github(report(WRONG.at("\udcff.toml", 1))).encode()


# What SARIF 2.1.0 requires of the parts that SightX writes, after the standard's text.
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"minLength": 1}}}
_RULE = {
    "type": "object",
    "required": ["id"],
    "properties": {"shortDescription": _TEXT, "help": _TEXT},
}
_DRIVER = {
    "type": "object",
    "required": ["name"],
    "properties": {"rules": {"type": "array", "uniqueItems": True, "items": _RULE}},
}
_LOCATION = {
    "type": "object",
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {"properties": {"uri": {"pattern": r"^[!-~]+$"}}},
                "region": {
                    "required": ["startLine"],
                    "properties": {
                        "startLine": {"type": "integer", "minimum": 1},
                        "startColumn": {"type": "integer", "minimum": 1},
                    },
                },
            },
        }
    },
}
_RESULT = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": _TEXT,
        "level": {"enum": ["none", "note", "warning", "error"]},
        "ruleIndex": {"type": "integer", "minimum": -1},
        "locations": {"type": "array", "items": _LOCATION},
    },
}
_RUN = {
    "type": "object",
    "required": ["tool"],
    "properties": {
        "tool": {"type": "object", "required": ["driver"], "properties": {"driver": _DRIVER}},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": _RESULT},
    },
}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {"version": {"const": "2.1.0"}, "runs": {"type": "array", "items": _RUN}},
}


def sarif(*problems: Problem) -> dict[str, Any]:
    log = json.loads(formats.as_sarif(report(*problems)))
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def test_sarif_names_rules_levels_and_regions(working_folder: Path) -> None:
    run = sarif(WRONG, WARNING, WRONG.at(str(working_folder / "sub" / ".." / "b ö.toml")), SET)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["step-unreached", "unknown-key", "usage"]
    assert rules[1]["shortDescription"]["text"].startswith("The section or its component has no")
    results = run["results"]
    assert [rules[result["ruleIndex"]]["id"] for result in results] == [
        result["ruleId"] for result in results
    ]
    assert [result["level"] for result in results] == ["error", "warning", "error", "error"]
    assert results[0]["message"]["text"] == "optimizer.l: unknown key; did you mean 'lr'?"
    places = [
        place["physicalLocation"] for result in results for place in result.get("locations", [])
    ]
    assert places == [
        {"artifactLocation": {"uri": "a.toml"}, "region": {"startLine": 3, "startColumn": 5}},
        {"artifactLocation": {"uri": "b%20%C3%B6.toml"}},
    ]
    assert "locations" not in results[1]
    assert "locations" not in results[3]


def test_sarif_without_problems_is_a_log(working_folder: Path) -> None:
    assert sarif()["results"] == []


def test_sarif_writes_uris(working_folder: Path) -> None:
    run = sarif(WRONG.at("/elsewhere/a b.toml", 1), WRONG.at("a:b.toml"), WRONG.at("\udcff.toml"))
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"]
    ]
    assert uris == ["file:///elsewhere/a%20b.toml", "a%3Ab.toml", "%FF.toml"]


@pytest.mark.parametrize(
    ("raw", "column", "lines"),
    [
        (b"x\nlr = 1\n", 1, ["lr = 1", "^"]),
        (b"x\nlr = 1\r\n", 7, ["lr = 1", "      ^"]),
        ("x\n\tb = 'ö'\n".encode(), 6, [" b = 'ö'", "     ^"]),
        ("x\nb = '漢字' # e\u0301!\n".encode(), 14, ["b = '漢字' # e\u0301!", "              ^"]),
        (b"x\nb = '\xe9\x1b[31m'\n", 6, ["b = '\ufffd [31m'", "     ^"]),
        (b"x\n" + b"k" * 200 + b"!" + b"k" * 200, 201, ["k" * 47 + "!" + "k" * 48, " " * 47 + "^"]),
        (b"x\nlr\n", 9, []),
        (b"x\n\n", 1, []),
        (b"x", 1, []),
    ],
)  # fmt: skip
def test_an_excerpt_is_the_line_and_a_caret(
    working_folder: Path, raw: bytes, column: int, lines: list[str]
) -> None:
    Path("a.toml").write_bytes(raw)
    assert excerpt(WRONG.at("a.toml", 2, column)) == lines


def test_an_excerpt_of_the_first_line_leaves_out_the_byte_order_mark(working_folder: Path) -> None:
    Path("a.toml").write_bytes(b"\xef\xbb\xbflr = 1\n")
    assert excerpt(WRONG.at("a.toml", 1, 1)) == ["lr = 1", "^"]


def test_a_problem_without_source_has_no_excerpt(working_folder: Path) -> None:
    for problem in (WRONG, WRONG.at("a.toml"), SET, WARNING, WRONG.at("\0", 1, 1)):
        assert excerpt(problem) == []
