from __future__ import annotations

import pytest

from sightx import errors
from sightx.errors import Problem, SightXError, did_you_mean, suggest


def test_a_problem_is_one_line_with_position_code_key_and_hint() -> None:
    problem = Problem("unknown-key", "unknown key", "did you mean 'epochs'?", "training.epoch")
    line = str(problem.at("a.toml", 4, 1))
    assert line == (
        "a.toml:4:1: error[unknown-key] training.epoch: unknown key; did you mean 'epochs'?"
    )


def test_a_long_message_is_shortened_but_not_its_position_and_hint() -> None:
    line = str(Problem("x", "m" * 1000, "the hint", file="a.csv", line=3))
    assert len(line) == errors.LINE_LIMIT
    assert line.startswith("a.csv:3: error[x] mmm")
    assert line.endswith("...; the hint")


def test_control_characters_are_escaped() -> None:
    line = str(Problem("x", "a\nb\x1b[31m"))
    assert line == r"error[x] a\nb\x1b[31m"


@pytest.mark.parametrize(
    ("error", "code"),
    [("SightXError", 70), ("SpecError", 2), ("DataError", 3), ("PluginError", 4), ("RunError", 5),
     ("NonFiniteError", 6), ("ResourceError", 7)],
)  # fmt: skip
def test_exit_codes_are_those_of_the_design_and_drawn_in_the_tree(error: str, code: int) -> None:
    cls = getattr(errors, error)
    assert cls.exit_code == code
    assert any(error in line and str(code) in line for line in (errors.__doc__ or "").split("\n"))


def test_an_error_prints_a_line_for_each_problem() -> None:
    error = SightXError(Problem("a", "one"), Problem("b", "two"))
    assert str(error).split("\n") == ["error[a] one", "error[b] two"]


def test_a_hint_names_the_closest_known_name_and_lists_all_if_there_are_few() -> None:
    known = [f"name-{letter}" for letter in "abcdefghijklm"]
    assert suggest("name-x", known).startswith("did you mean 'name-")
    assert "known" not in suggest("name-x", known)
    assert suggest("zzz", ["a", "b"]) == "known: a, b"
    assert did_you_mean("zzz", ["a", "b"]) == ""


def test_a_hint_ignores_case_and_may_name_several() -> None:
    assert did_you_mean(" ADAM", ["Adam", "sgd"]) == "did you mean 'Adam'?"
    assert did_you_mean("resnet19", ["vit", "resnet18", "resnet118"], 2) == (
        "did you mean 'resnet18' or 'resnet118'?"
    )


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "cosine-annealing", "cosine_with_warmup"])
def test_a_hint_knows_a_name_by_its_words(name: str) -> None:
    assert did_you_mean(name, ["constant", "cosine", "one-cycle"]) == "did you mean 'cosine'?"
    assert did_you_mean("RoundOneCycle", ["one", "one-cycle", "a"]) == "did you mean 'one-cycle'?"
    assert did_you_mean("cosines", ["a cosine"]) == "did you mean 'a cosine'?"
    assert did_you_mean("x-ray", ["x", "ray-tracing"]) == ""
