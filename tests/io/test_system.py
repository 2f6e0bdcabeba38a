from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sightx.io import system


def test_memory_is_that_of_the_container(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(system, "_CGROUPS", tmp_path)
    host = system.total_memory()
    limit.write_text("max\n")
    assert system.total_memory() == host == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("1048576\n")
    assert system.total_memory() == 1048576


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, CORES),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "99900000 100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "?"}, CORES),
        ({}, CORES),
    ],
)
def test_cores_are_those_of_the_container(monkeypatch, tmp_path, files, cores):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(system, "_CGROUPS", tmp_path)
    assert system.cpu_count() == cores


def openmp(quota: Path, **variables: str) -> list[str]:
    """Return what a new process with a CPU quota and some variables sets for OpenMP, and torch."""
    script = (
        "import pathlib; from sightx.io import system\n"
        f"system._CGROUPS = pathlib.Path({str(quota)!r}); system.configure_openmp()\n"
        "import os, torch\n"
        "print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_openmp_sleeps_and_uses_the_cores_of_the_quota(tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert openmp(tmp_path) == ["passive", "1"]
    assert openmp(tmp_path, OMP_WAIT_POLICY="active", OMP_NUM_THREADS="2") == ["active", "2"]


def test_processes_of_one_host_share_its_memory(monkeypatch):
    whole = system.total_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert system.total_memory() == whole // 4


def test_free_space_is_that_of_the_disk_of_a_folder_to_come(tmp_path):
    free = system.free_space(tmp_path / "a" / "b")
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1e9


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 kB"),
        (192, "0.2 kB"),
        (2_345, "2.3 kB"),
        (64_000, "64 kB"),
        (234_500, "234 kB"),
        (45_200_000, "45.2 MB"),
        (9e8, "900 MB"),
        (2e10, "20 GB"),
    ],
)
def test_bytes_are_formatted_for_people(count, text):
    assert system.format_bytes(count) == text
