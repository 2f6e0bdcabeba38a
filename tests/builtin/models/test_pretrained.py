from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from sightx import ResourceError, RunError, SpecError
from sightx.builtin.models import pretrained
from sightx.builtin.models.pretrained import download, load_pretrained
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


def test_file_is_downloaded_once_and_announced(cache, tmp_path, caplog) -> None:  # X04
    entry = published(tmp_path, {"weight": torch.ones(2)})
    with caplog.at_level(logging.INFO, "sightx"):
        path = download(entry.url, 1.5)
    assert path == cache / entry.file.name
    assert path.read_bytes() == entry.file.read_bytes()
    assert caplog.messages == [f"downloading {entry.url} (2 MB) to {path}"]
    entry.file.unlink()
    assert download(entry.url, 1.5) == path
    assert list(cache.iterdir()) == [path]


def test_file_that_is_there_is_verified(cache) -> None:
    cache.mkdir(parents=True)
    file = cache / "net-0123abcd.pth"
    file.write_bytes(b"something else")
    with pytest.raises(ResourceError) as error:
        download(f"https://localhost/{file.name}", 1)
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
        download((tmp_path / "net-0123abcd.pth").as_uri(), 1)
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
            download(f"http://127.0.0.1:{server.server_port}/net-0123abcd.pth", 1)
        thread.join()
    assert list(cache.iterdir()) == []


def test_no_connection_names_address_and_file(cache) -> None:
    url = "http://127.0.0.1:9/models/net-0123abcd.pth"
    with pytest.raises(ResourceError) as error:
        download(url, 1)
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

    load_pretrained(network, published(tmp_path, body | final), head="head.", ignored=("fc.",))
    assert torch.equal(network.body.weight, body["body.weight"])

    for state, complaint in [
        (final, "no body.weight, no body.bias"),
        (body | {"tail.weight": torch.ones(1)}, "unknown tail.weight"),
        (body | {"body.weight": torch.ones(2, 4)}, r"size mismatch for body.weight.*2, 4"),
    ]:
        with pytest.raises(SpecError, match=rf"weights-mismatch.*{complaint}"):
            load_pretrained(network, published(tmp_path, state), head="head.", ignored=("fc.",))


def test_pickled_code_is_not_run(cache, tmp_path, capsys) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("code ran",))

    entry = published(tmp_path, {"body.weight": Trap()})  # type: ignore[dict-item]
    with pytest.raises(RunError) as error:
        load_pretrained(nn.Linear(1, 1), entry, head="head.", ignored=("fc.",))
    assert "holds no weights that can be read without running code" in line(error)
    assert "weights_only" not in line(error)
    assert "code ran" not in capsys.readouterr().out


def test_two_processes_download_a_file_once(cache, tmp_path) -> None:
    content, asked = b"weights" * 1000, []
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            time.sleep(0.5)  # both have asked for the file by now
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    script = (
        "import sys; from sightx.builtin.models import pretrained\n"
        "pretrained.download(sys.argv[1], 1.0)"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        both = [subprocess.Popen([sys.executable, "-c", script, url]) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        server.shutdown()
        thread.join()
    assert asked == [f"/{name}"]
    assert [path.name for path in cache.iterdir()] == [name]
    assert (cache / name).read_bytes() == content


def test_the_whole_hash_counts_where_it_is_known(cache, tmp_path, monkeypatch) -> None:
    entry = published(tmp_path, {"weight": torch.ones(2)})
    digest = hashlib.sha256(entry.file.read_bytes()).hexdigest()
    monkeypatch.setattr(
        pretrained, "known_hashes", lambda: {entry.file.name: digest[:8] + "0" * 56}
    )
    with pytest.raises(ResourceError, match="weights-hash"):
        download(entry.url, 1.5)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(pretrained, "known_hashes", lambda: {entry.file.name: digest})
    assert download(entry.url, 1.5).read_bytes() == entry.file.read_bytes()


def test_a_file_of_which_no_hash_is_known_is_refused(cache, tmp_path) -> None:
    (tmp_path / "net.pth").write_bytes(b"anything")
    with pytest.raises(ResourceError, match=r"the SHA-256 of net\.pth is not known"):
        download((tmp_path / "net.pth").as_uri(), 1)
    assert list(cache.iterdir()) == []


def test_every_published_file_has_a_hash_and_both_agree() -> None:
    urls = {
        entry.url
        for name in models.list_models(module=models)
        for entry in models.get_model_weights(name)
    }
    names = {url.rpartition("/")[2] for url in urls}
    assert len(names) > 100
    assert all(re.fullmatch("[0-9a-f]{8,10}", pretrained.hash_prefix(name)) for name in names)
    pinned = pretrained.known_hashes()
    assert {"resnet50-11ad3fa6.pth", "resnet50-0676ba61.pth"} <= set(pinned)
    assert set(pinned) <= names | {"efficientnet-lite0-57934424.pth"}  # which a package has
    for name, digest in pinned.items():
        assert re.fullmatch("[0-9a-f]{64}", digest)
        assert digest.startswith(pretrained.hash_prefix(name))


@pytest.mark.parametrize(
    "weights", ["none", "imagenet", "imagenet-v1", "run:3f9a", "a/b.pt", "last.ckpt", "x.pth.tar"]
)
def test_known_sources_are_accepted(weights: str) -> None:
    assert ResNet50.model_validate({"weights": weights}).weights == weights


@pytest.mark.parametrize(
    ("cls", "names"), [(ResNet50, "none, imagenet, imagenet-v1"), (SimpleNet, "none")]
)
def test_unknown_sources_are_refused_with_the_choices(cls, names: str) -> None:
    expected = (
        rf"'imagnet' must be {names}, a .safetensors/.pt/.pth/.ckpt/.bin/.pth.tar path, run:ID"
    )
    with pytest.raises(ValidationError, match=expected):
        cls.model_validate_json('{"weights": "imagnet"}')
