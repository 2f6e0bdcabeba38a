from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment, NonFiniteError
from sightx.builtin import augment, losses, optimizers, schedulers
from sightx.builtin.models.simplenet import SimpleNet
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import Batch, BatchLoader
from sightx.distributed.collectives import Collectives
from sightx.plugin import Loss, Model, Problem, Step
from sightx.spec.experiment import Execution
from sightx.training.cuda_graph import GraphedStep, why_not_graphable
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.param_groups import param_groups
from sightx.training.setup import build_module
from sightx.training.step import Criterion, TrainStep
from support.training import (
    CPU,
    Cnn,
    assert_same_weights,
    make_experiment,
    make_trainer,
    resumed,
    train,
    train_until,
)

CUDA = torch.device("cuda")


class FakeGraphs:
    """Stand in for a device with graphs: a replay calls the function, perhaps changed."""

    def __init__(self, change: Callable[[Callable[[], None]], None] = lambda body: body()) -> None:
        self.change, self.replays, self.captures, self.recovered = change, 0, 0, 0

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        for _ in range(3):
            function()

        def replay() -> None:
            self.replays += 1
            self.change(function)

        return replay

    def recover(self) -> None:
        self.recovered += 1


def graphed_experiment(*, deterministic: bool = False, **parts: Any) -> Experiment:
    execution = Execution(cuda_graph=True, deterministic=deterministic)
    return make_experiment(**{"model": Cnn(), "execution": execution} | parts)


@contextmanager
def replaying(graphs: FakeGraphs) -> Iterator[None]:
    """Let trainers replay on the CPU, where fused optimizers obey the guard's flag as on CUDA."""
    deferred = partial(NonFiniteGuard, deferred=True)

    def graphed(step: TrainStep, module: nn.Module, experiment: Experiment) -> GraphedStep:
        return GraphedStep(step, module, experiment, graphs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightx.training.trainer.NonFiniteGuard", deferred)
        patch.setattr("sightx.training.trainer.with_cuda_graph", graphed)
        yield


SETTINGS: list[dict[str, Any]] = [
    {},
    {"optimizer": optimizers.Sgd(momentum=0.9, dampening=0.3)},
    {"optimizer": optimizers.AdamW(), "augment": (augment.Rotate(degrees=90.0),)},
    {"model": Cnn(dropout=0.0), "training": {"micro_batch_size": 5}},
    {"loss": losses.InverseFrequencyCrossEntropy(), "training": {"clip_grad_norm": 0.1}},
    {"training": {"precision": "bf16"}},
    {"model": SimpleNet(), "scheduler": schedulers.Step(step_size=1, gamma=0.3)},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_replayed_steps_are_eager_steps(dataset: PreparedDataset, settings: dict[str, Any]) -> None:
    graphs = FakeGraphs()
    with replaying(graphs):
        replayed = make_trainer(graphed_experiment(**settings), dataset)
        step_losses, _ = train(replayed)
    eager = make_trainer(make_experiment(**{"model": Cnn()} | settings), dataset)
    assert step_losses == train(eager)[0]
    assert_same_weights(eager, replayed)
    assert graphs.captures == 1
    # 3 epochs of 60 samples in batches of 16: 9 full ones, 3 before the trial; 3 are compared.
    assert graphs.replays == 9 - 3 + 3


def test_a_resumed_training_replays_to_the_same_bytes(dataset: PreparedDataset) -> None:
    with replaying(FakeGraphs()):
        uninterrupted, first, second = (
            make_trainer(graphed_experiment(), dataset) for _ in range(3)
        )
        train(uninterrupted)
        train(resumed(train_until(first, 6), second))
    assert_same_weights(uninterrupted, second)


def update_at(lr: Callable[[float], float], body: Callable[[], None]) -> None:
    """Update at another learning rate."""

    def other(self: TrainStep) -> None:
        (group,) = self.optimizer.param_groups
        before, group["lr"] = group["lr"], lr(group["lr"])
        update(self)
        group["lr"] = before

    update = TrainStep.update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "update", other)
        body()


@pytest.mark.parametrize("deterministic", [False, True])
def test_with_deterministic_a_graph_gives_the_bits_of_eager_steps_or_is_refused(
    dataset: PreparedDataset, deterministic: bool
) -> None:
    experiment = graphed_experiment(deterministic=deterministic)
    graphs = FakeGraphs(partial(update_at, lambda lr: lr * (1 + 1e-5)))  # as another kernel rounds
    with replaying(graphs):
        uninterrupted, first, second = (make_trainer(experiment, dataset) for _ in range(3))
        train(uninterrupted)
        train(resumed(train_until(first, 6), second))
    states = (trainer.module.state_dict().values() for trainer in (uninterrupted, second))
    # Three steps after the resume are eager: if graphs compute otherwise, that can be seen.
    assert all(map(torch.equal, *states)) == deterministic
    assert (graphs.replays > 3 * graphs.captures) != deterministic


def test_with_deterministic_a_graph_that_gives_the_same_bits_is_replayed(
    dataset: PreparedDataset,
) -> None:
    graphs = FakeGraphs()
    with replaying(graphs):
        train(make_trainer(graphed_experiment(deterministic=True), dataset))
    assert graphs.replays == 9 - 3 + 3


def constant_lr(body: Callable[[], None]) -> None:
    """Update at the rate of the capture, as a graph that holds a number does."""
    update_at(lambda _: 1e-2, body)


def same_draws(body: Callable[[], None]) -> None:
    torch.manual_seed(0)
    body()


def no_step(body: Callable[[], None]) -> None:
    pass


def no_statistics(body: Callable[[], None]) -> None:
    def forward(self: nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(images, None, None, self.weight, self.bias, training=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "forward", forward)
        body()


def fails(body: Callable[[], None]) -> None:
    body()
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


DIFFERS = "its steps differ from eager ones"
REFUSED = [
    (constant_lr, {}, DIFFERS, 0),
    (same_draws, {}, DIFFERS, 0),
    (no_step, {}, DIFFERS, 0),
    (no_statistics, {}, DIFFERS, 0),
    # Each micro-batch of an eager step draws from its own seed, a replay from the last one's.
    (lambda body: body(), {"training": {"micro_batch_size": 8}}, DIFFERS, 0),
    (fails, {}, "RuntimeError: operation not permitted when stream is capturing", 1),
]


@pytest.mark.parametrize(("change", "settings", "reason", "recovered"), REFUSED)
def test_a_graph_that_computes_something_else_is_refused(
    dataset: PreparedDataset,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Callable[[], None]], None],
    settings: dict[str, Any],
    reason: str,
    recovered: int,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    graphs = FakeGraphs(change)
    with replaying(graphs):
        trainer = make_trainer(graphed_experiment(**settings), dataset)
        step_losses, _ = train(trainer)
    eager = make_trainer(make_experiment(model=Cnn(), **settings), dataset)
    assert step_losses == train(eager)[0]
    assert_same_weights(eager, trainer)
    assert [record.getMessage() for record in caplog.records] == [
        f"graph: no CUDA graph is replayed: {reason}"
    ]
    assert (graphs.captures, graphs.recovered) == (1, recovered)


def test_a_network_that_changes_its_images_gets_them_unchanged(dataset: PreparedDataset) -> None:
    class Halving(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mul_(0.5).flatten(1)

    class Changing(Model):
        name = "changing"
        capturable = True

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            return nn.Sequential(Halving(), nn.Linear(channels * size[0] * size[1], outputs))

    with replaying(FakeGraphs()):
        step_losses, _ = train(make_trainer(graphed_experiment(model=Changing()), dataset))
    assert step_losses == train(make_trainer(make_experiment(model=Changing()), dataset))[0]


def test_a_loss_that_is_not_finite_is_reported_from_a_replay(dataset: PreparedDataset) -> None:
    class Falling(Loss):
        """Return NaN from some step on."""

        name = "falling"
        capturable = True

        def build(self) -> nn.Module:
            return FallingLoss()

    class FallingLoss(nn.Module):
        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return outputs.sum(dim=1) * (float("nan") if nan else 1.0)

    nan = False
    with replaying(FakeGraphs()):
        events = make_trainer(graphed_experiment(loss=Falling()), dataset).events()
        for event in events:
            nan = isinstance(event, Step) and event.step == 5
            if nan:
                break
        with pytest.raises(NonFiniteError, match=r"loss at epoch 2 step 6 \(rows"):
            list(events)


def make_step(
    experiment: Experiment, dataset: PreparedDataset, *, deferred: bool = True
) -> tuple[TrainStep, nn.Module]:
    module = build_module(experiment.model, experiment.loss, 3, dataset.rows.shape, 0)
    optimizer = experiment.optimizer.build(param_groups(module, experiment.optimizer), layers={})

    def to_error(step: int, positions: Any) -> NonFiniteError:
        return NonFiniteError(Problem("non-finite", "not finite"))

    statistics = ((0.5,) * 3, (0.5,) * 3)
    step = TrainStep(
        network=module,
        optimizer=optimizer,
        base_lrs=[group["lr"] for group in optimizer.param_groups],
        criterion=Criterion(experiment.loss, dataset.counts("train"), CPU),
        loader=BatchLoader(dataset.rows, dataset.table.labels, statistics, CPU),
        settings=experiment.training,
        guard=NonFiniteGuard(optimizer, CPU, to_error, deferred=deferred),
        collectives=Collectives(),
    )
    return step, module


def test_a_batch_of_another_form_is_trained_eagerly(dataset: PreparedDataset) -> None:
    experiment, graphs = graphed_experiment(model=SimpleNet()), FakeGraphs()
    step, module = make_step(experiment, dataset)
    graphed = GraphedStep(step, module, experiment, graphs)
    pixels, targets = step.loader.load(np.arange(16))
    batch = Batch(np.arange(16), pixels, targets)
    for number in range(4):
        graphed(batch, number, [1.0])
    replays = graphs.replays
    mixed = nn.functional.one_hot(targets, 3).float()
    loss, _ = graphed(batch._replace(targets=mixed), 4, [1.0])
    assert graphs.replays == replays
    assert loss.isfinite()
    graphed(batch, 5, [1.0])
    assert graphs.replays == replays + 1
    assert step.optimizer.param_groups[0]["lr"] == 1e-2


def test_replayed_steps_store_the_norm_of_their_gradient(dataset: PreparedDataset) -> None:
    norms: list[list[float]] = []
    for graphs in (None, FakeGraphs()):
        experiment = graphed_experiment(model=SimpleNet())
        step, module = make_step(experiment, dataset)
        norm = torch.full((), float("nan"))
        step = replace(step, grad_norm=norm)
        train = GraphedStep(step, module, experiment, graphs) if graphs else step
        pixels, targets = step.loader.load(np.arange(16))
        norms.append([])
        for number in range(6):
            train(Batch(np.arange(16), pixels, targets), number, [1.0])
            norms[-1].append(float(norm))
        assert graphs is None or graphs.replays
    assert norms[0] == pytest.approx(norms[1])
    assert len(set(norms[0])) == 6


def test_learning_rates_are_on_the_device_during_a_capture_alone(dataset: PreparedDataset) -> None:
    class Recording(FakeGraphs):
        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            seen.extend((group["lr"], group["capturable"]) for group in groups)
            return super().capture(function)

    seen: list[tuple[Any, bool]] = []
    experiment = graphed_experiment(model=SimpleNet())
    step, module = make_step(experiment, dataset)
    groups = step.optimizer.param_groups
    graphed = GraphedStep(step, module, experiment, Recording())
    batch = Batch(np.arange(16), *step.loader.load(np.arange(16)))
    for number in range(4):
        graphed(batch, number, [1.0])
    ((lr, capturable),) = seen
    assert isinstance(lr, torch.Tensor)
    assert capturable
    assert float(lr) == pytest.approx(1e-2)  # of the last replay
    assert (groups[0]["lr"], groups[0]["capturable"]) == (1e-2, False)


def test_components_that_did_not_declare_it_are_not_captured(dataset: PreparedDataset) -> None:
    class Plain(Model):
        name = "plain-net"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            return SimpleNet().build(channels=channels, outputs=outputs, size=size)

    class Growing(losses.CrossEntropy):
        name = "test-growing"

        def weights(self, targets: Any, *, progress: float) -> Any:
            return torch.ones(len(targets), device=targets.device) * progress

    def reason(*, deferred: bool = True, **parts: Any) -> str:
        experiment = graphed_experiment(**parts)
        return why_not_graphable(experiment, make_step(experiment, dataset, deferred=deferred)[0])

    assert reason() == ""
    assert reason(model=Plain()) == "the model plain-net did not declare that one may hold it"
    assert "optimizer rmsprop did not" in reason(optimizer=optimizers.RmsProp())
    assert reason(loss=Growing()) == "the sample weights of test-growing depend on progress"
    experiment = graphed_experiment()
    step = replace(make_step(experiment, dataset)[0], has_two_passes=True)
    assert why_not_graphable(experiment, step) == "the optimizer adam needs two passes"
    assert reason(deferred=False) == "nothing on the device can stop the optimizer"


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_graph_is_tried_only_on_request(
    dataset: PreparedDataset, caplog: pytest.LogCaptureFixture, cuda_graph: bool
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    execution = Execution(cuda_graph=cuda_graph)
    train_until(make_trainer(make_experiment(model=Cnn(), execution=execution), dataset), 1)
    assert ("no CUDA graph is replayed" in caplog.text) == cuda_graph  # the CPU has none


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_on_a_gpu_replayed_steps_are_eager_ones(
    dataset: PreparedDataset,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    compiled: bool,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    execution = Execution(compile=compiled, cuda_graph=True)
    parts = {"model": Cnn()} | settings
    replayed, _ = train(make_trainer(make_experiment(**parts, execution=execution), dataset, CUDA))
    assert "graph: full batches replay a CUDA graph" in caplog.text
    eager, _ = train(make_trainer(make_experiment(**parts), dataset, CUDA))
    bf16 = settings.get("training", {}).get("precision") == "bf16"
    np.testing.assert_allclose(replayed, eager, rtol=2e-2 if bf16 else 1e-3)


@pytest.mark.gpu
def test_on_a_gpu_what_waits_for_the_device_is_refused_and_draws_go_on(
    dataset: PreparedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    class Waiting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * (1.0 + 0.0 * images.sum().item())

    class WaitingNet(Cnn):
        name = "waiting"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            module = super().build(channels=channels, outputs=outputs, size=size)
            return nn.Sequential(Waiting(), module)

    caplog.set_level(logging.INFO, "sightx")
    refused, _ = train(make_trainer(graphed_experiment(model=WaitingNet()), dataset, CUDA))
    assert "graph: no CUDA graph is replayed: RuntimeError" in caplog.text
    eager, _ = train(make_trainer(make_experiment(model=WaitingNet()), dataset, CUDA))
    np.testing.assert_allclose(refused, eager, rtol=1e-3)


@pytest.mark.gpu
def test_on_a_gpu_a_deterministic_run_that_is_resumed_ends_with_the_same_bytes(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        experiment = graphed_experiment(
            scheduler=schedulers.Step(step_size=1, gamma=0.3), deterministic=True
        )
        uninterrupted, first, second = (make_trainer(experiment, dataset, CUDA) for _ in range(3))
        train(uninterrupted)
        train(resumed(train_until(first, 6), second))
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_weights(uninterrupted, second)
