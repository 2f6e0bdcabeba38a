"""The routes, and their description in OpenAPI."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Coroutine, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from sightx.inference.pairs import combine_eyes
from sightx.inference.prediction import Prediction
from sightx.serving import openapi
from sightx.serving.body import received_images
from sightx.serving.errors import RequestError
from sightx.serving.gate import Exchange, Gate, error_response
from sightx.serving.metrics import Metrics
from sightx.serving.model_info import model_info
from sightx.serving.service import Service

_Result = TypeVar("_Result")
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page/style.css": ("style.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
}
_METHODS = {path: method for path, method, *_ in openapi.ROUTES}
_NO_TELEMETRY: dict[str, Any] = {
    "telemetry": dict.fromkeys(
        ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
    )
}


class Routes:
    """The functions behind the addresses."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics

    async def predict(self, request: Request) -> Response:
        """Predict the class of one image."""
        (prediction,) = await self._predict(request, ["image"])
        return JSONResponse(prediction.to_json())

    async def predict_pair(self, request: Request) -> Response:
        """Predict the grade of a patient from photographs of both eyes."""
        if not self._service.predictor.recipe.ordered:
            raise RequestError("not_ordered")
        left, right = await self._predict(request, ["left", "right"])
        eyes = self._service.predictor.combine(left, right)
        return JSONResponse(combine_eyes(None, *eyes).to_json())

    async def explain(self, request: Request) -> Response:
        """Draw where the network looked, over the image as the network saw it."""
        async with received_images(request, ["image"], self._service) as images:
            work = self._service.explain(images["image"])
            picture = await self._limited(request, work)
        return Response(picture, media_type="image/png")

    async def get_model(self) -> Response:
        """Describe the model, and the limits of the server."""
        if self._service.state == "starting":
            raise RequestError("not_ready", retry_after=1)
        return JSONResponse(model_info(self._service).model_dump(mode="json"))

    async def livez(self) -> Response:
        """Tell that the process answers."""
        return JSONResponse({"status": "live"})

    async def readyz(self) -> Response:
        """Tell whether a request would be answered."""
        service = self._service
        status = "stalled" if service.batcher.is_stalled else service.state
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    async def metrics(self) -> Response:
        """Return counters and times for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _predict(self, request: Request, names: Sequence[str]) -> list[Prediction]:
        exchange: Exchange = request.scope["exchange"]
        async with received_images(request, names, self._service) as images:
            start = time.monotonic()
            computed = await self._limited(request, self._service.predict(images))
        decoding = max(one.decode_seconds for one in computed)
        exchange.stages = {"decode": decoding, "model": time.monotonic() - start - decoding}
        exchange.batch_size = computed[0].batch_size
        for one in computed:
            self._metrics.add_prediction(one.prediction, one.batch_size)
        return [one.prediction for one in computed]

    async def _limited(self, request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of work that ends when the time is over or the client is gone."""
        tasks = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
        try:
            async with self._service.time_limit(self._service.settings.timeout, "too_late"):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[0].done():
                    return tasks[0].result()
                raise RequestError("client_closed")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(service: Service) -> ASGIApp:
    """Return the ASGI application of a service."""
    metrics = Metrics(service)
    app = FastAPI(
        title="SightX", version=importlib.metadata.version("sightx"),
        description=openapi.DESCRIPTION, docs_url=None, redoc_url=None, redirect_slashes=False,
        **_NO_TELEMETRY,
    )  # fmt: skip
    routes = Routes(service, metrics)
    for path, method, endpoint, description in openapi.ROUTES:
        app.add_api_route(path, getattr(routes, endpoint), methods=[method], **description)
    for path, (name, media_type) in _PAGE.items():
        app.add_api_route(path, _file(name, media_type), include_in_schema=False)
    for error in (RequestError, StarletteHTTPException, Exception):
        app.add_exception_handler(error, _handle)
    app.openapi()["components"]["securitySchemes"] = openapi.SECURITY_SCHEMES
    return Gate(app, service, metrics)


def _file(name: str, media_type: str) -> Any:
    content = files("sightx.serving").joinpath("page", name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=media_type)

    return send


async def _handle(request: Request, error: Exception) -> Response:
    """Return the answer for an error of a route."""
    if isinstance(error, StarletteHTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        # Addresses that are not in the table are files, which can only be read.
        method = _METHODS.get(request.scope["path"], "GET") if error.status_code == 405 else ""
        error = RequestError(code, hint=method and f"send {method}")
    if not isinstance(error, RequestError):
        error = RequestError("internal")
    return error_response(error, request.scope["exchange"])
