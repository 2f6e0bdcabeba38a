from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import sightx
from sightx import DataError, Run, RunError
from sightx.runner.evaluate import evaluate
from sightx.runs import lock

DRAWING = '''
from sightx.plugin import Model, hookimpl

class Drawing(Model):
    """A network that drops values in evaluation too."""

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
    return [Drawing]
'''


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    sets = ["evaluation.test=on-request"]
    return sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")


def test_figures_on_request_are_those_at_the_end(run: Run, spec: Path, tmp_path: Path) -> None:
    at_end = sightx.run(sightx.load(spec), runs=tmp_path / "runs").result["test"]
    found = evaluate(run, "test")
    assert found == pytest.approx(at_end)
    assert len(run.predictions("test")) == 12


def test_a_network_that_draws_is_scored_to_the_same_figures(spec: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "test_scoring_net.py").write_text(DRAWING)
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugins}"]\n')
    done = sightx.run(
        sightx.load(spec, ["model={use='test-scoring-net'}", "seed=7"]), runs=tmp_path / "runs"
    )
    assert evaluate(done, "test") == done.result["test"]


def test_validation_again_is_what_the_run_saw(run: Run) -> None:
    assert evaluate(run, "validation") == pytest.approx(run.result["validation"])
    last = evaluate(run, "validation", checkpoint="last")
    row = run.metrics.iloc[-1]
    assert last["validation/loss"] == pytest.approx(row["validation/loss"])


def test_data_that_are_gone_are_said(run: Run, folders: Path) -> None:
    (folders / "test" / "dark" / "0.png").unlink()
    with pytest.raises(DataError, match="11 of the 12 test samples"):
        evaluate(run, "test")


def test_a_run_in_use_is_not_written(run: Run) -> None:
    with lock.run_lock(run.directory), pytest.raises(RunError, match="in use"):
        evaluate(run, "test")
    assert run.predictions_of("test") is None


def test_a_run_that_cannot_be_written_still_gives_its_figures(  # R10
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
        assert "cannot be written: these predictions are not kept" in caplog.text
        assert not (copy.directory / "predictions").exists()
    finally:
        subprocess.run(["umount", str(place)], check=True)
