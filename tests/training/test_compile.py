from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from sightx.data.dataset import PreparedDataset
from sightx.spec.experiment import Execution
from sightx.training.compile import CompiledNetwork
from support.training import Cnn, assert_same_weights, make_experiment, make_trainer, train


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile into the test's folder, with nothing that another test has compiled."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_training_is_eager_training(dataset: PreparedDataset, precision: str) -> None:
    training, execution = {"precision": precision}, Execution(compile=True)
    eager = make_trainer(make_experiment(model=Cnn(), training=training), dataset)
    expected, _ = train(eager)
    assert counters["frames"]["ok"] == 0
    compiled = make_trainer(
        make_experiment(model=Cnn(), training=training, execution=execution), dataset
    )
    losses, _ = train(compiled)
    assert counters["frames"]["ok"] > 0
    tolerance = 1e-4 if precision == "fp32" else 0.05
    np.testing.assert_allclose(losses, expected, atol=tolerance)
    assert list(compiled.state().weights) == list(eager.state().weights)
    for name, value in eager.module.state_dict().items():
        other = compiled.module.state_dict()[name]
        torch.testing.assert_close(other, value, atol=tolerance, rtol=1e-3)


def test_where_compiling_fails_the_network_runs_uncompiled(
    dataset: PreparedDataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    eager = make_trainer(make_experiment(model=Cnn()), dataset)
    failed = make_trainer(make_experiment(model=Cnn(), execution=Execution(compile=True)), dataset)
    assert train(eager)[0] == train(failed)[0]
    assert_same_weights(eager, failed)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "sightx"]
    assert line.startswith("execution.compile: runs uncompiled, because compiling failed: ")
    assert "C++" in line
    assert "\n" not in line


def test_other_batches_and_evaluation_do_not_compile() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    plain, compiled = copy.deepcopy(module), CompiledNetwork(module, 8)
    images = torch.randn(5, 4)
    assert torch.equal(compiled(images), plain(images))
    with torch.no_grad():
        assert torch.equal(compiled(torch.ones(8, 4)), plain(torch.ones(8, 4)))
    assert counters["frames"]["total"] == 0
