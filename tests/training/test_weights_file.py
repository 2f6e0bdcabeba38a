"""Files as training programs write them, and files that are damaged or malicious."""

from __future__ import annotations

import argparse
import builtins
import datetime
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from sightx import ResourceError, RunError
from sightx.training.weights_file import MAX_HEADER, read_tables, require_file

STATE = {"conv.weight": torch.arange(4.0).reshape(2, 2), "conv.bias": torch.ones(2)}


def assert_state(tensors: Any) -> None:
    assert list(tensors) == list(STATE)
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


def refusal(path: Path) -> str:
    """Return the one line that refuses a file."""
    with pytest.raises(RunError) as caught:
        read_tables(path)
    text = str(caught.value)
    assert caught.value.exit_code == 5
    assert "\n" not in text
    assert len(text) <= 300
    assert text.startswith(f"{path}: error[bad-weights] model.weights: ")
    return text.removeprefix(f"{path}: error[bad-weights] model.weights: ")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pth.tar"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_table_of_tensors_is_read_from_either_format(
    tmp_path: Path, suffix: str, is_zip: bool
) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=is_zip)
    assert_state(read_tables(path)[""])


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "ema", "model_ema", "net", "a.b.c"]
)
def test_a_nested_table_has_its_dotted_key(tmp_path: Path, key: str) -> None:
    nested: Any = STATE
    for name in reversed(key.split(".")):
        nested = {"epoch": 3, "best": 0.5, "optimizer": {"state": {0: STATE}}, name: nested}
    torch.save(nested, tmp_path / "w.pt")
    assert list(read_tables(tmp_path / "w.pt")) == [key]
    assert_state(read_tables(tmp_path / "w.pt")[key])


def test_another_file_of_a_checkpoint_says_what_it_is_and_where_the_weights_are(
    tmp_path: Path,
) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    states = optimizer.state_dict()["state"]
    flat = {f"{n}.{key}": value for n, state in states.items() for key, value in state.items()}
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    save_file(flat, tmp_path / "optimizer.safetensors")
    (tmp_path / "state.json").write_text("{}")
    assert read_tables(tmp_path / "model.safetensors")
    where = f"in a checkpoint, not the weights; the weights are {tmp_path}/model.safetensors"
    assert (
        refusal(tmp_path / "optimizer.safetensors") == f"it is the state of the optimizer {where}"
    )
    assert refusal(tmp_path / "state.json") == f"it is the progress of the training {where}"
    (tmp_path / "model.safetensors").unlink()  # copied alone
    text = refusal(tmp_path / "optimizer.safetensors")
    assert text.startswith("it is the state of an optimizer, not the weights of a network; give ")


def test_parameters_and_the_counter_of_an_averaged_model_are_understood(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(network)
    torch.save({"model": averaged.state_dict()}, tmp_path / "a.pt")
    assert list(read_tables(tmp_path / "a.pt")["model"]) == ["module.weight", "module.bias"]
    torch.save(dict(network.named_parameters()), tmp_path / "b.pt")
    assert list(read_tables(tmp_path / "b.pt")[""]) == ["weight", "bias"]


def lightning_checkpoint(**more: object) -> dict[str, Any]:
    """Return what Lightning's ModelCheckpoint saves."""
    return {
        "epoch": 1, "global_step": 20, "pytorch-lightning_version": "2.5.0", "loops": {},
        "state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.ones(())}},
        "optimizer_states": [{"state": {0: {"step": torch.ones(())}}, "param_groups": []}],
        "lr_schedulers": [], "hparams_name": "kwargs", **more,
    }  # fmt: skip


class Config:
    """Settings of a project, as `save_hyperparameters` stores them."""

    def __init__(self) -> None:
        self.lr = 0.1


class Settings(dict[str, object]):
    """Settings that are filled like a dictionary."""


class Choices(list[object]):
    """Settings that are filled like a list."""


@pytest.mark.parametrize(
    "value",
    [argparse.Namespace(lr=0.1), Path("data"), np.float64(0.5), np.arange(3), Config(),
     datetime.date(2026, 1, 1), Settings(lr=0.1), Choices([1, 2]), nn.CrossEntropyLoss()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_lightning_stores_next_to_the_weights_does_not_matter(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "w.ckpt"
    torch.save(lightning_checkpoint(hyper_parameters={"value": value}), path)
    tensors = read_tables(path)["state_dict"]
    assert torch.equal(tensors["model.conv.weight"], STATE["conv.weight"])


def test_settings_of_a_package_that_is_not_installed_are_read(tmp_path: Path) -> None:
    """The file is written by another process, in which the package exists."""
    (tmp_path / "their_project.py").write_text(
        "class Config:\n    def __init__(self):\n        self.lr = 0.1\n"
    )
    code = (
        "import torch, their_project\n"
        "torch.save({'state_dict': {'a': torch.ones(2)}, 'config': their_project.Config()},"
        " 'w.ckpt')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert torch.equal(read_tables(tmp_path / "w.ckpt")["state_dict"]["a"], torch.ones(2))
    assert "their_project" not in sys.modules


class Call:
    """Call a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "system"), (subprocess.call, "call"), (builtins.eval, "eval"),
     (builtins.exec, "exec"), (builtins.getattr, "getattr"), (shutil.rmtree, "shutil.rmtree")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_file_that_calls_python_is_refused_and_calls_nothing(
    tmp_path: Path, function: Callable[..., Any], named: str
) -> None:
    path, marker = tmp_path / "w.ckpt", tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w')" if function in {eval, exec} else f"touch {marker}"
    torch.save(lightning_checkpoint(more=Call(function, code)), path)
    line = refusal(path)
    assert named in line
    assert not marker.exists()


def write_marker(path: str) -> None:
    Path(path).write_text("ran")


def test_a_function_of_another_package_is_not_called(tmp_path: Path) -> None:
    path, marker = tmp_path / "w.ckpt", tmp_path / "ran"
    torch.save(lightning_checkpoint(more=Call(write_marker, str(marker))), path)
    assert "state_dict" in read_tables(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (nn.Linear(2, 2), "the file is not a table of weights but a whole network"),
        ([torch.ones(2)], "the file is not a table of weights but a list"),
        ({**STATE, "accuracy": 0.5}, "the file is not a table of weights: 'accuracy' is not a"),
        ({"epoch": 3, "loss": 0.5}, "the file has no table of weights, only epoch, loss"),
        ({}, "the file has no table of weights, only an empty table"),
    ],
)
def test_a_file_without_a_table_names_its_content_and_how_to_save_one(
    tmp_path: Path, content: object, reason: str
) -> None:
    torch.save(content, tmp_path / "w.pt")
    line = refusal(tmp_path / "w.pt")
    assert line.startswith(reason)
    assert line.endswith("save model.state_dict() where the file was made")


def test_a_torchscript_archive_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # torch advises other formats
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    assert "it is a TorchScript archive, which contains code; save model.state_dict()" in refusal(
        tmp_path / "w.pt"
    )


def test_an_archive_that_expands_is_refused_before_it_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4_000_000)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as source,
        zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    line = refusal(tmp_path / "w.pt")
    assert "would expand to 16,00" in line
    assert (tmp_path / "w.pt").stat().st_size < 100_000


def test_tensors_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    """The length of a storage is also written in data.pkl, where it may be wrong."""
    torch.save({"a": torch.zeros(200)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as source,
        zipfile.ZipFile(tmp_path / "w.pt", "w") as changed,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert b"cpuq\x06K\xc8t" in content
                content = content.replace(b"cpuq\x06K\xc8t", b"cpuq\x06J\x00\x00\x00\x01t")
            changed.writestr(name, content)
    assert refusal(tmp_path / "w.pt").startswith("the file is damaged or cut")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 60, -5])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path)


def safetensors_bytes(header: str, content: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + content


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    (tmp_path / "w.safetensors").write_bytes(
        safetensors_bytes("{" + entry + ", " + entry + "}", bytes(4))
    )
    assert refusal(tmp_path / "w.safetensors").startswith(
        "the file is damaged or cut: its header names a tensor twice"
    )
    twice = '{"a": {"dtype": "F32", "dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes(twice, bytes(4)))
    assert "its header names a tensor twice" in refusal(tmp_path / "w.safetensors")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER + 1))
        file.truncate(MAX_HEADER + 100)
    assert refusal(path).startswith(
        "the file is damaged or cut: its header says that it has 10000001"
    )
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert "its header says" in refusal(path)


def test_a_deeply_nested_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes("[" * 100_000, b""))
    assert refusal(tmp_path / "w.safetensors")


def test_metadata_of_safetensors_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(save(STATE, {"format": "pt"}))
    tensors = read_tables(tmp_path / "w.safetensors")[""]
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_not_a_regular_file_is_exit_7(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ResourceError, match=r"error\[no-weights\] .*there is no such file"):
        require_file(tmp_path / f"w{suffix}")
    (tmp_path / f"w{suffix}").mkdir()
    with pytest.raises(ResourceError, match="it is not a regular file"):
        read_tables(tmp_path / f"w{suffix}")


def test_nothing_of_a_read_stays_allowed_in_torch(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "config": Config()}, tmp_path / "w.pt")
    before = torch.serialization.get_safe_globals()
    read_tables(tmp_path / "w.pt")
    assert torch.serialization.get_safe_globals() == before
