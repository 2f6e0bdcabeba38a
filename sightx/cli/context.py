"""The project that a command works in: its plugins and its runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightx import Run
    from sightx.registry.registry import Registry

_NETWORK_SUFFIXES = {".onnx", ".pt", ".pt2", ".pth", ".safetensors"}


def load_project_registry(folder: Path | None = None) -> Registry:
    """Return the components of a folder's project; by default of the working directory's."""
    from sightx.registry.loading import load_registry
    from sightx.registry.project import find_project

    return load_registry(find_project(folder or Path.cwd()))


def find_run(run: str, runs: Path | None) -> tuple[Run, str]:
    """Return the run that RUN means, and the name of the checkpoint behind its `@`, or "".

    `runs` is the folder of runs; None means that of the working directory's project.
    """
    from sightx.run_registry import find

    return find.find_run(runs_root(runs), run)


def find_run_directory(run: str, runs: Path | None) -> tuple[Path, str]:
    """Return the directory of the run that RUN means, and the checkpoint; nothing is imported."""
    from sightx.run_registry import find

    return find.find_directory(runs_root(runs), run)


def runs_root(runs: Path | None) -> Path:
    """Return a folder of runs; None means that of the working directory's project."""
    if runs:
        return runs
    from sightx.registry.project import find_project  # it takes as long as a listing

    return find_project(Path.cwd()).runs


def find_model(text: str, runs: Path | None) -> tuple[Run, str, Path | None]:
    """Return the run that RUN means, the name of its checkpoint, and the exported model, or None.

    An exported model names its run, which must be in the folder of runs.
    """
    from sightx.inference.model_folder import is_model_folder, read_manifest
    from sightx.io.files import user_path

    folder = user_path(text)
    if not is_model_folder(folder):
        return *find_run(text, runs), None
    run, _, _ = read_manifest(folder).id.partition("@")
    return *find_run(run, runs), folder


def find_weights(text: str, runs: Path | None) -> tuple[Path, str]:
    """Return the folder of a checkpoint or of an exported model that RUN means, and a title."""
    from sightx.inference.model_folder import is_model_folder, read_manifest
    from sightx.io.files import user_path

    if is_model_folder(folder := user_path(text)):
        return folder, f"{folder}: {read_manifest(folder).id}"
    if folder.suffix in _NETWORK_SUFFIXES and folder.is_file():
        from sightx.errors import Problem, RunError
        from sightx.runs.names import hint_for_run_around

        message = "it is a file; a network is built from a recipe and safetensors, never loaded"
        hint = hint_for_run_around(folder)
        hint = hint or "give a run, or the folder that sightx export has written"
        raise RunError(Problem("run-name", message, hint, file=str(folder)))
    run, checkpoint = find_run(text, runs)
    folder = run.checkpoint(checkpoint)
    return folder, f"{run.id}, {folder.name} ({run.status})"
