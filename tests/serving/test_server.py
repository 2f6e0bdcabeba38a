"""Connections: slow ones, long heads, what is not HTTP; and a graceful stop."""

from __future__ import annotations

import http.client
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from sightx import Predictor, ResourceError
from support.serving import (
    TestServer,
    held,
    listen,
    receive_answer,
    running,
    url_of,
    wait_until,
)


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server closes a connection within a few seconds."""
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_sockets_that_trickle_or_say_nothing_are_closed_and_others_are_served(  # V11
    predictor: Predictor, image: bytes
) -> None:
    with running(predictor, head_seconds=0.5) as server, ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(200)]
        end = time.monotonic() + 10
        is_open = dict.fromkeys(sockets[100:], True)
        for connection in sockets[:100]:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: a\r\n")
        assert server.predict(image).status == 200
        while any(is_open.values()) and time.monotonic() < end:
            for connection in sockets[:100]:  # one byte now and then
                with suppress(OSError):
                    connection.sendall(b"x")
            for connection in is_open:
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    is_open[connection] = bool(connection.recv(1))
            time.sleep(0.05)
        assert not any(is_open.values())
        assert all(map(is_closed, sockets))
        assert server.predict(image).status == 200


def test_a_second_head_on_a_connection_has_the_same_time(predictor: Predictor) -> None:
    with running(predictor, head_seconds=0.3) as server, server.connect() as connection:
        for _ in range(2):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert receive_answer(connection).status == 200
            time.sleep(0.4)  # an idle connection stays open
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        assert is_closed(connection)


def test_connections_above_the_limit_are_closed(predictor: Predictor) -> None:
    with running(predictor, max_connections=3) as server, ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(3)]
        with server.connect() as connection:
            assert is_closed(connection)
        sockets[0].close()
        time.sleep(0.1)
        assert server.ask("GET", "/livez").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000,
        b"GET /" + b"x" * 40_000,
    ],
)
def test_what_is_not_http_gets_400(server: TestServer, head: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(head)
        answer = receive_answer(connection)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert is_closed(connection)


def test_a_lie_about_chunks_ends_the_connection(server: TestServer) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"
        )
        assert is_closed(connection)
    wait_until(lambda: server.service.waiting == 0 and server.service.held_bytes == 0)


def test_pipelined_requests_are_answered_in_order(server: TestServer, image: bytes) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    post = (
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % len(image) + image
    )
    close = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with server.connect() as connection, connection.makefile("rb") as answers:
        connection.sendall(post + head + post + close)
        text = answers.read().decode()
    assert text.count("HTTP/1.1 200 OK") == 4
    assert re.findall("graded|live|ready", text) == ["graded", "live", "graded", "ready"]


def test_a_stopping_server_answers_what_it_has_and_refuses_the_rest(  # V12
    predictor: Predictor, image: bytes
) -> None:
    slow, network = held(predictor)
    with running(slow, delay=0.4) as server, ThreadPoolExecutor(1) as client:
        network.go.clear()
        answer = client.submit(server.predict, image)
        wait_until(lambda: server.service.waiting == 1)
        server.stop()
        wait_until(lambda: server.service.state == "draining")
        assert server.ask("GET", "/readyz").status == 503
        assert server.ask("GET", "/livez").status == 200
        assert server.predict(image).code == "draining"
        time.sleep(0.7)
        with pytest.raises(ConnectionError):
            server.ask("GET", "/livez")
        network.go.set()
        assert answer.result().status == 200


def test_at_the_end_of_the_grace_requests_get_503(predictor: Predictor, image: bytes) -> None:
    slow, network = held(predictor)
    with running(slow, grace=0.3) as server, ThreadPoolExecutor(1) as client:
        network.go.clear()
        answer = client.submit(server.predict, image)
        with server.connect() as upload:
            upload.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
                b"Content-Length: 100\r\n\r\nx"
            )
            wait_until(lambda: server.service.waiting == 1 and server.service.held_bytes > 1)
            server.stop()
            assert (answer.result().status, answer.result().code) == (503, "draining")
            network.go.set()


def test_an_address_in_use_is_an_error_with_a_way_out() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ResourceError, match=r"cannot-listen.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(ResourceError, match="cannot-listen"):
        listen("no-such-host.invalid", 0)


def test_a_client_may_keep_its_connection(server: TestServer, image: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    ports = set()
    for _ in range(3):
        connection.request("POST", "/v1/predict", image, {"Content-Type": "image/png"})
        assert connection.getresponse().read()
        assert connection.sock is not None
        ports.add(connection.sock.getsockname())
    connection.close()
    assert len(ports) == 1


def test_answers_do_not_wait_for_acknowledgements(server: TestServer) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert receive_answer(connection).status == 200
        (accepted,) = [
            protocol.transport.get_extra_info("socket")
            for protocol in server.connections()
            if protocol.client == connection.getsockname()
        ]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
