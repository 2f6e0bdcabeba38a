"""Commands of plugins, called in a child process and in this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HELLO = """
import click
from sightx.plugin import hookimpl

@click.command("{name}")
@click.option("--times", default=1)
def greet(times):
    \"\"\"Greet the caller.\"\"\"
    {body}

@hookimpl
def sightx_commands():
    print("asked", file=__import__("sys").stderr)
    return [greet]
"""
Install = Callable[..., Path]


def hello(name: str = "hello", body: str = 'click.echo("hello " * times)') -> str:
    return HELLO.format(name=name, body=body)


def test_a_command_of_a_distribution_runs_and_is_listed_in_a_child(child, install: Install) -> None:
    folder = install("sx-hello", hello())
    done = child("hello", "--times", "2", PYTHONPATH=str(folder))
    assert (done.code, done.out, done.err) == (0, "hello hello \n", "asked\n")
    listed = child("--help", PYTHONPATH=str(folder))
    built_in, _, of_plugins = listed.out.partition("\nCommands of plugins:\n")
    assert "  validate " in built_in
    assert "hello" not in built_in
    assert " ".join(of_plugins.split()) == "hello Greet the caller. [sx-hello (sx-hello 1.0)]"
    without_plugins = child("hello", PYTHONPATH=str(folder), SIGHTX_PLUGINS="none")
    assert (without_plugins.code, "asked" in without_plugins.err) == (2, False)


def test_built_in_commands_do_not_ask_plugins_for_commands(sightx, install: Install) -> None:
    install("sx-hello", hello())
    assert "asked" not in sightx("list-plugins").err
    assert "asked" not in sightx("validate", "--help").err
    assert sightx("hello").err == "asked\n"
    assert sightx("hello").out == "hello \n"


def test_without_plugins_help_has_no_section_for_plugins(sightx) -> None:
    assert "Commands of plugins" not in sightx("--help").out


def test_a_plugin_cannot_replace_a_built_in_command_and_help_names_it(
    sightx, install: Install
) -> None:
    install("sx-thief", hello("show"))
    assert "Print SPEC" in sightx("show", "--help").out
    text = " ".join(sightx("--help").out.split())
    assert (
        "show refused: sightx has this command; provided by sx-thief (sx-thief 1.0) at "
        "sightx_test_sx_thief" in text
    )


def test_a_command_that_two_plugins_provide_is_refused_with_both_names(
    sightx, install: Install
) -> None:
    install("sx-one", hello())
    install("sx-two", hello())
    done = sightx("hello")
    assert (done.code, done.out) == (4, "")
    assert done.lines[-1] == (
        "error[name-clash] the command 'hello' is provided by sx-one (sx-one 1.0) at "
        "sightx_test_sx_one and sx-two (sx-two 1.0) at sightx_test_sx_two; remove one, or ask its "
        "author to choose another name"
    )
    assert "refused: provided by sx-one" in sightx("--help").out


FAULTS = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "stranger": (
        "return [3]",
        "TypeError: sightx_commands returned 3, which is not a click command",
    ),
    "none": ("return None", "TypeError: sightx_commands() returned None; return a list"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plugin_whose_commands_fail_does_not_affect_other_commands(
    sightx, install: Install, fault: str
) -> None:
    body, error = FAULTS[fault]
    install(
        f"sx-{fault}",
        f"from sightx.plugin import hookimpl\n@hookimpl\ndef sightx_commands():\n    {body}\n",
    )
    install("sx-hello", hello())
    assert sightx("list-plugins", "loss").code == 0
    assert sightx("hello").out == "hello \n"
    text = sightx("--help").out
    assert "Greet the caller." in text
    assert error in " ".join(text.split())
    done = sightx("zzzzzz")
    assert done.code == 4
    assert f"no command is called 'zzzzzz'; plugin sx-{fault} (sx-{fault} 1.0)" in done.err
    assert sightx("vaildate").code == 2  # a misspelt command is still reported as such


def test_a_failing_command_is_a_failure_of_its_plugin(sightx, install: Install) -> None:
    install("sx-hello", hello(body="1 / 0"))
    done = sightx("hello")
    assert done.code == 4
    assert done.lines[-1] == (
        "error[broken-plugin] the command 'hello' of sx-hello (sx-hello 1.0) failed: "
        "ZeroDivisionError: division by zero; add --debug to see its traceback"
    )
    assert "1 / 0" in sightx("--debug", "hello").err
    wrong = sightx("hello", "--tmies", "3")
    assert wrong.code == 2
    assert "--times" in wrong.lines[-1]


def test_the_hint_for_an_unknown_command_considers_those_of_plugins(
    sightx, install: Install
) -> None:
    install("sx-hello", hello())
    done = sightx("helo")
    assert (done.code, done.lines[-1]) == (
        2, "error[usage] no command is called 'helo'; did you mean 'hello'?"
    )  # fmt: skip


def test_a_project_that_cannot_be_read_does_not_hide_the_help(sightx, working_folder: Path) -> None:
    (working_folder / "pyproject.toml").write_text("[tool.sightx]\nplugin = []\n")
    done = sightx("--help")
    assert done.code == 0
    assert "unknown key" in " ".join(done.out.split())
    assert sightx("hello").code == 2


ENDS = {
    "import sys; sys.exit(0)": (4, "the command 'hello' of sx-hello (sx-hello 1.0) called "
                                "sys.exit(0); click's ctx.exit(3) ends a command"),
    "raise SystemExit('text')": (4, "called sys.exit('text')"),
    "click.get_current_context().exit(3)": (3, ""),
    "raise click.ClickException('no such place')": (2, "error[usage] no such place"),
    "return 5": (5, ""),
    "return True": (0, ""),
    "return 'text'": (0, ""),
}  # fmt: skip


@pytest.mark.parametrize("body", ENDS)
def test_how_a_command_ends(sightx, install: Install, body: str) -> None:
    install("sx-hello", hello(body=body))
    done = sightx("hello")
    code, message = ENDS[body]
    assert done.code == code
    assert message in done.err


GROUP = """
import click
from sightx.plugin import hookimpl

@click.group()
def tools():
    "Hold commands."

@tools.command("leave")
def leave():
    "Leave."
    raise SystemExit(9)

@hookimpl
def sightx_commands():
    return [tools]
"""


def test_a_group_of_commands_says_what_it_needs_and_is_named(sightx, install: Install) -> None:
    install("sx-tools", GROUP)
    done = sightx("tools")
    assert (done.code, done.out) == (2, "")
    assert done.lines == ["error[usage] sightx tools needs a command: leave; sightx tools --help"]
    assert "called sys.exit(9)" in sightx("tools", "leave").err
