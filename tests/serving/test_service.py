"""Admission, bombs, neighbours, time limits, clients that leave."""

from __future__ import annotations

import math
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch import nn

from sightx import Predictor
from support.images import encode
from support.serving import HeldNetwork, TestServer, held, running, wait_until

from .test_body import memory


def bomb(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that says it has so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


# V05
@pytest.mark.parametrize("size", [(65_535, 2_700), (1, 178_000_000), (2**31 - 1, 2**31 - 1)])
def test_pixel_bombs_are_refused_by_their_header(server: TestServer, size: tuple[int, int]) -> None:
    before = memory("VmRSS")
    answer = server.predict(bomb(*size))
    assert (answer.status, answer.code) == (422, "too_many_pixels")
    assert "40,000,000" in answer.json["error"]["message"]
    assert memory("VmRSS") - before < 20e6


# V10
def test_a_full_queue_refuses_at_once_and_probes_answer(predictor: Predictor, image: bytes) -> None:
    slow, network = held(predictor)
    with running(slow, max_queue=4, max_batch=1) as server, ThreadPoolExecutor(12) as clients:
        network.go.clear()
        answers = [clients.submit(server.predict, image) for _ in range(12)]
        wait_until(lambda: sum(answer.done() for answer in answers) == 8)
        refused = [answer.result() for answer in answers if answer.done()]
        assert {(answer.status, answer.code) for answer in refused} == {(503, "busy")}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert server.ask("GET", "/livez").status == 200
        assert server.ask("GET", "/readyz").status == 200
        assert server.service.waiting == 4
        network.go.set()
        assert sorted(answer.result().status for answer in answers) == [200] * 4 + [503] * 8
        assert server.service.waiting == 0


def test_a_bad_image_does_not_harm_its_neighbours(predictor: Predictor, data) -> None:  # V09
    slow, network = held(predictor)
    nan = encode(np.full((20, 24, 3), HeldNetwork.BAD, np.uint8), "PNG")
    good = [path.read_bytes() for path in sorted((data / "test").rglob("*.png"))[:6]]
    images = [*good[:3], nan, *good[3:], good[0][:-30]]
    with running(slow) as server, ThreadPoolExecutor(9) as clients:
        network.go.clear()
        first = clients.submit(server.predict, good[0])  # occupies the network
        wait_until(lambda: server.service.waiting == 1)
        time.sleep(0.05)
        answers = [clients.submit(server.predict, image) for image in images]
        wait_until(lambda: answers[-1].done() and len(server.service.batcher._predictions) == 7)
        server.service.batcher.sizes = (8, 4, 2, 1)  # whatever was measured
        network.batches.clear()
        network.go.set()
        results = [answer.result() for answer in answers]
        assert first.result().status == 200
    assert (results[3].status, results[3].code) == (500, "non_finite_output")
    assert (results[-1].status, results[-1].code) == (422, "truncated")
    for image, result in zip(images, results, strict=True):
        if result.status == 200:
            shares = [share["probability"] for share in result.json["probabilities"]]
            expected = predictor.predict(image).probabilities
            assert shares == pytest.approx([share.probability for share in expected], abs=1e-6)
    assert [result.status for result in results].count(200) == 6
    assert 4 in network.batches  # those that waited were computed together


def test_a_request_that_takes_too_long_gets_503(predictor: Predictor, image: bytes) -> None:
    slow, network = held(predictor)
    with running(slow, timeout=0.2) as server:
        network.go.clear()
        answer = server.predict(image)
        assert (answer.status, answer.code) == (503, "too_late")
        assert int(answer.headers["retry-after"]) >= 1
        network.go.set()
        assert server.predict(image).status == 200


def test_a_client_that_leaves_is_not_computed(predictor: Predictor, image: bytes) -> None:
    slow, network = held(predictor)
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % len(image)
    )
    with running(slow, max_queue=30, max_batch=1) as server, ThreadPoolExecutor(1) as client:
        network.go.clear()
        network.batches.clear()
        first = client.submit(server.predict, image)
        wait_until(lambda: server.service.waiting == 1)
        time.sleep(0.05)
        for _ in range(100):  # more than the queue holds
            with server.connect() as connection:
                connection.sendall(head + image)
                wait_until(lambda: server.service.waiting == 2)
            wait_until(lambda: server.service.waiting == 1)
        network.go.set()
        assert first.result().status == 200
        assert server.predict(image).status == 200
        assert len(network.batches) == 2
        assert 'status="499"} 100.0' in server.ask("GET", "/metrics").content.decode()
        assert server.service.held_bytes == 0


def test_explanations_are_few_and_come_after_predictions(
    predictor: Predictor, image: bytes
) -> None:
    slow, network = held(predictor)
    with running(slow, max_explanations=2) as server, ThreadPoolExecutor(6) as clients:
        network.go.clear()
        blocked = clients.submit(server.predict, image)
        wait_until(lambda: server.service.waiting == 1)
        pictures = [clients.submit(server.predict, image, "/v1/explain") for _ in range(4)]
        wait_until(lambda: sum(picture.done() for picture in pictures) == 2)
        last = clients.submit(server.predict, image)
        network.go.set()
        assert {blocked.result().status, last.result().status} == {200}
        assert sorted(picture.result().status for picture in pictures) == [200, 200, 503, 503]


def test_until_the_network_has_warmed_up_the_server_is_alive_but_not_ready(  # V14
    predictor: Predictor, image: bytes
) -> None:
    slow, network = held(predictor)
    network.go.clear()
    with running(slow, wait=False) as server:
        assert server.ask("GET", "/livez").status == 200
        assert server.ask("GET", "/").status == 200
        answer = server.ask("GET", "/readyz")
        assert (answer.status, answer.json) == (503, {"status": "starting"})
        assert server.predict(image).code == "not_ready"
        assert server.ask("GET", "/v1/model").code == "not_ready"
        network.go.set()
        wait_until(lambda: server.ask("GET", "/readyz").status == 200)
        assert server.predict(image).status == 200


def test_a_model_without_spatial_layers_cannot_be_explained(
    server: TestServer, image: bytes, monkeypatch
) -> None:
    monkeypatch.setattr(server.service.batcher, "can_explain", False)
    assert server.predict(image, "/v1/explain").code == "cannot_explain"
    assert server.ask("GET", "/v1/model").json["can_explain"] is False


def test_onnx_runtime_cannot_explain_and_the_error_says_what_can(
    predictor: Predictor, image: bytes
) -> None:
    about = predictor.model.model_copy(update={"engine": "onnx"})
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(predictor.recipe.shape), 2))
    with running(Predictor(predictor.recipe, network.eval(), predictor.device, about)) as server:
        answer = server.predict(image, "/v1/explain")
    assert (answer.status, answer.code) == (422, "cannot_explain")
    assert answer.json["error"]["message"] == "ONNX Runtime cannot explain a network"
    assert answer.json["error"]["hint"] == "serve the run without --engine onnx"
