"""The ways in: what a run needs is opened and checked before its directory is made."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sightx.data import dataset, preprocess
from sightx.distributed.collectives import SingleProcess
from sightx.io.signals import stop_on_signals
from sightx.records.table import ImageTable
from sightx.runner.execute import Execution, Start
from sightx.runner.following import begin, device_of, finish, follow, together
from sightx.runner.resume import Resumption, is_finished, recorded_environment, stored_experiment
from sightx.runs import directory, environment, lock, lookup
from sightx.runs.directory import Run, open_run
from sightx.spec import checks
from sightx.spec.experiment import Experiment

Watching = Mapping[str, Any]

_log = logging.getLogger("sightx")
_TURNS = threading.Lock()  # torch seeds and counts threads for the whole process


def table(experiment: Experiment) -> ImageTable:
    """Return an experiment's samples, excluded rows left out, each row dealt to a side.

    Raises DataError.
    """
    return dataset.load_split_table(experiment.dataset, experiment.split)


def run(
    experiment: Experiment,
    *,
    observers: Watching | None = None,
    runs: Path | None = None,
    progress: preprocess.ProgressCallback | None = None,
    unfinished: bool = False,
    profile: bool = False,
) -> Run:
    """Execute an experiment and return its run.

    `observers` are components that watch beside those of the spec, by name; `runs` is the folder
    of runs; `progress` hears (done, of) while images are prepared. With `unfinished`, the newest
    run of this experiment goes on, if there is one; with `profile`, some steps are traced. Runs of
    one process take turns. Raises SightXError; whatever happens after the directory is made is
    recorded there.
    """
    root = runs_folder(experiment, runs)
    with _TURNS, together(experiment) as collectives:
        if not collectives.is_main_process:
            return follow(experiment, collectives)
        if unfinished and (found := _newest(root, experiment)):
            return _resumed(
                found,
                experiment,
                collectives,
                observers=observers,
                progress=progress,
                profile=profile,
            )
        return _begun(experiment, root, collectives, observers, progress, profile)


def _begun(
    experiment: Experiment,
    root: Path,
    collectives: SingleProcess,
    observers: Watching | None,
    progress: preprocess.ProgressCallback | None,
    profile: bool,
) -> Run:
    with _left_as_found(experiment):
        device = device_of(experiment)
        opened = _opened(experiment, device)
        weights = weights_source(root, experiment.model.weights)
        described = {**environment.describe_environment(experiment, device), "weights": weights}
        made = directory.create(root, experiment, described)
        with lock.run_lock(made.directory):
            execution = Execution(experiment, made, device, observers or {}, collectives)
            with stop_on_signals() as asked, execution.recorded():
                begin(collectives, made)
                execution.go(Start(opened, weights, profile=profile), progress, asked)
    return finish(collectives, made)


def resume(
    run: Run | str | Path,
    *,
    experiment: Experiment | None = None,
    changes: Sequence[str] = (),
    allow_data_change: bool = False,
    allow_plugin_change: bool = False,
    observers: Watching | None = None,
    progress: preprocess.ProgressCallback | None = None,
) -> Run:
    """Let a run go on where it stopped, as if it never had, and return it.

    One that has finished is left as it is. The run's own experiment holds, with `changes`
    (`key=value`); or `experiment`, where one is given. Whatever is not as it was is logged and
    recorded; `allow_...` lets in what is refused otherwise. Raises DriftError, a RunError, for
    what is refused, RunError where the run is in use or no state of it is whole. Until the run
    goes on nothing of it changes: a signal that comes before raises Interrupted.
    """
    found = run if isinstance(run, Run) else open_run(run)
    wanted = experiment or stored_experiment(found, changes)
    with _TURNS, together(wanted) as collectives:
        if not collectives.is_main_process:
            return follow(wanted, collectives)
        allowed = (allow_data_change, allow_plugin_change)
        return _resumed(found, wanted, collectives, tuple(changes), allowed, observers, progress)


def _resumed(
    found: Run,
    wanted: Experiment,
    collectives: SingleProcess,
    changes: tuple[str, ...] = (),
    allowed: tuple[bool, bool] = (False, False),
    observers: Watching | None = None,
    progress: preprocess.ProgressCallback | None = None,
    profile: bool = False,
) -> Run:
    if is_finished(found, wanted):  # which needs no lock, and no disk that can be written
        return _left(found, collectives)
    with lock.run_lock(found.directory), _left_as_found(wanted):
        if is_finished(found, wanted):  # whoever held it has just finished it
            return _left(found, collectives)
        device = device_of(wanted)
        resumption = Resumption(found, wanted, device, changes, *allowed)
        resumption.open()
        opened = resumption.table(_opened(wanted, device))
        weights = recorded_environment(found)["weights"]
        start = Start(opened, weights, resumption.saved, resumption.judge, profile)
        execution = Execution(wanted, found, device, observers or {}, collectives, begun=False)
        with stop_on_signals() as asked, execution.recorded():
            begin(collectives, found, resumed=True)
            execution.go(start, progress, asked)
    return finish(collectives, found)


def _left(found: Run, collectives: SingleProcess) -> Run:
    """Return a run that is over, as it is."""
    _log.info("%s is %s", found.id, found.result["status"])
    begin(collectives, found, over=True)
    return finish(collectives, found)


def _opened(experiment: Experiment, device: torch.device) -> ImageTable:
    """Return the samples, once the checks of device and data have passed."""
    checks.enforce_checks(experiment, "device", device=device)
    opened = table(experiment)
    checks.enforce_checks(experiment, "data", table=opened)
    return opened


def _newest(root: Path, experiment: Experiment) -> Run | None:
    """Return the newest run of an experiment, by its id and its name."""
    for found in reversed(lookup.list_runs(root)):
        same = found.environment.get("id") == experiment.id
        if same and found.tables["name"] == experiment.name:
            return found
    return None


def runs_folder(experiment: Experiment, runs: Path | None) -> Path:
    """Return the folder of runs: the one that is given, or that of the experiment's project."""
    return runs or experiment.context.project.runs


def weights_source(root: Path, weights: str) -> str:
    """Return where weights come from; `run:ID` is the file of that run's best checkpoint."""
    if not weights.startswith("run:"):
        return weights
    found, name = lookup.find_run(root, weights.removeprefix("run:"))
    return str(found.checkpoint(name) / "model.safetensors")


@contextmanager
def _left_as_found(experiment: Experiment) -> Iterator[None]:
    """Give a caller back what torch keeps for the whole process: draws, and the flag."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        _deterministic(experiment.execution.deterministic)
        try:
            yield
        finally:
            _deterministic(deterministic)


def _deterministic(wanted: bool) -> None:
    """Set torch's flag where it is another: setting it imports all that compiles."""
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)
