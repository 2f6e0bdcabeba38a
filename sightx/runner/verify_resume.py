"""Prove that a stop changes nothing: train twice, once in one go, and compare to the bit.

Each part of the stopped run is a process of its own, as in life: whatever a component keeps in
memory alone is lost. Both runs save their state after every step, on a few of the samples.
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
from sightx.records import SPLITS
from sightx.records.events import Epoch, Step
from sightx.records.table import ImageTable
from sightx.registry import project
from sightx.registry.hooks import hookimpl
from sightx.registry.kinds import Observer
from sightx.runner.api import resume, run, runs_folder, weights_source
from sightx.runner.resume import stored_experiment
from sightx.runs import checkpoints
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment

EPOCHS = 3
_TIMES = ("seconds", "images_per_second", "data_wait")
Digests = Mapping[str, Mapping[str, str]]  # by checkpoint, then by what it holds
Stop = tuple[str, int]


@dataclass(frozen=True)
class ResumeCheck:
    """Say what was compared: so many steps, of a run stopped after each of `stops`."""

    steps: int
    stops: tuple[Stop, ...]


def verify_resume(
    experiment: Experiment,
    steps: int = 50,
    told: Callable[[str], None] = lambda said: None,
    runs: Path | None = None,
) -> ResumeCheck:
    """Train on about so many steps twice, once stopped and resumed, and compare.

    `told` hears what is being done; in `runs` lie those whose weights it begins with. Raises
    RunError at the first difference, naming it and its likely cause; and what a run of the
    experiment raises.
    """
    with tempfile.TemporaryDirectory(prefix="sightx-proof-") as name:
        folder = Path(name)
        per_epoch = _shrink(experiment, folder, steps, runs)
        home = experiment.context.project.root
        stops = _stops(per_epoch)
        told("training without a stop")
        straight = _trained(folder / "straight", home, [])
        told(f"training with stops after {', '.join(f'{kind} {at}' for kind, at in stops)}")
        stopped = _trained(folder / "stopped", home, stops)
        _compare(straight, stopped, stops, per_epoch)
        return ResumeCheck(len(_read(straight)), tuple(stops))


def _shrink(experiment: Experiment, folder: Path, steps: int, runs: Path | None) -> int:
    """Write a spec of the same experiment on fewer samples; return its steps an epoch."""
    table = load_split_table(experiment.dataset, experiment.split)
    size = experiment.training.batch_size
    rows = {
        "train": _some(table, "train", max(2, steps // EPOCHS) * size - size // 2),
        "validation": _some(table, "validation", 2 * size),
        "test": _some(table, "test", size),
    }
    chosen = np.sort(np.concatenate([rows[side] for side in SPLITS]))
    paths = table.frame["path"]
    kept = paths.iloc[chosen]
    frame = pd.DataFrame({"path": kept, "split": table.frame["split"].iloc[chosen]})
    frame.to_csv(folder / "split.csv", index=False)
    rest = [path for path in experiment.dataset.table().frame["path"] if path not in set(kept)]
    pd.DataFrame({"path": rest, "reason": "not needed"}).to_csv(folder / "rest.csv", index=False)
    tables = experiment.tables()
    tables["dataset"]["exclude"] = str(folder / "rest.csv")
    tables["split"] = {"use": "listed", "file": str(folder / "split.csv")}
    tables["model"]["weights"] = weights_source(
        runs_folder(experiment, runs), experiment.model.weights
    )
    tables["training"]["epochs"] = EPOCHS
    tables["execution"]["save_every_steps"] = 1
    tables["observer"] = []
    (folder / "experiment.toml").write_text(toml.dump(tables))
    return -(-len(rows["train"]) // size)


def _some(table: ImageTable, side: str, count: int) -> np.ndarray[Any, Any]:
    """Return so many rows of a side, of all classes in turn."""
    rows = np.flatnonzero((table.frame["split"] == side).to_numpy())
    labels = pd.Series(table.labels[rows])
    turn = labels.groupby(labels).cumcount().to_numpy()
    return np.asarray(rows[np.argsort(turn, kind="stable")][:count])


def _stops(per_epoch: int) -> list[Stop]:
    """Return where to stop: several times in one epoch, before its validation and after it."""
    first = sorted({1, per_epoch // 2 + 1, per_epoch})
    stops = [("step", step) for step in first]
    return [*stops, ("epoch", per_epoch), ("step", EPOCHS * per_epoch - 1)]


def _trained(folder: Path, home: Path, stops: list[Stop]) -> Run:
    """Train in processes of their own, each until the next stop, and return the run."""
    folder.mkdir()
    for stop in [*stops, None]:
        job = {"folder": str(folder), "home": str(home), "stop": stop}
        command = [sys.executable, "-m", __spec__.name, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode not in (0, 128 + signal.SIGTERM):
            raise _failure(done.returncode, done.stderr)
        if not done.returncode:
            break
    return Run(next((folder / "runs").iterdir()))


def _failure(code: int, said: str) -> SightXError:
    """Return the failure of a part, of the kind that its exit code says."""
    kinds = {kind.exit_code: kind for kind in SightXError.__subclasses__()}
    line = (said.strip().splitlines() or ["it said nothing"])[-1]
    return kinds.get(code, SightXError)(Problem("not-proved", f"a run failed: {line}"))


def _compare(straight: Run, stopped: Run, stops: list[Stop], per_epoch: int) -> None:
    """Raise RunError at the first difference."""
    expected, found = _read(straight), _read(stopped)
    for name, parts in expected.items():
        step = int(name.split("-")[1])
        if name not in found:
            raise _different(straight, f"the state after step {step} is missing", step, stops)
        differing = [part for part, digest in parts.items() if digest != found[name].get(part)]
        if differing:
            raise _different(straight, f"{differing[0]} differs after step {step}", step, stops)
    one, other = dict(_files(straight)), dict(_files(stopped))
    for name, content in one.items():
        if content != other.get(name):
            raise _different(straight, f"{name} differs", EPOCHS * per_epoch, stops)


def _different(run: Run, what: str, step: int, stops: list[Stop]) -> RunError:
    """Return the failure, with what is likely behind it."""
    before = [stop for stop in stops if stop[1] < step]
    cuda = run.environment["device"]["name"].startswith("cuda")
    if not before and cuda and not run.environment["execution"]["deterministic"]:
        cause = "before any stop: set execution.deterministic = true"
    elif not before:
        cause = "before any stop: a component draws from a generator of its own, or reads the clock"
    else:
        cause = (
            f"stopped after {before[-1][0]} {before[-1][1]}: what that step needs is not in the"
            " state; a model keeps it as a buffer, a component draws from the generator it is given"
        )
    return RunError(Problem("not-exact", what, cause))


def _read(run: Run) -> dict[str, dict[str, str]]:
    """Return the digests that the parts of a run have written; the later part holds."""
    lines = (run.directory.parents[1] / "digests.jsonl").read_text().splitlines()
    return {name: parts for line in lines for name, parts in json.loads(line).items()}


def _files(run: Run) -> Iterator[tuple[str, bytes]]:
    """Yield what a run leaves beside its states, without times."""
    for number, row in enumerate(run.metrics.to_dict("records"), 1):
        figures = {key: value for key, value in row.items() if key not in _TIMES}
        yield f"metrics.jsonl of epoch {number}", json.dumps(figures).encode()
    for path in sorted((run.directory / "predictions").iterdir()):
        yield path.name, path.read_bytes()
    yield "checkpoints/names.json", json.dumps(run.checkpoints, sort_keys=True).encode()


class DigestRecorder(Observer):
    """Write down what each state holds, and stop the run where it is told to."""

    name = "proof"

    folder: Path
    """Where digests.jsonl lies."""
    stop: tuple[str, int] | None = None
    """After which step, or the epoch of which step, SIGTERM comes."""

    def build(self, run: Run) -> DigestRecorder:
        """Return itself."""
        return self

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        """Stop after a step."""
        self._reached("step", step.step)

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        """Stop after an epoch."""
        self._reached("epoch", epoch.step)

    @hookimpl
    def sightx_checkpoint_written(self, run: Run, checkpoint: str) -> None:
        """Write down the digest of every tensor, and of the rest of the state."""
        state = checkpoints.load(run.directory / "checkpoints" / checkpoint)
        parts = {f"weight {name}": tensor for name, tensor in state.weights.items()}
        parts |= {f"optimizer state {name}": tensor for name, tensor in state.optimizer.items()}
        digests = {name: _hash(tensor.view(-1).numpy(force=True)) for name, tensor in parts.items()}
        for name, value in state.record.items():
            digests[f"{name} of the state"] = hashlib.sha256(json.dumps(value).encode()).hexdigest()
        with (self.folder / "digests.jsonl").open("a") as file:
            file.write(json.dumps({checkpoint: digests}) + "\n")

    def _reached(self, kind: str, step: int) -> None:
        if self.stop == (kind, step):
            signal.raise_signal(signal.SIGTERM)


def _hash(values: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def _part(job: Mapping[str, Any]) -> int:
    """Train until a stop, in this process; return the exit code."""
    folder = Path(job["folder"])
    runs, home = folder / "runs", project.find_project(Path(job["home"]))
    watch = {
        "proof": DigestRecorder(folder=folder, stop=tuple(job["stop"]) if job["stop"] else None)
    }
    begun = next(runs.iterdir(), None) if runs.is_dir() else None
    experiment = stored_experiment(Run(begun or folder.parent), home=home)
    if begun:
        made = resume(Run(begun), experiment=experiment, observers=watch)
    else:
        made = run(experiment, observers=watch, runs=runs)
    return 128 + int(made.result["signal"]) if "signal" in made.result else 0


if __name__ == "__main__":
    try:
        sys.exit(_part(json.loads(sys.argv[1])))
    except SightXError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
