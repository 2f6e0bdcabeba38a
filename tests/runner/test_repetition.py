"""A repeat is compared with its run to the bit; an earlier run of an experiment is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import sightx
from sightx import Run, RunError
from sightx.runner import repetition
from support.commands import sightx_main


@pytest.fixture(scope="module")
def original(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of a run, alone in its folder of runs."""
    folder = tmp_path_factory.mktemp("repeat")
    return Run(shutil.copytree(trained.directory, folder / "runs" / trained.id))


@pytest.fixture
def copies(original: Run, tmp_path: Path) -> Callable[[], tuple[Run, Run]]:
    def make() -> tuple[Run, Run]:
        first, second = (
            Run(shutil.copytree(original.directory, tmp_path / name / original.id))
            for name in ("runs", "others")
        )
        return first, second

    return make


def test_a_run_is_repeated_from_its_directory_alone(
    trained: Run, original: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = trained.directory.parents[1] / "spec.toml"
    runs = ["--runs", str(original.directory.parent)]
    threads = torch.get_num_threads()
    recorded = original.environment["numerics"]["threads"]
    torch.set_num_threads(recorded + 1)
    try:
        assert sightx_main("run", "--again", "last", "--quiet", *runs) == 0
        assert torch.get_num_threads() == recorded + 1
    finally:
        torch.set_num_threads(threads)
    out, err = capsys.readouterr()
    repeat = sightx.open_run(out.strip())
    assert repeat.id != original.id
    assert repeat.environment["numerics"]["threads"] == recorded
    assert f"torch uses {recorded} thread" in err
    assert repeat.environment["parents"] == [{"run": original.id, "why": "repeat"}]
    assert f"reproduced {original.id} to the bit: 1 epoch, the tensors of 1 checkpoint" in err
    assert ", 24 predictions" in err
    assert "is this experiment" not in err
    assert sightx_main("run", str(spec), "--quiet", *runs) == 0
    assert f"{repeat.id} is this experiment on the same data, finished with" in (
        capsys.readouterr().err
    )


def test_a_finished_run_of_the_same_experiment_and_data_is_announced(
    trained: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    experiment = sightx.load(trained.directory.parents[1] / "spec.toml")
    table = sightx.table(experiment)
    assert repetition.find_twin(trained.directory.parent, experiment, table, {}).id == trained.id
    assert repetition.find_twin(tmp_path / "none", experiment, table, {}) is None
    contents = {"model.weights": "5f"}
    assert repetition.find_twin(trained.directory.parent, experiment, table, contents) is None
    others = table.take(np.arange(1, len(table)))
    assert repetition.find_twin(trained.directory.parent, experiment, others, {}) is None
    text = repetition.describe_twin(trained, "validation/accuracy")
    assert text.startswith(f"{trained.id} is this experiment on the same data, finished with valid")
    assert text.endswith(f"; sightx run --again {trained.id} repeats it and compares")


def test_the_first_difference_is_named_with_what_else_differs(
    copies: Callable[[], tuple[Run, Run]],
) -> None:
    first, second = copies()
    same = repetition.compare_repeat(first, second)
    assert same.epochs == len(first.metrics)
    assert same.checkpoints >= 1
    assert same.predictions == 24
    file = second.directory / "predictions" / "test.probabilities.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match=r"test\.probabilities\.npy differs; nothing else differs"):
        repetition.compare_repeat(first, second)
    environment = first.environment
    environment["device"]["name"] = "cuda:0"
    second.write_json("environment.json", environment)
    assert repetition.likely_cause(second) == "set execution.deterministic = true"
    environment["packages"]["torch"] = "1.0"
    first.write_json("environment.json", environment)
    lines = (second.directory / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["train/loss"], row["seconds"] = 7.5, 1e6
    (second.directory / "metrics.jsonl").write_text("\n".join([json.dumps(row), *lines[1:], ""]))
    message = r"train/loss differs from epoch 1: [\d.]+, 7.5; it differs in packages.torch 1.0 then"
    with pytest.raises(RunError, match=message) as caught:
        repetition.compare_repeat(first, second)
    assert caught.value.exit_code == 5


def test_an_unfinished_run_is_compared_as_far_as_it_went(
    copies: Callable[[], tuple[Run, Run]],
) -> None:
    first, second = copies()
    second.write_epoch({"epoch": 2, "train/loss": 0.5})
    with pytest.raises(RunError, match="the run has 1 epoch, its repeat 2"):
        repetition.compare_repeat(first, second)
    (first.directory / "result.json").unlink()
    assert repetition.compare_repeat(first, second).epochs == 1
    first.truncate_metrics(0)
    with pytest.raises(RunError, match="nothing to compare"):
        repetition.compare_repeat(first, second)
