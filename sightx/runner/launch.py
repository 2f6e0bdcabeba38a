"""Create or open the directory of a run, and execute its experiment on every rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from sightx.data import dataset
from sightx.data.preprocess import ProgressCallback
from sightx.distributed.collectives import Collectives, local_device
from sightx.errors import Problem, RunError, SightXError, counted, one_line
from sightx.records.table import ImageTable
from sightx.runner.execute import Execution
from sightx.runner.initial_weights import (
    InitialWeights,
    as_recorded,
    is_run,
    parents_of,
    weights_source,
    with_fixed_run,
    with_weights,
)
from sightx.runner.observers import name_observers, with_console
from sightx.runner.repetition import describe_twin, find_twin, parents_of_repeat
from sightx.runner.resume import (
    Resumption,
    changed_files,
    has_same_content,
    is_finished,
    recorded_weights,
    select_recorded_samples,
)
from sightx.runs import inputs, lock, lookup, sessions
from sightx.runs.creation import create_run
from sightx.runs.directory import NullRun, Run
from sightx.runs.environment import describe_environment
from sightx.spec import check_runner
from sightx.spec.experiment import Context, Experiment
from sightx.training.setup import choose_device

Json = TypeVar("Json")

_log = logging.getLogger("sightx")


def run_device(experiment: Experiment) -> torch.device:
    """Return the device of this rank."""
    return choose_device(local_device(experiment.execution.device))


@dataclass(frozen=True)
class Launch:
    """Create or open the directory of a run, and execute the experiment on every rank."""

    experiment: Experiment
    context: Context
    collectives: Collectives
    observers: Mapping[str, object]
    progress: ProgressCallback | None = None
    profile: bool = False
    quiet: bool = False

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
        if original:
            return self._start(root, original)
        fixed = self._fix_weights(lambda: with_fixed_run(root, self.experiment))
        return fixed._start(root, weights_as_written=self.experiment.model.weights)

    def _fix_weights(self, fix: Callable[[], Experiment]) -> Launch:
        """Return a launch whose experiment names the very checkpoint that it starts from."""
        if not is_run(self.experiment.model.weights):
            return self
        weights = self.on_main_process(lambda: fix().model.weights)
        return replace(self, experiment=with_weights(self.experiment, weights))

    def _start(
        self, root: Path, original: Run | None = None, *, weights_as_written: str = ""
    ) -> Run:
        with ExitStack() as stack:
            stack.enter_context(_restore_torch_globals(self.experiment))
            if original:
                stack.enter_context(_recorded_threads(original))
            device = run_device(self.experiment)
            weights = InitialWeights()
            if self.collectives.is_main_process:
                if original:
                    weights = InitialWeights.read(recorded_weights(original))
                else:
                    source = weights_source(root, self.experiment.model.weights)
                    weights = InitialWeights.read(source, self.context.spec)
            table = self._load_table(device)
            if original:
                table = select_recorded_samples(original, table)
            # A rank whose data are wrong has raised by now: then no run directory is created.
            self.collectives.barrier()

            def create() -> str:
                run = self._create(root, original, table, device, weights, weights_as_written)
                stack.enter_context(lock.run_lock(run.directory))
                sessions.start_session(run)
                return str(run.directory)

            path = Path(self.on_main_process(create))
            run = self._execute(path, table, device, weights)
        return self._share_result(run)

    def _create(
        self, root: Path, original: Run | None, table: ImageTable, device: torch.device,
        weights: InitialWeights, weights_as_written: str,
    ) -> Run:  # fmt: skip
        """Create the directory of a run, after announcing an equal one."""
        weights_file = weights.source if weights.tables else ""
        contents = inputs.hash_contents(self.experiment, weights_file)
        twin = None if original else find_twin(root, self.experiment, table, contents)
        if twin:
            _log.warning("%s", describe_twin(twin, self.experiment.training.monitor))
        environment = {
            **describe_environment(self.experiment, self.context, device),
            "weights": weights.source,
            "weights_as_written": weights_as_written,
            "contents": contents,
            "parents": parents_of_repeat(original) if original else parents_of(weights.source),
            "large_files": inputs.hash_large_files(self.experiment),
        }
        files = {"weights": weights_file, "labels": table.source}
        return create_run(root, self.experiment, environment, self.context.text, files)

    def resume(
        self,
        run: Run,
        changes: tuple[str, ...] = (),
        allow_data_change: bool = False,
        allow_plugin_change: bool = False,
    ) -> Run:
        """Continue a run, unless it is finished."""
        fixed = self._fix_weights(lambda: as_recorded(self.experiment, run))
        return fixed._resume(run, changes, allow_data_change, allow_plugin_change)

    def _resume(
        self, run: Run, changes: tuple[str, ...], allow_data_change: bool, allow_plugin_change: bool
    ) -> Run:
        with ExitStack() as stack:
            stack.enter_context(_restore_torch_globals(self.experiment))

            def is_over() -> bool:
                if not is_finished(run, self.experiment):
                    stack.enter_context(lock.run_lock(run.directory))
                return is_finished(run, self.experiment)  # perhaps by the former holder of the lock

            if not self.on_main_process(is_over):
                device = run_device(self.experiment)
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
            samples = dataset.load_split_table(self.experiment.dataset, self.experiment.split)
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
            observers |= self.observers
            if not self.quiet:
                observers = with_console(observers, self.context.registry)
            main_only = {
                "weights": weights,
                "resumption": resumption,
                "observers": observers,
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
    experiment = as_recorded(experiment, run)
    if run.environment.get("id") != experiment.id or run.tables["name"] != experiment.name:
        return False
    if changed_files(run, experiment):
        return False
    return not is_finished(run, experiment) or has_same_content(run, experiment)


@contextmanager
def _recorded_threads(original: Run) -> Iterator[None]:
    """Let torch use as many threads as in a run, because another number changes the last digits."""
    before = torch.get_num_threads()
    threads = int(original.environment.get("numerics", {}).get("threads", before))
    if threads != before:
        _log.info("torch uses %s, as in %s", counted(threads, "thread"), original.id)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
