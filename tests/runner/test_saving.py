from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx import ResourceError
from sightx.io import atomic
from sightx.plugin import Problem, RunInfo, Step, hookimpl
from sightx.runs import checkpoints


class Written:
    """Observer that remembers the checkpoints that were written, and loads each of them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @hookimpl
    def sightx_checkpoint_written(self, run: RunInfo, checkpoint: str) -> None:
        checkpoints.load(run.directory / "checkpoints" / checkpoint)
        self.names.append(checkpoint)


def test_checkpoints_are_saved_between_epochs(exact: Path, tmp_path: Path) -> None:
    written = Written()
    experiment = sightx.load(exact, ["execution.save_every_steps=4", "training.epochs=2"])
    run = sightx.run(experiment, observers=[written], runs=tmp_path)
    assert written.names == [
        "step-00000004-running", "step-00000006", "step-00000008-running",
        "step-00000012-running", "step-00000012",
    ]  # fmt: skip
    assert run.checkpoints["last"] == "step-00000012"


def test_saves_between_epochs_do_not_move_the_names_of_policies(
    exact: Path, tmp_path: Path
) -> None:
    runs = [
        sightx.run(sightx.load(exact, [f"execution.save_every_steps={n}"]), runs=tmp_path / str(n))
        for n in (0, 1)
    ]
    assert runs[0].checkpoints == runs[1].checkpoints


def test_checkpoints_are_saved_after_some_minutes(exact: Path, tmp_path: Path) -> None:
    written = Written()
    sets = ["execution.save_every_minutes=1e-9", "training.epochs=1"]
    sightx.run(sightx.load(exact, sets), observers=[written], runs=tmp_path)
    assert written.names[:2] == ["step-00000001-running", "step-00000002-running"]


def test_a_disk_without_room_for_two_states_is_an_error_before_the_first_step(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(folder: Path, need: int) -> None:
        weights = 4 * (3 * 4 * 9 + 4 + 4 * 4 + 4 * 64 * 2 + 2) + 8  # and the counter of batches
        assert need == 6 * weights
        raise ResourceError(Problem("disk-write", "disk full: need 12 kB"))

    monkeypatch.setattr(atomic, "require_free_space", no_room)
    with pytest.raises(ResourceError, match="disk full"):
        sightx.run(sightx.load(exact), runs=tmp_path)
    (directory,) = tmp_path.glob("*-exact-*")
    assert sightx.open_run(directory).checkpoints == {}


class Remove:
    """Observer that moves the run directory away after a step."""

    def __init__(self) -> None:
        self.run: RunInfo | None = None

    @hookimpl
    def sightx_run_started(self, run: RunInfo) -> None:
        self.run = run

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        if step.step == 2 and self.run:
            self.run.directory.rename(self.run.directory.parents[1] / "gone")


@pytest.mark.parametrize("every", [0, 1])
def test_a_run_whose_directory_is_gone_ends_at_the_next_save(  # C04
    exact: Path, tmp_path: Path, every: int
) -> None:
    sets = [f"execution.save_every_steps={every}"]
    with pytest.raises(ResourceError, match=r"-exact-.* is gone") as caught:
        sightx.run(sightx.load(exact, sets), observers=[Remove()], runs=tmp_path / "runs")
    assert caught.value.exit_code == 7
    assert list((tmp_path / "runs").iterdir()) == []  # it is not created again
