"""The resources that this process may use: cores, memory, disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cpu_count() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def total_memory() -> int:
    """Return the bytes of memory that this process may use.

    Inside a container that is the container's limit. Processes that one launcher started on this
    host share it equally.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or it holds "max"
        memory = min(memory, int(_CGROUP_LIMIT.read_text()))
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
