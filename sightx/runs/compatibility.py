"""What differs between a run as it began and as it would go on, and what each difference means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sightx.errors import LINE_LIMIT, Problem, RunError, one_line
from sightx.registry import provenance
from sightx.registry.kinds import Scheduler

if TYPE_CHECKING:
    import pandas as pd

    from sightx.records.history import History

Verdict = Literal["harmless", "changes results", "refused"]
Tables = Mapping[str, Any]

EPOCHS = "training.epochs"
# Of [execution]: what may change last digits.
_NUMERIC = {"device", "deterministic", "compile", "cache_features"}
_MACHINE: Mapping[str, Verdict] = {
    "python": "harmless",
    "platform": "changes results",
    "packages": "changes results",
    "packages.pandas": "harmless",
    "device": "changes results",
    "processes": "changes results",
    "numerics": "changes results",
    "commit": "harmless",
}
_PROCESSES = "same order and draws, equal to rounding; running statistics are those of rank 0"
_GONE = "gone sample"
_SHOWN = 3  # names that a line holds


class IncompatibleResumeError(RunError):
    """Say that a run must not go on as asked; nothing of it has been touched."""


@dataclass(frozen=True)
class Difference:
    """Say what was otherwise when the run began; `way` allows a refused one, or explains."""

    key: str
    said: str
    verdict: Verdict
    way: str = ""

    def __str__(self) -> str:
        """Return one line, of what is said the beginning where it is too long."""
        tail = f" ({self.verdict}{f': {self.way}' if self.way else ''})"
        room = LINE_LIMIT - len(f"{self.key}: {tail}")
        said = self.said if len(self.said) <= room else f"{self.said[: room - 3]}..."
        return one_line(f"{self.key}: {said}{tail}")


def refuse_incompatible(differences: Iterable[Difference]) -> None:
    """Raise DriftError with a line for each difference that no run survives."""
    found = [each for each in differences if each.verdict == "refused"]
    if found:
        raise IncompatibleResumeError(*map(_problem, found))


def _problem(difference: Difference) -> Problem:
    key, said, way = difference.key, difference.said, difference.way
    if key == "data":
        return Problem("data-changed", said, way)
    if key == "plugin":
        return Problem("code-changed", said, way)
    return Problem("drift", said, way, key)


def compare_experiments(before: Tables, now: Tables) -> list[Difference]:
    """Compare the identities of two experiments, but for the number of epochs."""
    return [
        Difference(key, said, "refused", "it is another experiment: sightx run begins it")
        for key, said in _changes(before, now)
        if key != EPOCHS
    ]


def compare_settings(before: Tables, now: Tables, judged: Collection[str]) -> list[Difference]:
    """Compare whole experiments, but for the keys that were `judged` as part of the identity."""

    def verdict(key: str) -> Verdict:
        section, _, name = key.partition(".")
        return "changes results" if section == "execution" and name in _NUMERIC else "harmless"

    return [
        Difference(key, said, verdict(key))
        for key, said in _changes(before, now)
        if key not in judged
    ]


def compare_epochs(
    before: int, now: int, scheduler: Scheduler, history: History, steps: int, per_epoch: int
) -> list[Difference]:
    """Judge another number of epochs, after so many `steps` of `per_epoch` each.

    More are the same run, only longer, where the learning rates so far are what they would have
    been had the number been known from the start.
    """
    key, said = EPOCHS, f"{before} then, {now} now"
    if before == now:
        return []
    if now * per_epoch < steps:
        return [Difference(key, said, "refused", f"{steps} steps of {per_epoch} an epoch are done")]
    if not _same_rates(before, now, scheduler, history, steps, per_epoch):
        way = f"the learning rates of {scheduler.name} so far depend on it"
        return [Difference(key, said, "refused", way)]
    return [Difference(key, said, "harmless", "the learning rates so far do not depend on it")]


def _same_rates(
    before: int, now: int, scheduler: Scheduler, history: History, steps: int, per_epoch: int
) -> bool:
    from sightx.records.history import History

    def rate(step: int, epochs: int) -> float:
        past = History(history.monitor, history.directions, history.epochs[: step // per_epoch])
        return scheduler.multiplier(
            step, steps=epochs * per_epoch, steps_per_epoch=per_epoch, history=past
        )

    stride = max(1, steps // 10_000)  # of a long run, ten thousand places tell
    return all(rate(step, before) == rate(step, now) for step in range(0, steps, stride))


def compare_code(
    before: Sequence[Tables], now: Sequence[Tables], *, allowed: bool
) -> list[Difference]:
    """Compare who brought the components: of what ships with SightX only the revision counts."""
    known = {(each["kind"], each["name"]): each for each in before}
    found = {}
    for each in now:
        was = known.get((each["kind"], each["name"]), each)
        if keys := provenance.changed_keys(was, each):
            text = provenance.describe_change(was, each, keys)
            found[each["kind"], each["name"]] = _code(text, allowed)
    return list(found.values())


def _code(text: str, allowed: bool) -> Difference:
    if allowed:
        return Difference("plugin", text, "changes results", "allowed")
    return Difference("plugin", text, "refused", "--allow-plugin-change goes on with it")


def compare_machines(before: Tables, now: Tables) -> list[Difference]:
    """Compare what two environments say of versions, machine and numerics."""
    compared = [key for key in _MACHINE if "." not in key]

    def verdict(key: str) -> Verdict:
        return _MACHINE.get(key) or _MACHINE[key.partition(".")[0]]

    some = [{key: each.get(key) for key in compared} for each in (before, now)]
    ways = {"processes": _PROCESSES}
    return [Difference(key, said, verdict(key), ways.get(key, "")) for key, said in _changes(*some)]


def compare_data(
    before: pd.DataFrame, now: pd.DataFrame, new: Collection[str], *, allowed: bool
) -> list[Difference]:
    """Compare samples: `path`, `label` and `sha256` of the content, as strings.

    `new` names samples that came after the run began; it goes on without them.
    """
    was = before.set_index("path")
    are = now.set_index("path").reindex(was.index)
    gone = are["sha256"].isna()
    changed = {
        "file": list(was.index[~gone & (was["sha256"] != are["sha256"])]),
        "label": list(was.index[~gone & (was["label"] != are["label"])]),
        _GONE: list(was.index[gone]),
        "new sample": sorted(new),
    }
    return _fingerprint(changed, allowed=allowed)


def compare_missing(paths: Sequence[str]) -> list[Difference]:
    """Judge samples of the run that are not there any more."""
    return _fingerprint({_GONE: paths}, allowed=False)


def _fingerprint(changed: Mapping[str, Sequence[str]], *, allowed: bool) -> list[Difference]:
    said = [
        f"{len(paths)} {what}{'s' if len(paths) > 1 else ''}: {_some(paths)}"
        for what, paths in changed.items()
        if paths
    ]
    if not said:
        return []
    text = f"dataset fingerprint changed ({'; '.join(said)})"
    if changed[_GONE]:  # the order of the samples, and so every step, follows their number
        return [Difference("data", text, "refused", "put back what is gone, or begin a new run")]
    if allowed:
        return [Difference("data", text, "changes results", "allowed")]
    return [Difference("data", text, "refused", "--allow-data-change goes on with it")]


def compare_packs(before: Tables, now: Tables, *, allowed: bool) -> list[Difference]:
    """Compare how images were decoded and prepared before they were packed: `decoded`, `chain`."""
    changes = _changes(_packed(before), _packed(now))
    if not changes:
        return []
    text = "the pack was prepared otherwise ({}: {})".format(*changes[0])
    if allowed:
        return [Difference("data", text, "changes results", "allowed")]
    return [Difference("data", text, "refused", "--allow-data-change goes on with it")]


def _packed(packed: Tables) -> Tables:
    steps = [
        {
            **step["preprocess"],
            **{key: step["origin"][key] for key in provenance.compared_keys(step["origin"])},
        }
        for step in packed.get("chain", ())
    ]
    return {"decoded": packed.get("decoded"), "preprocess": steps}


def compare_classes(before: Sequence[str], now: Sequence[str]) -> list[Difference]:
    """Compare the classes: what each output of the network means."""
    if list(before) == list(now):
        return []
    text = f"the classes were {_some(before)}, and are {_some(now)}"
    return [Difference("data", text, "refused", "begin a new run")]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _changes(before: Tables, now: Tables) -> list[tuple[str, str]]:
    """Return each dotted key that differs, and what it was and is."""
    was, are = dict(_flat(before)), dict(_flat(now))
    return [
        (key, f"{was.get(key, 'nothing')} then, {are.get(key, 'nothing')} now")
        for key in {**was, **are}
        if was.get(key) != are.get(key)
    ]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value in tables and arrays of tables, by its dotted key."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        yield key, list(value) if isinstance(value, tuple) else value
        return
    for name, item in items:
        yield from _flat(item, f"{key}.{name}" if key else str(name))
