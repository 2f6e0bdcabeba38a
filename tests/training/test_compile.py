from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import Experiment
from sightx.data.dataset import PreparedDataset
from sightx.plugin import Model, Step
from sightx.spec.experiment import Execution
from sightx.training.compile import CompiledNetwork
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

Make = Callable[..., Experiment]
CPU = torch.device("cpu")


class Net(Model):
    """Batch normalisation and dropout: what has a state, and what draws."""

    name = "test-net"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(4 * (size[0] - 2) * (size[1] - 2), outputs),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile into the test's own folder, with what no other test has compiled."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    yield
    torch.compiler.reset()


def trained(experiment: Experiment, samples: PreparedDataset) -> tuple[list[float], Trainer]:
    module = build_module(experiment.model, experiment.loss, 3, samples.rows.shape, experiment.seed)
    made = Trainer(experiment, samples, module, CPU)
    return [float(e.loss) for e in made.events() if isinstance(e, Step)], made


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_training_is_eager_training(
    experiment: Make, samples: PreparedDataset, precision: str
) -> None:
    training = {"precision": precision}
    eager, plain = trained(experiment(model=Net(), training=training), samples)
    execution = Execution(compile=True)
    found, made = trained(experiment(model=Net(), training=training, execution=execution), samples)
    network = made._step_rule.network
    assert isinstance(network, CompiledNetwork)
    assert network._fast is not plain.module
    assert isinstance(network._fast, torch._dynamo.OptimizedModule)
    tolerance = 1e-4 if precision == "fp32" else 0.05
    np.testing.assert_allclose(found, eager, atol=tolerance)
    assert list(made.state().weights) == list(plain.state().weights)
    for name, value in plain.module.state_dict().items():
        torch.testing.assert_close(made.module.state_dict()[name], value, atol=tolerance, rtol=1e-3)


def test_where_compiling_fails_the_network_runs_as_it_is(
    experiment: Make,
    samples: PreparedDataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    eager, plain = trained(experiment(model=Net()), samples)
    found, made = trained(experiment(model=Net(), execution=Execution(compile=True)), samples)
    assert found == eager
    for name, value in plain.module.state_dict().items():
        assert torch.equal(made.module.state_dict()[name], value), name
    (said,) = [record.getMessage() for record in caplog.records if record.name == "sightx"]
    assert said.startswith("execution.compile: runs uncompiled, for compiling failed: ")
    assert "C++" in said
    assert "\n" not in said


def test_other_batches_and_evaluation_do_not_compile() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    other, compiled = copy.deepcopy(module), CompiledNetwork(module, 8)
    images = torch.randn(5, 4)
    assert torch.equal(compiled(images), other(images))
    with torch.no_grad():
        assert torch.equal(compiled(torch.ones(8, 4)), other(torch.ones(8, 4)))
    assert compiled._fast is None
