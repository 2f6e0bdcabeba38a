"""Training on each device: the CPU always, CUDA with the marker `gpu`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sightx import NonFiniteError
from sightx.builtin import augment, optimizers, samplers
from sightx.builtin.models.pretrained import IMAGENET
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Step
from sightx.records.pixels import PixelRows
from sightx.spec.experiment import Execution
from sightx.training.nonfinite import NonFiniteGuard
from support.training import (
    Cnn,
    NaNOnce,
    assert_same_weights,
    make_experiment,
    make_trainer,
    resumed,
    train,
    train_until,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use only algorithms that give the same bits every time."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def plain_losses(module: nn.Module, dataset: PreparedDataset, device: torch.device) -> list[float]:
    """Train a network for 3 epochs in plain torch; return the loss of every step."""
    mean, deviation = (torch.tensor(v, device=device).view(3, 1, 1) for v in IMAGENET)
    images = (dataset.rows.gather(np.arange(90)).to(device).float() / 255 - mean) / deviation
    targets = torch.tensor(dataset.table.labels, device=device)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    labels, values = dataset.table.labels[:60], []
    for epoch in range(3):
        order = samplers.Shuffle().order(labels, epoch=epoch, seed=0)
        for rows in np.split(order, range(16, 60, 16)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(images[rows]), targets[rows])
            loss.backward()
            optimizer.step()
            values.append(loss.item())
    return values


def test_training_equals_a_plain_loop(dataset: PreparedDataset, device: torch.device) -> None:
    trainer = make_trainer(make_experiment(), dataset, device)
    plain = make_trainer(make_experiment(), dataset, device).module
    assert {weight.device.type for weight in plain.parameters()} == {device.type}
    expected = plain_losses(plain, dataset, device)
    np.testing.assert_allclose(train(trainer)[0], expected, atol=1e-5)
    for ours, theirs in zip(trainer.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_rows_train_to_the_same_losses_wherever_they_are(
    dataset: PreparedDataset, device: torch.device
) -> None:
    """Rows in memory are copied to an accelerator from pinned memory, ahead of their use."""
    pixels = dataset.rows.gather(np.arange(90)).to(device)
    moved = dataclasses.replace(dataset, rows=PixelRows.of(pixels))
    experiment = make_experiment(augment=(augment.Flip(), augment.Rotate(degrees=9)))
    in_memory, on_device = (
        train(make_trainer(experiment, rows, device))[0] for rows in (dataset, moved)
    )
    assert dataset.rows.pixels.tensor.device.type == "cpu"
    assert moved.rows.pixels.tensor.device.type == device.type
    np.testing.assert_allclose(on_device, in_memory, rtol=1e-5)


def test_bf16_follows_fp32(dataset: PreparedDataset, device: torch.device) -> None:
    experiments = [
        make_experiment(model=Cnn(dropout=0.0), training={"precision": precision})
        for precision in ("fp32", "bf16")
    ]
    full, half = (train(make_trainer(item, dataset, device))[0] for item in experiments)
    assert full != half
    np.testing.assert_allclose(half, full, rtol=0.05)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_deterministic_training_ends_with_the_same_bytes(
    dataset: PreparedDataset, device: torch.device, precision: str
) -> None:
    experiment = make_experiment(
        model=Cnn(),
        augment=(augment.Flip(), augment.Rotate(degrees=9)),
        execution=Execution(deterministic=True),
        training={"precision": precision},
    )
    uninterrupted, first, second = (make_trainer(experiment, dataset, device) for _ in range(3))
    train(uninterrupted)
    train(resumed(train_until(first, 6), second))
    assert_same_weights(uninterrupted, second)


def test_a_loss_that_is_not_finite_never_reaches_the_weights(
    dataset: PreparedDataset, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the loss is read some steps late; until then fused optimizers obey a flag."""
    deferred = partial(NonFiniteGuard, deferred=True)
    monkeypatch.setattr("sightx.training.trainer.NonFiniteGuard", deferred)
    experiment = make_experiment(loss=NaNOnce(), optimizer=optimizers.AdamW(lr=0.01))
    trainer = make_trainer(experiment, dataset, device)
    steps = (event.step for event in trainer.events() if isinstance(event, Step))
    while next(steps) < 6:
        pass
    before = [weight.detach().clone() for weight in trainer.module.parameters()]
    with pytest.raises(NonFiniteError, match="epoch 2 step 7"):
        list(steps)
    assert all(map(torch.equal, trainer.module.parameters(), before))


@pytest.mark.gpu
def test_compiled_training_is_eager_training(dataset: PreparedDataset) -> None:
    cuda = torch.device("cuda")
    eager = make_trainer(make_experiment(model=Cnn()), dataset, cuda)
    compiled = make_experiment(model=Cnn(), execution=Execution(compile=True))
    expected, _ = train(eager)
    np.testing.assert_allclose(train(make_trainer(compiled, dataset, cuda))[0], expected, rtol=1e-2)
