from __future__ import annotations

import json
from pathlib import Path

import pytest

import sightx
from sightx import RunError
from sightx.io import toml
from sightx.runner import verify_resume

FORGETFUL = '''
from sightx.plugin import Model, hookimpl

class Forgetful(Model):
    """A network that counts its batches in an attribute that no checkpoint holds."""

    name = "test-forgetful"

    def build(self, *, channels, outputs, size):
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(channels * size[0] * size[1], outputs)
                self.seen = 0

            def forward(self, images):
                self.seen += self.training
                return self.head(images.flatten(1)) * (1 + 0.1 * self.seen)

        return Net()

@hookimpl
def sightx_components():
    return [Forgetful]
'''


@pytest.mark.slow
def test_an_exact_run_is_verified(exact: Path) -> None:
    lines: list[str] = []
    experiment = sightx.load(exact)
    check = verify_resume.verify_resume(experiment, experiment.context.project, 6, lines.append)
    assert check.states >= 6
    assert ("epoch", 2) in check.stops
    assert len(lines) == 2


@pytest.mark.slow
def test_the_first_difference_and_its_cause_are_named(
    exact: Path, plugin: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "test_forgetful.py").write_text(FORGETFUL)
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["own"]\n')
    message = r"weight head\.\w+ differs after step 2; stopped after step 1: .* a model keeps it"
    experiment = sightx.load(exact, ["model={use='test-forgetful'}"])
    with pytest.raises(RunError, match=message) as caught:
        verify_resume.verify_resume(experiment, experiment.context.project, 6)
    assert caught.value.exit_code == 5


def test_initial_weights_come_from_the_given_folder_of_runs(exact: Path, tmp_path: Path) -> None:
    experiment = sightx.load(exact, ["training.epochs=1"])
    before = sightx.run(experiment, runs=tmp_path / "elsewhere")
    wanted = sightx.load(exact, [f"model.weights=run:{before.id}"])
    (tmp_path / "proof").mkdir()
    verify_resume.write_small_experiment(wanted, tmp_path / "proof", 6, tmp_path / "elsewhere")
    weights = toml.read(tmp_path / "proof" / "experiment.toml").data["model"]["weights"]
    assert weights == str(before.checkpoint() / "model.safetensors")


def test_a_missing_checkpoint_is_a_difference(tmp_path: Path) -> None:
    runs = []
    for name, states in {"straight": (1, 2), "stopped": (1,)}.items():
        runs.append(sightx.Run(tmp_path / name / "runs" / "id"))
        runs[-1].directory.mkdir(parents=True)
        runs[-1].write_json("environment.json", {"device": {"name": "cpu"}})
        lines = [json.dumps({f"step-{step:08}": {"weight a": "0"}}) for step in states]
        (tmp_path / name / "digests.jsonl").write_text("\n".join(lines))
    with pytest.raises(
        RunError, match="the checkpoint after step 2 is missing; stopped after step 1"
    ):
        verify_resume.compare_runs(*runs, [("step", 1)])


def test_the_stops_are_inside_and_between_epochs() -> None:
    assert verify_resume.choose_stops(6) == [
        ("step", 1), ("step", 4), ("step", 6), ("epoch", 6), ("step", 17)
    ]  # fmt: skip
    assert verify_resume.choose_stops(2) == [("step", 1), ("step", 2), ("epoch", 2), ("step", 5)]


def test_a_part_that_fails_is_an_error_of_its_class() -> None:
    failure = verify_resume.failure_of_part(3, "warning\nerror[bad-images] 2 are missing\n")
    assert isinstance(failure, sightx.DataError)
    assert "a run failed: error[bad-images] 2 are missing" in str(failure)
