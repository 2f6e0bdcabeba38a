"""`sightx doctor`: what this machine and this installation can do, on one screen."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from sightx.cli.context import load_project_registry, runs_root
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.errors import ResourceError, first_line

_SIZE = 1024  # rows and columns of the matrices of the measurement
_REPEATS = 5


@click.command("doctor", short_help="Check this machine and this installation.")
@json_output
@runs_folder
def command(as_json: bool, runs: Path | None) -> int:
    """Check Python, torch, devices, plugins, and the folders of runs and of the pixel cache.

    Exits with 7 if something does not work. Extras that are not installed are only listed.
    """
    rows = [*_versions(), *_devices(), *_plugins(), *_folders(runs_root(runs)), *_extras()]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{'ok' if row['ok'] else 'BAD':<4}{row['name']:<14}{row['text']}")
    return 0 if all(row["ok"] for row in rows) else ResourceError.exit_code


def _row(name: str, text: str, *, ok: bool = True) -> dict[str, Any]:
    return {"name": name, "ok": ok, "text": text}


def _versions() -> Iterator[dict[str, Any]]:
    yield _row("python", f"{platform.python_version()}, {platform.platform()}")
    torch = importlib.metadata.version("torch")
    vision = importlib.metadata.version("torchvision")
    needed = [
        requirement.replace(" ", "")
        for requirement in importlib.metadata.requires("torchvision") or ()
        if re.match(r"torch\s*[=(<>!~]", requirement)
    ]
    wanted = next((text.partition("==")[2].strip(")") for text in needed if "==" in text), "")
    fits = not wanted or wanted.partition("+")[0] == torch.partition("+")[0]
    note = "" if fits else f": torchvision needs torch {wanted}"
    yield _row("torch", f"torch {torch}, torchvision {vision}{note}", ok=fits)
    policy, threads = (os.environ.get(key, "-") for key in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"))
    yield _row("openmp", f"OMP_WAIT_POLICY {policy}, OMP_NUM_THREADS {threads}")


def _devices() -> Iterator[dict[str, Any]]:
    """Yield the devices, each with the speed of a matrix product that it has computed."""
    import torch

    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        try:
            speed = _matrix_product(name)
        except RuntimeError as error:
            yield _row("device", f"{name}: {first_line(error)}", ok=False)
        else:
            yield _row("device", f"{name}: {speed / 1e9:.0f} GFLOP/s, {_SIZE} x {_SIZE} fp32")


def _matrix_product(device: str) -> float:
    """Return the best of some measured speeds in floating-point operations per second."""
    import torch

    matrix = torch.ones(_SIZE, _SIZE, device=device)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        corner = float((matrix @ matrix)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - start)
        if corner != _SIZE:
            raise RuntimeError(f"a matrix product gave {corner}, not {_SIZE}")
    return 2.0 * _SIZE**3 / best


def _plugins() -> Iterator[dict[str, Any]]:
    for plugin in load_project_registry().plugins:
        text = f"{plugin}: {plugin.state}" + (f", {plugin.error}" if plugin.error else "")
        yield _row("plugin", text, ok=not plugin.error)


def _folders(runs: Path) -> Iterator[dict[str, Any]]:
    from sightx.data.cache.store import PixelCache, cache_folder
    from sightx.registry.project import find_project
    from sightx.run_registry.index import index_file

    yield _folder("runs", runs)
    cache = cache_folder(find_project(Path.cwd()))
    try:
        PixelCache(cache).entries()
    except ResourceError as error:  # it holds something else: a run would refuse it
        problem = error.problems[0]
        yield _row("pixel cache", f"{problem.message}; {problem.hint}", ok=False)
    else:
        yield _folder("pixel cache", cache)
    yield _folder("index of runs", index_file(runs).parent)


def _folder(name: str, folder: Path) -> dict[str, Any]:
    """Return whether a folder, or the one where it would be made, can be written and locked."""
    import tempfile

    from sightx.io import locks, system

    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    missing = "" if existing == folder else ", not made yet"
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".writing-doctor-") as file:
            lock = locks.exclusive_lock(Path(file.name))
            if lock:
                lock.release()
    except OSError as error:
        return _row(name, f"{folder}: {error.strerror or error}", ok=False)
    free = system.format_bytes(shutil.disk_usage(existing).free)
    return _row(name, f"{folder}{missing}: can be written and locked, {free} free")


def _extras() -> Iterator[dict[str, Any]]:
    """Yield what each extra lacks."""
    for name, requirements in _extra_requirements().items():
        packages = list(chain.from_iterable(map(_missing, requirements)))
        hint = (
            f"pip install 'sightx[{name}]' adds {', '.join(packages)}" if packages else "installed"
        )
        yield _row("extra", f"{name}: {hint}")


def _extra_requirements() -> dict[str, list[str]]:
    """Return the requirements of each extra.

    Those of a source tree are in its pyproject.toml; the metadata of an editable installation are
    as old as the last `pip install`.
    """
    from sightx.io import toml

    source = Path(__file__).parents[2] / "pyproject.toml"
    if source.is_file():
        project = toml.read(source).data.get("project", {})
        if project.get("name") == "sightx":
            return dict(project.get("optional-dependencies", {}))
    names = importlib.metadata.metadata("sightx").get_all("Provides-Extra") or ()
    return {name: list(_requirements("sightx", name)) for name in names}


def _missing(requirement: str) -> Iterator[str]:
    """Yield the distributions that a requirement lacks, also those of its own extras."""
    match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement)
    if not match:
        return
    try:
        importlib.metadata.version(match[1])
    except importlib.metadata.PackageNotFoundError:
        yield match[1]
        return
    for extra in filter(None, (match[2] or "").split(",")):
        yield from chain.from_iterable(map(_missing, _requirements(match[1], extra.strip())))


def _requirements(package: str, extra: str) -> Iterator[str]:
    """Yield the requirements of an extra of an installed distribution."""
    for requirement in importlib.metadata.requires(package) or ():
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", requirement):
            yield requirement
