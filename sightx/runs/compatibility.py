"""Differences between a run as it was recorded and the way it would continue now."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.errors import LINE_LIMIT, Problem, RunError, counted, one_line
from sightx.records import origins
from sightx.records.history import History
from sightx.runs import inputs, verdicts
from sightx.runs.verdicts import Tables, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from sightx.training.schedule import Schedule

EPOCHS = "training.epochs"
_PROCESSES_NOTE = "same order and draws, equal to rounding; running statistics are those of rank 0"
_MISSING = "missing sample"
_ANOTHER = "it is another experiment: sightx run starts it"
_MAX_NAMES = 3  # how many names a line lists
_MAX_STEPS_COMPARED = 10_000  # of a longer run, evenly spaced ones


class IncompatibleResumeError(RunError):
    """A run cannot continue as requested; it has not been changed."""


@dataclass(frozen=True)
class Difference:
    """One difference between then and now.

    `how_to_allow` is the way to continue in spite of a refused difference; for others it explains.
    """

    key: str
    description: str
    verdict: Verdict
    how_to_allow: str = ""

    def __str__(self) -> str:
        """Return one line; a description that is too long is cut."""
        note = f": {self.how_to_allow}" if self.how_to_allow else ""
        tail = f" ({self.verdict}{note})"
        room = LINE_LIMIT - len(f"{self.key}: {tail}")
        description = self.description
        if len(description) > room:
            description = f"{description[: room - 3]}..."
        return one_line(f"{self.key}: {description}{tail}")

    def to_problem(self) -> Problem:
        """Return a refused difference as a problem."""
        if self.key == "data":
            return Problem("data-changed", self.description, self.how_to_allow)
        if self.key == "plugin":
            return Problem("code-changed", self.description, self.how_to_allow)
        return Problem("drift", self.description, self.how_to_allow, self.key)


def raise_if_refused(differences: Iterable[Difference]) -> None:
    """Raise IncompatibleResumeError with one line for each refused difference."""
    refused = [difference for difference in differences if difference.verdict == "refused"]
    if refused:
        raise IncompatibleResumeError(*(difference.to_problem() for difference in refused))


def compare_experiments(before: Tables, now: Tables) -> list[Difference]:
    """Compare the identities of two experiments, except for the number of epochs."""
    return [
        Difference(key, change, "refused", _ANOTHER)
        for key, change in _changes(before, now)
        if key != EPOCHS
    ]


def compare_settings(before: Tables, now: Tables, skip: Collection[str]) -> list[Difference]:
    """Compare complete experiments, except for the keys in `skip`: those of the identity."""
    return [
        Difference(key, change, verdicts.settings_verdict(key))
        for key, change in _changes(before, now)
        if key not in skip
    ]


def compare_files(before: Tables, now: Tables) -> list[Difference]:
    """Compare the paths in complete experiments whose files a run has copied.

    `now` has the path of the copy where the content of a file is that of the copy.
    """
    new = dict(verdicts.flatten(now))
    return [
        Difference(key, f"the content of {Path(old).name} has changed", "refused", _ANOTHER)
        for key, old in verdicts.flatten(before)
        if inputs.is_copy(old) and key in new and Path(str(new[key])).name == Path(old).name
        if new[key] != old
    ]


def compare_large_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """Compare the hashes of files that were too large to be copied."""
    return [
        Difference("files", f"the content of {name} has changed", "refused", _ANOTHER)
        for name, digest in before.items()
        if now.get(name, digest) != digest
    ]


def compare_epochs(
    before: Schedule, now: Schedule, history: History, steps: int
) -> list[Difference]:
    """Compare the numbers of epochs of a run that has done `steps` steps.

    Another number gives the same run, only longer or shorter, if all that the steps used is what
    the new number would have given: learning rates, averages, augmentation, weights and orders.
    """
    if before.epochs == now.epochs:
        return []
    change = f"{before.epochs} then, {now.epochs} now"
    way_out = f"leave it at {before.epochs}, or start a new run"
    if now.steps < steps:
        reason = f"{steps} steps of {now.steps_per_epoch} per epoch are done: {way_out}"
        return [Difference(EPOCHS, change, "refused", reason)]
    if name := next(_dependent_values(before, now, history, steps), ""):
        return [Difference(EPOCHS, change, "refused", f"{name} so far depend on it: {way_out}")]
    return [Difference(EPOCHS, change, "harmless", "nothing so far depends on it")]


def _dependent_values(
    before: Schedule, now: Schedule, history: History, steps: int
) -> Iterator[str]:
    """Yield the names of what differs between two schedules in the steps that are done."""
    for epoch in range(math.ceil(steps / now.steps_per_epoch)):
        pairs = zip(before.epoch_values(epoch), now.epoch_values(epoch), strict=True)
        yield from (name for (name, old), (_, new) in pairs if old != new)
    for step in range(0, steps, max(1, steps // _MAX_STEPS_COMPARED)):
        so_far = history.first(step // now.steps_per_epoch)
        pairs = zip(before.step_values(step, so_far), now.step_values(step, so_far), strict=True)
        yield from (name for (name, old), (_, new) in pairs if old != new)


def compare_components(
    before: Sequence[Tables], now: Sequence[Tables], *, allowed: bool
) -> list[Difference]:
    """Compare the recorded origins of components; of built-in ones only the revision counts."""
    recorded = {(origin["kind"], origin["name"]): origin for origin in before}
    differences = {}
    for origin in now:
        key = origin["kind"], origin["name"]
        old = recorded.get(key, origin)
        if changed := origins.changed_keys(old, origin):
            text = origins.describe_change(old, origin, changed)
            differences[key] = _allowable("plugin", text, "--allow-plugin-change", allowed)
    return list(differences.values())


def compare_environments(before: Tables, now: Tables) -> list[Difference]:
    """Compare versions, machine and numerics of two environments."""
    compared = [key for key in verdicts.ENVIRONMENT if "." not in key]
    changes = _changes(*({key: tables.get(key) for key in compared} for tables in (before, now)))
    return [
        Difference(
            key,
            change,
            verdicts.environment_verdict(key),
            _PROCESSES_NOTE if key == "processes" else "",
        )
        for key, change in changes
    ]


def compare_samples(
    before: pd.DataFrame, now: pd.DataFrame, added: Collection[str], *, allowed: bool
) -> list[Difference]:
    """Compare samples: path, label, sha256 of the image's content and extra columns, as strings.

    `added` are paths of samples that were added later; the run continues without them.
    """
    old = before.set_index("path")
    new = now.set_index("path").reindex(old.index)
    missing = new["sha256"].isna()
    paths = {
        "file": list(old.index[~missing & (old["sha256"] != new["sha256"])]),
        "label": list(old.index[~missing & (old["label"] != new["label"])]),
        **{
            f"{name} cell": list(old.index[~missing & (old[name] != new[name])])
            for name in new
            if name not in ("label", "sha256") and name in old
        },
        _MISSING: list(old.index[missing]),
        "new sample": sorted(added),
    }
    return _fingerprint_difference(paths, allowed=allowed)


def compare_missing(paths: Sequence[str]) -> list[Difference]:
    """Return the difference for samples of the run that are missing now."""
    return _fingerprint_difference({_MISSING: paths}, allowed=False)


def _fingerprint_difference(
    paths: Mapping[str, Sequence[str]], *, allowed: bool
) -> list[Difference]:
    counts = [
        f"{counted(len(names), what)}: {_shorten(names)}" for what, names in paths.items() if names
    ]
    if not counts:
        return []
    text = f"dataset fingerprint changed ({'; '.join(counts)})"
    if paths[_MISSING]:  # the order of the samples depends on their number
        return [Difference("data", text, "refused", "restore the samples, or start a new run")]
    return [_allowable("data", text, "--allow-data-change", allowed)]


def compare_packs(before: Tables, now: Tables, *, allowed: bool) -> list[Difference]:
    """Compare how the images of a pack were decoded and preprocessed: `decoded` and `chain`."""
    changes = _changes(_compared_pack(before), _compared_pack(now))
    if not changes:
        return []
    text = "the pack was preprocessed differently ({}: {})".format(*changes[0])
    return [_allowable("data", text, "--allow-data-change", allowed)]


def _compared_pack(pack: Tables) -> Tables:
    """Return the parts of a pack's description that may change its pixels."""
    steps = [
        {
            **step["preprocess"],
            **{key: step["origin"][key] for key in origins.compared_keys(step["origin"])},
        }
        for step in pack.get("chain", ())
    ]
    return {"decoded": pack.get("decoded"), "preprocess": steps}


def compare_classes(before: Sequence[str], now: Sequence[str]) -> list[Difference]:
    """Compare the classes: the meaning of each output of the network."""
    if list(before) == list(now):
        return []
    text = f"the classes were {_shorten(before)} and are {_shorten(now)}"
    return [Difference("data", text, "refused", "start a new run")]


def _allowable(key: str, text: str, option: str, allowed: bool) -> Difference:
    """Return a difference that an option of the command allows."""
    if allowed:
        return Difference(key, text, "changes results", "allowed")
    return Difference(key, text, "refused", f"{option} continues with it")


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")


def _changes(before: Tables, now: Tables) -> list[tuple[str, str]]:
    """Return each dotted key whose value differs, and its two values in words."""
    return [
        (key, f"{old} then, {new} now") for key, old, new in verdicts.changed_values(before, now)
    ]
