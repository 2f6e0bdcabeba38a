"""Runs in MLflow: settings as parameters, metrics by step, files as artifacts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sightx.errors import Problem, ResourceError, first_line
from sightx.run_registry.summary import Value
from sightx.trackers.shipper import EpochMetrics, ShippedRun, TrackerError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ID = "sightx.run"  # the tag by which a run is found again
_METRICS, _PARAMS, _VALUE, _DIGEST = 1000, 100, 6000, 36  # limits of MLflow's API
_ODD = re.compile(r"[^\w\-. /:]")  # characters that MLflow's names cannot have
_STATUS = {
    "running": "RUNNING", "finished": "FINISHED", "stopped": "FINISHED", "imported": "FINISHED",
    "failed": "FAILED",
}  # fmt: skip
_SETTINGS = {  # seconds and attempts, unless the user has set them: the shipper itself tries again
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowTracker:
    """A server of MLflow, or what else MLflow takes as a tracking URI.

    Args:
        server: The tracking URI; "" means MLFLOW_TRACKING_URI.
        experiment: The experiment there; "" means the name of the run.
    """

    name = "mlflow"

    def __init__(self, server: str = "", experiment: str = "") -> None:
        self.server = server or os.environ.get("MLFLOW_TRACKING_URI", "")
        self._experiment = experiment

    @cached_property
    def _client(self) -> MlflowClient:
        """Return a client; importing MLflow takes seconds. Raises ResourceError without it."""
        for key, value in _SETTINGS.items():
            os.environ.setdefault(key, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            hint = "pip install 'sightx[mlflow]'"
            raise ResourceError(Problem("missing-package", str(error), hint)) from error
        return MlflowClient(self.server or None)

    def begin(self, run: ShippedRun) -> str:
        """Return the id of a run that has our tag; create it if there is none."""
        with self._errors():
            name = self._experiment or str(run.environment.get("name") or run.id)
            experiment = self._find_experiment(name)
            wanted = f"tags.`{_ID}` = '{run.id}'"
            if existing := self._client.search_runs([experiment], wanted, max_results=1):
                return str(existing[0].info.run_id)
            created = self._client.create_run(
                experiment, run.started, {_ID: run.id, **_tags(run)}, run.id
            )
            return str(created.info.run_id)

    def send_settings(self, remote: str, settings: Mapping[str, Value]) -> None:
        """Send settings as parameters; a parameter cannot change: a new value becomes a tag."""
        from mlflow.entities import Param, RunTag

        with self._errors():
            known = self._client.get_run(remote).data.params
            values = {_name(key): str(value)[:_VALUE] for key, value in settings.items()}
            new = [Param(key, value) for key, value in values.items() if key not in known]
            for start in range(0, len(new), _PARAMS):
                self._client.log_batch(remote, params=new[start : start + _PARAMS])
            changed = [
                RunTag(f"changed.{key}", value)
                for key, value in values.items()
                if known.get(key, value) != value
            ]
            if changed:
                self._client.log_batch(remote, tags=changed)

    def send_epochs(self, remote: str, epochs: Sequence[EpochMetrics]) -> None:
        """Send metrics by step; MLflow stores one of two equal ones."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_name(key), value, epoch.time, epoch.step)
            for epoch in epochs
            for key, value in {"epoch": float(epoch.number), **epoch.metrics}.items()
        ]
        with self._errors():
            for start in range(0, len(metrics), _METRICS):
                self._client.log_batch(remote, metrics[start : start + _METRICS])

    def send_file(self, remote: str, file: Path, name: str) -> None:
        """Send a file as an artifact; a file of the same name is replaced."""
        folder = PurePosixPath(name).parent.as_posix()
        with self._errors():
            self._client.log_artifact(remote, str(file), None if folder == "." else folder)

    def set_status(self, remote: str, run: ShippedRun) -> None:
        """Send the status; of a run that has ended also its final metrics and its data."""
        with self._errors():
            self._send_final_metrics(remote, run)
            self._send_data(remote, run)
            status = _STATUS.get(run.status, "KILLED")
            if status == "RUNNING":
                self._client.update_run(remote, status)
            else:
                self._client.set_terminated(remote, status, run.ended or None)

    def _send_final_metrics(self, remote: str, run: ShippedRun) -> None:
        """Send the metrics of the chosen checkpoint, as `final/validation/qwk`."""
        from mlflow.entities import Metric

        final = {
            f"final/{key}": value
            for split in ("validation", "test")
            for key, value in run.result.get(split, {}).items()
            if isinstance(value, int | float)
        }
        if final:
            step = int(run.result.get("epoch", 0))
            metrics = [Metric(_name(key), value, run.ended, step) for key, value in final.items()]
            self._client.log_batch(remote, metrics)

    def _send_data(self, remote: str, run: ShippedRun) -> None:
        from mlflow.entities import Dataset, DatasetInput

        if digest := str(run.data.get("id", "")):
            name = str(run.settings.get("dataset.use", "data"))
            source = str(run.data.get("source", ""))
            data = Dataset(name, digest[:_DIGEST], "local", source)
            self._client.log_inputs(remote, [DatasetInput(data, [])])

    def _find_experiment(self, name: str) -> str:
        """Return the id of an experiment, which another process may create at the same time."""
        from mlflow.exceptions import MlflowException

        if (experiment := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                if (experiment := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(experiment.experiment_id)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise whatever the client raises as TrackerError."""
        client: Any = self._client
        try:
            yield
        except Exception as error:
            where = self.server or client.tracking_uri
            raise TrackerError(f"{where}: {first_line(error)}") from error


def _tags(run: ShippedRun) -> dict[str, str]:
    environment = run.environment
    tags = {
        "mlflow.user": environment.get("user"),
        "mlflow.source.name": "sightx",
        "mlflow.source.git.commit": environment.get("commit"),
        "sightx.host": environment.get("host"),
        "sightx.experiment": environment.get("id"),
    }
    return {key: str(value) for key, value in tags.items() if value}


def _name(key: str) -> str:
    """Return a key as MLflow accepts it; other characters become their number."""
    return _ODD.sub(lambda match: f"_{ord(match[0]):x}_", key)
