from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sightx.builtin.losses import InverseFrequencyCrossEntropy
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.spec.experiment import Training
from sightx.training.criterion import Criterion
from sightx.training.evaluate import Evaluator, forward

CPU = torch.device("cpu")


def scores(samples: PreparedDataset, size: int) -> Evaluator:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(108, 3))
    batches = BatchLoader(samples.rows, samples.table.labels, ((0.5,) * 3, (0.2,) * 3), CPU, seed=0)
    objective = Criterion(InverseFrequencyCrossEntropy(), samples.counts("train"), CPU)
    positions = samples.splits["validation"]
    return Evaluator(module, objective, batches, positions, Training(batch_size=size))


def test_every_sample_is_predicted_once_whatever_the_batch(samples: PreparedDataset) -> None:
    small, large = scores(samples, 7), scores(samples, 1000)
    assert list(small) == [7, 14, 21, 28, 30]
    assert list(large) == [30]
    one, other = small.predictions(samples.table), large.predictions(samples.table)
    assert one.keys == other.keys == tuple(f"{n}.png" for n in range(60, 90))
    np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-6)
    assert small.loss == pytest.approx(large.loss, rel=1e-6)


def test_the_loss_is_torchs_weighted_mean_over_all_samples(samples: PreparedDataset) -> None:
    made = scores(samples, 8)
    list(made)
    found = made.predictions(samples.table)
    counts = torch.tensor(samples.counts("train"))
    weight = counts.sum() / (3 * counts)
    expected = nn.CrossEntropyLoss(weight=weight)(
        torch.from_numpy(found.outputs), torch.tensor(found.labels)
    )
    assert made.loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.decisions, found.outputs.argmax(1))


class Always(nn.Module):
    """Dropout that evaluation does not end."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(values, 0.5, training=True)


def test_draws_depend_on_seed_and_batch_alone(samples: PreparedDataset) -> None:
    found = []
    for generator, seed in ((1, 5), (2, 5), (2, 6)):
        made = scores(samples, 8)
        made._module = nn.Sequential(made._module, Always())
        made._batches = replace(made._batches, seed=seed)
        torch.manual_seed(generator)
        list(made)
        found.append(made.predictions(samples.table).outputs == 0)
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    assert (found[0][:8] != found[0][8:16]).any()  # each batch has draws of its own


def test_what_never_draws_leaves_the_generator_alone(samples: PreparedDataset) -> None:
    made = scores(samples, 8)
    made._module = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    before = torch.get_rng_state()
    list(made)
    assert torch.equal(before, torch.get_rng_state())


def test_outputs_are_floats_without_a_graph() -> None:
    answers = forward(nn.Linear(2, 2), torch.ones(1, 2), "bf16")
    assert answers.dtype == torch.float32
    assert not answers.requires_grad


def test_without_samples_the_loss_is_nan(samples: PreparedDataset) -> None:
    made = scores(samples, 8)
    made._positions = np.arange(0)
    assert list(made) == []
    assert np.isnan(made.loss)
