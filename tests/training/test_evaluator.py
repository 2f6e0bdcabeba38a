from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sightx.builtin.losses import InverseFrequencyCrossEntropy
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.spec.experiment import Training
from sightx.training.evaluator import Evaluator, forward
from sightx.training.step import Criterion
from support.training import CPU, AlwaysDropout


def make_evaluator(
    dataset: PreparedDataset,
    batch_size: int,
    *,
    seed: int = 0,
    samples: int = 30,
    draws: bool = False,
) -> Evaluator:
    torch.manual_seed(0)
    head = [AlwaysDropout()] if draws else []
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(108, 3), *head)
    return Evaluator(
        module,
        Criterion(InverseFrequencyCrossEntropy(), dataset.counts("train"), CPU),
        BatchLoader(dataset.rows, dataset.table.labels, ((0.5,) * 3, (0.2,) * 3), CPU, seed=seed),
        dataset.splits["validation"][:samples],
        Training(batch_size=batch_size),
    )


def test_every_sample_is_predicted_once_whatever_the_batch(dataset: PreparedDataset) -> None:
    small, large = make_evaluator(dataset, 7), make_evaluator(dataset, 1000)
    assert list(small) == [7, 14, 21, 28, 30]
    assert list(large) == [30]
    one, other = small.predictions(dataset.table), large.predictions(dataset.table)
    assert one.keys == other.keys == tuple(f"{n}.png" for n in range(60, 90))
    np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-6)
    assert small.loss == pytest.approx(large.loss, rel=1e-6)


def test_the_loss_is_torchs_weighted_mean_over_all_samples(dataset: PreparedDataset) -> None:
    evaluator = make_evaluator(dataset, 8)
    list(evaluator)
    predictions = evaluator.predictions(dataset.table)
    counts = torch.tensor(dataset.counts("train"))
    weight = counts.sum() / (3 * counts)
    expected = nn.CrossEntropyLoss(weight=weight)(
        torch.from_numpy(predictions.outputs), torch.tensor(predictions.labels)
    )
    assert evaluator.loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predictions.decisions, predictions.outputs.argmax(1))


def test_draws_depend_on_seed_and_batch_alone(dataset: PreparedDataset) -> None:
    dropped = []
    for generator, seed in ((1, 5), (2, 5), (2, 6)):
        evaluator = make_evaluator(dataset, 8, seed=seed, draws=True)
        torch.manual_seed(generator)
        list(evaluator)
        dropped.append(evaluator.predictions(dataset.table).outputs == 0)
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert (dropped[0] != dropped[2]).any()
    assert (dropped[0][:8] != dropped[0][8:16]).any()  # each batch has its own draws


def test_outputs_are_floats_without_a_graph() -> None:
    outputs = forward(nn.Linear(2, 2), torch.ones(1, 2), "bf16")
    assert outputs.dtype == torch.float32
    assert not outputs.requires_grad


def test_without_samples_the_loss_is_nan(dataset: PreparedDataset) -> None:
    evaluator = make_evaluator(dataset, 8, samples=0)
    assert list(evaluator) == []
    assert np.isnan(evaluator.loss)
