"""A run that was stopped goes on to the same bytes, whatever its plugins draw and measure."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightx import Experiment, NonFiniteError, PluginError
from sightx.builtin import losses, optimizers, schedulers
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Augment, History, Metric, Model, Sampler, Step, Stopping
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")
EPOCH = 4  # steps


class Always(nn.Module):
    """Dropout that evaluation does not end."""

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, 0.5, training=True)


class MonteCarlo(Model):
    """A network that draws in evaluation too."""

    name = "test-monte-carlo"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        inputs = channels * size[0] * size[1]
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), Always(), nn.Linear(8, outputs))


class Normed(Model):
    """A network of parts that never draw, with batch statistics."""

    name = "test-normed"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        inputs = channels * size[0] * size[1]
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs))


class Grain(Augment):
    """Noise from torch's own generator."""

    name = "test-grain"

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        return {}

    def apply(self, images: Tensor, targets: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        return (images + 0.2 * torch.rand(images.shape)).clamp(0, 1), targets


class Shaken(losses.CrossEntropy):
    """A loss that draws."""

    name = "test-shaken"

    def build(self, *, class_counts: Any) -> nn.Module:
        class Each(nn.Module):
            def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
                shaken = outputs + 0.1 * torch.randn(outputs.shape)
                return nn.functional.cross_entropy(shaken, targets, reduction="none")

        return Each()


class Odd(Metric):
    """A figure that is infinite in the first epoch, and rises from then on."""

    name = "test-odd"

    def values(self, classes: Any) -> Any:
        return {"odd": "max"}

    def compute(self, predictions: Any) -> Any:
        number = Odd.seen.setdefault(predictions.outputs.tobytes(), len(Odd.seen))
        return {"odd": number / 10 if number else math.inf}


Odd.seen = {}  # type: ignore[attr-defined]


class Content(Stopping):
    """Stop at a figure that cannot be beaten."""

    name = "test-content"

    def reason(self, history: History) -> str | None:
        return "infinite" if math.inf in history.series().values else None


def trainer(experiment: Experiment, samples: PreparedDataset) -> Trainer:
    classes, shape = len(samples.table.classes), samples.rows.shape
    module = build_module(experiment.model, experiment.loss, classes, shape, experiment.seed)
    return Trainer(experiment, samples, module, CPU)


def ended(made: Trainer) -> tuple[list[tuple[Any, ...]], dict[str, Tensor], Any]:
    """Return what the rest of a training says, its weights, and what it predicts in the end."""
    epochs = [
        (epoch.number, epoch.metrics, epoch.is_best, epoch.stop_reason) for epoch in made.epochs()
    ]
    predictions, loss = made.predict("validation")
    return epochs, made.module.state_dict(), (predictions.outputs.tolist(), loss)


@pytest.mark.parametrize("stop", [1, EPOCH, EPOCH + 1, 2 * EPOCH + 2])  # events: steps, epochs too
@pytest.mark.parametrize(
    "parts",
    [
        {"model": MonteCarlo()},
        {"model": Normed(), "augment": (Grain(),)},
        {"model": Normed(), "loss": Shaken()},
        {
            "metric": (Odd(),),
            "scheduler": schedulers.Plateau(patience=0),
            "stopping": Content(),
            "training": {"monitor": "validation/odd"},
        },
    ],
    ids=["network", "augment", "loss", "infinite"],
)
def test_a_stop_changes_nothing(
    experiment: Make, samples: PreparedDataset, parts: dict[str, Any], stop: int
) -> None:
    Odd.seen = {}  # type: ignore[attr-defined]
    epochs, weights, predicted = ended(trainer(experiment(**parts), samples))

    stopped = trainer(experiment(**parts), samples)
    heard = 0
    for event in stopped.events():
        heard += type(event).__name__ in ("Step", "Epoch")
        if heard == stop:
            break
    torch.manual_seed(99)  # another process has another generator
    resumed = trainer(experiment(**parts), samples)
    resumed.restore(copy.deepcopy(stopped.state()))
    rest, rest_weights, rest_predicted = ended(resumed)

    assert len(epochs) == 3
    assert rest
    assert rest == epochs[len(epochs) - len(rest) :]
    assert rest_predicted == predicted
    for name, value in weights.items():
        assert torch.equal(value, rest_weights[name]), name


def test_an_infinite_figure_is_told_and_never_the_best(
    experiment: Make, samples: PreparedDataset
) -> None:
    Odd.seen = {}  # type: ignore[attr-defined]
    made = trainer(
        experiment(metric=(Odd(),), training={"monitor": "validation/odd", "epochs": 3}), samples
    )
    epochs = list(made.epochs())
    assert epochs[0].metrics["validation/odd"] == math.inf
    assert math.isnan(made.history.series().values[0])
    assert [epoch.is_best for epoch in epochs] == [False, True, True]


def test_the_last_evaluation_of_a_network_that_draws_is_that_of_its_epoch(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(model=MonteCarlo()), samples)
    *_, last = made.epochs()
    _, loss = made.predict("validation")
    assert loss == last.metrics["validation/loss"]


def test_weights_that_are_not_finite_are_no_state(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(optimizer=optimizers.Sgd(lr=1e39)), samples)
    made.state()
    assert isinstance(next(made.events()), Step)
    with pytest.raises(NonFiniteError, match=r"non-finite weights after step 1: \w+"):
        made.state()


def test_statistics_that_a_loss_poisoned_are_no_state(  # T01
    experiment: Make, samples: PreparedDataset
) -> None:
    class Blank(Augment):
        name = "test-blank"

        def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
            return {}

        def apply(self, images: Tensor, targets: Tensor, params: Any) -> tuple[Tensor, Tensor]:
            return images * math.nan, targets

    made = trainer(experiment(model=Normed(), augment=(Blank(),)), samples)
    before = [weight.detach().clone() for weight in made.module.parameters()]
    with pytest.raises(NonFiniteError, match="loss at epoch 1 step 1"):
        next(made.events())
    assert made.module[1].running_mean.isnan().all()  # type: ignore[index, union-attr, operator]
    assert all(map(torch.equal, before, made.module.parameters()))
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="loss at epoch 1 step 1"):
            made.state()


class Uneven(Sampler):
    """Give as many samples as a list says, epoch by epoch."""

    name = "test-uneven"
    counts: tuple[int, ...]

    def order(self, labels: Any, *, epoch: int, seed: int) -> Any:
        return np.arange(self.counts[epoch])


@pytest.mark.parametrize("second", [0, 12, 23, 40])
def test_epochs_of_another_length_are_refused(
    experiment: Make, samples: PreparedDataset, second: int
) -> None:
    made = trainer(experiment(sampler=Uneven(counts=(24, second))), samples)
    epochs = made.epochs()
    next(epochs)
    with pytest.raises(
        PluginError, match=f"test-uneven gives {second} samples in epoch 2, not 24"
    ) as caught:
        next(epochs)
    assert caught.value.problems[0].code == "broken-plugin"


def test_epochs_without_samples_are_refused(experiment: Make, samples: PreparedDataset) -> None:
    with pytest.raises(PluginError, match="test-uneven gives 0 samples in epoch 1, not some"):
        trainer(experiment(sampler=Uneven(counts=(0,))), samples)
