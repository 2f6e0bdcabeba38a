"""Tags and notes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sightx.errors import SpecError
from sightx.run_registry.about import About, change_about, read_about
from sightx.runs import lock
from support.run_folders import write_run


def test_tags_are_added_and_removed_while_the_run_is_locked(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    with lock.run_lock(run):
        assert change_about(run, ["+candidate", "old"], "a note") == About(
            ("candidate", "old"), "a note"
        )
    assert change_about(run, ["-old", "-none"]) == About(("candidate",), "a note")
    assert change_about(run, [], "") == About(("candidate",))
    assert read_about(run) == About(("candidate",))
    assert not list(run.glob(".writing*"))


def test_two_writers_lose_no_tag(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    threads = [threading.Thread(target=change_about, args=(run, [f"tag{n}"])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_about(run).tags) == 8


@pytest.mark.parametrize("tag", ["", "+", "two words", "-@x"])
def test_what_cannot_be_a_tag_is_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(SpecError, match="cannot be a tag"):
        change_about(write_run(tmp_path, "a"), [tag])


def test_a_damaged_file_counts_as_empty(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    (run / "about.json").write_text("[1")
    assert read_about(run) == About()
