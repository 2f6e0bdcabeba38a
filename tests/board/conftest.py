"""Runs with curves, as many as a test wants, without training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from support.run_folders import write_run

MODELS = ("simplenet", "resnet50")
RATES = (0.001, 0.003, 0.01)


def write_runs(root: Path, count: int, epochs: int = 4) -> None:
    """Write runs of 5 seeds, 3 learning rates and 2 models; the accuracy grows with the number."""
    for number in range(count):
        accuracy = number / (count + 1)
        settings = {
            "seed": number % 5,
            "optimizer.lr": RATES[number // 5 % 3],
            "model.use": MODELS[number // 15 % 2],
            "training.epochs": epochs,
            "training.monitor": "validation/accuracy",
        }
        metrics = {"validation/accuracy": accuracy, "test/accuracy": accuracy / 2}
        run = write_run(root, f"{number:06}-little", settings, metrics)
        rows = (
            {
                "epoch": epoch, "step": 10 * epoch, "lr": 0.1, "seconds": 3.0,
                "train/loss": math.exp(-epoch) + number / count,
                "validation/accuracy": accuracy * epoch / epochs,
                "validation/recall/a": 0.5,
            }
            for epoch in range(1, epochs + 1)
        )  # fmt: skip
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def make_runs(tmp_path: Path) -> Callable[[int], Path]:
    """Write runs into a folder, and return it."""

    def make(count: int) -> Path:
        write_runs(tmp_path / "runs", count)
        return tmp_path / "runs"

    return make
