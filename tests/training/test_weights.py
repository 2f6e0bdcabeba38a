from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from sightx import PluginError, ResourceError, RunError
from sightx.builtin.losses import CrossEntropy
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.builtin.models.simplenet import SimpleNet
from sightx.builtin.models.torchvision import TorchvisionModel
from sightx.plugin import Model
from sightx.training.setup import build_module, head_tensors
from sightx.training.weights import LoadedWeights, initialise, load_strict

SHAPE = (3, 32, 32)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, *SHAPE)
RESNET18 = TorchvisionModel(arch="resnet18")
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


def test_weights_of_another_network_name_a_tensor(tmp_path: Path) -> None:  # C14
    other = SimpleNet(hidden=(4,)).build(channels=1, outputs=2, size=(2, 2))
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RunError) as caught:
        initialise(MODEL, network(), str(tmp_path / "w.safetensors"))
    first = next(iter(network().state_dict()))
    reason = f"of 4 tensors 3 differ in shape ({first}: 4x4, not 3x4)"
    assert reason in str(caught.value)
    assert caught.value.exit_code == 5


def test_tensors_of_a_checkpoint_that_do_not_fit_are_counted_and_nothing_is_loaded() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))
    good = {name: torch.ones_like(tensor) for name, tensor in module.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    less = {name: tensor for name, tensor in good.items() if name != "1.bias"}
    for wrong, reason in [
        ({**good, "2.weight": torch.ones(2, 3), "2.bias": torch.ones(2)},
         "2 differ in shape (2.weight: 2x3, not 5x3)"),
        ({**good, "1.num_batches_tracked": torch.ones(2)},
         "1 differ in shape (1.num_batches_tracked: 2, not one number)"),
        (less, "1 missing (first 1.bias)"),
        ({**good, "3.weight": torch.ones(1)}, "1 unexpected (first 3.weight)"),
        ({**less, "a": torch.ones(1), "b": torch.ones(1)},
         "1 missing (first 1.bias), 2 unexpected (first a)"),
    ]:  # fmt: skip
        with pytest.raises(RunError) as caught:
            load_strict(module, wrong, file="runs/a/checkpoints/step-00000001")
        assert f": error[weights-shape] of 9 tensors {reason}" in str(caught.value)
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


# Networks of plain torch, and files of them as training programs save them.


@cache
def draw_reference(classes: int) -> nn.Module:
    torch.manual_seed(3)
    network = torchvision.models.resnet18(num_classes=classes)
    with torch.no_grad():
        network(IMAGES)
    return network.eval()


def reference(classes: int = 2) -> nn.Module:
    """Return torchvision's own network, with statistics of images."""
    return deepcopy(draw_reference(classes))


def load(
    model: Model, path: Path, classes: int = 2, seed: int = 0
) -> tuple[nn.Module, LoadedWeights]:
    """Build the network of a model as a run does, and load a file into it."""
    module = build_module(model, CrossEntropy(), classes, SHAPE, seed)
    head = partial(head_tensors, model, CrossEntropy(), module, classes, SHAPE)
    report = initialise(model, module, str(path), head=head)
    assert report is not None
    return module.eval(), report


def fails(model: Model, path: Path, classes: int = 2) -> str:
    with pytest.raises(RunError) as caught:
        load(model, path, classes)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 300
    assert line.startswith(f"{path}: error[")
    return line


def saved(path: Path, state: Any) -> Path:
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def wrap(network: nn.Module, *names: str) -> nn.Module:
    """Return modules around a network, the innermost name last."""
    for name in reversed(names):
        outer = nn.Module()
        outer.add_module(name, network)
        network = outer
    return network


@pytest.mark.parametrize(
    "save",
    [
        lambda net: net.state_dict(),
        lambda net: nn.DataParallel(net).state_dict(),
        lambda net: torch.compile(net).state_dict(),
        lambda net: nn.DataParallel(torch.compile(net)).state_dict(),
        lambda net: wrap(net, "model").state_dict(),
        lambda net: wrap(net, "model", "backbone").state_dict(),
        lambda net: wrap(net, "module", "model", "encoder").state_dict(),
        lambda net: {"epoch": 1, "state_dict": net.state_dict()},
        lambda net: {"state_dict": wrap(net, "model").state_dict(), "optimizer": {"state": {}}},
        lambda net: {"model": nn.DataParallel(net).state_dict(), "args": {"lr": 0.1}},
        lambda net: {"model_ema": torch.optim.swa_utils.AveragedModel(net).state_dict()},
        lambda net: {"net": {"state_dict": net.state_dict()}},
    ],
)
def test_files_of_training_programs_give_the_network_of_plain_torch(
    tmp_path: Path, save: Callable[[nn.Module], Any]
) -> None:
    network = reference()
    path = saved(tmp_path / "w.ckpt", save(network))
    module, report = load(RESNET18, path)
    assert torch.equal(module(IMAGES), network(IMAGES))
    assert len(report.loaded) == 122
    assert report.fresh == report.unused == ()


def test_the_report_names_the_table_and_the_prefix(tmp_path: Path) -> None:
    state = {"best": 1.0, "state_dict": prefixed(reference().state_dict(), "model.backbone.")}
    report = load(RESNET18, saved(tmp_path / "w.ckpt", state))[1]
    assert str(report) == (
        "weights w.ckpt (table state_dict, names without 'model.backbone.'): "
        "122 of 122 tensors loaded"
    )


def test_of_several_tables_the_trained_weights_come_before_their_average(tmp_path: Path) -> None:
    state = reference().state_dict()
    average = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    tables = {"model_ema": average, "optimizer": {"a": torch.ones(1)}, "model": state}
    module, report = load(RESNET18, saved(tmp_path / "w.pt", tables))
    assert report.table == "model"
    assert torch.equal(module.fc.weight, state["fc.weight"])
    report = load(
        RESNET18, saved(tmp_path / "w.pt", {"ema": state, "net": {"a": average["fc.bias"]}})
    )[1]
    assert report.table == "ema"


def test_a_part_that_is_called_like_a_prefix_keeps_its_name(tmp_path: Path) -> None:
    class Wrapped(Model):
        """A network inside a module called `model`."""

        name = "test-wrapped"

        def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
            return wrap(torchvision.models.resnet18(num_classes=outputs), "model")

    state = reference().state_dict()
    for names in (prefixed(state, "model."), prefixed(state, "module.model."), state):
        module, _ = load(Wrapped(), saved(tmp_path / "w.pt", names))
        assert torch.equal(module.model.fc.weight, state["fc.weight"])


# Another number of classes.


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_number_of_classes_is_refused_with_a_hint_that_works(
    tmp_path: Path, suffix: str
) -> None:
    network = reference(5)
    path = saved(tmp_path / f"w{suffix}", network.state_dict())
    line = fails(RESNET18, path, classes=3)
    assert (
        "its head is for another number of classes: fc.weight is 5x512, the network needs 3x512"
        in line
    )
    assert 'write head = "new" below [model], or --set model.head=new' in line

    model = TorchvisionModel(arch="resnet18", head="new")
    fresh = build_module(model, CrossEntropy(), 3, SHAPE, 0)
    module, report = load(model, path, classes=3)
    assert torch.equal(module.fc.weight, fresh.fc.weight)
    assert torch.equal(module.fc.bias, fresh.fc.bias)
    module.fc = network.fc = nn.Identity()
    assert torch.equal(module(IMAGES), network(IMAGES))
    assert report.fresh == ("fc.weight", "fc.bias")
    assert str(report) == f"weights w{suffix}: 120 of 122 tensors loaded; new: fc.weight, fc.bias"


def test_a_new_head_is_new_although_the_number_of_classes_is_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", reference().state_dict())
    loaded = load(RESNET18, path)[0]
    module, report = load(TorchvisionModel(arch="resnet18", head="new"), path)
    assert report.fresh == ("fc.weight", "fc.bias")
    assert not torch.equal(module.fc.weight, loaded.fc.weight)
    assert load(TorchvisionModel(arch="resnet18", head="load"), path)[1].fresh == ()


@pytest.mark.parametrize(
    "replace_head",
    [
        lambda net: setattr(net, "fc", nn.Identity()),
        lambda net: setattr(net, "fc", nn.Sequential(nn.Dropout(), nn.Linear(512, 7))),
        lambda net: setattr(net, "fc", nn.Sequential(nn.Linear(512, 64), nn.Linear(64, 2))),
        lambda net: (setattr(net, "fc", nn.Identity()), net.add_module("head", nn.Linear(512, 7))),
    ],
)
def test_a_head_of_another_form_or_name_is_left_out(
    tmp_path: Path, replace_head: Callable[[nn.Module], object]
) -> None:
    network = reference()
    replace_head(network)
    path = saved(tmp_path / "w.pt", network.state_dict())
    assert 'write head = "new" below [model]' in fails(RESNET18, path)
    module, report = load(TorchvisionModel(arch="resnet18", head="new"), path)
    assert report.fresh == ("fc.weight", "fc.bias")
    assert set(report.unused) == set(network.state_dict()) - set(reference().state_dict())
    module.fc = network.fc = nn.Identity()
    assert torch.equal(module(IMAGES), network(IMAGES))


def test_a_trunk_next_to_another_head_is_understood_with_a_new_head(tmp_path: Path) -> None:
    network = reference()
    trunk = {n: t for n, t in network.state_dict().items() if not n.startswith("fc.")}
    state = {**prefixed(trunk, "backbone."), "head.weight": torch.ones(7, 512)}
    path = saved(tmp_path / "w.pt", {"state_dict": state})
    assert 'head = "new"' in fails(RESNET18, path)
    module, report = load(TorchvisionModel(arch="resnet18", head="new"), path)
    assert report.removed == "backbone."
    assert report.unused == ("head.weight",)
    module.fc = network.fc = nn.Identity()
    assert torch.equal(module(IMAGES), network(IMAGES))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (SimpleNet(hidden=(4, 3)), ["head.weight", "head.bias"]),
        (SimpleCnn(widths=(4,), hidden=(3,)), ["head.weight", "head.bias"]),
        (ResNet50(hidden=(4,)), ["head.hidden1.weight", "head.hidden1.bias",
                                 "head.output.weight", "head.output.bias"]),
        (TorchvisionModel(arch="vgg11"), ["classifier.6.weight", "classifier.6.bias"]),
        (TorchvisionModel(arch="squeezenet1_1"), ["classifier.1.weight", "classifier.1.bias"]),
        (TorchvisionModel(arch="densenet121"), ["classifier.weight", "classifier.bias"]),
        (TorchvisionModel(arch="convnext_tiny"), ["classifier.2.weight", "classifier.2.bias"]),
        (TorchvisionModel(arch="vit_b_16"), ["heads.head.weight", "heads.head.bias"]),
        (TorchvisionModel(arch="regnet_y_400mf"), ["fc.weight", "fc.bias"]),
    ],
)  # fmt: skip
def test_the_head_comes_from_the_model(model: Model, expected: list[str]) -> None:
    with torch.device("meta"):
        module = build_module(model, CrossEntropy(), 2, (3, 64, 64), 0)
    assert head_tensors(model, CrossEntropy(), module, 2, (3, 64, 64)) == expected


class TwoLayers(Model):
    """A network of a plugin that calls its last layer as it likes."""

    name = "test-two-layers"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        modules = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(),
                   "stem": nn.Linear(channels, 8), "decide": nn.Linear(8, outputs)}  # fmt: skip
        network = nn.Sequential()
        for name, module in modules.items():
            network.add_module(name, module)
        return network


class TwoLayersAndParts(TwoLayers):
    name = "test-two-layers-and-parts"

    def head_parts(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("stem", "decide")


def test_a_plugin_needs_to_say_nothing_about_its_head_but_may(tmp_path: Path) -> None:
    state = TwoLayers().build(channels=3, outputs=4, size=(32, 32)).state_dict()
    path = saved(tmp_path / "w.pt", state)
    module, report = load(TwoLayers(head="new"), path, classes=3)
    assert torch.equal(module.stem.weight, state["stem.weight"])
    assert report.fresh == ("decide.weight", "decide.bias")
    report = load(TwoLayersAndParts(head="new"), path, classes=3)[1]
    assert report.loaded == ()
    assert len(report.fresh) == 4


def test_a_part_that_does_not_exist_is_the_failure_of_its_plugin(tmp_path: Path) -> None:
    class Wrong(TwoLayers):
        name = "test-wrong-head"

        def head_parts(self, module: nn.Module) -> tuple[str, ...]:
            return ("haed",)

    path = saved(
        tmp_path / "w.pt", TwoLayers().build(channels=3, outputs=4, size=(32, 32)).state_dict()
    )
    with pytest.raises(PluginError, match=r"names 'haed'.*parts: pool, flat, stem, decide"):
        load(Wrong(head="new"), path, classes=3)


# Names and shapes that match only in part.


@pytest.mark.parametrize("head", [None, "new"])
def test_a_partly_matching_file_is_refused_with_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Any
) -> None:
    model = TorchvisionModel(arch="resnet18", head=head)
    state = reference().state_dict()
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    state["layer9.conv.weight"] = torch.ones(4, 4, 3, 3)
    del state["layer1.0.bn1.weight"], state["bn1.bias"]
    monkeypatch.chdir(tmp_path)  # a short path leaves more room in the line
    line = fails(model, saved(Path("w.pt"), state))
    assert (
        "of 122 tensors 2 missing (first bn1.bias), 1 unexpected (first layer9.conv.weight), "
        "1 differ in shape (conv1.weight: 64x1x7x7, not 64x3x7x7)"
    ) in line
    assert line.endswith("; [model] needs the settings of the saved network")


@pytest.mark.parametrize("head", [None, "new"])
def test_deeper_and_other_networks_are_refused(tmp_path: Path, head: Any) -> None:
    model = SimpleCnn(widths=(4,), hidden=(), head=head)
    deeper = SimpleCnn(widths=(4, 4), hidden=()).build(channels=3, outputs=2, size=(32, 32))
    assert "unexpected (first block2.conv.weight)" in fails(
        model, saved(tmp_path / "w.pt", deeper.state_dict())
    )
    wider = SimpleNet(hidden=(3, 3)).build(channels=3, outputs=2, size=(32, 32))
    line = fails(SimpleNet(hidden=(3,), head=head), saved(tmp_path / "w.pt", wider.state_dict()))
    assert "2 unexpected (first hidden2.weight)" in line
    line = fails(model, saved(tmp_path / "w.pt", torchvision.models.alexnet().state_dict()))
    assert "no tensor has a name of the network: the file has 16 such as features.0.weight" in line


def test_weights_next_to_the_network_are_refused_with_the_prefix(tmp_path: Path) -> None:
    state = {**prefixed(reference().state_dict(), "model."), "loss.weight": torch.ones(2)}
    line = fails(RESNET18, saved(tmp_path / "w.pt", state))
    assert "1 unexpected (first loss.weight); save the weights of the network alone" in line


def test_counters_that_old_files_lack_are_not_needed(tmp_path: Path) -> None:
    state = {n: t for n, t in reference().state_dict().items() if "num_batches" not in n}
    module, report = load(RESNET18, saved(tmp_path / "w.pt", state))
    assert torch.equal(module(IMAGES), reference()(IMAGES))
    assert all("num_batches_tracked" in name for name in report.fresh)


@pytest.mark.parametrize(
    ("name", "change", "kinds"),
    [
        ("fc.weight", lambda t: t.to(torch.int8), "int8 values|float32"),
        ("fc.weight", lambda t: t > 0, "bool|float32"),
        ("fc.weight", lambda t: t.to(torch.complex64), "complex64|float32"),
        ("fc.weight", lambda t: t.to(torch.float8_e4m3fn), "float8_e4m3fn|float32"),
        ("fc.weight", lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "qint8|float32"),
        ("fc.weight", lambda t: t.to_sparse(), "float32"),
        ("bn1.num_batches_tracked", lambda t: t.float() + 0.5, "float32|int64"),
        ("bn1.num_batches_tracked", lambda t: t > 0, "bool|int64"),
    ],
)
def test_values_that_a_cast_would_change_are_refused(
    tmp_path: Path, name: str, change: Callable[[Tensor], Tensor], kinds: str
) -> None:
    state = reference().state_dict()
    with warnings.catch_warnings(action="ignore"):  # torch has plans for quantised tensors
        state[name] = change(state[name])
        line = fails(RESNET18, saved(tmp_path / "w.pt", state))
    assert "error[bad-weights]" in line
    assert name in line
    for kind in kinds.split("|"):
        assert kind.removesuffix(" values") in line


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("is_all", [False, True])  # counters may be floats, too
def test_other_floats_are_converted_as_torch_does(
    tmp_path: Path, dtype: torch.dtype, is_all: bool
) -> None:
    state = {
        name: tensor.to(dtype) if is_all or tensor.is_floating_point() else tensor
        for name, tensor in reference().state_dict().items()
    }
    plain = torchvision.models.resnet18(num_classes=2).eval()
    plain.load_state_dict(state)
    module, _ = load(RESNET18, saved(tmp_path / "w.safetensors", state))
    assert torch.equal(module(IMAGES), plain(IMAGES))


def test_nothing_is_loaded_if_anything_does_not_fit(tmp_path: Path) -> None:
    state = reference().state_dict()
    state["layer4.1.bn2.bias"] = state["layer4.1.bn2.bias"].to(torch.int8)
    module = build_module(RESNET18, CrossEntropy(), 2, SHAPE, 0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(RunError):
        initialise(RESNET18, module, str(saved(tmp_path / "w.pt", state)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


# Weights that a model knows by name.


class Known(TwoLayers):
    """A model that knows weights for four classes, and leaves another head as it is."""

    name = "test-known"

    def initialise(self, module: nn.Module) -> None:
        state = {name: torch.full_like(t, 0.5) for name, t in module.state_dict().items()}
        is_wide = module.decide.out_features == 4
        module.load_state_dict(
            {n: t for n, t in state.items() if is_wide or "stem" in n}, strict=False
        )


@pytest.mark.parametrize(
    ("head", "classes", "fresh"),
    [(None, 3, ["decide.weight", "decide.bias"]), (None, 4, []), ("load", 4, []),
     ("new", 4, ["decide.weight", "decide.bias"])],
)  # fmt: skip
def test_named_weights_report_what_is_new(head: Any, classes: int, fresh: list[str]) -> None:
    model = Known(weights="known", head=head)
    module = build_module(model, CrossEntropy(), classes, SHAPE, 0)
    before = module.decide.weight.clone()
    names = partial(head_tensors, model, CrossEntropy(), module, classes, SHAPE)
    report = initialise(model, module, "known", head=names)
    assert report is not None
    assert list(report.fresh) == fresh
    assert torch.equal(module.decide.weight, before) == bool(fresh)
    assert (module.stem.weight == 0.5).all()


def test_a_head_that_named_weights_do_not_have_cannot_be_loaded() -> None:
    model = Known(weights="known", head="load")
    module = build_module(model, CrossEntropy(), 3, SHAPE, 0)
    names = partial(head_tensors, model, CrossEntropy(), module, 3, SHAPE)
    with pytest.raises(RunError, match=r'its head is not loaded .*head = "new"'):
        initialise(model, module, "known", head=names)
