"""Where an experiment, a run directory, signals and observers meet."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightx.data import pixels, samples
from sightx.data.samples import Samples
from sightx.data.table import SPLITS, ImageTable
from sightx.errors import Problem, ResourceError, SightXError
from sightx.evaluation import figures
from sightx.inference.recipe import Recipe
from sightx.registry.blame import blamed
from sightx.registry.observers import Observers
from sightx.runs import checkpoints, directory, environment
from sightx.runs.directory import Run
from sightx.runs.index import find
from sightx.runs.signals import Asked, Interrupted, listening
from sightx.spec import checks
from sightx.spec.experiment import Experiment
from sightx.training.build import build_module, choose_device
from sightx.training.events import Epoch, Step
from sightx.training.trainer import Trainer
from sightx.training.weights import initialise

_TURNS = threading.Lock()  # torch seeds and counts threads for the whole process
_log = logging.getLogger("sightx")


def table(experiment: Experiment) -> ImageTable:
    """Return an experiment's samples, excluded rows left out, each row dealt to a side.

    Raises DataError.
    """
    return samples.open_table(experiment.dataset, experiment.split)


def run(
    experiment: Experiment,
    *,
    observers: Mapping[str, Any] | None = None,
    runs: Path | None = None,
    progress: pixels.Progress | None = None,
) -> Run:
    """Execute an experiment and return its run.

    `observers` are components that watch beside those of the spec, by name; `runs` is the folder
    of runs; `progress` hears (done, of) while images are prepared. Runs of one process take turns.
    Raises SightXError; whatever happens after the directory is made is recorded there.
    """
    with _TURNS, _left_as_found(experiment):
        device = choose_device(experiment.execution.device)
        checks.enforce(experiment, "device", device=device)
        opened = table(experiment)
        checks.enforce(experiment, "data", table=opened)
        root = runs or (experiment.origin.project.runs if experiment.origin else Path("runs"))
        weights = _source(root, experiment.model.weights)
        described = {**environment.describe(experiment, device), "weights": weights}
        made = directory.create(root, experiment, described)
        execution = _Execution(experiment, made, device, observers or {})
        with execution.recorded(), listening() as asked:
            execution.go(opened, weights, progress, asked)
    return made


class _Execution:
    """Carry one experiment through: data, training, evaluation, result."""

    def __init__(
        self, experiment: Experiment, made: Run, device: torch.device, watching: Mapping[str, Any]
    ) -> None:
        self.experiment, self.run, self.device = experiment, made, device
        self._watching = {item.name: item for item in experiment.observer} | dict(watching)
        self.observers = Observers({}, self._warn)
        self.result: dict[str, Any] = {"status": "failed"}
        self._started = time.perf_counter()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the result, whatever happens; a failure's traceback goes to error.log."""
        try:
            yield
        except Interrupted as interrupted:
            self.result |= {"status": "interrupted", "signal": interrupted.number}
        except BaseException as error:
            origin = self.experiment.origin
            failure = _expected(error) or blamed(error, origin.registry if origin else None)
            self.result["error"] = str(failure or f"{type(error).__name__}: {error}")
            with suppress(OSError, ResourceError):  # a full disk must not hide what came first
                self.run.log("error.log", traceback.format_exc())
                self._finish()
            if failure is None or failure is error:
                raise
            raise failure from error
        self._finish()

    def go(
        self, opened: ImageTable, weights: str, progress: pixels.Progress | None, asked: Asked
    ) -> None:
        """Do everything between the directory and its result."""
        # 1. The network, with fresh or given weights: what is wrong with it is said at once.
        self.observers = Observers(self._built(), self._warn)
        module = self._module(opened, weights)
        # 2. Every image is read and prepared before the first step.
        data = self._prepare(opened, _until(asked, progress))
        trainer = Trainer(self.experiment, data, module, self.device)
        self._describe(data, module)
        self.observers.tell("sightx_run_started", experiment=self.experiment, run=self.run)
        # 3. The loop, until it ends or somebody asks it to.
        self._train(trainer, asked)
        # 4. The figures that count, from the best weights.
        self._evaluate(trainer)

    def _built(self) -> dict[str, object]:
        """Return what observers build; one that fails to is dropped with a warning."""
        built = {}
        for name, observer in self._watching.items():
            try:
                built[name] = observer.build(self.run)
            except Exception as error:
                self._warn(f"observer {name} is dropped: {type(error).__name__}: {error}")
        return built

    def _warn(self, text: str) -> None:
        self.run.log("console.log", text + "\n")
        _log.warning("%s", text)

    def _prepare(self, opened: ImageTable, progress: pixels.Progress | None) -> Samples:
        data = samples.prepare(
            opened,
            self.experiment.dataset,
            self.experiment.prepare,
            threads=self.experiment.execution.threads,
            progress=progress,
            faults=self.run.directory / "bad-images.csv",
        )
        self.run.write_split(data.table.frame)
        return data

    def _module(self, opened: ImageTable, weights: str) -> nn.Module:
        model, loss = self.experiment.model, self.experiment.loss
        shape = pixels.output_shape(self.experiment.prepare)
        module = build_module(model, loss, len(opened.classes), shape, self.experiment.seed)
        initialise(model, module, weights)
        return module

    def _describe(self, data: Samples, module: nn.Module) -> None:
        """Record what the data are and how large the network is."""
        weights = list(module.parameters())
        self.run.write_json(
            "data.json",
            {
                "id": data.id,
                "source": Path(data.table.source).name,
                "classes": data.table.classes,
                "ordered": data.table.ordered,
                "samples": len(data.table),
                "counts": {side: data.counts(side) for side in SPLITS},
                "skipped": data.table.skipped,
                "weights": sum(weight.numel() for weight in weights),
                "trainable": sum(w.numel() for w in weights if w.requires_grad),
            },
        )

    def _train(self, trainer: Trainer, asked: Asked) -> None:
        steps, epoch = self.observers.listens("sightx_step_finished"), 0
        for event in trainer.events():
            if isinstance(event, Step):
                if event.epoch != epoch:
                    epoch = event.epoch
                    self.observers.tell("sightx_epoch_started", run=self.run, epoch=epoch)
                if steps:
                    self.observers.tell("sightx_step_finished", run=self.run, step=event)
            elif isinstance(event, Epoch):
                self._epoch(trainer, event)
            if asked.number:
                self._checkpoint(trainer, ["last"])
                raise Interrupted(asked.number)
        self.result["status"] = "stopped" if "reason" in self.result else "finished"

    def _epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        policies = self.experiment.checkpoint
        names = {name for policy in policies for name in policy.keep(trainer.history)}
        if any(policy.name == "best" for policy in policies):  # it may follow another figure
            epoch = replace(epoch, best="best" in names)
        row = {"epoch": epoch.number, "step": epoch.step, "rate": epoch.rate}
        self.run.write_epoch({**row, "seconds": round(epoch.seconds, 3), **epoch.metrics})
        self.observers.tell("sightx_epoch_finished", run=self.run, epoch=epoch)
        self._checkpoint(trainer, sorted(names))
        if epoch.stop:
            self.result["reason"] = epoch.stop

    def _checkpoint(self, trainer: Trainer, names: Sequence[str]) -> None:
        if not names:
            return
        table = trainer.samples.table
        recipe = Recipe.of(
            self.experiment,
            classes=table.classes,
            ordered=table.ordered,
            shape=pixels.output_shape(self.experiment.prepare),
            statistics=trainer.statistics,
            decisions=trainer.decisions,
        )
        path = self.run.write_checkpoint(trainer.state(), recipe.tables(), list(names))
        self.observers.tell("sightx_checkpoint_written", run=self.run, checkpoint=path.name)

    def _evaluate(self, trainer: Trainer) -> None:
        """Score validation and test with the best checkpoint, or with the last without one."""
        name = "best" if "best" in self.run.checkpoints else "last"
        saved = checkpoints.load(self.run.checkpoint(name))
        trainer.use(saved)
        self.result |= {"checkpoint": name, "epoch": len(saved.record["history"])}
        sides = ["validation", *(["test"] if self.experiment.evaluation.test == "end" else [])]
        for side in sides:
            if len(trainer.samples.sides[side]):
                predictions, loss = trainer.predict(side)
                self.run.write_predictions(side, predictions)
                scored = figures.figures(predictions, self.experiment.metric, side)
                self.result[side] = {f"{side}/loss": loss, **scored}

    def _finish(self) -> None:
        self.result["seconds"] = round(time.perf_counter() - self._started, 3)
        self.run.write_json("result.json", self.result)
        self.observers.tell("sightx_run_finished", run=self.run, result=self.result)


def _source(root: Path, weights: str) -> str:
    """Return where weights come from; `run:ID` is the file of that run's best checkpoint."""
    if not weights.startswith("run:"):
        return weights
    found, name = find(root, weights.removeprefix("run:"))
    return str(found.checkpoint(name) / "model.safetensors")


@contextmanager
def _left_as_found(experiment: Experiment) -> Iterator[None]:
    """Give a caller back what torch keeps for the whole process: draws, and the flag."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(experiment.execution.deterministic)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)


def _until(asked: Asked, progress: pixels.Progress | None) -> pixels.Progress:
    """Return a report of progress that a signal ends."""

    def report(done: int, of: int) -> None:
        if progress:
            progress(done, of)
        if asked.number:
            raise Interrupted(asked.number)

    return report


def _expected(error: BaseException) -> SightXError | None:
    """Return the failure that an error stands for, or None for one that nobody expected."""
    if isinstance(error, SightXError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        hint = "lower training.micro_batch, or prepare.resize.size"
        return ResourceError(Problem("out-of-memory", str(error).split(". ")[0], hint))
    return None
