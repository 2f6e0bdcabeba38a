from __future__ import annotations

import json
import os
import time

import pytest


@pytest.fixture
def keys(sightx, spec, store):
    """Prepare one set of images in two ways; the one used last comes first."""
    for size in (8, 6):
        assert sightx("prepare", str(spec), "--set", f"prepare.resize.size={size}").code == 0
    found = json.loads(sightx("store", "--json").out)
    assert [entry["about"]["shape"] for entry in found] == [[3, 6, 6], [3, 8, 8]]
    return [entry["key"] for entry in found]


def age(store, key, days):
    then = time.time() - days * 86400
    os.utime(store / "shelves" / key / "about.json", (then, then))


def test_what_is_kept_is_listed(sightx, keys, store):
    header, first, second, total = sightx("store").out.splitlines()

    assert header.split() == ["key", "rows", "size", "used", "what"]
    assert first.startswith(f"{keys[0]}  48 ")
    assert second.endswith("resize(size=8, fit=stretch), 3 x 8 x 8, scaled")
    assert total.endswith(f" in {store}")


def test_what_is_removed_is_listed(sightx, keys, store):
    age(store, keys[1], 31)

    first = sightx("store", "--prune", "--unused", "30").out.splitlines()
    second = sightx("store", "--prune", keys[0][:6]).out.splitlines()

    assert first[1].startswith(keys[1])
    assert second[1].startswith(keys[0])
    assert second[-1].endswith(f"removed from {store}")
    assert sightx("store").out == f"0.0 kB in {store}\n"
    assert sightx("store", "--json").out == "[]\n"


def test_everything_goes_at_once(sightx, keys):
    assert [one["key"] for one in json.loads(sightx("store", "--prune", "--json").out)] == keys


@pytest.mark.parametrize("words", [["abc"], ["--unused", "3"], ["--prune", "--unused", "-1"]])
def test_nothing_is_removed_by_a_slip(sightx, keys, words):
    done = sightx("store", *words)

    assert done.code == 2
    assert "error[usage]" in done.err


def test_a_key_of_none_is_said(sightx, keys):
    done = sightx("store", "--prune", "nothing")

    assert done.code == 2
    assert done.lines == ["error[no-shelf] no shelf is called nothing; sightx store"]
    assert len(json.loads(sightx("store", "--json").out)) == 2
