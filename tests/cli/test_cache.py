from __future__ import annotations

import json
import os
import time

import pytest


@pytest.fixture
def keys(sightx, spec, cache_root):
    """Preprocess one set of images in two ways; the last used comes first."""
    for size in (8, 6):
        assert sightx("prepare", str(spec), "--set", f"preprocess.resize.size={size}").code == 0
    entries = json.loads(sightx("cache", "--json").out)
    assert [entry["about"]["shape"] for entry in entries] == [[3, 6, 6], [3, 8, 8]]
    return [entry["key"] for entry in entries]


def age(cache_root, key, days):
    then = time.time() - days * 86400
    os.utime(cache_root / "pixels" / key / "about.json", (then, then))


def test_entries_are_listed(sightx, keys, cache_root):
    header, first, second, total = sightx("cache").out.splitlines()

    assert header.split() == ["key", "rows", "size", "used", "contents"]
    assert first.startswith(f"{keys[0]}  48 ")
    assert second.endswith("resize(size=8, fit=stretch), 3 x 8 x 8, scaled")
    assert total.endswith(f" in {cache_root}")


def test_removed_entries_are_listed(sightx, keys, cache_root):
    age(cache_root, keys[1], 31)

    first = sightx("cache", "--prune", "--unused", "30").out.splitlines()
    second = sightx("cache", "--prune", keys[0][:6]).out.splitlines()

    assert first[1].startswith(keys[1])
    assert second[1].startswith(keys[0])
    assert second[-1].endswith(f"removed from {cache_root}")
    assert sightx("cache").out == f"0 kB in {cache_root}\n"
    assert sightx("cache", "--json").out == "[]\n"


def test_all_entries_are_removed_at_once(sightx, keys):
    assert [entry["key"] for entry in json.loads(sightx("cache", "--prune", "--json").out)] == keys


@pytest.mark.parametrize("words", [["abc"], ["--unused", "3"], ["--prune", "--unused", "-1"]])
def test_nothing_is_removed_by_mistake(sightx, keys, words):
    done = sightx("cache", *words)

    assert done.code == 2
    assert "error[usage]" in done.err


def test_an_unknown_key_is_an_error(sightx, keys):
    done = sightx("cache", "--prune", "nothing")

    assert done.code == 2
    assert done.lines == [
        "error[no-cache-entry] no entry of the cache has the key nothing; "
        "sightx cache lists the keys"
    ]
    assert len(json.loads(sightx("cache", "--json").out)) == 2


def test_a_folder_with_other_things_is_refused(sightx, spec, cache_root):
    (cache_root / "files").mkdir()
    (cache_root / "files" / "volume.bin").write_text("mine")
    os.utime(cache_root / "files" / "volume.bin", (0, 0))

    commands = "cache", "cache --prune", f"prepare {spec}", f"run {spec}", f"validate {spec} --deep"
    for command in commands:
        done = sightx(*command.split())

        assert done.code == 7
        line = next(line for line in done.lines if "error" in line)
        assert f"error[not-a-cache] {cache_root} is not a cache: it holds 'files', and " in line
        assert line.endswith(f"; to use a new folder: export SIGHTX_CACHE={cache_root}/sightx")
    assert [path.name for path in cache_root.rglob("*")] == ["files", "volume.bin"]


def test_everything_that_is_removed_is_listed(sightx, keys, cache_root):
    left = cache_root / "pixels" / f".removed-{'0' * 16}"
    left.mkdir()

    lines = sightx("cache", "--prune").out.splitlines()

    assert {line.split()[0] for line in lines[1:-1]} == {*keys, f"pixels/{left.name}"}
