from __future__ import annotations

import json
import os
import time

import pytest


@pytest.fixture
def keys(sightx, spec, store):
    """Prepare one set of images in two ways; the one used last comes first."""
    for size in (8, 6):
        assert sightx("prepare", str(spec), "--set", f"preprocess.resize.size={size}").code == 0
    found = json.loads(sightx("cache", "--json").out)
    assert [entry["about"]["shape"] for entry in found] == [[3, 6, 6], [3, 8, 8]]
    return [entry["key"] for entry in found]


def age(store, key, days):
    then = time.time() - days * 86400
    os.utime(store / "shelves" / key / "about.json", (then, then))


def test_what_is_kept_is_listed(sightx, keys, store):
    header, first, second, total = sightx("cache").out.splitlines()

    assert header.split() == ["key", "rows", "size", "used", "contents"]
    assert first.startswith(f"{keys[0]}  48 ")
    assert second.endswith("resize(size=8, fit=stretch), 3 x 8 x 8, scaled")
    assert total.endswith(f" in {store}")


def test_what_is_removed_is_listed(sightx, keys, store):
    age(store, keys[1], 31)

    first = sightx("cache", "--prune", "--unused", "30").out.splitlines()
    second = sightx("cache", "--prune", keys[0][:6]).out.splitlines()

    assert first[1].startswith(keys[1])
    assert second[1].startswith(keys[0])
    assert second[-1].endswith(f"removed from {store}")
    assert sightx("cache").out == f"0 kB in {store}\n"
    assert sightx("cache", "--json").out == "[]\n"


def test_everything_goes_at_once(sightx, keys):
    assert [one["key"] for one in json.loads(sightx("cache", "--prune", "--json").out)] == keys


@pytest.mark.parametrize("words", [["abc"], ["--unused", "3"], ["--prune", "--unused", "-1"]])
def test_nothing_is_removed_by_a_slip(sightx, keys, words):
    done = sightx("cache", *words)

    assert done.code == 2
    assert "error[usage]" in done.err


def test_a_key_of_none_is_said(sightx, keys):
    done = sightx("cache", "--prune", "nothing")

    assert done.code == 2
    assert done.lines == ["error[no-cache-entry] no shelf is called nothing; sightx cache"]
    assert len(json.loads(sightx("cache", "--json").out)) == 2
