from __future__ import annotations

import dataclasses
import logging
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment, PluginError
from sightx.builtin import augment
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.io import system
from sightx.plugin import Epoch, Model, Step
from sightx.records.events import FeatureBlock
from sightx.records.pixels import InMemoryPixels, PixelRows, PixelSource, Positions
from sightx.spec.experiment import Evaluation, Execution
from sightx.training.feature_cache import (
    FILE,
    MEMORY,
    FeatureCache,
    allocate_rows,
    choose_place,
)
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer
from support.training import (
    CPU,
    AlwaysDropout,
    assert_same_weights,
    make_experiment,
    resumed,
    train_until,
)
from support.training import make_trainer as make_plain_trainer


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
            "batch": nn.BatchNorm2d(16, affine=False, track_running_stats=False),
            "random": nn.Sequential(nn.Conv2d(16, 16, 1), AlwaysDropout()),
        }[self.middle]
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, outputs))
        return nn.Sequential(one, two, middle, pool, head)

    def stages(self, module: nn.Module) -> Sequence[nn.Module]:
        return list(module.children())


@pytest.fixture
def all_splits(dataset: PreparedDataset) -> PreparedDataset:
    """The samples with 10 of them in the test split; the training split is in reverse order."""
    splits = {"train": np.arange(59, 9, -1), "validation": np.arange(60, 90), "test": np.arange(10)}
    return dataclasses.replace(dataset, splits=splits)


def staged(*, cache_features: str = "auto", **parts: Any) -> Experiment:
    execution = Execution(cache_features=cache_features)  # type: ignore[arg-type]
    return make_experiment(**{"model": Staged(), "execution": execution} | parts)


def make_trainer(
    experiment: Experiment, dataset: PreparedDataset, device: torch.device = CPU
) -> Trainer:
    shape = dataset.rows.shape
    module = build_module(experiment.model, experiment.loss, 3, shape, experiment.seed)
    with torch.no_grad():  # running statistics that a frozen normalisation must leave alone
        for buffer in module.buffers():
            buffer.add_(1)
    return make_plain_trainer(experiment, dataset, device, module=module)


def run(trainer: Trainer) -> tuple[list[float], list[Epoch], int]:
    """Train to the end; return the loss of every step, the epochs, and the feature blocks."""
    events = list(trainer.events())
    losses = [float(event.loss) for event in events if isinstance(event, Step)]
    blocks = sum(isinstance(event, FeatureBlock) for event in events)
    return losses, [event for event in events if isinstance(event, Epoch)], blocks


def count_images(module: nn.Module) -> list[int]:
    """Return a list that will hold the size of each batch that passes a module."""
    sizes: list[int] = []
    module.register_forward_hook(lambda _, images, __: sizes.append(len(images[0])))
    return sizes


@pytest.mark.parametrize(("name", "precision", "tolerance"), [
    ("cpu", "fp32", 1e-6),
    ("cpu", "bf16", 0.03),
    pytest.param("cuda", "fp32", 1e-3, marks=pytest.mark.gpu),  # convolutions compute in TF32
    pytest.param("cuda", "bf16", 0.03, marks=pytest.mark.gpu),
])  # fmt: skip
def test_cached_features_do_not_change_training(
    all_splits: PreparedDataset, name: str, precision: str, tolerance: float
) -> None:
    training, device = {"precision": precision, "batch_size": 12}, torch.device(name)
    cached = make_trainer(staged(training=training), all_splits, device)
    plain = make_trainer(staged(training=training, cache_features="off"), all_splits, device)
    losses, epochs, blocks = run(cached)
    expected, expected_epochs, none = run(plain)
    assert (blocks, none) == (3, 0)
    np.testing.assert_allclose(losses, expected, atol=tolerance)
    for ours, theirs in zip(epochs, expected_epochs, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, abs=tolerance)
    for split in ("train", "validation", "test"):
        (ours, loss), (theirs, expected_loss) = cached.predict(split), plain.predict(split)
        np.testing.assert_allclose(ours.outputs, theirs.outputs, atol=tolerance)
        assert loss == pytest.approx(expected_loss, abs=tolerance)
        assert ours.keys == theirs.keys
    ours, theirs = cached.state(), plain.state()
    assert list(ours.weights) == list(theirs.weights)
    for key, value in ours.weights.items():
        torch.testing.assert_close(value, theirs.weights[key], atol=tolerance, rtol=1e-5)
    assert set(ours.optimizer) == set(theirs.optimizer)


def test_views_are_not_predicted_from_features_of_the_images_as_they_are(
    all_splits: PreparedDataset,
) -> None:
    parts = {"model": Staged(middle="norm"), "evaluation": Evaluation(tta="d4")}
    cached, plain = (
        make_trainer(staged(cache_features=mode, **parts), all_splits) for mode in ("auto", "off")
    )
    losses, epochs, blocks = run(cached)
    expected, expected_epochs, _ = run(plain)
    assert blocks > 0  # the training split has features
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    assert epochs[-1].metrics == pytest.approx(expected_epochs[-1].metrics, abs=1e-6)
    for split in ("validation", "test"):
        images = all_splits.rows.gather(all_splits.splits[split]).float() / 255
        mean, std = (torch.tensor(part)[:, None, None] for part in cached.statistics)
        images = (images - mean) / std
        turned = [torch.rot90(images, turns, (-2, -1)) for turns in range(4)]
        with torch.no_grad():
            network = cached.module.eval()
            outputs = [network(view) for one in turned for view in (one, one.flip(-1))]
        by_views, as_they_are = cached.predict(split), cached.predict_without_tta(split)
        np.testing.assert_allclose(by_views[0].outputs, torch.stack(outputs).mean(0), atol=1e-5)
        np.testing.assert_allclose(as_they_are[0].outputs, outputs[0], atol=1e-5)
        assert not np.allclose(by_views[0].outputs, as_they_are[0].outputs, atol=1e-3)


def test_the_prefix_runs_once_for_each_image(all_splits: PreparedDataset) -> None:
    trainer = make_trainer(staged(), all_splits)
    sizes = count_images(trainer.module[0])
    run(trainer)
    # A block five times, to try it, then every image of training and validation.
    assert sizes == [32, 32, 32, 32, 16, 32, 18, 30]
    list(trainer.events())
    assert len(sizes) == 8


def test_the_bits_of_features_depend_on_the_table_alone(all_splits: PreparedDataset) -> None:
    rows, features = np.array([89, 12, 40]), []
    for settings in ({"batch_size": 4}, {"batch_size": 25, "epochs": 2}):
        experiment = staged(training=settings)
        trainer = make_trainer(experiment, all_splits)
        loader = BatchLoader(all_splits.rows, all_splits.table.labels, trainer.statistics, CPU)
        cache = FeatureCache(experiment, trainer.module, all_splits, loader)
        list(cache.compute("train", "validation"))
        features.append(cache.route("train")[1].load(rows)[0])
    assert torch.equal(*features)
    images, _ = loader.load(rows)
    with torch.no_grad():
        expected = trainer.module.eval()[:4](images)  # type: ignore[index]
    torch.testing.assert_close(features[0], expected)


@pytest.mark.parametrize("stop", [0, 2, 5, 9])
def test_a_resumed_training_ends_with_the_same_bytes(
    all_splits: PreparedDataset, stop: int
) -> None:
    experiment = staged(training={"batch_size": 12})
    uninterrupted, first, second = (make_trainer(experiment, all_splits) for _ in range(3))
    run(uninterrupted)
    with torch.no_grad():
        for weight in second.module.parameters():
            weight.zero_()  # as if other weights had been there before
    run(resumed(train_until(first, stop), second))
    assert_same_weights(uninterrupted, second)


def test_one_epoch_that_becomes_two_ends_with_the_same_bytes(all_splits: PreparedDataset) -> None:
    uninterrupted, first, second = (
        make_trainer(staged(training={"epochs": epochs}), all_splits) for epochs in (2, 1, 2)
    )
    run(uninterrupted)
    _, _, blocks = run(first)
    assert blocks == 3
    run(resumed(first, second))
    assert_same_weights(uninterrupted, second)


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
def test_nothing_is_cached_if_the_first_stage_or_its_input_changes(
    all_splits: PreparedDataset, parts: dict[str, Any]
) -> None:
    assert run(make_trainer(staged(**parts), all_splits))[2] == 0


@pytest.mark.parametrize(
    ("middle", "frozen"), [("relu", 4), ("dropout", 2), ("norm", 2), ("batch", 2), ("random", 2)]
)
def test_the_prefix_ends_at_a_stage_that_training_changes_or_that_draws(
    all_splits: PreparedDataset, caplog: pytest.LogCaptureFixture, middle: str, frozen: int
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    model = Staged(middle=middle)
    cached = make_trainer(staged(model=model), all_splits)
    losses, _, blocks = run(cached)
    assert blocks == 3
    assert f"the outputs of {frozen} frozen stages" in caplog.text
    plain = make_trainer(staged(model=model, cache_features="off"), all_splits)
    np.testing.assert_allclose(losses, run(plain)[0], atol=1e-5)
    for name, value in plain.module.named_buffers():
        torch.testing.assert_close(cached.module.get_buffer(name), value, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_into_memory_goes_to_a_file(
    all_splits: PreparedDataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    losses, _, _ = run(make_trainer(staged(), all_splits))
    size = "the outputs of 4 frozen stages, 20.5 kB,"
    assert f"{size} are computed once and kept in memory" in caplog.text
    monkeypatch.setattr(system, "total_memory", lambda: 40_000)
    assert run(make_trainer(staged(), all_splits))[0] == losses
    assert f"{size} are computed once and kept in a scratch file" in caplog.text
    monkeypatch.setattr(system, "free_space", lambda folder: 40_000)
    np.testing.assert_allclose(run(make_trainer(staged(), all_splits))[0], losses, atol=1e-6)
    assert f"{size} do not fit anywhere" in caplog.text


def test_a_scratch_file_is_in_the_folder_of_the_pixel_cache(
    all_splits: PreparedDataset,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    monkeypatch.setattr(system, "total_memory", lambda: 40_000)
    calls: list[Any] = []
    plain = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **kw: calls.append(kw) or plain(**kw))
    run(make_trainer(staged(), all_splits))
    assert calls == [{"dir": cache_root}]
    assert "kept in a scratch file" in caplog.text
    assert "those of 80 images are cached" in caplog.text


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
    all_splits: PreparedDataset, model: Model, reason: str, precision: str
) -> None:
    trainer = make_trainer(staged(model=model, training={"precision": precision}), all_splits)
    with pytest.raises(PluginError, match=f"the model {model.name} are not .* they {reason}"):
        run(trainer)


def test_a_head_that_draws_in_evaluation_is_still_the_network(all_splits: PreparedDataset) -> None:
    class NoisyHead(Staged):
        name = "test-noisy-head"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            module = super().build(channels=channels, outputs=outputs, size=size)
            *stages, head = module.children()
            return nn.Sequential(*stages, nn.Sequential(AlwaysDropout(), head))

    before = torch.get_rng_state()
    trainer = make_trainer(staged(model=NoisyHead()), all_splits)
    assert isinstance(next(trainer.events()), FeatureBlock)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_resumes_in_its_evaluation_computes_only_what_that_needs(
    all_splits: PreparedDataset,
) -> None:
    uninterrupted, second = (make_trainer(staged(), all_splits) for _ in range(2))
    run(uninterrupted)
    resumed(uninterrupted, second)
    sizes = count_images(second.module[0])
    assert list(second.events()) == []
    assert sizes == []
    for split in ("validation", "test"):
        (ours, loss), (theirs, expected) = second.predict(split), uninterrupted.predict(split)
        np.testing.assert_array_equal(ours.outputs, theirs.outputs)
        assert loss == expected
    assert sizes == [30] * 4 + [15] + [30] + [10]  # the trial, validation, test


def test_a_run_that_resumes_in_its_last_validation_computes_no_training_features(
    all_splits: PreparedDataset,
) -> None:
    first, second, uninterrupted = (make_trainer(staged(), all_splits) for _ in range(3))
    resumed(train_until(first, 3 * 4), second)
    events = list(second.events())
    assert [event.total for event in events if isinstance(event, FeatureBlock)] == [30]
    assert not any(isinstance(event, Step) for event in events)
    assert run(uninterrupted)[1][-1].metrics == events[-1].metrics  # type: ignore[union-attr]


def test_what_is_cheap_to_compute_is_computed_again(
    all_splits: PreparedDataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    trainer = make_trainer(staged(model=Staged(trainable=("1", "4"))), all_splits)
    _, _, blocks = run(trainer)  # 24 channels of 6 x 6 from 3: 13.5 operations per byte
    assert blocks == 0
    assert "take less to compute than to move" in caplog.text


def test_features_of_other_weights_are_forgotten(all_splits: PreparedDataset) -> None:
    trainer = make_trainer(staged(), all_splits)
    run(trainer)
    sizes = count_images(trainer.module[0])
    trainer.load_weights(trainer.state())
    trainer.predict("validation")
    assert sizes == []  # the features are still there
    state = trainer.state()
    changed = {
        name: value * 1.5 if value.is_floating_point() else value
        for name, value in state.weights.items()
    }
    trainer.load_weights(dataclasses.replace(state, weights=changed))
    predictions, _ = trainer.predict("validation")
    loader = BatchLoader(all_splits.rows, all_splits.table.labels, trainer.statistics, CPU)
    images, _ = loader.load(all_splits.splits["validation"])
    with torch.no_grad():
        expected = trainer.module.eval()(images).numpy()
    np.testing.assert_allclose(predictions.outputs, expected, atol=1e-5)


class OnDisk:
    """Pixels that take no memory."""

    shape, is_in_memory = (1, 10, 100), False

    def read(self, positions: Positions, out: torch.Tensor | None = None) -> torch.Tensor:
        raise NotImplementedError


IN_MEMORY = InMemoryPixels(torch.zeros(10, 1, 10, 100, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("pixels", "memory", "place"),
    [
        (IN_MEMORY, 90_000, FILE),
        (IN_MEMORY, 90_003, MEMORY),
        (OnDisk(), 60_000, FILE),
        (OnDisk(), 60_003, MEMORY),
    ],
)
def test_pixels_in_memory_leave_less_for_features(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pixels: PixelSource, memory: int, place: str
) -> None:
    monkeypatch.setattr(system, "total_memory", lambda: memory)
    assert choose_place(20_000, CPU, PixelRows(pixels, np.arange(10)), tmp_path) == place


def test_a_scratch_file_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    folder = tmp_path / "new" / "cache"
    rows = allocate_rows(FILE, (5, 1, 1, 3000), CPU, folder)
    assert rows is not None
    assert not rows.is_in_memory
    assert rows.tensor.shape == (5, 1, 1, 3000)
    rows.tensor[3] = 7
    assert torch.equal(rows.read(np.array([3, 2])).sum((1, 2, 3)), torch.tensor([21_000, 0]))
    assert list(folder.iterdir()) == []  # nothing stays if the process is killed


@pytest.mark.parametrize("allocates", [True, False])
def test_a_scratch_file_has_its_bytes_before_it_is_mapped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allocates: bool
) -> None:
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    sizes, size = [], 3 * (1 << 20) + 5
    plain = mmap.mmap

    def recorded(number: int, *rest: Any) -> mmap.mmap:
        status = os.fstat(number)
        sizes.append((status.st_size, status.st_blocks * 512))
        return plain(number, *rest)

    monkeypatch.setattr(mmap, "mmap", recorded)
    assert allocate_rows(FILE, (1, 1, 1, size), CPU, tmp_path) is not None
    ((length, blocks),) = sizes
    assert length == size
    assert blocks >= size


def test_a_full_disk_has_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert allocate_rows(FILE, (1, 1, 1, 10), CPU, tmp_path) is None
