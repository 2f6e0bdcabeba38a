from __future__ import annotations

import hashlib
import os
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from sightx.builtin.preprocess import CenterCrop, Resize
from sightx.data.cache import store as module
from sightx.data.cache.store import PixelCache, cache_folder, cache_key
from sightx.errors import DataError, ResourceError, SpecError
from sightx.records.hashes import Hashes
from sightx.registry import loading, project
from sightx.registry.components import File, Place, Settings
from sightx.registry.kinds import Preprocess

SHAPE = (3, 4, 4)
DIGEST = hashlib.sha256(b"").digest()


def about(size=4):
    return cache_key((Resize(size=size),), (3, size, size), "scaled")


def put(store, size=4):
    """Make a shelf with one row, and let it go."""
    shelf, _ = store.use(about(size))
    with shelf.filling() as filling:
        filling.append(DIGEST, np.zeros((3, size, size), np.uint8))
    return shelf.folder.name


# Where it is


def test_the_environment_then_the_project_then_the_cache(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    (tmp_path / "sightx.local.toml").write_text('cache = "big/pixels"\n')
    said = project.find_project(tmp_path)

    assert cache_folder(said) == cache_folder() == Path(os.environ["SIGHTX_CACHE"])
    monkeypatch.delenv("SIGHTX_CACHE")
    assert cache_folder(said) == tmp_path / "big" / "pixels"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert (
        cache_folder()
        == cache_folder(project.find_project(tmp_path.parent))
        == Path("/cache/sightx")
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/sightx")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path("/home/me/Library/Caches/sightx")


# What a shelf is for


def described(*chain, shape=SHAPE, decode="scaled"):
    return cache_key(chain, shape, decode)


def test_all_that_changes_pixels_is_described(monkeypatch):
    class Later(Resize):
        revision = 2

    descriptions = [
        described(Resize(size=4)),
        described(Resize(size=5)),
        described(Resize(size=4, fit="pad")),
        described(Resize(size=4), CenterCrop(size=4)),
        described(CenterCrop(size=4), Resize(size=4)),
        described(Resize(size=4), shape=(1, 4, 4)),
        described(Resize(size=4), decode="exact"),
        described(Later(size=4)),
    ]
    monkeypatch.setattr(module, "DECODER", "another")
    descriptions.append(described(Resize(size=4)))

    assert all(one not in descriptions[:number] for number, one in enumerate(descriptions))


def test_how_far_images_are_reduced_counts(monkeypatch):
    before = described(Resize(size=4))

    monkeypatch.setattr("sightx.data.decode.scaling.MARGIN", 2)
    wider = described(Resize(size=4))
    monkeypatch.setattr(Resize, "required_input_size", lambda self, size: (3, 3))
    other = described(Resize(size=4))

    assert len({str(each) for each in (before, wider, other)}) == 3


@pytest.mark.parametrize("library", ["PIL", "simplejpeg", "torch"])
def test_the_libraries_count_by_their_release(monkeypatch, library):
    before = described(Resize(size=4))
    version = sys.modules[library].__version__.partition("+")[0]

    monkeypatch.setattr(f"{library}.__version__", f"{version}+cu999")
    assert described(Resize(size=4)) == before
    monkeypatch.setattr(f"{library}.__version__", f"{version}.1")
    assert described(Resize(size=4)) != before


def test_files_count_by_what_they_hold(tmp_path):
    class Curve(Preprocess):
        name = "curve"
        table: File

    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    one, same, other = (described(Curve(table=tmp_path / name)) for name in "abc")

    assert one == same != other


def test_folders_and_paths_deeper_in_the_settings_count_by_what_they_hold(tmp_path):
    class Where(Settings):
        place: Place

    class Tables(Preprocess):
        name = "tables"
        folder: Place
        inner: Where
        more: tuple[Where, ...] = ()

    def chain(name):
        where = Where(place=tmp_path / name)
        return described(Tables(folder=tmp_path / "a", inner=where, more=(where,)))

    for name in "ab":
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "curve").write_bytes(b"1")
    one = chain("a")

    assert chain("b") == one
    (tmp_path / "b" / "deep" / "curve").write_bytes(b"2")
    other = chain("b")
    assert other != one
    (tmp_path / "a" / "deep" / "curve").rename(tmp_path / "a" / "curve")
    assert chain("b") != other


def test_the_code_of_plugins_counts_and_ours_does_not(tmp_path):
    text = """
        from sightx.plugin import Preprocess, hookimpl
        class Darken(Preprocess):
            '''Halve it.'''
            name = "darken"
            def apply(self, image):
                return image // 2
        @hookimpl
        def sightx_components():
            return [Darken]
    """
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (tmp_path / "plugins").mkdir()
    found = []
    for number, change in enumerate(["2", "2", "3"]):
        file = tmp_path / "plugins" / f"dark{number}.py"
        file.write_text(textwrap.dedent(text).replace("// 2", f"// {change}"))
        registry = loading.load_registry(project.find_project(tmp_path))
        (step,) = cache_key((registry.find("preprocess", "darken")(),), SHAPE, "scaled", registry)[
            "preprocess"
        ]
        found.append(step["code"])
        file.unlink()
    assert found[0] != found[2]
    assert "code" not in described(Resize(size=4))["preprocess"][0]


def test_code_that_nobody_can_see_is_shared_with_nobody():
    space = {"Preprocess": Preprocess, "__name__": "nowhere"}
    exec("class Hidden(Preprocess):\n    name = 'hidden'\n", space)

    assert described(space["Hidden"]()) != described(space["Hidden"]())


# Using it


def test_a_shelf_is_made_once_and_found_again(store):
    found = PixelCache(store)
    key = put(found)

    shelf, _ = found.use(about())

    assert shelf.folder == store / "shelves" / key
    assert shelf.rows(Hashes.from_bytes([DIGEST])).tolist() == [0]
    assert found.use(about(5))[0].folder != shelf.folder
    assert not list((store / "shelves").glob(".*"))


def test_shelves_are_listed_with_what_was_used_last_first(store):
    found = PixelCache(store)
    keys = [put(found, size) for size in (4, 5, 6)]
    for age, key in enumerate(keys):
        os.utime(store / "shelves" / key / "about.json", (0, 1000 - age))
    found.use(about(6))

    entries = found.entries()

    assert [entry.key for entry in entries] == [keys[2], keys[0], keys[1]]
    assert [entry.rows for entry in entries] == [1, 1, 1]
    size = sum(path.stat().st_size for path in (store / "shelves" / keys[0]).iterdir())
    assert entries[1].size == size > 48
    assert entries[1].used == 1000
    assert entries[1].about["preprocess"][0]["size"] == 4
    assert PixelCache(store / "nothing").entries() == []


def test_a_shelf_that_is_damaged_is_listed_and_can_go(store):
    found = PixelCache(store)
    key = put(found)
    (store / "shelves" / key / "about.json").write_text("{")

    assert [(entry.key, entry.about, entry.rows) for entry in found.entries()] == [(key, {}, 1)]
    with pytest.raises(DataError, match="bad-cache"):
        found.use(about())
    assert len(found.prune()) == 1
    assert len(found.use(about())[0]) == 0


def test_a_folder_that_is_no_shelf_is_not_waited_for(store):
    found = PixelCache(store)
    key = put(found)
    (store / "shelves" / key / "about.json").unlink()

    with pytest.raises(ResourceError, match="no-cache"):
        found.use(about())
    assert [path.name for path in (store / "shelves").iterdir()] == [key]


def test_pruning_leaves_what_is_in_use(store):
    found = PixelCache(store)
    keys = [put(found, size) for size in (4, 5)]
    shelf, lock = found.use(about(4))
    pixels = shelf.pixels(lock)
    del shelf, lock

    assert [entry.key for entry in found.prune()] == [keys[1]]
    assert [entry.key for entry in found.entries()] == [keys[0]]
    assert pixels.read(np.array([0])).shape == (1, 3, 4, 4)
    del pixels
    assert [entry.key for entry in found.prune()] == [keys[0]]
    assert list((store / "shelves").iterdir()) == []


def test_pruning_takes_what_is_named_or_old(store):
    found = PixelCache(store)
    keys = [put(found, size) for size in (4, 5, 6)]
    for age, key in enumerate(keys):
        then = time.time() - 100 * age
        os.utime(store / "shelves" / key / "about.json", (then, then))

    assert [entry.key for entry in found.prune(unused=150)] == [keys[2]]
    assert found.prune([keys[0]], unused=150) == []
    assert [entry.key for entry in found.prune([keys[1][:8]])] == [keys[1]]
    with pytest.raises(SpecError, match=r"\[no-cache-entry\] no shelf is called xyz; sightx cache"):
        found.prune([keys[0], "xyz"])
    assert [entry.key for entry in found.entries()] == [keys[0]]


def test_what_a_killed_process_left_is_swept(store):
    found = PixelCache(store)
    put(found)
    for name in (".gone-1", ".new-1", ".new-2"):
        (store / "shelves" / name).mkdir()
    os.utime(store / "shelves" / ".new-1", (0, 0))  # a day old; the other is just being made
    assert len(found.entries()) == 1

    found.prune()

    assert [path.name for path in (store / "shelves").iterdir()] == [".new-2"]
