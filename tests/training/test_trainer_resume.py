"""A stopped training continues to the same bytes, whatever its components draw and measure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightx import NonFiniteError, PluginError
from sightx.builtin import (
    augment,
    averages,
    losses,
    mix,
    optimizers,
    samplers,
    schedulers,
    stopping,
)
from sightx.data.dataset import PreparedDataset
from sightx.plugin import (
    Augment,
    Epoch,
    History,
    Metric,
    Model,
    ParamGroup,
    Sampler,
    Step,
    Stopping,
)
from sightx.training import meters
from sightx.training.trainer import Trainer
from support.training import (
    AlwaysDropout,
    Cnn,
    assert_same_weights,
    make_experiment,
    make_trainer,
    resumed,
    train_until,
)

EPOCH = 4  # steps


class MonteCarlo(Model):
    """A network that draws in its own module, in evaluation too."""

    name = "test-monte-carlo"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        inputs = channels * size[0] * size[1]
        return nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 8), AlwaysDropout(), nn.Linear(8, outputs)
        )


class Normed(Model):
    """A network with batch statistics that does not draw."""

    name = "test-normed"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        inputs = channels * size[0] * size[1]
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs))


class Noise(Augment):
    """Noise from torch's own generator."""

    name = "test-noise"

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        return {}

    def apply(self, images: Tensor, targets: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        return (images + 0.2 * torch.rand(images.shape)).clamp(0, 1), targets


class NoisyLoss(losses.CrossEntropy):
    """A loss that draws."""

    name = "test-noisy-loss"

    def build(self, *, class_counts: Any) -> nn.Module:
        class PerSample(nn.Module):
            def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
                noisy = outputs + 0.1 * torch.randn(outputs.shape)
                return nn.functional.cross_entropy(noisy, targets, reduction="none")

        return PerSample()


class Rising(Metric):
    """A metric that is infinite in the first epoch, and rises from then on."""

    name = "test-rising"

    def values(self, classes: Any) -> Any:
        return {"score": "max"}

    def compute(self, predictions: Any) -> Any:
        number = Rising.seen.setdefault(predictions.outputs.tobytes(), len(Rising.seen))
        return {"score": number / 10 if number else math.inf}


Rising.seen = {}  # type: ignore[attr-defined]


class InfiniteIsEnough(Stopping):
    """Stop at an infinite value of the monitored metric."""

    name = "test-infinite-is-enough"

    def reason(self, history: History) -> str | None:
        return "infinite" if math.inf in history.series().values else None


def finish(trainer: Trainer) -> tuple[list[tuple[Any, ...]], dict[str, Tensor], Any]:
    """Train to the end; return the epochs, the weights and the final predictions."""
    epochs = [
        (epoch.number, epoch.metrics, epoch.is_best, epoch.stop_reason)
        for epoch in trainer.epochs()
    ]
    predictions, loss = trainer.predict("validation")
    tensors = trainer.state().tensors.items()
    state = {f"{kind} {key}": tensor for kind, named in tensors for key, tensor in named.items()}
    return epochs, state, (predictions.outputs.tolist(), loss)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 9])
def test_a_restored_trainer_ends_with_the_same_bytes(
    dataset: PreparedDataset, precision: str, stop: int
) -> None:
    experiment = make_experiment(
        model=Cnn(),
        augment=(augment.Flip(), augment.Rotate(degrees=20)),
        optimizer=optimizers.AdamW(lr=1e-2),
        scheduler=schedulers.OneCycle(),
        stopping=stopping.Early(patience=2),
        training={"precision": precision, "micro_batch_size": 7, "clip_grad_norm": 1.0},
    )
    uninterrupted = make_trainer(experiment, dataset)
    expected = [epoch.metrics for epoch in uninterrupted.epochs()]

    stopped = train_until(make_trainer(experiment, dataset), stop)
    second = resumed(stopped, make_trainer(experiment, dataset))
    metrics = [epoch.metrics for epoch in second.epochs()]

    assert metrics == expected[len(expected) - len(metrics) :]
    assert_same_weights(uninterrupted, second)


def test_the_history_has_the_seconds_of_all_processes(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    experiment = make_experiment(stopping=stopping.TimeLimit(minutes=1.5))

    def train_for(trainer: Trainer, steps: int) -> list[Epoch]:
        """Train for at most some steps of ten seconds each; return the epochs that ended."""
        epochs, done = [], 0
        for event in trainer.events():
            done += isinstance(event, Step)
            now[0] += 10 * isinstance(event, Step)
            epochs += [event] if isinstance(event, Epoch) else []
            if done == steps:
                break
        return epochs

    stopped = make_trainer(experiment, dataset)
    (first,) = train_for(stopped, EPOCH + 2)
    assert (first.seconds, stopped.history.seconds) == (40.0, (40.0,))
    second = resumed(stopped, make_trainer(experiment, dataset))
    now[0] += 1000  # between the two processes
    (last,) = train_for(second, 99)
    assert second.history.seconds == (40.0, 40.0)
    assert last.stop_reason is not None
    assert last.stop_reason.startswith("training has taken 1.3 minutes")


def test_a_network_that_draws_has_a_seed_for_every_step(dataset: PreparedDataset) -> None:
    experiment = make_experiment(model=MonteCarlo(), training={"micro_batch_size": 7})
    uninterrupted = make_trainer(experiment, dataset)
    expected = [epoch.metrics for epoch in uninterrupted.epochs()]
    torch.manual_seed(1)
    stopped = train_until(make_trainer(experiment, dataset), 6)
    second = resumed(stopped, make_trainer(experiment, dataset))
    assert [epoch.metrics for epoch in second.epochs()] == expected[1:]
    assert_same_weights(uninterrupted, second)


@pytest.mark.parametrize("stop", [1, EPOCH, EPOCH + 1, 2 * EPOCH + 2])  # events: steps, epochs too
@pytest.mark.parametrize(
    "parts",
    [
        {"model": MonteCarlo()},
        {"model": Normed(), "augment": (Noise(),)},
        {"model": Normed(), "loss": NoisyLoss()},
        {
            "model": Cnn(),
            "loss": losses.SampleWeighted(base=losses.NoiseAdaptation(), column="weight"),
            "optimizer": optimizers.Sam(
                lr=0.1,
                base=optimizers.Sgd(momentum=0.9, layer_decay=0.5),
                group=(ParamGroup(match=("5",), lr=0.2),),
            ),
            "scheduler": schedulers.GradualUnfreezing(epochs=1.5),
            "sampler": samplers.DecayingBalance(),
            "average": averages.Ema(),
            "augment": (augment.Flip(), mix.MixUp(off_after=0.5)),
            "training": {"micro_batch_size": 7, "clip_grad_norm": 1.0},
        },
        {
            "metric": (Rising(),),
            "scheduler": schedulers.Plateau(patience=0),
            "stopping": InfiniteIsEnough(),
            "training": {"monitor": "validation/score"},
        },
    ],
    ids=["network", "augment", "loss", "recipe", "infinite"],
)
def test_a_stop_changes_nothing(dataset: PreparedDataset, parts: dict[str, Any], stop: int) -> None:
    Rising.seen = {}  # type: ignore[attr-defined]
    epochs, weights, predicted = finish(make_trainer(make_experiment(**parts), dataset))

    stopped = make_trainer(make_experiment(**parts), dataset)
    events = 0
    for event in stopped.events():
        events += type(event).__name__ in ("Step", "Epoch")
        if events == stop:
            break
    torch.manual_seed(99)  # another process has another generator
    second = resumed(stopped, make_trainer(make_experiment(**parts), dataset))
    later, later_weights, later_predicted = finish(second)

    assert len(epochs) == 3
    assert later
    assert later == epochs[len(epochs) - len(later) :]
    assert later_predicted == predicted
    for name, value in weights.items():
        assert torch.equal(value, later_weights[name]), name


def test_an_infinite_metric_is_reported_and_never_the_best(dataset: PreparedDataset) -> None:
    Rising.seen = {}  # type: ignore[attr-defined]
    trainer = make_trainer(
        make_experiment(metric=(Rising(),), training={"monitor": "validation/score", "epochs": 3}),
        dataset,
    )
    epochs = list(trainer.epochs())
    assert epochs[0].metrics["validation/score"] == math.inf
    assert math.isnan(trainer.history.series().values[0])
    assert [epoch.is_best for epoch in epochs] == [False, True, True]


def test_the_last_evaluation_of_a_network_that_draws_is_that_of_its_epoch(
    dataset: PreparedDataset,
) -> None:
    trainer = make_trainer(make_experiment(model=MonteCarlo()), dataset)
    *_, last = trainer.epochs()
    _, loss = trainer.predict("validation")
    assert loss == last.metrics["validation/loss"]


def test_weights_that_are_not_finite_are_not_saved(dataset: PreparedDataset) -> None:
    trainer = make_trainer(make_experiment(optimizer=optimizers.Sgd(lr=1e39)), dataset)
    trainer.state()
    assert isinstance(next(trainer.events()), Step)
    with pytest.raises(NonFiniteError, match=r"non-finite weights after step 1: \w+"):
        trainer.state()


def test_statistics_that_a_loss_poisoned_are_not_saved(  # T01
    dataset: PreparedDataset,
) -> None:
    class Blank(Augment):
        name = "test-blank"

        def draw(self, n: int, *, progress: float) -> dict[str, Any]:
            return {"factor": np.full(n, math.nan if progress else 1.0)}

        def apply(self, images: Tensor, targets: Tensor, params: Any) -> tuple[Tensor, Tensor]:
            return images * params["factor"][0], targets

    trainer = make_trainer(make_experiment(model=Normed(), augment=(Blank(),)), dataset)
    events = trainer.events()
    next(events)
    before = [weight.detach().clone() for weight in trainer.module.parameters()]
    with pytest.raises(NonFiniteError, match="loss at epoch 1 step 2"):
        next(events)
    assert trainer.module[1].running_mean.isnan().all()  # type: ignore[index, union-attr, operator]
    assert all(map(torch.equal, before, trainer.module.parameters()))
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="loss at epoch 1 step 2"):
            trainer.state()


class Uneven(Sampler):
    """Give another number of samples in each epoch."""

    name = "test-uneven"
    counts: tuple[int, ...]

    def order(self, labels: Any, *, epoch: int, seed: int) -> Any:
        return np.arange(self.counts[epoch])


@pytest.mark.parametrize("second", [0, 12, 23, 40])
def test_epochs_of_another_length_are_refused(dataset: PreparedDataset, second: int) -> None:
    trainer = make_trainer(make_experiment(sampler=Uneven(counts=(24, second))), dataset)
    epochs = trainer.epochs()
    next(epochs)
    with pytest.raises(PluginError, match=f"{second} samples in epoch 2, not 24") as caught:
        next(epochs)
    assert caught.value.problems[0].code == "wrong-result"


def test_epochs_without_samples_are_refused(dataset: PreparedDataset) -> None:
    with pytest.raises(PluginError, match="0 samples in epoch 1, not at least 1"):
        make_trainer(make_experiment(sampler=Uneven(counts=(0,))), dataset)
