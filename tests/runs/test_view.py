from __future__ import annotations

from pathlib import Path

import pytest

from sightx.plugin import RunInfo
from sightx.runs.directory import OWN_FILES, Run
from sightx.runs.view import RunView


def public(thing: type) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


@pytest.fixture
def view(tmp_path: Path) -> RunView:
    return RunView(Run(tmp_path))


def test_a_view_has_what_run_info_declares_and_nothing_else(view: RunView) -> None:
    assert public(RunView) == public(RunInfo)
    assert public(RunView) < public(Run) | {"directory"}
    for name in ("write_epoch", "write_json", "truncate_metrics", "remove_result", "run"):
        assert not hasattr(view, name)


def test_an_observer_logs_into_files_of_its_own(view: RunView) -> None:
    view.log("mine.txt", "one\n")
    view.log("mine.txt", "two\n")
    assert (view.directory / "mine.txt").read_text() == "one\ntwo\n"
    for name in (*OWN_FILES, "../mine.txt", "checkpoints/names.json", "/mine.txt", ""):
        with pytest.raises(ValueError, match="name a file of your own"):
            view.log(name, "text")


def test_what_a_view_returns_is_a_copy(view: RunView) -> None:
    Run(view.directory).write_json("data.json", {"classes": ["a"]})
    view.data["classes"] = []  # type: ignore[index]
    assert view.data == {"classes": ["a"]}
