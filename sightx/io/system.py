"""What this process may use: cores, memory, disk, a thread next to its own; user and time."""

from __future__ import annotations

import getpass
import math
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_STATISTICS = Path("/proc/stat")
_PROCESSORS = Path("/proc/cpuinfo")
_COUNTS = 5
_WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
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


def processor_name() -> str:
    """Return the model of the processor, such as `AMD EPYC 9554`, or its architecture."""
    with suppress(OSError):  # only Linux has the file
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE):
            return match[1].strip()
    return platform.processor() or platform.machine()


class WaitPolicy(NamedTuple):
    """How OpenMP's threads wait for work: "passive" sleeps, "" is OpenMP's default, which spins."""

    name: str
    reason: str


openmp: dict[str, str] = {}
"""The wait policy of OpenMP's threads in this process and its reason, for environment.json."""


def configure_openmp(processes: int = 0) -> None:
    """Set OpenMP's variables for one of several processes, except those that the user set.

    OpenMP reads them when torch is imported. It does not know the quota of a container, nor that
    several processes share the cores. With 0 `processes` this is one of those that torchrun or
    `--processes` has started on this machine: the others are not foreign ones.
    """
    siblings = 0 if processes else _local_processes() - 1
    processes = processes or 1 + siblings
    threads = max(1, cpu_count() // processes)
    variables = {"OMP_NUM_THREADS": str(threads)} if threads < _affinity() else {}
    if _SET_BY_USER.isdisjoint(_WAIT_VARIABLES):
        has_quota = cpu_count() < _affinity()
        policy = choose_wait_policy(threads * processes, has_quota, siblings)
        variables |= {"OMP_WAIT_POLICY": policy.name} if policy.name else {}
    else:
        variable = next(name for name in _WAIT_VARIABLES if name in _SET_BY_USER)
        policy = WaitPolicy(os.environ.get("OMP_WAIT_POLICY", ""), f"{variable} is set")
    os.environ.update({k: v for k, v in variables.items() if k not in _SET_BY_USER})
    openmp.update(wait_policy=policy.name or "default", reason=policy.reason)


def _local_processes() -> int:
    """Return how many processes of this run torchrun has started on this machine, at least 1."""
    with suppress(ValueError):
        return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return 1


def choose_wait_policy(threads: int, has_quota: bool, siblings: int = 0) -> WaitPolicy:
    """Return how the threads of OpenMP should wait for work on this machine at this moment.

    Threads that spin answer faster, but where other processes need the cores, or a quota counts
    their time, they take it from the threads that work: training becomes several times slower
    (benchmarks/load.py). So they sleep if more processes want to run than cores are free. `threads`
    are those of all processes of a run, `siblings` its other processes.
    """
    if has_quota:
        return WaitPolicy("passive", "the CPU quota is smaller than the number of cores")
    free = max(0, (os.cpu_count() or 1) - threads)
    others = max(0, running_processes() - 1 - siblings)
    if others > free:
        return WaitPolicy("passive", f"{others} other processes run, {free} cores are free")
    return WaitPolicy("", f"{others} other processes run, {free} cores are free")


def running_processes() -> int:
    """Return how many processes and threads run or want to, this one included; 1 if unknown.

    That is the smallest of a few counts within 10 ms, because most processes run only briefly; a
    machine where nothing else runs is counted once.
    """
    counts: list[int] = []
    for number in range(_COUNTS):
        if counts and min(counts) <= 1:
            break
        time.sleep(0.002 if number else 0)
        with suppress(OSError, ValueError):  # only Linux counts them
            text = _STATISTICS.read_text(encoding="utf-8").partition("procs_running ")[2]
            counts.append(int(text.split()[0]) if text else 1)
    return min(counts, default=1)


@contextmanager
def repeated(action: Callable[[], bool], seconds: float, name: str) -> Iterator[None]:
    """Call `action` every so many seconds while the body runs, until it returns False.

    A thread called `name` calls it, also while the main thread waits.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds) and action():
            pass

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(seconds)


def utc_time(moment: float | None = None) -> str:
    """Return a time, by default now, as in 2026-01-31T14:22:33Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def user_name() -> str:
    """Return the name of the user, "" for one without a name."""
    with suppress(OSError, KeyError):  # a container may run as a number
        return getpass.getuser()
    return ""


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
