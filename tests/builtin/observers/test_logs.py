from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import sightx
from sightx.builtin.observers.logs import EpochPredictions, StepLog
from sightx.plugin import hookimpl
from support.runs import only_run


def rows(run: sightx.Run) -> list[dict[str, str]]:
    with (run.directory / "steps.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Stopping:
    """Observer that records what it gets, and interrupts the run at a step."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.norms, self.lrs, self.validated = at, {}, {}, []
        self.batches: list[tuple[int, int, int]] = []

    @hookimpl
    def sightx_step_finished(self, step, lrs, grad_norm) -> None:
        self.norms[step.step] = float(grad_norm)
        self.lrs[step.step] = dict(lrs)
        if step.step == self.at:
            raise KeyboardInterrupt

    @hookimpl
    def sightx_validation_batch_finished(self, batch) -> None:
        self.batches.append((batch.epoch, batch.done, batch.total))

    @hookimpl
    def sightx_validation_finished(self, epoch, predictions) -> None:
        accuracy = float((predictions.decisions == predictions.labels).mean())
        assert epoch.metrics["validation/accuracy"] == pytest.approx(accuracy)
        for name in ("labels", "outputs", "probabilities", "decisions"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(predictions, name)[:] = 0
        self.validated.append((epoch.number, predictions.decisions.copy()))


def test_steps_and_predictions_of_every_epoch_are_written(spec: Path, tmp_path: Path) -> None:
    experiment = sightx.load(spec, ["optimizer.group=[{match=['*.bias'],lr=0.5}]"])
    watcher = Stopping()
    given = [StepLog(), EpochPredictions(every=2), watcher]
    run = sightx.run(experiment, observers=given, runs=tmp_path / "runs")
    assert "observers" not in run.result
    written = rows(run)
    assert list(written[0]) == ["epoch", "step", "loss", "grad_norm", "lr/*.bias", "lr/*"]
    assert [int(row["step"]) for row in written] == [1, 2, 3, 4, 5, 6]
    assert {int(row["step"]): float(row["grad_norm"]) for row in written} == watcher.norms
    assert {tuple(lrs) for lrs in watcher.lrs.values()} == {("*.bias", "*")}
    assert written[0]["lr/*.bias"] == "0.5"
    losses = [float(row["loss"]) for row in written[3:]]
    assert np.mean(losses) == pytest.approx(run.metrics["train/loss"][1])
    assert watcher.batches == [(1, 8, 12), (1, 12, 12), (2, 8, 12), (2, 12, 12)]
    folder = run.directory / "predictions" / "epochs"
    assert sorted(path.name for path in folder.iterdir()) == [
        "0002.csv", "0002.outputs.npy", "0002.probabilities.npy"
    ]  # fmt: skip
    assert np.load(folder / "0002.outputs.npy").argmax(1).tolist() == list(watcher.validated[1][1])


def test_a_resumed_run_has_every_step_once(spec: Path, tmp_path: Path) -> None:
    experiment = sightx.load(spec, ["observer=[{use='step-log'}]", "execution.save_every_steps=2"])
    with pytest.raises(KeyboardInterrupt):
        sightx.run(experiment, observers=[Stopping(at=5)], runs=tmp_path / "runs")
    run = sightx.resume(only_run(tmp_path / "runs"))
    assert [int(row["step"]) for row in rows(run)] == [1, 2, 3, 4, 5, 6]
