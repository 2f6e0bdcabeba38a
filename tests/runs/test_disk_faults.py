"""Real processes whose system calls fail in the kernel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sightx.runs import checkpoints

SCRIPT = """
import sys, torch
from pathlib import Path
from sightx.errors import SightXError
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.training.state import State

folder = Path(sys.argv[1])
try:
    with AsyncCheckpointer(folder) as writer:
        for step in (1, 2, 3):
            state = State({"w": torch.full((50_000,), float(step))}, {}, {"step": step})
            writer.save(state, {}, ["last"])
except SightXError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def strace() -> str:
    program = shutil.which("strace")
    probe = [str(program), "-f", "-o", "/dev/null", "-e", "trace=fsync", "true"]
    if not program or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no strace that may trace here")
    return program


def traced(strace: str, folder: Path, inject: str) -> subprocess.CompletedProcess[str]:
    call = inject.partition(":")[0]
    command = [strace, "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}",
               "-e", f"inject={inject}", sys.executable, "-c", SCRIPT, str(folder)]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def steps(folder: Path) -> list[int]:
    names = checkpoints.list_checkpoints(folder) if folder.is_dir() else []
    return [checkpoints.load(folder / name).record["step"] for name in names]


@pytest.mark.slow
def test_every_failing_sync_is_one_line_and_loses_nothing(tmp_path: Path, strace: str) -> None:
    number, status = 0, 7
    while status:
        number += 1
        folder = tmp_path / str(number) / "checkpoints"
        folder.parent.mkdir()
        done = traced(strace, folder, f"fsync:error=ENOSPC:when={number}")
        status = done.returncode
        assert status in (0, 7), done.stderr
        if status:
            assert len(done.stderr.splitlines()) == 1
            assert "disk full: need " in done.stderr
            assert str(folder) in done.stderr
        assert len(steps(folder)) >= min(2, (number - 2) // 11)
        assert not list(folder.glob(".writing-*"))
    # 5 files, 2 folders, the names, their copy, and the folder of both after each; three times. The
    # run's own folder once.
    assert number == 3 * 11 + 1 + 1


@pytest.mark.slow
@pytest.mark.parametrize("call", ["rename", "mkdir", "fsync", "unlinkat"])
def test_a_kill_at_a_system_call_loses_nothing(tmp_path: Path, strace: str, call: str) -> None:
    for number in (1, 2, 5, 13):
        folder = tmp_path / str(number) / "checkpoints"
        folder.parent.mkdir()
        done = traced(strace, folder, f"{call}:signal=SIGKILL:when={number}")
        saved = steps(folder)
        if done.returncode:
            assert done.returncode in (-9, 137)
            assert saved == sorted(saved)
        else:
            assert saved == [2, 3]  # there are not so many calls
        again = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=False)
        assert again.returncode == 0
        assert steps(folder) == [2, 3]
        assert not list(folder.glob(".writing-*"))
