"""Bodies: their size, their time, and forms that are not what they should be."""

from __future__ import annotations

import http.client
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sightx import Predictor
from support.serving import TestServer, encode_form, receive_answer, running

MIB = 1 << 20


def memory(name: str) -> int:
    """Return a value of /proc/self/status in bytes."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line[:5] == name
    )
    return 1024 * int(line.split()[1])


@pytest.mark.parametrize("is_chunked", [False, True])
def test_600_mb_are_refused_in_constant_memory_and_without_a_file(  # V01, V02
    server: TestServer, is_chunked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    block = bytes(MIB)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with closing(connection):
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", "image/jpeg")
        if is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            sent = 0
            with suppress(OSError):
                for _ in range(600):
                    connection.send(b"%x\r\n" % MIB + block + b"\r\n")
                    sent += MIB
            assert sent < 100 * MIB  # the limit, what is drained, and buffers
        else:
            connection.putheader("Content-Length", str(600 * MIB))
            connection.endheaders()
            with closing(connection.getresponse()) as response:
                assert response.status == 413
                assert response.getheader("connection") == "close"
    assert memory("VmHWM") - before < 20e6
    assert list(tmp_path.iterdir()) == []
    assert server.service.held_bytes == 0


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_client_that_sends_too_much_hears_it(server: TestServer, is_chunked: bool) -> None:
    body = bytes(11_000_000)
    answer = server.ask(
        "POST", "/v1/predict", iter([body]) if is_chunked else body, content_type="image/png"
    )
    assert (answer.status, answer.code) == (413, "too_large")
    assert "10,000,000" in answer.json["error"]["message"]


def test_a_client_that_expects_100_continue_need_not_send_a_body(server: TestServer) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
            b"Expect: 100-continue\r\nContent-Length: 11000000\r\n\r\n"
        )
        assert receive_answer(connection).code == "too_large"


FORM, TYPE = encode_form(("image", b"x"))


def test_an_image_without_its_content_type_is_told_so(server: TestServer, image: bytes) -> None:
    def told(path: str, **headers: str) -> tuple[str, str]:
        answer = server.ask("POST", path, image, **headers)
        assert answer.code == "unsupported_media_type"
        return answer.json["error"]["message"], answer.json["error"]["hint"]

    missing = "the header Content-Type is missing"
    other = "the header Content-Type names another kind of body"
    hint = "send Content-Type: image/jpeg or image/png, or a form"
    assert told("/v1/predict") == (missing, hint)
    curl = "application/x-www-form-urlencoded"  # what curl writes with --data-binary
    assert told("/v1/predict", content_type=curl) == (other, hint)
    pair = "send a form with the parts left and right"
    assert told("/v1/predict/pair", content_type="image/png") == (other, pair)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"\xff\xfe\x80", "application/json", 415, "unsupported_media_type"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"x", "", 415, "unsupported_media_type"),
        (FORM, "multipart/form-data", 400, "bad_multipart"),
        (FORM, "multipart/form-data; boundary=" + "b" * 300, 400, "bad_multipart"),
        (FORM, "multipart/form-data; boundary=other", 400, "bad_multipart"),
        (FORM[:-8], TYPE, 400, "bad_multipart"),
        (b"--b0undary\r\nX: y\r\n" * 3, TYPE, 400, "bad_multipart"),
        (b"--b0undary\r\n" + b"X: y\r\n" * 3000, TYPE, 400, "bad_multipart"),
        (b"", TYPE, 400, "bad_multipart"),
        (encode_form(("photo", b"x"))[0], TYPE, 422, "missing_part"),
        (encode_form(("image", b"x"), ("image", b"y"))[0], TYPE, 422, "two_images"),
        (encode_form(*[("a", b"x")] * 1100)[0], TYPE, 400, "bad_multipart"),
        (encode_form(("\x00\xff", b"x"))[0], TYPE, 422, "missing_part"),
        (
            FORM.replace(b"Content-Type:", b"Content-Transfer-Encoding: Jane"),
            TYPE,
            422,
            "not_jpeg_or_png",
        ),
    ],
)
def test_malformed_requests_get_a_code(  # V04
    server: TestServer, body: bytes, content_type: str, status: int, code: str, caplog
) -> None:
    answer = server.ask("POST", "/v1/predict", body, content_type=content_type)
    assert (answer.status, answer.code) == (status, code)
    assert "Jane" not in answer.content.decode() + caplog.text


def test_a_large_file_of_a_form_stays_in_memory(
    server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert server.post_form("/v1/predict", ("image", bytes(9_000_000))).code == "not_jpeg_or_png"


def test_other_parts_of_a_form_are_ignored(server: TestServer, image: bytes) -> None:
    answer = server.post_form("/v1/predict", ("note", b"x"), ("image", image), ("_", b""))
    assert answer.content == server.predict(image).content


def test_a_body_that_trickles_ends_with_408(predictor: Predictor) -> None:
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
        b"Content-Length: 5000\r\n\r\n"
    )
    with running(predictor, body_seconds=(0.3, 0.6), drain_seconds=0.2) as server:
        with server.connect() as connection:
            connection.sendall(head)
            connection.settimeout(0.05)
            start = time.monotonic()
            while time.monotonic() - start < 10:
                with suppress(TimeoutError):
                    connection.sendall(b"x")
                    if connection.recv(1, 2):  # MSG_PEEK
                        break
            connection.settimeout(5)
            answer = receive_answer(connection)
        assert (answer.status, answer.code) == (408, "slow_body")
        assert server.service.held_bytes == 0


def test_bodies_share_a_budget_of_bytes(predictor: Predictor, image: bytes) -> None:
    with running(predictor, held_bytes=len(image) + 10) as server, server.connect() as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100\r\n\r\n" + b"x" * 50
        )
        while not server.service.held_bytes:
            time.sleep(0.01)
        answer = server.predict(image)
        assert (answer.status, answer.code) == (503, "busy")
        connection.close()
        while server.service.held_bytes:
            time.sleep(0.01)
        assert server.predict(image).status == 200
