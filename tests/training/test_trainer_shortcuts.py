"""What the loop saves changes nothing: rows read ahead, seeds left alone, flags read late."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightx import DataError, Experiment, NonFiniteError
from sightx.builtin import augment, losses, optimizers
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Epoch, Model, Problem, Step
from sightx.records.pixels import InMemoryPixels, PixelRows, Positions
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")


class Still(Model):
    """A convolutional network that draws nothing."""

    name = "test-still"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3),
            nn.ReLU(), nn.Flatten(), nn.Linear(6 * (size[0] - 4) * (size[1] - 4), outputs),
        )  # fmt: skip


class Hidden(nn.Linear):
    """A layer whose draws no list of modules shows."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(images, 0.3, self.training))


class Drawing(Model):
    """A network that draws in a way of its own."""

    name = "test-drawing"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Hidden(channels * size[0] * size[1], outputs))


@dataclass(frozen=True)
class Slow(InMemoryPixels):
    """Pixels that take time to read, one of which may be bad."""

    bad: int = -1
    is_in_memory = False

    def read(self, positions: Positions, out: Tensor | None = None) -> Tensor:
        if self.bad in positions:
            raise DataError(Problem("bad-row", f"row {self.bad} is damaged"))
        return super().read(positions, out)


def slow(samples: PreparedDataset, bad: int = -1) -> PreparedDataset:
    tensor = samples.rows.pixels.tensor  # type: ignore[attr-defined]
    return replace(samples, rows=PixelRows(Slow(tensor, bad), samples.rows.index))


def trainer(experiment: Experiment, samples: PreparedDataset) -> Trainer:
    classes, shape = len(samples.table.classes), samples.rows.shape
    module = build_module(experiment.model, experiment.loss, classes, shape, experiment.seed)
    return Trainer(experiment, samples, module, CPU)


def weights(made: Trainer) -> dict[str, Tensor]:
    return copy.deepcopy(made.module.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("augments", [(), (augment.Flip(), augment.Rotate(degrees=9))])
def test_rows_read_ahead_train_to_the_same_bytes(
    experiment: Make, samples: PreparedDataset, augments: tuple[Any, ...]
) -> None:
    settings = experiment(model=Still(), augment=augments, training={"micro_batch_size": 7})
    here, ahead = trainer(settings, samples), trainer(settings, slow(samples))
    assert [e.metrics for e in here.epochs()] == [e.metrics for e in ahead.epochs()]
    assert same(weights(here), weights(ahead))


def test_what_a_reader_raises_ends_training_as_it_is(
    experiment: Make, samples: PreparedDataset
) -> None:
    with pytest.raises(DataError, match="row 70 is damaged"):
        list(trainer(experiment(), slow(samples, bad=70)).events())  # one of validation


@pytest.mark.parametrize("loss", [losses.CrossEntropy(), losses.InverseFrequencyCrossEntropy()])
@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 5, "clip_grad_norm": 0.5}])
def test_convolutions_train_as_in_a_plain_loop(
    experiment: Make, samples: PreparedDataset, loss: Any, settings: dict[str, Any]
) -> None:
    made = trainer(
        experiment(model=Still(), loss=loss, training={"epochs": 1, "batch_size": 60, **settings}),
        samples,
    )
    assert any(not w.is_contiguous() for w in made.module.parameters())  # channels last
    plain = copy.deepcopy(made.module).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2)
    rows = samples.splits["train"]
    positions, _, _ = next(made._stream([made._order(0)]))
    assert sorted(positions) == list(rows)
    images, targets = made._batches.plain(positions)
    counts = torch.tensor(samples.counts("train"))
    weight = counts.sum() / (3 * counts) if loss.balances else torch.ones(3)
    total = weight[targets].sum()
    size = settings.get("micro_batch_size", 60)
    for part, classes in zip(images.split(size), targets.split(size), strict=True):
        each = nn.functional.cross_entropy(plain(part), classes, weight=weight, reduction="sum")
        (each / total).backward()
    if settings:
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    optimizer.step()
    list(made.epochs(1))
    for ours, theirs in zip(made.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("model", "draws"), [(Still(), False), (Drawing(), True)])
def test_a_network_that_draws_has_a_seed_for_every_step(
    experiment: Make, samples: PreparedDataset, model: Model, draws: bool
) -> None:
    settings = experiment(model=model, training={"micro_batch_size": 7})
    whole, resumed = trainer(settings, samples), trainer(settings, samples)
    expected = [epoch.metrics for epoch in whole.epochs()]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    stopped = trainer(settings, samples)
    for event in stopped.events():
        if isinstance(event, Step) and event.step == 6:
            break
    assert torch.equal(torch.get_rng_state(), before) != draws
    resumed.restore(copy.deepcopy(stopped.state()))
    assert [epoch.metrics for epoch in resumed.epochs()] == expected[1:]
    assert same(weights(whole), weights(resumed))


class Broken(losses.CrossEntropy):
    """A loss that is NaN once, in the seventh micro-batch."""

    name = "test-broken"

    def build(self, *, class_counts: Any) -> nn.Module:
        return BrokenLoss()


class BrokenLoss(nn.CrossEntropyLoss):
    calls = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += outputs.requires_grad  # validation asks too
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
        return losses * float("nan") if self.calls == 7 else losses


@pytest.mark.parametrize("optimizer", [optimizers.Adam(lr=0.01), optimizers.Sgd(momentum=0.9)])
@pytest.mark.parametrize("asked", [7, 8, None])
def test_a_flag_read_late_saves_the_weights_and_lets_no_state_out(
    experiment: Make, samples: PreparedDataset, optimizer: Any, asked: int | None
) -> None:
    """T01: the loss is NaN at step 7; asked for its state or not, the trainer ends there."""
    made = trainer(experiment(model=Still(), loss=Broken(), optimizer=optimizer), samples)
    made._step_rule.gate = NonFiniteGuard(made._optimizer, CPU, made._blame, deferred=True)
    steps = (event.step for event in made.events() if isinstance(event, Step))
    while next(steps) < 6:
        pass
    before = [weight.detach().clone() for weight in made.module.parameters()]
    report = r"epoch 2 step 7 \(rows \d+, \d+, \d+, \.\.\.; first: \d+\.png\)"
    with pytest.raises(NonFiniteError, match=report):
        list(made.state() for step in steps if step == asked)  # noqa: C400 - it ends inside
    assert all(map(torch.equal, made.module.parameters(), before))
    with pytest.raises(NonFiniteError, match="step 7"):
        made.state()


def test_no_graph_is_kept_of_what_does_not_learn(
    experiment: Make, samples: PreparedDataset
) -> None:
    made = trainer(experiment(model=Still(trainable=("6",)), augment=(augment.Flip(),)), samples)
    graphs: dict[str, bool] = {}
    for name, part in made.module.named_children():
        part.register_forward_hook(
            lambda _, __, out, name=name: graphs.update({name: out.grad_fn is not None})
        )
    next(made.events())
    assert graphs == {"0": False, "1": False, "2": False, "3": False, "4": False, "5": False,
                      "6": True}  # fmt: skip


def test_every_epoch_says_how_fast_it_was(experiment: Make, samples: PreparedDataset) -> None:
    epochs: list[Epoch] = list(trainer(experiment(), slow(samples)).epochs(2))
    for epoch in epochs:
        assert epoch.images_per_second * epoch.seconds >= 60
        assert 0 < epoch.data_wait_fraction < 1
    assert np.unique([epoch.images_per_second for epoch in epochs]).size == 2
