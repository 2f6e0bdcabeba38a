"""Losses of deterministic training on a CUDA device, as JSON: `python tests/golden/gpu_losses.py`.

`benchmarks/gpu.py` prints them too. To keep those of a card, paste the line into `gpu.json`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from sightx.builtin import augment
from sightx.spec.experiment import Execution
from support.training import Cnn, make_dataset, make_experiment, make_trainer, train


def losses(device: torch.device) -> dict[str, list[float]]:
    """Return the loss of every step of 3 epochs, for each precision."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    try:
        return {precision: _losses(device, precision) for precision in ("fp32", "bf16")}
    finally:
        torch.use_deterministic_algorithms(False)


def _losses(device: torch.device, precision: str) -> list[float]:
    experiment = make_experiment(
        model=Cnn(),
        augment=(augment.Flip(), augment.Rotate(degrees=9)),
        execution=Execution(deterministic=True),
        training={"precision": precision},
    )
    return train(make_trainer(experiment, make_dataset(), device))[0]


def machine(device: torch.device) -> str:
    """Name the card and the version that may decide the last bits of a float."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    return f"{name}, torch {torch.__version__}"


if __name__ == "__main__":
    chosen = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    print(json.dumps({machine(chosen): losses(chosen)}))
