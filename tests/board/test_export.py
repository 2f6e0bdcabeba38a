"""The folder that an exported board replaces."""

from __future__ import annotations

from pathlib import Path

from support.commands import sightx_main
from support.run_folders import write_run


def test_only_a_folder_that_was_exported_is_replaced(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "a")
    words = ["board", "--runs", str(tmp_path / "runs"), "--export"]
    mine, page = tmp_path / "mine", tmp_path / "page"
    mine.mkdir()
    (mine / "data.js").write_text("mine")
    assert sightx_main(*words, str(mine)) == 2
    assert (mine / "data.js").read_text() == "mine"
    assert sightx_main(*words, str(page)) == 0
    write_run(tmp_path / "runs", "b")
    assert sightx_main(*words, str(page)) == 0
    assert "20260131-b" in (page / "data.js").read_text()
    (page / "notes.txt").write_text("mine")
    assert sightx_main(*words, str(page)) == 2
    assert (page / "notes.txt").read_text() == "mine"
    (tmp_path / "link").symlink_to(mine)
    assert sightx_main(*words, str(tmp_path / "link")) == 2
    assert (mine / "data.js").read_text() == "mine"
