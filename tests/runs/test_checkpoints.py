from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightx import ResourceError, RunError
from sightx.runs import checkpoints
from sightx.training.state import State


def state(step: int) -> State:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(3, 4, generator=generator), "n": torch.tensor(step)}
    return State(weights, {"0.step": torch.tensor(float(step))}, {"step": step})


def save(folder: Path, step: int, *names: str) -> Path:
    return checkpoints.save(folder, state(step), {"classes": ["a", "b"]}, names)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    loaded = checkpoints.load(save(tmp_path, 7, "last"))
    assert loaded.record == {"step": 7}
    for name, weight in state(7).weights.items():
        assert torch.equal(loaded.weights[name], weight)
    assert torch.equal(loaded.optimizer["0.step"], torch.tensor(7.0))


def test_weights_are_a_plain_safetensors_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    assert torch.equal(load_file(path / "model.safetensors")["n"], torch.tensor(1))


def test_names_move_and_what_no_name_needs_goes(tmp_path: Path) -> None:
    save(tmp_path, 1, "last", "best")
    save(tmp_path, 2, "last")
    save(tmp_path, 3, "last")
    assert checkpoints.read_names(tmp_path) == {"last": "step-00000003", "best": "step-00000001"}
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000001", "step-00000003"]


def test_a_checkpoint_never_changes_once_it_is_there(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()}
    save(tmp_path, 1, "best")
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()}
    assert checkpoints.read_names(tmp_path)["best"] == path.name


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json",
                                  "recipe.json", "manifest.json"])  # fmt: skip
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_file_is_named_and_nothing_is_loaded(
    tmp_path: Path, file: str, damage: str
) -> None:
    path = save(tmp_path, 1, "last")
    content = bytearray((path / file).read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "flip":
            (path / file).write_bytes(content)
        case "cut":
            (path / file).write_bytes(content[:-3])
        case "empty":
            (path / file).write_bytes(b"")
        case "gone":
            (path / file).unlink()
    with pytest.raises(RunError) as caught:
        checkpoints.load(path)
    assert caught.value.exit_code == 5
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json",
                                  "recipe.json", "manifest.json"])  # fmt: skip
def test_a_pickle_in_place_of_a_file_runs_nothing(tmp_path: Path, file: str) -> None:
    marker = tmp_path / "ran"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    path = save(tmp_path / "checkpoints", 1, "last")
    (path / file).write_bytes(payload)
    with pytest.raises(RunError):
        checkpoints.load(path)
    assert not marker.exists()


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".writing-step-00000001").mkdir()
    (tmp_path / ".writing-names.json").write_text("{")
    save(tmp_path, 2, "last")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["names.json", "step-00000002"]


def _crash_at(call: int, folder: Path) -> int:
    """Save step 2 in a child that dies at the n-th write, sync or rename; return its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def counted(function):  # type: ignore[no-untyped-def]
        def wrapper(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            if count == call:
                os._exit(9)
            return function(*args, **kwargs)

        return wrapper

    os.fsync = counted(os.fsync)
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.mkdir = counted(Path.mkdir)  # type: ignore[method-assign]
    Path.open = counted(Path.open)  # type: ignore[method-assign]
    save(folder, 2, "last", "best")
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_crash_at_any_point_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    points = 0
    for call in range(1, 100):
        folder = tmp_path / str(call)
        save(folder, 1, "last", "best")
        status = _crash_at(call, folder)
        for name in checkpoints.read_names(folder).values():
            assert checkpoints.load(folder / name).record["step"] in (1, 2)
        save(folder, 3, "last")
        assert not list(folder.glob(".writing-*"))
        if status == 0:
            break
        points += 1
    assert points > 15


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        before = save(path, 1, "last")
        large = State({"w": torch.zeros(100_000)}, {}, {"step": 2})
        with pytest.raises(ResourceError, match="No space left"):
            checkpoints.save(path, large, {}, ["last"])
        assert checkpoints.read_names(path) == {"last": before.name}
        assert checkpoints.load(before).record["step"] == 1
        save(path, 3, "last")
        assert checkpoints.read_names(path) == {"last": "step-00000003"}
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    listed = json.loads((path / "manifest.json").read_text())
    assert {*listed, "manifest.json"} == {p.name for p in path.iterdir()}


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_names_that_are_damaged_are_exit_5(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(RunError, match=r"names\.json"):
        checkpoints.read_names(tmp_path)


def test_a_stop_before_validation_does_not_take_the_epochs_place(tmp_path: Path) -> None:
    running = State(state(4).weights, {}, {"step": 4, "totals": [1.0, 2.0, 3]})
    assert checkpoints.save(tmp_path, running, {}, ["last"]).name == "step-00000004-running"
    whole = State(state(4).weights, {}, {"step": 4, "totals": [0.0, 0.0, 0]})
    assert checkpoints.save(tmp_path, whole, {}, ["last"]).name == "step-00000004"
    assert [p.name for p in tmp_path.glob("step-*")] == ["step-00000004"]
