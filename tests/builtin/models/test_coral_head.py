from __future__ import annotations

import torch

from sightx.builtin.models.coral_head import CoralHead
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.builtin.ordinal_losses import Coral


def test_coral_head_adds_one_bias_per_threshold_to_one_score() -> None:
    module = CoralHead(base=SimpleCnn(widths=(4,))).build(channels=3, outputs=4, size=(8, 8))
    outputs = module(torch.rand(6, 3, 8, 8))
    assert outputs.shape == (6, 4)
    differences = outputs - outputs[:, :1]
    torch.testing.assert_close(differences, differences[:1].expand(6, 4))
    torch.testing.assert_close(differences[0], torch.tensor([0.0, -0.25, -0.5, -0.75]))
    losses = Coral().build(class_counts=[1] * 5)(outputs, torch.tensor([0, 1, 2, 3, 4, 0]))
    losses.sum().backward()
    assert module.get_submodule("biases").bias.grad.abs().min() > 0


def test_coral_head_passes_on_what_the_base_declares() -> None:
    model = CoralHead(base=ResNet50(), weights="imagenet")
    assert model.channels_last == ResNet50().channels_last
    assert model.normalization() == ResNet50(weights="imagenet").normalization()
    with torch.device("meta"):
        module = model.build(channels=3, outputs=4, size=(32, 32))
    assert model.head_parts(module) == ["base.head", "biases"]
    assert model.stages(module)[-1] is module.get_submodule("biases")
