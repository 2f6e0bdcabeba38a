from __future__ import annotations

import itertools

import pytest

from sightx.plugin import Check, Finding
from sightx.testing import check
from sightx.testing.checks import rule as checks

NUMBERS = itertools.count()


def small_batch(experiment):
    if experiment.training.batch_size < 8:
        yield Finding("training.batch_size", "is small")


def unrelated(experiment):
    return [] if experiment.model.width > 3 else [Finding("model.width", "is small")]


def impure():
    return [Finding("model.use", f"is number {next(NUMBERS)}")]


def plain_text(experiment):
    return ["it is wrong"]


def no_key(experiment):
    return [Finding("the model", "is wrong")]


def two_lines(experiment):
    return [Finding("model.use", "is\nwrong")]


def wants_images(table, images):
    assert len(table) == len(images)
    dark = (images["brightness"] < 0.9).to_numpy().nonzero()[0].tolist()
    return [Finding("dataset", f"{len(dark)} images are dark", rows=dark)]


def wants_data(table):
    assert len(table)
    return []


BROKEN = [
    (checks.code_is_words_with_dashes, Check("Tiny", "why", small_batch), "the code is 'Tiny'"),
    (checks.reason_is_one_line, Check("tiny", "", small_batch), "the reason is ''"),
    (
        checks.every_experiment_is_examined,
        Check("tiny", "why", unrelated),
        "'SimpleNet' object has no attribute 'width'",
    ),
    (checks.every_experiment_is_examined, Check("tiny", "why", plain_text), "yields a str"),
    (checks.every_experiment_is_examined, Check("tiny", "why", no_key), "'the model' is not a key"),
    (checks.every_experiment_is_examined, Check("tiny", "why", two_lines), "is not one line"),
    (
        checks.every_experiment_is_examined,
        Check("tiny", "why", wants_data),
        "find asks for table; at the stage spec it gets experiment, registry",
    ),
    (checks.findings_are_deterministic, Check("tiny", "why", impure), "other findings each time"),
]


@pytest.mark.parametrize(("failing", "broken", "message"), BROKEN)
def test_a_broken_rule_fails_its_check(assert_fails, failing, broken, message) -> None:
    assert_fails(failing, broken, message)


def test_correct_rules_pass() -> None:
    check(Check("tiny", "why", small_batch))
    check(Check("tiny", "why", wants_data, stage="data"))
    check(Check("tiny", "why", wants_images, stage="audit"))
    with pytest.raises(AssertionError, match="check 'Tiny' breaks its contract"):
        check(Check("Tiny", "why", small_batch))
