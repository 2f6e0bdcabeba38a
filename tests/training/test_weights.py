from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sightx import ResourceError, RunError
from sightx.builtin.models.simplenet import SimpleNet
from sightx.training.weights import initialise, load_strict

MODEL = SimpleNet(hidden=(3,))


def network() -> nn.Module:
    return MODEL.build(channels=1, outputs=2, size=(2, 2))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_gives_its_weights(tmp_path: Path, suffix: str) -> None:
    source, target, path = network(), network(), tmp_path / f"w{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(source.state_dict(), path)
    initialise(MODEL, target, str(path))
    for one, other in zip(source.parameters(), target.parameters(), strict=True):
        assert torch.equal(one, other)


def test_none_leaves_the_weights_alone() -> None:
    module = network()
    before = [weight.clone() for weight in module.parameters()]
    initialise(MODEL, module, "none")
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_missing_file_is_exit_7(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such file"):
        initialise(MODEL, network(), str(tmp_path / "gone.pt"))


class Payload:
    """Run a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_file_that_would_run_code_is_refused_without_torchs_advice(
    tmp_path: Path, suffix: str
) -> None:
    path, marker = tmp_path / f"w{suffix}", tmp_path / "ran"
    torch.save({"a": Payload(marker)}, path)
    with pytest.raises(RunError) as caught:
        initialise(MODEL, network(), str(path))
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_name_a_tensor(tmp_path: Path) -> None:
    other = SimpleNet(hidden=(4,)).build(channels=1, outputs=2, size=(2, 2))
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RunError) as caught:
        initialise(MODEL, network(), str(tmp_path / "w.safetensors"))
    first = next(iter(network().state_dict()))
    assert f"{first}: expected 3x4, got 4x4; they were saved from" in str(caught.value)
    assert caught.value.exit_code == 5


def test_the_first_tensor_that_does_not_fit_is_named_and_nothing_is_loaded() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))
    good = {name: torch.ones_like(tensor) for name, tensor in module.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    less = {name: tensor for name, tensor in good.items() if name != "1.bias"}
    for wrong, reason in [
        ({**good, "2.weight": torch.ones(2, 3), "2.bias": torch.ones(2)},
         "2.weight: expected 5x3, got 2x3"),
        ({**good, "1.num_batches_tracked": torch.ones(2)},
         "1.num_batches_tracked: expected one number, got 2"),
        (less, "1.bias: expected 3, got no such tensor"),
        ({**good, "3.weight": torch.ones(1)}, "3.weight: the network has none"),
    ]:  # fmt: skip
        with pytest.raises(RunError) as caught:
            load_strict(module, wrong, file="runs/a/checkpoints/step-00000001")
        assert f": error[weights-shape] {reason}; " in str(caught.value)
        assert str(caught.value).startswith("runs/a/checkpoints/step-00000001: ")
        assert all(torch.equal(before[n], tensor) for n, tensor in module.state_dict().items())
    load_strict(module, good, file="")
    assert all(torch.equal(good[n], tensor) for n, tensor in module.state_dict().items())


def test_a_file_that_is_not_a_table_of_weights_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(RunError, match="is not a table of weights"):
        initialise(MODEL, network(), str(tmp_path / "w.pt"))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="damaged or cut"):
        initialise(MODEL, network(), str(path))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_another_kind_of_number_are_refused(
    tmp_path: Path, dtype: torch.dtype, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    state = {name: tensor.to(dtype) for name, tensor in network().state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    module = network()
    before = [weight.clone() for weight in module.parameters()]
    with pytest.raises(RunError, match=f"expected torch.float32, got {dtype}"):
        initialise(MODEL, module, str(path))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_weights_of_half_precision_are_loaded(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in network().state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    initialise(MODEL, network(), str(tmp_path / "w.safetensors"))


def with_header(path: Path, header: bytes, data: bytes = b"") -> str:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return str(path)


def test_a_header_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    file = with_header(tmp_path / "w.safetensors", f"{{{entry}, {entry}}}".encode(), b"0000")
    with pytest.raises(RunError, match="its header names a tensor twice"):
        initialise(MODEL, network(), file)


@pytest.mark.parametrize("size", [11_000_000, 2**62])
def test_a_header_that_is_too_large_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{" + b" " * 11_000_100)
    with pytest.raises(RunError, match=f"its header says that it has {size} bytes"):
        initialise(MODEL, network(), str(path))


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path, bomb = tmp_path / "w.pt", tmp_path / "bomb.pt"
    torch.save(network().state_dict(), path)
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
        packed.writestr("archive/data/999", bytes(50_000_000))
    with pytest.raises(RunError, match="bad-weights"):
        initialise(MODEL, network(), str(bomb))
