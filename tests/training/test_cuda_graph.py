from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment, NonFiniteError
from sightx.builtin import augment, losses, optimizers, schedulers
from sightx.builtin.models.simplenet import SimpleNet
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import Batch
from sightx.plugin import Loss, Model, Step
from sightx.spec.experiment import Execution
from sightx.training import cuda_graph
from sightx.training.cuda_graph import GraphedStep, why_not_graphable
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.setup import build_module
from sightx.training.step import TrainStep
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Net(Model):
    """Everything that has a state or draws: batch normalisation, dropout."""

    name = "test-net"
    capturable = True
    dropout: float = 0.4

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        layers = [nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
        head = [nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(*layers, *head, nn.Linear(6 * (size[0] - 2) ** 2, outputs))


class Called:
    """Stand in for a device with graphs: a replay calls the function."""

    def __init__(self, change: Callable[[Callable[[], None]], None] = lambda body: body()) -> None:
        self.change, self.replays, self.captures, self.recovered = change, 0, 0, 0

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        for _ in range(3):
            body()

        def replay() -> None:
            self.replays += 1
            self.change(body)

        return replay

    def settle(self) -> None:
        pass

    def recover(self) -> None:
        self.recovered += 1


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the graph win every race; what it does is compared all the same."""
    monkeypatch.setattr(GraphedStep, "_times", lambda *_: (2.0, 1.0))


def trainer(
    experiment: Experiment, samples: PreparedDataset, device: torch.device = CPU
) -> Trainer:
    module = build_module(experiment.model, experiment.loss, 3, samples.rows.shape, experiment.seed)
    return Trainer(experiment, samples, module, device)


@contextmanager
def replaying(capture: Called) -> Iterator[None]:
    """Let trainers replay on the CPU, where the flag of the gate is honoured as on CUDA."""

    def replayed(experiment: Experiment, rule: Any, module: nn.Module) -> GraphedStep:
        rule.gate = NonFiniteGuard(rule.optimizer, CPU, rule.gate._blame, deferred=True)
        return GraphedStep(rule, module, experiment, capture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightx.training.trainer.choose_step", replayed)
        yield


def steps_of(made: Trainer) -> list[float]:
    return [float(event.loss) for event in made.events() if isinstance(event, Step)]


SETTINGS: list[dict[str, Any]] = [
    {"model": Net()},
    {"model": Net(), "optimizer": optimizers.Sgd(momentum=0.9, dampening=0.3)},
    {"model": Net(), "optimizer": optimizers.AdamW(), "augment": (augment.Rotate(degrees=90.0),)},
    {"model": Net(dropout=0.0), "training": {"micro_batch_size": 5}},
    {
        "model": Net(),
        "loss": losses.InverseFrequencyCrossEntropy(),
        "training": {"clip_grad_norm": 0.1},
    },
    {"model": Net(), "training": {"precision": "bf16"}},
    {"model": SimpleNet(), "scheduler": schedulers.Step(step_size=1, gamma=0.3)},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.usefixtures("faster")
def test_replayed_steps_are_the_steps_of_the_rule(
    experiment: Make, samples: PreparedDataset, settings: dict[str, Any]
) -> None:
    capture = Called()
    with replaying(capture):
        replayed = trainer(experiment(**settings), samples)
        found = steps_of(replayed)
    eager = trainer(experiment(**settings), samples)
    assert found == steps_of(eager)
    for name, value in eager.module.state_dict().items():
        assert torch.equal(replayed.module.state_dict()[name], value), name
    assert capture.captures == 1
    # 3 epochs of 60 samples in batches of 16: 9 full ones, 3 before the try; 3 are compared.
    assert capture.replays == 9 - 3 + 3


@pytest.mark.usefixtures("faster")
def test_a_resumed_training_replays_to_the_same_bytes(
    experiment: Make, samples: PreparedDataset
) -> None:
    with replaying(Called()):
        whole = trainer(experiment(model=Net()), samples)
        steps_of(whole)
        first = trainer(experiment(model=Net()), samples)
        events = first.events()
        for _ in range(7):
            next(events)
        second = trainer(experiment(model=Net()), samples)
        second.restore(copy.deepcopy(first.state()))
        steps_of(second)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value), name


def moving(body: Callable[[], None], rate: Callable[[float], float]) -> None:
    """Move the weights at another rate."""

    def other(self: TrainStep) -> None:
        (group,) = self.optimizer.param_groups
        before, group["lr"] = group["lr"], rate(group["lr"])
        move(self)
        group["lr"] = before

    move = TrainStep.move
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "move", other)
        body()


def nearly(body: Callable[[], None]) -> None:
    """Do the same but for rounding, as another kernel does."""
    moving(body, lambda rate: rate * (1 + 1e-5))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.usefixtures("faster")
def test_with_deterministic_a_graph_gives_the_bits_of_eager_steps_or_is_refused(
    experiment: Make, samples: PreparedDataset, deterministic: bool
) -> None:
    made = experiment(model=Net(), execution=Execution(deterministic=deterministic))
    capture = Called(nearly)
    with replaying(capture):
        whole = trainer(made, samples)
        steps_of(whole)
        first = trainer(made, samples)
        events = first.events()
        for _ in range(7):
            next(events)
        second = trainer(made, samples)
        second.restore(copy.deepcopy(first.state()))
        steps_of(second)
    ends = (list(each.module.state_dict().values()) for each in (whole, second))
    # Three steps after the resume are eager: where graphs compute otherwise, that can be seen.
    assert all(map(torch.equal, *ends)) == deterministic
    assert (capture.replays > 3 * capture.captures) != deterministic


@pytest.mark.usefixtures("faster")
def test_with_deterministic_a_graph_that_gives_the_same_bits_is_replayed(
    experiment: Make, samples: PreparedDataset
) -> None:
    capture = Called()
    with replaying(capture):
        made = experiment(model=Net(), execution=Execution(deterministic=True))
        steps_of(trainer(made, samples))
    assert capture.replays == 9 - 3 + 3


def baked_rate(body: Callable[[], None]) -> None:
    """Move at the rate that the capture saw, as a graph that holds a number does."""
    moving(body, lambda _: 1e-2)


def same_draws(body: Callable[[], None]) -> None:
    torch.manual_seed(0)
    body()


def no_step(body: Callable[[], None]) -> None:
    pass


def forgets_statistics(body: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.BatchNorm2d, "forward", _without_statistics)
        body()


def _without_statistics(self: nn.BatchNorm2d, images: torch.Tensor) -> torch.Tensor:
    return nn.functional.batch_norm(images, None, None, self.weight, self.bias, training=True)


def fails(body: Callable[[], None]) -> None:
    body()
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


REFUSED = [
    (baked_rate, "its steps differ from eager ones", 0),
    (same_draws, "its steps differ from eager ones", 0),
    (no_step, "its steps differ from eager ones", 0),
    (forgets_statistics, "its steps differ from eager ones", 0),
    (fails, "RuntimeError: operation not permitted when stream is capturing", 1),
]


@pytest.mark.parametrize(("change", "reason", "recovered"), REFUSED)
@pytest.mark.usefixtures("faster")
def test_a_graph_that_does_something_else_is_refused(
    experiment: Make,
    samples: PreparedDataset,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Callable[[], None]], None],
    reason: str,
    recovered: int,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    capture = Called(change)
    with replaying(capture):
        made = trainer(experiment(model=Net()), samples)
        found = steps_of(made)
    eager = trainer(experiment(model=Net()), samples)
    assert found == steps_of(eager)
    for name, value in eager.module.state_dict().items():
        assert torch.equal(made.module.state_dict()[name], value), name
    assert [record.getMessage() for record in caplog.records] == [
        f"graph: no CUDA graph is replayed: {reason}"
    ]
    assert (capture.captures, capture.recovered) == (1, recovered)


def test_a_graph_that_is_slower_is_refused(
    experiment: Make, samples: PreparedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    def slowly(body: Callable[[], None]) -> None:
        time.sleep(0.005)
        body()

    caplog.set_level(logging.INFO, "sightx")
    with replaying(Called(slowly)):
        found = steps_of(trainer(experiment(model=Net()), samples))
    assert found == steps_of(trainer(experiment(model=Net()), samples))
    assert "no CUDA graph is replayed: that is not faster, " in caplog.text


@pytest.mark.usefixtures("faster")
def test_a_network_that_changes_its_images_gets_them_unchanged(
    experiment: Make, samples: PreparedDataset
) -> None:
    class Halving(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mul_(0.5).flatten(1)

    class Changing(Model):
        name = "changing"
        capturable = True

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            return nn.Sequential(Halving(), nn.Linear(channels * size[0] * size[1], outputs))

    with replaying(Called()):
        found = steps_of(trainer(experiment(model=Changing()), samples))
    assert found == steps_of(trainer(experiment(model=Changing()), samples))


@pytest.mark.usefixtures("faster")
def test_a_loss_that_is_not_finite_is_reported_from_a_replay(
    experiment: Make, samples: PreparedDataset
) -> None:
    class Falling(Loss):
        """Give NaN from some step on."""

        name = "falling"
        capturable = True

        def build(self) -> nn.Module:
            return Fallen()

    class Fallen(nn.Module):
        def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return outputs.sum(dim=1) * (float("nan") if nan else 1.0)

    nan = False
    with replaying(Called()):
        events = trainer(experiment(loss=Falling(), model=Net()), samples).events()
        for event in events:
            nan = isinstance(event, Step) and event.step == 5
            if nan:
                break
        with pytest.raises(NonFiniteError, match=r"loss at epoch 2 step 6 \(rows"):
            list(events)


@pytest.mark.usefixtures("faster")
def test_a_batch_of_another_form_goes_through_the_rule(
    experiment: Make, samples: PreparedDataset
) -> None:
    capture = Called()
    with replaying(capture):
        made = trainer(experiment(model=SimpleNet()), samples)
        steps_of(made)
    replays, rule = capture.replays, made._step_rule
    pixels, targets = made._batches.plain(np.arange(16))
    soft = nn.functional.one_hot(targets, 3).float()
    loss, _ = made._make_step(Batch(np.arange(16), pixels, soft), 12, 1.0)
    assert capture.replays == replays
    assert loss.isfinite()
    made._make_step(Batch(np.arange(16), pixels, targets), 13, 1.0)
    assert capture.replays == replays + 1
    assert rule.optimizer.param_groups[0]["lr"] == 1e-2


@pytest.mark.usefixtures("faster")
def test_rates_are_read_from_the_device_during_a_capture_alone(
    experiment: Make, samples: PreparedDataset
) -> None:
    class Seeing(Called):
        def capture(self, body: Callable[[], None]) -> Callable[[], None]:
            seen.extend((group["lr"], group["capturable"]) for group in groups)
            return super().capture(body)

    seen: list[tuple[Any, bool]] = []
    with replaying(Seeing()):
        made = trainer(experiment(), samples)
        groups = made._step_rule.optimizer.param_groups
        steps_of(made)
    ((rate, capturable),) = seen
    assert isinstance(rate, torch.Tensor)
    assert capturable
    assert float(rate) == pytest.approx(1e-2)  # of the last replay
    assert (groups[0]["lr"], groups[0]["capturable"]) == (1e-2, False)


def test_what_did_not_declare_it_is_not_captured(
    experiment: Make, samples: PreparedDataset
) -> None:
    class Plain(Model):
        name = "plain-net"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            return SimpleNet().build(channels=channels, outputs=outputs, size=size)

    def said(**parts: Any) -> str:
        made = trainer(experiment(**parts), samples)
        rule = made._step_rule
        rule.gate.deferred = not isinstance(made.experiment.optimizer, optimizers.RmsProp)
        return why_not_graphable(made.experiment, rule)

    assert said() == ""
    assert said(model=Net(), training={"micro_batch_size": 16}) == ""
    assert said(model=Net(dropout=0.0), training={"micro_batch_size": 8}) == ""
    assert said(model=Plain()) == "the model plain-net did not declare that one may hold it"
    assert "optimizer rmsprop did not" in said(optimizer=optimizers.RmsProp())
    assert "each micro-batch from a seed" in said(model=Net(), training={"micro_batch_size": 8})


def test_the_processor_has_no_graphs(experiment: Make, samples: PreparedDataset) -> None:
    made = trainer(experiment(), samples)
    assert cuda_graph.choose_step(made.experiment, made._step_rule, made.module) is made._step_rule


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_on_a_gpu_replayed_steps_are_eager_ones(
    experiment: Make,
    samples: PreparedDataset,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    compiled: bool,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    device = torch.device("cuda")
    execution = Execution(compile=compiled)
    replayed = trainer(experiment(**settings, execution=execution), samples, device)
    found = steps_of(replayed)
    assert "graph: full batches replay a CUDA graph" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightx.training.trainer.choose_step", lambda _, rule, __: rule)
        eager = steps_of(trainer(experiment(**settings), samples, device))
    bf16 = settings.get("training", {}).get("precision") == "bf16"
    np.testing.assert_allclose(found, eager, rtol=2e-2 if bf16 else 1e-3)


@needs_gpu
def test_on_a_gpu_what_waits_for_the_device_is_refused_and_draws_go_on(
    experiment: Make, samples: PreparedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    class Waiting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * (1.0 + 0.0 * images.sum().item())

    class Asking(Net):
        name = "asking"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            module = super().build(channels=channels, outputs=outputs, size=size)
            return nn.Sequential(Waiting(), module)

    caplog.set_level(logging.INFO, "sightx")
    device = torch.device("cuda")
    found = steps_of(trainer(experiment(model=Asking()), samples, device))
    assert "graph: no CUDA graph is replayed: RuntimeError" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightx.training.trainer.choose_step", lambda _, rule, __: rule)
        eager = steps_of(trainer(experiment(model=Asking()), samples, device))
    np.testing.assert_allclose(found, eager, rtol=1e-3)


@needs_gpu
def test_on_a_gpu_a_deterministic_run_that_is_resumed_ends_with_the_same_bytes(
    experiment: Make, samples: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        made = experiment(
            model=Net(),
            scheduler=schedulers.Step(step_size=1, gamma=0.3),
            execution=Execution(deterministic=True),
        )
        whole = trainer(made, samples, torch.device("cuda"))
        steps_of(whole)
        first = trainer(made, samples, torch.device("cuda"))
        events = first.events()
        for _ in range(7):
            next(events)
        second = trainer(made, samples, torch.device("cuda"))
        second.restore(copy.deepcopy(first.state()))
        steps_of(second)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value), name
