"""Real processes and real signals: whenever a signal comes, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sightx
from sightx.runs import lookup
from support.runs import fingerprint

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "resume.md"
COMMAND = [sys.executable, "-m", "sightx"]


@pytest.fixture(autouse=True)
def default_sighup() -> Iterator[None]:
    """Let processes start as from a terminal, also if the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def holder(runs: Path) -> int:
    """Return the process that holds a run below a folder, 0 if there is none yet."""
    for path in runs.glob("*/lock.json"):
        try:
            return int(json.loads(path.read_text())["pid"])
        except (ValueError, KeyError):
            continue
    return 0


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code as a shell gives it: a signal that ends a process is 128 + n."""
    code = process.wait(120)
    return code if code >= 0 else 128 - code


def test_the_batch_script_of_the_documentation(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's time is up twice; each time it gets SIGTERM, and is queued again."""
    (script,) = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    tools = {
        "job": script,
        "srun": '#!/bin/bash\nexec "$@"\n',
        "scontrol": f'#!/bin/bash\necho "$@" >> {tmp_path}/requeued\n',
        "sightx": f'#!/bin/bash\nexec {sys.executable} -m sightx "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 300"))
    codes = []
    while 0 not in codes and len(codes) < 9:
        with subprocess.Popen(["job", str(exact)], cwd=tmp_path) as job:
            if len(codes) < 2:
                os.kill(wait_for_an_epoch(tmp_path / "runs", job), signal.SIGTERM)
            codes.append(exit_code(job))
    assert codes == [143, 143, 0]
    assert (tmp_path / "requeued").read_text().splitlines() == ["requeue 17"] * 2
    (run,) = lookup.list_runs(tmp_path / "runs")
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    assert fingerprint(run) == fingerprint(straight)


def wait_for_an_epoch(runs: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until a run has finished one more epoch; return the process that holds it."""
    before = epochs(runs)
    while epochs(runs) <= before and process.poll() is None:
        time.sleep(0.01)
    return holder(runs)


def epochs(runs: Path) -> int:
    return sum(path.read_text().count("\n") for path in runs.glob("*/metrics.jsonl"))


@pytest.mark.parametrize("group", [False, True])
def test_sigterm_at_any_time_loses_nothing(  # T09, T10
    exact: Path, tmp_path: Path, group: bool
) -> None:
    """Ten signals at random times, to the process or to its group."""
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 200"))
    expected = fingerprint(sightx.run(sightx.load(exact), runs=tmp_path / "straight"))
    random.seed(7 + group)
    signals = saved = 0
    for attempt in range(11):
        runs = tmp_path / f"runs-{attempt}"
        while True:
            words = ["run", str(exact), "--continue", "--quiet", "--runs", str(runs)]
            if group:
                words += ["--set", "execution.threads=2"]
            silent = {"stdout": subprocess.DEVNULL, "start_new_session": True}
            with subprocess.Popen([*COMMAND, *words], **silent) as process:
                if signals < 10:
                    while signals % 5 and not holder(runs) and process.poll() is None:
                        time.sleep(0.01)  # one of five may come while the command starts
                    time.sleep(random.uniform(0.0, 2.0))
                    if process.poll() is None:
                        (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
                        signals += 1
                code = exit_code(process)
            if code == 0:
                break
            assert code == 143
            results = [run.result.get("status") for run in lookup.list_runs(runs)]
            saved += results.count("interrupted")
        (run,) = lookup.list_runs(runs)
        assert fingerprint(run) == expected
        if signals >= 10:
            break
    assert saved


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_every_stop_signal_saves_the_run(
    exact: Path, tmp_path: Path, processes: int, number: signal.Signals
) -> None:
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 3000"))
    words = ["run", str(exact), "--quiet", "--processes", str(processes)]
    words += ["--set", "training.micro_batch_size=2", "--runs", str(tmp_path / "runs")]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE) as process:
        wait_for_an_epoch(tmp_path / "runs", process)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    (run,) = lookup.list_runs(tmp_path / "runs")
    assert run.result["status"] == "interrupted"
    assert run.checkpoints["last"]
    assert b"Traceback" not in err


@pytest.mark.parametrize("processes", [1, 2])
def test_nohup_lets_a_run_go_on(exact: Path, tmp_path: Path, processes: int) -> None:
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 3000"))
    words = ["run", str(exact), "--quiet", "--processes", str(processes)]
    words += ["--set", "training.micro_batch_size=2", "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(["nohup", *COMMAND, *words], stderr=subprocess.PIPE) as process:
        wait_for_an_epoch(tmp_path / "runs", process)
        process.send_signal(signal.SIGHUP)
        wait_for_an_epoch(tmp_path / "runs", process)
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.8, 2.5])
def test_several_signals_at_any_time_give_no_traceback(
    exact: Path, tmp_path: Path, seconds: float
) -> None:
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 3000"))
    words = ["run", str(exact), "--quiet", "--runs", str(tmp_path / "runs")]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE) as process:
        time.sleep(seconds)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert exit_code(process) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert b"Traceback" not in err


def test_kill_9_at_random_times_leaves_a_run_that_continues_exactly(  # C02, R05
    exact: Path, tmp_path: Path
) -> None:
    exact.write_text(exact.read_text().replace("epochs = 4", "epochs = 200"))
    expected = fingerprint(sightx.run(sightx.load(exact), runs=tmp_path / "straight"))
    random.seed(11)
    runs, kills = tmp_path / "runs", 0
    words = ["run", str(exact), "--continue", "--quiet", "--runs", str(runs)]
    while True:
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL) as process:
            if kills < 5:
                wait_for_an_epoch(runs, process)
                time.sleep(random.uniform(0.0, 0.3))
                process.kill()
                kills += 1
            code = exit_code(process)
        if code == 0:
            break
        assert code == 128 + signal.SIGKILL
    (run,) = lookup.list_runs(runs)
    assert fingerprint(run) == expected
    rows = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == list(range(1, 201))
