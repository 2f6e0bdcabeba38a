from __future__ import annotations

import hashlib
import json
import logging
import resource
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sightx import PluginError, Predictor, ResourceError, RunError
from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.training.state import State

Faulty = Callable[[Callable[[], object], int, str], int]
FIXTURES = Path(__file__).parent / "fixtures"
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "recipe.json", "manifest.json")


def state(step: int) -> State:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(3, 4, generator=generator), "n": torch.tensor(step)}
    return State(weights, {"0.step": torch.tensor(float(step))}, {"step": step})


def save(folder: Path, step: int, *names: str) -> Path:
    return checkpoints.save(folder, state(step), {"classes": ["a", "b"]}, names)


def save_async(folder: Path, step: int, *names: str) -> Path:
    written: list[Path] = []
    with AsyncCheckpointer(folder) as writer:
        writer.save(state(step), {"classes": ["a", "b"]}, names, written.append)
    return written[0]


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    loaded = checkpoints.load(save(tmp_path, 7, "last"))
    assert loaded.record == {"step": 7}
    for name, weight in state(7).weights.items():
        assert torch.equal(loaded.weights[name], weight)
    assert torch.equal(loaded.optimizer["0.step"], torch.tensor(7.0))


def test_weights_are_a_plain_safetensors_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    assert torch.equal(load_file(path / "model.safetensors")["n"], torch.tensor(1))


def test_names_move_and_old_checkpoints_without_a_name_are_removed(tmp_path: Path) -> None:
    save(tmp_path, 1, "last", "best")
    save(tmp_path, 2, "last")
    save(tmp_path, 3, "last")
    save(tmp_path, 4, "last")
    assert checkpoints.read_names(tmp_path) == {"last": "step-00000004", "best": "step-00000001"}
    assert steps(tmp_path) == [1, 3, 4]  # the best, and the last two


def test_a_checkpoint_never_changes_once_it_is_there(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()}
    save(tmp_path, 1, "best")
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.iterdir()}
    assert checkpoints.read_names(tmp_path)["best"] == path.name


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "flip":
            content[len(content) // 2] ^= 1
        case "zeros":
            content = bytearray(len(content))
        case "gone":
            path.unlink()
            return
        case share:
            kept = int(len(content) * float(share) / 100)
            content = content[
                : min(kept, len(content) - 2)
            ]  # losing only the last newline would not be damage
    path.write_bytes(content)


DAMAGES = ("0", "0.1", "50", "99.9", "zeros", "flip", "gone")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(
    tmp_path: Path, file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, path = save(tmp_path, 1), save(tmp_path, 2, "last", "best")
    damage(path / file, how)
    with pytest.raises(RunError) as caught:
        checkpoints.load(path)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING, "sightx"):
        used, loaded = checkpoints.load_latest(tmp_path)
    assert (used, loaded.record["step"]) == (before, 1)
    (warning,) = caplog.messages
    assert warning.startswith(f"{path}: warning[bad-checkpoint] ")
    assert file in warning or (file, how) == ("manifest.json", "flip")  # then a hash is wrong

    damage(before / file, how)
    with pytest.raises(RunError, match=r"all checkpoints \(2\) are damaged") as caught:
        checkpoints.load_latest(tmp_path)
    assert caught.value.exit_code == 5


def test_an_incomplete_manifest_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    for content in ("{}", "[]", "null", "[" * 100_000, '{"../names.json": ""}'):
        (path / "manifest.json").write_text(content)
        with pytest.raises(RunError, match=r"manifest\.json"):
            checkpoints.load(path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2, "last")
    damage(path / "model.safetensors", "50")
    save(tmp_path, 2, "last")
    assert steps(tmp_path) == [1, 2]


def test_an_undamaged_checkpoint_keeps_its_recipe(tmp_path: Path) -> None:
    path = save(tmp_path, 2, "last")
    before = {p.name: (p.read_bytes(), p.stat().st_ino) for p in path.iterdir()}
    checkpoints.save(tmp_path, state(2), {"classes": ["of", "another", "plugin"]}, ["last"])
    assert before == {p.name: (p.read_bytes(), p.stat().st_ino) for p in path.iterdir()}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["die", "die after", "ENOSPC"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_fault_while_the_only_checkpoint_is_saved_again_never_loses_it(
    tmp_path: Path, how: str, damaged: bool, faulty: Faulty
) -> None:
    """A resumed run saves its state once more, perhaps with the recipe of newer code."""
    before = save(tmp_path / "before", 2, "last").parent
    if damaged:  # then the run was resumed from the checkpoint before it
        save(before, 3, "last")
        damage(before / "step-00000003" / "model.safetensors", "flip")
    step, points, status = 2 + damaged, 0, -1
    while status:
        points += 1
        folder = Path(shutil.copytree(before, tmp_path / str(points)))
        again = partial(checkpoints.save, folder, state(step), {"a": "b"}, ["last"])
        status = faulty(again, points, how)
        expected = [{"step": 2}, *[{"step": 3}] * damaged]
        assert checkpoints.load_latest(folder)[1].record in expected
        again()
        assert checkpoints.load_latest(folder)[1].record == {"step": step}
        assert not list(folder.glob(".writing-*"))
    assert points > (13 if damaged else 3)


def test_a_checkpoint_of_format_1_can_always_be_read(tmp_path: Path) -> None:  # C18
    """The fixture was written by the first version of the format."""
    folder = Path(shutil.copytree(FIXTURES / "format-1", tmp_path / "checkpoints"))
    path, loaded = checkpoints.load_latest(folder)
    assert path.name == checkpoints.read_names(folder)["last"] == "step-00000003"
    assert loaded.record["step"] == 3
    assert set(loaded.record) >= {"totals", "history", "postprocess", "optimizer"}
    assert loaded.is_between_epochs
    assert {name: tuple(weight.shape) for name, weight in loaded.weights.items()} == {
        "hidden1.weight": (2, 12),
        "hidden1.bias": (2,),
        "head.weight": (2, 2),
        "head.bias": (2,),
    }
    moments = ("step", "exp_avg", "exp_avg_sq")
    assert set(loaded.optimizer) == {f"{n}.{key}" for n in range(4) for key in moments}
    predictor = Predictor.load(path, "cpu")
    assert predictor.predict(Image.new("RGB", (4, 4))).class_name in ("dark", "light")


@pytest.mark.parametrize("version", [2, "1", None])
def test_another_format_is_refused_and_no_older_checkpoint_used(
    tmp_path: Path, version: object
) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2, "last")
    rewrite(path, {"format": version, "step": 2})
    with pytest.raises(RunError, match=rf"has format {version!r}; .* reads format 1") as caught:
        checkpoints.load_latest(tmp_path)
    assert caught.value.exit_code == 5


def test_a_checkpoint_records_its_format(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert json.loads((path / "state.json").read_text()) == {"format": 1, "step": 1}
    rewrite(path, {"step": 1})  # as the first ones were written
    assert checkpoints.load(path).record == {"step": 1}


def rewrite(path: Path, record: dict[str, object]) -> None:
    """Change state.json of a checkpoint, and the manifest with it."""
    content = json.dumps(record).encode()
    (path / "state.json").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("value", "reason"),
    [([torch.zeros(2)], r"optimizer\.plain\.0\.old\.0: it is a Tensor"),
     ({1}, r"optimizer\.plain\.0\.old: it is a set"),
     (float("inf"), r"optimizer\.plain\.0\.old: it is inf")],
)  # fmt: skip
def test_a_value_that_a_checkpoint_cannot_hold_is_named(
    tmp_path: Path, value: object, reason: str
) -> None:
    record = {"step": 1, "optimizer": {"plain": {"0.old": value}, "groups": []}}
    with pytest.raises(PluginError, match=f"a checkpoint cannot hold {reason}") as caught:
        checkpoints.save(tmp_path, State({}, {}, record), {}, [])
    assert "\n" not in str(caught.value)
    assert checkpoints.list_checkpoints(tmp_path) == []


def test_a_value_of_the_network_that_is_not_a_tensor_is_named_before_the_first_step(
    tmp_path: Path,
) -> None:
    kept = {"head._extra_state": {"seen": 3}}
    with pytest.raises(
        PluginError, match=r"a checkpoint cannot hold head\._extra_state: it is a dict"
    ):
        checkpoints.require_space(tmp_path, State(kept, {}, {"step": 0}))  # type: ignore[arg-type]


def test_checkpoints_of_later_steps_are_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, "last", "best")
    damage(tmp_path / "step-00000003" / "state.json", "flip")
    assert checkpoints.load_latest(tmp_path)[1].record["step"] == 2
    save(tmp_path, 2, "last")  # a run that is resumed at step 2, and stopped at once
    assert steps(tmp_path) == [1, 2][-len(steps(tmp_path)) :]
    assert checkpoints.read_names(tmp_path) == {"last": "step-00000002"}


def test_a_run_without_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no checkpoint to resume from"):
        checkpoints.load_latest(tmp_path)


# C13
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("signed", [False, True])
def test_a_pickle_in_place_of_a_file_runs_nothing(tmp_path: Path, file: str, signed: bool) -> None:
    marker = tmp_path / "ran"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    path = save(tmp_path / "checkpoints", 1, "last")
    (path / file).write_bytes(payload)
    if signed and file != "manifest.json":  # by someone who knows about the manifest
        manifest = json.loads((path / "manifest.json").read_text())
        manifest[file] = hashlib.sha256(payload).hexdigest()
        (path / "manifest.json").write_text(json.dumps(manifest))
    if signed and file == "recipe.json":  # it is parsed when it is used
        assert json.dumps(checkpoints.load(path).record) == '{"step": 1}'
    else:
        with pytest.raises(RunError) as caught:
            checkpoints.load(path)
        assert file in str(caught.value)
    assert not marker.exists()


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".writing-step-00000001").mkdir()
    (tmp_path / ".writing-names.json").write_text("{")
    save(tmp_path, 2, "last")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "names-copy.json", "names.json", "step-00000002"
    ]  # fmt: skip


def steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints, each of which must be undamaged."""
    return [
        checkpoints.load(folder / name).record["step"]
        for name in checkpoints.list_checkpoints(folder)
    ]


def save_three(folder: Path) -> None:
    folder.mkdir()
    for step, names in ((1, ["best"]), (2, []), (3, ["last"])):
        save(folder, step, *names)


# A crash before, after and within every write, fsync, rename, unlink and mkdir, and a failure of
# each of them; in `save` itself and in the background thread.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("by", "how"),
    [(save, "die"), (save, "die after"), (save, "ENOSPC"), (save_async, "die"),
     *(pytest.param(by, how, marks=pytest.mark.slow) for by, how in [
         (save_async, "die after"), (save_async, "ENOSPC"), (save, "EIO"), (save, "EROFS"),
         (save, "EDQUOT")])],
)  # fmt: skip
def test_a_fault_at_any_point_leaves_two_undamaged_checkpoints(  # C01, C10
    tmp_path: Path, by: Callable[..., Path], how: str, faulty: Faulty
) -> None:
    folder = tmp_path / "before"
    save_three(folder)
    seen, points, status = set(), 0, -1
    while status:
        points += 1
        folder = Path(shutil.copytree(tmp_path / "before", tmp_path / str(points)))
        status = faulty(partial(by, folder, 4, "last", "best"), points, how)
        seen.add(status)
        assert {2, 3} <= set(steps(folder)) or {3, 4} <= set(steps(folder))
        for name in checkpoints.read_names(folder).values():
            checkpoints.load(folder / name)
        latest = checkpoints.load_latest(folder)[1].record["step"]
        assert latest == 4 if status in (0, 1) else latest in (3, 4)
        if status == 7:
            assert not list(folder.glob(".writing-*"))
        save(folder, 5, "last")
        assert not list(folder.glob(".writing-*"))
        assert steps(folder)[-1] == 5
        assert len(steps(folder)) >= 2
    assert points > 30
    assert seen == ({0, 9} if how.startswith("die") else {0, 1, 7})


def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay(small_disk: Path) -> None:  # C03
    folder = small_disk / "checkpoints"
    folder.mkdir()
    large = State({"w": torch.zeros(11_250_000)}, {}, {"step": 3})  # 45 MB
    with pytest.raises(ResourceError, match=r"disk full: need 90 MB, 21 MB free in .*small"):
        checkpoints.require_space(small_disk, large)
    save(folder, 1, "last")
    save(folder, 2, "last")
    with pytest.raises(
        ResourceError, match=r"disk full: need 45 MB, 20\.9 MB free in .*checkpoints"
    ):
        checkpoints.save(folder, large, {}, ["last"])
    assert steps(folder) == [1, 2]
    assert not list(folder.glob(".writing-*"))

    (small_disk / "ballast").write_bytes(bytes(20_900_000))  # nearly full
    with pytest.raises(ResourceError, match="disk full"):
        checkpoints.save(folder, State({"w": torch.zeros(25_000)}, {}, {"step": 3}), {}, ["last"])
    assert checkpoints.load_latest(folder)[1].record["step"] == 2
    (small_disk / "ballast").unlink()
    save(folder, 3, "last")
    assert steps(folder) == [2, 3]


def test_a_disk_that_fills_up_while_a_checkpoint_is_written(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The free space seemed sufficient before."""
    save(small_disk, 1, "last")
    save(small_disk, 2, "last")
    monkeypatch.setattr("sightx.io.atomic.require_free_space", lambda *_: None)
    large = State({"w": torch.zeros(11_250_000)}, {}, {"step": 3})
    with pytest.raises(ResourceError, match=r"disk full: need 45 MB"):
        checkpoints.save(small_disk, large, {}, ["last"])
    assert not list(small_disk.glob(".writing-*"))
    assert steps(small_disk) == [1, 2]


def test_a_read_only_disk_is_one_line(small_disk: Path) -> None:
    save(small_disk, 1, "last")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ResourceError, match=r"cannot write .* in .*small: Read-only file system"):
        save(small_disk, 2, "last")
    assert checkpoints.load_latest(small_disk)[1].record["step"] == 1


def test_a_limit_on_the_size_of_files_is_one_line(tmp_path: Path) -> None:
    save(tmp_path, 1, "last")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ResourceError, match=r"cannot write 4.. kB in .*: File too large"):
            checkpoints.save(tmp_path, State({"w": torch.zeros(100_000)}, {}, {"step": 2}), {}, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob(".writing-*"))
    assert steps(tmp_path) == [1]


def test_a_run_that_was_removed_is_not_created_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save(run / "checkpoints", 1, "last")
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(ResourceError, match=r"run/checkpoints is gone"):
        save(run / "checkpoints", 2, "last")
    assert not run.exists()


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1, "last")
    listed = json.loads((path / "manifest.json").read_text())
    assert {*listed, "manifest.json"} == {p.name for p in path.iterdir()}


@pytest.mark.parametrize("content", ["{", "[1]", '{"last": "../other"}', '{"last": 3}'])
def test_a_damaged_file_of_names_is_exit_5(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(RunError, match=r"names\.json"):
        checkpoints.read_names(tmp_path)


def test_a_checkpoint_before_validation_is_older_than_that_of_the_epoch(tmp_path: Path) -> None:
    running = State(state(4).weights, {}, {"step": 4, "totals": [1.0, 2.0, 3]})
    assert checkpoints.save(tmp_path, running, {}, ["last"]).name == "step-00000004-running"
    ended = State(state(4).weights, {}, {"step": 4, "totals": [0.0, 0.0, 0]})
    assert checkpoints.save(tmp_path, ended, {}, ["last"]).name == "step-00000004"
    assert checkpoints.list_checkpoints(tmp_path) == ["step-00000004-running", "step-00000004"]
    assert checkpoints.load_latest(tmp_path)[0].name == "step-00000004"
    save(tmp_path, 5)
    assert checkpoints.list_checkpoints(tmp_path) == ["step-00000004", "step-00000005"]


def test_checkpoints_of_long_runs_are_in_order(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    assert steps(tmp_path) == [99_999_999, 100_000_000]


def test_a_copy_that_a_user_keeps_next_to_checkpoints_stays(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    names = ["step-1", "step-1-mine", "step-00000001-mine", "step-00000001.bak"]
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "mine").write_text("mine")
    for step in range(1, 6):
        save(folder, step)

    assert all((folder / name / "mine").is_file() for name in names)


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_names_are_read_from_their_copy_and_the_best_checkpoint_stays(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, "last", "best")
    save(tmp_path, 2, "last")
    if damage == "damaged":
        (tmp_path / "names.json").write_text("{")
    else:
        (tmp_path / "names.json").unlink()

    assert checkpoints.read_names(tmp_path)["best"] == "step-00000001"
    assert "names-copy.json is used" in caplog.text
    for step in (3, 4, 5):
        save(tmp_path, step, "last")
    assert steps(tmp_path) == [1, 4, 5]
    assert json.loads((tmp_path / "names.json").read_text())["best"] == "step-00000001"


def test_the_way_out_of_damaged_names_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1, "last", "best")
    for name in ("names.json", "names-copy.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(RunError) as caught:
        save(tmp_path, 2, "last")
    assert caught.value.problems[0].hint == (
        'write the best checkpoint into it: {"best": "step-...", "last": "step-00000002"}'
    )
    assert steps(tmp_path) == [1, 2]
