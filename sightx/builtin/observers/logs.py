"""Files with more detail than metrics.jsonl: one row per step, the predictions of each epoch."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from sightx.plugin import Epoch, Predictions, RunInfo, Step

_STEPS = "steps.csv"


class StepLog(Observer):
    """Write loss, learning rates and gradient norm of steps into steps.csv.

    A row has the columns epoch, step, loss, grad_norm (before clipping) and lr/<group> for each
    parameter group. Rows are written at the end of every epoch, so that no step waits for them.
    """

    name = "step-log"
    other_names = ("csv", "CSVLogger")

    every: PositiveInt = 1
    """Write every so many steps."""

    def build(self, run: RunInfo) -> object:
        """Return an object that collects rows."""
        return _StepWriter(run, self.every)


class _StepWriter:
    """Collect the rows of an epoch; tensors stay on the device until they are written."""

    def __init__(self, run: RunInfo, every: int) -> None:
        self._run, self._every = run, every
        self._rows: list[tuple[Step, Mapping[str, float]]] = []
        self._norms: list[Tensor] = []

    @hookimpl
    def sightx_run_started(self, run: RunInfo) -> None:
        """Remove the rows of steps that a resumed run repeats."""
        resumes = run.environment.get("resumes")
        _drop_rows_after(run.directory / _STEPS, resumes[-1]["step"] if resumes else 0)

    @hookimpl
    def sightx_step_finished(self, step: Step, lrs: Mapping[str, float], grad_norm: Tensor) -> None:
        if step.step % self._every == 0:
            self._rows.append((step, lrs))
            self._norms.append(grad_norm)

    @hookimpl
    def sightx_epoch_finished(self) -> None:
        self._write()

    @hookimpl
    def sightx_checkpoint_written(self) -> None:
        """Write the rows that a run which ends now and is resumed would not repeat."""
        self._write()

    @hookimpl
    def sightx_run_finished(self) -> None:
        self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        import torch

        losses = torch.stack([step.loss.detach().float() for step, _ in self._rows]).tolist()
        norms = torch.stack(self._norms).tolist()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not (self._run.directory / _STEPS).is_file():
            names = [f"lr/{name}" for name in self._rows[0][1]]
            writer.writerow(["epoch", "step", "loss", "grad_norm", *names])
        for (step, lrs), loss, norm in zip(self._rows, losses, norms, strict=True):
            writer.writerow([step.epoch, step.step, loss, norm, *lrs.values()])
        self._run.log(_STEPS, text.getvalue())
        self._rows.clear()
        self._norms.clear()


def _drop_rows_after(file: Path, last: int) -> None:
    """Remove the rows of later steps than `last` from a file; without rows remove the file."""
    if not file.is_file():
        return
    header, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[1]) <= last]
    if kept:
        file.write_text("".join([header, *kept]), encoding="utf-8")
    else:
        file.unlink()


class EpochPredictions(Observer):
    """Write the validation predictions of epochs into predictions/epochs.

    Each epoch has a CSV file with the columns path, group, label and prediction, such as 0001.csv,
    and next to it the outputs and probabilities as .npy files.
    """

    name = "epoch-predictions"

    every: PositiveInt = 1
    """Write every so many epochs."""

    def build(self, run: RunInfo) -> object:
        """Return an object that writes."""
        return _PredictionWriter(self.every)


class _PredictionWriter:
    def __init__(self, every: int) -> None:
        self._every = every

    @hookimpl
    def sightx_validation_finished(
        self, run: RunInfo, epoch: Epoch, predictions: Predictions
    ) -> None:
        if epoch.number % self._every == 0:
            predictions.save(run.directory / "predictions" / "epochs" / f"{epoch.number:04}")
