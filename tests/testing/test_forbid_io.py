from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sightx.testing.forbid_io import forbid_io


class Local:
    """A class of this file."""


def test_a_file_is_refused_and_listed_even_if_the_error_is_caught(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"1")
    with forbid_io(Local) as attempts, contextlib.suppress(OSError):
        path.read_bytes()
    assert attempts == [f"opened {path}"]
    assert path.read_bytes() == b"1"  # Afterwards the file can be opened.


@pytest.mark.parametrize(
    "open_file",
    [
        lambda path: open(path),  # noqa: PLW0108, PTH123, SIM115  looked up when it is called
        lambda path: os.open(path, os.O_RDONLY),
        Path.read_text,
        np.fromfile,
        torch.load,
    ],
)
def test_all_usual_ways_to_open_a_file_are_refused(open_file, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"1")
    with forbid_io(Local) as attempts, pytest.raises(PermissionError):
        open_file(path)
    assert attempts == [f"opened {path}"]


def test_functions_are_restored() -> None:
    before = (open, io.open, os.open, socket.getaddrinfo, socket.socket.connect)
    with forbid_io(Local):
        assert open is not before[0]
    assert before == (open, io.open, os.open, socket.getaddrinfo, socket.socket.connect)


def test_a_connection_is_refused() -> None:
    with forbid_io(Local) as attempts, pytest.raises(PermissionError):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
    assert set(attempts) == {"opened a connection"}


def test_a_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(1)}, path)
    with forbid_io(Local) as attempts, pytest.raises(PermissionError):
        load_file(path)
    assert attempts == [f"opened {path}"]
    assert load_file(path)["a"].item() == 1


def test_modules_and_files_of_the_installation_may_be_read() -> None:
    with forbid_io(Local) as attempts:
        Path(__file__).read_bytes()
        Path(torch.__file__).with_name("version.py").read_bytes()
        Path(pytest.__file__).parents[1].joinpath("pytest", "py.typed").read_bytes()
    assert attempts == []


def test_other_threads_may_open_files(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("")
    with forbid_io(Local) as attempts:
        other = threading.Thread(target=path.read_text)
        other.start()
        other.join()
    assert attempts == []
