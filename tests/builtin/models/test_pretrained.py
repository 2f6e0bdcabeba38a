from __future__ import annotations

import hashlib
import logging
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sightx import ResourceError, SpecError
from sightx.builtin.models.pretrained import fetch, load
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simplenet import SimpleNet


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub" / "checkpoints"


def published(folder: Path, state: dict[str, torch.Tensor]) -> SimpleNamespace:
    """Save a state as torchvision's server names it, and return an entry for it."""
    torch.save(state, folder / "saved")
    digest = hashlib.sha256((folder / "saved").read_bytes()).hexdigest()
    file = (folder / "saved").rename(folder / f"net-{digest[:8]}.pth")
    return SimpleNamespace(url=file.as_uri(), meta={"_file_size": 1.5}, file=file)


def line(error: pytest.ExceptionInfo[ResourceError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) <= 300
    return text


def test_file_is_downloaded_once_and_announced(cache, tmp_path, caplog) -> None:
    entry = published(tmp_path, {"weight": torch.ones(2)})
    with caplog.at_level(logging.INFO, "sightx"):
        path = fetch(entry.url, 1.5)
    assert path == cache / entry.file.name
    assert path.read_bytes() == entry.file.read_bytes()
    assert caplog.messages == [f"downloading {entry.url} (2 MB) to {path}"]
    entry.file.unlink()
    assert fetch(entry.url, 1.5) == path
    assert list(cache.iterdir()) == [path]


def test_file_that_is_there_is_verified(cache) -> None:
    cache.mkdir(parents=True)
    file = cache / "net-0123abcd.pth"
    file.write_bytes(b"something else")
    with pytest.raises(ResourceError) as error:
        fetch(f"https://localhost/{file.name}", 1)
    got = hashlib.sha256(b"something else").hexdigest()[:8]
    text = line(error)
    assert text.startswith("error[weights-hash] model.weights: ")
    assert got in text
    assert "0123abcd" in text
    assert str(file) in text
    assert file.exists()


def test_download_of_other_content_leaves_no_file(cache, tmp_path) -> None:
    (tmp_path / "net-0123abcd.pth").write_bytes(b"other")
    with pytest.raises(ResourceError, match="weights-hash") as error:
        fetch((tmp_path / "net-0123abcd.pth").as_uri(), 1)
    assert str(cache / "net-0123abcd.pth") in line(error)
    assert list(cache.iterdir()) == []


def test_half_a_download_leaves_no_file(cache) -> None:
    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(ResourceError):
            fetch(f"http://127.0.0.1:{server.server_port}/net-0123abcd.pth", 1)
        thread.join()
    assert list(cache.iterdir()) == []


def test_no_connection_names_address_and_file(cache) -> None:
    url = "http://127.0.0.1:9/models/net-0123abcd.pth"
    with pytest.raises(ResourceError) as error:
        fetch(url, 1)
    text = line(error)
    assert text.startswith(f"error[weights-unavailable] model.weights: cannot get {url}: ")
    assert f"put the file at {cache / 'net-0123abcd.pth'}, " in text
    assert list(cache.iterdir()) == []


def test_only_the_head_may_stay_fresh(cache, tmp_path) -> None:
    network = nn.Sequential()
    network.add_module("body", nn.Linear(3, 2))
    network.add_module("head", nn.Linear(2, 5))
    body = {"body.weight": torch.ones(2, 3), "body.bias": torch.zeros(2)}
    final = {"fc.weight": torch.ones(9, 2)}

    load(network, published(tmp_path, body | final), head="head.", dropped=("fc.",))
    assert torch.equal(network.body.weight, body["body.weight"])

    for state, complaint in [
        (final, "no body.weight, no body.bias"),
        (body | {"tail.weight": torch.ones(1)}, "unknown tail.weight"),
        (body | {"body.weight": torch.ones(2, 4)}, r"size mismatch for body.weight.*2, 4"),
    ]:
        with pytest.raises(SpecError, match=rf"weights-mismatch.*{complaint}"):
            load(network, published(tmp_path, state), head="head.", dropped=("fc.",))


def test_pickled_code_is_not_run(cache, tmp_path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("code ran",))

    entry = published(tmp_path, {"body.weight": Trap()})  # type: ignore[dict-item]
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load(nn.Linear(1, 1), entry, head="head.", dropped=("fc.",))


@pytest.mark.parametrize("weights", ["none", "imagenet", "imagenet-v1", "run:3f9a", "a/b.pt"])
def test_known_sources_are_accepted(weights: str) -> None:
    assert ResNet50.model_validate({"weights": weights}).weights == weights


@pytest.mark.parametrize(
    ("cls", "names"), [(ResNet50, "none, imagenet, imagenet-v1"), (SimpleNet, "none")]
)
def test_unknown_sources_are_refused_with_the_choices(cls, names: str) -> None:
    expected = rf"'imagnet' must be {names}, a .safetensors/.pt/.pth path, run:ID"
    with pytest.raises(ValidationError, match=expected):
        cls.model_validate_json('{"weights": "imagnet"}')
