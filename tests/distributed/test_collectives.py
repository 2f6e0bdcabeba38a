"""One process against two real ones, over gloo (T08)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightx import ResourceError, SpecError
from sightx.distributed.collectives import Collectives, check_idle_ranks, local_device
from sightx.spec.experiment import Training

Results = dict[str, Any]
WORKER = Path(__file__).with_name("worker.py")
TESTS = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def start(processes: int, folder: Path) -> None:
    command = [sys.executable] if processes == 1 else [*TORCHRUN, str(processes)]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, str(WORKER), str(folder)],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "TMPDIR": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The results of one process, and of each of two: `processes-rank`."""
    folder = tmp_path_factory.mktemp("ranks")
    start(1, folder)
    start(2, folder)
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_two_processes_exchange_values(results: dict[str, Results]) -> None:
    first, second = results["2-0"]["collectives"], results["2-1"]["collectives"]
    for rank in (first, second):
        assert rank["all_reduce_sum"] == [2.0, 1.0]
        assert rank["all_reduce_max"] == 15
        assert rank["broadcast_object"] == {"pi": 3.141592653589793, "text": "é"}
        assert rank["broadcast_"] == [[[0.0] * 3] * 2, True]
        assert rank["state"] == [[0, 1, 2], 0.5, {"step": 7, "nan": [0.1]}]
    # 7 samples in micro-batches of 2: 0 1 | 2 3 | 4 5 | 6
    assert (first["positions"], second["positions"]) == ([0, 1, 4, 5], [2, 3, 6])
    assert (first["micro-batches"], second["micro-batches"]) == ([[0, 2], [0]], [[1, 3], []])
    assert second["idle positions"] == [0, 1]  # it reads what rank 0 counts


def test_the_threads_of_a_group_end_with_it(results: dict[str, Results]) -> None:
    """One that frees tensors when Python ends would abort a process that has done its work."""
    of_ddp = 2  # torch keeps the group that DistributedDataParallel has used
    assert all(results[name]["threads"] <= of_ddp for name in ("2-0", "2-1"))


def test_one_process_has_all_of_the_work(results: dict[str, Results]) -> None:
    single = results["1-0"]["collectives"]
    assert single["positions"] == list(range(7))
    assert single["micro-batches"] == [[0, 1, 2, 3], [0]]
    assert single["all_reduce_sum"] == [1.0, 0.0]


def test_two_processes_train_as_one_does(results: dict[str, Results]) -> None:
    """Weighted loss, dropout, augmentation, clipping, a rank without work in a ragged batch."""
    one, two = results["1-0"]["dropout"], results["2-0"]["dropout"]
    # 60 samples, batches of 14: the last has 4 samples, micro-batches of 3 and 1.
    assert len(one["losses"]) == 15
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=2e-5)
    for name, weight in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], weight, rtol=1e-3, atol=1e-5)
    for name, weight in one["average"].items():
        np.testing.assert_allclose(two["average"][name], weight, rtol=1e-3, atol=1e-5)
    assert [epoch["train/accuracy"] for epoch in two["history"]] == [
        epoch["train/accuracy"] for epoch in one["history"]
    ]
    assert one["losses"][0] != one["losses"][1]


def test_two_passes_and_the_weights_of_a_loss_train_as_in_one_process(
    results: dict[str, Results],
) -> None:
    """SAM, a learned loss, weights by a column, a frozen group, dropout, a ragged batch."""
    one, two, other = (results[name]["recipe"] for name in ("1-0", "2-0", "2-1"))
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=2e-5)
    np.testing.assert_allclose(two["loss weights"], one["loss weights"], rtol=1e-4)
    for name, weight in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], weight, rtol=1e-3, atol=1e-5)
    for key in ("loss weights", "state", "average", "history"):
        assert other[key] == two[key]


def test_all_ranks_have_the_same_weights_and_history(results: dict[str, Results]) -> None:
    for kind in ("dropout", "batch norm"):
        first, second = results["2-0"][kind], results["2-1"][kind]
        assert second["history"] == first["history"]
        assert second["losses"] == first["losses"]
        assert second["average"] == first["average"] != first["weights"]
        assert second["state"] == first["state"]  # running statistics are those of rank 0


def test_a_rank_without_a_micro_batch_does_not_count(results: dict[str, Results]) -> None:
    """21 samples in batches of 20: the last has one, and rank 1 has none."""
    one, two = results["1-0"]["idle"], results["2-0"]["idle"]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=2e-5)


def test_every_sample_is_evaluated_once_and_to_the_bit(results: dict[str, Results]) -> None:
    one, two = results["1-0"]["evaluation"], results["2-0"]["evaluation"]
    assert two["keys"] == one["keys"] == [f"{number}.png" for number in range(60, 81)]
    assert two["bits"] == one["bits"]
    assert one["progress"] == [4, 8, 12, 16, 20, 21]
    assert two["progress"] == results["2-1"]["evaluation"]["progress"] == [8, 16, 21]


def test_test_time_augmentation_is_the_same_to_the_bit(results: dict[str, Results]) -> None:
    one, two = results["1-0"]["views"], results["2-0"]["views"]
    assert two == {**one, "progress": [8, 16, 21]}
    assert one["bits"] != results["1-0"]["evaluation"]["bits"]


@pytest.mark.slow
def test_three_processes_train_as_one_does(tmp_path: Path, results: dict[str, Results]) -> None:
    start(3, tmp_path)
    three, one = json.loads((tmp_path / "3-0.json").read_text()), results["1-0"]
    assert three["evaluation"]["bits"] == one["evaluation"]["bits"]
    for kind in ("dropout", "idle"):
        np.testing.assert_allclose(three[kind]["losses"], one[kind]["losses"], rtol=2e-5)


def test_a_process_without_work_is_refused() -> None:
    for batch, micro, size in [(32, 8, 4), (32, 32, 1), (33, 32, 2), (32, None, 1)]:
        check_idle_ranks(Training(batch_size=batch, micro_batch_size=micro), size)
    with pytest.raises(SpecError, match=r"training\.micro_batch_size: .* set it to 16 or less"):
        check_idle_ranks(Training(batch_size=32), 2)
    with pytest.raises(SpecError, match="3 processes; set it to 10 or less"):
        check_idle_ranks(Training(batch_size=32, micro_batch_size=16), 3)
    with pytest.raises(SpecError, match=r"raise training\.batch_size to 4"):
        check_idle_ranks(Training(batch_size=2), 4)


def test_each_process_of_a_host_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert local_device("auto") == "auto"
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert [local_device(name) for name in ("auto", "cuda", "cuda:2", "cpu")] == [
        "cuda:1", "cuda:1", "cuda:2", "cpu",
    ]  # fmt: skip


def test_several_processes_do_not_use_the_gpu_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert local_device("mps") == "mps"
    for name in ("RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert local_device("auto") == "cpu"
    with pytest.raises(ResourceError, match=r"execution.device: several .* on mps .*cpu"):
        local_device("mps")


def test_collectives_of_a_single_process_return_what_they_get() -> None:
    collectives, tensor = Collectives(), torch.zeros(2)
    assert collectives.all_reduce_sum(tensor) is tensor
    assert collectives.broadcast_object(collectives) is collectives
    assert (collectives.all_reduce_max(3), collectives.is_main_process) == (3, True)
    parts = [tensor]
    assert collectives.gather(parts, [2]) is parts
    positions = np.arange(3)
    assert collectives.local_positions(positions, 1) is positions
    module = torch.nn.Linear(1, 1)
    assert collectives.wrap_ddp(module) is module
