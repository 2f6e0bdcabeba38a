from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from sightx.builtin.models.simplenet import SimpleNet


def test_default_is_12288_84_50_2_for_small_photographs() -> None:
    network = SimpleNet().build(channels=3, outputs=2, size=(64, 64))
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    assert shapes == {
        "hidden1.weight": (84, 12288),
        "hidden1.bias": (84,),
        "hidden2.weight": (50, 84),
        "hidden2.bias": (50,),
        "head.weight": (2, 50),
        "head.bias": (2,),
    }


def test_forward_is_the_perceptron_by_hand() -> None:
    network = SimpleNet(hidden=(6,)).build(channels=2, outputs=3, size=(4, 5))
    images = torch.randn(7, 2, 4, 5)
    weights = network.state_dict()
    inner = (images.reshape(7, 40) @ weights["hidden1.weight"].T + weights["hidden1.bias"]).relu()
    outputs = inner @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(network(images), outputs)


@pytest.mark.parametrize("text", ['{"hidden": [0]}', '{"hidden": [8.0]}', '{"hiden": [8]}'])
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        SimpleNet.model_validate_json(text)


def test_spec_table_is_read() -> None:
    assert SimpleNet.model_validate_json('{"hidden": [7, 6]}').hidden == (7, 6)
