"""Archives: deterministic, verified, and harmless when they are damaged or hostile."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx.errors import RunError, SpecError
from sightx.run_registry.about import change_about
from sightx.run_registry.archive import archive_run, import_archive
from sightx.runs import sums
from support.run_folders import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "runs", "a", whole=True)
    sums.write_sums(run)
    change_about(run, ["candidate"])
    return run


def contents(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_the_same_run_gives_the_same_bytes_and_comes_back(run: Path, tmp_path: Path) -> None:
    archive_run(run, tmp_path / "one.zip")
    for path in run.rglob("*"):
        path.touch()
    moved = Path(shutil.copytree(run, tmp_path / "elsewhere" / run.name))
    archive_run(moved, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    imported, is_new = import_archive(tmp_path / "one.zip", tmp_path / "imported")
    assert is_new
    assert imported.name == run.name
    expected = contents(run)
    del expected["lock.json"]
    assert contents(imported) == expected
    check = ["sha256sum", "--check", "--quiet", "--strict", sums.FILE]
    subprocess.run(check, cwd=imported, check=True)
    archive_run(imported, tmp_path / "three.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "three.zip").read_bytes()
    change_about(imported, ["more"])
    before = contents(imported)
    assert import_archive(tmp_path / "one.zip", tmp_path / "imported") == (imported, False)
    assert contents(imported) == before
    (imported / "spec.toml").write_text("changed")
    with pytest.raises(RunError, match=r"is there already, and its spec.toml differs"):
        import_archive(tmp_path / "one.zip", tmp_path / "imported")


def test_a_damaged_run_is_not_archived(run: Path, tmp_path: Path) -> None:
    (run / "spec.toml").write_text("changed")
    with pytest.raises(RunError, match=r"spec.toml has changed since the run ended"):
        archive_run(run, tmp_path / "a.zip")
    (run / "spec.toml").unlink()
    with pytest.raises(RunError, match=r"spec.toml is missing"):
        archive_run(run, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_no_changed_byte_gets_through(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "a")
    archive_run(run, tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    expected = contents(run)
    for position in range(0, len(content), 41):
        changed = bytearray(content)
        changed[position] ^= 0x10
        (tmp_path / "b.zip").write_bytes(changed)
        target = tmp_path / "target"
        try:
            imported, _ = import_archive(tmp_path / "b.zip", target)
        except RunError:
            assert list(target.iterdir()) == []
        else:  # a byte that no reader looks at, such as the time of a file
            assert {k: v for k, v in contents(imported).items() if k != sums.FILE} == expected
            shutil.rmtree(target)


def link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def hostile(
    file: Path,
    name: str,
    content: bytes = b"x",
    change: Callable[[zipfile.ZipInfo], None] | None = None,
) -> None:
    """Write an archive whose hashes are right, with one more file."""
    files = {"run/experiment.toml": b"", name: content}
    lines = "".join(
        f"{hashlib.sha256(v).hexdigest()}  {k.partition('/')[2]}\n" for k, v in files.items()
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in {**files, "run/SHA256SUMS": lines.encode()}.items():
            info = zipfile.ZipInfo(key)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change and key == name:
                change(info)
            archive.writestr(info, value)


@pytest.mark.parametrize(
    "name",
    [
        "run/../../evil",
        "/evil",
        "run/a/../../../evil",
        "../evil",
        "run//x",
        "evil",
        "other/x",
        "run/./x",
    ],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    hostile(tmp_path / "a.zip", name)
    with pytest.raises(RunError, match="bad-archive"):
        import_archive(tmp_path / "a.zip", tmp_path / "deep" / "runs")
    assert not list(tmp_path.rglob("*evil*"))
    assert list((tmp_path / "deep" / "runs").iterdir()) == []


def test_links_bombs_and_unlisted_files_are_refused(tmp_path: Path) -> None:
    hostile(tmp_path / "link.zip", "run/x", b"/etc/passwd", link)
    hostile(tmp_path / "bomb.zip", "run/x", bytes(200_000_000))
    hostile(tmp_path / "fine.zip", "run/x")
    with zipfile.ZipFile(tmp_path / "fine.zip", "a") as archive:
        archive.writestr("run/unlisted", b"x")
    (tmp_path / "text.zip").write_text("not a ZIP file")
    reasons = {
        "link": "not a file of a run", "bomb": "would unpack to",
        "fine": "differs from its hash", "text": "not a zip file",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(RunError, match=reason):
            import_archive(tmp_path / f"{name}.zip", tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_archive_replaces_only_itself(run: Path, tmp_path: Path) -> None:
    (mine := tmp_path / "mine.zip").write_bytes(b"mine")
    with pytest.raises(SpecError, match="exists, with other content"):
        archive_run(run, mine)
    assert mine.read_bytes() == b"mine"
    for _ in range(2):
        archive_run(run, tmp_path / "one.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.zip", "one.zip", "runs"]
