"""What the observer writes, as TensorBoard's own reader and server see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import sightx
from support.runs import StopAt, epochs_of

pytest.importorskip("tensorboard", reason="pip install 'sightx[tensorboard]'")

pytestmark = pytest.mark.filterwarnings("default")


def read(run: sightx.Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.directory))
    events.Reload()
    return events


def test_metrics_settings_and_plots_are_those_of_the_run(spec: Path, tmp_path: Path) -> None:
    changes = ["training.epochs=3", "observer=[{use='tensorboard'}]"]
    experiment = sightx.load(spec, changes)
    stopped = sightx.run(experiment, observers=[StopAt(4)], runs=tmp_path / "runs")
    run = sightx.resume(stopped)
    assert "observers" not in run.result
    events = read(run)
    for key in ("train/loss", "validation/accuracy"):
        points = [(event.step, event.value) for event in events.Scalars(key)]
        rows = [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in epochs_of(run)]
        assert points == rows
    (final,) = events.Scalars("final/test/accuracy")[-1:]
    assert final.value == pytest.approx(run.result["test"]["test/accuracy"])
    assert "plots/curves" in events.Tags()["images"]
    assert (
        events.Images("plots/curves")[-1].encoded_image_string
        == (run.directory / "plots" / "curves.png").read_bytes()
    )
    assert "_hparams_/experiment" not in events.summary_metadata
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.slow  # it starts a server
def test_a_server_shows_the_keys_of_all_runs(spec: Path, tmp_path: Path) -> None:
    models = ["{use='simplenet', hidden=[4]}", "{use='simple-cnn', widths=[2]}"]
    for model in models:
        changes = ["observer=[{use='tensorboard'}]", f"model={model}", "training.epochs=1"]
        sightx.run(sightx.load(spec, changes), runs=tmp_path / "runs")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "runs"),
               "--port", "0", "--host", "127.0.0.1", "--load_fast=false"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = next(
                match[0]
                for line in process.stderr
                if (match := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            keys = hparam_keys(address)
        finally:
            process.kill()
    assert {"model.hidden", "model.widths", "optimizer.lr"} <= keys


def hparam_keys(address: str) -> set[str]:
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/experiment",
        json.dumps({"experimentName": ""}).encode(),
        {"Content-Type": "application/json"},
    )
    for _ in range(60):
        with urllib.request.urlopen(request, timeout=30) as answer:
            experiment = json.load(answer)
        keys = {info["name"] for info in experiment["hparamInfos"]}
        if {"model.hidden", "model.widths"} <= keys:
            return keys
    return keys
