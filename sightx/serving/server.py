"""Run a service with uvicorn: sockets, connections that say nothing, and a graceful stop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sightx.errors import Problem, ResourceError
from sightx.inference.predictor import Predictor
from sightx.serving.app import make_app
from sightx.serving.errors import RequestError
from sightx.serving.service import About, Service
from sightx.serving.settings import Settings

_KEEP_ALIVE = 75  # seconds: longer than the pools of clients and proxies keep a connection
_LAST_SECONDS = 10  # after the grace, before connections are cut
_log = logging.getLogger("sightx.serving")


class Protocol(HttpToolsProtocol):
    """Uvicorn's connection, with limits for the head of a request, of which uvicorn has none."""

    settings = Settings()
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            transport.abort()
            return
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head that is too long; a part that follows a body is not counted."""
        self._head_bytes += len(data) * self._is_in_head
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self.settings.max_head:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Start the time limit of a further request on the same connection."""
        super().on_message_begin()
        self._is_in_head = True
        self._start_timer()

    def on_headers_complete(self) -> None:
        """Stop the time limit."""
        self._is_in_head, self._head_bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer to what is not HTTP, in the form of all errors, and close the connection."""
        if not self.transport.is_closing():
            body = json.dumps(RequestError("bad_request").body("").model_dump()).encode()
            head = (
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    def _start_timer(self) -> None:
        if self._timer is None:
            seconds = self.settings.head_seconds
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 chooses a free one.

    Raises ResourceError if that is not possible.
    """
    try:
        # With the number of the protocol, because asyncio sets TCP_NODELAY only where it is there;
        # otherwise the body of an answer waits for 40 ms, until its head is acknowledged.
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        message = f"cannot listen at {host} port {port}: {error.strerror}"
        hint = "stop the other program, or choose another --port; 0 takes a free one"
        raise ResourceError(Problem("cannot-listen", message, hint)) from error


def url_of(listener: socket.socket) -> str:
    """Return the address of a server, as a browser wants it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ModelServer(uvicorn.Server):
    """Uvicorn's server of a service, which the caller stops."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        for name in ("uvicorn.access", "uvicorn.error", "python_multipart"):  # they quote requests
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            make_app(service), http=type("Protocol", (Protocol,), {"settings": settings}),
            ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(settings.grace) + _LAST_SECONDS,
        )  # fmt: skip
        super().__init__(config)
        self._service = service
        self._stopping: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        """Leave the signals to the caller."""
        yield

    async def serve_at(self, listener: socket.socket) -> None:
        """Serve until `stop` is called. Raises what the network raises in the warm-up."""
        serving = asyncio.create_task(self.serve([listener]))
        try:
            await self._service.start()
            gc.freeze()  # otherwise looking for garbage among torch's objects takes 0.1 s at times
        except Exception:
            self.should_exit = True
            raise
        finally:
            await serving
            self._service.stop()

    def stop(self) -> None:
        """Stop gracefully: refuse new requests, answer those in work, then close."""
        if self._stopping is None:
            self._service.state = "draining"
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        settings = self._service.settings
        await asyncio.sleep(settings.delay)
        self.should_exit = True
        await asyncio.sleep(settings.grace)
        self._service.abort()


def serve(
    predictor: Predictor,
    settings: Settings,
    listener: socket.socket,
    about: About,
    announce: Callable[[str], Any],
) -> None:
    """Serve until SIGTERM or SIGINT; the same signal again ends the process at once.

    `announce` is called with the server's address. Raises what the network raises in the warm-up.
    """

    async def run() -> None:
        service = Service(predictor, settings, about)
        server = ModelServer(service)
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            loop.remove_signal_handler(number)
            _log.info("%s: finishing the requests in work", number.name)
            server.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        announce(url_of(listener))
        await server.serve_at(listener)

    asyncio.run(run())
