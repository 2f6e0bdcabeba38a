"""The server of the page: GET only, loopback only, nothing but files of runs and their metrics."""

from __future__ import annotations

import gzip
import hashlib
import json
import mimetypes
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sightx.board import answers
from sightx.board.answers import RunsQuery
from sightx.errors import Problem, ResourceError, SpecError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page."""
_FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'; sandbox allow-scripts"
)  # of a file of a run: it cannot reach this server
PAGE = {
    "index.html": "page", "board.css": "page", "board.js": "page", "charts.js": "page",
    "uPlot.iife.min.js": "vendor", "uPlot.min.css": "vendor",
}  # fmt: skip
"""Files of the page, with their folders."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_GZIP_FROM = 1000  # bytes
_TEXTS = (".toml", ".json", ".jsonl", ".log")


def page_file(name: str) -> bytes:
    """Return a file of the page."""
    return files("sightx.board").joinpath(PAGE[name], name).read_bytes()


class Server(ThreadingHTTPServer):
    """Serve the page over the runs of a folder, on the loopback interface.

    `port` 0 takes any free one. Raises ResourceError if the port is taken.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            hint = "--port 0 takes any free one"
            message = f"cannot listen on port {port}: {error.strerror}"
            raise ResourceError(Problem("port", message, hint)) from error

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sightx", ""
    timeout = 60

    def do_GET(self) -> None:
        """Answer a request; whatever goes wrong, the server goes on."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _LOCAL:  # another site's name may lead here
            self._send(HTTPStatus.FORBIDDEN, b"not this host")
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        try:
            self._route(unquote(url.path), query)
        except SpecError as error:
            problem = error.problems[0]
            value = {"error": problem.message, "hint": problem.hint, "column": problem.column}
            self._send_json(value, status=HTTPStatus.BAD_REQUEST)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - http.server calls it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing: the terminal shows the address."""

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        root, name = self.server.root, path.removeprefix("/") or "index.html"
        if name in PAGE:
            content = page_file(name)
            self._send_unless_known(name, hashlib.sha256(content).hexdigest(), lambda: content)
        elif name == "api/runs":
            wanted = RunsQuery(*(query.get(key, [""])[0] for key in RunsQuery._fields))
            token = _hash(answers.state_token(root), *wanted)
            self._send_unless_known(
                "runs.json", token, lambda: _dump(answers.list_runs(root, wanted))
            )
        elif name == "api/curves":
            ids, keys = query.get("run", []), query.get("key", [])
            token = _hash(answers.curves_token(root, ids), *keys)
            self._send_unless_known(
                "curves.json", token, lambda: _dump(answers.curves(root, ids, keys))
            )
        elif name == "api/run" and (run := answers.describe(root, query.get("id", [""])[0])):
            self._send_json(run)
        elif name.startswith("run/"):
            self._send_file(*name.removeprefix("run/").partition("/")[::2])
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found")

    def _send_file(self, id_: str, name: str) -> None:
        """Send a file of a run if the page may show it."""
        directory = self.server.root / id_
        is_known = id_ in answers.known_runs(self.server.root, [id_])
        if not is_known or name not in answers.run_files(directory):
            self._send(HTTPStatus.NOT_FOUND, b"not found")
            return
        content = (directory / name).read_bytes()
        self._send(HTTPStatus.OK, content, _content_type(name), policy=_FILE_POLICY)

    def _send_json(self, value: object, *, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, _dump(value), "application/json")

    def _send_unless_known(self, name: str, token: str, content: Callable[[], bytes]) -> None:
        """Send content, or only that it is what the browser has."""
        tag = f'"{token[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response_only(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            self.end_headers()
        else:
            self._send(HTTPStatus.OK, content(), _content_type(name), tag=tag)

    def _send(
        self,
        status: HTTPStatus,
        content: bytes,
        kind: str = "text/plain; charset=utf-8",
        *,
        tag: str = "",
        policy: str = POLICY,
    ) -> None:
        headers = {
            "Content-Type": kind,
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            **({"ETag": tag} if tag else {}),
        }
        if len(content) > _GZIP_FROM and "gzip" in self.headers.get("Accept-Encoding", ""):
            content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _content_type(name: str) -> str:
    if name.endswith(_TEXTS) and name not in {"runs.json", "curves.json"}:
        return "text/plain; charset=utf-8"
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
