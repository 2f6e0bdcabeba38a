from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import sightx
from sightx import DataError, Run, RunError
from sightx.runner.evaluate import evaluate
from sightx.runs import lock

RANDOM_NETWORK = '''
from sightx.plugin import Model, hookimpl

class Random(Model):
    """A network with dropout in evaluation too."""

    name = "test-scoring-net"

    def build(self, *, channels, outputs, size):
        from torch import nn

        class Always(nn.Module):
            def forward(self, values):
                return nn.functional.dropout(values, 0.5, training=True)

        return nn.Sequential(
            nn.Flatten(), Always(), nn.Linear(channels * size[0] * size[1], outputs)
        )

@hookimpl
def sightx_components():
    return [Random]
'''


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    sets = ["evaluation.test=on-request"]
    return sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")


def test_metrics_on_request_are_those_at_the_end(run: Run, spec: Path, tmp_path: Path) -> None:
    at_end = sightx.run(sightx.load(spec), runs=tmp_path / "runs").result["test"]
    assert evaluate(run, "test") == pytest.approx(at_end)
    assert len(run.predictions("test")) == 12


def test_a_random_network_gets_the_same_metrics_again(spec: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "test_scoring_net.py").write_text(RANDOM_NETWORK)
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugins}"]\n')
    finished = sightx.run(
        sightx.load(spec, ["model={use='test-scoring-net'}", "seed=7"]), runs=tmp_path / "runs"
    )
    assert evaluate(finished, "test") == finished.result["test"]


def test_validation_metrics_are_those_of_the_run(run: Run) -> None:
    assert evaluate(run, "validation") == pytest.approx(run.result["validation"])
    last = evaluate(run, "validation", checkpoint="last")
    row = run.metrics.iloc[-1]
    assert last["validation/loss"] == pytest.approx(row["validation/loss"])


def test_missing_images_are_an_error(run: Run, folders: Path) -> None:
    (folders / "test" / "dark" / "0.png").unlink()
    with pytest.raises(DataError, match=r"11 of the 12 test samples of .* exist"):
        evaluate(run, "test")


def test_a_run_in_use_is_not_changed(run: Run) -> None:
    with lock.run_lock(run.directory), pytest.raises(RunError, match="in use"):
        evaluate(run, "test")
    assert run.predictions_of("test") is None


def test_a_read_only_run_can_be_scored(  # R10
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = evaluate(run, "test")
    place = tmp_path / "read-only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        copy = Run(Path(shutil.copytree(run.directory, place / run.id)))
        shutil.rmtree(copy.directory / "predictions")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert evaluate(copy, "test") == expected
        assert "is read-only: these predictions are not kept" in caplog.text
        assert not (copy.directory / "predictions").exists()
    finally:
        subprocess.run(["umount", str(place)], check=True)
