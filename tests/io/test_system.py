from __future__ import annotations

import os
import platform
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


def test_the_processor_has_the_name_that_linux_gives_it(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Chip X 9 \nflags\t: a\n" * 2)
    monkeypatch.setattr(system, "_PROCESSORS", tmp_path / "cpuinfo")
    assert system.processor_name() == "Chip X 9"


@pytest.mark.parametrize("text", [None, "", "processor : 0\nmodel name :\n"])
def test_a_processor_without_a_name_is_called_by_its_architecture(monkeypatch, tmp_path, text):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(system, "_PROCESSORS", tmp_path / "cpuinfo")
    assert system.processor_name() == (platform.processor() or platform.machine())


def openmp(quota: Path, running: int, **variables: str) -> list[str]:
    """Return what a new process sets for OpenMP, and torch: policy, threads, the recorded policy.

    The process has a CPU quota, `running` processes run, and some variables are set.
    """
    (quota / "stat").write_text(f"cpu 1 2\nprocs_running {running}\nprocs_blocked 0\n")
    script = (
        "import os, pathlib; from sightx.io import system\n"
        f"system._CGROUPS = pathlib.Path({str(quota)!r})\n"
        f"system._STATISTICS = pathlib.Path({str(quota / 'stat')!r})\n"
        "for name in ('OMP_WAIT_POLICY', 'OMP_NUM_THREADS'):\n"
        "    if name not in system._SET_BY_USER: os.environ.pop(name, None)\n"
        "system.configure_openmp()\n"
        "import torch\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), torch.get_num_threads())\n"
        "print(system.openmp['wait_policy'], system.openmp['reason'], sep='\\n')"
    )
    names = ("OMP_", "GOMP_", "KMP_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, *recorded = done.stdout.splitlines()
    return [*first.split(), *recorded]


def test_openmp_sleeps_and_uses_the_cores_of_a_quota(tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    if system._affinity() > 1:
        reason = "the CPU quota is smaller than the number of cores"
        assert openmp(tmp_path, 1) == ["passive", "1", "passive", reason]
    chosen = openmp(tmp_path, 9, OMP_WAIT_POLICY="active", OMP_NUM_THREADS="2")
    assert chosen == ["active", "2", "active", "OMP_WAIT_POLICY is set"]


def test_openmp_sleeps_only_where_other_processes_need_the_cores(tmp_path):
    cores = os.cpu_count()
    policy, _, recorded, reason = openmp(tmp_path, cores + 1)
    assert (policy, recorded) == ("passive", "passive")
    assert reason.startswith(f"{cores} other processes run")
    policy, _, recorded, reason = openmp(tmp_path, 1)
    assert (policy, recorded) == ("None", "default")
    assert reason.startswith("0 other processes run")
    siblings = openmp(tmp_path, cores, LOCAL_WORLD_SIZE=str(cores))
    assert siblings[2:] == ["default", "0 other processes run, 0 cores are free"]
    assert openmp(tmp_path, cores + 1, LOCAL_WORLD_SIZE=str(cores))[2] == "passive"
    assert openmp(tmp_path, 99, GOMP_SPINCOUNT="5")[2:] == ["default", "GOMP_SPINCOUNT is set"]


def test_processes_that_run_are_the_fewest_of_some_counts(tmp_path, monkeypatch):
    file = tmp_path / "stat"
    monkeypatch.setattr(system, "_STATISTICS", file)
    assert system.running_processes() == 1
    file.write_text("cpu 1 2\nprocs_running 5\n")
    assert system.running_processes() == 5
    counts = iter([4, 2, 7, 3, 3])
    monkeypatch.setattr(
        system.time, "sleep", lambda _: file.write_text(f"procs_running {next(counts)}\n")
    )
    assert system.running_processes() == 2


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
