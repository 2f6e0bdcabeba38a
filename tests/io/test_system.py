from __future__ import annotations

import os
import shutil

import pytest

from sightx.io import system


def test_memory_is_that_of_the_container(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(system, "_LIMIT", limit)
    host = system.total_memory()
    limit.write_text("max\n")
    assert system.total_memory() == host == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("1048576\n")
    assert system.total_memory() == 1048576


def test_processes_of_one_host_share_its_memory(monkeypatch):
    whole = system.total_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert system.total_memory() == whole // 4


def test_room_is_that_of_the_disk_of_a_folder_to_come(tmp_path):
    there = system.free_space(tmp_path / "a" / "b")
    assert abs(there - shutil.disk_usage(tmp_path).free) < 1e9


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0.0 kB"), (2_345, "2.3 kB"), (234_500, "0.2 MB"), (9e8, "0.9 GB"), (2e10, "20.0 GB")],
)
def test_sizes_are_said_as_people_say_them(count, said):
    assert system.format_bytes(count) == said
