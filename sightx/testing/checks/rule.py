"""Checks of the rules between components that a plugin provides: `sightx.plugin.Check` records."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.plugin import Check, Finding
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import load_experiment, table

if TYPE_CHECKING:
    import pandas as pd

    from sightx.plugin import Experiment, ImageTable

_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PATH = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")


def code_is_words_with_dashes(check: Check) -> None:
    """Require a code of lower-case words and dashes, which `allow` may list."""
    require(
        isinstance(check.code, str) and _CODE.fullmatch(check.code),
        f"the code is {check.code!r}; write lower-case words with dashes, such as `tiny-images`",
    )


def reason_is_one_line(check: Check) -> None:
    """Require one line that says why the rule exists."""
    is_line = isinstance(check.reason, str) and check.reason.strip() and "\n" not in check.reason
    require(is_line, f"the reason is {check.reason!r}; `sightx validate --explain` shows one line")


def every_experiment_is_examined(check: Check) -> None:
    """Require findings, or none, for experiments that the rule may not be about."""
    for experiment in _experiments():
        for finding in _findings(check, experiment):
            is_finding = isinstance(finding, Finding)
            require(is_finding, f"find yields a {type(finding).__name__}; yield a Finding")
            path, message = finding.path, finding.message
            require(_PATH.fullmatch(path), f"the path {path!r} is not a key such as `model.use`")
            is_line = message.strip() and "\n" not in message
            require(is_line, f"the message {message!r} is not one line")


def findings_are_deterministic(check: Check) -> None:
    """Require the same findings each time."""
    for experiment in _experiments():
        one, two = (_findings(check, experiment) for _ in range(2))
        require(one == two, "find gives other findings each time; use its arguments alone")


@cache
def _audited() -> tuple[ImageTable, pd.DataFrame]:
    """Return a small table, and the properties of its images."""
    from sightx.plugin import image_properties

    few = table(12, classes=2)
    return few, image_properties(few)


def _findings(check: Check, experiment: Experiment) -> list[Any]:
    """Return what the function of a rule finds in an experiment."""
    import inspect

    offered: dict[str, Any] = {"experiment": experiment, "registry": experiment.context.registry}
    if check.stage != "spec":
        offered["table"] = table(classes=2)
    if check.stage == "audit":
        offered["table"], offered["images"] = _audited()
    if check.stage == "device":
        import torch

        offered["device"] = torch.device("cpu")
    declared = inspect.signature(check.find).parameters
    unknown = [name for name in declared if name not in offered]
    given = f"at the stage {check.stage} it gets {', '.join(offered)}"
    require(not unknown, f"find asks for {', '.join(unknown)}; {given}")
    return list(check.find(**{name: offered[name] for name in declared}))


@cache
def _experiments() -> tuple[Experiment, ...]:
    """Return small experiments with and without optional parts."""
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        plain = load_experiment(Path(folder))
        more = {"split": {"use": "stratified"}, "metric": [{"use": "accuracy"}], "augment": []}
        return plain, load_experiment(Path(folder), more)


CHECKS: tuple[ContractCheck, ...] = (
    code_is_words_with_dashes, reason_is_one_line, every_experiment_is_examined,
    findings_are_deterministic,
)  # fmt: skip
