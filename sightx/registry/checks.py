"""Rules between the parts of an experiment: each has a code, a stage and a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Stage = Literal["spec", "data", "device"]
STAGES: tuple[Stage, ...] = ("spec", "data", "device")


class Finding(NamedTuple):
    """Say what a check found: the dotted key, what is wrong there, and the way out."""

    path: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Check:
    """One rule.

    `find` is called with just what it declares: `experiment`, from the stage `data` on `table`,
    at the stage `device` `device`, a torch.device. `reason` says in one line why the rule exists.
    """

    code: str
    reason: str
    find: Callable[..., Iterable[Finding]]
    stage: Stage = "spec"
    severity: Literal["error", "warning"] = "error"
