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


def put(cache, size=4):
    """Make an entry with one row, and release it."""
    row_file, _ = cache.open(about(size))
    with row_file.writer() as writer:
        writer.append(DIGEST, np.zeros((3, size, size), np.uint8))
    return row_file.folder.name


# The folder


def test_the_environment_then_the_project_then_the_cache(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    (tmp_path / "sightx.local.toml").write_text('cache = "big/pixels"\n')
    configured = project.find_project(tmp_path)

    assert cache_folder(configured) == cache_folder() == Path(os.environ["SIGHTX_CACHE"])
    monkeypatch.delenv("SIGHTX_CACHE")
    assert cache_folder(configured) == tmp_path / "big" / "pixels"
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


# The key


def described(*chain, shape=SHAPE, decode="scaled"):
    return cache_key(chain, shape, decode)


def test_all_that_changes_pixels_is_in_the_key(monkeypatch):
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


def test_the_size_that_is_decoded_is_in_the_key(monkeypatch):
    before = described(Resize(size=4))

    monkeypatch.setattr("sightx.data.decode.decoder.MARGIN", 2)
    wider = described(Resize(size=4))
    monkeypatch.setattr(Resize, "required_input_size", lambda self, size: (3, 3))
    other = described(Resize(size=4))

    assert len({str(each) for each in (before, wider, other)}) == 3


@pytest.mark.parametrize("library", ["PIL", "simplejpeg", "torch"])
def test_the_versions_of_libraries_are_in_the_key(monkeypatch, library):
    before = described(Resize(size=4))
    version = sys.modules[library].__version__.partition("+")[0]

    monkeypatch.setattr(f"{library}.__version__", f"{version}+cu999")
    assert described(Resize(size=4)) == before
    monkeypatch.setattr(f"{library}.__version__", f"{version}.1")
    assert described(Resize(size=4)) != before


def test_files_are_in_the_key_by_content(tmp_path):
    class Curve(Preprocess):
        name = "curve"
        table: File

    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    one, same, other = (described(Curve(table=tmp_path / name)) for name in "abc")

    assert one == same != other


def test_folders_and_nested_paths_are_in_the_key_by_content(tmp_path):
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


def test_the_code_of_plugins_is_in_the_key_and_ours_is_not(tmp_path):
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


def test_code_without_source_is_not_shared():
    space = {"Preprocess": Preprocess, "__name__": "nowhere"}
    exec("class Hidden(Preprocess):\n    name = 'hidden'\n", space)

    assert described(space["Hidden"]()) != described(space["Hidden"]())


# Entries


def test_an_entry_is_made_once_and_found_again(cache_root):
    cache = PixelCache(cache_root)
    key = put(cache)

    row_file, _ = cache.open(about())

    assert row_file.folder == cache_root / "pixels" / key
    assert row_file.find(Hashes.from_bytes([DIGEST])).tolist() == [0]
    assert cache.open(about(5))[0].folder != row_file.folder
    assert not list((cache_root / "pixels").glob(".*"))


def test_entries_are_listed_with_the_last_used_first(cache_root):
    cache = PixelCache(cache_root)
    keys = [put(cache, size) for size in (4, 5, 6)]
    for age, key in enumerate(keys):
        os.utime(cache_root / "pixels" / key / "about.json", (0, 1000 - age))
    cache.open(about(6))

    entries = cache.entries()

    assert [entry.key for entry in entries] == [keys[2], keys[0], keys[1]]
    assert [entry.rows for entry in entries] == [1, 1, 1]
    size = sum(path.stat().st_size for path in (cache_root / "pixels" / keys[0]).iterdir())
    assert entries[1].size == size > 48
    assert entries[1].used == 1000
    assert entries[1].about["preprocess"][0]["size"] == 4
    assert PixelCache(cache_root / "nothing").entries() == []


def test_a_damaged_entry_is_listed_and_can_be_removed(cache_root):
    cache = PixelCache(cache_root)
    key = put(cache)
    (cache_root / "pixels" / key / "about.json").write_text("{")

    assert [(entry.key, entry.about, entry.rows) for entry in cache.entries()] == [(key, {}, 1)]
    with pytest.raises(DataError, match="bad-cache"):
        cache.open(about())
    assert len(cache.prune()) == 1
    assert len(cache.open(about())[0]) == 0


def test_a_folder_that_is_not_an_entry_is_an_error(cache_root):
    cache = PixelCache(cache_root)
    key = put(cache)
    (cache_root / "pixels" / key / "about.json").unlink()

    with pytest.raises(ResourceError, match="no-cache"):
        cache.open(about())
    assert [path.name for path in (cache_root / "pixels").iterdir()] == [key]


def test_pruning_keeps_entries_in_use(cache_root):
    cache = PixelCache(cache_root)
    keys = [put(cache, size) for size in (4, 5)]
    row_file, lock = cache.open(about(4))
    pixels = row_file.reader(lock)
    del row_file, lock

    assert [entry.key for entry in cache.prune()] == [keys[1]]
    assert [entry.key for entry in cache.entries()] == [keys[0]]
    assert pixels.read(np.array([0])).shape == (1, 3, 4, 4)
    del pixels
    assert [entry.key for entry in cache.prune()] == [keys[0]]
    assert list((cache_root / "pixels").iterdir()) == []


def test_pruning_removes_named_or_old_entries(cache_root):
    cache = PixelCache(cache_root)
    keys = [put(cache, size) for size in (4, 5, 6)]
    for age, key in enumerate(keys):
        then = time.time() - 100 * age
        os.utime(cache_root / "pixels" / key / "about.json", (then, then))

    assert [entry.key for entry in cache.prune(unused=150)] == [keys[2]]
    assert cache.prune([keys[0]], unused=150) == []
    assert [entry.key for entry in cache.prune([keys[1][:8]])] == [keys[1]]
    with pytest.raises(
        SpecError, match=r"\[no-cache-entry\] no entry of the cache has the key xyz; sightx cache"
    ):
        cache.prune([keys[0], "xyz"])
    assert [entry.key for entry in cache.entries()] == [keys[0]]


def leave(folder):
    """Make a folder as a killed process leaves it."""
    folder.mkdir()
    for name in ("about.json", "rows.bin", "index.bin", "builder.json"):
        (folder / name).write_bytes(b"{}")


def test_files_of_a_killed_process_are_removed(cache_root):
    cache = PixelCache(cache_root)
    put(cache)
    names = [f".removed-{'1' * 16}", f".new-{'1' * 16}", f".new-{'2' * 16}"]
    for name in names:
        leave(cache_root / "pixels" / name)
    os.utime(cache_root / "pixels" / names[1], (0, 0))  # old; the other may be in work
    assert len(cache.entries()) == 1

    removed = [entry.key for entry in cache.prune()]

    assert [path.name for path in (cache_root / "pixels").iterdir()] == [names[2]]
    assert {f"pixels/{name}" for name in names[:2]} < set(removed)


# What is not ours


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.is_dir() or path.read_bytes()
        for path in folder.rglob("*")
    }


def fill_with_other_things(folder):
    """Write files of a user that have the names of ours, days ago."""
    names = ["files/volume.bin", f"files/{'a' * 16}.bin", "pixels/books/novel.txt",
             "pixels/.new-x/a", f"pixels/.new-{'b' * 16}/a", f"pixels/.removed-{'c' * 16}/a",
             f"pixels/{'d' * 16}/diary.txt"]  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))


@pytest.mark.parametrize("use", [PixelCache.entries, PixelCache.prune,
                                 lambda cache: cache.open(about())])  # fmt: skip
def test_a_folder_with_other_contents_is_refused(cache_root, use):
    fill_with_other_things(cache_root)
    before = contents(cache_root)

    with pytest.raises(ResourceError, match=r"error\[not-a-cache\] .* is not a cache: .*'files'"):
        use(PixelCache(cache_root))
    assert contents(cache_root) == before


def test_a_mark_of_another_program_is_not_ours(cache_root):
    (cache_root / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")

    with pytest.raises(ResourceError, match="not-a-cache"):
        PixelCache(cache_root).open(about())


def test_a_mark_that_a_killed_process_has_left_empty_is_written(cache_root):
    (cache_root / "CACHEDIR.TAG").touch()
    put(PixelCache(cache_root))

    assert len(PixelCache(cache_root).entries()) == 1


@pytest.mark.parametrize("name", ["diary.txt", "deep/diary.txt"])
def test_files_of_a_user_within_a_cache_stay(cache_root, caplog, name):
    cache = PixelCache(cache_root)
    keys = [put(cache, size) for size in (4, 5)]
    mine = cache_root / "pixels" / keys[0] / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    fill_with_other_things(cache_root)
    before = contents(cache_root)

    assert [entry.key for entry in cache.prune()] == [keys[1]]

    removed = {name for name in before if name.startswith(f"pixels/{keys[1]}")}
    assert contents(cache_root) == {k: v for k, v in before.items() if k not in removed}
    assert mine.read_text() == "mine"
    assert f"{keys[0]} stays: {name.partition('/')[0]} in it is not a file of SightX" in caplog.text


def test_a_link_in_the_place_of_an_entry_is_not_followed(cache_root, tmp_path):
    cache = PixelCache(cache_root)
    key = put(cache)
    (cache_root / "pixels" / key).rename(tmp_path / "elsewhere")
    (cache_root / "pixels" / key).symlink_to(tmp_path / "elsewhere")

    assert cache.prune() == []
    assert (tmp_path / "elsewhere" / "rows.bin").is_file()
