from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest
import torch

from sightx import ResourceError
from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.training.state import State

Faulty = Callable[[Callable[[], object], int, str], int]


def state(step: int, size: int = 10) -> State:
    return State({"w": torch.full((size,), float(step))}, {}, {"step": step, "list": [step]})


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Let every write wait until the event is set."""
    go, sync = Event(), os.fsync

    def waiting(descriptor: int) -> None:
        assert go.wait(20)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", waiting)
    return go


def test_later_changes_of_the_state_are_not_written(tmp_path: Path, slow: Event) -> None:
    current, recipe, names = state(1), {"classes": ["a"]}, ["last"]
    with AsyncCheckpointer(tmp_path) as writer:
        writer.save(current, recipe, names)
        current.weights["w"].zero_()  # as an optimizer does
        current.record["list"].append(9)
        recipe["classes"].append("b")
        names.append("best")
        assert checkpoints.list_checkpoints(tmp_path) == []  # it is still waiting
        slow.set()
    loaded = checkpoints.load(tmp_path / "step-00000001")
    assert torch.equal(loaded.weights["w"], torch.ones(10))
    assert loaded.record == {"step": 1, "list": [1]}
    assert b'"b"' not in (tmp_path / "step-00000001" / "recipe.json").read_bytes()
    assert checkpoints.read_names(tmp_path) == {"last": "step-00000001"}


def test_weights_that_share_memory_or_are_not_contiguous_are_saved(tmp_path: Path) -> None:
    one = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    with AsyncCheckpointer(tmp_path) as writer:
        writer.save(State({"a": one, "b": one, "c": one[..., ::2]}, {}, {"step": 1}), {}, [])
    loaded = checkpoints.load_latest(tmp_path)[1].weights
    assert torch.equal(loaded["a"], one)
    assert torch.equal(loaded["b"], one)
    assert torch.equal(loaded["c"], one[..., ::2])


def test_on_saved_is_called_by_the_next_call_in_the_callers_thread(
    tmp_path: Path, slow: Event
) -> None:
    saved: list[Path] = []

    def on_saved(path: Path) -> None:
        assert current_thread() is main_thread()
        saved.append(path)

    with AsyncCheckpointer(tmp_path) as writer:
        writer.save(state(1), {}, ["last"], on_saved)
        writer.poll()
        assert saved == []  # not before it is safe
        slow.set()
        writer.save(state(2), {}, ["last"], on_saved)  # waits for the first
        assert saved == [tmp_path / "step-00000001"]
        writer.wait()
        assert saved == [tmp_path / "step-00000001", tmp_path / "step-00000002"]
        writer.wait()
    assert len(saved) == 2


@pytest.mark.parametrize("call", ["poll", "wait", "close", "save"])
def test_a_failure_is_raised_by_the_next_call_once(tmp_path: Path, call: str) -> None:
    saved: list[Path] = []
    writer = AsyncCheckpointer(tmp_path / "gone" / "checkpoints")
    writer.save(state(1), {}, ["last"], saved.append)
    if call == "poll":
        time.sleep(0.5)  # it does not wait for the write
    with pytest.raises(ResourceError, match="checkpoints is gone"):
        getattr(writer, call)(*((state(2), {}, []) if call == "save" else ()))
    writer.close()
    assert saved == []


def _fail(folder: Path) -> None:
    with AsyncCheckpointer(folder) as writer:
        writer.save(state(1), {}, [])
        raise KeyError("first")


def test_leaving_the_with_block_raises_a_failure_but_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(ResourceError, match="is gone"),
        AsyncCheckpointer(tmp_path / "no" / "c") as writer,
    ):
        writer.save(state(1), {}, [])
    with pytest.raises(KeyError, match="first"):
        _fail(tmp_path / "no" / "c")
    assert "is gone" in caplog.text


def test_a_process_exits_after_the_write(tmp_path: Path) -> None:
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from sightx.runs.async_checkpointer import AsyncCheckpointer\n"
        "from sightx.training.state import State\n"
        "writer = AsyncCheckpointer(Path(sys.argv[1]))\n"
        "writer.save(State({'w': torch.zeros(5_000_000)}, {}, {'step': 1}), {}, ['last'])\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == 3
    assert checkpoints.read_names(tmp_path) == {"last": "step-00000001"}
    assert checkpoints.load_latest(tmp_path)[1].record["step"] == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_neither_waits_nor_writes(tmp_path: Path, slow: Event) -> None:
    with AsyncCheckpointer(tmp_path) as writer:
        writer.save(state(1), {}, ["last"])
        child = os.fork()
        if not child:
            signal.alarm(10)
            writer.close()  # as where an error leaves the `with`
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        slow.set()
    assert checkpoints.list_checkpoints(tmp_path) == ["step-00000001"]


def _save_for_ever(folder: Path) -> None:
    torch.set_num_threads(1)  # OpenMP's threads, where the suite has started any, outlive no fork
    first = checkpoints.load_latest(folder)[1].record["step"] if folder.is_dir() else 0

    def on_saved(path: Path) -> None:
        (folder.parent / "safe").write_text(path.name)

    with AsyncCheckpointer(folder) as writer:
        for step in range(first + 1, 1_000_000):
            names = ["last", "best"] if step % 3 == 0 else ["last"]
            writer.save(state(step, 50_000), {}, names, on_saved)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forty_kills_at_random_times_lose_no_checkpoint_that_was_reported_as_saved(
    tmp_path: Path,
) -> None:
    rng, folder, reported = random.Random(0), tmp_path / "checkpoints", 0
    safe = tmp_path / "safe"
    checkpoints.save(tmp_path / "checkpoints", state(1), {}, ["last"])
    for _ in range(40):
        child = os.fork()
        if not child:
            try:
                _save_for_ever(folder)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.01, 0.15))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        names = [*checkpoints.list_checkpoints(folder), *checkpoints.read_names(folder).values()]
        steps = [checkpoints.load(folder / name).record["step"] for name in names]  # all undamaged
        text = safe.read_text() if safe.exists() else ""
        if text:  # a kill may have emptied the file
            reported = int(text.removeprefix("step-"))
        assert max(steps) >= reported
        assert len(checkpoints.list_checkpoints(folder)) >= min(2, reported)
    assert reported > 1  # there were checkpoints at all


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once_and_damages_nothing(
    tmp_path: Path, number: signal.Signals, slow: Event
) -> None:
    from sightx.io.signals import stop_on_signals

    slow.set()
    checkpoints.save(tmp_path, state(1), {}, ["last"])
    slow.clear()  # the next save never ends
    child = os.fork()
    if not child:
        signal.signal(number, signal.SIG_DFL)  # a background job of a shell ignores it
        try:
            with stop_on_signals() as asked, AsyncCheckpointer(tmp_path) as writer:
                writer.save(state(2), {}, ["last"])
                (tmp_path / "ready").touch()
                while not asked.number:
                    time.sleep(0.01)
                (tmp_path / "heard").touch()
                writer.wait()  # as a run does before it ends
        finally:
            os._exit(1)
    for file in ("ready", "heard"):
        while not (tmp_path / file).exists():
            time.sleep(0.01)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert checkpoints.list_checkpoints(tmp_path) == ["step-00000001"]
    assert checkpoints.load_latest(tmp_path)[1].record["step"] == 1
