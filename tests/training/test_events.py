from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
import torch

from sightx import Experiment
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Epoch, Step, ValidationBatch
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer


def test_an_epoch_is_its_steps_then_its_validation_then_its_end(
    experiment: Callable[..., Experiment], samples: PreparedDataset
) -> None:
    made = experiment(training={"epochs": 2})
    module = build_module(made.model, made.loss, 3, (3, 6, 6), 0)
    events = list(Trainer(made, samples, module, torch.device("cpu")).events())
    kinds = "".join({Step: "s", ValidationBatch: "v", Epoch: "e"}[type(e)] for e in events)
    assert kinds == "ssssvve" * 2
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.step for step in steps] == list(range(1, 9))
    assert [step.samples for step in steps[:4]] == [16, 16, 16, 12]
    assert {step.steps_per_epoch for step in steps} == {4}
    last = [event for event in events if isinstance(event, ValidationBatch)][-1]
    assert (last.epoch, last.done, last.total) == (2, 30, 30)
    with pytest.raises(FrozenInstanceError):
        steps[0].step = 3  # type: ignore[misc]
