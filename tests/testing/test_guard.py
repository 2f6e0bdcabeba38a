from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightx.testing.guard import sealed


class Here:
    """A class of this file."""


def test_a_file_outside_the_installation_is_refused_even_if_the_error_is_eaten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"1")
    with sealed(Here) as opened, contextlib.suppress(OSError):
        path.read_bytes()
    assert opened == [f"opened {path}"]
    assert path.read_bytes() == b"1"  # and afterwards all is as before


def test_a_connection_is_refused() -> None:
    with sealed(Here) as opened, pytest.raises(PermissionError):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
    assert set(opened) == {"opened a connection"}


def test_safetensors_is_refused_though_it_is_no_python(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(1)}, path)
    with sealed(Here) as opened, pytest.raises(PermissionError):
        load_file(path)
    assert opened == [f"opened {path}"]
    assert load_file(path)["a"].item() == 1


def test_modules_and_the_installation_may_be_read() -> None:
    with sealed(Here) as opened:
        Path(__file__).read_bytes()
        Path(torch.__file__).with_name("version.py").read_bytes()
        Path(pytest.__file__).parents[1].joinpath("pytest", "py.typed").read_bytes()
    assert opened == []


def test_other_threads_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("")
    with sealed(Here) as opened:
        other = threading.Thread(target=path.read_text)
        other.start()
        other.join()
    assert opened == []
