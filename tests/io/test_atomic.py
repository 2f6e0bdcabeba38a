from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx import ResourceError
from sightx.io import atomic

Faulty = Callable[[Callable[[], object], int, str], int]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["die", "die after", "ENOSPC"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, faulty: Faulty, how: str) -> None:
    path, before, after = tmp_path / "a.json", b"before" * 100, b"after" * 100
    points, status = 0, -1
    while status:
        path.write_bytes(before)
        points += 1
        status = faulty(lambda: _replace(path, after), points, how)
        assert path.read_bytes() in (before, after)
    assert points == 5  # write, fsync, rename, fsync of the folder, and none


def _replace(path: Path, content: bytes) -> None:
    with atomic.disk_errors(path.parent):
        atomic.replace(path, content)


@pytest.mark.parametrize(
    ("code", "said"),
    [("ENOSPC", "disk full: need 45 MB, "), ("EDQUOT", "disk full: need 45 MB, "),
     ("EROFS", "cannot write 45 MB in {}: Read-only file system"),
     ("EFBIG", "cannot write 45 MB in {}: File too large"),
     ("EIO", "cannot write 45 MB in {}: Input/output error"),
     ("ENOENT", "cannot write 45 MB in {}: No such file")],
)  # fmt: skip
def test_disk_errors_are_one_line_with_a_place(tmp_path: Path, code: str, said: str) -> None:
    number = getattr(errno, code)
    with pytest.raises(ResourceError) as caught, atomic.disk_errors(tmp_path, 45_000_000):
        raise OSError(number, os.strerror(number))
    text = str(caught.value)
    assert said.format(tmp_path) in text
    assert str(tmp_path) in text
    assert "\n" not in text
    assert caught.value.exit_code == 7


def test_an_unknown_need_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"disk full: [\d.]+ [kMG]B free in"):  # noqa: SIM117
        with atomic.disk_errors(tmp_path):
            raise OSError(errno.ENOSPC, "full")


def test_a_directory_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == ".writing-a":
            raise OSError(errno.EIO, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="no"), atomic.atomic_directory(tmp_path / "a") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]


def test_too_little_space_is_an_error_before_writing(tmp_path: Path) -> None:
    atomic.require_free_space(tmp_path, 1)
    with pytest.raises(ResourceError, match=r"disk full: need 1000000000 GB, .* free in"):
        atomic.require_free_space(tmp_path, 10**18)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="gone is gone; it was moved or removed"):
        atomic.require_free_space(tmp_path / "gone", 1)


def test_the_code_and_the_way_out_are_those_of_the_caller(tmp_path: Path) -> None:
    ways = {"hint": "another folder", "full_hint": "a larger disk"}
    for number, line in (
        (errno.EROFS, "error[no-cache] cannot write in {}: Read-only file system; another folder"),
        (errno.ENOSPC, "error[disk-full] disk full: "),
    ):
        with (
            pytest.raises(ResourceError) as caught,
            atomic.disk_errors(tmp_path, code="no-cache", full_code="disk-full", **ways),
        ):
            raise OSError(number, os.strerror(number))
        assert str(caught.value).startswith(line.format(tmp_path))
    assert str(caught.value).endswith("; a larger disk")


def test_any_error_removes_the_new_folder(tmp_path: Path) -> None:
    def write(error: type[BaseException]) -> None:
        with atomic.atomic_directory(tmp_path / "a") as folder:
            (folder / "half").touch()
            raise error

    for error in (OSError, ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            write(error)
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    path, target = tmp_path / "a.csv", tmp_path / "target"
    path.write_text("mine")
    (tmp_path / "a-2.csv").symlink_to(target)
    (tmp_path / "a-3.csv").mkdir()

    assert atomic.write_new(path, b"ours") == tmp_path / "a-4.csv"
    assert atomic.write_new(path, b"ours") == tmp_path / "a-4.csv"  # it is there already
    assert atomic.write_new(path, b"other") == tmp_path / "a-5.csv"

    assert path.read_text() == "mine"
    assert not target.exists()
    assert (tmp_path / "a-4.csv").read_text() == "ours"
