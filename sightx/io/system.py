"""The resources that this process may use: cores, memory, disk."""

from __future__ import annotations

import math
import os
import shutil
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SET_BY_USER = frozenset(os.environ)


def cpu_count() -> int:
    """Return the number of cores that this process may use.

    That is the number of its CPU affinity, or less if the CPU quota of its container is less: a
    quota of 2.5 cores counts as 3.
    """
    cores = _affinity()
    with suppress(OSError, ValueError):  # no such file, or no quota
        cores = min(cores, math.ceil(_cpu_quota()))
    return cores


def configure_openmp(processes: int = 1) -> None:
    """Set OpenMP's variables for one of several processes, except those that the user set.

    OpenMP reads them when torch is imported. Its idle threads spin by default; on a shared machine,
    or under a CPU quota, they take the cores from the threads that work, which makes training ten
    times slower (benchmarks/load.py). OpenMP does not know the quota of a container, nor that
    several processes share the cores.
    """
    variables = {"OMP_WAIT_POLICY": "passive"}
    threads = max(1, cpu_count() // processes)
    if threads < _affinity():
        variables["OMP_NUM_THREADS"] = str(threads)
    os.environ.update({k: v for k, v in variables.items() if k not in _SET_BY_USER})


def _affinity() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cpu_quota() -> float:
    """Return the cores of the container's CPU quota (control groups, version 2 or 1).

    Raises OSError or ValueError if there is none.
    """
    file = _CGROUPS / "cpu.max"
    if file.is_file():
        quota, period = map(int, file.read_text(encoding="utf-8").split())
    else:
        quota = int((_CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((_CGROUPS / "cpu" / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    if quota <= 0 or period <= 0:
        raise ValueError("no quota")
    return quota / period


def total_memory() -> int:
    """Return the bytes of memory that this process may use.

    Inside a container that is the container's limit. Processes that one launcher started on this
    host share it equally.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or it holds "max"
        memory = min(memory, int((_CGROUPS / "memory.max").read_text(encoding="utf-8")))
    return memory // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which does not need to exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(existing).free


def format_bytes(count: float) -> str:
    """Return a number of bytes for people: `0.2 kB`, `45 MB`, `20.5 GB`."""
    factor, unit = next(
        ((factor, unit) for factor, unit in ((1e9, "GB"), (1e6, "MB")) if count >= factor),
        (1e3, "kB"),
    )
    value = count / factor
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f}".removesuffix(".0") + f" {unit}"
