from __future__ import annotations

import copy
import dataclasses
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment, PluginError
from sightx.builtin import augment
from sightx.data.dataset import PreparedDataset
from sightx.io import system
from sightx.plugin import Epoch, Model, Step
from sightx.records.events import FeatureBlock
from sightx.spec.experiment import Execution
from sightx.training.feature_cache import split_frozen_prefix
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")


class Noise(nn.Module):
    """Drop some values in evaluation mode too."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(values, 0.5, training=True)


class Staged(Model):
    """Two convolutions with batch normalisation, then dropout and a head, all in stages."""

    name = "test-staged"
    trainable: tuple[str, ...] = ("4",)
    middle: str = "relu"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        one = nn.Sequential(nn.Conv2d(channels, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        two = nn.Sequential(nn.Conv2d(24, 16, 3), nn.BatchNorm2d(16))
        middle = {
            "relu": nn.ReLU(),
            "dropout": nn.Dropout(0.5),
            "norm": nn.BatchNorm2d(16, affine=False),
            "random": nn.Sequential(nn.Conv2d(16, 16, 1), Noise()),
        }[self.middle]
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, outputs))
        return nn.Sequential(one, two, middle, pool, head)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        return list(module.children())


@pytest.fixture
def all_sides(samples: PreparedDataset) -> PreparedDataset:
    """The samples with 10 of them on the test side, out of order."""
    sides = {"train": np.arange(59, 9, -1), "validation": np.arange(60, 90), "test": np.arange(10)}
    return dataclasses.replace(samples, splits=sides)


@pytest.fixture
def staged(experiment: Make) -> Make:
    def make(*, cache_features: str = "auto", **parts: Any) -> Experiment:
        execution = Execution(cache_features=cache_features)  # type: ignore[arg-type]
        parts = {"model": Staged(), "execution": execution} | parts
        return experiment(**parts)

    return make


def trainer(experiment: Experiment, samples: PreparedDataset) -> Trainer:
    module = build_module(experiment.model, experiment.loss, 3, samples.rows.shape, experiment.seed)
    with torch.no_grad():  # running statistics that a frozen normalisation must leave alone
        for buffer in module.buffers():
            buffer.add_(1)
    return Trainer(experiment, samples, module, CPU)


def run(made: Trainer) -> tuple[list[float], list[Epoch], int]:
    events = list(made.events())
    losses = [float(event.loss) for event in events if isinstance(event, Step)]
    blocks = sum(isinstance(event, FeatureBlock) for event in events)
    return losses, [event for event in events if isinstance(event, Epoch)], blocks


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 0.03)])
def test_training_is_that_without_stored_features(
    staged: Make, all_sides: PreparedDataset, precision: str, tolerance: float
) -> None:
    training = {"precision": precision, "batch_size": 12}
    stored = trainer(staged(training=training), all_sides)
    plain = trainer(staged(training=training, cache_features="off"), all_sides)
    losses, epochs, blocks = run(stored)
    expected, expected_epochs, none = run(plain)
    assert (blocks, none) == (3, 0)
    np.testing.assert_allclose(losses, expected, atol=tolerance)
    for ours, theirs in zip(epochs, expected_epochs, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, abs=tolerance)
    for side in ("train", "validation", "test"):
        (ours, loss), (theirs, expected_loss) = stored.predict(side), plain.predict(side)
        np.testing.assert_allclose(ours.outputs, theirs.outputs, atol=tolerance)
        assert loss == pytest.approx(expected_loss, abs=tolerance)
        assert ours.keys == theirs.keys
    ours, theirs = stored.state(), plain.state()
    assert list(ours.weights) == list(theirs.weights)
    for name, value in ours.weights.items():
        torch.testing.assert_close(value, theirs.weights[name], atol=tolerance, rtol=1e-5)
    assert set(ours.optimizer) == set(theirs.optimizer)


def test_the_prefix_runs_once_for_each_image(staged: Make, all_sides: PreparedDataset) -> None:
    made, seen = trainer(staged(), all_sides), []
    made.module[0].register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    run(made)
    # One block four times, to try it, then every image of training and validation.
    assert seen == [32, 32, 32, 32, 32, 18, 30]
    list(made.events())
    assert len(seen) == 7


def test_the_bits_of_features_depend_on_the_table_alone(
    staged: Make, all_sides: PreparedDataset
) -> None:
    rows = np.array([89, 12, 40])
    made = []
    for settings in ({"batch_size": 4}, {"batch_size": 25, "epochs": 2}):
        one = trainer(staged(training=settings), all_sides)
        run(one)
        made.append(one._features.batches.plain(rows)[0])  # type: ignore[union-attr]
    assert torch.equal(*made)
    module = one.module.eval()
    images, _ = one._batches.plain(rows)
    with torch.no_grad():
        expected = module[:4](images)  # type: ignore[index]
    torch.testing.assert_close(made[0], expected)


@pytest.mark.parametrize("stop", [0, 2, 5, 9])
def test_a_resumed_training_ends_with_the_same_bytes(
    staged: Make, all_sides: PreparedDataset, stop: int
) -> None:
    whole = trainer(staged(training={"batch_size": 12}), all_sides)
    run(whole)
    first = trainer(staged(training={"batch_size": 12}), all_sides)
    steps = 0  # the first events are of features
    for event in first.events():
        steps += isinstance(event, Step)
        if steps == stop:
            break
    state = first.state()
    second = trainer(staged(training={"batch_size": 12}), all_sides)
    with torch.no_grad():
        for weight in second.module.parameters():
            weight.zero_()  # as if other weights had been there before
    second.restore(state)
    run(second)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name


def test_one_epoch_that_becomes_two_ends_with_the_same_bytes(
    staged: Make, all_sides: PreparedDataset
) -> None:
    whole, first, second = (
        trainer(staged(training={"epochs": epochs}), all_sides) for epochs in (2, 1, 2)
    )
    run(whole)
    _, _, blocks = run(first)
    assert blocks == 3
    second.restore(first.state())
    run(second)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name


@pytest.mark.parametrize(
    "parts",
    [
        {"cache_features": "off"},
        {"augment": (augment.Flip(),)},
        {"model": Staged(trainable=())},
        {"model": Staged(trainable=("0", "4"))},
        {"model": Staged(trainable=("0.1", "4"))},
    ],
)
def test_nothing_is_kept_where_the_first_stage_or_its_input_changes(
    staged: Make, all_sides: PreparedDataset, parts: dict[str, Any]
) -> None:
    made = trainer(staged(**parts), all_sides)
    assert made._features._halves is None


@pytest.mark.parametrize(("middle", "fixed"), [("relu", 4), ("dropout", 2), ("norm", 2)])
def test_the_prefix_ends_where_training_mode_matters(
    staged: Make, all_sides: PreparedDataset, middle: str, fixed: int
) -> None:
    made = trainer(staged(model=Staged(middle=middle)), all_sides)
    halves = split_frozen_prefix(made.experiment, made.module)
    assert halves is not None
    assert (len(halves.fixed), len(halves.rest)) == (fixed, 5 - fixed)
    losses, _, blocks = run(made)
    expected, _, _ = run(
        trainer(staged(model=Staged(middle=middle), cache_features="off"), all_sides)
    )
    assert blocks == 3
    np.testing.assert_allclose(losses, expected, atol=1e-5)


def test_stages_that_are_random_even_in_evaluation_are_found(
    staged: Make, all_sides: PreparedDataset
) -> None:
    made = trainer(staged(model=Staged(middle="random")), all_sides)
    assert made._features._halves is not None
    _, epochs, blocks = run(made)
    assert blocks == 0
    assert len(epochs) == 3


def test_what_does_not_fit_into_memory_goes_to_a_file(
    staged: Make,
    all_sides: PreparedDataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    losses, _, _ = run(trainer(staged(), all_sides))
    assert "what 4 frozen stages give, 20.5 kB, is computed once and kept in memory" in caplog.text
    monkeypatch.setattr(system, "total_memory", lambda: 40_000)
    made = trainer(staged(), all_sides)
    assert run(made)[0] == losses
    assert "kept in a scratch file" in caplog.text
    assert not made._features.batches.rows.is_in_memory  # type: ignore[union-attr]
    monkeypatch.setattr(system, "free_space", lambda folder: 40_000)
    np.testing.assert_allclose(run(trainer(staged(), all_sides))[0], losses, atol=1e-6)
    assert "20.5 kB, has no room" in caplog.text


def test_a_scratch_file_lies_in_the_store(
    staged: Make,
    all_sides: PreparedDataset,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    monkeypatch.setattr(system, "total_memory", lambda: 40_000)
    made: list[Any] = []
    plain = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **of: made.append(of) or plain(**of))
    run(trainer(staged(), all_sides))
    assert made == [{"dir": store}]
    assert "kept in a scratch file" in caplog.text
    assert "those of 80 images are there" in caplog.text


class Short(Staged):
    """A network that does more than its stages say."""

    name = "test-short"

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        one, two, _, *rest = module.children()
        return [one, two, *rest]


class Unfit(Staged):
    """Stages in an order in which they do not fit."""

    name = "test-unfit"

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        one, two, *rest = module.children()
        return [two, one, *rest]


@pytest.mark.parametrize(
    ("model", "reason"), [(Short(), "give other outputs"), (Unfit(), "raise RuntimeError: ")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stages_that_are_not_the_network_are_the_fault_of_the_model(
    staged: Make, all_sides: PreparedDataset, model: Model, reason: str, precision: str
) -> None:
    made = trainer(staged(model=model, training={"precision": precision}), all_sides)
    with pytest.raises(PluginError, match=f"the model {model.name} are not .* they {reason}"):
        run(made)


def test_a_head_that_draws_in_evaluation_is_no_lie(
    staged: Make, all_sides: PreparedDataset
) -> None:
    class Restless(Staged):
        name = "test-restless"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            module = super().build(channels=channels, outputs=outputs, size=size)
            return nn.Sequential(*list(module.children())[:-1], nn.Sequential(Noise(), module[-1]))

    before = torch.get_rng_state()
    made = trainer(staged(model=Restless()), all_sides)
    modes = {name: part.training for name, part in made.module.named_modules()}
    next(made.events())
    assert made._features._halves is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: part.training for name, part in made.module.named_modules()} == modes


def test_a_run_that_goes_on_in_its_evaluation_computes_only_what_that_needs(
    staged: Make, all_sides: PreparedDataset
) -> None:
    whole = trainer(staged(), all_sides)
    run(whole)
    resumed, seen = trainer(staged(), all_sides), []
    resumed.restore(whole.state())
    resumed.module[0].register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    assert list(resumed.events()) == []
    assert seen == []
    for side in ("validation", "test"):
        (ours, loss), (theirs, expected) = resumed.predict(side), whole.predict(side)
        np.testing.assert_array_equal(ours.outputs, theirs.outputs)
        assert loss == expected
    assert seen == [30] * 4 + [30] + [10]  # the try, validation, test


def test_a_run_that_goes_on_in_its_last_validation_computes_no_training_features(
    staged: Make, all_sides: PreparedDataset
) -> None:
    whole, steps = trainer(staged(), all_sides), 0
    for event in whole.events():
        steps += isinstance(event, Step)
        if steps == 3 * 4:
            break
    resumed = trainer(staged(), all_sides)
    resumed.restore(copy.deepcopy(whole.state()))
    events = list(resumed.events())
    assert [event.total for event in events if isinstance(event, FeatureBlock)] == [30]
    assert not any(isinstance(event, Step) for event in events)
    uninterrupted = trainer(staged(), all_sides)
    assert run(uninterrupted)[1][-1].metrics == events[-1].metrics  # type: ignore[union-attr]


def test_what_is_cheap_to_compute_is_computed_again(
    staged: Make,
    all_sides: PreparedDataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    made = trainer(staged(model=Staged(trainable=("1", "4"))), all_sides)
    _, _, blocks = run(made)  # 24 channels of 6 x 6 from 3: 13.5 operations a byte
    assert blocks == 0
    assert "takes less to compute than to move" in caplog.text


def test_features_of_other_weights_are_forgotten(staged: Make, all_sides: PreparedDataset) -> None:
    made = trainer(staged(), all_sides)
    run(made)
    features = made._features
    made.load_weights(made.state())
    assert features.batches is not None
    other = made.state()
    changed = {name: value * 1.5 for name, value in other.weights.items()}
    made.load_weights(dataclasses.replace(other, weights=changed))
    assert features.batches is None
    predictions, _ = made.predict("validation")
    images, _ = made._batches.plain(all_sides.splits["validation"])
    with torch.no_grad():
        expected = made.module.eval()(images).numpy()
    np.testing.assert_allclose(predictions.outputs, expected, atol=1e-5)
