"""Prediction tables in a run directory: `SPLIT.csv`, two arrays, and `SPLIT.json` about them.

`SPLIT.json` is written last. It names the checkpoint and holds the hash of each file, so that the
files of two checkpoints are never read as one table.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.errors import Problem, RunError, suggest, wrong_type
from sightx.io import atomic
from sightx.io.csv_cells import unescape_frame
from sightx.io.files import file_sha256, shell_path
from sightx.records import OWN_COLUMNS, SPLITS
from sightx.records.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "predictions"


def write(directory: Path, name: str, predictions: Predictions, checkpoint: str) -> None:
    """Write a table below a run directory; its files are valid together or not at all.

    `name` is the split, perhaps with what tells it from the run's own table of that split;
    `checkpoint` is the name of the checkpoint's directory.
    """
    folder, temporary = directory / FOLDER, directory / f"{atomic.TEMPORARY}{FOLDER}"
    with atomic.run_disk_errors(directory):
        shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left it
        try:
            temporary.mkdir()  # fails if the run directory is gone
            predictions.save(temporary / name)
            folder.mkdir(exist_ok=True)
            hashes = {}
            for path in sorted(temporary.iterdir()):
                content = path.read_bytes()
                hashes[path.name] = hashlib.sha256(content).hexdigest()
                atomic.replace(folder / path.name, content)
            about = json.dumps({"checkpoint": checkpoint, "files": hashes}, indent=1) + "\n"
            atomic.replace(folder / f"{name}.json", about.encode())
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        atomic.fsync(directory)


def exists(directory: Path, name: str) -> bool:
    """Return whether a split has a table, or a table has this name.

    Raises SpecError for what is not a text, RunError for a name of neither a split nor a table.
    """
    if not isinstance(name, str):
        raise wrong_type("split", name, "train, validation or test")
    if (directory / FOLDER / f"{name}.csv").is_file():
        return True
    if name not in SPLITS:
        written = {path.stem for path in (directory / FOLDER).glob("*.csv")}
        hint = suggest(name, [*SPLITS, *sorted(written.difference(SPLITS))])
        message = f"{name!r} is neither a split nor predictions of the run"
        raise RunError(Problem("no-predictions", message, hint, file=directory.name))
    return False


def read_frame(directory: Path, name: str) -> pd.DataFrame:
    """Return path, group, label and prediction per sample, as strings. Raises RunError."""
    import pandas as pd

    if not exists(directory, name):
        hint = f"{_command(directory, name)} writes them"
        message = f"the run has no predictions of {name!r}"
        raise RunError(Problem("no-predictions", message, hint, file=directory.name))
    _verify(directory, name)
    file = directory / FOLDER / f"{name}.csv"
    return unescape_frame(pd.read_csv(file, dtype=str, keep_default_na=False))


def read(directory: Path, name: str, classes: tuple[str, ...], *, ordered: bool) -> Predictions:
    """Return a table with its arrays. Raises RunError if its files do not belong together."""
    frame, stem = read_frame(directory, name), directory / FOLDER / name
    extra = [column for column in frame.columns if column not in OWN_COLUMNS]
    positions = {name: position for position, name in enumerate(classes)}
    return Predictions(
        keys=tuple(frame["path"]),
        groups=tuple(frame["group"]),
        labels=np.array([positions.get(name, -1) for name in frame["label"]]),
        outputs=np.load(stem.with_name(f"{name}.outputs.npy")),
        probabilities=np.load(stem.with_name(f"{name}.probabilities.npy")),
        decisions=np.array([positions[name] for name in frame["prediction"]]),
        classes=classes,
        ordered=ordered,
        columns={name: frame[name].to_numpy(object) for name in extra},
    )


def checkpoint_of(directory: Path, name: str) -> str:
    """Return the checkpoint that a table was predicted with, "" if there is none."""
    return str(_about(directory, name).get("checkpoint", ""))


def _about(directory: Path, name: str) -> dict[str, Any]:
    path = directory / FOLDER / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_bytes())
        if isinstance(about["files"], dict):
            return dict(about)
    except (KeyError, TypeError, ValueError):
        pass
    raise _mixed(directory, name, f"{path.name} is damaged")


def _verify(directory: Path, name: str) -> None:
    """Raise RunError if a file of a table is missing or not the one that was written with it."""
    for file, expected in _about(directory, name).get("files", {}).items():
        path = directory / FOLDER / Path(file).name
        try:
            actual = file_sha256(path)
        except OSError as error:
            raise _mixed(directory, name, f"{path.name}: {error.strerror}") from error
        if actual != expected:
            raise _mixed(directory, name, f"{path.name} is not the file that was written with it")


def _command(directory: Path, name: str) -> str:
    """Return the command that writes a table."""
    return f"sightx evaluate {shell_path(directory)} --split {name.partition('@')[0]}"


def _mixed(directory: Path, name: str, reason: str) -> RunError:
    message = f"the predictions of {name!r} are incomplete: {reason}"
    hint = f"{_command(directory, name)} writes them again"
    return RunError(Problem("bad-predictions", message, hint, file=directory.name))
