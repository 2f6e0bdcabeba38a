"""The index gives what the directories say, whatever happens to either."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sightx.run_registry import index as index_module
from sightx.run_registry.index import index_file, read_index
from sightx.run_registry.summary import Summary
from support.run_folders import read_json, read_summaries, replace_json, write_run

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def listed(root: Path) -> list[dict[str, object]]:
    return [
        dict(v) for v in read_index(root, lambda index: index.select(sort="id", descending=False))
    ]


def expected(root: Path) -> list[dict[str, object]]:
    return [dict(summary.values) for summary in read_summaries(root)]


class RunsChange(RuleBasedStateMachine):
    """Any sequence of changes leaves the index equal to the directories."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=self.folder))
        self.number = 0

    def pick(self, data: st.DataObject) -> Path | None:
        runs = sorted(path for path in self.root.iterdir() if not path.name.startswith("."))
        return data.draw(st.sampled_from(runs)) if runs else None

    @rule(ended=st.booleans(), lr=st.floats(0, 1))
    def new(self, ended: bool, lr: float) -> None:
        self.number += 1
        write_run(self.root, f"{self.number:03}", {"optimizer.lr": lr}, status="finished" * ended)

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        if run := self.pick(data):
            (run / "result.json").unlink(missing_ok=True)

    @rule(data=st.data(), accuracy=st.floats(0, 1))
    def end(self, data: st.DataObject, accuracy: float) -> None:
        if run := self.pick(data):
            result = {"status": "stopped", "validation": {"validation/accuracy": accuracy}}
            replace_json(run / "result.json", result)

    @rule(data=st.data(), accuracy=st.floats(0, 1))
    def train(self, data: st.DataObject, accuracy: float) -> None:
        if run := self.pick(data):
            with (run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"epoch": 3, "validation/accuracy": accuracy}) + "\n")
            if (run / "result.json").exists():  # only a run that trains has no result
                replace_json(run / "result.json", read_json(run / "result.json"))

    @rule(data=st.data(), tag=st.sampled_from(["a", "b"]))
    def tag(self, data: st.DataObject, tag: str) -> None:
        if run := self.pick(data):
            replace_json(run / "about.json", {"tags": [tag]})

    @rule(data=st.data())
    def trash(self, data: st.DataObject) -> None:
        if run := self.pick(data):
            (self.root / ".trash").mkdir(exist_ok=True)
            run.rename(self.root / ".trash" / f"{run.name}-{self.number}-{os.urandom(4).hex()}")

    @rule()
    def delete_index(self) -> None:
        index_file(self.root).unlink(missing_ok=True)

    @rule(at=st.integers(0, 20_000), junk=st.binary(min_size=1, max_size=200))
    def truncate_or_overwrite_index(self, at: int, junk: bytes) -> None:
        file = index_file(self.root)
        if file.exists():
            file.write_bytes(junk if at % 2 else file.read_bytes()[:at])

    @invariant()
    def the_listing_is_that_of_the_directories(self) -> None:
        assert listed(self.root) == expected(self.root)
        keys = {key for values in expected(self.root) for key in values}
        assert set(read_index(self.root, lambda index: index.keys())) == keys


def test_any_sequence_of_changes_gives_the_listing_without_an_index(tmp_path: Path) -> None:
    RunsChange.folder = tmp_path
    machine = RunsChange.TestCase
    machine.settings = settings(deadline=None, max_examples=15, stateful_step_count=12)
    machine("runTest").runTest()


# R07
@pytest.mark.parametrize("spoil", [
    lambda file: file.write_bytes(b"not a database" * 1000),
    lambda file: file.write_bytes(b""),
    lambda file: (file.unlink(), file.mkdir()),
    lambda file: sqlite3.connect(file).execute("PRAGMA user_version=99").connection.close(),
], ids=["damaged", "empty", "a folder", "of another version"])  # fmt: skip
def test_a_spoilt_index_is_built_again(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    write_run(tmp_path, "a")
    assert listed(tmp_path) == expected(tmp_path)
    for suffix in ("-wal", "-shm"):
        index_file(tmp_path).with_name(f"{index_file(tmp_path).name}{suffix}").unlink(
            missing_ok=True
        )
    spoil(index_file(tmp_path))
    assert listed(tmp_path) == expected(tmp_path)


def test_an_index_that_cannot_be_written_is_built_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "a")
    monkeypatch.setenv("SIGHTX_INDEX", "/proc/nowhere")
    assert listed(tmp_path) == expected(tmp_path)


def test_runs_that_have_not_changed_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path, name) for name in "abc"]
    for run in runs:
        os.utime(run, (1e9, 1e9))
    listed(tmp_path)
    read: list[str] = []
    original = index_module.read_summary

    def counted(directory: Path) -> Summary | None:
        read.append(directory.name)
        return original(directory)

    monkeypatch.setattr(index_module, "read_summary", counted)
    listed(tmp_path)
    assert read == []
    replace_json(runs[1] / "about.json", {"tags": ["new"]})
    assert listed(tmp_path)[1]["tags"] == "new"
    assert read == [runs[1].name]


READER = """
import sys
from pathlib import Path
from sightx.run_registry.index import read_index
print("ready", flush=True)
while True:
    read_index(Path(sys.argv[1]), lambda index: index.select(), rebuild=bool(int(sys.argv[2])))
"""


def test_readers_that_are_killed_and_writers_beside_them_do_no_harm(tmp_path: Path) -> None:
    for number in range(20):
        write_run(tmp_path, f"{number:03}")
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path), str(n % 2)], stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for n in range(3)
    ]  # fmt: skip
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"ready\n"
    for number in range(20, 40):
        write_run(tmp_path, f"{number:03}", status="" if number % 2 else "finished")
        shutil.rmtree(tmp_path / f"20260131-{number - 20:03}")
        assert listed(tmp_path) == expected(tmp_path)
        if number % 8 == 0:
            readers[number // 8 - 3].send_signal(signal.SIGKILL)
    for reader in readers:
        reader.kill()
        reader.wait()
        assert reader.stdout is not None
        reader.stdout.close()
    assert listed(tmp_path) == expected(tmp_path)


@pytest.mark.slow  # twelve processes on the cores that there are
def test_eight_readers_beside_four_training_processes(spec: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(root), str(number % 4 // 3)],
            env=environment, stdout=subprocess.DEVNULL,
        )
        for number in range(8)
    ]  # fmt: skip
    words = ["-m", "sightx", "run", str(spec), "--quiet", "--runs", str(root), "--set"]
    writers = [
        subprocess.Popen(
            [sys.executable, *words, f"seed={number}"], env=environment, stdout=subprocess.DEVNULL
        )
        for number in range(4)
    ]
    assert [writer.wait(timeout=300) for writer in writers] == [0] * 4
    assert [reader.poll() for reader in readers] == [None] * 8
    for reader in readers:
        reader.kill()
        reader.wait()
    rows = listed(root)
    assert rows == expected(root)
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert sorted(row["seed"] for row in rows) == [0, 1, 2, 3]
