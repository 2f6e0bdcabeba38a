"""The ways to start a run: everything it needs is checked before its directory is created."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sightx.data import dataset
from sightx.data.preprocess import ProgressCallback
from sightx.distributed.collectives import Collectives, check_idle_ranks, join_process_group
from sightx.distributed.failures import propagate_first_failure
from sightx.io import log
from sightx.io.files import argument_path
from sightx.io.signals import restore_handlers
from sightx.records.table import ImageTable
from sightx.registry.failures import explained_plugin_failures
from sightx.run_registry.find import open_run
from sightx.runner.arguments import as_experiment, check_arguments
from sightx.runner.interrupts import raise_interrupts, uninterrupted
from sightx.runner.launch import Launch, run_device
from sightx.runner.observers import GivenObservers, name_observers
from sightx.runner.resume import stored_experiment
from sightx.runs.directory import Run
from sightx.spec.experiment import Context, Experiment
from sightx.spec.merge import Overrides, as_overrides

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
    quiet: bool = False,
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
        quiet: Leave the console out, which prints data, progress and results, in a notebook too.

    Raises:
        RunInterrupted: A SIGINT (Ctrl-C) has ended the run, and its state is saved. It is a
            KeyboardInterrupt. After a SIGTERM or SIGHUP the run is returned.
        SightXError: The run failed; once its directory exists, the error is recorded there.
    """
    check_arguments(progress, unfinished=unfinished, profile=profile, quiet=quiet)
    experiment = as_experiment(experiment, overrides)
    context = experiment.context
    root = argument_path(runs) if runs is not None else context.project.runs
    with raise_interrupts(), _join_ranks(experiment, context, quiet) as collectives:
        named = name_observers(observers, context.registry)
        launch = Launch(experiment, context, collectives, named, progress, profile, quiet)
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
    quiet: bool = False,
) -> Run:
    """Continue a run where it stopped, as if it had not been stopped, and return it.

    A finished run is left as it is. Until the run continues, nothing of it changes.

    Args:
        run: The run, its directory, or RUN as for `sightx.open_run`.
        experiment: The experiment to continue with, or the path of its spec; None means the
            recorded one.
        changes: Overrides of the recorded experiment, as for `sightx.load`.
        allow_data_change: Continue although images or labels have changed.
        allow_plugin_change: Continue although the code of a plugin has changed.
        observers, progress, quiet: As for `sightx.run`.

    Raises:
        RunInterrupted: As for `sightx.run`.
        IncompatibleResumeError: The result would not be that of the uninterrupted run.
        RunError: The run is in use, or all of its checkpoints are damaged.
        Interrupted: A SIGTERM or SIGHUP came before the run continued.
    """
    allowed = {"allow_data_change": allow_data_change, "allow_plugin_change": allow_plugin_change}
    check_arguments(progress, **allowed, quiet=quiet)
    run, changes = open_run(run), as_overrides(changes)
    wanted = stored_experiment(run, changes) if experiment is None else experiment
    context = (experiment := as_experiment(wanted)).context
    with raise_interrupts(), _join_ranks(experiment, context, quiet) as collectives:
        named = name_observers(observers, context.registry)
        launch = Launch(experiment, context, collectives, named, progress, quiet=quiet)
        run = launch.resume(run, tuple(changes), **allowed)
    return uninterrupted(run)


def repeat(
    run: Run | str | Path,
    *,
    observers: GivenObservers | None = None,
    runs: str | Path | None = None,
    progress: ProgressCallback | None = None,
    profile: bool = False,
    quiet: bool = False,
) -> Run:
    """Execute the experiment of a run again, in a new run that names it as its parent.

    Everything comes from the run directory: the experiment, the files that it names, the samples
    with their splits, the initial weights. `sightx.runner.repetition.compare_repeat` compares the
    two.

    Args:
        run: The run, its directory, or RUN as for `sightx.open_run`.
        observers: As for `sightx.run`.
        runs: The folder of the new run; None means that of the run's project.
        progress: As for `sightx.run`.
        profile: Trace some steps.
        quiet: As for `sightx.run`.

    Raises:
        RunInterrupted: As for `sightx.run`.
        IncompatibleResumeError: Samples of the run are missing.
        SightXError: The run failed.
    """
    check_arguments(progress, profile=profile, quiet=quiet)
    original = open_run(run)
    experiment = stored_experiment(original)
    context = experiment.context
    root = argument_path(runs) if runs is not None else context.project.runs
    with raise_interrupts(), _join_ranks(experiment, context, quiet) as collectives:
        named = name_observers(observers, context.registry)
        launch = Launch(experiment, context, collectives, named, progress, profile, quiet)
        repeated = launch.start(root, original)
    return uninterrupted(repeated)


@contextmanager
def _join_ranks(experiment: Experiment, context: Context, quiet: bool) -> Iterator[Collectives]:
    """Wait for other runs of this process, then join the other processes of this run.

    Unless it is quiet or the program has its own log, what SightX logs goes to standard error.

    Raises SpecError if a process would have nothing to do.
    """
    is_logged = quiet or log.is_set_up()
    with (
        _one_at_a_time,
        nullcontext() if is_logged else log.logged_to_stderr(),
        restore_handlers(),
        join_process_group(
            run_device(experiment), experiment.execution.group_timeout
        ) as collectives,
        propagate_first_failure(context.registry),
        explained_plugin_failures(context.registry),
    ):
        check_idle_ranks(experiment.training, collectives.world_size)
        yield collectives
