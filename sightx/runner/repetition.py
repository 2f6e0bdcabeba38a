"""Earlier runs of an experiment, and whether the repeat of a run is equal to it to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightx.errors import Problem, RunError, SightXError, counted
from sightx.records import CLOCK_KEYS, SPLITS
from sightx.records.table import ImageTable
from sightx.run_registry.diff import diff_runs
from sightx.runner.resume import has_same_content, is_finished
from sightx.runs import checkpoints, names
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment

_PREDICTION_FILES = (".csv", ".outputs.npy", ".probabilities.npy")
_MAX_CAUSES = 3


@dataclass(frozen=True)
class Repetition:
    """What a run and its repeat have in common, to the bit: epochs, checkpoints, predictions."""

    epochs: int
    checkpoints: int
    predictions: int


def find_twin(
    root: Path, experiment: Experiment, table: ImageTable, contents: Mapping[str, str]
) -> Run | None:
    """Return the newest finished run of an experiment on the same data, or None.

    The id of the experiment is part of the names of its runs: other runs are not opened.
    `contents` are the hashes of the files that are part of the experiment
    (`inputs.hash_contents`).
    """
    for directory in reversed(names.run_directories(root, f"-{experiment.id[:6]}")):
        run = Run(directory)
        try:
            is_twin = (
                is_finished(run, experiment)
                and run.environment.get("contents", {}) == contents
                and has_same_content(run, experiment, table)
            )
        except (SightXError, OSError, KeyError):  # an old or damaged run is not a reason to stop
            continue
        if is_twin:
            return run
    return None


def describe_twin(run: Run, monitor: str) -> str:
    """Return the line that announces a finished run of the experiment that is about to start."""
    value = run.result.get(monitor.partition("/")[0], {}).get(monitor)
    result = f" with {monitor} {value:.4f}" if isinstance(value, float) else ""
    return (
        f"{run.id} is this experiment on the same data, {run.status}{result}; "
        f"sightx run --again {run.id} repeats it and compares"
    )


def parents_of_repeat(original: Run) -> list[dict[str, str]]:
    """Return the parents of a repeat, as environment.json lists them."""
    parents = original.environment.get("parents", [])
    weights = [parent for parent in parents if parent["why"] == "weights"]
    return [{"run": original.id, "why": "repeat"}, *weights]


def compare_repeat(original: Run, repeat: Run) -> Repetition:
    """Compare a run and its repeat to the bit; of an unfinished run, the epochs that it has.

    Times are not compared. Raises RunError for the first difference, with its likely cause.
    """
    epochs = _compare_epochs(original, repeat)
    saved = _compare_checkpoints(original, repeat)
    return Repetition(epochs, saved, _compare_predictions(original, repeat))


def likely_cause(run: Run) -> str:
    """Return why the same program may give another result on the same machine."""
    environment = run.environment
    is_cuda = environment["device"]["name"].startswith("cuda")
    if is_cuda and not environment["execution"]["deterministic"]:
        return "set execution.deterministic = true"
    return "a component uses its own random generator, or the clock"


def _compare_epochs(original: Run, repeat: Run) -> int:
    """Return the number of epochs that are equal. Raises RunError."""
    before, after = _epochs(original), _epochs(repeat)
    for number, (old, new) in enumerate(zip(before, after, strict=False), start=1):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                values = f"{old.get(key)}, {new.get(key)}"
                raise _not_equal(original, repeat, f"{key} differs from epoch {number}: {values}")
    is_complete = original.status in {"finished", "stopped"}
    if len(after) < len(before) or (is_complete and len(after) > len(before)):
        counts = f"the run has {counted(len(before), 'epoch')}, its repeat {len(after)}"
        raise _not_equal(original, repeat, counts)
    if not before:
        message = "there is nothing to compare: it has not finished an epoch"
        raise RunError(Problem("not-reproduced", message, "name another run", file=original.id))
    return len(before)


def _epochs(run: Run) -> list[dict[str, Any]]:
    rows = (row for _, row in run.read_lines("metrics.jsonl"))
    return [{key: row[key] for key in row if key not in CLOCK_KEYS} for row in rows]


def _compare_checkpoints(original: Run, repeat: Run) -> int:
    """Return how many checkpoints both have, with equal tensors. Raises RunError."""
    common = sorted({*original.checkpoints.values()} & {*repeat.checkpoints.values()})
    for name in common:
        old, new = (dict(_tensor_hashes(run, name)) for run in (original, repeat))
        for file in old:
            if old[file] != new.get(file):
                raise _not_equal(original, repeat, f"{file} of {name} differs")
    return len(common)


def _tensor_hashes(run: Run, checkpoint: str) -> Iterator[tuple[str, str]]:
    hashes = checkpoints.recorded_hashes(run.directory / "checkpoints" / checkpoint)
    yield from (item for item in hashes.items() if item[0].endswith(".safetensors"))


def _compare_predictions(original: Run, repeat: Run) -> int:
    """Return how many predictions of the same checkpoint both have. Raises RunError."""
    rows = 0
    for split in SPLITS:
        checkpoint = original.predictions_checkpoint(split)
        if not checkpoint or checkpoint != repeat.predictions_checkpoint(split):
            continue  # another command has scored another checkpoint
        for suffix in _PREDICTION_FILES:
            file = f"predictions/{split}{suffix}"
            old, new = ((run.directory / file).read_bytes() for run in (original, repeat))
            if old != new:
                raise _not_equal(original, repeat, f"{file} differs")
        rows += len(original.predictions(split))
    return rows


def _not_equal(original: Run, repeat: Run, what: str) -> RunError:
    """Return the error for a difference, with what else is different."""
    changes = diff_runs([original.directory, repeat.directory])
    causes = [
        f"{change.key} {change.values[0]} then, {change.values[1]} now"
        for change in changes
        if change.effect in {"changes results", "last digits"}
    ]
    shown = ", ".join(causes[:_MAX_CAUSES]) + (", ..." if len(causes) > _MAX_CAUSES else "")
    hint = f"it differs in {shown}" if causes else f"nothing else differs: {likely_cause(repeat)}"
    message = f"not reproduced: {what}"
    return RunError(Problem("not-reproduced", message, hint, file=original.id))
