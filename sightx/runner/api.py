"""The ways to start a run: everything it needs is checked before its directory is created."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from sightx.data import dataset
from sightx.data.preprocess import ProgressCallback
from sightx.distributed.collectives import (
    Collectives,
    check_idle_ranks,
    join_process_group,
    local_device,
)
from sightx.distributed.failures import propagate_first_failure
from sightx.errors import Problem, RunError, SightXError, one_line
from sightx.io.files import argument_path
from sightx.io.signals import restore_handlers
from sightx.records.table import ImageTable
from sightx.registry.failures import explained_plugin_failures
from sightx.runner.arguments import as_experiment, check_arguments
from sightx.runner.execute import Execution
from sightx.runner.initial_weights import InitialWeights, parents_of, weights_source
from sightx.runner.interrupts import raise_interrupts, uninterrupted
from sightx.runner.observers import GivenObservers, name_observers
from sightx.runner.repetition import describe_twin, find_twin, parents_of_repeat
from sightx.runner.resume import (
    Resumption,
    changed_files,
    has_same_content,
    is_finished,
    recorded_weights,
    select_recorded_samples,
    stored_experiment,
)
from sightx.runs import inputs, lock, lookup, sessions
from sightx.runs.creation import create_run
from sightx.runs.directory import NullRun, Run, open_run
from sightx.runs.environment import describe_environment
from sightx.spec import check_runner
from sightx.spec.experiment import Context, Experiment
from sightx.spec.merge import Overrides, as_overrides
from sightx.training.setup import choose_device

Json = TypeVar("Json")

_log = logging.getLogger("sightx")
_one_at_a_time = threading.Lock()  # torch's seed and number of threads belong to the whole process


def table(experiment: Experiment | str | Path) -> ImageTable:
    """Return the samples of an experiment, with their splits and without excluded rows.

    `experiment` may be the path of its spec. Raises DataError.
    """
    experiment = as_experiment(experiment)
    return dataset.load_split_table(experiment.dataset, experiment.split)


def run(
    experiment: Experiment | str | Path,
    *,
    overrides: Overrides = (),
    observers: GivenObservers | None = None,
    runs: str | Path | None = None,
    progress: ProgressCallback | None = None,
    unfinished: bool = False,
    profile: bool = False,
) -> Run:
    """Execute an experiment and return its run.

    Runs of one process take turns.

    Args:
        experiment: The experiment, or the path of its spec.
        overrides: Change the spec, as for `sightx.load`; only with the path of a spec.
        observers: Watch the run in addition to those of the spec: objects with hook methods,
            observer components or names of registered observers, as a list or by name.
        runs: The folder of runs; None means that of the project.
        progress: Called with (done, total) while images are preprocessed.
        unfinished: Resume the newest run of this experiment, if there is one.
        profile: Trace some steps.

    Raises:
        RunInterrupted: A SIGINT (Ctrl-C) has ended the run, and its state is saved. It is a
            KeyboardInterrupt. After a SIGTERM or SIGHUP the run is returned.
        SightXError: The run failed; once its directory exists, the error is recorded there.
    """
    check_arguments(progress, unfinished=unfinished, profile=profile)
    experiment = as_experiment(experiment, overrides)
    context = experiment.context
    root = argument_path(runs) if runs is not None else context.project.runs
    with raise_interrupts(), _join_ranks(experiment, context) as collectives:
        launch = _Launch(
            experiment, context, collectives, name_observers(observers, context.registry),
            progress, profile,
        )  # fmt: skip
        executed = launch.resume_newest(root) if unfinished else launch.start(root)
    return uninterrupted(executed)


def resume(
    run: Run | str | Path,
    *,
    experiment: Experiment | str | Path | None = None,
    changes: Overrides = (),
    allow_data_change: bool = False,
    allow_plugin_change: bool = False,
    observers: GivenObservers | None = None,
    progress: ProgressCallback | None = None,
) -> Run:
    """Continue a run where it stopped, as if it had not been stopped, and return it.

    A finished run is left as it is. Until the run continues, nothing of it changes.

    Args:
        run: The run or its directory.
        experiment: The experiment to continue with, or the path of its spec; None means the
            recorded one.
        changes: Overrides of the recorded experiment, as for `sightx.load`.
        allow_data_change: Continue although images or labels have changed.
        allow_plugin_change: Continue although the code of a plugin has changed.
        observers: As for `sightx.run`.
        progress: As for `sightx.run`.

    Raises:
        RunInterrupted: As for `sightx.run`.
        IncompatibleResumeError: The result would not be that of the uninterrupted run.
        RunError: The run is in use, or all of its checkpoints are damaged.
        Interrupted: A SIGTERM or SIGHUP came before the run continued.
    """
    switches = {
        "allow_data_change": allow_data_change,
        "allow_plugin_change": allow_plugin_change,
    }
    check_arguments(progress, **switches)
    run, changes = run if isinstance(run, Run) else open_run(run), as_overrides(changes)
    if experiment is None:
        experiment = stored_experiment(run, changes)
    experiment = as_experiment(experiment)
    context = experiment.context
    with raise_interrupts(), _join_ranks(experiment, context) as collectives:
        named = name_observers(observers, context.registry)
        launch = _Launch(experiment, context, collectives, named, progress)
        run = launch.resume(run, tuple(changes), allow_data_change, allow_plugin_change)
    return uninterrupted(run)


def repeat(
    run: Run | str | Path,
    *,
    observers: GivenObservers | None = None,
    runs: str | Path | None = None,
    progress: ProgressCallback | None = None,
    profile: bool = False,
) -> Run:
    """Execute the experiment of a run again, in a new run that names it as its parent.

    Everything comes from the run directory: the experiment, the files that it names, the samples
    with their splits, the initial weights. `sightx.runner.repetition.compare_repeat` compares the
    two.

    Args:
        run: The run or its directory.
        observers: As for `sightx.run`.
        runs: The folder of the new run; None means that of the run's project.
        progress: As for `sightx.run`.
        profile: Trace some steps.

    Raises:
        RunInterrupted: As for `sightx.run`.
        IncompatibleResumeError: Samples of the run are missing.
        SightXError: The run failed.
    """
    check_arguments(progress, profile=profile)
    original = run if isinstance(run, Run) else open_run(run)
    experiment = stored_experiment(original)
    context = experiment.context
    root = argument_path(runs) if runs is not None else context.project.runs
    with raise_interrupts(), _join_ranks(experiment, context) as collectives:
        named = name_observers(observers, context.registry)
        launch = _Launch(experiment, context, collectives, named, progress, profile)
        repeated = launch.start(root, original)
    return uninterrupted(repeated)


@contextmanager
def _join_ranks(experiment: Experiment, context: Context) -> Iterator[Collectives]:
    """Wait for other runs of this process, then join the other processes of this run.

    Raises SpecError if a process would have nothing to do.
    """
    with (
        _one_at_a_time,
        restore_handlers(),
        join_process_group(
            _choose_device(experiment), experiment.execution.group_timeout
        ) as collectives,
        propagate_first_failure(context.registry),
        explained_plugin_failures(context.registry),
    ):
        check_idle_ranks(experiment.training, collectives.world_size)
        yield collectives


def _choose_device(experiment: Experiment) -> torch.device:
    return choose_device(local_device(experiment.execution.device))


@dataclass(frozen=True)
class _Launch:
    """Create or open the directory of a run, and execute the experiment on every rank."""

    experiment: Experiment
    context: Context
    collectives: Collectives
    observers: Mapping[str, object]
    progress: ProgressCallback | None = None
    profile: bool = False

    def on_main_process(self, compute: Callable[[], Json]) -> Json:
        """Compute a JSON value on rank 0, however long it takes; return it on all ranks."""
        value = compute() if self.collectives.is_main_process else None
        self.collectives.barrier()
        return self.collectives.broadcast_object(value)  # type: ignore[return-value]

    def resume_newest(self, root: Path) -> Run:
        """Resume the newest run of the experiment below `root`; start one if there is none."""
        _check_root(root)
        path = self.on_main_process(lambda: _newest(root, self.experiment))
        return self.resume(Run(path)) if path else self.start(root)

    def start(self, root: Path, original: Run | None = None) -> Run:
        """Start a new run below `root`; with the samples and weights of `original` if given."""
        with ExitStack() as stack:
            stack.enter_context(_restore_torch_globals(self.experiment))
            device = _choose_device(self.experiment)
            weights = InitialWeights()
            if self.collectives.is_main_process:
                source = (
                    recorded_weights(original)
                    if original
                    else weights_source(root, self.experiment.model.weights)
                )
                weights = InitialWeights.read(source)
            table = self._load_table(device)
            if original:
                table = select_recorded_samples(original, table)
            self.collectives.barrier()  # if the data of any rank are wrong, there is no directory

            def create() -> str:
                if original is None and (twin := find_twin(root, self.experiment, table)):
                    _log.info("%s", describe_twin(twin, self.experiment.training.monitor))
                environment = describe_environment(self.experiment, self.context, device)
                environment["weights"] = weights.source
                environment["parents"] = (
                    parents_of_repeat(original) if original else parents_of(weights.source)
                )
                environment["large_files"] = inputs.hash_large_files(self.experiment)
                files = {"weights": weights.source, "labels": table.source}
                run = create_run(root, self.experiment, environment, self.context.text, files)
                stack.enter_context(lock.run_lock(run.directory))
                sessions.start_session(run)
                return str(run.directory)

            path = Path(self.on_main_process(create))
            run = self._execute(path, table, device, weights)
        return self._share_result(run)

    def resume(
        self,
        run: Run,
        changes: tuple[str, ...] = (),
        allow_data_change: bool = False,
        allow_plugin_change: bool = False,
    ) -> Run:
        """Continue a run, unless it is finished."""
        with ExitStack() as stack:
            stack.enter_context(_restore_torch_globals(self.experiment))

            def is_over() -> bool:
                if not is_finished(run, self.experiment):
                    stack.enter_context(lock.run_lock(run.directory))
                return is_finished(run, self.experiment)  # perhaps by the former holder of the lock

            if not self.on_main_process(is_over):
                device = _choose_device(self.experiment)
                resumption, weights = None, InitialWeights()
                if self.collectives.is_main_process:
                    resumption = Resumption(
                        run, self.experiment, self.context, device, changes,
                        allow_data_change, allow_plugin_change,
                    )  # fmt: skip
                    resumption.check_experiment()
                    resumption.load_state()
                    if resumption.state is None:
                        weights = InitialWeights.read(recorded_weights(run))
                table = select_recorded_samples(run, self._load_table(device))
                run = self._execute(run.directory, table, device, weights, resumption)
            elif self.collectives.is_main_process:
                _log.info("%s is %s", run.id, run.result["status"])
        return self._share_result(run)

    def _load_table(self, device: torch.device) -> ImageTable:
        """Return the samples, after the checks of device and data have passed."""
        if self.context.path is None:  # an experiment built in Python: no `load` has checked it
            check_runner.enforce_checks(self.experiment, self.context, "spec")
        check_runner.enforce_checks(self.experiment, self.context, "device", device=device)
        with check_runner.locate_problems(self.context):
            samples = table(self.experiment)
        check_runner.enforce_checks(self.experiment, self.context, "data", table=samples)
        return samples

    def _execute(
        self, path: Path, table: ImageTable, device: torch.device, weights: InitialWeights,
        resumption: Resumption | None = None,
    ) -> Run:  # fmt: skip
        """Execute the experiment; only rank 0 writes, observes and reports."""
        run: Run = NullRun(path)
        main_only: dict[str, Any] = {}
        if self.collectives.is_main_process:
            run = Run(path)
            observers = name_observers(self.experiment.observer, self.context.registry)
            main_only = {
                "weights": weights,
                "resumption": resumption,
                "observers": {**observers, **self.observers},
                "progress": self.progress,
                "profile": self.profile,
            }
        arguments = (self.experiment, self.context, run, table, device, self.collectives)
        Execution(*arguments, **main_only).execute()
        return run

    def _share_result(self, run: Run) -> Run:
        """Return the run with its result on all ranks, once rank 0 has written everything."""
        if self.collectives.world_size == 1:
            return run
        self.collectives.barrier()
        result = self.collectives.broadcast_object(run.result)
        return run if self.collectives.is_main_process else NullRun(run.directory, result)


def _check_root(root: Path) -> None:
    """Raise RunError if runs cannot have been below a folder: a disk may not be mounted."""
    if not root.is_dir() and not root.parent.is_dir():
        message = f"neither {root} nor the folder above it exists"
        hint = "give the folder of the earlier runs, or make the folder above it"
        raise RunError(Problem("no-run", message, hint))


def _newest(root: Path, experiment: Experiment) -> str:
    """Return the directory of the newest run with an experiment's id and name, or "".

    A finished run with other data, splits or initial weights is another experiment.
    """
    for run in reversed(lookup.list_runs(root)):
        try:
            if _is_same_experiment(run, experiment):
                return str(run.directory)
        except (SightXError, OSError, KeyError) as error:  # an old run must not block the others
            _log.warning("%s", one_line(f"{run.id} is not looked at: {error}"))
    return ""


def _is_same_experiment(run: Run, experiment: Experiment) -> bool:
    if run.environment.get("id") != experiment.id or run.tables["name"] != experiment.name:
        return False
    if changed_files(run, experiment):
        return False
    return not is_finished(run, experiment) or has_same_content(run, experiment)


@contextmanager
def _restore_torch_globals(experiment: Experiment) -> Iterator[None]:
    """Set torch's deterministic flag for the body; restore it and the random state afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        _set_deterministic(experiment.execution.deterministic)
        try:
            yield
        finally:
            _set_deterministic(before)


def _set_deterministic(wanted: bool) -> None:
    """Set the flag only if it changes, because setting it imports torch's compiler."""
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)
