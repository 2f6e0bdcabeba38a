"""Against timm itself; nothing here connects to anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

timm = pytest.importorskip("timm", reason="timm is not installed")

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from sightx.plugin import ResourceError, SpecError

import sightx_timm
from sightx_timm import TimmModel

SMALL = "resnet18.a1_in1k"


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection fail."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.usefixtures("blocked")
def test_a_network_is_built_for_the_images_and_the_loss(arch, size, channels) -> None:
    torch.manual_seed(0)
    network = TimmModel(arch=arch).build(channels=channels, outputs=5, size=size).eval()
    images = torch.rand(2, channels, *size)
    outputs = network(images)
    assert outputs.shape == (2, 5)
    torch.manual_seed(0)
    sizes = {"img_size": size} if arch.startswith("vit") else {}
    same = timm.create_model(arch, num_classes=5, in_chans=channels, **sizes).eval()
    assert torch.equal(same(images), outputs)


def test_rates_reach_the_network() -> None:
    model = TimmModel(arch="resnet18", drop_rate=0.25, drop_path_rate=0.5)
    network = model.build(channels=3, outputs=2, size=(32, 32))
    assert network.drop_rate == 0.25
    assert max(getattr(part, "drop_prob", 0) or 0 for part in network.modules()) == 0.5


def test_what_a_network_does_not_take_is_a_value_error() -> None:
    model = TimmModel(arch="densenet121", drop_path_rate=0.1)
    with pytest.raises(ValueError, match=r"densenet121: .* 'drop_path_rate'"):
        model.build(channels=3, outputs=2, size=(64, 64))


@pytest.mark.parametrize(
    ("arch", "message", "hint"),
    [
        ("resnet81", "'resnet81' is not a network of timm", "did you mean resnet18"),
        ("zzz", "'zzz' is not a network", "resnet18 is one"),
        ("hf-hub:timm/resnet18", "is not a network", ""),
        ("resnet18.nope", "has a tag that timm", "known: resnet18.a1_in1k"),
    ],
)
@pytest.mark.usefixtures("blocked")
def test_an_unknown_name_is_met_with_the_nearest(arch, message, hint) -> None:
    with pytest.raises(SpecError) as caught:
        TimmModel(arch=arch).build(channels=3, outputs=2, size=(32, 32))
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("unknown-arch", "model.arch")
    assert message in problem.message
    assert hint in problem.hint


@pytest.mark.usefixtures("blocked")
def test_normalization_is_what_the_weights_were_trained_with() -> None:
    half = TimmModel(arch="vit_tiny_patch16_224.augreg_in21k").normalization()
    assert half == ((0.5,) * 3, (0.5,) * 3)
    assert TimmModel(arch=SMALL).normalization()[0] == (0.485, 0.456, 0.406)


def test_published_weights_come_from_the_cache(tmp_path: Path) -> None:
    """A child process, since the hub's library reads its variables when it is imported."""
    hub = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    snapshot = hub / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    torch.manual_seed(1)
    published = timm.create_model(SMALL).state_dict()
    save_file(published, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    code = (
        "import sys, sightx_timm\n"
        "from safetensors.torch import save_file\n"
        f"model = sightx_timm.TimmModel(arch={SMALL!r}, weights='pretrained')\n"
        "network = model.build(channels=3, outputs=5, size=(32, 32))\n"
        "model.initialise(network)\n"
        "save_file(network.state_dict(), sys.argv[1])\n"
    )
    loaded = tmp_path / "loaded.safetensors"
    paths = os.pathsep.join([str(Path(sightx_timm.__file__).parents[1]), *sys.path])
    subprocess.run(
        [sys.executable, "-c", code, str(loaded)], check=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    weights = load_file(loaded)
    assert weights["fc.weight"].shape == (5, 512)
    for name, weight in published.items():
        if not name.startswith("fc."):
            assert torch.equal(weights[name], weight), name


@pytest.mark.usefixtures("blocked")
def test_weights_that_cannot_be_had_are_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = TimmModel(arch="resnet10t.c3_in1k", weights="pretrained")
    network = model.build(channels=3, outputs=2, size=(32, 32))
    with pytest.raises(ResourceError) as caught:
        model.initialise(network)
    (problem,) = caught.value.problems
    assert problem.message.startswith("cannot get the weights of resnet10t.c3_in1k: ")
    assert "\n" not in str(problem)


def test_a_network_without_published_weights_says_so() -> None:
    model = TimmModel(arch="vgg_tiny_nope", weights="pretrained")
    with pytest.raises(SpecError, match="is not a network"):
        model.normalization()
    bare = next(
        name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}*")
    )
    model = TimmModel(arch=bare, weights="pretrained")
    with pytest.raises(SpecError, match="has no weights"):
        model.initialise(torch.nn.Identity())


def test_weights_go_by_names_that_exist() -> None:
    for weights in ("none", "pretrained", "run:last", "a.safetensors", "a.pt"):
        assert TimmModel(arch=SMALL, weights=weights).weights == weights
    with pytest.raises(ValidationError, match="'imagenet' must be none, pretrained"):
        TimmModel(arch=SMALL, weights="imagenet")


def test_the_contract() -> None:
    testing = pytest.importorskip("sightx.testing", reason="this sightx has no contract kit")
    if not hasattr(testing, "check"):
        pytest.skip("this sightx has no contract kit")
    testing.check(TimmModel(arch="mobilenetv3_small_050"))
