"""What this process may use of the machine."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cpu_count() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def total_memory() -> int:
    """Return how many bytes this process may have, those of a container where it is in one.

    Processes that one launcher started on this host share them.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or the word "max"
        found = min(found, int(_LIMIT.read_text()))
    return found // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_space(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder, which need not be there yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def format_bytes(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor / 10:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
