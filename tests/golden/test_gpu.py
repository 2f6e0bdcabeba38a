"""Deterministic training on a CUDA device gives the recorded losses of that card."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
GOLDEN = runpy.run_path(str(HERE / "gpu_losses.py"))


def test_the_losses_do_not_depend_on_the_process() -> None:
    cpu = torch.device("cpu")
    losses = GOLDEN["losses"](cpu)
    assert losses == GOLDEN["losses"](cpu)
    assert {name: len(values) for name, values in losses.items()} == {"fp32": 12, "bf16": 12}


@pytest.mark.gpu
def test_losses_are_those_that_the_card_had() -> None:
    recorded = json.loads((HERE / "gpu.json").read_text())
    cuda = torch.device("cuda")
    losses, machine = GOLDEN["losses"](cuda), GOLDEN["machine"](cuda)
    assert losses == GOLDEN["losses"](cuda)
    if machine not in recorded:
        pytest.skip(f"gpu.json has no losses of {machine}: python tests/golden/gpu_losses.py")
    assert losses == recorded[machine]
