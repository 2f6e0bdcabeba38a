"""What a run needs to go on: its experiment, its data in its own order, and no drift."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightx.data.dataset import PreparedDataset
from sightx.errors import PluginError, Problem, RunError, SpecError, one_line
from sightx.evaluation import metrics
from sightx.records.history import History
from sightx.records.table import ImageTable
from sightx.registry import project, provenance
from sightx.registry.project import Project
from sightx.runs import checkpoints, compatibility, environment
from sightx.runs.compatibility import Difference
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment
from sightx.spec.load import examine
from sightx.training.state import State, from_json
from sightx.training.trainer import Trainer

_OVER = ("finished", "stopped")
_LATE = "came after the run began"
_log = logging.getLogger("sightx")


def stored_experiment(
    run: Run, changes: Sequence[str] = (), home: Project | None = None
) -> Experiment:
    """Return a run's experiment with overrides; rules that came after it do not judge it.

    `home` is its project, if that is known. Raises PluginError where a component is not
    installed, SpecError for an override.
    """
    examined = examine(run.directory / "experiment.toml", changes, home or _home(run))
    if examined.experiment is None:
        missing = [each for each in examined.problems if each.code == "unknown-name"]
        if missing:
            origins = run.environment.get("components", ())
            raise PluginError(
                *(provenance.add_recorded_owner(problem, origins) for problem in missing)
            )
        raise examined.failure or SpecError(*examined.problems)
    return examined.experiment


def is_finished(run: Run, experiment: Experiment) -> bool:
    """Say whether an experiment is what a run has finished."""
    return run.result.get("status") in _OVER and recorded_environment(run)["experiment"] == _plain(
        experiment
    )


def recorded_environment(run: Run) -> dict[str, Any]:
    """Return a run's environment. Raises RunError where it is missing or says nothing."""
    found = run.environment
    if not {"experiment", "components", "weights"} <= set(found):
        message = "environment.json does not say what the run was made with"
        raise RunError(Problem("no-run", message, "sightx run begins a new one", str(run.id)))
    return found


@dataclass
class Resumption:
    """Compare a run with what is there now, then let it go on where it stopped.

    `saved` is None for a run that stopped before its first state; it begins again.
    """

    run: Run
    experiment: Experiment
    device: torch.device
    changes: tuple[str, ...] = ()
    allow_data: bool = False
    allow_code: bool = False
    saved: State | None = None
    differences: list[Difference] = field(default_factory=list)

    def open(self) -> None:
        """Compare settings, code and machine, and read the newest state.

        Raises DriftError, or RunError where no state is whole. Nothing is changed yet.
        """
        before, now = (
            recorded_environment(self.run),
            environment.describe_environment(self.experiment, self.device),
        )
        identity = compatibility.compare_experiments(before["experiment"], now["experiment"])
        judged = {compatibility.EPOCHS, *(each.key for each in identity)}
        self._found(
            *identity,
            *compatibility.compare_settings(self.run.tables, self.experiment.tables(), judged),
            *compatibility.compare_code(
                before["components"], now["components"], allowed=self.allow_code
            ),
            *compatibility.compare_machines(before, now),
        )
        folder = self.run.directory / "checkpoints"
        if not checkpoints.list_states(folder):
            _log.warning("%s: it has no state, and begins again from the start", self.run.id)
            return
        self.saved = checkpoints.load_latest(folder)[1]
        if self.run.samples is None:
            message = "split.csv is gone: nothing says with which samples the run began"
            hint = "put it back; sightx run begins a new one"
            raise RunError(Problem("no-run", message, hint, str(self.run.id)))

    def table(self, opened: ImageTable) -> ImageTable:
        """Return the samples that the run knows, in its order and on its sides.

        What came later is left out, and remembered as left out. Raises DriftError where some are
        gone.
        """
        known = self.run.samples
        if known is None:
            return opened
        rows = {path: row for row, path in enumerate(opened.frame["path"])}
        compatibility.refuse_incompatible(
            compatibility.compare_missing([path for path in known["path"] if path not in rows])
        )
        taken = opened.take(np.array([rows[path] for path in known["path"]], dtype=int))
        taken = taken.with_frame(taken.frame.assign(split=known["split"].to_numpy()))
        before, old = self.run.data.get("skipped", {}), set(known["path"])
        late = {path: before.get(path, _LATE) for path in rows if path not in old}
        return replace(taken, skipped={**opened.skipped, **late})

    def judge(self, trainer: Trainer) -> None:
        """Compare data and epochs, once the data are read; say what differs, and record it.

        Raises DriftError; from here on the run goes on.
        """
        self._found(*self._data(trainer.dataset), *self._epochs(trainer))
        for each in self.differences:
            _log.warning("%s", one_line(f"{self.run.id}: {each}"))
        done = len(self.saved.record["history"]) if self.saved else 0
        before, now = (
            recorded_environment(self.run),
            environment.describe_environment(self.experiment, self.device),
        )
        kept = {key: before[key] for key in ("started", "overrides", "weights")}
        resumed = {
            "time": environment.timestamp(),
            "step": self.saved.record["step"] if self.saved else 0,
            "epoch": done,
            "overrides": list(self.changes),
            "differences": [str(each) for each in self.differences],
        }
        resumes = [*before.get("resumes", []), resumed]
        self.run.forget_result()
        self.run.cut_metrics(done)
        self.run.write_experiment(self.experiment)
        self.run.write_json("environment.json", {**now, **kept, "resumes": resumes})

    def _found(self, *differences: Difference) -> None:
        compatibility.refuse_incompatible(differences)
        self.differences += differences

    def _data(self, data: PreparedDataset) -> list[Difference]:
        known = self.run.samples
        if known is None:
            return []
        frame = data.table.frame[["path", "label"]].astype(str).assign(sha256=list(data.digests))
        before = self.run.data.get("skipped", {})
        new = [path for path in data.table.skipped if path not in before]
        classes = self.run.data.get("classes", data.table.classes)
        packed = self.run.data.get("packed", data.packed)
        return [
            *compatibility.compare_classes(classes, data.table.classes),
            *compatibility.compare_data(known, frame, new, allowed=self.allow_data),
            *compatibility.compare_packs(packed, data.packed, allowed=self.allow_data),
        ]

    def _epochs(self, trainer: Trainer) -> list[Difference]:
        if self.saved is None:
            return []
        record, training = self.saved.record, self.experiment.training
        classes = trainer.dataset.table.classes
        history = History(
            training.monitor, metrics.metric_directions(self.experiment.metric, classes)
        )
        for epoch in record["history"]:
            history = history.add(from_json(epoch))
        labels = trainer.dataset.table.labels[trainer.dataset.splits["train"]]
        order = self.experiment.sampler.order(labels, epoch=0, seed=self.experiment.seed)
        return compatibility.compare_epochs(
            recorded_environment(self.run)["experiment"]["training"]["epochs"],
            training.epochs,
            self.experiment.scheduler,
            history,
            record["step"],
            math.ceil(len(order) / training.batch_size),
        )


def _home(run: Run) -> Project:
    """Return a run's project: it lies there, or was begun there, or we are in it."""
    above = project.find_project(run.directory)
    place = Path(run.environment.get("project", ""))
    return above if above.plugins else project.find_project(place if place.is_dir() else Path.cwd())


def _plain(experiment: Experiment) -> Mapping[str, Any]:
    """Return an experiment's identity as JSON gives it back."""
    found: Mapping[str, Any] = json.loads(json.dumps(experiment.identity))
    return found
