"""Verify that stopping and resuming a run changes nothing: train twice, and compare to the bit.

Each part of the stopped run is a separate process, as in practice: what a component keeps only in
memory is lost. Both runs save a checkpoint after every step, and use few of the samples.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sightx.data.dataset import load_split_table
from sightx.errors import Problem, RunError, SightXError
from sightx.io import toml
from sightx.io.csv_cells import csv_bytes
from sightx.records import CLOCK_KEYS
from sightx.records.events import Epoch, Step
from sightx.records.run import RunInfo
from sightx.records.table import ImageTable
from sightx.registry.hooks import hookimpl
from sightx.registry.project import Project, find_project
from sightx.runner.api import resume, run
from sightx.runner.initial_weights import weights_source
from sightx.runner.repetition import likely_cause
from sightx.runner.resume import stored_experiment
from sightx.runs import checkpoints
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment

EPOCHS = 3
_TENSORS = {
    "weights": "weight",
    "optimizer": "optimizer state",
    "loss": "loss state",
    "training_weights": "weight before averaging",
}
Stop = tuple[str, int]
"""Where a run is stopped: ("step", number), or ("epoch", number of its last step)."""


@dataclass(frozen=True)
class ResumeCheck:
    """What was compared: `states` checkpoints of a run that was stopped at each of `stops`."""

    states: int
    stops: tuple[Stop, ...]


def verify_resume(
    experiment: Experiment,
    project: Project,
    steps: int = 50,
    on_progress: Callable[[str], None] = lambda text: None,
    runs: Path | None = None,
) -> ResumeCheck:
    """Train about `steps` steps twice, without and with stops, and compare every checkpoint.

    `on_progress` gets a line about what is being done; `runs` is the folder of runs that the
    initial weights may come from, by default that of `project`. Raises RunError for the first
    difference, with its likely cause, and the error of a run that fails.
    """
    with tempfile.TemporaryDirectory(prefix="sightx-verify-") as name:
        folder = Path(name)
        steps_per_epoch = write_small_experiment(experiment, folder, steps, runs or project.runs)
        stops = choose_stops(steps_per_epoch)
        on_progress("training without a stop")
        straight = _train(folder / "straight", project.root, [])
        places = ", ".join(f"{kind} {number}" for kind, number in stops)
        on_progress(f"training with stops after {places}")
        stopped = _train(folder / "stopped", project.root, stops)
        compare_runs(straight, stopped, stops)
        return ResumeCheck(len(_read_digests(straight)), tuple(stops))


def write_small_experiment(experiment: Experiment, folder: Path, steps: int, runs: Path) -> int:
    """Write experiment.toml of the same experiment on fewer samples; return its steps per epoch."""
    table = load_split_table(experiment.dataset, experiment.split)
    batch_size = experiment.training.batch_size
    train = _choose_rows(table, "train", max(2, steps // EPOCHS) * batch_size - batch_size // 2)
    validation = _choose_rows(table, "validation", 2 * batch_size)
    test = _choose_rows(table, "test", batch_size)
    samples = table.frame[["path", "split"]].iloc[
        np.sort(np.concatenate([train, validation, test]))
    ]
    (folder / "split.csv").write_bytes(csv_bytes(samples))
    chosen = set(samples["path"])
    others = [path for path in experiment.dataset.table().frame["path"] if path not in chosen]
    excluded = pd.DataFrame({"path": others, "reason": "not needed"})
    (folder / "excluded.csv").write_bytes(csv_bytes(excluded))
    tables = experiment.tables()
    tables["dataset"]["exclude"] = str(folder / "excluded.csv")
    tables["split"] = {"use": "listed", "file": str(folder / "split.csv")}
    tables["model"]["weights"] = weights_source(runs, experiment.model.weights)
    tables["training"]["epochs"] = EPOCHS
    tables["execution"]["save_every_steps"] = 1
    tables["observer"] = []
    (folder / "experiment.toml").write_text(toml.dump(tables), encoding="utf-8")
    return -(-len(train) // batch_size)


def _choose_rows(table: ImageTable, split: str, count: int) -> np.ndarray[Any, Any]:
    """Return up to `count` rows of a split, taken from all classes in turn."""
    rows = np.flatnonzero((table.frame["split"] == split).to_numpy())
    labels = pd.Series(table.labels[rows])
    rank_in_class = labels.groupby(labels).cumcount().to_numpy()
    return np.asarray(rows[np.argsort(rank_in_class, kind="stable")][:count])


def choose_stops(steps_per_epoch: int) -> list[Stop]:
    """Return where to stop: several times in one epoch, before its validation and after it."""
    first_epoch = sorted({1, steps_per_epoch // 2 + 1, steps_per_epoch})
    steps = [("step", step) for step in first_epoch]
    return [*steps, ("epoch", steps_per_epoch), ("step", EPOCHS * steps_per_epoch - 1)]


def _train(folder: Path, root: Path, stops: list[Stop]) -> Run:
    """Train in separate processes, each until the next stop, and return the run."""
    folder.mkdir()
    for stop in [*stops, None]:
        job = {"folder": str(folder), "project": str(root), "stop": stop}
        command = [sys.executable, "-m", __spec__.name, json.dumps(job)]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        if done.returncode not in (0, 128 + signal.SIGTERM):
            raise failure_of_part(done.returncode, done.stderr)
        if not done.returncode:
            break
    return Run(next((folder / "runs").iterdir()))


def failure_of_part(exit_code: int, stderr: str) -> SightXError:
    """Return the error of a process, of the class that its exit code stands for."""
    kinds = {kind.exit_code: kind for kind in SightXError.__subclasses__()}
    line = (stderr.strip().splitlines() or ["it printed nothing"])[-1]
    return kinds.get(exit_code, SightXError)(Problem("not-verified", f"a run failed: {line}"))


def compare_runs(straight: Run, stopped: Run, stops: list[Stop]) -> None:
    """Raise RunError for the first difference between two runs."""
    expected, actual = _read_digests(straight), _read_digests(stopped)
    step = 0
    for name, parts in expected.items():
        step = int(name.split("-")[1])
        if name not in actual:
            raise _difference(straight, f"the checkpoint after step {step} is missing", step, stops)
        for part, digest in parts.items():
            if digest != actual[name].get(part):
                raise _difference(straight, f"{part} differs after step {step}", step, stops)
    files = dict(_other_files(stopped))
    for name, content in _other_files(straight):
        if content != files.get(name):
            raise _difference(straight, f"{name} differs", step, stops)


def _difference(run: Run, what: str, step: int, stops: list[Stop]) -> RunError:
    """Return the error for a difference, with its likely cause."""
    earlier = [stop for stop in stops if stop[1] < step]
    if earlier:
        kind, number = earlier[-1]
        cause = (
            f"stopped after {kind} {number}: the checkpoint lacks what that step needs; a model"
            " keeps it as a buffer, a component draws from the generator it is given"
        )
    else:
        cause = f"before any stop: {likely_cause(run)}"
    return RunError(Problem("not-exact", what, cause))


def _read_digests(run: Run) -> dict[str, dict[str, str]]:
    """Return the digests of a run by checkpoint and part; those of a later process count."""
    lines = (run.directory.parents[1] / "digests.jsonl").read_text(encoding="utf-8").splitlines()
    return {name: parts for line in lines for name, parts in json.loads(line).items()}


def _other_files(run: Run) -> Iterator[tuple[str, bytes]]:
    """Yield the results of a run other than checkpoints, without times."""
    for number, row in enumerate(run.metrics.to_dict("records"), 1):
        values = {key: value for key, value in row.items() if key not in CLOCK_KEYS}
        yield f"metrics.jsonl of epoch {number}", json.dumps(values).encode()
    for path in sorted((run.directory / "predictions").iterdir()):
        yield path.name, path.read_bytes()
    yield "checkpoints/names.json", json.dumps(run.checkpoints, sort_keys=True).encode()


class DigestRecorder:
    """Observer that records a digest of every checkpoint, and stops the run at one place."""

    def __init__(self, folder: Path, stop: Stop | None) -> None:
        self._folder, self._stop = folder, stop

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        """Stop after a step."""
        self._stop_at("step", step.step)

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        """Stop after an epoch."""
        self._stop_at("epoch", epoch.step)

    @hookimpl
    def sightx_checkpoint_written(self, run: RunInfo, checkpoint: str) -> None:
        """Record the digest of every tensor, and of the other values of the state."""
        state = checkpoints.load(run.directory / "checkpoints" / checkpoint)
        digests = {
            f"{_TENSORS[kind]} {name}": _sha256(tensor.view(-1).numpy(force=True).tobytes())
            for kind, tensors in state.tensors.items()
            for name, tensor in tensors.items()
        }
        for name in state.record.keys() - CLOCK_KEYS:
            value = state.record[name]
            digests[f"{name} of the state"] = _sha256(json.dumps(value).encode())
        with (self._folder / "digests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({checkpoint: digests}) + "\n")

    def _stop_at(self, kind: str, step: int) -> None:
        if self._stop == (kind, step):
            signal.raise_signal(signal.SIGTERM)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _train_part(job: Mapping[str, Any]) -> int:
    """Train until a stop, in this process; return the exit code."""
    folder = Path(job["folder"])
    runs = folder / "runs"
    observers = [DigestRecorder(folder, tuple(job["stop"]) if job["stop"] else None)]
    begun = next(runs.iterdir(), None) if runs.is_dir() else None
    project = find_project(Path(job["project"]))
    experiment = stored_experiment(Run(begun or folder.parent), project=project)
    if begun:
        result = resume(Run(begun), experiment=experiment, observers=observers, quiet=True).result
    else:
        result = run(experiment, observers=observers, runs=runs, quiet=True).result
    return 128 + int(result["signal"]) if "signal" in result else 0


if __name__ == "__main__":
    try:
        sys.exit(_train_part(json.loads(sys.argv[1])))
    except SightXError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
