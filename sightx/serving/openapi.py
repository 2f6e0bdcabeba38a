"""The description of the routes in OpenAPI: bodies, answers, errors, examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sightx.inference.prediction import PatientGrade, Prediction
from sightx.serving.errors import ERRORS, ErrorBody, RequestError
from sightx.serving.model_info import ModelInfo

DESCRIPTION = """\
Grades of photographs. Not a diagnosis, and not a medical device.

A prediction may be repeated: it changes nothing. After 408 and 503 repeat the request, after
`Retry-After` seconds where the header is there; after another error change it first. Each answer
has a header `X-Request-Id`, by which the server's log names the request.
"""

_REQUEST_ID = "0123456789abcdef"
SECURITY_SCHEMES = {"token": {"type": "http", "scheme": "bearer"}}
_TOKEN: dict[str, Any] = {"security": [{"token": []}, {}]}  # not every server has a token
_IMAGE = {"type": "string", "format": "binary"}
_MODEL = {
    "id": "20260131-142233-eyepacs-3f9a1c@step-00001234",
    "weights_sha256": "0" * 64,
    "experiment_sha256": "1" * 64,
    "engine": "torch",
}
_DECISION = {
    "positive": ["mild"],
    "score": 0.8,
    "operating_points": [
        {"name": "high-sensitivity", "threshold": 0.34, "is_positive": True},
        {"name": "high-specificity", "threshold": 0.85, "is_positive": False},
    ],
}
_GRADED = {
    "format": 1,
    "outcome": "graded",
    "grade": 1,
    "class": "mild",
    "probabilities": [
        {"class": "none", "probability": 0.2},
        {"class": "mild", "probability": 0.8},
    ],
    "decision": _DECISION,
    "model": _MODEL,
}
_QUALITY = {"verdict": "ungradable", "reasons": ["low-light"], "measures": {"light": 0.02}}
_UNGRADABLE = {"format": 1, "outcome": "ungradable", "quality": _QUALITY, "model": _MODEL}
_PATIENT = {
    "format": 1, "outcome": "graded", "grade": 1, "class": "mild", "from": "left",
    "decision": _DECISION, "left": _GRADED, "right": _UNGRADABLE,
}  # fmt: skip
_NO_PATIENT = {
    "format": 1, "outcome": "ungradable", "left": _UNGRADABLE, "right": _UNGRADABLE,
}  # fmt: skip
_ACCESS = ("unauthorized", "cross_site", "internal")
_UPLOAD = (
    *_ACCESS, "bad_multipart", "slow_body", "too_large", "unsupported_media_type",
    "not_jpeg_or_png", "truncated", "too_many_pixels", "unreadable", "missing_part", "two_images",
    "not_ready", "busy", "too_late", "draining",
)  # fmt: skip


def _body(names: Iterable[str], *, raw: bool = False) -> dict[str, Any]:
    """Return the description of a body: a form with these parts, or the image itself."""
    parts = dict.fromkeys(names, _IMAGE)
    form = {"type": "object", "properties": parts, "required": list(parts)}
    encoding = {name: {"contentType": "image/jpeg, image/png"} for name in parts}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form, "encoding": encoding}}
    if raw:
        content |= {"image/jpeg": {"schema": _IMAGE}, "image/png": {"schema": _IMAGE}}
    return {"requestBody": {"required": True, "content": content}, **_TOKEN}


def _errors(codes: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """Return the answers for errors, by status, with an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        error = RequestError(code, retry_after=2 * (ERRORS[code].status == 503))
        example = {"value": error.body(_REQUEST_ID).model_dump()}
        media = responses.setdefault(
            error.status,
            {
                "model": ErrorBody,
                "description": "Error",
                "content": {"application/json": {"examples": {}}},
            },
        )
        media["content"]["application/json"]["examples"][code] = example
        if error.headers:
            media["headers"] = {name: {"schema": {"type": "string"}} for name in error.headers}
    return responses


def _answer(model: Any, description: str, **examples: Any) -> dict[int | str, dict[str, Any]]:
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"examples": named}} if named else {}
    return {200: {"model": model, "description": description, "content": content}}


_STATUS = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}


def _status(name: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": _STATUS}}
    return {status: {"description": name, "content": content} for status in statuses}


ROUTES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("/v1/predict", "POST", "predict", {
        "operation_id": "predict",
        "responses": _answer(
            Prediction, "The prediction.", graded=_GRADED, ungradable=_UNGRADABLE
        ) | _errors((*_UPLOAD, "non_finite_output")),
        "openapi_extra": _body(["image"], raw=True),
    }),
    ("/v1/predict/pair", "POST", "predict_pair", {
        "operation_id": "predictPair",
        "responses": _answer(
            PatientGrade, "The worse grade of both eyes.", graded=_PATIENT, ungradable=_NO_PATIENT
        ) | _errors((*_UPLOAD, "not_ordered", "non_finite_output")),
        "openapi_extra": _body(["left", "right"]),
    }),
    ("/v1/explain", "POST", "explain", {
        "operation_id": "explain",
        "responses": {
            200: {"description": "A picture.", "content": {"image/png": {"schema": _IMAGE}}},
            **_errors((*_UPLOAD, "cannot_explain")),
        },
        "openapi_extra": _body(["image"], raw=True),
    }),
    ("/v1/model", "GET", "get_model", {
        "operation_id": "getModel",
        "responses": _answer(ModelInfo, "The model.") | _errors((*_ACCESS, "not_ready")),
        "openapi_extra": _TOKEN,
    }),
    ("/livez", "GET", "livez", {
        "operation_id": "getLive", "responses": _status("The process answers.", 200),
    }),
    ("/readyz", "GET", "readyz", {
        "operation_id": "getReady",
        "responses": _status("Ready.", 200) | _status("Not ready.", 503),
    }),
    ("/metrics", "GET", "metrics", {
        "operation_id": "getMetrics",
        "responses": {
            200: {"description": "Metrics.", "content": {"text/plain": {
                "schema": {"type": "string"}}}},
            **_errors(_ACCESS),
        },
        "openapi_extra": _TOKEN,
    }),
)  # fmt: skip
"""Path, method, name of the function, and description of each route."""
