"""Runs of several real processes on one host (T06, T07, T08, T11, C08, C09)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx import Run
from support.runs import fingerprint

PLUGIN = '''
"""A dataset, a network, and a trap that TRAP=RANK:CALL:WHAT sets."""

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from sightx.plugin import Augment, Dataset, Model, Traits, hookimpl, table_from_csv

CALLS, FIRED = [], []


def trapped(what):
    rank, call, wanted = os.environ.get("TRAP", "9:9:none").split(":")
    is_set = rank in ("any", os.environ.get("RANK", "0")) and wanted == what
    is_time = len(CALLS) == int(call) or (what == "spoil" and len(CALLS) > int(call))
    if is_set and is_time:
        Path(os.environ["TRAP_TIME"]).write_text(str(time.time()))
    return is_set and is_time


class Trap(Augment):
    """Change nothing, but send a signal at one call of one rank."""

    name = "test-trap"

    def draw(self, n, rng):
        CALLS.append(n)
        for name in ("SIGKILL", "SIGSTOP"):
            if trapped(name):
                os.kill(os.getpid(), getattr(signal, name))
        for name in ("SIGTERM", "SIGINT"):
            if trapped(name):
                os.kill(os.getppid(), getattr(signal, name))
                time.sleep(2)  # the launcher passes the signal on before the next step
        if trapped("doomed"):  # the run directory disappears, then the run is asked to stop
            Path(sys.argv[-1]).rename(sys.argv[-1] + "-gone")
            os.kill(os.getppid(), signal.SIGTERM)
        if trapped("exit"):
            os._exit(0)
        if trapped("crash"):
            raise RuntimeError("the trap")
        return {}


class Spoiled:
    """Read an image, or something else after a trap."""

    def __init__(self, read):
        self.read = read

    def __call__(self, index):
        if trapped("preprocess") and not FIRED:
            FIRED.append(index)
            os.kill(os.getpid(), signal.SIGTERM)
        return b"no image" if trapped("spoil") else self.read(index)


class Data(Dataset):
    """Photographs that may become unreadable while they are read."""

    name = "test-data"

    def traits(self):
        return Traits(("dark", "light"), False, False, True)

    def table(self):
        home = Path(__file__).parents[1] / "data"
        labels = "turned.csv" if trapped("turned") else "labels.csv"
        table = table_from_csv(
            home / labels, root=home, image="image", label="label", split="split"
        )
        return dataclasses.replace(table, read=Spoiled(table.read))


class Net(Model):
    """A network with dropout, without batch statistics."""

    name = "test-net"

    def build(self, *, channels, outputs, size):
        from torch import nn

        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * size[0] * size[1], 8), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(8, outputs),
        )


@hookimpl
def sightx_components():
    return [Data, Net, Trap]
'''
# 30 training samples in steps of 8: the last has 6, so 3 micro-batches instead of 4.
SPEC = """
name = "two"
observer = []
[dataset]
use = "test-data"
[[preprocess]]
use = "resize"
size = 8
[normalize]
use = "imagenet"
[[augment]]
use = "test-trap"
[[augment]]
use = "flip"
[model]
use = "test-net"
[loss]
use = "inverse-frequency-cross-entropy"
[training]
epochs = 3
batch_size = 8
micro_batch_size = 2
[execution]
threads = 1
"""
STEPS = 4  # per epoch
CALLS = 8  # per epoch and rank: two in each of three steps; in the last rank 0 two, rank 1 one
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sightx"]


class Done(NamedTuple):
    """How a command ended, and how many seconds after its trap."""

    code: int
    err: str
    seconds: float
    run: Run

    @property
    def lines(self) -> list[str]:
        """The lines about failures."""
        other = ("pixels:", "waiting for")
        return [line for line in self.err.splitlines() if not line.startswith(other)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a plugin, 51 images and a spec."""
    home = tmp_path_factory.mktemp("project")
    (home / "plugins").mkdir()
    (home / "plugins" / "traps.py").write_text(PLUGIN)
    (home / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (home / "spec.toml").write_text(SPEC)
    (home / "data").mkdir()
    rng, rows = np.random.default_rng(0), ["image,label,split"]
    splits = ["train"] * 30 + ["validation"] * 13 + ["test"] * 8
    for number, split in enumerate(splits):
        name = "light" if number % 3 == 0 else "dark"
        pixels = rng.normal(160 if name == "light" else 90, 50, (8, 8, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(home / "data" / f"{number}.png")
        rows.append(f"{number}.png,{name},{split}")
    (home / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    turned = [rows[0], *reversed(rows[1:])]
    (home / "data" / "turned.csv").write_text("\n".join(turned) + "\n")
    return home


@pytest.fixture(scope="module")
def command(project: Path) -> Callable[..., Done]:
    """Call `sightx` in a separate process, with a folder of runs."""

    def call(folder: Path, *words: str, trap: str = "", start: tuple[str, ...] = ()) -> Done:
        trap_time = project / "trap-time"
        trap_time.write_text(str(time.time()))
        done = subprocess.run(
            [sys.executable, *(start or ("-m", "sightx")), *words, "--runs", str(folder)],
            cwd=project,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "SIGHTX_CACHE": str(project / "store"),
                "TMPDIR": str(project),
                "TRAP_TIME": str(trap_time),
                **({"TRAP": trap} if trap else {}),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        runs = sorted(folder.glob("2*")) if folder.is_dir() else []
        run = sightx.open_run(runs[-1]) if runs else Run(folder)
        return Done(done.returncode, done.stderr, time.time() - float(trap_time.read_text()), run)

    return call


@pytest.fixture(scope="module")
def straight(project: Path, command: Callable[..., Done]) -> Run:
    """A run of two processes that was not stopped."""
    done = command(project / "straight", "run", "spec.toml", "--processes", "2")
    assert done.code == 0, done.err
    return done.run


@pytest.fixture(scope="module")
def stopped(project: Path, command: Callable[..., Done]) -> Done:
    """A run of two processes whose launcher was asked to stop in the second epoch."""
    trap = f"1:{CALLS + 3}:SIGTERM"
    return command(project / "stopped", "run", "spec.toml", "--processes", "2", trap=trap)


def losses_and_accuracies(run: Run) -> np.ndarray:
    names = ["train/loss", "train/accuracy", "validation/loss", "validation/accuracy"]
    return run.metrics[names].to_numpy(float)


def test_two_processes_give_the_run_of_one(
    straight: Run, project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SIGHTX_CACHE", str(project / "store"))
    alone = sightx.run(sightx.load(project / "spec.toml"), runs=tmp_path / "runs")
    np.testing.assert_allclose(
        losses_and_accuracies(straight), losses_and_accuracies(alone), rtol=1e-4
    )
    assert [path.name for path in (project / "straight").glob("2*")] == [straight.id]
    assert straight.environment["processes"] == 2
    assert alone.environment["processes"] == 1
    for split, samples in {"validation": 13, "test": 8}.items():
        table, same = straight.predictions(split), alone.predictions(split)
        assert len(table) == samples
        assert list(table["path"]) == list(same["path"])
    assert straight.result["status"] == "finished"


def test_a_signal_to_the_launcher_stops_all_ranks_after_the_same_step(stopped: Done) -> None:  # T11
    assert stopped.code == 143
    assert stopped.run.result["status"] == "interrupted"
    assert stopped.run.result["signal"] == signal.SIGTERM
    [state] = [name for name in stopped.run.checkpoints.values() if name.endswith("-running")]
    # Call 3 of an epoch belongs to its second step.
    assert STEPS + 2 <= int(state.removeprefix("step-").removesuffix("-running")) <= STEPS + 3
    assert stopped.lines == []
    assert stopped.seconds < 30


def test_a_resumed_run_of_two_is_the_uninterrupted_one(  # C08
    stopped: Done,
    straight: Run,
    command: Callable[..., Done],
    tmp_path: Path,
) -> None:
    copy = tmp_path / "runs" / stopped.run.id
    shutil.copytree(stopped.run.directory, copy)
    done = command(tmp_path / "runs", "resume", stopped.run.id, "--processes", "2")
    assert done.code == 0, done.err
    assert fingerprint(done.run) == fingerprint(straight)


def test_one_process_can_resume_a_run_of_two(  # C09
    stopped: Done, straight: Run, project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SIGHTX_CACHE", str(project / "store"))
    copy = tmp_path / stopped.run.id
    shutil.copytree(stopped.run.directory, copy)
    run = sightx.resume(copy)
    np.testing.assert_allclose(
        losses_and_accuracies(run), losses_and_accuracies(straight), rtol=1e-4
    )
    differences = run.environment["resumes"][-1]["differences"]
    [line] = [line for line in differences if line.startswith("processes")]
    assert "2 then, 1 now" in line
    assert "same order and draws" in line


def test_a_bad_row_of_one_rank_ends_all_with_one_line(  # T06
    command: Callable[..., Done], tmp_path: Path
) -> None:
    words = ["run", "spec.toml", "--set", 'execution.cache="off"']
    done = command(tmp_path, *words, trap="1:3:spoil", start=(*TORCHRUN,))
    assert done.code == 1  # that of torchrun
    [line] = [line for line in done.lines if "error[" in line]  # torchrun reports too
    row = r"labels\.csv:\d+: error\[image-changed\] rank 1: \d+\.png has changed since the run"
    assert re.search(row, line)
    assert "closed by peer" not in done.err
    assert done.run.result["status"] == "failed"
    assert re.search(row, done.run.result["error"])
    assert "DataError" in (done.run.directory / "error.log").read_text()


@pytest.mark.slow
def test_the_command_ends_with_the_code_of_the_rank_that_failed(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    words = ["run", "spec.toml", "--processes", "2"]
    bad = command(tmp_path / "a", *words, "--set", 'execution.cache="off"', trap="1:3:spoil")
    assert bad.code == 3
    assert bad.seconds < 10
    assert len(bad.lines) == 1
    crash = command(tmp_path / "b", *words, trap="1:3:crash")
    assert crash.code == 4
    [line] = crash.lines
    assert "rank 1: plugin traps failed in draw: RuntimeError: the trap" in line
    idle = command(tmp_path / "c", *words, "--set", "training.micro_batch_size=8")
    assert idle.code == 2
    assert "set it to 4 or less" in idle.lines[0]
    assert not (tmp_path / "c").exists()
    typo = command(tmp_path / "d", *words, "--set", "training.epoch=8")
    assert (typo.code, len(typo.lines)) == (2, 1)


@pytest.mark.slow
def test_a_rank_with_other_data_ends_the_run_before_its_first_step(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    done = command(tmp_path, "run", "spec.toml", "--processes", "2", trap="1:0:turned")
    assert done.code == 3
    [line] = done.lines
    assert "error[other-data] rank 1: its samples, their splits, labels or order" in line
    assert not (done.run.directory / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_save_that_fails_after_a_signal_is_a_failure(
    command: Callable[..., Done], tmp_path: Path
) -> None:
    done = command(tmp_path / "runs", "run", "spec.toml", "--processes", "2", trap="0:3:doomed")
    assert done.code == 7, done.err
    assert "is gone" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("SIGKILL", 10), ("SIGSTOP", 45)])
def test_a_lost_process_is_named_and_the_run_can_be_resumed(  # T07
    name: str,
    limit: float,
    command: Callable[..., Done],
    straight: Run,
    tmp_path: Path,
) -> None:
    words = ["run", "spec.toml", "--processes", "2", "--set", "execution.group_timeout=5.0"]
    done = command(tmp_path, *words, trap=f"1:{CALLS + 3}:{name}")
    assert done.code == 7
    [line] = done.lines
    assert "error[lost-process] rank 1 ended or stopped responding" in line
    assert "rank 1 ended" in done.run.result["error"]
    assert done.seconds < limit
    again = command(tmp_path, "resume", done.run.id, "--processes", "2")
    assert again.code == 0, again.err
    assert {**fingerprint(again.run), "names": ""} == {**fingerprint(straight), "names": ""}


@pytest.mark.slow
def test_an_interrupted_torchrun_can_be_continued(
    command: Callable[..., Done],
    straight: Run,
    tmp_path: Path,
) -> None:
    done = command(tmp_path, "run", "spec.toml", trap="0:5:SIGINT", start=(*TORCHRUN,))
    assert done.run.result["signal"] == signal.SIGINT
    words = ["run", "spec.toml", "--continue"]
    again = command(tmp_path, *words, start=(*TORCHRUN,))
    assert again.code == 0, again.err
    assert again.run.id == done.run.id
    assert again.run.result["test"] == straight.result["test"]
    assert fingerprint(again.run) == fingerprint(straight)
    after = command(tmp_path, *words, start=(*TORCHRUN,))
    assert after.code == 0
    assert json.dumps(after.run.result) == json.dumps(again.run.result)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two hosts with one cable: network namespaces of this host."""
    names = (f"sx{os.getpid()}a", f"sx{os.getpid()}b")
    able = shutil.which("ip") and subprocess.run(
        ["ip", "netns", "add", names[0]], capture_output=True, check=False
    )
    if not able or able.returncode:
        pytest.skip("this machine lets us make no network namespaces")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for number, name in enumerate(names, 1):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def start_on(
    host: str, number: int, project: Path, folder: Path, trap: str
) -> subprocess.Popen[str]:
    """Start torchrun on one of two hosts, each with its own cache."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meet = ["--node-rank", str(number), "--master-addr", "10.77.0.1", "--master-port", "29511"]
    words = ["-m", "sightx", "run", "spec.toml", "--runs", str(folder)]
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *run, *meet, *words],
        cwd=project,
        env={
            **os.environ,
            "GLOO_SOCKET_IFNAME": host,
            "OMP_NUM_THREADS": "1",
            "SIGHTX_CACHE": str(project / f"store-{number}"),
            "TMPDIR": str(project),
            "TRAP_TIME": str(project / "trap-time"),
            "TRAP": trap,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_hosts_are_one_run(
    hosts: tuple[str, str], project: Path, straight: Run, tmp_path: Path
) -> None:
    for trap, codes in {"9:9:none": [0, 0], "1:3:crash": [1, 1]}.items():
        folder = tmp_path / trap.rpartition(":")[2]
        started = [start_on(host, n, project, folder, trap) for n, host in enumerate(hosts)]
        outputs = [process.communicate(timeout=200) for process in started]
        assert [process.returncode for process in started] == codes, outputs
        [run] = [sightx.open_run(path) for path in folder.glob("2*")]
        lines = [line for _, err in outputs for line in err.splitlines() if "error[" in line]
        assert len(lines) == (trap != "9:9:none")
        assert run.result["status"] == ("failed" if lines else "finished")
        if lines:
            assert "rank 1: plugin traps failed in draw" in run.result["error"]
        else:
            np.testing.assert_array_equal(
                losses_and_accuracies(run), losses_and_accuracies(straight)
            )
            assert outputs[1][0] == ""  # rank 1 prints nothing


@pytest.mark.slow
@pytest.mark.parametrize("size", [9, 10, 11])
def test_a_signal_while_images_are_prepared_ends_all(
    size: int, command: Callable[..., Done], tmp_path: Path
) -> None:
    """Only the rank that fills the cache gets the signal; it may be any."""
    words = ["run", "spec.toml", "--processes", "2", "--set", f"preprocess.resize.size={size}"]
    done = command(tmp_path, *words, trap="any:0:preprocess")
    assert done.code == 143
    assert done.lines == []
    assert done.run.result["status"] == "interrupted"
    assert done.seconds < 30
