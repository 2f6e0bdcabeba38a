# ruff: noqa: E501 - lines of output are not broken
from __future__ import annotations

import errno
import logging
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sightx.cli import main as cli
from sightx.errors import DataError, Problem


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Create a command `fail` that raises a given exception."""

    def install(error: BaseException) -> None:
        @click.command("fail")
        def command() -> None:
            raise error

        monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)

    return install


def test_without_arguments_the_help_lists_every_command(sightx) -> None:
    done = sightx()
    assert done.code == 0
    assert all(f"\n  {name} " in done.out for name in cli.COMMANDS)


def test_the_version_is_printed(sightx) -> None:
    assert sightx("--version").out.startswith("sightx, version ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["vaildate"], "error[usage] no command is called 'vaildate'; did you mean 'validate'?"),
        (["xyzzy"], "error[usage] no command is called 'xyzzy'; sightx --help"),
        (["validate"], "error[usage] Missing argument 'SPECS...'; sightx validate --help"),
        (["predict", "last", "--csv"], "error[usage] Option '--csv' requires an argument; sightx predict --help"),
        (["validate", "--xyzzy"], "error[usage] sightx validate has no option --xyzzy; sightx validate --help"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exits_with_2(sightx, words: list[str], line: str) -> None:
    done = sightx(*words)
    assert (done.code, done.out) == (2, "")
    assert [text.replace(": --xyzzy;", " '--xyzzy'.;") for text in done.lines] == [line]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_an_option_without_its_value_leads_to_the_help_of_its_command(sightx, command: str) -> None:
    done = sightx(command, "--help=x")
    line = f"error[usage] Option '--help' does not take a value; sightx {command} --help"
    assert (done.code, done.lines) == (2, [line])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError(Problem("x", "m", file="a.csv", line=3)), 3, "a.csv:3: error[x] m"),
        (KeyError("k"), 70, "error[internal] KeyError: 'k'; --debug shows where"),
        (ValueError("two\nlines"), 70, r"error[internal] ValueError: two\nlines; --debug shows where"),
        (MemoryError(), 7, "error[resource] MemoryError: "),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 7,
         "error[resource] PermissionError: [Errno 13] Permission denied: 'runs'"),
        (OSError(errno.ENOSPC, "No space left on device"), 7,
         "error[disk-write] disk full below the output; free space, then try again"),
        (OSError(errno.EDQUOT, "Quota exceeded", "a.csv"), 7,
         "error[disk-write] disk full: a.csv; free space, then try again"),
        (KeyboardInterrupt(), 130, "error[interrupted] stopped before anything was saved"),
    ],
)  # fmt: skip
def test_every_failure_is_one_line_with_its_exit_code(
    sightx, failing, error: BaseException, code: int, line: str
) -> None:
    failing(error)
    done = sightx("fail")
    assert (done.code, done.err.strip("\n")) == (code, line)


def test_debug_shows_the_traceback_before_the_line(sightx, failing) -> None:
    failing(KeyError("k"))
    done = sightx("--debug", "fail")
    assert done.lines[0] == "Traceback (most recent call last):"
    assert done.lines[-1].startswith("error[internal]")


def test_a_message_that_is_logged_twice_is_shown_once(
    sightx, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("warn")
    def command() -> None:
        for _ in range(2):
            logging.getLogger("sightx").warning("careful")

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)
    assert sightx("warn").err == "careful\n"
    assert logging.getLogger("sightx").handlers == []


def test_every_command_has_its_own_file() -> None:
    folder = Path(cli.__file__).parent
    files = {path.stem for path in folder.glob("*.py")}
    files -= {
        "__init__",
        "completion",
        "components_page",
        "context",
        "formats",
        "main",
        "options",
        "plugin_commands",
        "tables",
    }
    assert {module.rpartition(".")[2] for module in cli.COMMANDS.values()} == files


def test_python_m_sightx_is_the_command(sightx) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sightx", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == sightx("--version").out


@pytest.mark.parametrize("way", ["module", "script"])
def test_an_interrupt_while_modules_load_ends_without_a_traceback(way: str, tmp_path: Path) -> None:
    script = tmp_path / "sightx"
    script.write_text("from sightx.__main__ import main\nmain()\n")
    target = ["-m", "sightx"] if way == "module" else [str(script)]
    # -X importtime writes a line when a module is loaded: the first one of ours is sightx.errors.
    command = [sys.executable, "-X", "importtime", *target, "list-plugins"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"sightx.errors" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert b"Traceback" not in rest
    assert process.returncode == -signal.SIGINT  # 130 in a shell


def test_a_program_that_imports_sightx_keeps_its_handler() -> None:
    script = "import signal, sightx; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"True\n"
