"""The page without a server: a folder that a colleague opens from a disk or a mail."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

from sightx.board import answers
from sightx.board.server import PAGE, POLICY, page_file
from sightx.io import atomic

_MARK = "<!-- data -->"


def export_board(root: Path, folder: Path) -> int:
    """Write the page, the data of all runs and the files it links to; return the number of runs.

    Weights, images and predictions are not part of it. An existing folder is replaced. Raises
    ResourceError if it cannot be written.
    """
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
        offline = files("sightx.board").joinpath("page", "offline.js").read_bytes()
        (new / "offline.js").write_bytes(offline)
        policy = POLICY.replace("; frame-ancestors 'none'", "")  # it has no effect in a page
        head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        scripts = '<script src="data.js"></script><script src="offline.js"></script>'
        page = (new / "index.html").read_text(encoding="utf-8")
        page = page.replace("<head>", f"<head>{head}", 1).replace(_MARK, scripts, 1)
        (new / "index.html").write_text(page, encoding="utf-8")
        text = f"window.BOARD = {json.dumps(data, separators=(',', ':'))};\n"
        (new / "data.js").write_text(text, encoding="utf-8")
        for id_ in ids:
            for name in answers.run_files(root / id_):
                target = new / "run" / id_ / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / id_ / name, target)
    return len(ids)
