from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

VALID = "valid (stage spec; --deep opens the data and builds the model)"
HEAD = 'name = "a"\n[training]\n'
REST = '\n[dataset]\nuse = "synthetic-fundus"\n[model]\nuse = "simplenet"\n'
WARNS = HEAD + "epochs = 5" + REST + '[scheduler]\nuse = "step"\nstep_size = 9\n'
WARNING = (
    "a.toml:10:1: warning[step-unreached] scheduler.step_size: a step after 9 epochs is never "
    "taken in 5 epochs; choose a value below 5, or another scheduler"
)


def test_warnings_exit_with_0_and_with_strict_with_2(validate) -> None:
    assert validate(WARNS) == (0, f"a.toml: {VALID}\n", WARNING + "\n")
    assert validate(WARNS, "--strict") == (2, "", WARNING + "\n")
    allowed = 'allow = ["step-unreached"]\n' + WARNS
    assert validate(allowed, "--strict") == (0, f"a.toml: {VALID}\n", "")


def test_an_unknown_code_in_allow_is_a_warning(validate) -> None:
    done = validate('allow = ["step-unreach"]\n' + HEAD + REST)
    assert done.code == 0
    assert done.lines == [
        "a.toml:1:10: warning[unknown-code] allow.0: 'step-unreach' is not the code of a check; "
        "did you mean 'step-unreached'?"
    ]


def test_a_finding_of_a_check_is_an_error_at_its_position(validate) -> None:
    done = validate(HEAD + 'monitor = "validation/qkw"' + REST)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("a.toml:3:1: error[unknown-monitor] training.monitor: ")


def test_the_exit_code_is_the_highest_of_all_files(sightx, working_folder: Path) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (working_folder / "mine").mkdir()
    (working_folder / "mine" / "sightx_broken_on_purpose.py").write_text(
        "raise RuntimeError('boom')\n"
    )
    (working_folder / "good.toml").write_text(HEAD + REST)
    (working_folder / "wrong.toml").write_text(HEAD + "epochs = 0" + REST)
    (working_folder / "plugin.toml").write_text(
        HEAD + REST.replace("simplenet", "sightx-broken:net")
    )
    done = sightx("validate", "plugin.toml", "good.toml", "wrong.toml")
    assert done.code == 4
    assert [line.split(" ")[0] for line in done.lines] == [
        "warning[broken-plugin]",  # once, although every spec has it
        "plugin.toml:7:1:",
        "wrong.toml:3:1:",
    ]
    assert done.out == f"plugin.toml: invalid\ngood.toml: {VALID}\nwrong.toml: invalid\n"
    assert sightx("validate", "good.toml", "wrong.toml").code == 2
    assert sightx("validate", "good.toml", "--strict").code == 2


def test_a_problem_of_a_common_base_is_reported_once(sightx, working_folder: Path) -> None:
    (working_folder / "base.toml").write_text(HEAD + "epochs = 0" + REST)
    for name in ("b.toml", "c.toml"):
        (working_folder / name).write_text('extends = "base.toml"\n')
    done = sightx("validate", "b.toml", "c.toml")
    assert done.code == 2
    assert [line.partition(": ")[0] for line in done.lines] == ["base.toml:3:1"]


@pytest.mark.parametrize("form", ["json", "github", "sarif"])
def test_formats_for_programs_print_nothing_else(sightx, working_folder: Path, form: str) -> None:
    (working_folder / "a.toml").write_text(HEAD + "epoch = 3" + REST)
    (working_folder / "b.toml").write_text(WARNS)
    done = sightx("validate", "--format", form, "a.toml", "b.toml")
    assert (done.code, done.err) == (2, "")
    if form == "github":
        first, second, last = done.out.splitlines()
        assert first.startswith("::error file=a.toml,line=3,col=1,title=unknown-key::training.")
        assert second.startswith("::warning file=b.toml,line=10,col=1,title=step-unreached::")
        assert last == "1 of 2 specs valid (stages: spec)"
    elif form == "json":
        report = json.loads(done.out)
        assert [problem["code"] for problem in report["problems"]] == [
            "unknown-key", "step-unreached",
        ]  # fmt: skip
        assert report["specs"] == [
            {"file": "a.toml", "status": "invalid"}, {"file": "b.toml", "status": "valid"},
        ]  # fmt: skip
        assert report["stages"] == ["spec"]
    else:
        (run,) = json.loads(done.out)["runs"]
        rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
        assert set(rules) == {"unknown-key", "step-unreached"}
        assert all(rule["shortDescription"]["text"] for rule in rules.values())
        assert [result["level"] for result in run["results"]] == ["error", "warning"]


def test_strict_changes_the_status_for_programs_too(validate) -> None:
    done = validate(WARNS, "--strict", "--format", "json")
    assert done.code == 2
    assert json.loads(done.out)["specs"] == [{"file": "a.toml", "status": "invalid"}]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("unknown-key", "no such setting"),
        ("step-unreached", "A check of sightx finds this when it reads the spec."),
        ("list", "\nunknown-key "),
    ],
)
def test_explain_needs_no_spec(sightx, code: str, sentence: str) -> None:
    done = sightx("validate", "--explain", code)
    assert (done.code, done.err) == (0, "")
    assert sentence in done.out


def test_explain_suggests_the_nearest_code(sightx) -> None:
    line = "error[usage] no code is called 'unknwn-key'; did you mean 'unknown-key'?\n"
    assert sightx("validate", "--explain", "unknwn-key") == (2, "", line)


def on_a_terminal(working_folder: Path, *words: str, **variables: str) -> str:
    """Return what a command prints to stderr if that is a terminal."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", "from sightx.cli.main import main; main()", *words]
    try:
        subprocess.run(command, stderr=terminal, check=False, cwd=working_folder,
                       stdout=subprocess.DEVNULL, env={**os.environ, **variables})  # fmt: skip
        os.close(terminal)
        text = b""
        while chunk := _read(master):
            text += chunk
    finally:
        os.close(master)
    return text.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_a_terminal_shows_the_line_and_a_caret(working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(HEAD + '  epoch = 3 # [2J"' + REST)
    line = "a.toml:3:3: {} training.epoch: unknown key; did you mean 'epochs'?\n"
    plain = on_a_terminal(working_folder, "validate", "a.toml", NO_COLOR="1")
    assert plain == line.format("error[unknown-key]") + '      epoch = 3 # [2J"\n      ^\n'
    styled = on_a_terminal(working_folder, "validate", "a.toml")
    assert line.format("\x1b[31m\x1b[1merror[unknown-key]\x1b[0m") in styled
