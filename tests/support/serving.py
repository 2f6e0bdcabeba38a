"""A server in a thread of this process, behind a real socket, and a small client."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from sightx import Predictor

for _library in ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn"):
    pytest.importorskip(_library, reason="the extra serve is not installed")

from sightx.serving.server import ModelServer, listen, url_of  # noqa: E402
from sightx.serving.service import About, Service  # noqa: E402
from sightx.serving.settings import Settings  # noqa: E402

__all__ = ["listen", "url_of"]


CARD = "# card\n\n- `item`\n\n```python\nimport sightx\n\nsightx.table()\n```\n\nThe end."


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The code of an error, whose form is checked."""
        assert set(self.json) == {"error"}
        error = self.json["error"]
        assert set(error) == {"code", "message", "hint", "request_id"}
        assert error["request_id"] == self.headers.get("x-request-id", "")
        return str(error["code"])


class TestServer(NamedTuple):
    """A running server."""

    __test__ = False

    port: int
    service: Any
    stop: Any
    """Begins a graceful stop."""
    connections: Any
    """Returns uvicorn's open connections."""

    def ask(
        self, method: str, path: str, body: Any = None, *, timeout: float = 20, **headers: str
    ) -> Answer:
        """Send a request; `content_type` is the header Content-Type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(connection):
            connection.request(method, path, body, names)
            return read_answer(connection.getresponse())

    def predict(self, image: bytes, path: str = "/v1/predict", **headers: str) -> Answer:
        return self.ask("POST", path, image, content_type="image/png", **headers)

    def post_form(self, path: str, *parts: tuple[str, bytes], **headers: str) -> Answer:
        body, content_type = encode_form(*parts)
        return self.ask("POST", path, body, content_type=content_type, **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def read_answer(response: http.client.HTTPResponse) -> Answer:
    content = response.read()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)


def receive_answer(connection: socket.socket, method: str = "POST") -> Answer:
    """Read an answer from a socket."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return read_answer(response)


def encode_form(*parts: tuple[str, bytes]) -> tuple[bytes, str]:
    """Return a form with files, as browsers write it, and its content type."""
    body = b""
    for name, content in parts:
        head = f'Content-Disposition: form-data; name="{name}"; filename="Jane Doe.png"'
        body += b"--b0undary\r\n" + head.encode() + b"\r\nContent-Type: image/png\r\n\r\n"
        body += content + b"\r\n"
    return body + b"--b0undary--\r\n", "multipart/form-data; boundary=b0undary"


@contextmanager
def running(predictor: Predictor, *, wait: bool = True, **settings: Any) -> Iterator[TestServer]:
    """Run a server; it listens, and is ready unless `wait` is False."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    started = threading.Event()
    box: dict[str, Any] = {}

    async def main() -> None:
        box["loop"] = asyncio.get_running_loop()
        service = Service(predictor, Settings(**settings), About(CARD))
        box["server"] = server = ModelServer(service)
        box["service"] = service
        started.set()
        await server.serve_at(listener)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(20)

    def stop() -> None:
        if thread.is_alive():
            box["loop"].call_soon_threadsafe(box["server"].stop)

    try:
        if wait:
            wait_until(lambda: box["service"].state == "ready")
        state = box["server"].server_state
        yield TestServer(port, box["service"], stop, lambda: set(state.connections))
    finally:
        stop()
        thread.join(60)  # requests in work have a grace of 30 seconds, then connections 10
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, at most ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class HeldNetwork(nn.Module):
    """A network that waits until it is released; images of one grey level it answers with NaN."""

    BAD = 77

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.module = predictor.module
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []
        """Sizes of the batches that were computed."""
        level = torch.full((1, *predictor.recipe.shape), self.BAD, dtype=torch.uint8)
        self.bad = predictor.normalize(level)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the network."""
        self.go.wait()
        self.batches.append(len(images))
        outputs = self.module(images)
        is_bad = (images == self.bad).flatten(1).all(dim=1)
        return torch.where(is_bad[:, None], torch.nan, outputs)


def held(predictor: Predictor) -> tuple[Predictor, HeldNetwork]:
    """Return a predictor with the same answers whose network can be held."""
    network = HeldNetwork(predictor)
    return Predictor(predictor.recipe, network, predictor.device, predictor.model), network
