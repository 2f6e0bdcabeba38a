"""The outermost layer: who may ask, what the log says, and that every client hears its answer."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
import traceback
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightx.serving.errors import RequestError
from sightx.serving.metrics import Metrics
from sightx.serving.openapi import ROUTES
from sightx.serving.service import Service
from sightx.serving.settings import Settings

PROBES = ("/livez", "/readyz")
PUBLIC = (*PROBES, "/", "/openapi.json", "/page/style.css", "/page/page.js")
_UPLOADS = {path for path, method, *_ in ROUTES if method == "POST"}
_ADDRESSES = {*PUBLIC, *(path for path, *_ in ROUTES)}
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
log = logging.getLogger("sightx.serving")


class Exchange:
    """One request and its answer, as the layers of the server see them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = secrets.token_hex(8)
        self.stages: dict[str, float] = {}
        """Seconds per stage."""
        self.batch_size = 0
        self.code = ""
        """The code of the error; "" for none."""
        self.status = 0
        self.received = 0
        """Bytes of the body."""
        self.headers = Headers(scope=scope)
        self._receive, self._send = receive, send
        length = self.headers.get("content-length", "0")
        self._is_read = length == "0" and "transfer-encoding" not in self.headers
        self._is_asked = False

    async def receive(self) -> Message:
        """Return the next message of the client."""
        self._is_asked = True
        message = await self._receive()
        self.received += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message, settings: Settings) -> None:
        """Send a message to the client; before an answer, what is left of the body is read.

        A client that still writes when the server closes the connection would not see the answer.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS | {"x-request-id": self.id})
            if self.stages:
                headers["server-timing"] = self._server_timing()
            if not self._is_read:
                headers["connection"] = "close"
                # A client that waits for 100 Continue has not sent anything.
                if self._is_asked or self.headers.get("expect", "").lower() != "100-continue":
                    await self._drain(settings)
        await self._send(message)

    async def _drain(self, settings: Settings) -> None:
        """Read what is left of the body, if that is not too much."""
        if int(self.headers.get("content-length", "0")) > settings.drain_bytes:
            return
        end = self.received + settings.drain_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds):
                while not self._is_read and self.received < end:
                    await self.receive()

    def _server_timing(self) -> str:
        stages = [f"{name};dur={1000 * seconds:.1f}" for name, seconds in self.stages.items()]
        batch = f';desc="batch {self.batch_size}"' if self.batch_size else ""
        return ", ".join(stages) + batch


class Gate:
    """Check each request, log it and count it; every error becomes an answer."""

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics) -> None:
        self._app, self._service, self._metrics = app, service, metrics
        self._settings = service.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        scope["exchange"] = exchange = Exchange(scope, receive, send)

        async def answer(message: Message) -> None:
            await exchange.send(message, self._settings)

        try:
            self._check(scope["path"], exchange.headers)
            if scope["path"] in _UPLOADS and scope["method"] == "POST":
                self._service.check_open()  # before routing, so that refusals cost little
            await self._app(scope, exchange.receive, answer)
        except RequestError as error:
            await error_response(error, exchange)(scope, exchange.receive, answer)
        except Exception as error:  # the application has answered, if it could
            log.error("%s internal error: %s", exchange.id, _place(error))
            if not exchange.status:
                response = error_response(RequestError("internal"), exchange)
                await response(scope, exchange.receive, answer)
        finally:
            self._report(scope, exchange, time.monotonic() - start)

    def _check(self, path: str, headers: Headers) -> None:
        """Raise RequestError unless the client may ask: its host, its origin, its token."""
        host, hosts = headers.get("host", "").lower(), self._settings.hosts
        if hosts is not None and path not in PROBES and _name(host) not in hosts:
            raise RequestError("cross_site", "Host is not a name of this server")
        origin = headers.get("origin")
        is_navigation = headers.get("sec-fetch-mode") == "navigate"
        is_foreign = headers.get("sec-fetch-site") == "cross-site" and not is_navigation
        if is_foreign or (origin is not None and urlsplit(origin.lower()).netloc != host):
            raise RequestError("cross_site")
        if not self._settings.token or path in PUBLIC:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.strip().encode(), self._settings.token.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise RequestError("unauthorized")

    def _report(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        """Count and log a request; the log names its route, never its address or its content."""
        path = scope["path"]
        route = path if path in _ADDRESSES else "other"
        status = exchange.status or 499
        self._metrics.add_request(route, status, exchange.code, seconds, exchange.stages)
        if path not in (*PUBLIC, "/metrics"):
            log.info(
                "%s %s %s %d %s %.0f ms, %d bytes", exchange.id, scope["method"], route, status,
                exchange.code or "ok", 1000 * seconds, exchange.received,
            )  # fmt: skip


def error_response(error: RequestError, exchange: Exchange) -> JSONResponse:
    """Return the answer for an error, and remember its code."""
    exchange.code = error.code
    content = error.body(exchange.id).model_dump()
    return JSONResponse(content, error.status, error.headers)


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _place(error: BaseException) -> str:
    """Return the type of an exception and its place; its text could have parts of an image."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
