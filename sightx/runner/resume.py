"""Resuming a run: its recorded experiment, and what differs between then and now."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightx.data import dataset
from sightx.data.dataset import PreparedDataset
from sightx.errors import DataError, PluginError, Problem, RunError, SpecError, one_line
from sightx.evaluation import metrics
from sightx.io.system import utc_time
from sightx.records.history import History
from sightx.records.table import ImageTable
from sightx.registry import provenance
from sightx.registry.project import Project
from sightx.runs import checkpoints, compatibility, environment, inputs, sessions
from sightx.runs.compatibility import Difference
from sightx.runs.directory import Run
from sightx.runs.lookup import find_run_project
from sightx.runs.names import failure_without_state
from sightx.spec.experiment import Context, Experiment
from sightx.spec.load import examine
from sightx.training.schedule import Schedule
from sightx.training.state import State, from_json

if TYPE_CHECKING:
    import pandas as pd

_KEPT = ("started", "parents", "overrides", "weights", "weights_as_written", "copies",
         "large_files", "contents")  # fmt: skip
"""The keys of environment.json that say how a run was started."""
_FINISHED = ("finished", "stopped")
_ADDED_LATER = "was added after the run began"
_log = logging.getLogger("sightx")


def stored_experiment(
    run: Run, changes: Sequence[str] = (), project: Project | None = None
) -> Experiment:
    """Return the experiment of a run; checks that are newer than the run are not applied.

    `changes` are overrides, `key=value`; `project` is the run's project, None searches for it.
    Raises PluginError if a component is not installed, SpecError if an override is wrong, RunError
    if the run was imported.
    """
    run.require_experiment()
    path = run.directory / "experiment.toml"
    examined = examine(path, changes, project or find_run_project(run))
    if examined.experiment is not None:
        return examined.experiment
    unknown = [problem for problem in examined.problems if problem.code == "unknown-name"]
    if unknown:
        origins = run.environment.get("components", ())
        raise PluginError(*(provenance.add_recorded_owner(problem, origins) for problem in unknown))
    raise examined.failure or SpecError(*examined.problems)


def recorded_environment(run: Run) -> dict[str, Any]:
    """Return environment.json of a run. Raises RunError if it is missing or incomplete."""
    recorded = run.environment
    if not {"experiment", "components", "weights"} <= set(recorded):
        message = "environment.json does not say how the run was started"
        raise RunError(Problem("no-run", message, "sightx run starts a new one", str(run.id)))
    return recorded


def recorded_weights(run: Run) -> str:
    """Return where the first weights of a run come from: its copy of the file if there is one."""
    recorded = recorded_environment(run)
    return inputs.resolve(run.directory, recorded.get("copies", {}).get("weights", "")) or str(
        recorded["weights"]
    )


def changed_files(run: Run, experiment: Experiment) -> list[Difference]:
    """Return the files that an experiment names whose content differs from those of the run.

    Large files of the run's own experiment are not compared: a run needs them only to start.
    """
    before, now = run.tables, inputs.tables_with_copies(run.directory, experiment)
    hashes = run.environment.get("large_files", {})
    if experiment.context.path == (run.directory / "experiment.toml").absolute():
        hashes = {}
    return [
        *compatibility.compare_files(before, now),
        *compatibility.compare_large_files(hashes, inputs.hash_large_files(experiment)),
    ]


def recorded_samples(run: Run) -> pd.DataFrame:
    """Return the samples of a run. Raises RunError if they are not known."""
    if (samples := run.samples) is not None:
        return samples
    message = "split.csv is missing: the samples of the run are unknown"
    hint = "restore the file, or start a new run with sightx run"
    raise RunError(Problem("no-run", message, hint, str(run.id)))


def is_finished(run: Run, experiment: Experiment) -> bool:
    """Return whether a run has ended by itself, with exactly this experiment."""
    identity = json.loads(json.dumps(experiment.identity))  # as JSON gives it back
    is_same = recorded_environment(run)["experiment"] == identity
    return run.result.get("status") in _FINISHED and is_same


def has_same_content(run: Run, experiment: Experiment, table: ImageTable | None = None) -> bool:
    """Return whether a run had the data and the splits of an experiment.

    The experiment id leaves out where the data are. Data that cannot be read now count as equal.
    `table` are the samples of the experiment if they are loaded already.
    """
    recorded = run.samples
    if recorded is None:
        return True
    try:
        table = table or dataset.load_split_table(experiment.dataset, experiment.split)
        hashes = dataset.content_hashes(experiment, table)
    except DataError:
        return True
    skipped = run.data.get("skipped", {})
    names = ("path", "label", "split", *(name for name in table.columns if name in recorded))
    columns = (table.frame[name].astype(str) for name in names)
    samples = {row for row in zip(*columns, hashes, strict=True) if row[0] not in skipped}
    return samples == set(zip(*(recorded[name] for name in (*names, "sha256")), strict=True))


def select_recorded_samples(run: Run, table: ImageTable) -> ImageTable:
    """Return the samples that a run started with, in its order and with its splits.

    Samples that were added later are skipped, with a reason. A run that has not recorded its
    samples yet gets the whole table. Raises IncompatibleResumeError if samples are missing.
    """
    recorded = run.samples
    if recorded is None:
        return table
    rows = {path: row for row, path in enumerate(table.frame["path"])}
    missing = [path for path in recorded["path"] if path not in rows]
    compatibility.raise_if_refused(compatibility.compare_missing(missing))
    selected = table.take(np.array([rows[path] for path in recorded["path"]], dtype=int))
    selected = selected.with_frame(selected.frame.assign(split=recorded["split"].to_numpy()))
    reasons, known = run.data.get("skipped", {}), set(recorded["path"])
    added = {path: reasons.get(path, _ADDED_LATER) for path in rows if path not in known}
    return replace(selected, skipped={**table.skipped, **added})


@dataclass
class Resumption:
    """Compare a run as it was recorded with what it would be now, and record that it continues.

    Every check raises IncompatibleResumeError for a difference that would change the results, and
    leaves the run unchanged. `state` is None until `load_state`, and for a run that stopped before
    its first checkpoint.
    """

    run: Run
    experiment: Experiment
    context: Context
    device: torch.device
    changes: tuple[str, ...] = ()
    allow_data_change: bool = False
    allow_plugin_change: bool = False
    state: State | None = None
    differences: list[Difference] = field(default_factory=list)

    def check_experiment(self) -> None:
        """Compare settings, components and environment."""
        before, now = recorded_environment(self.run), self._environment()
        identity = compatibility.compare_experiments(before["experiment"], now["experiment"])
        files = changed_files(self.run, self.experiment)
        compared = {compatibility.EPOCHS, *(difference.key for difference in (*identity, *files))}
        tables = inputs.tables_with_copies(self.run.directory, self.experiment)
        self._add(
            *identity,
            *(difference for difference in files if difference not in identity),
            *compatibility.compare_settings(self.run.tables, tables, compared),
            *compatibility.compare_components(
                before["components"], now["components"], allowed=self.allow_plugin_change
            ),
            *compatibility.compare_environments(before, now),
        )

    def load_state(self) -> None:
        """Load the newest checkpoint. Raises RunError if all are damaged."""
        folder = self.run.directory / "checkpoints"
        if not checkpoints.list_checkpoints(folder):
            reason = failure_without_state(self.run.directory)
            why = f"failed before its first checkpoint: {reason}" if reason else "has no checkpoint"
            text = f"{self.run.id}: it starts from the beginning, because it {why}"
            _log.warning("%s", one_line(text))
            return
        self.state = checkpoints.load_latest(folder)[1]
        recorded_samples(self.run)

    def check_data(self, data: PreparedDataset) -> None:
        """Compare the prepared data and the number of epochs."""
        self._add(*self._compare_data(data), *self._compare_epochs(data))

    def record(self) -> None:
        """Log the differences, and record in the run directory that the run continues."""
        for difference in self.differences:
            _log.warning("%s", one_line(f"{self.run.id}: {difference}"))
        before, now = recorded_environment(self.run), self._environment()
        kept = {key: before[key] for key in _KEPT if key in before}
        epochs = len(self.state.record["history"]) if self.state else 0
        resumed = {
            "time": utc_time(),
            "step": self.state.record["step"] if self.state else 0,
            "epoch": epochs,
            "overrides": list(self.changes),
            "differences": [str(difference) for difference in self.differences],
        }
        resumes = [*before.get("resumes", []), resumed]
        if self.state:
            checkpoints.require_space(self.run.directory, self.state)
        with self.run.remove_result():
            self.run.truncate_metrics(epochs)
            self.run.write_experiment(self.experiment)
            self.run.write_json("environment.json", {**now, **kept, "resumes": resumes})
            sessions.start_session(self.run)

    def _environment(self) -> dict[str, Any]:
        return environment.describe_environment(self.experiment, self.context, self.device)

    def _add(self, *differences: Difference) -> None:
        compatibility.raise_if_refused(differences)
        self.differences += differences

    def _compare_data(self, data: PreparedDataset) -> list[Difference]:
        recorded, table = self.run.samples, data.table
        if recorded is None:
            return []
        names = ["path", "label", *table.columns]
        samples = table.frame[names].astype(str).assign(sha256=list(data.hashes))
        facts = self.run.data
        added = [path for path in table.skipped if path not in facts.get("skipped", {})]
        allowed = self.allow_data_change
        return [
            *compatibility.compare_classes(facts.get("classes", table.classes), table.classes),
            *compatibility.compare_samples(recorded, samples, added, allowed=allowed),
            *compatibility.compare_packs(
                facts.get("packed", data.packed), data.packed, allowed=allowed
            ),
        ]

    def _compare_epochs(self, data: PreparedDataset) -> list[Difference]:
        if self.state is None:
            return []
        experiment, record = self.experiment, self.state.record
        directions = metrics.metric_directions(experiment.metric, data.table.classes)
        history = History(experiment.training.monitor, directions)
        for epoch, seconds in zip(record["history"], record["seconds"], strict=False):
            history = history.add(from_json(epoch), seconds)
        epochs = recorded_environment(self.run)["experiment"]["training"]["epochs"]
        if epochs == experiment.training.epochs:
            return []
        samples = (data.table, data.splits["train"])
        before = Schedule(experiment, *samples, epochs=epochs)
        now = Schedule(experiment, *samples)
        return compatibility.compare_epochs(before, now, history, record["step"])
