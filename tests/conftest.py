"""Fixtures for many tests: small images, small projects, real photographs if available."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightx import Run
from support.commands import sightx_main
from support.faults import in_child
from support.models import train_tiny_model

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


_LONGEST_FOLDER = 20  # characters of the temporary folder, that of a Mac has twice as many


def pytest_configure() -> None:
    """Let pytest use /tmp if the name of the temporary folder is long; see `tmp_path`."""
    if len(tempfile.gettempdir()) > _LONGEST_FOLDER and Path("/tmp").is_dir():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/tmp")


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name, because an error is cut to 300 characters, with its paths."""
    return tmp_path_factory.mktemp("t")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tutorials, the longest tests: at the end, only one process would work."""
    items.sort(key=lambda item: item.path.name != "test_tutorials.py")


@pytest.fixture(scope="session", autouse=True)
def _separate_session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give session fixtures, which run before `cache_root`, another cache than the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTX_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        yield


@pytest.fixture(autouse=True)
def _interrupts() -> None:
    """Let SIGINT raise KeyboardInterrupt: a command leaves the handler of a process that ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the pixel cache; each test has its own, and the user's is never used."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SIGHTX_CACHE", str(folder))
    monkeypatch.setenv("SIGHTX_INDEX", str(tmp_path_factory.mktemp("index")))
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder of real photographs next to the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real photographs are not next to this checkout")
    return SHARED


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """An ImageFolder of two classes that a small network can tell apart: 24/12/12 images."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "val": 6, "test": 6}.items():
        for name, base in {"dark": 60, "light": 190}.items():
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(base, 30, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a small network for two grades; tests do not change it."""
    return train_tiny_model(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def data(trained: Run) -> Path:
    """The folder of its images: 24 to train, 12 to validate and 12 to test."""
    return trained.directory.parents[1] / "data"


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Write a spec file and return its path."""

    def write(text: str, name: str = "spec.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def spec(folders: Path, write_spec: Callable[..., Path]) -> Path:
    """A complete small experiment on `folders`; it trains in under a second."""
    return write_spec(
        """
name = "little"

[dataset]
use = "image-folder"
root = "data"

[[preprocess]]
use = "resize"
size = 8

[normalize]
use = "imagenet"

[model]
use = "simplenet"
hidden = [6]

[training]
epochs = 2
batch_size = 8
"""
    )


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write a module and its dist-info to a new folder, which comes first on the path."""
    before = set(sys.modules)

    def write(distribution: str, code: str, *, point: str = "", version: str = "1.0") -> Path:
        module = f"sightx_test_{distribution.replace('-', '_')}"
        folder = tmp_path / "site" / distribution
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[sightx]\n{point or distribution} = {module}\n")
        monkeypatch.syspath_prepend(folder)
        return folder

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("sightx_test_"):
            del sys.modules[name]


@pytest.fixture
def faulty() -> Callable[[Callable[[], object], int, str], int]:
    """Run an action in a forked process whose n-th system call dies or is refused."""
    return in_child


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def error_line(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a command that fails or warns, and return the line about it."""

    def call(*words: str, code: int | None = None) -> str:
        capsys.readouterr()
        actual = sightx_main(*words)
        assert actual == code if code is not None else actual != 0
        out, err = capsys.readouterr()
        return next(line for line in (err + out).splitlines() if "[" in line)

    return call


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 20 MB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
