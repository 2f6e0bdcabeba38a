from __future__ import annotations

import click
import pytest

from sightx.testing import check
from sightx.testing.checks import command as checks


@click.command("count-weights")
@click.argument("run")
def good(run: str) -> None:
    """Print the number of weights of a run."""


@click.command("CountWeights")
def named(run: str) -> None:
    """Print something."""


@click.command("silent")
def silent() -> None:
    pass


@click.command("lenient", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def lenient(words: tuple[str, ...]) -> None:
    """Accept everything."""


@click.command(
    "own",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def own_help() -> None:
    """Show no help."""


@click.group("tools")
def group() -> None:
    """Hold commands."""


group.add_command(good)

BROKEN = [
    (checks.name_is_words_with_dashes, named, "the name is 'CountWeights'"),
    (checks.help_is_shown, silent, "there is no help"),
    (checks.help_is_shown, own_help, "--help shows no usage"),
    (checks.help_is_shown, 3, "3 is not a click command"),
    (checks.wrong_options_are_usage_errors, lenient, "an unknown option is accepted"),
]


@pytest.mark.parametrize(("failing", "broken", "message"), BROKEN)
def test_a_broken_command_fails_its_check(assert_fails, failing, broken, message) -> None:
    assert_fails(failing, broken, message)


def test_correct_commands_pass_and_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check(good)
    check(group)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(AssertionError, match="command 'CountWeights' breaks its contract"):
        check(named)
