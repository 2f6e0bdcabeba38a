"""`sightx serve`: predict images over HTTP."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.context import find_weights
from sightx.cli.options import UserPath, engine, runs_folder

if TYPE_CHECKING:
    from sightx.inference.predictor import Engine

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MIN_TOKEN = 16  # characters


@click.command("serve", short_help="Serve a model over HTTP, with a page.")
@click.argument("run")
@runs_folder
@click.option("--host", default="127.0.0.1", help="Address to listen at; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0 takes a free one.")
@click.option("--token-file", type=UserPath(), help="File with the token; or set SIGHTX_TOKEN.")
@click.option("--allow-host", multiple=True, help="Another name of this server; repeatable.")
@click.option("--device", default="auto", help="cpu, cuda, mps or auto.")
@engine
@click.option(
    "--batch",
    "max_batch",
    type=click.IntRange(1, 8),
    default=8,
    help="Most images computed at once; with 1, no answer depends on other images.",
)
@click.option("--queue", "max_queue", type=click.IntRange(2), help="Most images that wait.")
@click.option("--timeout", type=click.FloatRange(0.1), help="Seconds until a request gets 503.")
@click.option("--max-bytes", type=click.IntRange(1000), help="Largest body of a request.")
@click.option("--grace", type=click.FloatRange(0), help="Seconds to finish when it is stopped.")
@click.option("--delay", type=click.FloatRange(0), help="Seconds of refusals before that.")
def command(
    run: str,
    runs: Path | None,
    host: str,
    port: int,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    device: str,
    engine: Engine,
    **limits: Any,
) -> None:
    """Serve RUN over HTTP: POST an image to /v1/predict, or open the address in a browser.

    GET /openapi.json describes all addresses. SIGTERM and Ctrl-C end the server after the requests
    in work. Only this machine can reach it, unless --host is another address; then a token is
    needed.

    RUN is an id, a unique part of one, an experiment's name, `last` or a path. RUN@NAME names one
    of its checkpoints. It may be the folder of an exported model.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that decode need the cores
    _require_extra()
    from sightx import Predictor
    from sightx.serving.model_info import read_about
    from sightx.serving.server import listen, serve
    from sightx.serving.settings import Settings

    given = {name: value for name, value in limits.items() if value is not None}
    settings = Settings(**_access(host, allow_host, token_file), **given)
    folder, title = find_weights(run, runs)
    click.echo(title, err=True)
    predictor = Predictor.load(folder, device, engine=engine)
    about = read_about(folder, predictor.model)
    _log_to_stderr()
    with listen(host, port) as listener:
        serve(predictor, settings, listener, about, click.echo)


def _access(host: str, allowed: Sequence[str], token_file: Path | None) -> dict[str, Any]:
    """Return the token and the names that the server answers to. Raises SpecError."""
    token, is_local = _token(token_file), host.lower() in _LOOPBACK
    if not is_local and not token:
        _fail(f"anyone who reaches {host} could use this server")
    # Behind another address the token keeps out a page that claims our address for its name.
    names = {*_LOOPBACK, "[::1]", *allowed} if is_local or allowed else ()
    return {"token": token, "hosts": frozenset(name.lower() for name in names) or None}


def _token(file: Path | None) -> str:
    """Return the token of a file or of the environment; "" for none. Raises SpecError."""
    from sightx.errors import Problem, ResourceError

    given = os.environ.get("SIGHTX_TOKEN")
    if file:
        try:
            given = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            message = f"the token cannot be read: {error}"
            raise ResourceError(Problem("resource", message, file=str(file))) from error
    if given is None:
        return ""
    token = given.strip()
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable():
        _fail(f"a token has at least {_MIN_TOKEN} printable ASCII characters")
    return token


def _fail(message: str) -> None:
    from sightx.errors import Problem, SpecError

    hint = "--token-file FILE, or SIGHTX_TOKEN; see sightx validate --explain no-token"
    raise SpecError(Problem("no-token", message, hint))


def _require_extra() -> None:
    """Raise PluginError if a library of the extra is not installed."""
    from importlib.util import find_spec

    from sightx.errors import missing_extra

    for module in ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn"):
        if find_spec(module) is None:
            raise missing_extra(module, "serve")


def _log_to_stderr() -> None:
    """Log each request as a line with its time; only texts of the server are in it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("sightx.serving")
    log.addHandler(handler)
    log.propagate = False
