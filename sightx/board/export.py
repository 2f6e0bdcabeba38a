"""The page without a server: a folder that a colleague opens from a disk or a mail."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

from sightx.board import answers
from sightx.board.server import PAGE, POLICY, page_file
from sightx.errors import Problem, SpecError
from sightx.io import atomic

_MARK = "<!-- data -->"
_OFFLINE, _DATA, _RUNS = "offline.js", "data.js", "run"
_DATA_START = "window.BOARD = "


def export_board(root: Path, folder: Path) -> int:
    """Write the page, the data of all runs and the files it links to; return the number of runs.

    Weights, images and predictions are not part of it. A folder that was exported before is
    replaced. Raises SpecError for another folder, ResourceError if it cannot be written.
    """
    folder = folder.resolve()
    if folder.exists() and not _is_exported(folder):
        hint = "name a new folder"
        raise SpecError(Problem("exists", f"{folder} is not an exported board", hint))
    listing = answers.all_runs(root)
    ids = [row["ids"][0] for row in listing["rows"]]
    data = {
        "listing": listing,
        "curves": answers.curves(root, ids),
        "descriptions": {id_: answers.outline(root / id_) for id_ in ids},
    }
    with atomic.disk_errors(folder.parent), atomic.atomic_directory(folder) as new:
        for name in PAGE:
            (new / name).write_bytes(page_file(name))
        offline = files("sightx.board").joinpath("page", _OFFLINE).read_bytes()
        (new / _OFFLINE).write_bytes(offline)
        policy = POLICY.replace("; frame-ancestors 'none'", "")  # it has no effect in a page
        head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        scripts = '<script src="data.js"></script><script src="offline.js"></script>'
        page = (new / "index.html").read_text(encoding="utf-8")
        page = page.replace("<head>", f"<head>{head}", 1).replace(_MARK, scripts, 1)
        (new / "index.html").write_text(page, encoding="utf-8")
        text = f"{_DATA_START}{json.dumps(data, separators=(',', ':'))};\n"
        (new / _DATA).write_text(text, encoding="utf-8")
        for id_ in ids:
            for name in answers.run_files(root / id_):
                target = new / _RUNS / id_ / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / id_ / name, target)
    return len(ids)


def _is_exported(folder: Path) -> bool:
    """Return whether a folder is empty, or has nothing but the files of a page."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    if _DATA not in names or names - {*PAGE, _OFFLINE, _DATA, _RUNS}:
        return False
    with (folder / _DATA).open("rb") as file:
        return file.read(len(_DATA_START)) == _DATA_START.encode()
