from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment, NonFiniteError
from sightx.builtin import augment, losses, optimizers, samplers, schedulers, stopping
from sightx.builtin.models.simplenet import SimpleNet
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Augment, Epoch, Metric, Model, Step
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Cnn(Model):
    """A network with everything that is random or has a state: dropout, batch normalisation."""

    name = "test-cnn"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(4 * (size[0] - 2) * (size[1] - 2), outputs),
        )  # fmt: skip


def trainer(experiment: Experiment, samples: PreparedDataset) -> Trainer:
    shape = samples.rows.shape
    module = build_module(
        experiment.model, experiment.loss, len(samples.table.classes), shape, experiment.seed
    )
    return Trainer(experiment, samples, module, CPU)


def steps_and_epochs(made: Trainer) -> tuple[list[float], list[Epoch]]:
    events = list(made.events())
    losses = [float(event.loss) for event in events if isinstance(event, Step)]
    return losses, [event for event in events if isinstance(event, Epoch)]


class PlainLoop:
    """The loop that every tutorial has, with nothing of ours but the order of the samples."""

    def __init__(self, made: Trainer, samples: PreparedDataset, loss: nn.Module, lr: float) -> None:
        self.model = copy.deepcopy(made.module)
        self.loss = loss
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
        self.images = (samples.rows.pixels.tensor.float() / 255 - mean) / deviation
        self.labels = torch.tensor(samples.table.labels)
        self.samples = samples

    def epoch(self, number: int, batch_size: int) -> tuple[list[float], float, float, float]:
        train, validation = (self.samples.splits[side] for side in ("train", "validation"))
        order = samplers.Shuffle().order(self.labels[train].numpy(), epoch=number, seed=0)
        step_losses, total = [], 0.0
        self.model.train()
        for start in range(0, len(order), batch_size):
            rows = train[order[start : start + batch_size]]
            self.optimizer.zero_grad()
            loss = self.loss(self.model(self.images[rows]), self.labels[rows])
            loss.backward()
            self.optimizer.step()
            step_losses.append(loss.item())
            total += loss.item() * len(rows)
        self.model.eval()
        with torch.no_grad():
            outputs = self.model(self.images[validation])
            loss = self.loss(outputs, self.labels[validation]).item()
        accuracy = (outputs.argmax(1) == self.labels[validation]).float().mean().item()
        return step_losses, total / len(order), loss, accuracy


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("schedule", ["constant", "step", "plateau"])
@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_training_equals_a_plain_loop(
    experiment: Make,
    samples: PreparedDataset,
    weighted: bool,
    schedule: str,
    micro_batch_size: int | None,
) -> None:
    loss = losses.InverseFrequencyCrossEntropy() if weighted else losses.CrossEntropy()
    scheduler: Any = {
        "constant": schedulers.Constant(),
        "step": schedulers.Step(step_size=1, gamma=0.3),
        "plateau": schedulers.Plateau(gamma=0.2, patience=0, threshold=0.5),
    }[schedule]
    made = trainer(
        experiment(loss=loss, scheduler=scheduler, training={"micro_batch_size": micro_batch_size}),
        samples,
    )
    counts = torch.tensor(samples.counts("train"))
    weight = counts.sum() / (len(counts) * counts) if weighted else None
    plain = PlainLoop(made, samples, nn.CrossEntropyLoss(weight=weight), lr=1e-2)
    of_torch: Any = {
        "constant": torch.optim.lr_scheduler.ConstantLR(plain.optimizer, factor=1),
        "step": torch.optim.lr_scheduler.StepLR(plain.optimizer, 1, 0.3),
        "plateau": torch.optim.lr_scheduler.ReduceLROnPlateau(
            plain.optimizer, factor=0.2, patience=0, threshold=0.5
        ),
    }[schedule]
    for group in plain.optimizer.param_groups:  # each constructor above has set the rate once
        group["lr"] = 1e-2

    step_losses, epochs = steps_and_epochs(made)

    expected: list[float] = []
    for number in range(3):
        few, mean, validation, accuracy = plain.epoch(number, 16)
        expected += few
        of_torch.step(validation) if schedule == "plateau" else of_torch.step()
        metrics = epochs[number].metrics
        assert metrics["validation/loss"] == pytest.approx(validation, abs=1e-6)
        assert metrics["validation/accuracy"] == pytest.approx(accuracy)
        assert metrics["train/loss"] == pytest.approx(mean, abs=1e-6)
    np.testing.assert_allclose(step_losses, expected, atol=1e-6)
    for ours, theirs in zip(made.module.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_epochs_are_counted_and_only_epochs(experiment: Make, samples: PreparedDataset) -> None:
    epochs = list(trainer(experiment(), samples).epochs(2))
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[1].step == 2 * math.ceil(60 / 16)
    assert epochs[1].metrics["train/loss"] < epochs[0].metrics["train/loss"]


def test_train_accuracy_is_that_of_the_running_network(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(optimizer=optimizers.Sgd(lr=1e-12)), samples)
    (epoch,) = made.epochs(1)
    predictions, _ = made.predict("train")
    right = np.mean(predictions.decisions == predictions.labels)
    assert epoch.metrics["train/accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 9])
def test_a_restored_state_goes_on_to_the_same_bytes(
    experiment: Make, samples: PreparedDataset, precision: str, stop: int
) -> None:
    def made() -> Trainer:
        return trainer(
            experiment(
                model=Cnn(),
                augment=(augment.Flip(), augment.Rotate(degrees=20)),
                optimizer=optimizers.AdamW(lr=1e-2),
                scheduler=schedulers.OneCycle(),
                stopping=stopping.Early(patience=2),
                training={"precision": precision, "micro_batch_size": 7, "clip_grad_norm": 1.0},
            ),
            samples,
        )

    whole = made()
    expected = [epoch.metrics for epoch in whole.epochs()]

    stopped = made()
    for event in stopped.events():
        if isinstance(event, Step) and event.step == stop:
            break
    saved = copy.deepcopy(stopped.state())
    resumed = made()
    resumed.restore(saved)
    found = [epoch.metrics for epoch in resumed.epochs()]

    assert found == expected[len(expected) - len(found) :]
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, resumed.module.state_dict()[name]), name


def test_the_same_experiment_twice_is_the_same_to_the_bit(
    experiment: Make, samples: PreparedDataset
) -> None:
    first, second = (
        trainer(experiment(model=Cnn(), augment=(augment.Flip(),)), samples) for _ in range(2)
    )
    assert [e.metrics for e in first.epochs()] == [e.metrics for e in second.epochs()]
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_another_seed_is_another_run(experiment: Make, samples: PreparedDataset) -> None:
    one, other = (trainer(experiment(seed=seed), samples) for seed in (0, 1))
    assert steps_and_epochs(one)[0] != steps_and_epochs(other)[0]


def test_frozen_parts_do_not_move_not_even_their_statistics(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(model=Cnn(trainable=("5",))), samples)
    before = copy.deepcopy(made.module.state_dict())
    list(made.epochs(1))
    after = made.module.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"5.weight", "5.bias"}


def test_clipping_bounds_the_gradient_of_the_whole_batch(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(
        experiment(
            optimizer=optimizers.Sgd(lr=1.0, momentum=0.0), training={"clip_grad_norm": 0.01}
        ),
        samples,
    )
    before = [weight.detach().clone() for weight in made.module.parameters()]
    next(iter(made.events()))
    moved = [w - b for w, b in zip(made.module.parameters(), before, strict=True)]
    norm = torch.stack([part.detach().norm() for part in moved]).norm()
    assert norm == pytest.approx(0.01, rel=1e-3)


class Explosion(Augment):
    """Turn the images of the third step into NaN."""

    name = "test-explosion"

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        return {"n": np.array([n])}

    def apply(self, images: Any, targets: Any, params: Any) -> Any:
        Explosion.calls += 1
        return (images * float("nan") if Explosion.calls == 3 else images), targets


Explosion.calls = 0  # type: ignore[attr-defined]


def test_a_loss_that_is_not_finite_ends_training_before_the_weights_move(
    experiment: Make, samples: PreparedDataset
) -> None:
    Explosion.calls = 0  # type: ignore[attr-defined]
    made = trainer(experiment(augment=(Explosion(),)), samples)
    events = made.events()
    next(events), next(events)
    before = copy.deepcopy(made.module.state_dict())
    with pytest.raises(
        NonFiniteError, match=r"epoch 1 step 3 \(rows \d+, \d+, \d+, ...; first: \d+.png\)"
    ):
        next(events)
    assert all(torch.equal(before[k], v) for k, v in made.module.state_dict().items())


class NaNOnce(Metric):
    """A figure that is NaN in the first epoch, then falls."""

    name = "test-nan"

    def values(self, classes: Any) -> Any:
        return {"odd": "max"}

    def compute(self, predictions: Any) -> Any:
        NaNOnce.calls += 1
        return {"odd": [float("nan"), 0.5, 0.4][NaNOnce.calls - 1]}


def test_nan_never_wins(experiment: Make, samples: PreparedDataset) -> None:
    NaNOnce.calls = 0  # type: ignore[attr-defined]
    made = trainer(experiment(metric=(NaNOnce(),), training={"monitor": "validation/odd"}), samples)
    assert [epoch.is_best for epoch in made.epochs()] == [False, True, False]


def test_early_stopping_ends_the_generator_with_its_reason(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(
        experiment(
            optimizer=optimizers.Sgd(lr=1e-12),
            stopping=stopping.Early(patience=1, min_delta=0.1),
            training={"epochs": 50},
        ),
        samples,
    )
    epochs = list(made.epochs())
    assert len(epochs) == 2
    assert epochs[-1].stop_reason
    assert "validation/loss" in epochs[-1].stop_reason


def test_groups_have_rates_of_their_own(experiment: Make, samples: PreparedDataset) -> None:
    from sightx.plugin import ParamGroup

    group = (ParamGroup(match=("head.*",), lr=1e-9),)
    made = trainer(experiment(optimizer=optimizers.Sgd(lr=0.5, group=group)), samples)
    before = copy.deepcopy(dict(made.module.named_parameters()))
    list(made.epochs(1))
    for name, weight in made.module.named_parameters():
        change = (weight - before[name]).abs().max().item()
        assert (change < 1e-6) == name.startswith("head"), name


def test_a_model_without_hidden_layers_still_trains(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(model=SimpleNet(hidden=())), samples)
    assert len(list(made.epochs(1))) == 1
