"""The real command, killed or stopped at random times, and started again each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightx import Run
from sightx.runs import checkpoints
from support.runs import epochs_of

# Forks the command from a process that has imported everything, sends it a signal, and prints its
# exit code. Some signals come at once, the others a random number of checkpoints later: how far a
# run comes does not depend on how fast the machine is.
SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import sightx, sightx.console, sightx.runner.api, sightx.runner.resume  # noqa
from sightx import Predictor, load
from sightx.cli.main import main

spec, runs, number, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(number)

def step():
    paths = Path(runs).glob("*/checkpoints/step-*")
    return max((int(path.name.split("-")[1]) for path in paths), default=0)

def is_running(child):
    return not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)

for _ in range(rounds):
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 70
        try:
            main(["run", spec, "--continue", "--runs", runs, "--quiet"])
            code = 0
        except SystemExit as done:
            code = done.code or 0
        finally:
            os._exit(code)
    target = step() + rng.randrange(5)
    while step() < target and is_running(child):
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, number)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
LONG = """
[[checkpoint]]
use = "best"
[execution]
save_every_steps = 1
threads = 1
device = "cpu"
"""


@pytest.fixture
def long(spec: Path) -> Path:
    text = spec.read_text().replace("epochs = 2", "epochs = 60")
    spec.write_text(text + LONG)
    return spec


def environment() -> dict[str, str]:
    """Return the environment; another number of torch's threads may change the last digits."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(spec: Path, runs: Path) -> Path:
    words = ["run", str(spec), "--continue", "--runs", str(runs), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "sightx", *words], env=environment(), check=False, timeout=300
    )
    assert done.returncode == 0
    (run,) = (path for path in runs.iterdir() if not path.name.startswith("."))
    return run


def rounds(spec: Path, runs: Path, number: int, count: int) -> list[int]:
    words = [str(spec), str(runs), str(number), str(count)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], env=environment(), check=True,
                          stdout=subprocess.PIPE, text=True, timeout=600)  # fmt: skip
    return [int(line) for line in done.stdout.split()]


def assert_same(one: Path, other: Path) -> None:
    """Assert that two runs have the same weights, optimizer, metrics and predictions."""
    name = checkpoints.read_names(one / "checkpoints")["last"]
    assert checkpoints.read_names(other / "checkpoints")["last"] == name
    for file in ("model.safetensors", "optimizer.safetensors"):
        path = Path("checkpoints", name, file)
        assert (one / path).read_bytes() == (other / path).read_bytes()
    assert epochs_of(Run(one)) == epochs_of(Run(other))
    for file in ("validation.csv", "validation.outputs.npy"):
        assert (one / "predictions" / file).read_bytes() == (
            other / "predictions" / file
        ).read_bytes()


@pytest.mark.slow
def test_forty_kills_of_the_command_lose_nothing(long: Path, tmp_path: Path) -> None:
    statuses = rounds(long, tmp_path / "killed", 9, 40)
    assert set(statuses) <= {-9, 0}
    assert statuses.count(-9) >= 20
    assert_same(command(long, tmp_path / "killed"), command(long, tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [15, 2])
def test_twenty_stops_of_the_command_lose_nothing(long: Path, tmp_path: Path, number: int) -> None:
    statuses = rounds(long, tmp_path / "stopped", number, 20)
    # A signal before the run handles signals ends the process; a finished run is 0.
    assert set(statuses) <= {128 + number, -number, 0}
    assert statuses.count(128 + number) >= 5
    assert_same(command(long, tmp_path / "stopped"), command(long, tmp_path / "whole"))
