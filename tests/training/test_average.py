from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from sightx import PluginError
from sightx.builtin import averages, optimizers
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Average, Epoch, Model, Step
from sightx.spec.experiment import Execution
from sightx.training.average import WeightAverage
from sightx.training.trainer import Trainer
from support.training import Cnn, make_experiment, make_trainer, resumed, train_until

PER_EPOCH = 4  # steps


class Steady(Average):
    """An average with a constant share."""

    name = "test-steady"

    def share(self, step: int) -> float:  # type: ignore[override]
        return 0.25


def averaged_by_torch(trainer: Trainer, average: Average) -> AveragedModel:
    """Train to the end, and average as torch does in a plain loop, buffers too."""
    ema = isinstance(average, Steady)
    of_torch = get_ema_multi_avg_fn(0.75) if ema else get_swa_multi_avg_fn()

    def rule(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        if averaged[0].is_floating_point():  # torch's SWA fails for the counter of batches
            of_torch(averaged, current, count)

    reference = AveragedModel(trainer.module, multi_avg_fn=rule, use_buffers=True)
    reference.n_averaged += ema  # it begins with the initial weights
    for event in trainer.events():
        if isinstance(event, Step) and (ema or event.step in (2 * PER_EPOCH, 3 * PER_EPOCH)):
            reference.update_parameters(trainer.module)
    return reference


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("average", [Steady(), averages.Swa(start_epoch=1)])
def test_the_average_is_that_of_torch_to_the_bit_and_is_evaluated(
    dataset: PreparedDataset, average: Average
) -> None:
    trainer = make_trainer(make_experiment(model=Cnn(), average=average), dataset)
    reference = averaged_by_torch(trainer, average)
    state = trainer.state()
    expected = dict(reference.module.state_dict())
    expected["1.num_batches_tracked"] = trainer.module.state_dict()["1.num_batches_tracked"]
    assert_equal(dict(state.weights), expected)
    assert_equal(dict(state.training_weights), trainer.module.state_dict())

    plain = make_trainer(make_experiment(model=Cnn()), dataset, module=reference.module)
    predictions, loss = plain.predict("validation")
    assert trainer.validation is not None
    assert (trainer.validation.outputs == predictions.outputs).all()
    assert trainer.history.epochs[-1]["validation/loss"] == loss


@pytest.mark.parametrize("average", [averages.Ema(), averages.Swa(start_epoch=1)])
@pytest.mark.parametrize("stop", [2, PER_EPOCH, 2 * PER_EPOCH + 1])
def test_a_stop_changes_nothing(dataset: PreparedDataset, average: Average, stop: int) -> None:
    experiment = make_experiment(model=Cnn(), average=average, training={"micro_batch_size": 7})
    straight = make_trainer(experiment, dataset)
    expected = [epoch.metrics for epoch in straight.epochs()]
    second = resumed(
        train_until(make_trainer(experiment, dataset), stop), make_trainer(experiment, dataset)
    )
    metrics = [epoch.metrics for epoch in second.epochs()]
    assert metrics == expected[len(expected) - len(metrics) :]
    for name, tensors in straight.state().tensors.items():
        assert_equal(dict(tensors), dict(second.state().tensors[name]))
    assert straight.predict("validation")[1] == second.predict("validation")[1]


def test_the_average_is_the_same_for_any_micro_batch(dataset: PreparedDataset) -> None:
    parts: dict[str, Any] = {
        "average": averages.Ema(decay=0.8),
        "optimizer": optimizers.Sgd(lr=0.1),
    }
    whole, cut = (
        make_trainer(make_experiment(training={"micro_batch_size": size}, **parts), dataset)
        for size in (None, 5)
    )
    for trainer in (whole, cut):
        list(trainer.epochs())
    for name, value in whole.state().weights.items():
        torch.testing.assert_close(cut.state().weights[name], value, atol=1e-6, rtol=1e-5)


class Staged(Model):
    """A frozen first stage, whose outputs are cached, and a head."""

    name = "test-average-staged"
    trainable: tuple[str, ...] = ("1",)

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        width = 24 * size[0] * size[1]
        stem = nn.Sequential(nn.Conv2d(channels, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        return nn.Sequential(stem, nn.Sequential(nn.Flatten(), nn.Linear(width, outputs)))

    def stages(self, module: nn.Module) -> list[nn.Module]:
        return list(module.children())


def test_cached_features_lead_to_the_averaged_head(dataset: PreparedDataset) -> None:
    cached, plain = (
        make_trainer(
            make_experiment(
                model=Staged(), average=averages.Ema(), execution=Execution(cache_features=setting)
            ),
            dataset,
        )
        for setting in ("auto", "off")
    )
    for trainer in (cached, plain):
        assert [event for event in trainer.events() if isinstance(event, Epoch)]
    assert cached._features.route("validation")[1] is not plain._features.route("validation")[1]
    for name, value in plain.state().weights.items():
        torch.testing.assert_close(cached.state().weights[name], value, atol=1e-6, rtol=1e-5)
    assert cached.predict("validation")[1] == pytest.approx(plain.predict("validation")[1])


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("not today")

    with pytest.raises(PluginError, match="the network cannot be copied: not today"):
        WeightAverage(Stubborn(1, 1))


def test_a_copy_shares_no_memory_and_needs_no_gradient() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(module.state_dict())
    average = WeightAverage(module)
    assert not any(weight.requires_grad for weight in average.module.parameters())
    average.module[1].running_mean.fill_(3.0)  # type: ignore[index, union-attr, operator]
    assert_equal(module.state_dict(), before)
    average.update(1.0)
    assert_equal(dict(average.module.state_dict()), before)
