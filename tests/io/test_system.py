from __future__ import annotations

import os
import shutil

import pytest

from sightx.io import system


def test_memory_is_that_of_the_container(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(system, "_CGROUP_LIMIT", limit)
    host = system.total_memory()
    limit.write_text("max\n")
    assert system.total_memory() == host == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("1048576\n")
    assert system.total_memory() == 1048576


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
